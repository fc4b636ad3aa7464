//! Schema-directed reading: members of an object into the slots of a frame.
//!
//! In: a payload, a plan. Out: the root's frame, all others below it. Never: an intermediate value; each value is
//! read as what its field is, or refused as what it is not.

use super::number::Number;
use super::tokenizer::{Token, Tokenizer};
use crate::config;
use crate::outcome::Code;
use crate::route::UnknownFields;
use crate::transcode::buffer::Buffer;
use crate::transcode::fail::{Done, Fail, Naming, Step, shown_name};
use crate::transcode::maps::{self, KEY, VALUE};
use crate::transcode::plan::{Kind, Plan, Shape, Slot, Table};
use crate::transcode::slots::{DEPTH_MAX, Frames, Holds, Notes, Span, append, missing_field, too_deep};
use crate::transcode::well_known::WellKnown;

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The state of reading one payload.
pub(in crate::transcode) struct Reader<'r, 'a> {
    pub(in crate::transcode) plan: &'a Plan,
    pub(in crate::transcode) tokens: Tokenizer<'a>,
    pub(in crate::transcode) frames: Frames<'r>,
    pub(in crate::transcode) side: &'r mut Vec<u8>,
    pub(in crate::transcode) path: &'r mut Vec<Step>,
    pub(in crate::transcode) order: &'r mut Vec<(u64, u32)>,
    /// Names of the root's unknown members, which must differ when they become properties.
    pub(in crate::transcode) unknown: &'r mut Vec<u64>,
    pub(in crate::transcode) notes: Notes<'r>,
    /// Where the message inside an `Any` is written; left as it was.
    pub(in crate::transcode) out: &'r mut Buffer,
    /// What is known of the `Any`s around.
    pub(in crate::transcode) any: AnyState,
}

/// What is known of the `Any`s around the place that is read.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::transcode) struct AnyState {
    /// Length of the path of the message whose `@type` is no field of it, if one is being read.
    pub(super) type_at: Option<usize>,
    /// Bytes that were read ahead to find an `@type`.
    pub(super) ahead_bytes: usize,
}

/// Reads the whole payload; returns the root's frame.
pub(in crate::transcode) fn read_root(reader: &mut Reader<'_, '_>) -> Done<usize> {
    if simdutf8::basic::from_utf8(reader.tokens.text).is_err() {
        return Err(Fail::new(Code::InvalidUtf8, "the payload is not valid UTF-8"));
    }
    let frame = reader.frames.frame(&reader.plan.tables[0])?;
    match (reader.plan.tables[0].well_known, reader.tokens.token()?) {
        (WellKnown::None, Token::Object) => reader.object(0, frame)?,
        (WellKnown::None, other) => return Err(mismatch("an object", other)),
        (_, token) => reader.well_known(0, frame, token)?,
    }
    reader.tokens.end()?;
    reader.check_property_names()?;
    Ok(frame)
}

/// Reads the JSON form of a message that stands in something else, up to the end of the text, into its frame.
pub(in crate::transcode) fn read_inner(reader: &mut Reader<'_, '_>, index: u16, frame: usize) -> Done {
    let token = reader.tokens.token()?;
    reader.well_known(index, frame, token)?;
    reader.tokens.end()
}

impl<'r, 'a> Reader<'r, 'a> {
    /// Reads an object, whose `{` is next, into a frame of an ordinary message.
    pub(super) fn object(&mut self, index: u16, frame: usize) -> Done {
        let plan = self.plan;
        let table = &plan.tables[usize::from(index)];
        self.tokens.bump();
        let mut more = !self.tokens.is_empty(b'}');
        // Senders mostly write members in the order of declaration.
        let mut guess = 0;
        while more {
            self.tokens.name_quote()?;
            let rest = &self.tokens.text[self.tokens.pos..];
            let found = match table.slots.get(guess) {
                Some(slot) if rest.starts_with(&slot.json_key) => {
                    self.tokens.pos += slot.json_key.len();
                    Some(guess as u16)
                }
                _ => self.member(index)?,
            };
            if let Some(at) = found {
                guess = usize::from(at) + 1;
                self.field(index, frame, at)?;
            }
            more = self.tokens.more(b'}')?;
        }
        match table.required.iter().find(|at| !self.has_bit(frame, 0, usize::from(**at))) {
            None => Ok(()),
            Some(at) => Err(missing_field().at(Step::field(index, *at))),
        }
    }

