//! The Avro front-end: a datum -> frames.
//!
//! In: a datum, the program of its schema. Out: the same slots that the other front-ends fill, strings as spans of the
//! datum. Never: a tree, or trust in what the datum says of itself.

use super::datum::{Datum, cost, malformed};
use super::program::{FieldProgram, Fill, Program, Read};
use super::schema::AvroSchema;
use super::text::decimal;
use crate::outcome::Code;
use crate::transcode::buffer::Buffer;
use crate::transcode::fail::{Done, Fail, Naming, Step};
use crate::transcode::json;
use crate::transcode::maps::{self, KEY, VALUE};
use crate::transcode::plan::{Kind, Plan};
use crate::transcode::slots::{DEPTH_MAX, Frames, Holds, List, Notes, Span, append, missing_field, too_deep};
use crate::transcode::time;

/// The state of reading one datum.
pub(super) struct Filler<'r, 'a> {
    pub(super) schema: &'r AvroSchema,
    pub(super) program: &'r Program,
    pub(super) plan: &'r Plan,
    pub(super) datum: Datum<'a>,
    pub(super) frames: Frames<'r>,
    pub(super) side: &'r mut Vec<u8>,
    pub(super) path: &'r mut Vec<Step>,
    pub(super) order: &'r mut Vec<(u64, u32)>,
    pub(super) unknown: &'r mut Vec<u64>,
    pub(super) notes: Notes<'r>,
    pub(super) out: &'r mut Buffer,
}

impl Filler<'_, '_> {
    /// Reads the whole datum; returns the root's frame.
    pub(super) fn root(&mut self) -> Done<usize> {
        let frame = self.frames.frame(&self.plan.tables[0])?;
        let program = self.program;
        self.message(&program.root, 0, frame, Step::field(0, 0))?;
        self.datum.end()?;
        Ok(frame)
    }

    /// Reads a message into its frame. `step` is the field that it stands in.
    fn message(&mut self, read: &Read, child: u16, frame: usize, step: Step) -> Done {
        let table = &self.plan.tables[usize::from(child)];
        let first = frame + table.values_at;
        match read {
            Read::Record(_, record) => return self.record(*record, frame),
            Read::Timestamp(_, per_second) => {
                let (seconds, nanos) = time::split(self.datum.long()?, *per_second);
                self.frames.words[first] = seconds as u64;
                self.frames.words[first + 1] = nanos as u64;
            }
            Read::Duration(_) => {
                let micros = self.datum.long()?;
                self.frames.words[first] = (micros / 1_000_000) as u64;
                self.frames.words[first + 1] = (micros % 1_000_000 * 1_000) as u64;
            }
            Read::Wrapper(_, inner) => {
                if let Some(value) = self.value(inner, step)? {
                    self.frames.words[first] = value;
                }
            }
            Read::JsonText(_) => {
                let run = self.datum.text()?;
                let mut tokens = json::Tokenizer::new(&self.datum.bytes[..run.end]);
                tokens.pos = run.start;
                let mut reader = json::Reader {
                    plan: self.plan,
                    tokens,
                    frames: Frames { words: self.frames.words, nodes: self.frames.nodes },
                    side: self.side,
                    path: self.path,
                    order: self.order,
                    unknown: self.unknown,
                    notes: Notes { output: self.notes.output },
                    out: self.out,
                    any: json::AnyState::default(),
                };
                json::read_inner(&mut reader, child, frame)?;
            }
            _ => unreachable!("scalars are read by `value`"),
        }
        Ok(())
    }

    fn record(&mut self, index: u32, frame: usize) -> Done {
        let program = self.program;
        let record = &program.records[index as usize];
        self.datum.spend(cost(&record.fields))?;
        for field in &record.fields {
            self.field(record.table, frame, field)?;
        }
        let table = &self.plan.tables[usize::from(record.table)];
        match table.required.iter().find(|slot| !self.is_present(frame, **slot)) {
            None => Ok(()),
            Some(slot) => Err(missing_field().at(Step::field(record.table, *slot))),
        }
    }

