//! What one event costs, stage by stage, on one thread, without I/O.
//!
//! `cargo bench --bench prepare` prints for each stage the nanoseconds an event takes (the least of many batches) and
//! the payload bytes a second. `cargo test --benches` runs each stage once over all events and checks the results.
//!
//! Instructions, which do not depend on how busy the machine is, are counted by
//! `valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/deps/prepare-* --callgrind STAGE EVENTS`:
//! run it with 1,024 and with 3,072 events and divide the difference of the totals by 2,048.

#[path = "support.rs"]
mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use iguazu::envelope::Payload;
use iguazu::route::{Encoding, Mapping, UnknownFields};
use iguazu::transcode::{Output, Plan, PlanSettings, Scratch};
use support::BenchEvent;

/// What is measured: a plan, and the form of the payload.
struct Stage {
    name: &'static str,
    plan: Plan,
    is_json: bool,
    /// The target in nanoseconds an event, if there is one.
    goal_ns: Option<u32>,
}

fn main() {
    let events = support::events();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match &args[..] {
        ["--callgrind", stage, count, ..] => {
            let count = count.parse().expect("the number of events is a number");
            run(&find(stage), &mut events.iter().cycle().take(count));
        }
        args if args.contains(&"--bench") => print_times(&events),
        _ => check(&events),
    }
}

fn stages() -> Vec<Stage> {
    let descriptor = support::descriptor();
    let stage = |name, encoding, is_json, key, goal_ns| {
        let unknown_fields = UnknownFields::Reject;
        let settings = PlanSettings { encoding, mapping: Mapping::default(), key, unknown_fields };
        let plan = Plan::compile(&descriptor, &settings).expect("the benches' schema has a plan");
        Stage { name, plan, is_json, goal_ns }
    };
    vec![
        stage("protobuf-to-avro", Encoding::Avro, false, None, Some(300)),
        stage("protobuf-to-avro-keyed", Encoding::Avro, false, Some("delivery_id"), None),
        stage("protobuf-to-avro-nested-key", Encoding::Avro, false, Some("dropoff.city"), None),
        stage("protobuf-to-protobuf", Encoding::Protobuf, false, None, None),
        stage("protobuf-to-json", Encoding::Json, false, None, None),
        stage("json-to-avro", Encoding::Avro, true, None, Some(1_300)),
        stage("json-to-avro-keyed", Encoding::Avro, true, Some("delivery_id"), None),
        stage("json-to-protobuf", Encoding::Protobuf, true, None, None),
        stage("json-to-json", Encoding::Json, true, None, None),
    ]
}

fn find(name: &str) -> Stage {
    stages().into_iter().find(|stage| stage.name == name).unwrap_or_else(|| panic!("there is no stage {name}"))
}

fn payload<'a>(stage: &Stage, event: &'a BenchEvent) -> Payload<'a> {
    if stage.is_json { Payload::Json(&event.json) } else { Payload::Protobuf(&event.protobuf) }
}

/// Transcodes the events one after the other, as the pipeline does.
fn run<'a>(stage: &Stage, events: &mut dyn Iterator<Item = &'a BenchEvent>) {
    let (mut scratch, mut output) = (Scratch::default(), Output::default());
    for event in events {
        output.clear();
        stage.plan.transcode(payload(stage, event), &mut scratch, &mut output).expect("the events are valid");
        black_box(&output.value);
    }
}

fn print_times(events: &[BenchEvent]) {
    const BATCHES: usize = 400;
    let average = |bytes: fn(&BenchEvent) -> usize| events.iter().map(bytes).sum::<usize>() / events.len();
    let (protobuf, json) = (average(|e| e.protobuf.len()), average(|e| e.json.len()));
    println!("{} distinct events, on average {protobuf} bytes of Protobuf, {json} bytes of JSON", events.len());
    println!("{:<30} {:>9} {:>9} {:>9}", "stage", "ns/event", "MB/s", "goal ns");
    for stage in stages() {
        let mut best = Duration::MAX;
        for _ in 0..BATCHES {
            let start = Instant::now();
            run(&stage, &mut events.iter());
            best = best.min(start.elapsed());
        }
        let ns = best.as_nanos() as f64 / events.len() as f64;
        let bytes = if stage.is_json { json } else { protobuf };
        let goal = stage.goal_ns.map_or(String::new(), |goal| goal.to_string());
        println!("{:<30} {ns:>9.0} {:>9.0} {goal:>9}", stage.name, bytes as f64 * 1e3 / ns);
    }
}

/// Both forms of each event give the same value, and Protobuf that is canonical already stays as it is.
fn check(events: &[BenchEvent]) {
    let (mut scratch, mut output) = (Scratch::default(), Output::default());
    let mut value_of = |stage: &str, event: usize| {
        let stage = find(stage);
        output.clear();
        stage.plan.transcode(payload(&stage, &events[event]), &mut scratch, &mut output).expect("the events are valid");
        (output.value.clone(), output.key.clone())
    };
    for stage in stages() {
        run(&stage, &mut events.iter());
    }
    for (event, sent) in events.iter().enumerate().step_by(101) {
        assert_eq!(value_of("json-to-avro", event), value_of("protobuf-to-avro", event));
        assert_eq!(value_of("json-to-avro-keyed", event), value_of("protobuf-to-avro-keyed", event));
        assert_eq!(value_of("protobuf-to-protobuf", event).0, sent.protobuf);
        assert_eq!(value_of("json-to-protobuf", event).0, sent.protobuf);
        assert_eq!(value_of("json-to-json", event).0, sent.json);
        assert_eq!(value_of("protobuf-to-json", event).0, sent.json);
    }
    println!("{} stages agree on {} events", stages().len(), events.len());
}
