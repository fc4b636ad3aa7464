//! The rules of proto3 JSON, a case a line.

use super::*;
use crate::outcome::Code;

fn message() -> MessageDescriptor {
    let content = r#"
        enum Color { RED = 0; GREEN = 5; }
        message Inner { int32 a = 1; string long_name = 2; Inner next = 3; }
        message M {
          int32 i32 = 1; int64 i64 = 2; uint32 u32 = 3; uint64 u64 = 4; sint32 s32 = 5;
          bool yes = 7; string text = 8; bytes blob = 9; Color color = 10; float flt = 15; double dbl = 16;
          Inner inner = 17; repeated int32 ints = 18; repeated Inner inners = 20; repeated Color colors = 30;
          map<string, int32> by_name = 21; map<int32, Inner> by_number = 22; map<bool, string> by_bool = 31;
          oneof choice { int32 num = 23; string word = 25; google.protobuf.NullValue nothing = 26; }
          optional int32 maybe = 27; google.protobuf.Timestamp at = 28; google.protobuf.Duration took = 29;
          google.protobuf.Int64Value wrapped = 32; google.protobuf.BytesValue wrapped_bytes = 33;
          google.protobuf.Struct object = 34; google.protobuf.Value any = 35; google.protobuf.ListValue list = 36;
          google.protobuf.FieldMask mask = 37; google.protobuf.Empty empty = 38;
          repeated google.protobuf.Value anys = 39; int32 odd = 40 [json_name = "@odd"];
        }
    "#;
    descriptor(&proto3(content), "t.M")
}

fn read(json: &str) -> Result<String, (Code, String)> {
    read_with(&settings(Encoding::Json), json)
}

fn read_with(settings: &PlanSettings<'_>, json: &str) -> Result<String, (Code, String)> {
    match run(&message(), settings, Payload::Json(json.as_bytes())) {
        Ok(output) => Ok(String::from_utf8(output.value).unwrap()),
        Err(e) => Err((e.code, e.message)),
    }
}

