//! Payloads of a subject whose schema is a JSON Schema: checked, and stored as they were sent.
//!
//! In: a JSON Schema and those it refers to, compiled once to a [`JsonSchema`]; then payloads. Out: the payload's own bytes, and
//! the key. Never: the network or the disk (a `$ref` leads to a reference of the registered schema, or nowhere), a payload's
//! value in an error, or more steps and stack than a limit, whatever the schema and the payload make of each other.
//!
//! Drafts 4, 6, 7, 2019-09 and 2020-12, by `$schema`; without it draft 7, as Confluent's registry reads it. `format` is
//! checked where the draft says so (up to 7). This is the one plan that builds a tree: it costs some 10 us a kilobyte, so its
//! payloads have a limit of their own, and take a larger share of a slice of events ([`Transcoder::extra_cost`]). What one may
//! hold a thread for is bounded by that limit (some 4 ms) and by the steps (18 ns each as measured, so some 4 ms more;
//! some 0.1 s where a schema compares each value with thousands of objects, which only malice does).
//!
//! [`Transcoder::extra_cost`]: super::Transcoder::extra_cost

use std::cell::Cell;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use jsonschema::error::ValidationErrorKind;
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{Draft, Keyword, PatternOptions, Retrieve, Uri, ValidationError, Validator};
use serde_json::{Map, Value};

use super::fail::{Done, Fail, shown_name};
use super::json::{Token, Tokenizer};
use super::slots::{DEPTH_MAX, Span};
use super::{Output, PlanError};
use crate::envelope::Payload;
use crate::outcome::{Code, EventError};

/// Largest payload.
pub const JSON_PAYLOAD_BYTES_MAX: usize = 262_144;

/// Schemas, one inside another and by reference, that a payload may be held against. An ordinary one needs about one a value.
const STEPS_MAX: u32 = 200_000;

/// Stack that checking may take. Threads have 2 MiB.
const STACK_BYTES_MAX: usize = 512 << 10;

/// How far one regular expression may go back in one string, where it looks around or refers back; others never do.
const BACKTRACK_MAX: usize = 20_000;

/// Memory of one compiled regular expression, and how many a schema may have.
const REGEX_BYTES_MAX: usize = 1 << 20;
const REGEXES_MAX: usize = 300;

/// Schemas in one schema when every `$ref` is followed: the library compiles what it leads to for each of them.
const SCHEMAS_MAX: usize = 20_000;

/// What counts as one step more: so many values of an `enum`, names of `required`, bytes of a string that an expression reads.
const VALUES_PER_STEP: usize = 64;
/// Values of an `enum` where there is a `contains`, which holds each item against it.
const CONTAINED_VALUES_MAX: usize = 1_024;
const BYTES_PER_STEP: usize = 256;

/// The keyword that counts steps; it is put into every schema.
const STEP: &str = "x-iguazu-step";

/// A compiled JSON Schema.
#[derive(Debug)]
pub struct JsonSchema {
    validator: Validator,
    /// Names of the members on the way to the key; empty when the payload has no key.
    key: Vec<String>,
}

