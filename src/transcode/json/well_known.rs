//! Messages with a JSON form of their own: timestamps, durations, wrappers, `Struct` and its kin, field masks.
//!
//! In: the value in that form. Out: the message's slots, as if its fields had been written. Never: an `Any`, which has a
//! file of its own.

use super::reader::{Reader, mismatch};
use super::tokenizer::Token;
use crate::outcome::Code;
use crate::transcode::fail::{Done, Fail, Step};
use crate::transcode::plan::Kind;
use crate::transcode::slots::{Holds, Span};
use crate::transcode::time;
use crate::transcode::well_known::WellKnown;

/// Position of the members of `google.protobuf.Value`; the plan has checked their numbers, which are one more.
const NULL: u16 = 0;
const NUMBER: u16 = 1;
const STRING: u16 = 2;
const BOOL: u16 = 3;
const STRUCT: u16 = 4;
const LIST: u16 = 5;

impl Reader<'_, '_> {
    /// Reads the message's JSON form, which starts with `token`, into its frame.
    pub(super) fn well_known(&mut self, index: u16, frame: usize, token: Token) -> Done {
        if self.plan.tables[usize::from(index)].well_known == WellKnown::Any {
            return self.any(index, frame, token);
        }
        // Senders do not know the fields inside these messages, so paths end at the message.
        self.read_well_known(index, frame, token).map_err(|mut fail| {
            fail.at = None;
            fail
        })
    }

    fn read_well_known(&mut self, index: u16, frame: usize, token: Token) -> Done {
        let table = &self.plan.tables[usize::from(index)];
        let first = frame + table.values_at;
        let step = Step::field(index, 0);
        match (table.well_known, token) {
            (WellKnown::Timestamp, Token::String) => {
                let what = "the string is not a timestamp of RFC 3339, such as `2025-01-31T12:00:00.123Z`, \
                            of the years 0001 to 9999";
                self.seconds_and_nanos(first, time::parse_timestamp, what)
            }
            (WellKnown::Duration, Token::String) => {
                let what = "the string is not a duration, such as `1.5s`, of at most 315,576,000,000 seconds";
                self.seconds_and_nanos(first, time::parse_duration, what)
            }
            (WellKnown::FieldMask, Token::String) => self.field_mask(first),
            (WellKnown::Timestamp | WellKnown::Duration | WellKnown::FieldMask, _) => Err(mismatch("a string", token)),
            (WellKnown::Struct, _) => self.map(table.slots[0].kind, first, token, step),
            (WellKnown::ListValue, _) => self.list(table.slots[0].kind, first, token, step),
            (WellKnown::Value, _) => self.any_value(index, frame, token),
            (WellKnown::Wrapper | WellKnown::None | WellKnown::Any, _) => {
                if let Some(value) = self.value(table.slots[0].kind, token, step)? {
                    self.frames.words[first] = value;
                }
                Ok(())
            }
        }
    }

    fn seconds_and_nanos(&mut self, at: usize, parse: fn(&[u8]) -> Option<(i64, i32)>, what: &str) -> Done {
        self.tokens.bump();
        let span = self.tokens.string(self.side)?;
        let Some((seconds, nanos)) = parse(self.bytes(span)) else {
            return Err(Fail::new(Code::OutOfRange, what));
        };
        self.frames.words[at] = seconds as u64;
        self.frames.words[at + 1] = nanos as u64;
        Ok(())
    }

    /// The member of `google.protobuf.Value` that a JSON value of this type is.
    fn any_value(&mut self, index: u16, frame: usize, token: Token) -> Done {
        let table = &self.plan.tables[usize::from(index)];
        let at = match token {
            Token::Null => NULL,
            Token::Number => NUMBER,
            Token::String => STRING,
            Token::Bool => BOOL,
            Token::Object => STRUCT,
            Token::Array => LIST,
        };
        let slot = &table.slots[usize::from(at)];
        let value = self.value(slot.kind, token, Step::field(index, at))?.unwrap_or_default();
        match slot.kind {
            Kind::Message(_) => self.frames.append(frame + table.at(at), value, Holds::Frame)?,
            _ => self.frames.words[frame + table.at(at)] = value,
        }
        self.set_bit(frame, 0, usize::from(at));
        if let Some(case) = slot.oneof {
            self.frames.words[frame + usize::from(case)] = u64::from(at) + 1;
        }
        Ok(())
    }

    /// Paths in lowerCamelCase, joined by commas; kept in snake_case.
    fn field_mask(&mut self, word: usize) -> Done {
        self.tokens.bump();
        let span = self.tokens.string(self.side)?;
        let text = self.bytes(span).to_vec();
        for path in text.split(|byte| *byte == b',').filter(|path| !path.is_empty()) {
            let start = self.side.len();
            for byte in path {
                match byte {
                    b'A'..=b'Z' => self.side.extend([b'_', byte.to_ascii_lowercase()]),
                    b'_' => {
                        let what = "a path of the field mask is not in lowerCamelCase";
                        return Err(Fail::new(Code::InvalidPayload, what));
                    }
                    _ => self.side.push(*byte),
                }
            }
            let span = Span::side(start, self.side.len() - start);
            self.frames.append(word, span.0, Holds::Value)?;
        }
        Ok(())
    }
}
