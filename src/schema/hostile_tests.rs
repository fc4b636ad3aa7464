//! Schemas that somebody wrote to hurt: they compile in bounded time and memory, or are refused with a reason.

use std::time::{Duration, Instant};

use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{DescriptorProto, FieldDescriptorProto};

use super::*;
use crate::route::{Encoding, Mapping, UnknownFields};
use crate::transcode::{Plan, PlanSettings};

/// What a schema of the largest size may take without optimisation, on a machine that does ten other things; with it, it takes a fiftieth.
const TIME_MAX: Duration = Duration::from_secs(120);

/// Compiles a schema and plans for its last message; an expected error is a part of what is said.
#[track_caller]
fn check(text: String, expected: Result<(), &str>) {
    let start = Instant::now();
    let found = compile("root.proto", &Family::from(Schema::new(Kind::Protobuf, text))).map_err(|e| e.message);
    let found = found.and_then(|compiled| {
        let message = compiled.messages().last().expect("there is a message").descriptor;
        [Encoding::Avro, Encoding::Protobuf, Encoding::Json].iter().try_for_each(|encoding| {
            let (encoding, mapping, unknown_fields) = (*encoding, Mapping::default(), UnknownFields::Reject);
            let plan = Plan::compile(&message, &PlanSettings { encoding, mapping, key: None, unknown_fields });
            plan.map(drop).map_err(|e| e.message)
        })
    });
    let took = start.elapsed();
    match (&found, expected) {
        (Ok(()), Ok(())) => {}
        (Err(message), Err(part)) if message.contains(part) => {
            assert!(message.len() < 2_000, "the error itself is {} bytes long", message.len());
        }
        _ => panic!("{:.300}, not {expected:?}", format!("{found:?}")),
    }
    assert!(took < TIME_MAX, "it took {took:?}");
}

fn proto3(content: &str) -> String {
    format!("syntax = \"proto3\"; package p; {content}")
}

fn proto2(content: &str) -> String {
    format!("syntax = \"proto2\"; package p; {content}")
}

/// The text of each number up to and including `n`.
fn each(n: usize, text: impl Fn(usize) -> String) -> String {
    (1..=n).map(text).collect()
}

#[test]
fn many_declarations_compile_or_are_refused() {
    let fields = |n| each(n, |i| format!("int32 f{i} = {};", i + 20_000));
    check(proto3(&format!("message M {{ {} }}", fields(10_000))), Ok(()));
    check(
        proto3(&format!("message M {{ {} }}", fields(33_000))),
        Err("`p.M` has 33000 fields; at most 32767 are allowed"),
    );
    check(proto3(&format!("message M {{ {} }}", fields(60_000))), Err("more than 50000 messages, fields, enums"));
    // Each field number makes a table of 16 KB if it is the only one of its message.
    let messages = each(10_000, |i| format!("message A{i} {{ int32 x = 511; }}"));
    let root = each(10_000, |i| format!("A{i} f{i} = {};", i + 20_000));
    check(proto3(&format!("{messages} message M {{ {root} }}")), Ok(()));
    let symbols = |n| each(n, |i| format!("S{i} = {};", i * 30_000));
    check(proto3(&format!("enum E {{ S0 = 0; {} }} message M {{ E e = 1; }}", symbols(10_000))), Ok(()));
    check(
        proto3(&format!("enum E {{ S0 = 0; {} }} message M {{ E e = 1; }}", symbols(60_000))),
        Err("more than 50000"),
    );
    let oneofs = each(10_000, |i| format!("oneof o{i} {{ int32 f{i} = {}; }}", i + 20_000));
    check(proto3(&format!("message M {{ {oneofs} }}")), Ok(()));
    let maps = each(5_000, |i| format!("map<int32, M> f{i} = {i};"));
    check(proto3(&format!("message M {{ {maps} }}")), Ok(()));
}

#[test]
fn long_names_are_refused() {
    for name in ["N".repeat(513), "N".repeat(1 << 20)] {
        let expected = format!("has a full name of {} bytes; at most 512 are allowed", name.len() + 2);
        check(proto3(&format!("message {name} {{}} message M {{}}")), Err(&expected));
        check(proto3(&format!("message M {{ int32 {name} = 1; }}")), Err("has a full name of"));
        check(proto3(&format!("message M {{ oneof {name} {{ int32 a = 1; }} }}")), Err("has a full name of"));
        check(proto3(&format!("enum E {{ {name} = 0; }} message M {{}}")), Err("has a full name of"));
        check(proto3("message M {}").replace("package p", &format!("package {name}")), Err("has a full name of"));
    }
    // Short, but each with the names of those around it.
    let name = "N".repeat(100);
    check(proto3(&format!("message {name} {{ ").repeat(8)) + &"}".repeat(8), Err("has a full name of"));
    check(proto3(&format!("message {} {{}}", "N".repeat(510))), Ok(()));
}

