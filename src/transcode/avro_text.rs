//! Avro schema texts -> what the crate `apache_avro` makes of them, in bounded time and memory.
//!
//! In: the text of a schema and those that it refers to. Out: an [`AvroText`]: the crate's types, and the fields' defaults beside
//! them. Never: a text as it came to the crate, which copies a named type for each level and alias around it, tries a default
//! against every type it may reach (records that hold another twice double that with each level), and follows a name that is
//! defined twice in circles until the stack is gone. So it gets the types alone, each name once, no default and no alias.

use std::collections::HashSet;

use apache_avro::Schema;
use apache_avro::schema::RecordField;
use serde_json::{Map, Value, json};

use super::avro_limits::{AvroSize, check_name};

/// How many types, fields and symbols the crate may copy: each as often as named types are around it. Half a kilobyte each.
const COPIES_MAX: usize = 1 << 19;

/// Levels of records, arrays, maps and unions in one text. What JSON is read by refuses some more.
const DEPTH_MAX: usize = 100;

/// Characters of the crate's messages: some hold the schema.
const MESSAGE_CHARS_MAX: usize = 300;

/// The record around all the texts, by which the crate reads them in order, and each in no namespace.
const FAMILY: &str = "iguazu_family";

/// The property of a field that says where its default is kept.
const DEFAULT_AT: &str = "iguazu.default";

/// A schema and those it refers to, read.
#[derive(Debug)]
pub(crate) struct AvroText {
    family: Schema,
    defaults: Vec<Value>,
}

impl AvroText {
    /// Reads a schema. `references` are the texts of schemas whose names it uses, each before those that need it. Defaults are
    /// not judged.
    ///
    /// # Errors
    /// What is wrong, in a few words.
    pub(crate) fn parse(text: &str, references: &[impl AsRef<str>]) -> Result<AvroText, String> {
        let mut reader = Reader::default();
        reader.names.insert(FAMILY.to_owned());
        let mut fields = Vec::with_capacity(references.len() + 1);
        for text in references.iter().map(AsRef::as_ref).chain([text]) {
            let schema = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
            let (schema, _) = reader.schema(schema, "", 0)?;
            fields.push(json!({"name": format!("f{}", fields.len()), "type": schema}));
        }
        let family = json!({"type": "record", "name": FAMILY, "fields": fields});
        let family = Schema::parse(&family).map_err(|error| limited(&error.to_string()))?;
        Ok(AvroText { family, defaults: reader.defaults })
    }

    /// The schema itself; the names in it are those of [`AvroText::all`].
    pub(crate) fn root(&self) -> &Schema {
        self.all().last().expect("a text is its last field")
    }

    /// All that was read, the schema itself last. A name is written out before it is used.
    pub(crate) fn all(&self) -> impl DoubleEndedIterator<Item = &Schema> {
        let Schema::Record(family) = &self.family else { unreachable!("it was written as a record") };
        family.fields.iter().map(|field| &field.schema)
    }

    /// One type that holds every name.
    pub(crate) fn family(&self) -> &Schema {
        &self.family
    }

    /// The default of a field, as the schema has it.
    pub(crate) fn default(&self, field: &RecordField) -> Option<&Value> {
        let at = field.custom_attributes.get(DEFAULT_AT)?.as_u64()?;
        self.defaults.get(at as usize)
    }
}

#[derive(Default)]
struct Reader {
    names: HashSet<String>,
    defaults: Vec<Value>,
    size: AvroSize,
    copies: usize,
}

impl Reader {
    /// A type as the crate is to see it, and the number of declarations in it.
    fn schema(&mut self, schema: Value, within: &str, depth: usize) -> Result<(Value, usize), String> {
        if depth > DEPTH_MAX {
            return Err(format!("types nest deeper than {DEPTH_MAX} levels"));
        }
        match schema {
            Value::String(name) => {
                check_name(&name)?;
                self.size.add(1)?;
                Ok((Value::String(name), 1))
            }
            Value::Array(branches) => {
                self.size.union(branches.len())?;
                let mut size = 1;
                let mut kept = Vec::with_capacity(branches.len());
                for branch in branches {
                    let (branch, of_branch) = self.schema(branch, within, depth + 1)?;
                    kept.push(branch);
                    size += of_branch;
                }
                Ok((Value::Array(kept), size))
            }
            Value::Object(members) => {
                self.size.add(1)?;
                self.object(members, within, depth)
            }
            _ => Err("a type is neither a name, a union nor an object".to_owned()),
        }
    }