impl JsonSchema {
    /// Compiles a schema. `references` are the schemas that it refers to, by the names that `$ref` uses; `key` is the path of
    /// the member that is the record's key (`order.id`). Takes up to some milliseconds: call it on a blocking thread.
    pub fn compile(text: &str, references: &[(String, String)], key: Option<&str>) -> Result<JsonSchema, PlanError> {
        let mut schema = read_schema("the JSON Schema", text)?;
        let mut known = Vec::with_capacity(references.len());
        for (name, text) in references {
            known.push((name.clone(), read_schema(&format!("the reference `{name}`"), text)?));
        }
        let mut dearest = Dearest::default();
        known.iter().map(|(_, schema)| schema).chain([&schema]).for_each(|schema| dearest.look(schema));
        if dearest.contains && dearest.any > CONTAINED_VALUES_MAX / VALUES_PER_STEP {
            let message = format!(
                "the JSON Schema cannot be used: it has `contains` beside a list of more than {CONTAINED_VALUES_MAX} values"
            );
            return Err(PlanError { message });
        }
        known.iter_mut().map(|(_, schema)| schema).chain([&mut schema]).for_each(|schema| count_steps(schema, dearest));
        let patterns = PatternOptions::fancy_regex()
            .backtrack_limit(BACKTRACK_MAX)
            .size_limit(REGEX_BYTES_MAX)
            .dfa_size_limit(REGEX_BYTES_MAX);
        let mut options = jsonschema::options()
            .offline()
            .with_retriever(References { known })
            .with_pattern_options(patterns)
            .with_keyword(STEP, |_, cost, _| {
                let counted = COMPILED.get();
                let step = Step::read(cost);
                let counted =
                    Counted { schemas: counted.schemas + 1, regexes: counted.regexes + step.regexes as usize };
                if counted.schemas > SCHEMAS_MAX || counted.regexes > REGEXES_MAX {
                    resume_unwind(Box::new(OverLimit));
                }
                COMPILED.set(counted);
                Ok(Box::new(step) as Box<dyn for<'i> Keyword<'i>>)
            });
        if schema.get("$schema").is_none() {
            options = options.with_draft(Draft::Draft7);
        }
        let unusable = |what: String| PlanError { message: format!("the JSON Schema cannot be used: {what}") };
        // A schema from elsewhere must not take the process with it, whatever the library thinks of it.
        COMPILED.set(Counted::default());
        let built = catch_unwind(AssertUnwindSafe(|| options.build(&schema)));
        let validator = built
            .map_err(|panic| {
                unusable(match panic.is::<OverLimit>() {
                    true => format!(
                        "it has more than {REGEXES_MAX} regular expressions, or more than {SCHEMAS_MAX} schemas when each \
                         `$ref` is followed"
                    ),
                    false => "compiling it failed inside the library".to_owned(),
                })
            })?
            .map_err(|cause| unusable(format!("{} at {}", limited(&cause.to_string()), place(&cause))))?;
        let key = key.map(|path| path.split('.').map(str::to_owned).collect()).unwrap_or_default();
        Ok(JsonSchema { validator, key })
    }

    /// Appends the payload to `output.value` as it was sent, and sets its key.
    pub(super) fn transcode(&self, payload: Payload<'_>, output: &mut Output) -> Result<(), EventError> {
        let Payload::Json(json) = payload else {
            let what = format!("the schema is a JSON Schema, so the payload is JSON, not {}", payload.name());
            return Err(EventError::new(Code::WrongFormat, what));
        };
        if json.len() > JSON_PAYLOAD_BYTES_MAX {
            let what =
                format!("the payload has {} bytes, one of a JSON Schema may have {JSON_PAYLOAD_BYTES_MAX}", json.len());
            return Err(EventError::new(Code::EventTooLarge, what));
        }
        let value = read_value(json).map_err(|fail| EventError::new(fail.code, format!("$: {}", fail.what)))?;
        self.check(&value)?;
        output.has_key = self.write_key(&value, &mut output.key)?;
        output.value.extend_from_slice(json);
        Ok(())
    }

    fn check(&self, value: &Value) -> Result<(), EventError> {
        let here = 0u8;
        LIMIT.set(Limit { steps: STEPS_MAX, stack_top: std::ptr::from_ref(&here).addr() });
        // The first question is the quick one; what is wrong is asked only where something is.
        let checked = catch_unwind(AssertUnwindSafe(|| match self.validator.is_valid(value) {
            true => Ok(()),
            false => self.validator.validate(value).map_err(|error| refusal(&error)),
        }));
        match checked {
            Ok(result) => result,
            Err(payload) if payload.is::<OverLimit>() => {
                let what = format!("$: holding the payload against its schema takes more than {STEPS_MAX} steps");
                Err(EventError::new(Code::PayloadExpands, what))
            }
            Err(panic) => resume_unwind(panic),
        }
    }

    fn write_key(&self, value: &Value, key: &mut Vec<u8>) -> Result<bool, EventError> {
        if self.key.is_empty() {
            return Ok(false);
        }
        let mut found = value;
        for name in &self.key {
            match found.get(name) {
                Some(member) => found = member,
                None => return Ok(false),
            }
        }
        match found {
            Value::Null => return Ok(false),
            Value::String(text) => key.extend_from_slice(text.as_bytes()),
            Value::Bool(_) | Value::Number(_) => key.extend_from_slice(found.to_string().as_bytes()),
            Value::Array(_) | Value::Object(_) => {
                let path = self.key.join(".");
                let what = format!("$.{path}: a key is a string, a number or a boolean");
                return Err(EventError::new(Code::InvalidPayload, what));
            }
        }
        Ok(true)
    }
}

