//! Tests of the plan as a whole: payload in, value out.

use prost_reflect::MessageDescriptor;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use super::{Output, Plan, PlanError, PlanSettings, Scratch};
use crate::envelope::Payload;
use crate::outcome::EventError;
use crate::route::{Encoding, Mapping, UnknownFields};

mod amplification;
mod back;
mod back_vectors;
mod differential;
mod direct;
#[path = "../../../tests/fuzz/oracle.rs"]
#[allow(dead_code, reason = "the fuzzer uses the rest of it")]
mod oracle;
mod edge_cases;
mod java_avro;
mod json_rules;
mod presence;
mod schema;
mod wire_rules;

/// A message of a file that is given as text; the well-known types can be imported.
pub(super) fn descriptor(proto: &str, message: &str) -> MessageDescriptor {
    struct Only(String);
    impl FileResolver for Only {
        fn open_file(&self, name: &str) -> Result<File, protox::Error> {
            if name == "test.proto" {
                File::from_source(name, &self.0)
            } else {
                Err(protox::Error::file_not_found(name))
            }
        }
    }
    let mut resolver = ChainFileResolver::new();
    resolver.add(Only(proto.to_owned()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    compiler.open_file("test.proto").unwrap_or_else(|e| panic!("{e:?}"));
    compiler.descriptor_pool().get_message_by_name(message).expect(message)
}

/// A file of syntax proto3 in package `t` with these imports and this content.
pub(super) fn proto3(content: &str) -> String {
    let imports: String = ["timestamp", "duration", "wrappers", "struct", "field_mask", "empty", "any"]
        .iter()
        .map(|name| format!("import \"google/protobuf/{name}.proto\";\n"))
        .collect();
    format!("syntax = \"proto3\";\npackage t;\n{imports}{content}")
}

/// The settings that most tests use.
pub(super) fn settings(encoding: Encoding) -> PlanSettings<'static> {
    PlanSettings { encoding, mapping: Mapping::default(), key: None, unknown_fields: UnknownFields::Reject }
}

/// What a payload becomes.
pub(super) fn transcode(plan: &Plan, payload: Payload<'_>) -> Result<Output, EventError> {
    let mut output = Output::default();
    plan.transcode(payload, &mut Scratch::default(), &mut output).map(|()| output)
}

/// What a payload of a message becomes, by a plan of its own.
pub(super) fn run(
    message: &MessageDescriptor,
    settings: &PlanSettings<'_>,
    payload: Payload<'_>,
) -> Result<Output, EventError> {
    let plan = Plan::compile(message, settings).unwrap_or_else(|PlanError { message }| panic!("{message}"));
    transcode(&plan, payload)
}

/// Hexadecimal digits of bytes.
pub(super) fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from hexadecimal digits; whitespace does not count.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}
