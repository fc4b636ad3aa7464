//! Payloads of a subject whose schema is Avro: JSON or an Avro datum -> the canonical datum and the key.
//!
//! In: an Avro schema, compiled once to an [`AvroPlan`]; then payloads. Out: datums in the one form that Java's encoder
//! writes: shortest numbers, arrays and maps in one block without byte sizes. Never: I/O, a tree of values, recursion deeper
//! than 100 levels, or a payload's value in an error.
//!
//! **JSON** is plain, not Avro's own JSON encoding:
//!
//! | Avro | JSON |
//! |---|---|
//! | `null`, `boolean`, `string` | the same |
//! | `int`, `long` | an integer (`1.0` and `1e3` are), or one in a string, for JavaScript's sake |
//! | `float`, `double` | a number, or one in a string, or `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | `bytes`, `fixed`, `duration` | base64, the standard or the URL alphabet, padded or not |
//! | `enum` | the symbol |
//! | `array`, `map`, `record` | an array, an object, an object |
//! | union of `null` and one other type | `null`, or the bare value |
//! | union of more types | `null`, or tagged as in Avro's JSON encoding: `{"long": 5}`, `{"com.acme.Card": {…}}`. A string, number, boolean or array may stand bare where just one type of the union takes it |
//! | `date` | `"2026-01-31"`, or the days since 1970 |
//! | `time-millis`, `time-micros` | `"08:30:00.125"`, or the count since midnight |
//! | `timestamp-millis`, `-micros`, `-nanos` | RFC 3339 with an offset, rounded down, or the count since 1970 |
//! | `local-timestamp-millis`, `-micros`, `-nanos` | the same without an offset |
//! | `decimal` | `"12.50"` or `12.50`: exactly; more digits than its scale or precision has are refused |
//! | `uuid` | `"6fa459ea-ee8a-3ca4-894e-db77e160355e"` |
//!
//! A member that is left out takes the field's default, else `null` where the type has it, else the event is refused.
//!
//! | file | subject |
//! |---|---|
//! | `compile` | schema -> plan |
//! | `json` | JSON -> datum |
//! | `datum` | datum -> canonical datum; the key in it |
//! | `text` | dates, times, decimals, UUIDs and base64 as text |

use std::collections::HashMap;
use std::fmt::Write as _;

use super::fail::{Done, Fail};
use super::slots::Scratch;
use super::{Output, PAYLOAD_BYTES_MAX, PlanError};
use crate::envelope::Payload;
use crate::outcome::{Code, EventError};
use crate::route::UnknownFields;

mod compile;
mod datum;
mod json;
mod text;

#[cfg(test)]
mod tests;

pub(super) use text::base64;

/// A compiled Avro schema.
#[derive(Debug)]
pub struct AvroPlan {
    nodes: Vec<Node>,
    records: Vec<Record>,
    enums: Vec<Enum>,
    unions: Vec<Vec<Branch>>,
    root: NodeId,
    /// Position of the field in each record on the way to the key; empty when the payload has no key.
    key: Vec<u16>,
    unknown_fields: UnknownFields,
}

/// Position in [`AvroPlan::nodes`].
type NodeId = u32;

/// How a value is written in Avro and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Null,
    Boolean,
    Int(Whole),
    Long(Whole),
    Float,
    Double,
    Bytes(Opaque),
    String,
    /// A string that is a UUID.
    UuidText,
    Fixed(u32, Opaque),
    Enum(u32),
    Array(NodeId),
    Map(NodeId),
    Record(u32),
    Union(u32),
}

/// What an integer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whole {
    Number,
    /// Days since 1970-01-01.
    Date,
    /// Units since midnight; so many are a second.
    Time(i64),
    /// Units since 1970; so many are a second. In JSON with an offset.
    Timestamp(i64),
    /// The same without a time zone.
    LocalTimestamp(i64),
}

/// What bytes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opaque {
    Bytes,
    Decimal { precision: u32, scale: u32 },
    Uuid,
}

#[derive(Debug)]
struct Record {
    name: String,
    fields: Vec<Field>,
    /// Positions of the fields, sorted by name.
    by_name: Vec<u16>,
}

