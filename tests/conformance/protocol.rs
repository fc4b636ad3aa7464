//! What the official runner says to a testee and hears from it: `conformance.proto`, each message behind its length.

use std::io::{self, Read, Write};

use prost::{Message, Oneof};

/// One test: a payload, and the form in which it is to come back.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    #[prost(oneof = "Payload", tags = "1, 2, 7, 8")]
    pub payload: Option<Payload>,
    #[prost(enumeration = "Format", tag = "3")]
    pub output: i32,
    #[prost(string, tag = "4")]
    pub message_type: String,
    #[prost(enumeration = "Category", tag = "5")]
    pub category: i32,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Payload {
    #[prost(bytes = "vec", tag = "1")]
    Protobuf(Vec<u8>),
    /// Not `string`: some tests are about what is no UTF-8.
    #[prost(bytes = "vec", tag = "2")]
    Json(Vec<u8>),
    #[prost(string, tag = "7")]
    Jspb(String),
    #[prost(bytes = "vec", tag = "8")]
    Text(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Format {
    Unspecified = 0,
    Protobuf = 1,
    Json = 2,
    Jspb = 3,
    Text = 4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Category {
    Unspecified = 0,
    Binary = 1,
    Json = 2,
    JsonIgnoringUnknown = 3,
    Jspb = 4,
    Text = 5,
}

/// What became of the payload.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    #[prost(oneof = "Answer", tags = "1, 6, 3, 4, 5")]
    pub answer: Option<Answer>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Answer {
    #[prost(string, tag = "1")]
    ParseError(String),
    #[prost(string, tag = "6")]
    SerializeError(String),
    #[prost(bytes = "vec", tag = "3")]
    Protobuf(Vec<u8>),
    #[prost(string, tag = "4")]
    Json(String),
    #[prost(string, tag = "5")]
    Skipped(String),
}

/// The list of failures that the runner asks for first, under this name instead of a test message's.
pub const FAILURE_SET: &str = "conformance.FailureSet";

/// Reads a message behind its length (four bytes, little endian); none at the end of the input.
pub fn read(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut message = vec![0; u32::from_le_bytes(length) as usize];
    input.read_exact(&mut message)?;
    Ok(Some(message))
}

/// Writes a message behind its length.
pub fn write(output: &mut impl Write, message: &[u8]) -> io::Result<()> {
    output.write_all(&(message.len() as u32).to_le_bytes())?;
    output.write_all(message)
}
