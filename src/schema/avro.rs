//! Avro schema text -> types with their names resolved.
//!
//! In: schema texts. Out: a [`Structure`], which [`super::structure`] compares for equality and
//! [`super::compatibility`] for what a reader can read. Never: I/O.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};

use serde_json::{Map, Value};

use crate::transcode::avro_limits::{AvroSize, check_name};

/// A schema with its names resolved.
#[derive(Clone, Debug)]
pub struct Structure {
    pub(super) root: Type,
    pub(super) named: HashMap<String, Named>,
    /// Aliases of named types, full names, by full name.
    pub(super) aliases: HashMap<String, Vec<String>>,
}

/// Why a text is no Avro schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StructureError {
    /// What is wrong; lowercase, no full stop.
    pub message: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Type {
    pub(super) shape: Shape,
    /// `logicalType`, and precision and scale of decimals.
    pub(super) logical: Option<(String, Option<i64>, Option<i64>)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    Primitive(&'static str),
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    Named(String),
}

#[derive(Clone, Debug)]
pub(super) enum Named {
    Record(Vec<Field>),
    Enum { symbols: Vec<String>, default: Option<String> },
    Fixed { size: u64, logical: Option<(String, Option<i64>, Option<i64>)> },
}

#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) of: Type,
    pub(super) default: Option<Value>,
    pub(super) aliases: Vec<String>,
}

/// Characters of a type or a path that people are shown.
pub(super) const SHOWN_CHARS_MAX: usize = 400;

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

impl Structure {
    /// Reads a schema; `references` are the texts of schemas whose names it uses, each before those that need it.
    pub fn parse<'a>(text: &str, references: impl IntoIterator<Item = &'a str>) -> Result<Structure, StructureError> {
        let mut reader = Reader { named: HashMap::new(), aliases: HashMap::new(), size: AvroSize::default() };
        for reference in references {
            reader.read_text(reference)?;
        }
        let root = reader.read_text(text)?;
        let mut structure = Structure { root, named: reader.named, aliases: reader.aliases };
        structure.settle_names()?;
        Ok(structure)
    }

    /// A name without dots may mean one in the enclosing namespace or one in none; the definitions decide.
    fn settle_names(&mut self) -> Result<(), StructureError> {
        let known: HashSet<String> = self.named.keys().cloned().collect();
        settle(&mut self.root, &known)?;
        for named in self.named.values_mut() {
            if let Named::Record(fields) = named {
                fields.iter_mut().try_for_each(|field| settle(&mut field.of, &known))?;
            }
        }
        Ok(())
    }
}

fn settle(of: &mut Type, known: &HashSet<String>) -> Result<(), StructureError> {
    match &mut of.shape {
        Shape::Primitive(_) => Ok(()),
        Shape::Array(inner) | Shape::Map(inner) => settle(inner, known),
        Shape::Union(branches) => branches.iter_mut().try_for_each(|branch| settle(branch, known)),
        Shape::Named(name) if known.contains(name) => Ok(()),
        Shape::Named(name) => match name.rsplit_once('.') {
            Some((_, bare)) if known.contains(bare) => {
                *name = bare.to_owned();
                Ok(())
            }
            _ => Err(error(format!("the type `{name}` is not defined"))),
        },
    }
}

struct Reader {
    named: HashMap<String, Named>,
    aliases: HashMap<String, Vec<String>>,
    size: AvroSize,
}

impl Reader {
    fn read_text(&mut self, text: &str) -> Result<Type, StructureError> {
        // serde_json refuses values deeper than 128 levels, which bounds the recursion below.
        let value: Value = serde_json::from_str(text).map_err(|cause| error(format!("not JSON: {cause}")))?;
        self.read(&value, "")
    }

    fn read(&mut self, value: &Value, namespace: &str) -> Result<Type, StructureError> {
        match value {
            Value::String(name) => {
                self.size.add(1).map_err(error)?;
                Ok(plain(match PRIMITIVES.iter().find(|p| *p == name) {
                    Some(primitive) => Shape::Primitive(primitive),
                    None => Shape::Named(full_name(name, None, namespace)?),
                }))
            }
            Value::Array(branches) => {
                self.size.union(branches.len()).map_err(error)?;
                let branches = branches.iter().map(|branch| self.read(branch, namespace)).collect::<Result<_, _>>()?;
                Ok(plain(Shape::Union(branches)))
            }
            Value::Object(object) => self.read_object(object, namespace),
            _ => Err(error(format!("`{value}` is no type"))),
        }
    }

    fn read_object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<Type, StructureError> {
        let name = match object.get("type") {
            Some(Value::String(name)) => name.as_str(),
            // `{"type": {"type": "string"}}`: the outer object says nothing more.
            Some(inner @ (Value::Object(_) | Value::Array(_))) => return self.read(inner, namespace),
            _ => return Err(error("a type without `type`".to_owned())),
        };
        let member = |key: &str| object.get(key).ok_or_else(|| error(format!("{name} without `{key}`")));
        let shape = match name {
            "array" => Shape::Array(Box::new(self.read(member("items")?, namespace)?)),
            "map" => Shape::Map(Box::new(self.read(member("values")?, namespace)?)),
            "record" | "error" | "enum" | "fixed" => return self.read_named(name, object, namespace),
            other => {
                return Ok(Type {
                    logical: logical(object),
                    ..self.read(&Value::String(other.to_owned()), namespace)?
                });
            }
        };
        Ok(Type { shape, logical: logical(object) })
    }

