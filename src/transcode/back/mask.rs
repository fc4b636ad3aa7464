//! Hides what must not be shown: the values at given paths become `"***"`.
//!
//! In: paths of field names (`card.number`); JSON text and, where there is one, the message that it is of. Out: JSON text on
//! one line. Lists and the keys of maps are no steps of a path. Never: shows a masked value because its member is spelled
//! otherwise; a `null` stays one.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::outcome::{Code, EventError};
use crate::transcode::buffer::Buffer;
use crate::transcode::fail::{Done, Fail};
use crate::transcode::json::{Token, Tokenizer};
use crate::transcode::slots::{DEPTH_MAX, too_deep};

/// What stands in place of a masked value.
pub(super) const MASK: &[u8] = b"\"***\"";

/// Paths of field names.
#[derive(Clone, Debug, Default)]
pub struct Mask {
    paths: Vec<Vec<String>>,
}

impl Mask {
    /// By paths of field names as they are declared, joined by dots.
    pub fn new(paths: &[String]) -> Mask {
        Mask { paths: paths.iter().map(|path| path.split('.').map(str::to_owned).collect()).collect() }
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &[String]> {
        self.paths.iter().map(Vec::as_slice)
    }

    /// JSON text on one line, its values at these paths masked. Members are matched by their declared name and by the
    /// lowerCamelCase that proto3 JSON gives it. `message` is what the text is of; without it an object without a member
    /// of the name is taken for a map.
    ///
    /// # Errors
    /// [`Code::InvalidUtf8`] and [`Code::MalformedJson`] for bytes that are not JSON, [`Code::TooDeep`].
    pub fn apply(&self, json: &[u8], message: Option<&MessageDescriptor>) -> Result<String, EventError> {
        if simdutf8::basic::from_utf8(json).is_err() {
            return Err(EventError::new(Code::InvalidUtf8, "$: the text is not valid UTF-8"));
        }
        let mut copier = Copier { tokens: Tokenizer::new(json), side: Vec::new(), out: Buffer::default() };
        let active: Vec<&[String]> = self.paths().collect();
        let shape = message.map_or(Shape::Unknown, |message| Shape::Message(message.clone()));
        let done = copier.value(&shape, &active, 0).and_then(|()| copier.tokens.end());
        done.map_err(|fail| EventError::new(fail.code, format!("$: {}", fail.what)))?;
        Ok(String::from_utf8_lossy(copier.out.content()).into_owned())
    }
}

/// What is known of a JSON value.
enum Shape {
    Message(MessageDescriptor),
    /// An object whose member names are keys; its values are of this kind.
    Map(Kind),
    Unknown,
}

impl Shape {
    fn of(kind: Kind) -> Shape {
        match kind {
            // Well-known types have a JSON form of their own, with other names than their fields'.
            Kind::Message(message) if !message.full_name().starts_with("google.protobuf.") => Shape::Message(message),
            _ => Shape::Unknown,
        }
    }

    fn of_field(field: &FieldDescriptor) -> Shape {
        match field.kind() {
            Kind::Message(entry) if field.is_map() => Shape::Map(entry.map_entry_value_field().kind()),
            kind => Shape::of(kind),
        }
    }
}

struct Copier<'a> {
    tokens: Tokenizer<'a>,
    side: Vec<u8>,
    out: Buffer,
}

impl Copier<'_> {
    /// Copies one value; `active` is what is left of the paths that lead here.
    fn value(&mut self, shape: &Shape, active: &[&[String]], depth: usize) -> Done {
        let token = self.tokens.token()?;
        let start = self.tokens.pos;
        self.side.clear();
        match token {
            Token::Array | Token::Object if depth >= 4 * DEPTH_MAX => Err(too_deep()),
            _ if token != Token::Null && active.iter().any(|path| path.is_empty()) => {
                self.tokens.skip_value(0, &mut self.side)?;
                self.out.slice(MASK);
                Ok(())
            }
            Token::Array => {
                self.open(b'[');
                let mut more = !self.tokens.is_empty(b']');
                while more {
                    self.value(shape, active, depth + 1)?;
                    more = self.next(b']')?;
                }
                self.out.byte(b']');
                Ok(())
            }
            Token::Object => self.object(shape, active, depth),
            _ => {
                self.tokens.skip_value(0, &mut self.side)?;
                self.out.slice(&self.tokens.text[start..self.tokens.pos]);
                Ok(())
            }
        }
    }

    fn object(&mut self, shape: &Shape, active: &[&[String]], depth: usize) -> Done {
        let is_map = match shape {
            Shape::Map(_) => true,
            Shape::Message(_) => false,
            Shape::Unknown => !active.is_empty() && !self.has_member_of(active)?,
        };
        self.open(b'{');
        let mut more = !self.tokens.is_empty(b'}');
        while more {
            self.tokens.name_quote()?;
            let from = self.tokens.pos;
            self.side.clear();
            let span = self.tokens.string(&mut self.side)?;
            let name = if span.is_side() { &self.side[span.range()] } else { &self.tokens.text[span.range()] };
            let name = String::from_utf8_lossy(name).into_owned();
            self.out.byte(b'"');
            self.out.slice(&self.tokens.text[from..self.tokens.pos]);
            self.tokens.colon()?;
            self.out.byte(b':');
            if is_map {
                let of_value = if let Shape::Map(kind) = shape { Shape::of(kind.clone()) } else { Shape::Unknown };
                self.value(&of_value, active, depth + 1)?;
            } else {
                let field = field_of(shape, &name);
                let declared = field.as_ref().map_or(name.as_str(), |field| field.name());
                let is_step = |step: &str| declared == step || is_spelling(&name, step);
                let steps = active.iter().filter_map(|path| path.split_first());
                let below: Vec<_> = steps.filter(|(step, _)| is_step(step)).map(|(_, rest)| rest).collect();
                self.value(&field.as_ref().map_or(Shape::Unknown, Shape::of_field), &below, depth + 1)?;
            }
            more = self.next(b'}')?;
        }
        self.out.byte(b'}');
        Ok(())
    }

    /// Whether the object that comes next has a member that a path names.
    fn has_member_of(&self, active: &[&[String]]) -> Done<bool> {
        let mut ahead = Tokenizer { text: self.tokens.text, pos: self.tokens.pos };
        let mut side = Vec::new();
        ahead.bump();
        let mut more = !ahead.is_empty(b'}');
        while more {
            ahead.name_quote()?;
            side.clear();
            let span = ahead.string(&mut side)?;
            let name = if span.is_side() { &side[span.range()] } else { &ahead.text[span.range()] };
            let name = String::from_utf8_lossy(name);
            if active.iter().filter_map(|path| path.first()).any(|step| is_spelling(&name, step)) {
                return Ok(true);
            }
            ahead.colon()?;
            ahead.skip_value(0, &mut side)?;
            more = ahead.more(b'}')?;
        }
        Ok(false)
    }

    fn open(&mut self, bracket: u8) {
        self.tokens.bump();
        self.out.byte(bracket);
    }

    fn next(&mut self, close: u8) -> Result<bool, Box<Fail>> {
        let more = self.tokens.more(close)?;
        if more {
            self.out.byte(b',');
        }
        Ok(more)
    }
}

