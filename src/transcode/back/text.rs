//! An Avro datum as JSON text for people, by the names of its Avro schema.
//!
//! In: a datum and its schema. Out: JSON on one line: unions plain, bytes as base64, timestamps as RFC 3339, decimals as
//! strings, members and map entries in the order of the datum, masked paths as `"***"`. Never: proto3 JSON, which
//! [`super::AvroReader`] writes; a tree.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::datum::{Datum, VALUE_DEPTH_MAX, cost};
use super::mask::{MASK, Mask};
use super::schema::{AvroSchema, Logical, Node, NodeId, NodeKind, Record};
use crate::outcome::EventError;
use crate::transcode::buffer::Buffer;
use crate::transcode::fail::{Done, Fail};
use crate::transcode::json_out::write_quoted;
use crate::transcode::slots::too_deep;
use crate::transcode::time;

/// Text that a datum may become: a few bytes can stand for many long names.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// Digits behind the point up to which a decimal is text: all that 128 bits hold.
const SCALE_MAX: u32 = 38;

impl AvroSchema {
    /// Whether the bytes are one datum of the schema, as long as it says it is.
    ///
    /// # Errors
    /// As [`AvroSchema::to_json`].
    pub fn check(&self, datum: &[u8]) -> Result<(), EventError> {
        let mut datum = Datum::new(datum);
        let done = datum.skip(self, self.root, 0).and_then(|()| datum.end());
        done.map_err(|fail| EventError::new(fail.code, format!("$: {}", fail.what)))
    }

    /// A datum as JSON text; what `mask` names is masked.
    ///
    /// # Errors
    /// When the bytes are not one datum of the schema. The message names the place by its path.
    pub fn to_json(&self, datum: &[u8], mask: &Mask) -> Result<String, EventError> {
        let mut writer = Writer { schema: self, datum: Datum::new(datum), out: Buffer::default(), path: Vec::new() };
        let active: Vec<&[String]> = mask.paths().collect();
        let done = writer.value(self.root, &active, 0).and_then(|()| writer.datum.end());
        match done {
            Ok(()) => Ok(String::from_utf8_lossy(writer.out.content()).into_owned()),
            Err(fail) => {
                let path: String = writer.path.iter().map(|name| format!(".{name}")).collect();
                Err(EventError::new(fail.code, format!("${path}: {}", fail.what)))
            }
        }
    }
}

struct Writer<'a> {
    schema: &'a AvroSchema,
    datum: Datum<'a>,
    out: Buffer,
    /// Names of the fields that lead here.
    path: Vec<&'a str>,
}

impl<'a> Writer<'a> {
    /// Writes one value; `active` is what is left of the paths that lead here.
    fn value(&mut self, id: NodeId, active: &[&[String]], depth: usize) -> Done {
        let Node { kind, logical, .. } = self.schema.node(id);
        if depth > VALUE_DEPTH_MAX {
            return Err(too_deep());
        }
        if let NodeKind::Union(branches) = kind {
            let branch = self.datum.choice(branches.len(), "branch")?;
            return self.value(branches[branch], active, depth + 1);
        }
        if active.iter().any(|path| path.is_empty()) && !matches!(kind, NodeKind::Null) {
            self.datum.skip(self.schema, id, depth)?;
            self.out.slice(MASK);
            return Ok(());
        }
        match kind {
            NodeKind::Array(items) => self.array(*items, active, depth)?,
            NodeKind::Map(values) => self.map(*values, active, depth)?,
            NodeKind::Record(record) => self.record(record, active, depth)?,
            kind => self.scalar(kind, *logical)?,
        }
        if self.out.len() <= TEXT_BYTES_MAX {
            return Ok(());
        }
        let what = format!("the datum would become more than {TEXT_BYTES_MAX} bytes of JSON");
        Err(Fail::new(crate::outcome::Code::PayloadExpands, what))
    }

    fn array(&mut self, items: NodeId, active: &[&[String]], depth: usize) -> Done {
        self.out.byte(b'[');
        let mut first = true;
        while let Some(count) = self.datum.block()? {
            for _ in 0..count {
                self.comma(&mut first);
                self.value(items, active, depth + 1)?;
            }
        }
        self.out.byte(b']');
        Ok(())
    }

    /// The keys of a map are no field names: paths go on in its values.
    fn map(&mut self, values: NodeId, active: &[&[String]], depth: usize) -> Done {
        self.out.byte(b'{');
        let mut first = true;
        while let Some(count) = self.datum.block()? {
            for _ in 0..count {
                self.comma(&mut first);
                let key = self.datum.text()?;
                write_quoted(&self.datum.bytes[key], &mut self.out);
                self.out.byte(b':');
                self.value(values, active, depth + 1)?;
            }
        }
        self.out.byte(b'}');
        Ok(())
    }

