//! JSON -> datum, in one pass over the text.
//!
//! In: the text of a payload. Out: its datum, in the scratch's `out`. A record's members may come in any order: each value is
//! written as it comes, and the record is put in order when it ends. Never: the text is read twice.

use super::compile::special_float;
use super::{
    AvroPlan, AvroScratch, EXPANSION_FREE_BYTES, EXPANSION_MAX, Node, NodeId, Opaque, Seg, Whole, check_map_keys,
    close_block, expands, push_bytes, push_long, text, too_deep,
};
use crate::outcome::Code;
use crate::route::UnknownFields;
use crate::transcode::Output;
use crate::transcode::fail::{Done, Fail, shown_name};
use crate::transcode::json::{Number, Token, Tokenizer, add_property, mismatch};
use crate::transcode::slots::{DEPTH_MAX, Span};

/// A field of a record that has not come yet.
const ABSENT: (u32, u32) = (u32::MAX, u32::MAX);

/// Writes the datum of the whole payload.
pub(super) fn write_root(plan: &AvroPlan, json: &[u8], scratch: &mut AvroScratch, output: &mut Output) -> Done {
    if simdutf8::basic::from_utf8(json).is_err() {
        return Err(Fail::new(Code::InvalidUtf8, "the payload is not valid UTF-8"));
    }
    let output_bytes_max = EXPANSION_FREE_BYTES + EXPANSION_MAX * json.len();
    let mut writer = Writer { plan, tokens: Tokenizer::new(json), scratch, output, output_bytes_max };
    writer.value(plan.root, 0)?;
    writer.tokens.end()
}

struct Writer<'w, 'a> {
    plan: &'w AvroPlan,
    tokens: Tokenizer<'a>,
    scratch: &'w mut AvroScratch,
    output: &'w mut Output,
    output_bytes_max: usize,
}

