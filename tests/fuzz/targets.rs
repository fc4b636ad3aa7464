//! What is fuzzed: each target takes any bytes, and panics if what comes of them is wrong.
//!
//! Besides "never panics, never stalls", each compares with something independent where there is one: prost-reflect's decoder and JSON,
//! apache-avro's reader, serde_json's grammar. Payloads are of the official test messages, so every field type is there.

use std::cell::RefCell;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use iguazu::envelope::batch::Form;
use iguazu::envelope::{Batch, Payload, check_json, framing, headers};
use iguazu::outcome::{Code, EventError};
use iguazu::route::{Encoding, Mapping, Presence, TimestampPolicy, Uint64Policy, UnknownFields};
use iguazu::schema::compile::compile;
use iguazu::schema::source::{Family, Kind, Schema};
use iguazu::transcode::{Output, Plan, PlanSettings, Scratch, avro_schema};
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor};

use crate::oracle;
use crate::recorded::Suite;

/// The targets' names.
pub const NAMES: [&str; 5] = ["wire", "json", "schema", "batch", "headers"];

/// The target with this name.
pub fn find(name: &str) -> Option<fn(&[u8])> {
    Some(match name {
        "wire" => wire,
        "json" => json,
        "schema" => schema,
        "batch" => batch,
        "headers" => record_headers,
        _ => return None,
    })
}

/// The official test messages; the first byte of an input chooses one.
pub const MESSAGES: [&str; 2] =
    ["protobuf_test_messages.proto3.TestAllTypesProto3", "protobuf_test_messages.proto2.TestAllTypesProto2"];

/// The plans for one test message: unknown fields are dropped, and what the policies can let pass passes.
struct Plans {
    message: MessageDescriptor,
    avro: Plan,
    protobuf: Plan,
    json: Plan,
    /// The derived schema, as apache-avro reads it.
    schema: apache_avro::Schema,
}

impl Plans {
    fn of(name: &str) -> Plans {
        let suite = Suite::load().expect("the recorded suite is there");
        let message = suite.pool().expect("its descriptors are good").get_message_by_name(name);
        let message = message.expect("it has the message");
        let policies =
            Presence { uint64: Uint64Policy::Wrap, invalid_timestamp: TimestampPolicy::Clamp, ..Presence::default() };
        let mapping = Mapping::Presence(policies);
        let plan = |encoding| {
            let settings = PlanSettings { encoding, mapping, key: None, unknown_fields: UnknownFields::Drop };
            Plan::compile(&message, &settings).expect("the test messages have plans")
        };
        let schema = avro_schema(&message, &mapping).expect("the test messages have schemas");
        let schema = apache_avro::Schema::parse_str(&schema).expect("what is derived is a schema");
        let (avro, protobuf, json) = (plan(Encoding::Avro), plan(Encoding::Protobuf), plan(Encoding::Json));
        Plans { message, avro, protobuf, json, schema }
    }

    /// The plans that the first byte chooses, and the payload behind it.
    fn choose(input: &[u8]) -> Option<(&'static Plans, &[u8])> {
        static ALL: OnceLock<Vec<Plans>> = OnceLock::new();
        let (choice, payload) = input.split_first()?;
        let all = ALL.get_or_init(|| MESSAGES.iter().map(|name| Plans::of(name)).collect());
        Some((&all[usize::from(*choice) % all.len()], payload))
    }

