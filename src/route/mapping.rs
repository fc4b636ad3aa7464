//! How a Protobuf message becomes an Avro record.
//!
//! In: nothing. Out: the choice of a mapping and of its policies, as an event type states it. Never: what a mapping
//! does; that is in `transcode`.

/// One of the two mappings, with its policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mapping {
    /// Ours: what can be absent is a union with null, and nothing changes its value unseen.
    Presence(Presence),
    /// What Java's avro-protobuf 1.12 writes, byte for byte.
    JavaAvro(JavaAvro),
}

impl Default for Mapping {
    fn default() -> Self {
        Mapping::Presence(Presence::default())
    }
}

impl Mapping {
    /// What of it decides the derived schema: policies that only decide about values are as by default.
    pub fn of_schema(self) -> Mapping {
        match self {
            Mapping::Presence(Presence { uint64, unknown_enum, .. }) => Mapping::Presence(Presence {
                uint64: Some(uint64).filter(|policy| *policy == Uint64Policy::Decimal).unwrap_or_default(),
                unknown_enum: Some(unknown_enum).filter(|p| *p == UnknownEnumPolicy::String).unwrap_or_default(),
                ..Presence::default()
            }),
            Mapping::JavaAvro(java) => Mapping::JavaAvro(JavaAvro { unknown_enum: JavaUnknownEnum::default(), ..java }),
        }
    }

    /// The name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mapping::Presence(_) => "presence",
            Mapping::JavaAvro(_) => "java-avro",
        }
    }
}

/// Policies of the mapping `presence`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Presence {
    /// What becomes of a `uint64` over 2^63-1.
    pub uint64: Uint64Policy,
    /// What becomes of an enum number that the schema does not name.
    pub unknown_enum: UnknownEnumPolicy,
    /// What becomes of a `Timestamp` outside 0001-01-01..9999-12-31.
    pub invalid_timestamp: TimestampPolicy,
}

/// Policy of the mapping `presence` for `uint64` and `fixed64` values over 2^63-1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Uint64Policy {
    /// Refuse the event.
    #[default]
    Reject,
    /// Write the two's complement, a negative number.
    Wrap,
    /// Write every `uint64` as `decimal(20,0)`, which holds them all.
    Decimal,
}

/// Policy of the mapping `presence` for unknown numbers of open enums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UnknownEnumPolicy {
    /// Write the enum's first symbol, counted.
    #[default]
    DefaultSymbol,
    /// Refuse the event.
    Reject,
    /// Write every enum as a string: the symbol, or an unknown number's digits.
    String,
}

/// Policy of the mapping `presence` for timestamps out of range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampPolicy {
    /// Refuse the event.
    #[default]
    Reject,
    /// Write the nearest timestamp in range.
    Clamp,
}

/// Parameters of the mapping `java-avro`. With `nested_sep` set to [`NestedSep::Dollar`] the default is what
/// avro-protobuf 1.12.0 does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JavaAvro {
    /// Whether enums have their first symbol as `default`, as avro-protobuf does from AVRO-4133 on.
    pub enum_default: bool,
    /// What stands between the names of outer classes in namespaces.
    pub nested_sep: NestedSep,
    /// What a `google.protobuf.Timestamp` becomes.
    pub timestamp: JavaTimestamp,
    /// Whether strings have the property `avro.java.string`.
    pub avro_java_string: bool,
    /// What becomes of an unknown number of an open enum.
    pub unknown_enum: JavaUnknownEnum,
}

impl Default for JavaAvro {
    fn default() -> Self {
        JavaAvro {
            enum_default: false,
            nested_sep: NestedSep::default(),
            timestamp: JavaTimestamp::default(),
            avro_java_string: true,
            unknown_enum: JavaUnknownEnum::default(),
        }
    }
}

/// Separator of nested classes in the namespaces of `java-avro`. It changes names only, never a datum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NestedSep {
    /// Legal in every parser.
    #[default]
    Dot,
    /// Legal in every parser.
    Underscore,
    /// What Java writes, and what Java's own parser, apache-avro and most registries refuse.
    Dollar,
}

impl NestedSep {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            NestedSep::Dot => ".",
            NestedSep::Underscore => "_",
            NestedSep::Dollar => "$",
        }
    }
}

/// What `java-avro` makes of a `google.protobuf.Timestamp`: which conversion the Java application had registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum JavaTimestamp {
    /// None: a record of `seconds` and `nanos`.
    #[default]
    Record,
    /// `TimestampMillisConversion`.
    Millis,
    /// `TimestampMicrosConversion`.
    Micros,
}

/// Policy of the mapping `java-avro` for unknown numbers of open enums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum JavaUnknownEnum {
    /// Refuse the event, as Java does.
    #[default]
    Throw,
    /// Write the enum's first symbol, counted.
    Default,
}
