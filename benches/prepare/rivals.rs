//! What others do with the benches' event: what a plan is measured against, in the same run.

use std::collections::HashMap;
use std::hint::black_box;

use apache_avro::Schema;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use iguazu::route::Mapping;
use iguazu::transcode::avro_schema;
use prost::Message;
use prost_reflect::{DynamicMessage, Kind, MapKey, MessageDescriptor, ReflectMessage, Value};

use crate::support::{self, BenchEvent};

/// The event as prost-build would generate it.
#[derive(Clone, PartialEq, Message)]
pub struct Generated {
    #[prost(string, tag = "1")]
    delivery_id: String,
    #[prost(string, tag = "2")]
    order_id: String,
    #[prost(string, tag = "3")]
    courier_id: String,
    #[prost(string, tag = "4")]
    store_name: String,
    #[prost(string, tag = "5")]
    app_version: String,
    #[prost(int64, tag = "6")]
    created_ms: i64,
    #[prost(int32, tag = "7")]
    attempt: i32,
    #[prost(uint32, tag = "8")]
    total_cents: u32,
    #[prost(double, tag = "9")]
    latitude: f64,
    #[prost(double, tag = "10")]
    longitude: f64,
    #[prost(float, tag = "11")]
    speed: f32,
    #[prost(bool, tag = "12")]
    is_priority: bool,
    #[prost(int32, tag = "13")]
    status: i32,
    #[prost(bytes = "vec", tag = "14")]
    signature: Vec<u8>,
    #[prost(string, repeated, tag = "15")]
    tags: Vec<String>,
    #[prost(int32, repeated, tag = "16")]
    item_counts: Vec<i32>,
    #[prost(message, optional, tag = "17")]
    dropoff: Option<GeneratedPlace>,
    #[prost(map = "string, string", tag = "18")]
    attributes: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct GeneratedPlace {
    #[prost(string, tag = "1")]
    city: String,
    #[prost(string, tag = "2")]
    street: String,
    #[prost(int32, tag = "3")]
    floor: i32,
}

/// The event as serde reads it: numbers in strings stay strings, base64 stays base64, which is less than a plan does.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "it is read for the time that it takes")]
struct Borrowed<'a> {
    delivery_id: &'a str,
    order_id: &'a str,
    courier_id: &'a str,
    store_name: &'a str,
    app_version: &'a str,
    created_ms: &'a str,
    attempt: i32,
    total_cents: u32,
    latitude: f64,
    longitude: f64,
    #[serde(default)]
    speed: f32,
    #[serde(default)]
    is_priority: bool,
    status: &'a str,
    signature: &'a str,
    #[serde(borrow)]
    tags: Vec<&'a str>,
    item_counts: Vec<i32>,
    dropoff: BorrowedPlace<'a>,
    attributes: HashMap<&'a str, &'a str>,
}

#[derive(serde::Deserialize)]
#[allow(dead_code, reason = "it is read for the time that it takes")]
struct BorrowedPlace<'a> {
    city: &'a str,
    street: &'a str,
    floor: i32,
}

/// prost's generated decoder, nothing else.
pub fn prost_decode(event: &BenchEvent) {
    black_box(Generated::decode(&event.protobuf[..]).expect("the events are valid"));
}

/// serde_json into a borrowed struct, nothing else.
pub fn serde_json_borrowed(event: &BenchEvent) {
    black_box(serde_json::from_slice::<Borrowed<'_>>(&event.json).expect("the events are valid"));
}

/// The obvious way from Protobuf to Avro: a dynamic message, a tree of Avro values, a datum.
pub struct Obvious {
    message: MessageDescriptor,
    schema: Schema,
}

impl Obvious {
    pub fn new() -> Self {
        let message = support::descriptor();
        let schema = avro_schema(&message, &Mapping::default()).expect("the benches' schema has a mapping");
        Obvious { message, schema: Schema::parse_str(&schema).expect("what is derived is a schema") }
    }

    /// The datum of one event.
    pub fn transcode(&self, event: &BenchEvent) -> Vec<u8> {
        let message = DynamicMessage::decode(self.message.clone(), &event.protobuf[..]).expect("the events are valid");
        let writer = GenericDatumWriter::builder(&self.schema).build().expect("the schema can be written with");
        writer.write_value_to_vec(record(&message)).expect("the value is one of the schema")
    }
}

fn record(message: &DynamicMessage) -> Avro {
    let descriptor = message.descriptor();
    let members = descriptor.fields().map(|field| {
        let value = value(&message.get_field(&field), &field.kind());
        let present = |value| Avro::Union(1, Box::new(value));
        let value = match (field.supports_presence(), message.has_field(&field)) {
            (false, _) => value,
            (true, true) => present(value),
            (true, false) => Avro::Union(0, Box::new(Avro::Null)),
        };
        (field.name().to_owned(), value)
    });
    Avro::Record(members.collect())
}

fn value(value_of: &Value, kind: &Kind) -> Avro {
    match value_of {
        Value::Bool(b) => Avro::Boolean(*b),
        Value::I32(n) => Avro::Int(*n),
        Value::I64(n) => Avro::Long(*n),
        Value::U32(n) => Avro::Long(i64::from(*n)),
        Value::U64(n) => Avro::Long(*n as i64),
        Value::F32(x) => Avro::Float(*x),
        Value::F64(x) => Avro::Double(*x),
        Value::String(text) => Avro::String(text.clone()),
        Value::Bytes(bytes) => Avro::Bytes(bytes.to_vec()),
        Value::EnumNumber(number) => {
            let en = kind.as_enum().expect("an enum's number is of an enum");
            let symbol = en.get_value(*number).expect("the events have known symbols");
            Avro::Enum(*number as u32, symbol.name().to_owned())
        }
        Value::Message(message) => record(message),
        Value::List(items) => Avro::Array(items.iter().map(|item| value(item, kind)).collect()),
        Value::Map(entries) => {
            let entry = kind.as_message().expect("a map's kind is its entry").map_entry_value_field().kind();
            let key = |key: &MapKey| key.as_str().expect("the events' keys are strings").to_owned();
            Avro::Map(entries.iter().map(|(k, v)| (key(k), value(v, &entry))).collect())
        }
    }
}