    /// Reads a member's name and colon. An unknown member is dealt with, its value included.
    fn member(&mut self, index: u16) -> Done<Option<u16>> {
        let name = self.tokens.string(self.side)?;
        self.tokens.colon()?;
        let table = &self.plan.tables[usize::from(index)];
        let found = table.names.find(self.bytes(name));
        if found.is_none() {
            self.unknown_member(index, name)?;
        }
        Ok(found)
    }

    #[cold]
    fn unknown_member(&mut self, index: u16, name: Span) -> Done {
        if self.any.type_at == Some(self.path.len()) && self.bytes(name) == b"@type" {
            return self.tokens.skip_value(self.path.len() + 1, self.side);
        }
        let table = &self.plan.tables[usize::from(index)];
        if self.path.is_empty() && self.plan.unknown_fields == UnknownFields::Properties {
            self.unknown.push(name.0);
            self.tokens.peek();
            let start = self.tokens.pos;
            self.tokens.skip_value(1, self.side)?;
            let value = &self.tokens.text[start..self.tokens.pos];
            let name = if name.is_side() { &self.side[name.range()] } else { &self.tokens.text[name.range()] };
            add_property(name, value, &mut self.notes.output.properties);
            return Ok(());
        }
        let shown = shown_name(self.bytes(name));
        let suggestion = self.suggestion(table, name);
        let describe = || format!("`{}` has no field `{shown}`{suggestion}", table.name);
        self.notes.unknown_field(self.plan, self.path, Naming::Json, &describe)?;
        self.tokens.skip_value(self.path.len() + 1, self.side)
    }

    /// The field that was meant, for senders that are refused, where it is cheap to find: whoever sends nonsense chooses the
    /// names that are compared, and as many as it likes.
    fn suggestion(&self, table: &Table, name: Span) -> String {
        let cheap = name.range().len() <= 32 && table.slots.len() <= 256;
        let refused = self.plan.unknown_fields == UnknownFields::Reject;
        let name = std::str::from_utf8(self.bytes(name)).ok().filter(|_| cheap && refused);
        let names = table.slots.iter().map(|slot| slot.json_name.as_str());
        let nearest = name.and_then(|name| config::nearest(name, names));
        nearest.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
    }

    /// Two properties of one name would be one property to their reader.
    fn check_property_names(&mut self) -> Done {
        let mut unknown = std::mem::take(self.unknown);
        unknown.sort_unstable_by(|a, b| self.bytes(Span(*a)).cmp(self.bytes(Span(*b))));
        let twice = unknown.windows(2).find(|pair| self.bytes(Span(pair[0])) == self.bytes(Span(pair[1])));
        let result = match twice {
            None => Ok(()),
            Some(pair) => {
                let name = shown_name(self.bytes(Span(pair[0])));
                Err(Fail::new(Code::InvalidPayload, format!("member `{name}` stands there twice")))
            }
        };
        *self.unknown = unknown;
        result
    }

    /// Reads the value of a known member.
    #[inline]
    fn field(&mut self, index: u16, frame: usize, at: u16) -> Done {
        let plan = self.plan;
        let table = &plan.tables[usize::from(index)];
        let slot = &table.slots[usize::from(at)];
        let step = Step::field(index, at);
        if self.has_bit(frame, table.bit_words, usize::from(at)) {
            return Err(twice().at(step));
        }
        self.set_bit(frame, table.bit_words, usize::from(at));
        let token = self.tokens.token()?;
        if token == Token::Null && !self.takes_null(slot) {
            return self.tokens.null();
        }
        let word = frame + table.at(at);
        match slot.shape {
            Shape::Singular => {
                let Some(value) = self.value(slot.kind, token, step)? else { return Ok(()) };
                if let Some(case) = slot.oneof {
                    let before =
                        std::mem::replace(&mut self.frames.words[frame + usize::from(case)], u64::from(at) + 1);
                    if before != 0 {
                        return Err(two_members(&table.slots[before as usize - 1]).at(step));
                    }
                }
                match slot.kind {
                    Kind::Message(_) => self.frames.append(word, value, Holds::Frame)?,
                    _ => self.frames.words[word] = value,
                }
                self.set_bit(frame, 0, usize::from(at));
                Ok(())
            }
            Shape::Repeated => self.list(slot.kind, word, token, step),
            Shape::Map => self.map(slot.kind, word, token, step),
        }
    }

