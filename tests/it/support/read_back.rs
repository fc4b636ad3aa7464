//! Reads topics back with a consumer that shares no code with us: Confluent's client for Python, its deserialisers, the
//! CloudEvents SDK.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::Stdio;

use rdkafka::ClientConfig;
use serde::Deserialize;
use serde_json::Value;

use super::kafka::{Cluster, python, script};
use super::process::{Process, command};
use super::registry::Registry;

/// A record as the consumer saw it.
#[derive(Clone, Debug, Deserialize)]
pub struct ReadBack {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Timestamp, if it is the producer's (`CreateTime`); milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Key; none is a null key.
    #[serde(rename = "key_hex", deserialize_with = "from_hex")]
    pub key: Option<Vec<u8>>,
    /// Headers in their order; a value that is not UTF-8 is `hex:…`.
    pub headers: Vec<(String, Option<String>)>,
    /// Attributes as the CloudEvents SDK reads the headers, `content-type` left out.
    pub cloud_event: Option<BTreeMap<String, Value>>,
    /// The header `iguazu-envelope` as its .proto file reads it, in proto3 JSON with the fields' own names.
    pub envelope: Option<Value>,
    /// The schema that the framing names.
    pub schema: Option<Schema>,
    /// The value's bytes, framing included; none is a tombstone.
    #[serde(rename = "value_hex", deserialize_with = "from_hex")]
    pub bytes: Option<Vec<u8>>,
    /// The decoded value. Avro: as fastavro decodes it, times as ISO 8601, bytes as base64. Protobuf: as proto3 JSON with the
    /// fields' own names. Without a framing: JSON, if it is JSON.
    pub value: Value,
}

/// The schema that a record's framing names.
#[derive(Clone, Debug, Deserialize)]
pub struct Schema {
    /// Id, if the value has Confluent's prefix.
    pub id: Option<u32>,
    /// GUID, if a header names the schema.
    pub guid: Option<String>,
    /// `AVRO`, `PROTOBUF` or `JSON`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Full name of the message that Protobuf's message indexes name.
    pub message: Option<String>,
}

impl ReadBack {
    /// The value of the first header with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).and_then(|(_, value)| value.as_deref())
    }
}

/// Where to read, and how to decode.
pub struct Reader {
    client: ClientConfig,
    registry: Option<String>,
}

impl Reader {
    /// Reads from the listener without login, decodes values by this registry.
    pub fn new(cluster: &Cluster, registry: &Registry) -> Reader {
        Reader::with(cluster.client(), Some(registry.url()))
    }

    /// Reads with these client settings; values are decoded when a registry's URL is given.
    pub fn with(client: ClientConfig, registry: Option<String>) -> Reader {
        Reader { client, registry }
    }

    /// All records of a topic, by partition and offset: waits for `count` of them, then reads on to every partition's end.
    /// Panics if fewer came.
    pub fn read(&self, topic: &str, count: usize) -> Vec<ReadBack> {
        let records = self.read_within(topic, count, super::PATIENCE.as_secs());
        assert!(records.len() >= count, "topic {topic} has {} records, expected {count}", records.len());
        records
    }

    /// The same, but waits no longer than this and returns what there is.
    pub fn read_within(&self, topic: &str, count: usize, seconds: u64) -> Vec<ReadBack> {
        let mut command = command(python());
        command.arg(script("read_back.py")).args(["--topic", topic]);
        command.args(["--count", &count.to_string(), "--seconds", &seconds.to_string()]);
        for key in self.client.config_map().into_keys() {
            // The map says of passwords that they are none to be shown.
            let value = self.client.get(key).expect("it is a key of the map");
            match key {
                "bootstrap.servers" => command.args(["--brokers", value]),
                _ => command.args(["--set", &format!("{key}={value}")]),
            };
        }
        if let Some(url) = &self.registry {
            command.args(["--registry", url]);
        }
        command.stdout(Stdio::piped());
        let mut process = Process::spawn("read_back.py", command);
        let mut output = String::new();
        let mut pipe = process.child().stdout.take().expect("stdout is a pipe");
        pipe.read_to_string(&mut output).expect("read_back.py writes UTF-8");
        let status = process.wait();
        assert!(status.success(), "read_back.py: {status}");
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"));
        output.lines().map(parse).collect()
    }
}

fn from_hex<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or("?"));
    let bytes: Result<Vec<u8>, _> = pairs.map(|pair| u8::from_str_radix(pair, 16)).collect();
    bytes.map(Some).map_err(serde::de::Error::custom)
}