    fn field(&mut self, table: u16, frame: usize, field: &FieldProgram) -> Done {
        if let Fill::Unknown = field.fill {
            return self.unknown_field(table, field);
        }
        let (Fill::One { slot, .. }
        | Fill::Packed { slot, .. }
        | Fill::List { slot, .. }
        | Fill::Map { slot, .. }
        | Fill::Entries { slot, .. }) = field.fill
        else {
            unreachable!("unknown fields are gone")
        };
        let step = Step::field(table, slot);
        if let Some(null) = field.null {
            let branch = self.datum.choice(2, "branch").map_err(|fail| fail.at(step))?;
            if branch as i64 == null {
                return Ok(());
            }
        }
        let word = frame + self.plan.tables[usize::from(table)].at(slot);
        match &field.fill {
            Fill::One { read, absent, .. } => self.one(read, absent.as_deref(), frame, step),
            Fill::Packed { read, .. } => self.packed(read, word, step),
            Fill::List { read, .. } => self.list(read, word, step),
            Fill::Map { read, .. } => self.map(read, word, step),
            Fill::Entries { record, .. } => self.entries(*record, word, step),
            Fill::Unknown => Ok(()),
        }
    }

    /// A field that the message does not have: counted if it says anything, and refused where unknown fields are.
    fn unknown_field(&mut self, table: u16, field: &FieldProgram) -> Done {
        let start = self.datum.pos;
        self.datum.skip(self.schema, field.node, 0)?;
        let null = field.null.map(|null| [(null as u8) << 1]);
        let bytes = &self.datum.bytes[start..self.datum.pos];
        if bytes.iter().all(|byte| *byte == 0) || null.is_some_and(|null| bytes == null) {
            return Ok(());
        }
        let message = &self.plan.tables[usize::from(table)].name;
        let describe = || format!("`{message}` has no field for `{}`", field.name);
        self.notes.unknown_field(self.plan, self.path, Naming::Wire, &describe)
    }

    fn one(&mut self, read: &Read, absent: Option<&[u8]>, frame: usize, step: Step) -> Done {
        let start = self.datum.pos;
        let Some(value) = self.value(read, step)? else { return Ok(()) };
        if absent.is_some_and(|absent| self.datum.bytes[start..self.datum.pos] == *absent) {
            return Ok(());
        }
        let table = &self.plan.tables[usize::from(step.table)];
        let slot = &table.slots[usize::from(step.slot)];
        if let Some(case) = slot.oneof {
            let chosen = u64::from(step.slot) + 1;
            let before = std::mem::replace(&mut self.frames.words[frame + usize::from(case)], chosen);
            if before != 0 {
                let other = &table.slots[before as usize - 1].name;
                let what = format!("`{other}` of the same oneof is set too; at most one of them may be");
                return Err(Fail::new(Code::InvalidPayload, what).at(step));
            }
        }
        let word = frame + table.at(step.slot);
        match slot.kind {
            Kind::Message(_) => self.frames.append(word, value, Holds::Frame)?,
            _ => self.frames.words[word] = value,
        }
        self.frames.words[frame + usize::from(step.slot) / 64] |= 1 << (step.slot % 64);
        Ok(())
    }

    /// Scalars become one packed run, as a sender of Protobuf would write them, so that a long list takes no nodes.
    fn packed(&mut self, read: &Read, word: usize, step: Step) -> Done {
        let kind = self.plan.tables[usize::from(step.table)].slots[usize::from(step.slot)].kind;
        let start = self.side.len();
        let (mut kept, mut index) = (0, 0);
        while let Some(count) = self.datum.block().map_err(|fail| fail.at(step))? {
            for _ in 0..count {
                if let Some(value) = self.value(read, Step { index, ..step })? {
                    push_packed(kind, value, self.side);
                    kept += 1;
                }
                index += 1;
            }
        }
        match kept {
            0 => Ok(()),
            kept => {
                let span = Span::side(start, self.side.len() - start);
                self.frames.append(word, span.0, Holds::Packed(kept))
            }
        }
    }

