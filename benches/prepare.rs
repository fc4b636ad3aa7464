//! What one event costs, stage by stage, on one thread, without I/O.
//!
//! `cargo bench --bench prepare` prints for each stage the nanoseconds an event takes (the least of many batches), the payload bytes a
//! second and the allocations; then what others take for the same events in the same run, and the ratios that are our goals; then the
//! same for payloads of other sizes and shapes. `cargo test --benches` runs each stage once over all events and checks the results.
//!
//! Instructions, which do not depend on how busy the machine is, are counted by
//! `valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/deps/prepare-* --callgrind STAGE EVENTS`:
//! run it with 1,024 and with 3,072 events and divide the difference of the totals by 2,048.

#[path = "prepare/allocations.rs"]
mod allocations;
#[path = "prepare/rivals.rs"]
mod rivals;
#[path = "prepare/shapes.rs"]
mod shapes;
#[path = "support.rs"]
#[allow(dead_code, reason = "each bench uses its part of it")]
mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use iguazu::envelope::Payload;
use iguazu::route::{Encoding, Mapping, UnknownFields};
use iguazu::transcode::{Output, Plan, PlanSettings, Scratch};
use prost_reflect::MessageDescriptor;
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
    let stage = |name, encoding, is_json, key, goal_ns| Stage {
        name,
        plan: plan(&descriptor, encoding, key),
        is_json,
        goal_ns,
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

fn plan(message: &MessageDescriptor, encoding: Encoding, key: Option<&str>) -> Plan {
    let (mapping, unknown_fields) = (Mapping::default(), UnknownFields::Reject);
    let settings = PlanSettings { encoding, mapping, key, unknown_fields };
    Plan::compile(message, &settings).expect("the benches' messages have plans")
}

fn find(name: &str) -> Stage {
    stages().into_iter().find(|stage| stage.name == name).unwrap_or_else(|| panic!("there is no stage {name}"))
}

fn payload<'a>(stage: &Stage, event: &'a BenchEvent) -> Payload<'a> {
    if stage.is_json { Payload::Json(&event.json) } else { Payload::Protobuf(&event.protobuf) }
}

/// Transcodes the events one after the other, as the pipeline does.
fn run(stage: &Stage, events: &mut dyn Iterator<Item = &BenchEvent>) {
    let (mut scratch, mut output) = (Scratch::default(), Output::default());
    for event in events {
        transcode(stage, event, &mut scratch, &mut output);
    }
}

fn transcode(stage: &Stage, event: &BenchEvent, scratch: &mut Scratch, output: &mut Output) {
    output.clear();
    stage.plan.transcode(payload(stage, event), scratch, output).expect("the events are valid");
    black_box(&output.value);
}

/// Allocations of one pass over the events, by a thread that has seen them once.
fn allocations(stage: &Stage, events: &[BenchEvent]) -> u64 {
    let (mut scratch, mut output) = (Scratch::default(), Output::default());
    let mut pass = || events.iter().for_each(|event| transcode(stage, event, &mut scratch, &mut output));
    pass();
    allocations::count(pass)
}

/// The least nanoseconds an event that any of these passes took.
fn least_ns(passes: usize, events: &[BenchEvent], mut one: impl FnMut(&BenchEvent)) -> f64 {
    let mut best = Duration::MAX;
    for _ in 0..passes {
        let start = Instant::now();
        events.iter().for_each(&mut one);
        best = best.min(start.elapsed());
    }
    best.as_nanos() as f64 / events.len() as f64
}