    /// Whether `null` is a value of the field rather than its absence.
    fn takes_null(&self, slot: &Slot) -> bool {
        let is_null = match slot.kind {
            Kind::Enum(en) => self.plan.enums[usize::from(en)].is_null,
            Kind::Message(child) => self.plan.tables[usize::from(child)].well_known == WellKnown::Value,
            _ => false,
        };
        is_null && slot.shape == Shape::Singular
    }

    /// Reads an array into the list in the word at `word`.
    pub(super) fn list(&mut self, kind: Kind, word: usize, token: Token, step: Step) -> Done {
        if token != Token::Array {
            return Err(mismatch("an array", token).at(step));
        }
        self.tokens.bump();
        let holds = if let Kind::Message(_) = kind { Holds::Frame } else { Holds::Value };
        let mut more = !self.tokens.is_empty(b']');
        let mut index = 0;
        while more {
            let token = self.tokens.token()?;
            if let Some(value) = self.value(kind, token, Step { index, ..step })? {
                append(&mut self.frames.words[word], self.frames.nodes, value, holds)?;
            }
            index += 1;
            more = self.tokens.more(b']')?;
        }
        Ok(())
    }

    /// Reads an object into the list of entries in the word at `word`.
    pub(super) fn map(&mut self, kind: Kind, word: usize, token: Token, step: Step) -> Done {
        let Kind::Message(entry) = kind else { unreachable!("a map's kind is its entry") };
        if token != Token::Object {
            return Err(mismatch("an object", token).at(step));
        }
        let plan = self.plan;
        let table = &plan.tables[usize::from(entry)];
        let (key_kind, value_kind) = (table.slots[KEY].kind, table.slots[VALUE].kind);
        self.tokens.bump();
        let mut more = !self.tokens.is_empty(b'}');
        let mut index = 0;
        while more {
            let step = Step { index, ..step };
            self.tokens.name_quote()?;
            let name = self.tokens.string(self.side)?;
            let key = self.map_key(key_kind, name).map_err(|fail| fail.at(step))?;
            self.tokens.colon()?;
            let token = self.tokens.token()?;
            let frame = self.frames.frame(table)?;
            self.frames.words[frame + table.values_at + KEY] = key;
            if let Some(value) = self.value(value_kind, token, step)? {
                let word_of_value = frame + table.values_at + VALUE;
                match value_kind {
                    Kind::Message(_) => self.frames.append(word_of_value, value, Holds::Frame)?,
                    _ => self.frames.words[word_of_value] = value,
                }
                self.frames.append(word, frame as u64, Holds::Frame)?;
            }
            index += 1;
            more = self.tokens.more(b'}')?;
        }
        if index > 1 {
            self.check_map_keys(entry, word, step)?;
        }
        Ok(())
    }

    fn check_map_keys(&mut self, entry: u16, word: usize, step: Step) -> Done {
        let table = &self.plan.tables[usize::from(entry)];
        let list = crate::transcode::slots::List(self.frames.words[word]);
        let (text, side) = (self.tokens.text, &*self.side);
        let bytes = |span: Span| if span.is_side() { &side[span.range()] } else { &text[span.range()] };
        match maps::find_duplicates(&self.frames, table, list, self.order, &bytes) {
            None => Ok(()),
            Some(_) => Err(Fail::new(Code::InvalidPayload, "the map has the same key twice").at(step)),
        }
    }

    fn map_key(&mut self, kind: Kind, name: Span) -> Done<u64> {
        match kind {
            Kind::String => Ok(name.0),
            Kind::Bool => match self.bytes(name) {
                b"true" => Ok(1),
                b"false" => Ok(0),
                _ => Err(Fail::new(Code::InvalidPayload, "expected the map's key to be `true` or `false`")),
            },
            kind => integer(kind, &quoted_number(self.bytes(name), kind)?),
        }
    }

    /// Reads one value. None: an unknown enum symbol that is to be left out.
    #[inline]
    pub(super) fn value(&mut self, kind: Kind, token: Token, step: Step) -> Done<Option<u64>> {
        let value = match (kind, token) {
            (Kind::String, Token::String) => {
                self.tokens.bump();
                self.tokens.string(self.side).map(|span| span.0)
            }
            (Kind::Bool, Token::Bool) => self.tokens.boolean().map(u64::from),
            (Kind::Message(child), _) => return self.message(child, token, step).map(|frame| Some(frame as u64)),
            (Kind::Enum(en), _) => return self.symbol(en, token, step),
            (Kind::Bytes, Token::String) => self.base64(),
            (Kind::String | Kind::Bytes, _) => Err(mismatch("a string", token)),
            (Kind::Bool, _) => Err(mismatch("a boolean", token)),
            (kind, Token::Number) => self.tokens.number().and_then(|number| scalar(kind, &number)),
            (kind, Token::String) => self.quoted_scalar(kind),
            (_, _) => Err(mismatch("a number", token)),
        };
        value.map(Some).map_err(|fail| fail.at(step))
    }

