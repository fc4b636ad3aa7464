//! Payloads that would become far more than they are.

use super::*;
use crate::outcome::Code;

fn wide() -> MessageDescriptor {
    let fields: String = (1..=200).map(|n| format!("int32 field_number_{n} = {n};\n")).collect();
    let content =
        format!("message Wide {{ {fields} }} message M {{ repeated Wide many = 1; repeated int32 ints = 2; }}");
    descriptor(&proto3(&content), "t.M")
}

#[test]
fn many_empty_messages_do_not_become_gigabytes() {
    let message = wide();
    // Two bytes each, 200 bytes of defaults each.
    let payload = hex("0a00").repeat(10_000);
    let error = run(&message, &settings(Encoding::Avro), Payload::Protobuf(&payload)).unwrap_err();
    assert_eq!(error.code, Code::PayloadExpands);
    assert!(error.message.starts_with("$.many["), "{}", error.message);
    let json = format!("{{\"many\":[{}{{}}]}}", "{},".repeat(100_000));
    let error = run(&message, &settings(Encoding::Avro), Payload::Json(json.as_bytes())).unwrap_err();
    assert_eq!(error.code, Code::PayloadExpands);
    run(&message, &settings(Encoding::Avro), Payload::Protobuf(&hex("0a00").repeat(100))).unwrap();
}

#[test]
fn many_empty_groups_do_not_become_gigabytes() {
    let fields: String = (2..=200).map(|n| format!("optional int32 f{n} = {n};\n")).collect();
    let proto = format!("syntax = \"proto2\"; package t; message M {{ repeated group G = 1 {{ {fields} }} }}");
    let message = descriptor(&proto, "t.M");
    let code = |n: usize| {
        run(&message, &settings(Encoding::Avro), Payload::Protobuf(&hex("0b0c").repeat(n))).map_err(|e| e.code).err()
    };
    assert_eq!(code(100), None);
    // First the output is too large, then there are too many slots.
    assert_eq!(code(4_000), Some(Code::PayloadExpands));
    assert_eq!(code(400_000), Some(Code::PayloadExpands));
}

#[test]
fn anys_that_nest_are_not_read_once_for_each_other() {
    let content = "message M { google.protobuf.Any any = 1; repeated int32 many = 2; }";
    let message = descriptor(&proto3(content), "t.M");
    let many = format!("{{\"many\":[{}1],\"@type\":\"x/t.M\"}}", "1,".repeat(10_000));
    let nested = |n: usize| {
        let json = (0..n).fold(many.clone(), |inner, _| format!("{{\"any\":{inner},\"@type\":\"x/t.M\"}}"));
        let json = format!("{{\"any\":{json}}}");
        run(&message, &settings(Encoding::Avro), Payload::Json(json.as_bytes())).map_err(|e| e.code).err()
    };
    assert_eq!(nested(5), None);
    assert_eq!(nested(20), Some(Code::TooDeep));
}

#[test]
fn many_empty_messages_do_not_cost_their_widths() {
    let message = wide();
    // Written as they came, they would be as short again, but each is read into a frame of 200 slots.
    let payload = |n: usize| hex("0a00").repeat(n);
    for encoding in [Encoding::Protobuf, Encoding::Json] {
        run(&message, &settings(encoding), Payload::Protobuf(&payload(5_000))).unwrap();
        let error = run(&message, &settings(encoding), Payload::Protobuf(&payload(200_000))).unwrap_err();
        assert_eq!(error.code, Code::PayloadExpands);
    }
}

#[test]
fn list_elements_are_limited_in_number() {
    let message = wide();
    let payload = hex("1001").repeat(400_000);
    let error = run(&message, &settings(Encoding::Avro), Payload::Protobuf(&payload)).unwrap_err();
    assert_eq!(error.code, Code::PayloadExpands);
    let json = format!("{{\"ints\":[{}1]}}", "1,".repeat(400_000));
    let error = run(&message, &settings(Encoding::Avro), Payload::Json(json.as_bytes())).unwrap_err();
    assert_eq!(error.code, Code::PayloadExpands);
}

#[test]
fn a_huge_event_leaves_no_huge_memory_behind() {
    let message = wide();
    let plan = Plan::compile(&message, &settings(Encoding::Avro)).unwrap();
    let (mut scratch, mut output) = (Scratch::default(), Output::default());
    let json = format!("{{\"ints\":[{}1]}}", "1,".repeat(200_000));
    plan.transcode(Payload::Json(json.as_bytes()), &mut scratch, &mut output).unwrap();
    plan.transcode(Payload::Protobuf(b""), &mut scratch, &mut output).unwrap();
    assert!(scratch.nodes.capacity() * size_of::<super::super::slots::Node>() <= 1 << 21);
}