    fn record(&mut self, record: &'a Record, active: &[&[String]], depth: usize) -> Done {
        self.datum.spend(cost(&record.fields))?;
        self.out.byte(b'{');
        let mut first = true;
        for field in &record.fields {
            self.comma(&mut first);
            write_quoted(field.name.as_bytes(), &mut self.out);
            self.out.byte(b':');
            let steps = active.iter().filter_map(|path| path.split_first());
            let below: Vec<_> = steps.filter(|(step, _)| **step == field.name).map(|(_, rest)| rest).collect();
            self.path.push(&field.name);
            self.value(field.node, &below, depth + 1)?;
            self.path.pop();
        }
        self.out.byte(b'}');
        Ok(())
    }

    fn scalar(&mut self, kind: &NodeKind, logical: Logical) -> Done {
        match kind {
            NodeKind::Boolean => {
                let flag = self.datum.boolean()?;
                self.out.slice(if flag { b"true" } else { b"false" });
            }
            NodeKind::Int => {
                let number = self.datum.int()?;
                self.out.slice(number.to_string().as_bytes());
            }
            NodeKind::Long => {
                let number = self.datum.long()?;
                match logical {
                    Logical::Timestamp { per_second } => self.timestamp(number, per_second),
                    _ => self.out.slice(number.to_string().as_bytes()),
                }
            }
            NodeKind::Float => {
                let number = f32::from_bits(self.datum.float()?);
                self.number(f64::from(number), &number);
            }
            NodeKind::Double => {
                let number = f64::from_bits(self.datum.double()?);
                self.number(number, &number);
            }
            NodeKind::Bytes => {
                let run = self.datum.run()?;
                let bytes = &self.datum.bytes[run];
                self.bytes(bytes, logical);
            }
            NodeKind::Fixed(size) => {
                let bytes = self.datum.fixed(*size)?;
                self.bytes(bytes, logical);
            }
            NodeKind::String => {
                let run = self.datum.text()?;
                write_quoted(&self.datum.bytes[run], &mut self.out);
            }
            NodeKind::Enum(en) => {
                let symbol = self.datum.choice(en.symbols.len(), "symbol")?;
                write_quoted(en.symbols[symbol].as_bytes(), &mut self.out);
            }
            _ => self.out.slice(b"null"),
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8], logical: Logical) {
        match (logical, decimal(bytes)) {
            (Logical::Decimal { scale }, Some(number)) if scale <= SCALE_MAX => {
                write_quoted(decimal_text(number, scale as usize).as_bytes(), &mut self.out);
            }
            _ => write_quoted(STANDARD.encode(bytes).as_bytes(), &mut self.out),
        }
    }

    /// JSON has no NaN and no infinities; proto3 JSON writes them as strings.
    fn number(&mut self, wide: f64, exact: &impl serde::Serialize) {
        if wide.is_finite() {
            serde_json::to_writer(&mut self.out, exact).expect("writing a number into memory cannot fail");
        } else if wide.is_nan() {
            self.out.slice(b"\"NaN\"");
        } else {
            self.out.slice(if wide > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" });
        }
    }

    fn timestamp(&mut self, count: i64, per_second: i64) {
        let (seconds, nanos) = time::split(count, per_second);
        match time::timestamp_in_range(seconds, nanos, false) {
            Ok((seconds, nanos)) => write_quoted(time::timestamp_text(seconds, nanos).as_bytes(), &mut self.out),
            // RFC 3339 ends with the year 9999; the number itself is better than nothing.
            Err(_) => self.out.slice(count.to_string().as_bytes()),
        }
    }

    fn comma(&mut self, first: &mut bool) {
        if !std::mem::take(first) {
            self.out.byte(b',');
        }
    }
}

/// A decimal with as many digits behind the point as its scale says: 1250 of scale 2 is `12.50`.
fn decimal_text(number: i128, scale: usize) -> String {
    let digits = format!("{:0width$}", number.unsigned_abs(), width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    let sign = if number < 0 { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

/// A big-endian two's complement number, if it fits 128 bits.
pub(super) fn decimal(bytes: &[u8]) -> Option<i128> {
    let sign = if bytes.first()? & 0x80 != 0 { 0xff } else { 0 };
    if bytes.len() > 16 {
        return None;
    }
    let mut wide = [sign; 16];
    wide[16 - bytes.len()..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(wide))
}