    /// A number in a string, or one of the floats that JSON has no number for.
    fn quoted_scalar(&mut self, kind: Kind) -> Done<u64> {
        self.tokens.bump();
        let span = self.tokens.string(self.side)?;
        let text = self.bytes(span);
        let special = match text {
            b"NaN" => f64::NAN,
            b"Infinity" => f64::INFINITY,
            b"-Infinity" => f64::NEG_INFINITY,
            _ => return quoted_number(text, kind).and_then(|number| scalar(kind, &number)),
        };
        match kind {
            Kind::Double => Ok(special.to_bits()),
            Kind::Float => Ok(u64::from((special as f32).to_bits())),
            _ => Err(mismatch("a number", Token::String)),
        }
    }

    /// An enum's symbol or number.
    fn symbol(&mut self, en: u16, token: Token, step: Step) -> Done<Option<u64>> {
        let table = &self.plan.enums[usize::from(en)];
        match token {
            Token::String => {
                self.tokens.bump();
                let span = self.tokens.string(self.side).map_err(|fail| fail.at(step))?;
                match table.number(self.bytes(span)) {
                    Some(number) => Ok(Some(number as u64)),
                    None => self.unknown_symbol(en, "symbol", step),
                }
            }
            Token::Number => {
                let number = self.tokens.number().map_err(|fail| fail.at(step))?;
                let number = integer(Kind::Int32, &number).map_err(|fail| fail.at(step))?;
                if table.closed && table.ordinal(number as i32).is_none() {
                    return self.unknown_symbol(en, "number", step);
                }
                Ok(Some(number))
            }
            Token::Null if table.is_null => self.tokens.null().map(|()| Some(0)),
            _ => Err(mismatch("an enum's symbol or number", token).at(step)),
        }
    }

    #[cold]
    fn unknown_symbol(&mut self, en: u16, what: &str, step: Step) -> Done<Option<u64>> {
        let (plan, table) = (self.plan, &self.plan.enums[usize::from(en)]);
        let field = &plan.tables[usize::from(step.table)].slots[usize::from(step.slot)].json_name;
        let describe = || format!("`{field}` has a {what} that enum `{}` does not have", table.name);
        self.notes.unknown_field(plan, self.path, Naming::Json, &describe).map_err(|_| {
            let mut known: Vec<_> = table.symbols.iter().take(10).map(|symbol| format!("`{symbol}`")).collect();
            if table.symbols.len() > known.len() {
                known.push(format!("{} more", table.symbols.len() - known.len()));
            }
            let what = format!("the {what} is none of enum `{}`; it has {}", table.name, known.join(", "));
            Fail::new(Code::UnknownEnumValue, what).at(step)
        })?;
        Ok(None)
    }

    fn base64(&mut self) -> Done<u64> {
        const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::Indifferent);
        const PLAIN: GeneralPurpose = GeneralPurpose::new(&STANDARD, CONFIG);
        const FOR_URLS: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, CONFIG);
        self.tokens.bump();
        let span = self.tokens.string(self.side)?;
        let unescaped;
        let text = if span.is_side() {
            unescaped = self.side[span.range()].to_vec();
            &unescaped[..]
        } else {
            &self.tokens.text[span.range()]
        };
        let engine = if text.iter().any(|byte| matches!(byte, b'-' | b'_')) { &FOR_URLS } else { &PLAIN };
        let start = self.side.len();
        self.side.resize(start + base64::decoded_len_estimate(text.len()), 0);
        match engine.decode_slice(text, &mut self.side[start..]) {
            Ok(n) => {
                self.side.truncate(start + n);
                Ok(Span::side(start, n).0)
            }
            Err(_) => Err(Fail::new(Code::InvalidPayload, "the string is not base64")),
        }
    }

    /// Reads a message in its JSON form into a new frame.
    fn message(&mut self, child: u16, token: Token, step: Step) -> Done<usize> {
        if self.path.len() >= DEPTH_MAX {
            return Err(too_deep().at(step));
        }
        self.path.push(step);
        let table = &self.plan.tables[usize::from(child)];
        let frame = self.frames.frame(table)?;
        match (table.well_known, token) {
            (WellKnown::None, Token::Object) => self.object(child, frame)?,
            (WellKnown::None, _) => return Err(mismatch("an object", token)),
            _ => self.well_known(child, frame, token)?,
        }
        self.path.pop();
        Ok(frame)
    }

    /// The bytes of a span of this payload.
    pub(super) fn bytes(&self, span: Span) -> &[u8] {
        if span.is_side() { &self.side[span.range()] } else { &self.tokens.text[span.range()] }
    }

    fn has_bit(&self, frame: usize, word: usize, bit: usize) -> bool {
        self.frames.words[frame + word + bit / 64] >> (bit % 64) & 1 == 1
    }

    /// Presence bits start at word zero, seen bits after them.
    pub(super) fn set_bit(&mut self, frame: usize, word: usize, bit: usize) {
        self.frames.words[frame + word + bit / 64] |= 1 << (bit % 64);
    }
}