impl<'a> Writer<'_, 'a> {
    fn value(&mut self, id: NodeId, depth: usize) -> Done {
        let token = self.tokens.token()?;
        match (self.plan.node(id), token) {
            (Node::Null, Token::Null) => self.tokens.null(),
            (Node::Boolean, Token::Bool) => {
                let flag = self.tokens.boolean()?;
                self.scratch.out.push(u8::from(flag));
                Ok(())
            }
            (Node::Int(whole), Token::Number | Token::String) => {
                let value = self.whole(id, whole, token)?;
                let value = i32::try_from(value).map_err(|_| self.out_of_range(id))?;
                push_long(&mut self.scratch.out, i64::from(value));
                Ok(())
            }
            (Node::Long(whole), Token::Number | Token::String) => {
                let value = self.whole(id, whole, token)?;
                let value = i64::try_from(value).map_err(|_| self.out_of_range(id))?;
                push_long(&mut self.scratch.out, value);
                Ok(())
            }
            (Node::Float, Token::Number | Token::String) => {
                let value = self.float(id, token, |number| f64::from(number.float32()))?;
                self.scratch.out.extend_from_slice(&(value as f32).to_le_bytes());
                Ok(())
            }
            (Node::Double, Token::Number | Token::String) => {
                let value = self.float(id, token, |number| number.float())?;
                self.scratch.out.extend_from_slice(&value.to_le_bytes());
                Ok(())
            }
            (Node::String, Token::String) => {
                let span = self.string()?;
                let bytes = bytes_of(self.tokens.text, &self.scratch.side, span);
                push_bytes(&mut self.scratch.out, bytes);
                self.scratch.side.clear();
                Ok(())
            }
            (Node::UuidText, Token::String) => {
                let span = self.string()?;
                let bytes = bytes_of(self.tokens.text, &self.scratch.side, span);
                text::uuid(bytes).ok_or_else(|| not_text("a UUID"))?;
                push_bytes(&mut self.scratch.out, bytes);
                self.scratch.side.clear();
                Ok(())
            }
            (Node::Enum(index), Token::String) => self.symbol(index),
            (Node::Bytes(Opaque::Decimal { precision, scale }), Token::Number | Token::String) => {
                let unscaled = self.decimal(precision, scale, token)?;
                push_bytes(&mut self.scratch.out, text::shortest(&unscaled));
                Ok(())
            }
            (Node::Fixed(size, Opaque::Decimal { precision, scale }), Token::Number | Token::String) => {
                let unscaled = self.decimal(precision, scale, token)?;
                let shortest = text::shortest(&unscaled);
                let size = size as usize;
                if shortest.len() > size {
                    return Err(self.out_of_range(id));
                }
                // Two's complement: the sign goes on to the left.
                let sign = if unscaled[0] & 0x80 == 0 { 0 } else { 0xff };
                let end = self.scratch.out.len() + size - shortest.len();
                self.scratch.out.resize(end, sign);
                self.scratch.out.extend_from_slice(shortest);
                Ok(())
            }
            (Node::Bytes(opaque), Token::String) => {
                let bytes = self.opaque(opaque)?;
                push_bytes(&mut self.scratch.out, &bytes);
                Ok(())
            }
            (Node::Fixed(size, opaque), Token::String) => {
                let bytes = self.opaque(opaque)?;
                if bytes.len() != size as usize {
                    let what = format!("expected {size} bytes, received {}", bytes.len());
                    return Err(Fail::new(Code::InvalidPayload, what));
                }
                self.scratch.out.extend_from_slice(&bytes);
                Ok(())
            }
            (Node::Union(index), token) => self.union(index, token, depth),
            (Node::Array(_) | Node::Map(_) | Node::Record(_), _) if depth >= DEPTH_MAX => Err(too_deep()),
            (Node::Array(items), Token::Array) => self.array(items, depth),
            (Node::Map(values), Token::Object) => self.map(values, depth),
            (Node::Record(index), Token::Object) => self.record(index, depth),
            (_, token) => Err(self.expected(id, token)),
        }
    }

    fn record(&mut self, index: u32, depth: usize) -> Done {
        let plan = self.plan;
        let record = plan.record(index);
        let start = self.scratch.out.len();
        let first = self.scratch.spans.len();
        self.scratch.spans.resize(first + record.fields.len(), ABSENT);
        // Senders mostly write members in the order of the schema; then there is nothing to put in order.
        let (mut next, mut in_order) = (0, true);
        self.tokens.bump();
        let mut more = !self.tokens.is_empty(b'}');
        while more {
            let name = self.tokens.member_name(&mut self.scratch.side)?;
            let bytes = bytes_of(self.tokens.text, &self.scratch.side, name);
            let guessed = record.fields.get(next).is_some_and(|field| field.name.as_bytes() == bytes);
            let found = if guessed { Some(next as u16) } else { find(record, bytes) };
            match found {
                None => self.unknown_member(index, name, depth)?,
                Some(at) => {
                    self.scratch.side.clear();
                    let field = usize::from(at);
                    self.scratch.path.push(Seg::Field { record: index, field: at });
                    if self.scratch.spans[first + field] != ABSENT {
                        return Err(Fail::new(Code::InvalidPayload, "the field stands there twice"));
                    }
                    let from = self.scratch.out.len();
                    self.value(record.fields[field].node, depth + 1)?;
                    // The expansion limit keeps a datum far below 4 GiB.
                    self.scratch.spans[first + field] = (from as u32, self.scratch.out.len() as u32);
                    self.scratch.path.pop();
                    in_order &= field == next;
                    next = field + 1;
                }
            }
            more = self.tokens.more(b'}')?;
        }
        if !in_order || next != record.fields.len() {
            self.put_in_order(index, start, first)?;
        }
        self.scratch.spans.truncate(first);
        if depth == 0 {
            self.check_property_names()?;
        }
        self.check_expansion()
    }

    /// Copies the fields of the record that begins at `start` into their order, with the defaults of those that are absent.
    fn put_in_order(&mut self, index: u32, start: usize, first: usize) -> Done {
        let AvroScratch { out, spare, spans, path, .. } = &mut *self.scratch;
        spare.clear();
        for (at, field) in self.plan.record(index).fields.iter().enumerate() {
            match (spans[first + at], &field.default) {
                (ABSENT, Some(default)) => spare.extend_from_slice(default),
                (ABSENT, None) => {
                    path.push(Seg::Field { record: index, field: at as u16 });
                    let what = "the field is missing, and it has no default and is never null";
                    return Err(Fail::new(Code::MissingField, what));
                }
                ((from, to), _) => spare.extend_from_slice(&out[from as usize..to as usize]),
            }
        }
        out.truncate(start);
        out.extend_from_slice(spare);
        Ok(())
    }

    #[cold]
    fn unknown_member(&mut self, index: u32, name: Span, depth: usize) -> Done {
        let bytes = bytes_of(self.tokens.text, &self.scratch.side, name).to_vec();
        self.scratch.side.clear();
        self.tokens.token()?;
        let start = self.tokens.pos;
        if depth == 0 && self.plan.unknown_fields == UnknownFields::Properties {
            self.tokens.skip_value(1, &mut self.scratch.side)?;
            add_property(&bytes, &self.tokens.text[start..self.tokens.pos], &mut self.output.properties);
            self.scratch.unknown.push(bytes);
            return Ok(());
        }
        let described = format!("`{}` has no field `{}`", self.plan.record(index).name, shown_name(&bytes));
        if self.plan.unknown_fields == UnknownFields::Reject {
            let what = format!("{described}; remove it or set `unknown_fields`");
            return Err(Fail::new(Code::UnknownField, what));
        }
        if self.output.fields_dropped == 0 {
            self.output.first_dropped = format!("{}: {described}", self.plan.path_text(&self.scratch.path));
        }
        self.output.fields_dropped = self.output.fields_dropped.saturating_add(1);
        self.tokens.skip_value(depth + 1, &mut self.scratch.side)
    }

    /// Two properties of one name would be one property to their reader.
    fn check_property_names(&mut self) -> Done {
        let unknown = &mut self.scratch.unknown;
        unknown.sort_unstable();
        match unknown.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(()),
            Some(pair) => {
                let name = shown_name(&pair[0]);
                Err(Fail::new(Code::InvalidPayload, format!("member `{name}` stands there twice")))
            }
        }
    }

    fn array(&mut self, items: NodeId, depth: usize) -> Done {
        let start = self.scratch.out.len();
        let mut index = 0;
        self.tokens.bump();
        let mut more = !self.tokens.is_empty(b']');
        while more {
            self.scratch.path.push(Seg::Item(index));
            self.value(items, depth + 1)?;
            self.scratch.path.pop();
            index += 1;
            more = self.tokens.more(b']')?;
        }
        close_block(&mut self.scratch.out, start, index);
        Ok(())
    }

    fn map(&mut self, values: NodeId, depth: usize) -> Done {
        let (start, first) = (self.scratch.out.len(), self.scratch.keys.len());
        let mut index = 0;
        self.tokens.bump();
        let mut more = !self.tokens.is_empty(b'}');
        while more {
            let key = self.tokens.member_name(&mut self.scratch.side)?;
            let bytes = bytes_of(self.tokens.text, &self.scratch.side, key);
            push_bytes(&mut self.scratch.out, bytes);
            let end = self.scratch.out.len();
            self.scratch.keys.push(((end - bytes.len()) as u32, end as u32));
            self.scratch.side.clear();
            self.scratch.path.push(Seg::Item(index));
            self.value(values, depth + 1)?;
            self.scratch.path.pop();
            index += 1;
            more = self.tokens.more(b'}')?;
        }
        check_map_keys(&mut self.scratch.keys, first, &self.scratch.out)?;
        close_block(&mut self.scratch.out, start, index);
        Ok(())
    }

    fn union(&mut self, index: u32, token: Token, depth: usize) -> Done {
        let plan = self.plan;
        let branches = plan.unions[index as usize].as_slice();
        let is_null = |node: NodeId| plan.node(node) == Node::Null;
        let others = branches.iter().filter(|branch| !is_null(branch.node)).count();
        let wanted = |at: usize| match token {
            Token::Null => is_null(branches[at].node),
            _ if others == 1 => !is_null(branches[at].node),
            Token::Object => false,
            token => plan.takes(branches[at].node, token),
        };
        let mut fitting = (0..branches.len()).filter(|at| wanted(*at));
        match (fitting.next(), fitting.next()) {
            (Some(at), None) => {
                push_long(&mut self.scratch.out, at as i64);
                self.value(branches[at].node, depth)
            }
            (None, _) if token == Token::Object => self.tagged(index, depth),
            (None, _) => Err(mismatch(&plan.branches_text(index), token)),
            (Some(at), Some(_)) => {
                let (received, name) = (token.name(), &branches[at].name);
                let what = format!(
                    "several types of the union take {received}; name the one that is meant, as in `{{\"{name}\": …}}`"
                );
                Err(Fail::new(Code::InvalidPayload, what))
            }
        }
    }

    /// `{"TYPE": value}`, as in Avro's JSON encoding.
    fn tagged(&mut self, index: u32, depth: usize) -> Done {
        let plan = self.plan;
        if depth >= DEPTH_MAX {
            return Err(too_deep());
        }
        let wrong = || {
            let what = format!("expected one member whose name is the type: {}", plan.branches_text(index));
            Fail::new(Code::InvalidPayload, what)
        };
        self.tokens.bump();
        if self.tokens.is_empty(b'}') {
            return Err(wrong());
        }
        let tag = self.tokens.member_name(&mut self.scratch.side)?;
        let bytes = bytes_of(self.tokens.text, &self.scratch.side, tag);
        let branches = &plan.unions[index as usize];
        let at = branches.iter().position(|branch| branch.name.as_bytes() == bytes).ok_or_else(wrong)?;
        self.scratch.side.clear();
        push_long(&mut self.scratch.out, at as i64);
        self.value(branches[at].node, depth + 1)?;
        if self.tokens.more(b'}')? { Err(wrong()) } else { Ok(()) }
    }

    fn symbol(&mut self, index: u32) -> Done {
        let span = self.string()?;
        let bytes = bytes_of(self.tokens.text, &self.scratch.side, span);
        let known = &self.plan.enums[index as usize];
        let ordinal = std::str::from_utf8(bytes).ok().and_then(|symbol| known.ordinals.get(symbol));
        let Some(ordinal) = ordinal else {
            let what = format!("the string is none of the symbols of enum `{}`", known.name);
            return Err(Fail::new(Code::UnknownEnumValue, what));
        };
        push_long(&mut self.scratch.out, i64::from(*ordinal));
        self.scratch.side.clear();
        Ok(())
    }

    /// An integer, or what stands for one in text.
    fn whole(&mut self, id: NodeId, whole: Whole, token: Token) -> Done<i128> {
        if token == Token::Number {
            return integer(&self.tokens.number()?);
        }
        let span = self.string()?;
        let bytes = bytes_of(self.tokens.text, &self.scratch.side, span);
        let value = match (whole, whole_number(bytes)) {
            (Whole::Number, Some(number)) => integer(&number),
            (Whole::Number, None) => Err(not_text(self.plan.type_name(id))),
            (Whole::Date, _) => {
                text::date(bytes).map(i128::from).ok_or_else(|| not_text("a date such as `2026-01-31`"))
            }
            (Whole::Time(per_second), _) => {
                text::time(bytes, per_second).ok_or_else(|| not_text("a time such as `08:30:00.125`"))
            }
            (Whole::Timestamp(per_second), _) => text::timestamp(bytes, per_second)
                .ok_or_else(|| not_text("an RFC 3339 timestamp such as `2026-01-31T08:30:00Z`")),
            (Whole::LocalTimestamp(per_second), _) => text::local_timestamp(bytes, per_second)
                .ok_or_else(|| not_text("a timestamp without offset such as `2026-01-31T08:30:00`")),
        };
        self.scratch.side.clear();
        value
    }

    fn float(&mut self, id: NodeId, token: Token, read: impl Fn(&Number<'_>) -> f64) -> Done<f64> {
        let number = if token == Token::Number {
            read(&self.tokens.number()?)
        } else {
            let span = self.string()?;
            let bytes = bytes_of(self.tokens.text, &self.scratch.side, span);
            let special = std::str::from_utf8(bytes).ok().and_then(special_float);
            let number = match (special, whole_number(bytes)) {
                (Some(special), _) => return Ok(special),
                (None, Some(number)) => read(&number),
                (None, None) => return Err(not_text(self.plan.type_name(id))),
            };
            self.scratch.side.clear();
            number
        };
        if number.is_finite() { Ok(number) } else { Err(self.out_of_range(id)) }
    }

    /// The unscaled value, in two's complement, big endian.
    fn decimal(&mut self, precision: u32, scale: u32, token: Token) -> Done<[u8; 16]> {
        let unscaled = if token == Token::Number {
            text::decimal(self.tokens.number()?.text, precision, scale)
        } else {
            let span = self.string()?;
            let bytes = bytes_of(self.tokens.text, &self.scratch.side, span);
            let unscaled = match whole_number(bytes) {
                Some(number) => text::decimal(number.text, precision, scale),
                None => return Err(not_text("a decimal such as `12.50`")),
            };
            self.scratch.side.clear();
            unscaled
        };
        let too_many = || {
            let what = format!("the number does not fit a decimal of {precision} digits, {scale} of them fractional");
            Fail::new(Code::OutOfRange, what)
        };
        unscaled.map(i128::to_be_bytes).ok_or_else(too_many)
    }

    /// Bytes that stand as text.
    fn opaque(&mut self, opaque: Opaque) -> Done<Vec<u8>> {
        let span = self.string()?;
        let bytes = bytes_of(self.tokens.text, &self.scratch.side, span);
        let mut decoded = Vec::new();
        match opaque {
            Opaque::Uuid => decoded.extend_from_slice(&text::uuid(bytes).ok_or_else(|| not_text("a UUID"))?),
            _ if text::base64(bytes, &mut decoded) => {}
            _ => return Err(not_text("base64")),
        }
        self.scratch.side.clear();
        Ok(decoded)
    }

    /// Takes a string, whose quote is next.
    fn string(&mut self) -> Done<Span> {
        self.tokens.bump();
        self.tokens.string(&mut self.scratch.side)
    }

    fn check_expansion(&self) -> Done {
        if self.scratch.out.len() <= self.output_bytes_max {
            return Ok(());
        }
        Err(expands(self.tokens.text.len(), self.output_bytes_max))
    }

    #[cold]
    fn expected(&self, id: NodeId, token: Token) -> Box<Fail> {
        let expected = match self.plan.node(id) {
            Node::Record(_) | Node::Map(_) => "an object",
            Node::Array(_) => "an array",
            Node::String | Node::UuidText | Node::Enum(_) | Node::Bytes(_) | Node::Fixed(..) => "a string",
            Node::Boolean => "a boolean",
            Node::Null => "null",
            _ => "a number",
        };
        let received = token.name();
        let what = format!("expected {expected} for `{}`, received {received}", self.plan.type_name(id));
        Fail::new(Code::InvalidPayload, what)
    }

    #[cold]
    fn out_of_range(&self, id: NodeId) -> Box<Fail> {
        Fail::new(Code::OutOfRange, format!("the number does not fit `{}`", self.plan.type_name(id)))
    }
}