fn print_times(events: &[BenchEvent]) {
    const PASSES: usize = 400;
    let average = |events: &[BenchEvent], bytes: fn(&BenchEvent) -> usize| {
        events.iter().map(bytes).sum::<usize>() as f64 / events.len() as f64
    };
    let sizes = |events: &[BenchEvent]| [average(events, |e| e.protobuf.len()), average(events, |e| e.json.len())];
    let [protobuf, json] = sizes(events);
    println!("{} distinct events, on average {protobuf:.0} bytes of Protobuf, {json:.0} bytes of JSON", events.len());
    println!("{:<30} {:>9} {:>9} {:>12} {:>9}", "stage", "ns/event", "MB/s", "allocations", "goal ns");
    let (mut scratch, mut output) = (Scratch::default(), Output::default());
    let mut ns_of = |stage: &Stage, passes, events: &[BenchEvent]| {
        least_ns(passes, events, |event| transcode(stage, event, &mut scratch, &mut output))
    };
    let mut measured = std::collections::HashMap::new();
    for stage in stages() {
        let ns = ns_of(&stage, PASSES, events);
        let bytes = if stage.is_json { json } else { protobuf };
        let goal = stage.goal_ns.map_or(String::new(), |goal| goal.to_string());
        let allocated = allocations(&stage, events);
        println!("{:<30} {ns:>9.0} {:>9.0} {allocated:>12} {goal:>9}", stage.name, bytes * 1e3 / ns);
        measured.insert(stage.name, ns);
    }

    println!("\n{:<46} {:>9} {:>9} {:>9}", "the same by others", "ns/event", "ratio", "goal");
    let obvious = rivals::Obvious::new();
    let rival = |name: &str, ours: &str, goal: f64, ns: f64| {
        println!("{name:<46} {ns:>9.0} {:>9.3} {goal:>9.3}", measured[ours] / ns);
    };
    let ns = least_ns(PASSES / 10, events, |event| drop(black_box(obvious.transcode(event))));
    rival("Protobuf -> Avro: DynamicMessage, Value, datum", "protobuf-to-avro", 0.05, ns);
    rival("Protobuf: prost decodes, no more", "protobuf-to-avro", 0.65, least_ns(PASSES, events, rivals::prost_decode));
    let ns = least_ns(PASSES, events, rivals::serde_json_borrowed);
    rival("JSON: serde_json reads a borrowed struct", "json-to-avro", 1.3, ns);

    println!(
        "\n{:<22} {:>8} {:>8} {:>11} {:>7} {:>11} {:>7} {:>12}",
        "shape", "Protobuf", "JSON", "to Avro ns", "MB/s", "to Avro ns", "MB/s", "allocations"
    );
    for shapes::Shape { name, message, events } in shapes::all() {
        let [protobuf, json] = sizes(&events);
        print!("{name:<22} {protobuf:>7.0}B {json:>7.0}B");
        let mut allocated = 0;
        for (is_json, bytes) in [(false, protobuf), (true, json)] {
            let stage = Stage { name, plan: plan(&message, Encoding::Avro, None), is_json, goal_ns: None };
            let ns = ns_of(&stage, PASSES / 4, &events);
            allocated += allocations(&stage, &events);
            print!(" {ns:>11.0} {:>7.0}", bytes * 1e3 / ns);
        }
        println!(" {allocated:>12}");
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
    for shape in shapes::all() {
        let plan = |encoding| plan(&shape.message, encoding, None);
        for event in &shape.events {
            let avro = |payload| {
                let (mut scratch, mut output) = (Scratch::default(), Output::default());
                plan(Encoding::Avro).transcode(payload, &mut scratch, &mut output).expect("the shapes are valid");
                output.value
            };
            let (from_wire, from_json) = (avro(Payload::Protobuf(&event.protobuf)), avro(Payload::Json(&event.json)));
            assert_eq!(from_wire, from_json, "{}", shape.name);
        }
    }
    let obvious = rivals::Obvious::new();
    for (event, sent) in events.iter().enumerate().step_by(101) {
        // Entries of maps come in another order from them.
        assert_eq!(obvious.transcode(sent).len(), value_of("protobuf-to-avro", event).0.len());
        rivals::prost_decode(sent);
        rivals::serde_json_borrowed(sent);
    }
    for stage in stages() {
        assert_eq!(allocations(&stage, events), 0, "{} allocates after it has seen the events once", stage.name);
    }
    println!("{} stages agree on {} events", stages().len(), events.len());
}