/// Appends `"name":value`, without the value's insignificant whitespace.
pub(in crate::transcode) fn add_property(name: &[u8], value: &[u8], properties: &mut Vec<u8>) {
    if !properties.is_empty() {
        properties.push(b',');
    }
    let mut quoted = crate::transcode::buffer::Buffer::default();
    crate::transcode::json_out::write_quoted(name, &mut quoted);
    properties.extend_from_slice(quoted.content());
    properties.push(b':');
    let (mut in_string, mut escaped) = (false, false);
    for byte in value {
        if !in_string && matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
            continue;
        }
        properties.push(*byte);
        if *byte == b'"' && !escaped {
            in_string = !in_string;
        }
        escaped = in_string && *byte == b'\\' && !escaped;
    }
}

/// The number that a string consists of.
fn quoted_number(text: &[u8], kind: Kind) -> Done<Number<'_>> {
    match Number::parse(text) {
        Some(number) if number.text.len() == text.len() => Ok(number),
        _ => Err(Fail::new(
            Code::InvalidPayload,
            format!("expected {}, received a string that is not a number", kind_name(kind)),
        )),
    }
}

/// A number as a field of this kind holds it.
#[inline]
fn scalar(kind: Kind, number: &Number<'_>) -> Done<u64> {
    match kind {
        Kind::Double => {
            let value = number.float();
            if value.is_finite() { Ok(value.to_bits()) } else { Err(out_of_range(kind)) }
        }
        Kind::Float => {
            let value = number.float32();
            if value.is_finite() { Ok(u64::from(value.to_bits())) } else { Err(out_of_range(kind)) }
        }
        kind => integer(kind, number),
    }
}

#[inline]
fn integer(kind: Kind, number: &Number<'_>) -> Done<u64> {
    let Some(value) = number.integer() else {
        return Err(if number.is_integral() { out_of_range(kind) } else { not_integral() });
    };
    let word = match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => i32::try_from(value).ok().map(|value| value as u64),
        Kind::Uint32 | Kind::Fixed32 => u32::try_from(value).ok().map(u64::from),
        Kind::Uint64 | Kind::Fixed64 => u64::try_from(value).ok(),
        _ => i64::try_from(value).ok().map(|value| value as u64),
    };
    word.ok_or_else(|| out_of_range(kind))
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Enum(_) => "a 32-bit integer",
        Kind::Uint32 | Kind::Fixed32 => "an unsigned 32-bit integer",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "a 64-bit integer",
        Kind::Uint64 | Kind::Fixed64 => "an unsigned 64-bit integer",
        Kind::Float => "a 32-bit float",
        _ => "a 64-bit float",
    }
}

#[cold]
pub(in crate::transcode) fn mismatch(expected: &str, received: Token) -> Box<Fail> {
    Fail::new(Code::InvalidPayload, format!("expected {expected}, received {}", received.name()))
}

#[cold]
fn out_of_range(kind: Kind) -> Box<Fail> {
    Fail::new(Code::OutOfRange, format!("the number does not fit {}", kind_name(kind)))
}

#[cold]
fn not_integral() -> Box<Fail> {
    Fail::new(Code::InvalidPayload, "expected an integer, received a number with a fraction")
}

#[cold]
fn twice() -> Box<Fail> {
    Fail::new(Code::InvalidPayload, "the field stands there twice, perhaps in both of its spellings")
}

#[cold]
fn two_members(other: &Slot) -> Box<Fail> {
    let what = format!("`{}` of the same oneof is set too; at most one of them may be", other.json_name);
    Fail::new(Code::InvalidPayload, what)
}