#[derive(Debug)]
struct Field {
    name: String,
    node: NodeId,
    /// The datum of what a member that is left out becomes; none when it must be there.
    default: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Enum {
    name: String,
    symbols: Vec<String>,
    ordinals: HashMap<String, u32>,
}

#[derive(Debug)]
struct Branch {
    /// The type's name, by which JSON tags it.
    name: String,
    node: NodeId,
}

/// One step of the way to a value.
#[derive(Clone, Copy, Debug)]
enum Seg {
    Field { record: u32, field: u16 },
    Item(u32),
}

/// What one thread works with; empty between events, its capacity stays.
#[derive(Debug, Default)]
pub(super) struct AvroScratch {
    /// The datum as far as it is written.
    out: Vec<u8>,
    /// Where a record is put into the order of its fields.
    spare: Vec<u8>,
    /// Where the fields of the records under way stand in `out`.
    spans: Vec<(u32, u32)>,
    /// Where the keys of the maps under way stand in `out`.
    keys: Vec<(u32, u32)>,
    /// Where the names of unknown members stand in the payload or in `side`.
    unknown: Vec<Vec<u8>>,
    /// Strings that had escapes, decoded.
    side: Vec<u8>,
    path: Vec<Seg>,
}

/// Capacity that is kept between events; what one huge event needed beyond it is given back.
const KEPT_BYTES_MAX: usize = 1 << 20;

impl AvroScratch {
    fn clear(&mut self) {
        for bytes in [&mut self.out, &mut self.spare, &mut self.side] {
            bytes.clear();
            bytes.shrink_to(KEPT_BYTES_MAX);
        }
        for spans in [&mut self.spans, &mut self.keys] {
            spans.clear();
            spans.shrink_to(KEPT_BYTES_MAX / 8);
        }
        self.unknown.clear();
        self.path.clear();
    }
}

/// Output may be this much in any case, and so many times the payload beside; values of no bytes count as one. The same
/// as for Protobuf.
const EXPANSION_FREE_BYTES: usize = 1 << 16;
const EXPANSION_MAX: usize = 32;

impl AvroPlan {
    /// Compiles a schema. `references` are the texts of schemas whose names it uses, each before those that need it; `key`
    /// is the path of the field that is the record's key (`order.id`). Cost: some tens of microseconds; call it on a
    /// blocking thread.
    pub fn compile(
        text: &str,
        references: &[String],
        key: Option<&str>,
        unknown_fields: UnknownFields,
    ) -> Result<AvroPlan, PlanError> {
        compile::compile(text, references, key, unknown_fields)
    }

    /// Whether a text is an Avro schema with defaults of their types, as a registry asks; `references` as for
    /// [`AvroPlan::compile`].
    ///
    /// # Errors
    /// What of it is none, or larger than any schema needs to be.
    pub fn check(text: &str, references: &[impl AsRef<str>]) -> Result<(), PlanError> {
        compile::check(text, references)
    }

    /// Appends the datum to `output.value` and sets its other fields. After an error `output` holds nothing of the event's
    /// value.
    pub(super) fn transcode(
        &self,
        payload: Payload<'_>,
        scratch: &mut Scratch,
        output: &mut Output,
    ) -> Result<(), EventError> {
        let scratch = &mut scratch.avro;
        scratch.clear();
        let done = self.run(payload, scratch, output);
        done.map_err(|fail| EventError::new(fail.code, format!("{}: {}", self.path_text(&scratch.path), fail.what)))
    }

    fn run(&self, payload: Payload<'_>, scratch: &mut AvroScratch, output: &mut Output) -> Done {
        let bytes = payload.bytes();
        if bytes.len() > PAYLOAD_BYTES_MAX {
            let what = format!("the payload of {} bytes is over {PAYLOAD_BYTES_MAX} bytes", bytes.len());
            return Err(Fail::new(Code::EventTooLarge, what));
        }
        match payload {
            Payload::Json(json) => json::write_root(self, json, scratch, output)?,
            Payload::Avro(datum) | Payload::Binary(datum) => datum::write_root(self, datum, scratch)?,
            Payload::Protobuf(_) | Payload::Base64(_) => {
                let what = format!("the schema is Avro, so the payload is JSON or Avro, not {}", payload.name());
                return Err(Fail::new(Code::WrongFormat, what));
            }
        }
        output.has_key = !self.key.is_empty() && datum::write_key(self, &scratch.out, &mut output.key);
        output.value.extend_from_slice(&scratch.out);
        Ok(())
    }

