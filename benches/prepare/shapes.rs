//! Payloads of other sizes and shapes than the benches' event, each as JSON and, through a plan, as Protobuf.

use std::fmt::Write;

use iguazu::envelope::Payload;
use iguazu::route::{Encoding, Mapping, UnknownFields};
use iguazu::transcode::{Output, Plan, PlanSettings, Scratch};
use prost_reflect::MessageDescriptor;

use crate::support::{self, BenchEvent};

/// Payloads of one message.
pub struct Shape {
    pub name: &'static str,
    pub message: MessageDescriptor,
    pub events: Vec<BenchEvent>,
}

const PROTO: &str = r#"
    syntax = "proto3";
    package shapes;
    message Small { string id = 1; int64 at_ms = 2; double amount = 3; }
    message Large {
      message Option { string name = 1; string value = 2; }
      message Item { string sku = 1; string name = 2; uint32 count = 3; sint64 cents = 4; repeated string tags = 5; repeated Option options = 6; }
      string order_id = 1; int64 at_ms = 2; repeated Item items = 3;
    }
    message Numbers { repeated int64 packed = 1; repeated int64 unpacked = 2 [packed = false]; }
    message Deep { Deep next = 1; int32 level = 2; }
    message Texts { repeated string texts = 1; bytes blob = 2; }
    message Table { map<string, int64> counts = 1; }
    message Wide { repeated Row rows = 1; }
"#;

/// Columns of `Row`, of which few are ever set.
const COLUMNS: usize = 200;

/// All shapes but the benches' event itself.
pub fn all() -> Vec<Shape> {
    let columns: String = (1..=COLUMNS).map(|n| format!("int32 column_{n} = {n};")).collect();
    let pool = support::compile(&format!("{PROTO} message Row {{ {columns} }}"));
    let shape = |name, message: &str, json: Vec<String>| {
        let message = pool.get_message_by_name(message).expect("the shapes have the message");
        Shape { name, events: events(&message, json), message }
    };
    vec![
        shape("small", "shapes.Small", (0..256).map(small).collect()),
        shape("large", "shapes.Large", (0..16).map(large).collect()),
        shape("packed numbers", "shapes.Numbers", vec![numbers("packed")]),
        shape("unpacked numbers", "shapes.Numbers", vec![numbers("unpacked")]),
        shape("100 levels", "shapes.Deep", vec![deep(99)]),
        shape("escapes and no ASCII", "shapes.Texts", vec![texts()]),
        shape("base64", "shapes.Texts", vec![format!("{{\"blob\":\"{}\"}}", "QUJD".repeat(16_384))]),
        shape("10,000 keys", "shapes.Table", vec![table(10_000)]),
        shape("wide and sparse", "shapes.Wide", vec![wide()]),
    ]
}

fn events(message: &MessageDescriptor, json: Vec<String>) -> Vec<BenchEvent> {
    let (mapping, unknown_fields) = (Mapping::default(), UnknownFields::Reject);
    let settings = PlanSettings { encoding: Encoding::Protobuf, mapping, key: None, unknown_fields };
    let plan = Plan::compile(message, &settings).expect("the shapes have plans");
    let (mut scratch, mut output) = (Scratch::default(), Output::default());
    let event = |json: String| {
        output.clear();
        plan.transcode(Payload::Json(json.as_bytes()), &mut scratch, &mut output).expect("the shapes are valid");
        BenchEvent { protobuf: output.value.clone(), json: json.into_bytes() }
    };
    json.into_iter().map(event).collect()
}

fn small(n: u64) -> String {
    format!("{{\"id\":\"user-{:013}\",\"atMs\":\"{}\",\"amount\":{}.25}}", n * 7_919, 1_735_689_600_000 + n, n)
}

fn large(n: u64) -> String {
    let item = |i: u64| {
        let options = (0..3).map(|o| format!("{{\"name\":\"option-{o}\",\"value\":\"choice number {}\"}}", i * 7 + o));
        let options = options.collect::<Vec<_>>().join(",");
        format!(
            "{{\"sku\":\"sku-{:08}\",\"name\":\"Item number {i} of order {n}\",\"count\":{},\"cents\":\"{}\",\
             \"tags\":[\"fragile\",\"cold-chain\"],\"options\":[{options}]}}",
            i * 104_729,
            1 + i % 9,
            i * 199 % 10_000,
        )
    };
    let items = (0..115).map(item).collect::<Vec<_>>().join(",");
    format!("{{\"orderId\":\"order-{n:020}\",\"atMs\":\"1735689600000\",\"items\":[{items}]}}")
}

fn numbers(field: &str) -> String {
    let numbers = (0..20_000u64).map(|n| format!("{}", n * n * 31)).collect::<Vec<_>>().join(",");
    format!("{{\"{field}\":[{numbers}]}}")
}

fn deep(levels: usize) -> String {
    let mut json = String::new();
    for level in 0..levels {
        let _ = write!(json, "{{\"level\":{},\"next\":", level + 1);
    }
    json + "{}" + &"}".repeat(levels)
}

fn texts() -> String {
    let texts = (0..1_000).map(|n| format!("\"zw\\u00f6lf\\n{n} Boxk\u{e4}mpfer \\\"jagen\\\" \u{1f600} Viktor\""));
    format!("{{\"texts\":[{}]}}", texts.collect::<Vec<_>>().join(","))
}

fn table(keys: u64) -> String {
    let entries = (0..keys).map(|n| format!("\"key-{}\":\"{n}\"", n * 7_919 % keys));
    format!("{{\"counts\":{{{}}}}}", entries.collect::<Vec<_>>().join(","))
}

/// What becomes the largest output of the smallest payload that is still let through: one column of 200 a row.
fn wide() -> String {
    let rows = (0..100).map(|n| format!("{{\"column{}\":1}}", 1 + n % COLUMNS)).collect::<Vec<_>>().join(",");
    format!("{{\"rows\":[{rows}]}}")
}