impl AvroPlan {
    /// Whether JSON of this kind may be a value of the type.
    fn takes(&self, id: NodeId, token: Token) -> bool {
        match self.node(id) {
            Node::Null | Node::Union(_) => false,
            Node::Boolean => token == Token::Bool,
            // Numbers in strings are a courtesy, and none where a string may be meant.
            Node::Int(Whole::Number) | Node::Long(Whole::Number) | Node::Float | Node::Double => token == Token::Number,
            Node::Int(_) | Node::Long(_) => matches!(token, Token::Number | Token::String),
            Node::Bytes(Opaque::Decimal { .. }) | Node::Fixed(_, Opaque::Decimal { .. }) => {
                matches!(token, Token::Number | Token::String)
            }
            Node::Bytes(_) | Node::Fixed(..) | Node::String | Node::UuidText | Node::Enum(_) => token == Token::String,
            Node::Array(_) => token == Token::Array,
            Node::Map(_) | Node::Record(_) => token == Token::Object,
        }
    }

    fn branches_text(&self, union: u32) -> String {
        let names: Vec<_> = self.unions[union as usize].iter().map(|branch| format!("`{}`", branch.name)).collect();
        names.join(" or ")
    }
}

fn find(record: &super::Record, name: &[u8]) -> Option<u16> {
    let field = |at: &u16| record.fields[usize::from(*at)].name.as_bytes();
    record.by_name.binary_search_by(|at| field(at).cmp(name)).ok().map(|at| record.by_name[at])
}

fn bytes_of<'t>(text: &'t [u8], side: &'t [u8], span: Span) -> &'t [u8] {
    let from = if span.is_side() { side } else { text };
    &from[span.range()]
}

/// The number that the whole text is.
fn whole_number(text: &[u8]) -> Option<Number<'_>> {
    Number::parse(text).filter(|number| number.text.len() == text.len())
}

fn integer(number: &Number<'_>) -> Done<i128> {
    number.integer().ok_or_else(|| match number.is_integral() {
        true => Fail::new(Code::OutOfRange, "the number does not fit 64 bits"),
        false => Fail::new(Code::InvalidPayload, "expected an integer, received a number with a fraction"),
    })
}

#[cold]
fn not_text(expected: &str) -> Box<Fail> {
    Fail::new(Code::InvalidPayload, format!("the string is not {expected}"))
}