    /// A datum means what prost understood, read by apache-avro.
    fn check_datum(&self, datum: &[u8], theirs: &DynamicMessage) {
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&self.schema).build();
        let mut rest = datum;
        let read = reader.expect("the schema can be read with").read_value(&mut rest).expect("we wrote a datum");
        assert!(rest.is_empty(), "{} bytes follow the datum", rest.len());
        let expected = oracle::avro_of(theirs);
        assert!(oracle::same(&read, &expected), "{}", oracle::differences(&read, &expected));
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn transcode(plan: &Plan, payload: Payload<'_>) -> Result<Vec<u8>, EventError> {
    let mut output = Output::default();
    SCRATCH.with_borrow_mut(|scratch| plan.transcode(payload, scratch, &mut output))?;
    Ok(output.value)
}

/// A payload on the wire: we accept what is a message, and what prost accepts too means the same in each form.
fn wire(input: &[u8]) {
    let Some((plans, payload)) = Plans::choose(input) else { return };
    let canonical = transcode(&plans.protobuf, Payload::Protobuf(payload));
    let has_limit = canonical.as_ref().is_err_and(|e| matches!(e.code, Code::PayloadExpands | Code::TooDeep));
    let reading = oracle::read(&plans.message, payload);
    assert!(has_limit || canonical.is_ok() == reading.is_message, "a message: {}; {canonical:?}", reading.is_message);
    let Ok(canonical) = canonical else { return };
    let Ok(theirs) = DynamicMessage::decode(plans.message.clone(), payload) else { return };
    if reading.is_mistyped || oracle::has_unnamed_enum(&theirs) {
        return;
    }
    let ours = DynamicMessage::decode(plans.message.clone(), &canonical[..]).expect("we wrote a message");
    let (ours, understood) = (oracle::avro_of(&ours), oracle::avro_of(&theirs));
    assert!(oracle::same(&ours, &understood), "{}", oracle::differences(&ours, &understood));
    let again = transcode(&plans.protobuf, Payload::Protobuf(&canonical)).expect("we wrote a message");
    assert_eq!(canonical, again, "canonical Protobuf is not canonical");
    if let Ok(datum) = transcode(&plans.avro, Payload::Protobuf(payload)) {
        plans.check_datum(&datum, &theirs);
    }
    if let Ok(text) = transcode(&plans.json, Payload::Protobuf(payload)) {
        let again = transcode(&plans.protobuf, Payload::Json(&text)).expect("we read the JSON that we wrote");
        // Not compared with `canonical`: JSON has one NaN only.
        let again = transcode(&plans.json, Payload::Protobuf(&again)).expect("we read the Protobuf that we wrote");
        assert_eq!(text, again, "our JSON is not a fixed point");
    }
}

/// A payload in JSON: what both we and prost accept means the same, in each form.
fn json(input: &[u8]) {
    let Some((plans, payload)) = Plans::choose(input) else { return };
    let Ok(canonical) = transcode(&plans.protobuf, Payload::Json(payload)) else { return };
    serde_json::from_slice::<serde::de::IgnoredAny>(payload).expect("we accept JSON only");
    let message = DynamicMessage::decode(plans.message.clone(), &canonical[..]).expect("we wrote a message");
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let mut text = serde_json::Deserializer::from_slice(payload);
    if let Ok(theirs) = DynamicMessage::deserialize_with_options(plans.message.clone(), &mut text, &options)
        && !oracle::has_unnamed_enum(&theirs)
    {
        let (ours, theirs) = (oracle::avro_of(&message), oracle::avro_of(&theirs));
        assert!(oracle::nearly_same(&ours, &theirs), "{}", oracle::differences(&ours, &theirs));
    }
    if let Ok(datum) = transcode(&plans.avro, Payload::Json(payload)) {
        plans.check_datum(&datum, &message);
        let again = transcode(&plans.avro, Payload::Protobuf(&canonical)).expect("the same message is accepted again");
        assert_eq!(datum, again, "JSON and Protobuf become different datums");
    }
    if let Ok(text) = transcode(&plans.json, Payload::Json(payload)) {
        let again = transcode(&plans.json, Payload::Json(&text)).expect("we read the JSON that we wrote");
        assert_eq!(text, again, "our JSON is not a fixed point");
    }
}

/// A schema as a registry may hold it: an even first byte makes the rest text, an odd one a `FileDescriptorProto`.
fn schema(input: &[u8]) {
    let Some((form, schema)) = input.split_first() else { return };
    let text = match form % 2 {
        0 => String::from_utf8_lossy(schema).into_owned(),
        _ => STANDARD.encode(schema),
    };
    let Ok(compiled) = compile("root.proto", &Family::from(Schema::new(Kind::Protobuf, text))) else { return };
    for message in compiled.messages().take(8) {
        for encoding in [Encoding::Avro, Encoding::Protobuf, Encoding::Json] {
            let mapping = Mapping::default();
            let settings = PlanSettings { encoding, mapping, key: None, unknown_fields: UnknownFields::Reject };
            let Ok(plan) = Plan::compile(&message.descriptor, &settings) else { continue };
            if encoding == Encoding::Avro {
                let derived = avro_schema(&message.descriptor, &mapping).expect("what has a plan has a schema");
                apache_avro::Schema::parse_str(&derived).expect("what is derived is a schema");
            }
            let empty = [Payload::Protobuf(b""), Payload::Json(b"{}")].map(|payload| transcode(&plan, payload));
            // `{}` is an empty object of the well-known types that are any value.
            let is_well_known = message.descriptor.full_name().starts_with("google.protobuf.");
            if let ([Ok(from_wire), Ok(from_json)], false) = (empty, is_well_known) {
                assert_eq!(from_wire, from_json, "an empty message is not the same in both forms");
            }
        }
    }
}

/// A request's body, in each of its forms.
fn batch(input: &[u8]) {
    let Some((form, body)) = input.split_first() else { return };
    let form = [Form::Json, Form::Ndjson, Form::Protobuf][usize::from(form % 3)];
    let well_formed = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    // serde_json stops at 128 levels.
    let deep = body.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() > 100;
    // Nor does it look at the UTF-8 of what it ignores.
    let well_formed = well_formed && std::str::from_utf8(body).is_ok();
    assert!(deep || check_json(body).is_ok() == well_formed, "serde_json's grammar is another");
    if well_formed && !deep {
        check_payload(body);
    }
    let Ok(batch) = Batch::parse(form, body, 1_000) else { return };
    let announced = batch.remaining();
    let events: Vec<_> = batch.collect();
    assert_eq!(events.len(), announced);
    for event in events.into_iter().flatten() {
        assert!(body.len() >= event.payload.bytes().len(), "a payload is longer than the body");
    }
}

/// A payload's end is found 64 bytes at a time, and without reading what is in it: it is where serde_json finds it.
fn check_payload(json: &[u8]) {
    for padding in [0, 17, 63] {
        let padding = " ".repeat(padding);
        let body = [b"{\"event\":\"e\",", padding.as_bytes(), b"\"payload\":", json, b",\"id\":\"1\"}"].concat();
        let mut batch = Batch::parse(Form::Json, &body, 1).expect("one event");
        let event = batch.next().expect("one event").expect("a good envelope");
        assert!(event.payload.bytes() == json.trim_ascii(), "the payload ends elsewhere");
    }
}

/// Headers of a record, both forms: a byte for the name, a byte for the value's length, the value; and so on.
fn record_headers(input: &[u8]) {
    const KNOWN: [&str; 14] = [
        headers::SINGLE,
        framing::HEADER,
        "ce_specversion",
        "ce_id",
        "ce_source",
        "ce_type",
        "ce_time",
        "ce_properties",
        "content-type",
        "iguazu-sender",
        "traceparent",
        "ce_other",
        "mine",
        "",
    ];
    let (mut pairs, mut rest) = (Vec::new(), input);
    while let [name, length, after @ ..] = rest {
        let (value, after) = after.split_at(usize::from(*length).min(after.len()));
        pairs.push((KNOWN[usize::from(*name) % KNOWN.len()], value));
        rest = after;
    }
    let envelope = headers::read(pairs.iter().copied(), 1, Some(input));
    if let Ok(envelope) = envelope {
        let kept = envelope.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        assert!(kept <= input.len() + 16 * pairs.len(), "headers grow when they are read");
    }
    if let Ok((id, rest)) = framing::read_prefix(input) {
        assert_eq!([&framing::write_prefix(id, None)[..], rest].concat(), input);
        if let Ok((indexes, value)) = framing::read_indexes(rest) {
            assert!(input.ends_with(value) && !indexes.is_empty());
            let again = framing::write_prefix(id, Some(&indexes));
            let (_, rest) = framing::read_prefix(&again).expect("we wrote a prefix");
            assert_eq!(framing::read_indexes(rest), Ok((indexes, &[][..])));
        }
    }
    let _ = framing::read_header_value(input);
}