    fn list(&mut self, read: &Read, word: usize, step: Step) -> Done {
        let slot = &self.plan.tables[usize::from(step.table)].slots[usize::from(step.slot)];
        let holds = if let Kind::Message(_) = slot.kind { Holds::Frame } else { Holds::Value };
        let mut index = 0;
        while let Some(count) = self.datum.block().map_err(|fail| fail.at(step))? {
            for _ in 0..count {
                if let Some(value) = self.value(read, Step { index, ..step })? {
                    append(&mut self.frames.words[word], self.frames.nodes, value, holds)?;
                }
                index += 1;
            }
        }
        Ok(())
    }

    fn map(&mut self, read: &Read, word: usize, step: Step) -> Done {
        let entry = self.entry(step);
        let table = &self.plan.tables[usize::from(entry)];
        let mut index = 0;
        while let Some(count) = self.datum.block().map_err(|fail| fail.at(step))? {
            for _ in 0..count {
                let step = Step { index, ..step };
                let key = self.datum.text().map_err(|fail| fail.at(step))?;
                let frame = self.frames.frame(table)?;
                self.frames.words[frame + table.values_at + KEY] = Span::payload(key.start, key.len()).0;
                if let Some(value) = self.value(read, step)? {
                    let at = frame + table.values_at + VALUE;
                    match table.slots[VALUE].kind {
                        Kind::Message(_) => self.frames.append(at, value, Holds::Frame)?,
                        _ => self.frames.words[at] = value,
                    }
                    self.frames.append(word, frame as u64, Holds::Frame)?;
                }
                index += 1;
            }
        }
        self.check_keys(entry, word, step)
    }

    fn entries(&mut self, record: u32, word: usize, step: Step) -> Done {
        let entry = self.entry(step);
        let table = &self.plan.tables[usize::from(entry)];
        let mut index = 0;
        while let Some(count) = self.datum.block().map_err(|fail| fail.at(step))? {
            for _ in 0..count {
                let frame = self.frames.frame(table)?;
                // Senders know the map, not the entry message.
                self.record(record, frame).map_err(|mut fail| {
                    if fail.at.is_none_or(|at| at.table == entry) {
                        fail.at = Some(Step { index, ..step });
                    }
                    fail
                })?;
                self.frames.append(word, frame as u64, Holds::Frame)?;
                index += 1;
            }
        }
        self.check_keys(entry, word, step)
    }

    fn entry(&self, step: Step) -> u16 {
        let slot = &self.plan.tables[usize::from(step.table)].slots[usize::from(step.slot)];
        let Kind::Message(entry) = slot.kind else { unreachable!("a map's kind is its entry") };
        entry
    }

    fn check_keys(&mut self, entry: u16, word: usize, step: Step) -> Done {
        let table = &self.plan.tables[usize::from(entry)];
        let (list, bytes) = (List(self.frames.words[word]), self.datum.bytes);
        match maps::find_duplicates(&self.frames, table, list, self.order, &|span: Span| &bytes[span.range()]) {
            None => Ok(()),
            Some(_) => Err(Fail::new(Code::InvalidPayload, "the map has the same key twice").at(step)),
        }
    }