    fn read_named(&mut self, kind: &str, object: &Map<String, Value>, namespace: &str) -> Result<Type, StructureError> {
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        let name = text("name").ok_or_else(|| error(format!("{kind} without `name`")))?;
        let name = full_name(name, text("namespace"), namespace)?;
        let namespace = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        let array = |key: &str| {
            object.get(key).and_then(Value::as_array).ok_or_else(|| error(format!("{kind} `{name}` without `{key}`")))
        };
        let named = match kind {
            "enum" => {
                let symbols = array("symbols")?;
                self.size.add(symbols.len()).map_err(error)?;
                let symbols = symbols.iter().map(|s| s.as_str().map(str::to_owned)).collect::<Option<_>>();
                let symbols = symbols.ok_or_else(|| error(format!("enum `{name}` with a symbol that is no string")))?;
                Named::Enum { symbols, default: text("default").map(str::to_owned) }
            }
            "fixed" => {
                let size = object.get("size").and_then(Value::as_u64);
                let size = size.ok_or_else(|| error(format!("fixed `{name}` without `size`")))?;
                Named::Fixed { size, logical: logical(object) }
            }
            _ => {
                let fields = array("fields")?;
                self.size.add(fields.len()).map_err(error)?;
                let fields = fields.iter().map(|field| self.read_field(field, &name, &namespace));
                Named::Record(fields.collect::<Result<_, _>>()?)
            }
        };
        let aliases = strings(object.get("aliases"));
        if !aliases.is_empty() {
            self.size.add(aliases.len()).map_err(error)?;
            let full = aliases.into_iter().map(|alias| full_name(&alias, None, &namespace));
            self.aliases.insert(name.clone(), full.collect::<Result<_, _>>()?);
        }
        if self.named.insert(name.clone(), named).is_some() {
            return Err(error(format!("the type `{name}` is defined twice")));
        }
        Ok(plain(Shape::Named(name)))
    }

    fn read_field(&mut self, field: &Value, record: &str, namespace: &str) -> Result<Field, StructureError> {
        let name = field.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| error(format!("record `{record}` with a field that has no `name`")))?;
        check_name(name).map_err(error)?;
        let of = field.get("type").ok_or_else(|| error(format!("field `{name}` of `{record}` without `type`")))?;
        Ok(Field {
            name: name.to_owned(),
            of: self.read(of, namespace)?,
            default: field.get("default").cloned(),
            aliases: strings(field.get("aliases")),
        })
    }
}

/// The strings of a list; what is none is left out.
fn strings(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn plain(shape: Shape) -> Type {
    Type { shape, logical: None }
}

fn logical(object: &Map<String, Value>) -> Option<(String, Option<i64>, Option<i64>)> {
    let name = object.get("logicalType")?.as_str()?;
    let number = |key: &str| object.get(key).and_then(Value::as_i64);
    Some(match name {
        "decimal" => (name.to_owned(), number("precision"), Some(number("scale").unwrap_or(0))),
        _ => (name.to_owned(), None, None),
    })
}

/// The full name by Avro's rules: a name with dots is full; else its own namespace counts, else the enclosing one.
fn full_name(name: &str, own: Option<&str>, enclosing: &str) -> Result<String, StructureError> {
    let full = match own.unwrap_or(enclosing) {
        _ if name.contains('.') => name.to_owned(),
        "" => name.to_owned(),
        namespace => format!("{namespace}.{name}"),
    };
    check_name(&full).map_err(error)?;
    Ok(full)
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shape {
            Shape::Primitive(name) => f.write_str(name)?,
            Shape::Array(inner) => write!(f, "array of {inner}")?,
            Shape::Map(inner) => write!(f, "map of {inner}")?,
            Shape::Union(branches) => {
                f.write_str("[")?;
                for (at, branch) in branches.iter().enumerate() {
                    write!(f, "{}{branch}", if at > 0 { ", " } else { "" })?;
                }
                f.write_str("]")?;
            }
            Shape::Named(name) => f.write_str(name)?,
        }
        f.write_str(&logical_text(&self.logical))
    }
}

impl Type {
    /// The type as people are shown it: of a large union its beginning.
    pub(super) fn shown(&self) -> String {
        struct Beginning(String);
        impl fmt::Write for Beginning {
            fn write_str(&mut self, part: &str) -> fmt::Result {
                self.0.push_str(part);
                if self.0.len() > SHOWN_CHARS_MAX { Err(fmt::Error) } else { Ok(()) }
            }
        }
        let mut beginning = Beginning(String::new());
        // It fails where there is enough of it.
        let _ = write!(beginning, "{self}");
        limited(&beginning.0)
    }
}

/// A text as people are shown it.
pub(super) fn limited(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

pub(super) fn logical_text(logical: &Option<(String, Option<i64>, Option<i64>)>) -> String {
    match logical {
        None => String::new(),
        Some((name, Some(precision), scale)) => format!(" ({name} {precision},{})", scale.unwrap_or(0)),
        Some((name, None, _)) => format!(" ({name})"),
    }
}

fn error(message: String) -> StructureError {
    StructureError { message }
}