/// Reads a payload into a tree. Two members of one name are refused: readers keep different ones, so what was checked might
/// not be what is read.
fn read_value(json: &[u8]) -> Done<Value> {
    if simdutf8::basic::from_utf8(json).is_err() {
        return Err(Fail::new(Code::InvalidUtf8, "the payload is not valid UTF-8"));
    }
    let mut tree = Tree { tokens: Tokenizer::new(json), side: Vec::new() };
    let value = tree.value(0)?;
    tree.tokens.end()?;
    Ok(value)
}

struct Tree<'a> {
    tokens: Tokenizer<'a>,
    side: Vec<u8>,
}

impl Tree<'_> {
    fn value(&mut self, depth: usize) -> Done<Value> {
        Ok(match self.tokens.token()? {
            Token::Null => {
                self.tokens.null()?;
                Value::Null
            }
            Token::Bool => Value::Bool(self.tokens.boolean()?),
            Token::Number => {
                let number = self.tokens.number()?;
                let parsed = std::str::from_utf8(number.text).ok().and_then(|text| text.parse().ok());
                Value::Number(parsed.ok_or_else(|| Fail::new(Code::OutOfRange, "a number does not fit 64 bits"))?)
            }
            Token::String => {
                self.tokens.bump();
                Value::String(self.string()?)
            }
            Token::Array | Token::Object if depth >= DEPTH_MAX => {
                return Err(Fail::new(Code::TooDeep, format!("values nest deeper than {DEPTH_MAX} levels")));
            }
            Token::Array => {
                let mut items = Vec::new();
                self.tokens.bump();
                let mut more = !self.tokens.is_empty(b']');
                while more {
                    items.push(self.value(depth + 1)?);
                    more = self.tokens.more(b']')?;
                }
                Value::Array(items)
            }
            Token::Object => {
                let mut members = Map::new();
                self.tokens.bump();
                let mut more = !self.tokens.is_empty(b'}');
                while more {
                    self.tokens.name_quote()?;
                    let name = self.string()?;
                    self.tokens.colon()?;
                    if members.contains_key(&name) {
                        let name = shown_name(name.as_bytes());
                        return Err(Fail::new(Code::InvalidPayload, format!("member `{name}` stands there twice")));
                    }
                    let value = self.value(depth + 1)?;
                    members.insert(name, value);
                    more = self.tokens.more(b'}')?;
                }
                Value::Object(members)
            }
        })
    }

    /// Takes a string whose opening quote is taken.
    fn string(&mut self) -> Done<String> {
        let span: Span = self.tokens.string(&mut self.side)?;
        let bytes = if span.is_side() { &self.side[span.range()] } else { &self.tokens.text[span.range()] };
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.side.clear();
        Ok(text)
    }
}

/// What is wrong, by place and keyword. The library's own words may hold the payload's, so they are not used.
fn refusal(error: &ValidationError<'_>) -> EventError {
    let keyword = error.kind().keyword();
    let name = |name: &str| format!("`{}`", shown_name(name.as_bytes()));
    let (code, what) = match error.kind() {
        ValidationErrorKind::Required { property } => {
            let property = property.as_str().unwrap_or_default();
            (Code::MissingField, format!("{} is missing", name(property)))
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let first = unexpected.first().map(String::as_str).unwrap_or_default();
            (Code::UnknownField, format!("{} is no member that the schema allows", name(first)))
        }
        ValidationErrorKind::BacktrackLimitExceeded { .. } | ValidationErrorKind::RegexEngineFailure { .. } => (
            Code::PayloadExpands,
            "the string takes the schema's regular expression more steps than the limit".to_owned(),
        ),
        _ => (Code::InvalidPayload, "the value does not satisfy the schema".to_owned()),
    };
    EventError::new(code, format!("{}: {what} (`{keyword}` at {})", path(error.instance_path()), place(error)))
}