    /// Reads one value: a scalar as a slot holds it, a span, or the index of a frame. None: an enum's symbol that the
    /// message does not have and that is to be left out.
    fn value(&mut self, read: &Read, step: Step) -> Done<Option<u64>> {
        let value = match read {
            Read::Bool => self.datum.boolean().map(u64::from),
            Read::Int => self.datum.int().map(|number| number as u64),
            Read::IntAsUnsigned => self.datum.int().map(|number| u64::from(number as u32)),
            Read::Long => self.datum.long().map(|number| number as u64),
            Read::Unsigned32 => self.datum.long().and_then(|number| match u32::try_from(number) {
                Ok(number) => Ok(u64::from(number)),
                Err(_) => Err(Fail::new(Code::OutOfRange, "the number does not fit an unsigned 32-bit integer")),
            }),
            Read::Float => self.datum.float().map(u64::from),
            Read::FloatAsDouble => self.datum.float().map(|bits| f64::from(f32::from_bits(bits)).to_bits()),
            Read::Double => self.datum.double(),
            Read::Text => self.datum.text().map(|run| Span::payload(run.start, run.len()).0),
            Read::Bytes => self.datum.run().map(|run| Span::payload(run.start, run.len()).0),
            Read::Fixed(size) => self.datum.fixed(*size).map(|_| Span::payload(self.datum.pos - size, *size).0),
            Read::Decimal => self.decimal(),
            Read::Enum(en) => return self.symbol(*en, step),
            Read::EnumText(en) => self.symbol_text(*en),
            Read::Record(child, _)
            | Read::Timestamp(child, _)
            | Read::Duration(child)
            | Read::Wrapper(child, _)
            | Read::JsonText(child) => {
                if self.path.len() >= DEPTH_MAX {
                    return Err(too_deep().at(step));
                }
                self.path.push(step);
                let frame = self.frames.frame(&self.plan.tables[usize::from(*child)])?;
                self.message(read, *child, frame, step).map_err(|mut fail| {
                    // Inside these nobody knows fields: the path ends at the message.
                    if !matches!(read, Read::Record(..)) {
                        fail.at = None;
                    }
                    fail
                })?;
                self.path.pop();
                return Ok(Some(frame as u64));
            }
        };
        value.map(Some).map_err(|fail| fail.at(step))
    }

    fn decimal(&mut self) -> Done<u64> {
        let run = self.datum.run()?;
        let number = if run.is_empty() { Some(0) } else { decimal(&self.datum.bytes[run]) };
        number
            .and_then(|number| u64::try_from(number).ok())
            .ok_or_else(|| Fail::new(Code::OutOfRange, "the decimal does not fit an unsigned 64-bit integer"))
    }

    fn symbol(&mut self, en: u32, step: Step) -> Done<Option<u64>> {
        let program = self.program;
        let numbers = &program.enums[en as usize];
        let at = self.datum.choice(numbers.len(), "symbol").map_err(|fail| fail.at(step))?;
        match numbers[at] {
            Some(number) => Ok(Some(number as u64)),
            None => {
                let slot = &self.plan.tables[usize::from(step.table)].slots[usize::from(step.slot)].name;
                let describe = || format!("`{slot}` has symbol number {at}, which the message's enum does not have");
                let noted = self.notes.unknown_field(self.plan, self.path, Naming::Wire, &describe);
                noted.map_err(|mut fail| {
                    fail.code = Code::UnknownEnumValue;
                    fail.at(step)
                })?;
                Ok(None)
            }
        }
    }

    fn symbol_text(&mut self, en: u16) -> Done<u64> {
        let run = self.datum.text()?;
        let text = std::str::from_utf8(&self.datum.bytes[run]).map_err(|_| malformed("the string is not UTF-8"))?;
        let table = &self.plan.enums[usize::from(en)];
        let number = table.number(text.as_bytes()).or_else(|| text.parse().ok());
        number.map(|number: i32| number as u64).ok_or_else(|| {
            let what = format!("the string is neither a symbol of enum `{}` nor a number", table.name);
            Fail::new(Code::UnknownEnumValue, what)
        })
    }

    fn is_present(&self, frame: usize, slot: u16) -> bool {
        self.frames.words[frame + usize::from(slot) / 64] >> (slot % 64) & 1 == 1
    }
}

/// Appends a scalar to a packed run.
fn push_packed(kind: Kind, word: u64, run: &mut Vec<u8>) {
    let mut varint = match kind {
        Kind::Fixed32 | Kind::Sfixed32 | Kind::Float => return run.extend_from_slice(&(word as u32).to_le_bytes()),
        Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => return run.extend_from_slice(&word.to_le_bytes()),
        Kind::Sint32 | Kind::Sint64 => (word << 1) ^ ((word as i64) >> 63) as u64,
        _ => word,
    };
    while varint >= 0x80 {
        run.push(varint as u8 | 0x80);
        varint >>= 7;
    }
    run.push(varint as u8);
}
