//! Step 3: event name -> event type.
//!
//! In: the name that an event carries. Out: the [`EventType`], the one record that says everything about it:
//! cluster, topic, subject, encoding, key, lane, limits. Never: I/O, waiting, or looking at a payload.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

mod brake;
mod hot_keys;
mod mapping;

pub use brake::Brake;
pub use hot_keys::HotKeys;
pub use mapping::{
    JavaAvro, JavaTimestamp, JavaUnknownEnum, Mapping, NestedSep, Presence, TimestampPolicy, Uint64Policy,
    UnknownEnumPolicy,
};

/// How an event's payload is stored in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Avro datum, by the Avro schema that is derived from the Protobuf message, or that is the subject's own.
    Avro,
    /// The Protobuf message in canonical form.
    Protobuf,
    /// Validated. By a Protobuf schema: stored as proto3 JSON, without schema framing. By a JSON Schema: stored as it was
    /// sent, framed.
    Json,
    /// No schema; stored byte for byte as sent.
    RawJson,
}

impl Encoding {
    /// Every encoding, in the order of their numbers.
    pub const ALL: [Encoding; 4] = [Encoding::Avro, Encoding::Protobuf, Encoding::Json, Encoding::RawJson];

    /// The name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Encoding::Avro => "avro",
            Encoding::Protobuf => "protobuf",
            Encoding::Json => "json",
            Encoding::RawJson => "raw_json",
        }
    }

    /// The `content-type` of a record with this encoding.
    pub const fn content_type(self) -> &'static str {
        match self {
            Encoding::Avro => "application/avro",
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json | Encoding::RawJson => "application/json",
        }
    }
}

/// The language of an event type's schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SchemaType {
    /// Avro, the registry's default: its answers leave the type out.
    Avro,
    /// Protobuf, as text or as a base64 `FileDescriptorProto`.
    #[default]
    Protobuf,
    /// JSON Schema.
    Json,
}

impl SchemaType {
    /// The registry's name of it, as in `schemaType`.
    pub const fn as_str(self) -> &'static str {
        match self {
            SchemaType::Avro => "AVRO",
            SchemaType::Protobuf => "PROTOBUF",
            SchemaType::Json => "JSON",
        }
    }

    /// The type with this name in `schemaType`.
    pub fn parse(name: &str) -> Option<SchemaType> {
        [SchemaType::Avro, SchemaType::Protobuf, SchemaType::Json].into_iter().find(|kind| kind.as_str() == name)
    }

    /// The name in the configuration.
    pub const fn setting(self) -> &'static str {
        match self {
            SchemaType::Avro => "avro",
            SchemaType::Protobuf => "protobuf",
            SchemaType::Json => "json",
        }
    }
}

/// Where a record says which schema its value has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// `0x00`, the schema id as four bytes big endian, for Protobuf the message indexes, then the value (Confluent).
    #[default]
    Prefix,
    /// Record header `__value_schema_id` = `0x01` and the schema's GUID; the value stands bare.
    Header,
}

/// How the envelope is written into Kafka headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EnvelopeForm {
    /// CloudEvents 1.0 binary mode: one header an attribute.
    #[default]
    CloudEvents,
    /// The whole envelope as Protobuf in the one header `iguazu-envelope`.
    Single,
}

/// Where a record's key comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeySource {
    /// No key, unless the event's envelope has one.
    #[default]
    Envelope,
    /// A field of the payload, by its path of field names (`order.id`).
    Field(String),
    /// Never a key, even if the envelope has one.
    None,
}

/// What happens to an event that lacks the key its event type wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingKey {
    /// The record goes out with a null key.
    #[default]
    Null,
    /// The event is refused with `missing_key`.
    Reject,
}

/// Whose acknowledgement a record needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// The partition's leader has it (`acks=1`).
    #[default]
    Leader,
    /// Every in-sync replica has it (`acks=all`, idempotent).
    All,
}

/// What a reply waits for. Ordered: a request may ask for a later one, never for an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reply {
    /// In the producer's buffer, or about to be written to the wal (202).
    #[default]
    Enqueued,
    /// It survives the proxy's end and a power cut: on the disk of the wal, or acknowledged by all in-sync replicas (200). Only
    /// in the lane `wal`, where it comes before the acknowledgement.
    Durable,
    /// Kafka has acknowledged it (200, with partition and offset).
    Acknowledged,
}

impl Reply {
    /// Every reply, the weakest first.
    pub const ALL: [Reply; 3] = [Reply::Enqueued, Reply::Durable, Reply::Acknowledged];

    /// The name in the configuration and in `?reply=`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reply::Enqueued => "enqueued",
            Reply::Durable => "durable",
            Reply::Acknowledged => "acknowledged",
        }
    }
}

/// What happens to fields that the schema does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UnknownFields {
    /// The event is refused, with the field's path.
    #[default]
    Reject,
    /// They are left out, counted, and named in a `warning`.
    Drop,
    /// Top-level JSON members move to the envelope's `properties`; others are left out as with `Drop`.
    Properties,
}