    fn object(
        &mut self,
        mut members: Map<String, Value>,
        within: &str,
        depth: usize,
    ) -> Result<(Value, usize), String> {
        let kind = match members.remove("type") {
            Some(Value::String(kind)) => kind,
            // `{"type": {"type": "string"}}`: the outer object says at most what the inner one means.
            Some(inner @ (Value::Object(_) | Value::Array(_))) => {
                let (inner, size) = self.schema(inner, within, depth + 1)?;
                return Ok((meaning(members, inner), size));
            }
            _ => return Err("a type has no `type`".to_owned()),
        };
        let mut member = |name: &str| members.remove(name).ok_or_else(|| format!("{kind} without `{name}`"));
        let one = |name: &str, inner: Value| json!({"type": kind, name: inner});
        match kind.as_str() {
            "array" | "map" => {
                let name = if kind == "array" { "items" } else { "values" };
                let (inner, size) = self.schema(member(name)?, within, depth + 1)?;
                Ok((one(name, inner), size + 1))
            }
            "record" => {
                let (name, namespace) = self.name(&kind, &members, within)?;
                let fields = list(&mut members, "fields", &name)?;
                self.size.add(fields.len())?;
                let mut size = 1;
                let mut kept = Vec::with_capacity(fields.len());
                for field in fields {
                    let Value::Object(field) = field else { return Err(format!("a field of `{name}` is no object")) };
                    let (field, of_field) = self.field(field, &name, &namespace, depth)?;
                    kept.push(field);
                    size += 1 + of_field;
                }
                self.copy(size)?;
                Ok((json!({"type": kind, "name": name, "namespace": "", "fields": kept}), size))
            }
            "enum" => {
                let (name, _) = self.name(&kind, &members, within)?;
                let symbols = list(&mut members, "symbols", &name)?;
                symbols.iter().filter_map(Value::as_str).try_for_each(check_name)?;
                let size = 1 + symbols.len();
                self.size.add(symbols.len())?;
                self.copy(size)?;
                let mut kept = json!({"type": kind, "name": name, "namespace": "", "symbols": symbols});
                if let Some(default) = members.remove("default") {
                    kept["default"] = default;
                }
                Ok((kept, size))
            }
            "fixed" => {
                let (name, _) = self.name(&kind, &members, within)?;
                let bytes = members.remove("size").ok_or_else(|| format!("fixed `{name}` without `size`"))?;
                Ok((meaning(members, json!({"type": kind, "name": name, "namespace": "", "size": bytes})), 1))
            }
            _ => self.schema(Value::String(kind), within, depth + 1).map(|(name, size)| (meaning(members, name), size)),
        }
    }

    fn field(
        &mut self,
        mut field: Map<String, Value>,
        record: &str,
        namespace: &str,
        depth: usize,
    ) -> Result<(Value, usize), String> {
        let Some(Value::String(name)) = field.remove("name") else {
            return Err(format!("a field of `{record}` has no `name`"));
        };
        check_name(&name)?;
        let of = field.remove("type").ok_or_else(|| format!("field `{name}` of `{record}` has no `type`"))?;
        let (of, size) = self.schema(of, namespace, depth + 1)?;
        let mut kept = json!({"name": name, "type": of});
        if let Some(default) = field.remove("default") {
            kept[DEFAULT_AT] = Value::from(self.defaults.len());
            self.defaults.push(default);
        }
        Ok((kept, size))
    }

    /// The full name of a type and the namespace of those in it, by Avro's rules: a name with dots is full, else its own namespace
    /// counts, else the one around it.
    fn name(&mut self, kind: &str, members: &Map<String, Value>, within: &str) -> Result<(String, String), String> {
        let text = |key: &str| members.get(key).and_then(Value::as_str);
        let name = text("name").ok_or_else(|| format!("{kind} without `name`"))?;
        let full = match text("namespace").unwrap_or(within) {
            // `.R` is `R` in no namespace, to the crate.
            _ if name.contains('.') => name.strip_prefix('.').unwrap_or(name).to_owned(),
            "" => name.to_owned(),
            namespace => format!("{namespace}.{name}"),
        };
        check_name(&full)?;
        if !self.names.insert(full.clone()) {
            return Err(format!("the type `{full}` is defined twice"));
        }
        let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        Ok((full, namespace))
    }

    fn copy(&mut self, declarations: usize) -> Result<(), String> {
        self.copies += declarations;
        if self.copies > COPIES_MAX {
            return Err("it has too many types inside others; name them apart, one after the other".to_owned());
        }
        Ok(())
    }
}

/// A type with what its bytes or its number mean.
fn meaning(mut members: Map<String, Value>, of: Value) -> Value {
    let Some(logical) = members.remove("logicalType") else { return of };
    let mut kept = match of {
        Value::Object(kept) if !kept.contains_key("logicalType") => kept,
        of => Map::from_iter([("type".to_owned(), of)]),
    };
    kept.insert("logicalType".to_owned(), logical);
    for name in ["precision", "scale"] {
        if let Some(value) = members.remove(name) {
            kept.insert(name.to_owned(), value);
        }
    }
    Value::Object(kept)
}

fn list(members: &mut Map<String, Value>, name: &str, of: &str) -> Result<Vec<Value>, String> {
    match members.remove(name) {
        Some(Value::Array(list)) => Ok(list),
        _ => Err(format!("`{of}` has no list of `{name}`")),
    }
}

fn limited(message: &str) -> String {
    let mut short: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
    if short.len() < message.len() {
        short.push('…');
    }
    short
}