/// The field that a member is.
fn field_of(shape: &Shape, member: &str) -> Option<FieldDescriptor> {
    let Shape::Message(message) = shape else { return None };
    message.get_field_by_json_name(member).or_else(|| message.get_field_by_name(member))
}

/// Whether a member's name is a field's, as it is declared or in lowerCamelCase.
fn is_spelling(member: &str, field: &str) -> bool {
    if member == field {
        return true;
    }
    let mut upper = false;
    let mut camel = String::with_capacity(field.len());
    for c in field.chars() {
        match c {
            '_' => upper = true,
            c if std::mem::take(&mut upper) => camel.push(c.to_ascii_uppercase()),
            c => camel.push(c),
        }
    }
    member == camel
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcode::tests::{descriptor, proto3};

    #[track_caller]
    fn check(message: Option<&MessageDescriptor>, json: &str, paths: &[&str], expected: &str) {
        let mask = Mask::new(&paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
        assert_eq!(mask.apply(json.as_bytes(), message).expect("JSON"), expected, "{json} {paths:?}");
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let mask = Mask::new(&["a".to_owned()]);
        let check = |json: &[u8], code: Code| assert_eq!(mask.apply(json, None).unwrap_err().code, code, "{json:?}");
        check(b"", Code::MalformedJson);
        check(b"{\"a\":1", Code::MalformedJson);
        check(b"{} {}", Code::MalformedJson);
        check(b"{\"b\":tru}", Code::MalformedJson);
        check(b"\"\xff\"", Code::InvalidUtf8);
        check("[".repeat(100_000).as_bytes(), Code::TooDeep);
    }

    #[test]
    fn values_at_the_paths_do_not_show() {
        check(None, r#"{"a":1,"b":"x"}"#, &["b"], r#"{"a":1,"b":"***"}"#);
        check(None, r#"{"a":{"b":{"c":[1]}},"b":2}"#, &["a.b"], r#"{"a":{"b":"***"},"b":2}"#);
        check(None, r#"{"a":[{"b":1,"c":2},{"b":null}]}"#, &["a.b"], r#"{"a":[{"b":"***","c":2},{"b":null}]}"#);
        check(None, "{\"\\u0061\":1}", &["a"], "{\"\\u0061\":\"***\"}");
        check(None, "{ \"a\" : [ 1 ,\n{ } ] }", &[], r#"{"a":[1,{}]}"#);
        check(None, r#"{"a":1}"#, &["a.b", "x"], r#"{"a":1}"#);
        check(None, r#"{"card":[{"cardNumber":"42"}]}"#, &["card.card_number"], r#"{"card":[{"cardNumber":"***"}]}"#);
    }

    #[test]
    fn keys_of_maps_are_no_steps() {
        check(None, r#"{"cards":{"k":{"n":1}}}"#, &["cards.n"], r#"{"cards":{"k":{"n":"***"}}}"#);
        let content = "message C { int32 n = 1; } message M { map<string, C> cards = 1; C c = 2; int32 n = 3; \
                       string odd = 4 [json_name = \"even\"]; }";
        let message = descriptor(&proto3(content), "t.M");
        let json = r#"{"cards":{"n":{"n":1},"k":{"n":2}},"c":{"n":3},"n":4}"#;
        let expected = r#"{"cards":{"n":{"n":"***"},"k":{"n":"***"}},"c":{"n":3},"n":4}"#;
        check(Some(&message), json, &["cards.n"], expected);
        check(Some(&message), r#"{"c":{"n":3}}"#, &["n"], r#"{"c":{"n":3}}"#);
        check(Some(&message), r#"{"even":"x"}"#, &["odd"], r#"{"even":"***"}"#);
    }
}