/// `$.items[3].price`.
fn path(location: &Location) -> String {
    let mut text = String::from("$");
    for segment in location.iter() {
        let done = match segment {
            LocationSegment::Property(name) => write!(text, ".{}", shown_name(name.as_bytes())),
            LocationSegment::Index(index) => write!(text, "[{index}]"),
        };
        done.expect("a string takes everything");
    }
    text
}

/// Where in the schema a keyword stands.
fn place(error: &ValidationError<'_>) -> String {
    format!("`#{}`", limited(error.schema_path().as_str()))
}

fn limited(text: &str) -> String {
    const CHARS_MAX: usize = 300;
    let mut short: String = text.chars().take(CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

fn read_schema(what: &str, text: &str) -> Result<Value, PlanError> {
    // serde_json refuses what is deeper than 128 levels, which bounds every recursion over a schema.
    serde_json::from_str(text).map_err(|e| PlanError { message: format!("{what} is not JSON: {e}") })
}

/// Puts the counting keyword into a schema and all schemas in it. What is data, not schema, stays as it is.
///
/// The library checks keywords in an order of its own: those of the value itself, its members and items, `allOf`, then `anyOf` and
/// all others that go on after a branch has failed, and keywords of ours last, which a failure before them leaves out. So it stands at
/// the end of `allOf`: whatever takes several ways is counted before it takes them, and all the rest is counted when it holds.
fn count_steps(schema: &mut Value, dearest: Dearest) {
    let Value::Object(members) = schema else { return };
    let cost = Step::of(members, dearest).written();
    each_schema(members, &mut |schema| count_steps(schema, dearest));
    let all = members.entry("allOf").or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(all) = all {
        all.push(serde_json::json!({ STEP: cost }));
    }
}

/// The schemas that stand in a schema.
fn each_schema(members: &mut Map<String, Value>, visit: &mut dyn FnMut(&mut Value)) {
    for (keyword, value) in members.iter_mut() {
        match (keyword.as_str(), value) {
            ("$vocabulary" | "const" | "default" | "dependentRequired" | "enum" | "examples" | "required", _) => {}
            (
                "$defs" | "definitions" | "dependencies" | "dependentSchemas" | "patternProperties" | "properties",
                Value::Object(schemas),
            ) => schemas.values_mut().for_each(&mut *visit),
            (_, Value::Array(schemas)) => schemas.iter_mut().for_each(&mut *visit),
            (_, value) => visit(value),
        }
    }
}

/// Finds the schemas that a registered schema refers to.
struct References {
    known: Vec<(String, Value)>,
}

impl Retrieve for References {
    /// By the reference's name, absolute or relative to wherever the `$ref` stands, or by the schema's own `$id`.
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let uri = uri.as_str();
        let is_id = |schema: &Value| {
            ["$id", "id"]
                .iter()
                .any(|key| schema.get(*key).and_then(Value::as_str).is_some_and(|id| id.trim_end_matches('#') == uri))
        };
        let is_name = |name: &str| {
            uri.strip_suffix(name.trim_start_matches("./"))
                .is_some_and(|before| before.is_empty() || before.ends_with('/'))
        };
        let found = self.known.iter().find(|(name, schema)| is_name(name) || is_id(schema));
        match found {
            Some((_, schema)) => Ok(schema.clone()),
            None => Err(format!("`{uri}` is none of the references that the schema is registered with").into()),
        }
    }
}

/// The keyword that counts. The library cannot be stopped, and what it needs may double with each level of a payload; so
/// beyond the limit the stack is unwound to where the check began.
#[derive(Clone, Copy)]
struct Step {
    /// Steps of any value.
    any: u32,
    /// Steps of each member or item.
    each: u32,
    /// Steps of so many bytes of a string.
    text: u32,
    /// Regular expressions of the schema.
    regexes: u32,
}

/// What the dearest schema costs that a branch may lead to, beside the one step: a branch that fails is not counted itself.
#[derive(Clone, Copy, Default)]
struct Dearest {
    any: usize,
    text: usize,
    /// Whether there is one that goes on after an item has failed, before it is counted.
    contains: bool,
}

impl Dearest {
    fn look(&mut self, schema: &Value) {
        match schema {
            Value::Object(members) => {
                self.any = self.any.max(values_of(members) / VALUES_PER_STEP);
                self.text = self.text.max(reads_text(members));
                self.contains |= members.contains_key("contains");
                members.values().for_each(|value| self.look(value));
            }
            Value::Array(items) => items.iter().for_each(|item| self.look(item)),
            _ => {}
        }
    }
}

/// What is thrown there. It goes past the hook that reports panics, which are bugs.
struct OverLimit;

#[derive(Clone, Copy)]
struct Limit {
    /// Steps that are left.
    steps: u32,
    /// An address in the frame where the check began.
    stack_top: usize,
}

thread_local! {
    static LIMIT: Cell<Limit> = const { Cell::new(Limit { steps: 0, stack_top: 0 }) };
}

/// What was met of the schema that is being compiled.
#[derive(Clone, Copy, Default)]
struct Counted {
    schemas: usize,
    regexes: usize,
}

thread_local! {
    static COMPILED: Cell<Counted> = const { Cell::new(Counted { schemas: 0, regexes: 0 }) };
}

impl Step {
    fn of(schema: &Map<String, Value>, dearest: Dearest) -> Step {
        let length = |keyword: &str| match schema.get(keyword) {
            Some(Value::Array(list)) => list.len(),
            Some(Value::Object(members)) => members.len(),
            _ => 0,
        };
        let has = |keyword: &str| usize::from(schema.contains_key(keyword));
        let ways = length("anyOf") + length("oneOf") + has("not") + has("if");
        let patterns = length("patternProperties");
        let steps = |steps: usize| u32::try_from(steps).unwrap_or(u32::MAX);
        Step {
            any: steps(1 + values_of(schema) / VALUES_PER_STEP + ways.saturating_mul(dearest.any)),
            each: steps(patterns + has("uniqueItems") + has("contains") * (1 + dearest.any)),
            text: steps(reads_text(schema) + ways.saturating_mul(dearest.text)),
            regexes: steps(patterns + has("pattern")),
        }
    }

    fn written(self) -> [u32; 4] {
        [self.any, self.each, self.text, self.regexes]
    }

    fn read(cost: &Value) -> Step {
        let at =
            |at: usize| cost.get(at).and_then(Value::as_u64).map_or(u32::MAX, |n| u32::try_from(n).unwrap_or(u32::MAX));
        Step { any: at(0), each: at(1), text: at(2), regexes: at(3) }
    }

    fn count(&self, value: &Value) {
        let here = 0u8;
        let limit = LIMIT.get();
        let stack_bytes = limit.stack_top.abs_diff(std::ptr::from_ref(&here).addr());
        let each = |length: usize, by: u32| by.saturating_mul(u32::try_from(length).unwrap_or(u32::MAX));
        let more = match value {
            Value::Array(items) => each(items.len(), self.each),
            Value::Object(members) => each(members.len(), self.each),
            Value::String(text) => each(text.len() / BYTES_PER_STEP, self.text),
            _ => 0,
        };
        let steps = self.any.saturating_add(more);
        if limit.steps < steps || stack_bytes > STACK_BYTES_MAX {
            resume_unwind(Box::new(OverLimit));
        }
        LIMIT.set(Limit { steps: limit.steps - steps, ..limit });
    }
}

/// Values that a schema compares with, and names that it looks for.
fn values_of(schema: &Map<String, Value>) -> usize {
    let lists = ["enum", "const", "required", "dependentRequired"];
    lists.iter().filter_map(|keyword| schema.get(*keyword)).map(size).sum()
}

/// Keywords that read the whole of a string.
fn reads_text(schema: &Map<String, Value>) -> usize {
    usize::from(schema.contains_key("pattern")) + usize::from(schema.contains_key("format"))
}

/// Values in a value, it included.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(members) => members.values().map(size).sum(),
        _ => 0,
    }
}

impl<'i> Keyword<'i> for Step {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        self.count(value);
        Ok(())
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        self.count(value);
        true
    }
}

#[cfg(test)]
#[path = "json_schema_tests.rs"]
mod tests;
