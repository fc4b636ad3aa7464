//! Answers the official tests by the plan: wire or JSON -> slots -> canonical Protobuf or JSON.

use std::collections::HashMap;

use iguazu::envelope::Payload as Sent;
use iguazu::outcome::EventError;
use iguazu::route::{Encoding, Mapping, UnknownFields};
use iguazu::transcode::{Output, Plan, PlanSettings, Scratch};
use prost_reflect::DescriptorPool;

use crate::protocol::{Answer, Category, Format, Payload, Request};

/// The plans of the test messages, compiled when first asked for, and the memory that they share.
pub struct Testee {
    pool: DescriptorPool,
    plans: HashMap<(String, Encoding, UnknownFields), Plan>,
    scratch: Scratch,
}

impl Testee {
    /// With the test messages of this pool.
    pub fn new(pool: DescriptorPool) -> Self {
        Testee { pool, plans: HashMap::new(), scratch: Scratch::default() }
    }

    /// What the runner is told about one test.
    pub fn answer(&mut self, request: &Request) -> Answer {
        let payload = match &request.payload {
            Some(Payload::Protobuf(bytes)) => Sent::Protobuf(bytes),
            Some(Payload::Json(text)) => Sent::Json(text),
            _ => return Answer::Skipped("Iguazu reads Protobuf and JSON only".to_owned()),
        };
        let encoding = match request.output() {
            Format::Protobuf => Encoding::Protobuf,
            Format::Json => Encoding::Json,
            _ => return Answer::Skipped("Iguazu writes Protobuf and JSON only".to_owned()),
        };
        if self.pool.get_message_by_name(&request.message_type).is_none() {
            return Answer::Skipped(format!("there is no message `{}` here", request.message_type));
        }
        // Unknown fields of the wire format are to be passed over, unknown members of JSON are not, unless asked.
        let drops = matches!(payload, Sent::Protobuf(_)) || request.category() == Category::JsonIgnoringUnknown;
        let unknown_fields = if drops { UnknownFields::Drop } else { UnknownFields::Reject };
        match self.transcode(&request.message_type, encoding, unknown_fields, payload) {
            Ok(value) if encoding == Encoding::Protobuf => Answer::Protobuf(value),
            Ok(value) => Answer::Json(String::from_utf8(value).expect("the JSON that we write is UTF-8")),
            // Reading and writing are one step here: it was the writing if another way of writing works.
            Err(error) => match self.transcode(&request.message_type, Encoding::Protobuf, unknown_fields, payload) {
                Ok(_) => Answer::SerializeError(error.message),
                Err(_) => Answer::ParseError(error.message),
            },
        }
    }

    fn transcode(
        &mut self,
        message: &str,
        encoding: Encoding,
        unknown_fields: UnknownFields,
        payload: Sent<'_>,
    ) -> Result<Vec<u8>, EventError> {
        let pool = &self.pool;
        let plan = self.plans.entry((message.to_owned(), encoding, unknown_fields)).or_insert_with(|| {
            let descriptor = pool.get_message_by_name(message).expect("the caller has seen it");
            let settings = PlanSettings { encoding, mapping: Mapping::default(), key: None, unknown_fields };
            Plan::compile(&descriptor, &settings).unwrap_or_else(|e| panic!("`{message}`: {e}"))
        });
        let mut output = Output::default();
        plan.transcode(payload, &mut self.scratch, &mut output)?;
        Ok(output.value)
    }
}