/// Which producer client a record goes through. Fixed per event type: choosing per request would reorder keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// acks=1, the cluster's linger.
    Standard,
    /// Low-rate topics: a longer linger, so that batches fill.
    Slow,
    /// acks=all, idempotent.
    All,
    /// First to the wal on disk, and from there in order; acks=all, idempotent, tried until Kafka takes it or refuses it.
    Wal,
    /// Dead letters: acks=all, with a small buffer of their own, so that they take nothing from events.
    DeadLetter,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Lane; 5] = [Lane::Standard, Lane::Slow, Lane::All, Lane::Wal, Lane::DeadLetter];

    /// The name in metrics, logs and thread names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Lane::Standard => "standard",
            Lane::Slow => "slow",
            Lane::All => "all",
            Lane::Wal => "wal",
            Lane::DeadLetter => "dead_letter",
        }
    }
}

/// Limits of one event type or one sender.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Most bytes of one event's payload as sent; none: the body limit.
    pub event_bytes_max: Option<usize>,
    /// Most payload bytes a second, averaged over a second.
    pub bytes_per_second: Option<u64>,
    /// Most events a second, averaged over a second.
    pub events_per_second: Option<u64>,
}

/// Which version of its subject an event type is compiled from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// The newest; a newer one is taken up while running.
    #[default]
    Latest,
    /// This one.
    Number(u32),
}

/// Everything that is said about one event: the unit of routing, ownership and limits.
#[derive(Clone, Debug, PartialEq)]
pub struct EventType {
    /// Event name, as senders write it and as `ce_type` says.
    pub name: String,
    /// The owning service or team; a label for people.
    pub owner: Option<String>,
    /// Name of the cluster it goes to.
    pub cluster: String,
    /// Clusters that take its events while that one takes none, the first one that does. The topic has the same name there.
    pub failover: Vec<String>,
    /// Topic on that cluster.
    pub topic: String,
    /// Registry subject of its schema; none for [`Encoding::RawJson`].
    pub subject: Option<String>,
    /// The language of that schema.
    pub schema_type: SchemaType,
    /// Full name of the message; by default the one named like the subject, else the file's only top-level message.
    pub message: Option<String>,
    /// Version of the subject.
    pub version: Version,
    /// Mapping to Avro.
    pub mapping: Mapping,
    /// Registry subject of the derived Avro schema; by default `<message full name>-avro`.
    pub avro_subject: Option<String>,
    /// How the payload is stored.
    pub encoding: Encoding,
    /// Where the record names its schema.
    pub framing: Framing,
    /// How the envelope is written.
    pub envelope: EnvelopeForm,
    /// Where the key comes from.
    pub key: KeySource,
    /// What happens without one.
    pub missing_key: MissingKey,
    /// Whose acknowledgement a record needs.
    pub acks: Acks,
    /// What replies wait for.
    pub reply: Reply,
    /// Whether its records reach each partition in the order in which they were taken.
    pub ordered: bool,
    /// Whether it is a low-rate topic, for the lane `slow`.
    pub low_rate: bool,
    /// How much of it operators let through for now.
    pub brake: Brake,
    /// What happens to unknown fields.
    pub unknown_fields: UnknownFields,
    /// Most bytes of the producer's buffer that its records may take.
    pub buffer_bytes_max: usize,
    /// Events of one key in a second, over which the rest goes without the key.
    pub hot_key_events_per_second: Option<u32>,
    /// Limits over all senders.
    pub limits: Limits,
    /// Topic on the same cluster for what is rejected for its content, and for what fails for good.
    pub dead_letter: Option<String>,
    /// Field paths that `tail` and other tools mask.
    pub sensitive: Vec<String>,
}

impl EventType {
    /// The lane that follows from the settings.
    pub fn lane(&self) -> Lane {
        if self.ordered || self.reply == Reply::Durable {
            return Lane::Wal;
        }
        match (self.acks, self.low_rate) {
            (Acks::All, _) => Lane::All,
            (Acks::Leader, true) => Lane::Slow,
            (Acks::Leader, false) => Lane::Standard,
        }
    }

    /// These settings, but for those that `other` may have at once, because no client, topic or schema follows from them.
    pub fn with_light_settings_of(&self, other: &EventType) -> EventType {
        EventType {
            owner: other.owner.clone(),
            envelope: other.envelope,
            missing_key: other.missing_key,
            buffer_bytes_max: other.buffer_bytes_max,
            limits: other.limits,
            brake: other.brake,
            dead_letter: other.dead_letter.clone(),
            sensitive: other.sensitive.clone(),
            ..self.clone()
        }
    }
}

/// The table of event names. A pure value: built once, then only read. Keyed hashing (SipHash), because
/// senders choose the names they ask for.
#[derive(Debug, Default)]
pub struct Routes {
    index: HashMap<String, usize>,
}

impl Routes {
    /// The table of these names; each one's position is its index.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Routes { index: names.into_iter().enumerate().map(|(i, name)| (name.to_owned(), i)).collect() }
    }

    /// Index of the event type with this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// The known name nearest to an unknown one among those that `may` be told, if it is near enough to be a slip of the pen.
    pub fn nearest(&self, name: &str, may: impl Fn(&str) -> bool) -> Option<&str> {
        crate::config::nearest(name, self.index.keys().map(String::as_str).filter(|name| may(name)))
    }
}