#[test]
fn what_does_not_fit_is_refused_with_path_and_reason() {
    for (json, code, message) in [
        ("", Code::MalformedJson, "$: expected a value at byte 0 (the end) of the payload"),
        ("{", Code::MalformedJson, "$: expected a member's name in quotes at byte 1 (the end) of the payload"),
        ("{}x", Code::MalformedJson, "$: something follows the JSON value at byte 2 of the payload"),
        ("\u{feff}{}", Code::MalformedJson, "$: expected a value at byte 0 of the payload"),
        ("[]", Code::InvalidPayload, "$: expected an object, received an array"),
        (r#"{"i32":}"#, Code::MalformedJson, "$: expected a value at byte 7 of the payload"),
        (
            r#"{"i32":"x"}"#,
            Code::InvalidPayload,
            "$.i32: expected a 32-bit integer, received a string that is not a number",
        ),
        (r#"{"i32":true}"#, Code::InvalidPayload, "$.i32: expected a number, received a boolean"),
        (r#"{"i32":1.5}"#, Code::InvalidPayload, "$.i32: expected an integer, received a number with a fraction"),
        (r#"{"i32":2147483648}"#, Code::OutOfRange, "$.i32: the number does not fit a 32-bit integer"),
        (r#"{"u32":-1}"#, Code::OutOfRange, "$.u32: the number does not fit an unsigned 32-bit integer"),
        (r#"{"u64":1e20}"#, Code::OutOfRange, "$.u64: the number does not fit an unsigned 64-bit integer"),
        (r#"{"i64":"+1"}"#, Code::InvalidPayload, "$.i64: expected a 64-bit integer, received a string"),
        (r#"{"i64":"01"}"#, Code::InvalidPayload, "$.i64: expected a 64-bit integer, received a string"),
        (r#"{"i64":" 1"}"#, Code::InvalidPayload, "$.i64: expected a 64-bit integer, received a string"),
        (r#"{"i64":"0x1"}"#, Code::InvalidPayload, "$.i64: expected a 64-bit integer, received a string"),
        (r#"{"dbl":1e400}"#, Code::OutOfRange, "$.dbl: the number does not fit a 64-bit float"),
        (r#"{"flt":1e39}"#, Code::OutOfRange, "$.flt: the number does not fit a 32-bit float"),
        (r#"{"dbl":"nan"}"#, Code::InvalidPayload, "$.dbl: expected a 64-bit float, received a string"),
        (r#"{"i32":"NaN"}"#, Code::InvalidPayload, "$.i32: expected a number, received a string"),
        (r#"{"text":1}"#, Code::InvalidPayload, "$.text: expected a string, received a number"),
        (r#"{"text":"\ud800"}"#, Code::MalformedJson, "$.text: a string has half of a surrogate pair at byte"),
        (r#"{"blob":"a"}"#, Code::InvalidPayload, "$.blob: the string is not base64"),
        (r#"{"blob":"+-=="}"#, Code::InvalidPayload, "$.blob: the string is not base64"),
        (
            r#"{"color":"PINK"}"#,
            Code::UnknownEnumValue,
            "$.color: the symbol is none of enum `t.Color`; it has `RED`, `GREEN`",
        ),
        (r#"{"color":true}"#, Code::InvalidPayload, "$.color: expected an enum's symbol or number, received a boolean"),
        (r#"{"inner":{"longName":5}}"#, Code::InvalidPayload, "$.inner.longName: expected a string, received a number"),
        (
            r#"{"inners":[{},{"next":{"a":[]}}]}"#,
            Code::InvalidPayload,
            "$.inners[1].next.a: expected a number, received an array",
        ),
        (r#"{"ints":[1,null]}"#, Code::InvalidPayload, "$.ints[1]: expected a number, received null"),
        (r#"{"inners":[null]}"#, Code::InvalidPayload, "$.inners[0]: expected an object, received null"),
        (r#"{"ints":1}"#, Code::InvalidPayload, "$.ints: expected an array, received a number"),
        (r#"{"byName":{"a":null}}"#, Code::InvalidPayload, "$.byName[0]: expected a number, received null"),
        (r#"{"byName":{"a":1,"b":2,"a":1}}"#, Code::InvalidPayload, "$.byName: the map has the same key twice"),
        (r#"{"byNumber":{"1":{},"1.0":{}}}"#, Code::InvalidPayload, "$.byNumber: the map has the same key twice"),
        (
            r#"{"byNumber":{"x":{}}}"#,
            Code::InvalidPayload,
            "$.byNumber[0]: expected a 32-bit integer, received a string",
        ),
        (
            r#"{"byBool":{"True":""}}"#,
            Code::InvalidPayload,
            "$.byBool[0]: expected the map's key to be `true` or `false`",
        ),
        (r#"{"i32":1,"i32":2}"#, Code::InvalidPayload, "$.i32: the field stands there twice"),
        (r#"{"byName":{},"by_name":{}}"#, Code::InvalidPayload, "$.byName: the field stands there twice"),
        (r#"{"maybe":null,"maybe":1}"#, Code::InvalidPayload, "$.maybe: the field stands there twice"),
        (r#"{"num":1,"word":"x"}"#, Code::InvalidPayload, "$.word: `num` of the same oneof is set too"),
        (r#"{"nope":1}"#, Code::UnknownField, "$: `t.M` has no field `nope`; leave it out"),
        (r#"{"byNmae":{}}"#, Code::UnknownField, "$: `t.M` has no field `byNmae` (did you mean `byName`?); leave"),
        (r#"{"inner":{"no\u0001pe":1}}"#, Code::UnknownField, "$.inner: `t.Inner` has no field `no\u{fffd}pe`"),
        (r#"{"at":"2024-01-01"}"#, Code::OutOfRange, "$.at: the string is not a timestamp of RFC 3339"),
        (r#"{"at":0}"#, Code::InvalidPayload, "$.at: expected a string, received a number"),
        (r#"{"took":"1"}"#, Code::OutOfRange, "$.took: the string is not a duration"),
        (r#"{"wrapped":"x"}"#, Code::InvalidPayload, "$.wrapped: expected a 64-bit integer, received a string"),
        (r#"{"any":1e400}"#, Code::OutOfRange, "$.any: the number does not fit a 64-bit float"),
        (r#"{"object":[]}"#, Code::InvalidPayload, "$.object: expected an object, received an array"),
        (r#"{"object":{"a":1,"a":2}}"#, Code::InvalidPayload, "$.object: the map has the same key twice"),
        (r#"{"mask":"a_b"}"#, Code::InvalidPayload, "$.mask: a path of the field mask is not in lowerCamelCase"),
        (r#"{"empty":{"a":1}}"#, Code::UnknownField, "$.empty: `google.protobuf.Empty` has no field `a`"),
    ] {
        let (received, text) = read(json).expect_err(json);
        assert_eq!(received, code, "{json}: {text}");
        assert!(text.starts_with(message), "{json}: {text}");
    }
}

#[test]
fn values_are_read_in_each_of_their_forms() {
    for (json, expected) in [
        (" {\n} ", "{}"),
        (r#"{ "i32" : 1 , "i64" : "2" }"#, r#"{"i32":1,"i64":"2"}"#),
        (
            r#"{"i32":1.0,"i64":1e3,"u64":"18446744073709551615"}"#,
            r#"{"i32":1,"i64":"1000","u64":"18446744073709551615"}"#,
        ),
        (r#"{"i32":"-2147483648","s32":-5}"#, r#"{"i32":-2147483648,"s32":-5}"#),
        (r#"{"i32":null,"text":null,"inner":null,"ints":null,"byName":null,"num":null,"word":"x"}"#, r#"{"word":"x"}"#),
        (r#"{"dbl":-0.0,"flt":"-Infinity"}"#, r#"{"flt":"-Infinity","dbl":-0.0}"#),
        (r#"{"dbl":"1.5","flt":1e-50}"#, r#"{"dbl":1.5}"#),
        (r#"{"text":"\u00e4\ud83d\ude00\n\"\\"}"#, r#"{"text":"ä😀\n\"\\"}"#),
        (r#"{"blob":"+/8="}"#, r#"{"blob":"+/8="}"#),
        (r#"{"blob":"-_8"}"#, r#"{"blob":"+/8="}"#),
        (r#"{"blob":"\u002b/8"}"#, r#"{"blob":"+/8="}"#),
        (r#"{"color":"GREEN","colors":[5,"RED",99]}"#, r#"{"color":"GREEN","colors":["GREEN","RED",99]}"#),
        (r#"{"inner":{"long_name":"x","next":{}}}"#, r#"{"inner":{"longName":"x","next":{}}}"#),
        (r#"{"inner":{"\u0061":1}}"#, r#"{"inner":{"a":1}}"#),
        (r#"{"ints":[],"inners":[{}]}"#, r#"{"inners":[{}]}"#),
        (
            r#"{"byNumber":{"-1":{"a":1},"2":{}},"byBool":{"true":"x"}}"#,
            r#"{"byNumber":{"-1":{"a":1},"2":{}},"byBool":{"true":"x"}}"#,
        ),
        (r#"{"maybe":0}"#, r#"{"maybe":0}"#),
        (r#"{"nothing":null}"#, r#"{"nothing":null}"#),
        (r#"{"at":"2024-01-01T01:00:00.5+01:00"}"#, r#"{"at":"2024-01-01T00:00:00.500Z"}"#),
        (r#"{"took":"-1.5s"}"#, r#"{"took":"-1.500s"}"#),
        (r#"{"wrapped":5,"wrappedBytes":"AA=="}"#, r#"{"wrapped":"5","wrappedBytes":"AA=="}"#),
        (r#"{"wrapped":0}"#, r#"{"wrapped":"0"}"#),
        (
            r#"{"object":{"a":[1,null,{"b":"c"}],"d":true},"any":null,"list":[[],{}]}"#,
            r#"{"object":{"a":[1.0,null,{"b":"c"}],"d":true},"any":null,"list":[[],{}]}"#,
        ),
        (r#"{"anys":[null,1,"x"]}"#, r#"{"anys":[null,1.0,"x"]}"#),
        (r#"{"mask":"fooBar,baz.quxQuux"}"#, r#"{"mask":"fooBar,baz.quxQuux"}"#),
        (r#"{"empty":{},"@odd":1}"#, r#"{"empty":{},"@odd":1}"#),
    ] {
        assert_eq!(read(json), Ok(expected.to_owned()), "{json}");
    }
}

#[test]
fn names_in_json_may_have_any_character() {
    let names = r#"message M { int32 a = 1 [json_name = "q\"\\uote"]; int32 b = 2 [json_name = "\x01\xc3\xa4"]; }"#;
    let message = descriptor(&proto3(names), "t.M");
    let json = r#"{"q\"\\uote":1,"\u0001ä":2}"#;
    for sent in [json, r#"{"a":1,"b":2}"#, r#"{"\u0071\u0022\\uote":1,"\u0001\u00e4":2}"#] {
        let output = run(&message, &settings(Encoding::Json), Payload::Json(sent.as_bytes())).unwrap();
        assert_eq!(String::from_utf8(output.value).unwrap(), json, "{sent}");
    }
}

#[test]
fn a_payload_that_is_not_utf8_is_refused() {
    let refused = run(&message(), &settings(Encoding::Json), Payload::Json(b"{\"text\":\"\xff\"}")).unwrap_err();
    assert_eq!(refused.code, Code::InvalidUtf8);
}

#[test]
fn no_error_carries_a_value() {
    for json in [
        r#"{"text":"secret\ud800"}"#,
        r#"{"i32":"secret"}"#,
        r#"{"color":"secret"}"#,
        r#"{"at":"secret"}"#,
        r#"{"blob":"secret!"}"#,
        r#"{"byNumber":{"secret":{}}}"#,
        r#"{"byName":{"secret":1,"secret":2}}"#,
    ] {
        let (_, text) = read(json).expect_err(json);
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn json_nests_to_the_limit_and_no_deeper() {
    let nested = |n: usize| format!("{{\"inner\":{}{{}}{}", "{\"next\":".repeat(n), "}".repeat(n + 1));
    assert!(read(&nested(99)).is_ok());
    assert_eq!(read(&nested(100)).unwrap_err().0, Code::TooDeep);
    assert_eq!(read(&format!("{{\"inner\":{}", "{\"next\":".repeat(50_000))).unwrap_err().0, Code::TooDeep);
    let dropping = PlanSettings { unknown_fields: UnknownFields::Drop, ..settings(Encoding::Json) };
    let unknown = |n: usize| format!("{{\"x\":{}{}}}", "[".repeat(n), "]".repeat(n));
    assert!(read_with(&dropping, &unknown(99)).is_ok());
    assert_eq!(read_with(&dropping, &unknown(100)).unwrap_err().0, Code::TooDeep);
    let values = |n: usize| format!("{{\"any\":{}{}}}", "[".repeat(n), "]".repeat(n));
    assert!(read(&values(49)).is_ok());
    assert_eq!(read(&values(200)).unwrap_err().0, Code::TooDeep);
}

#[test]
fn unknown_members_are_dropped_and_counted() {
    let settings = PlanSettings { unknown_fields: UnknownFields::Drop, ..settings(Encoding::Json) };
    let json = r#"{"x":[1,{"y":2}],"inner":{"z":1,"a":2},"color":"PINK","colors":["RED","PINK"]}"#;
    let output = run(&message(), &settings, Payload::Json(json.as_bytes())).unwrap();
    assert_eq!(output.value, br#"{"inner":{"a":2},"colors":["RED"]}"#);
    assert_eq!(output.fields_dropped, 4);
    assert_eq!(output.first_dropped, "$: `t.M` has no field `x`");
    assert_eq!(output.properties, b"");
}

#[test]
fn unknown_members_of_the_root_become_properties() {
    let settings = PlanSettings { unknown_fields: UnknownFields::Properties, ..settings(Encoding::Json) };
    let json = "{\"x\" : [ 1 , {\"y z\": \"a \\\" b\"} ], \"inner\":{\"z\":1}, \"i32\":1, \"\\u006e\": null}";
    let output = run(&message(), &settings, Payload::Json(json.as_bytes())).unwrap();
    assert_eq!(output.value, br#"{"i32":1,"inner":{}}"#);
    assert_eq!(String::from_utf8(output.properties).unwrap(), r#""x":[1,{"y z":"a \" b"}],"n":null"#);
    assert_eq!((output.fields_dropped, &*output.first_dropped), (1, "$.inner: `t.Inner` has no field `z`"));
    let twice = run(&message(), &settings, Payload::Json(br#"{"x":1,"\u0078":2}"#)).unwrap_err();
    assert_eq!((twice.code, &*twice.message), (Code::InvalidPayload, "$: member `x` stands there twice"));
}

#[test]
fn a_key_is_read_from_json() {
    let key = |path: &str, json: &str| {
        let settings = PlanSettings { key: Some(path), ..settings(Encoding::Avro) };
        let output = run(&message(), &settings, Payload::Json(json.as_bytes())).unwrap();
        output.has_key.then(|| String::from_utf8(output.key).unwrap())
    };
    for (path, json, expected) in [
        ("text", r#"{"text":"a\"b"}"#, Some("a\"b")),
        ("text", "{}", Some("")),
        ("i64", r#"{"i64":"-7"}"#, Some("-7")),
        ("color", r#"{"color":5}"#, Some("GREEN")),
        ("blob", r#"{"blob":"-_8"}"#, Some("+/8=")),
        ("maybe", r#"{"maybe":null}"#, None),
        ("inner.long_name", r#"{"inner":{"longName":"x"}}"#, Some("x")),
        ("inner.longName", "{}", None),
        ("word", r#"{"num":1}"#, None),
    ] {
        assert_eq!(key(path, json).as_deref(), expected, "{path} of {json}");
    }
}

#[test]
fn long_maps_are_searched_for_duplicates_too() {
    let members: Vec<_> = (0..1_000).map(|i| format!("\"key{i}\":{i}")).collect();
    let json = |last: &str| format!("{{\"byName\":{{{},{last}}}}}", members.join(","));
    assert!(read(&json("\"other\":1")).is_ok());
    assert_eq!(read(&json("\"key500\":1")).unwrap_err().0, Code::InvalidPayload);
    assert_eq!(read(&json("\"\\u006bey500\":1")).unwrap_err().0, Code::InvalidPayload);
}