    fn node(&self, id: NodeId) -> Node {
        self.nodes[id as usize]
    }

    fn record(&self, index: u32) -> &Record {
        &self.records[index as usize]
    }

    /// `$.items[3].price`; elements of maps by their position, because their keys are the sender's.
    fn path_text(&self, path: &[Seg]) -> String {
        let mut text = String::from("$");
        for seg in path {
            let done = match *seg {
                Seg::Field { record, field } => {
                    write!(text, ".{}", self.record(record).fields[usize::from(field)].name)
                }
                Seg::Item(index) => write!(text, "[{index}]"),
            };
            done.expect("a string takes everything");
        }
        text
    }

    /// What a type is called: as in a schema, with its logical type.
    fn type_name(&self, id: NodeId) -> &str {
        match self.node(id) {
            Node::Null => "null",
            Node::Boolean => "boolean",
            Node::Int(Whole::Date) => "date",
            Node::Int(Whole::Time(_)) | Node::Long(Whole::Time(_)) => "time",
            Node::Long(Whole::Timestamp(_)) => "timestamp",
            Node::Long(Whole::LocalTimestamp(_)) => "local timestamp",
            Node::Int(_) => "int",
            Node::Long(_) => "long",
            Node::Float => "float",
            Node::Double => "double",
            Node::Bytes(Opaque::Decimal { .. }) | Node::Fixed(_, Opaque::Decimal { .. }) => "decimal",
            Node::UuidText | Node::Bytes(Opaque::Uuid) | Node::Fixed(_, Opaque::Uuid) => "uuid",
            Node::Bytes(_) => "bytes",
            Node::Fixed(..) => "fixed",
            Node::String => "string",
            Node::Enum(index) => &self.enums[index as usize].name,
            Node::Array(_) => "array",
            Node::Map(_) => "map",
            Node::Record(index) => &self.record(index).name,
            Node::Union(_) => "union",
        }
    }
}

/// Appends a base-128 varint, zig-zag encoded: Avro's `int` and `long`.
fn push_long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends bytes behind their length.
fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// Puts the number of a list's items in front of them, and the end behind; `start` is where the items begin.
fn close_block(out: &mut Vec<u8>, start: usize, items: u32) {
    if items > 0 {
        let length = out.len();
        push_long(out, i64::from(items));
        // The count is behind the items now; in front is where it belongs.
        let count_bytes = out.len() - length;
        out[start..].rotate_right(count_bytes);
    }
    out.push(0);
}

/// Refuses a map whose keys, those from `first` on, are not all different: of two of a name readers keep different ones.
fn check_map_keys(keys: &mut Vec<(u32, u32)>, first: usize, out: &[u8]) -> Done {
    let bytes = |span: &(u32, u32)| &out[span.0 as usize..span.1 as usize];
    let own = &mut keys[first..];
    own.sort_unstable_by(|a, b| bytes(a).cmp(bytes(b)));
    let twice = own.windows(2).any(|pair| bytes(&pair[0]) == bytes(&pair[1]));
    keys.truncate(first);
    match twice {
        false => Ok(()),
        true => Err(Fail::new(Code::InvalidPayload, "the map has the same key twice")),
    }
}

#[cold]
fn too_deep() -> Box<Fail> {
    let what = format!("values nest deeper than {} levels", super::slots::DEPTH_MAX);
    Fail::new(Code::TooDeep, what)
}

#[cold]
fn expands(payload_bytes: usize, output_bytes_max: usize) -> Box<Fail> {
    let what = format!(
        "the payload of {payload_bytes} bytes would become more than {output_bytes_max} bytes (limit {EXPANSION_MAX} times)"
    );
    Fail::new(Code::PayloadExpands, what)
}
