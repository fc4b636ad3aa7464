//! `google.protobuf.Any` in JSON: a message with its type beside its members.
//!
//! In: the object. Out: the slots of the `Any`: the type's URL, and the message as canonical Protobuf in the side buffer, so
//! that an `Any` is the same from here on whichever form it came in. Never: a type that the schema's files do not declare,
//! nor more reading ahead than a few times the payload's length.

use super::reader::{Reader, mismatch};
use super::tokenizer::Token;
use crate::outcome::Code;
use crate::transcode::PAYLOAD_BYTES_MAX;
use crate::transcode::fail::{Done, Fail, Naming, Step};
use crate::transcode::json_out::unknown_any;
use crate::transcode::protobuf;
use crate::transcode::slots::{DEPTH_MAX, Frames, Notes, Slots, Span, too_deep};
use crate::transcode::well_known::WellKnown;

/// Position of the fields.
const TYPE_URL: u16 = 0;
const CONTENT: u16 = 1;

/// Has a JSON form of its own for some implementations, which write it as `value`, and none for others.
const EMPTY: &str = "google.protobuf.Empty";

/// Senders write `@type` first or last. Where `Any`s nest and it comes last, the inner ones are read once for each outer one.
const AHEAD_MAX: usize = 8;

impl Reader<'_, '_> {
    /// Reads an `Any` into its frame.
    #[cold]
    pub(super) fn any(&mut self, index: u16, frame: usize, token: Token) -> Done {
        if token != Token::Object {
            return Err(mismatch("an object", token));
        }
        let Some(url) = self.find_type()? else {
            self.tokens.bump();
            if self.tokens.is_empty(b'}') {
                return Ok(());
            }
            return Err(Fail::new(Code::InvalidPayload, "the `google.protobuf.Any` has no `@type`"));
        };
        let Some(child) = self.plan.type_of_any(self.bytes(url)) else { return Err(unknown_any()) };
        if self.path.len() >= DEPTH_MAX {
            return Err(too_deep());
        }
        let (words, nodes) = (self.frames.words.len(), self.frames.nodes.len());
        let inner = self.frames.frame(&self.plan.tables[usize::from(child)])?;
        self.path.push(Step::field(index, CONTENT));
        let type_at = self.any.type_at.replace(self.path.len());
        let table = &self.plan.tables[usize::from(child)];
        match table.well_known {
            WellKnown::None if table.name != EMPTY => self.object(child, inner)?,
            _ => self.value_member(child, inner)?,
        }
        let content = self.encode(child, inner)?;
        self.any.type_at = type_at;
        self.path.pop();
        self.frames.words.truncate(words);
        self.frames.nodes.truncate(nodes);
        let table = &self.plan.tables[usize::from(index)];
        self.frames.words[frame + table.at(TYPE_URL)] = url.0;
        self.frames.words[frame + table.at(CONTENT)] = content.0;
        Ok(())
    }

    /// The value of `@type`, wherever it stands in the object that is next. The position stays.
    fn find_type(&mut self) -> Done<Option<Span>> {
        let start = self.tokens.pos;
        let mut found = None;
        self.tokens.bump();
        let mut more = !self.tokens.is_empty(b'}');
        while more {
            let name = self.tokens.member_name(self.side)?;
            if self.bytes(name) == b"@type" {
                if self.tokens.token()? != Token::String {
                    return Err(mismatch("a string as `@type`", self.tokens.token()?));
                }
                if found.is_some() {
                    return Err(Fail::new(Code::InvalidPayload, "`@type` stands there twice"));
                }
                self.tokens.bump();
                found = Some(self.tokens.string(self.side)?);
            } else {
                self.tokens.skip_value(self.path.len() + 1, self.side)?;
            }
            more = self.tokens.more(b'}')?;
        }
        self.any.ahead_bytes += self.tokens.pos - start;
        if self.any.ahead_bytes > AHEAD_MAX * self.tokens.text.len() {
            let what = "too many `google.protobuf.Any`s nest in each other";
            return Err(Fail::new(Code::TooDeep, what));
        }
        self.tokens.pos = start;
        Ok(found)
    }

    /// An object of `@type` and `value`, for messages with a JSON form of their own.
    fn value_member(&mut self, child: u16, frame: usize) -> Done {
        let mut found = false;
        self.tokens.bump();
        let mut more = !self.tokens.is_empty(b'}');
        while more {
            let name = self.tokens.member_name(self.side)?;
            match self.bytes(name) {
                b"@type" => self.tokens.skip_value(self.path.len(), self.side)?,
                b"value" if !std::mem::replace(&mut found, true) => {
                    match (self.plan.tables[usize::from(child)].well_known, self.tokens.token()?) {
                        (WellKnown::None, Token::Object) => self.object(child, frame)?,
                        (WellKnown::None, token) => return Err(mismatch("an object", token)),
                        (_, token) => self.well_known(child, frame, token)?,
                    }
                }
                _ => {
                    let what = "this `google.protobuf.Any` has the members `@type` and `value` only, each once";
                    return Err(Fail::new(Code::InvalidPayload, what));
                }
            }
            more = self.tokens.more(b'}')?;
        }
        if found || self.plan.tables[usize::from(child)].name == EMPTY {
            return Ok(());
        }
        Err(Fail::new(Code::InvalidPayload, "the `google.protobuf.Any` has no `value`"))
    }

    /// The message in a frame as canonical Protobuf, in the side buffer.
    fn encode(&mut self, child: u16, frame: usize) -> Done<Span> {
        let start = self.out.len();
        let mut slots = Slots {
            plan: self.plan,
            payload: self.tokens.text,
            side: self.side,
            naming: Naming::Json,
            frames: Frames { words: self.frames.words, nodes: self.frames.nodes },
            path: self.path,
            order: self.order,
            notes: Notes { output: self.notes.output },
            unnamed_enum: false,
            output_bytes_max: Slots::output_bytes_max(self.tokens.text),
            fillable_words: Slots::fillable_words(self.tokens.text),
        };
        protobuf::write_message(&mut slots, child, frame, self.out)?;
        let (at, len) = (self.side.len(), self.out.len() - start);
        if at + len > PAYLOAD_BYTES_MAX {
            let what = format!("the messages in `google.protobuf.Any`s are over {PAYLOAD_BYTES_MAX} bytes");
            return Err(Fail::new(Code::PayloadExpands, what));
        }
        self.side.extend_from_slice(&self.out.content()[start..]);
        self.out.truncate(start);
        Ok(Span::side(at, len))
    }
}