#[test]
fn deep_nesting_is_refused_wherever_the_grammar_nests() {
    let deep = |open: &str, close: &str| open.repeat(20_000) + &close.repeat(20_000);
    let recursion = "recursion limit";
    check(proto3(&deep("message A {", "}")), Err(recursion));
    check(proto2(&format!("message M {{ {} }}", deep("optional group A = 1 {", "}"))), Err(recursion));
    check(proto2(&format!("message M {{ {} }}", deep("oneof x { group A = 1 {", "}}"))), Err(recursion));
    check(proto2(&format!("message M {{ {} }}", deep("extend M { optional group A = 1 {", "}}"))), Err(recursion));
    check(proto3(&format!("option (x) = {{ {} }}; message M {{}}", deep("a: {", "}"))), Err("'x' is not defined"));
    check(proto3(&format!("option (x) = {{ a: {} }}; message M {{}}", deep("[", "]"))), Err("'x' is not defined"));
    check(proto3(&format!("option {}x = 1; message M {{}}", "a.".repeat(20_000))), Err("'a' is not defined"));
    check(proto3(&deep("/*", "*/")), Err("nested block comments"));
    check(proto3(&"{".repeat(20_000)), Err("found '{'"));
    let minus = "-".repeat(20_000);
    check(proto2(&format!("message M {{ optional int32 a = 1 [default = {minus}1]; }}")), Err("found '-'"));
    // Avro schemas nest with the messages.
    let chain = |n| each(n, |i| format!("message A{i} {{ A{} next = 1; }}", i % n + 1));
    check(proto3(&format!("{} message M {{ A1 a = 1; }}", chain(3_000))), Err("more than 100 levels deep"));
    check(proto3(&format!("{} message M {{ A1 a = 1; }}", chain(90))), Ok(()));
}

#[test]
fn field_numbers_that_protobuf_does_not_have_are_refused() {
    check(proto3("message M { int32 a = 536870911; }"), Ok(()));
    for (number, expected) in [
        ("0", "message numbers must be between 1 and 536870911"),
        ("-1", "message numbers must be between 1 and 536870911"),
        ("536870912", "message numbers must be between 1 and 536870911"),
        ("19000", "invalid field number '19000'"),
        ("2147483648", "message numbers must be between 1 and 536870911"),
        ("18446744073709551616", "integer is too large"),
    ] {
        check(proto3(&format!("message M {{ int32 a = {number}; }}")), Err(expected));
    }
    check(proto3("message M { int32 a = 1; int32 b = 1; }"), Err("number"));
}

/// Descriptors come as they are, past the parser and what it refuses.
#[test]
fn descriptors_that_no_parser_writes_are_refused() {
    let field = |number, kind: Type, type_name: Option<&str>| FieldDescriptorProto {
        name: Some("f".to_owned()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        type_name: type_name.map(str::to_owned),
        ..FieldDescriptorProto::default()
    };
    let message = |name: &str, field| DescriptorProto {
        name: Some(name.to_owned()),
        field: vec![field],
        ..DescriptorProto::default()
    };
    let check = |message: DescriptorProto, syntax: &str, expected: Result<(), &str>| {
        let file = FileDescriptorProto {
            name: Some("root.proto".to_owned()),
            syntax: Some(syntax.to_owned()),
            message_type: vec![message],
            ..FileDescriptorProto::default()
        };
        check(BASE64.encode(file.encode_to_vec()), expected);
    };
    check(message("M", field(1, Type::Int32, None)), "proto3", Ok(()));
    check(message("M", field(1, Type::Int32, None)), "proto9", Err("not a valid one"));
    for number in [0, -1, 19_500, 536_870_912, i32::MAX, i32::MIN] {
        check(message("M", field(number, Type::Int32, None)), "proto3", Err("number"));
    }
    for name in ["", "1", "a b", "a.b", "\u{0}"] {
        check(message(name, field(1, Type::Int32, None)), "proto3", Err("is not a name"));
    }
    check(message("M", field(1, Type::Message, None)), "proto3", Err("missing required field"));
    check(message("M", field(1, Type::Message, Some("."))), "proto3", Err("not"));
    check(message("M", field(1, Type::Message, Some(".N"))), "proto3", Err("not defined"));
    let deep = (0..90).fold(message("M", field(1, Type::Int32, None)), |inner, _| DescriptorProto {
        nested_type: vec![inner],
        ..message("M", field(1, Type::Int32, None))
    });
    check(deep, "proto3", Ok(()));
}
