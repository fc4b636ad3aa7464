//! The structure of an Avro schema: what decides how a datum looks, and nothing else.
//!
//! In: two schemas. Out: how they differ. Names, types, the order of fields, branches and
//! symbols, defaults and logical types count; the order of JSON members, `doc`, `aliases`, where a named type is
//! written out, and every other property do not. Never: I/O.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde_json::Value;

use super::avro::{Field, Named, SHOWN_CHARS_MAX, Shape, Type, limited, logical_text};
pub use super::avro::{Structure, StructureError};

/// Differences that are looked for between two schemas; more do not help to find the nearest one.
const DIFFERENCES_MAX: usize = 64;

/// One place where two schemas differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The place: "field `a.b`", "enum `c.Color`".
    pub place: String,
    /// What the first schema has there.
    pub here: String,
    /// What the second one has.
    pub there: String,
}

impl Difference {
    /// The difference in words, the schemas by these names.
    pub fn describe(&self, here: &str, there: &str) -> String {
        format!("{}: {} {here}, {} {there}", self.place, self.here, self.there)
    }
}

impl Structure {
    /// Whether a datum of one is a datum of the other, with the same meaning.
    pub fn equals(&self, other: &Structure) -> bool {
        self.differences(other).is_empty()
    }

    /// Where the two differ, in the order of the fields; the first 64 places.
    pub fn differences(&self, other: &Structure) -> Vec<Difference> {
        let mut comparison =
            Comparison { here: self, there: other, found: Vec::new(), seen: HashSet::new(), pending: Vec::new() };
        comparison.types(&Place::Root, &self.root, &other.root);
        // Named types are compared from a list, not by recursion, so that a long chain of them cannot exhaust the stack.
        while let Some((path, here, there)) = comparison.pending.pop() {
            if comparison.found.len() >= DIFFERENCES_MAX {
                break;
            }
            comparison.named(&path, &here, &there);
        }
        comparison.found
    }
}

struct Comparison<'a> {
    here: &'a Structure,
    there: &'a Structure,
    found: Vec<Difference>,
    /// Pairs of names that were compared or are waiting to be.
    seen: HashSet<(String, String)>,
    pending: Vec<(String, String, String)>,
}

/// Where in the schema the comparison is.
enum Place<'a> {
    Root,
    Field(&'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Root => f.write_str("the schema itself"),
            Place::Field(path) => write!(f, "field `{path}`"),
        }
    }
}

impl<'a> Comparison<'a> {
    fn types(&mut self, place: &Place<'_>, here: &Type, there: &Type) {
        if here.logical != there.logical {
            return self.differ(place.to_string(), here.shown(), there.shown());
        }
        match (&here.shape, &there.shape) {
            (Shape::Primitive(a), Shape::Primitive(b)) if a == b => {}
            (Shape::Array(a), Shape::Array(b)) | (Shape::Map(a), Shape::Map(b)) => self.types(place, a, b),
            (Shape::Union(a), Shape::Union(b)) if a.len() == b.len() => {
                a.iter().zip(b).for_each(|(a, b)| self.types(place, a, b));
            }
            (Shape::Named(a), Shape::Named(b)) if a == b => {
                let path = match place {
                    Place::Root => "",
                    Place::Field(path) => path,
                };
                if self.seen.insert((a.clone(), b.clone())) {
                    self.pending.push((path.to_owned(), a.clone(), b.clone()));
                }
            }
            _ => self.differ(place.to_string(), here.shown(), there.shown()),
        }
    }

    fn named(&mut self, path: &str, here_name: &str, there_name: &str) {
        let (here, there) = (self.here, self.there);
        match (&here.named[here_name], &there.named[there_name]) {
            (Named::Record(a), Named::Record(b)) => self.fields(path, here_name, a, b),
            (Named::Enum { symbols: a, default: c }, Named::Enum { symbols: b, default: d }) => {
                let place = format!("enum `{here_name}`");
                if a != b {
                    self.differ(place, format!("symbols {}", a.join(", ")), b.join(", "));
                } else if c != d {
                    self.differ(place, default_text(c.as_ref()), default_text(d.as_ref()));
                }
            }
            (Named::Fixed { size: a, logical: c }, Named::Fixed { size: b, logical: d }) => {
                if (a, c) != (b, d) {
                    let text = |size: &u64, logical| format!("{size} bytes{}", logical_text(logical));
                    self.differ(format!("fixed `{here_name}`"), text(a, c), text(b, d));
                }
            }
            (a, b) => self.differ(format!("type `{here_name}`"), a.kind().to_owned(), b.kind().to_owned()),
        }
    }

    fn fields(&mut self, path: &str, record: &str, here: &'a [Field], there: &'a [Field]) {
        // Schemas may lead through records without end; where that is, the record's own name says it better.
        let path = if path.len() > SHOWN_CHARS_MAX { record } else { path };
        let name_of =
            |field: &Field| if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
        let by_name = |fields: &'a [Field]| -> HashMap<&str, &Field> {
            fields.iter().map(|field| (field.name.as_str(), field)).collect()
        };
        let (known_here, known_there) = (by_name(here), by_name(there));
        let mut in_both = (Vec::new(), Vec::new());
        for field in here {
            match known_there.get(field.name.as_str()) {
                Some(other) => {
                    in_both.0.push(field.name.as_str());
                    let path = name_of(field);
                    self.types(&Place::Field(&path), &field.of, &other.of);
                    if !same_default(field.default.as_ref(), other.default.as_ref()) {
                        let text = |field: &Field| default_text(field.default.as_ref());
                        self.differ(Place::Field(&path).to_string(), text(field), text(other));
                    }
                }
                None => self.differ(Place::Field(&name_of(field)).to_string(), field.of.shown(), "none".to_owned()),
            }
        }
        for field in there {
            if known_here.contains_key(field.name.as_str()) {
                in_both.1.push(field.name.as_str());
            } else {
                self.differ(Place::Field(&name_of(field)).to_string(), "none".to_owned(), field.of.shown());
            }
        }
        if let Some(at) = in_both.0.iter().zip(&in_both.1).position(|(a, b)| a != b) {
            let text = |name: &str| format!("`{name}` as its field {}", at + 1);
            self.differ(format!("record `{record}`"), text(in_both.0[at]), text(in_both.1[at]));
        }
    }

    fn differ(&mut self, place: String, here: String, there: String) {
        if self.found.len() < DIFFERENCES_MAX {
            self.found.push(Difference { place, here: limited(&here), there: limited(&there) });
        }
    }
}

impl Named {
    fn kind(&self) -> &'static str {
        match self {
            Named::Record(_) => "record",
            Named::Enum { .. } => "enum",
            Named::Fixed { .. } => "fixed",
        }
    }
}

/// Defaults as Avro reads them: `0`, `0.0` and `-0.0` are one number.
fn same_default(here: Option<&Value>, there: Option<&Value>) -> bool {
    match (here, there) {
        (Some(here), Some(there)) => same_value(here, there),
        (here, there) => here == there,
    }
}

fn same_value(here: &Value, there: &Value) -> bool {
    match (here, there) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64() && (a.is_f64() || b.is_f64()),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same_value(a, b)))
        }
        (a, b) => a == b,
    }
}

fn default_text(default: Option<&(impl serde::Serialize + ?Sized)>) -> String {
    match default.map(serde_json::to_string) {
        Some(Ok(text)) => format!("default {text}"),
        _ => "no default".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(here: &str, there: &str, expected: Option<&str>) {
        let parse = |text: &str| Structure::parse(text, []).expect(text);
        let differences = parse(here).differences(&parse(there));
        let found = differences.first().map(|difference| difference.describe("here", "in version 3"));
        assert_eq!(found.as_deref(), expected, "{here} against {there}");
        let back = parse(there).differences(&parse(here));
        assert_eq!(back.len(), differences.len(), "the comparison is the same both ways");
    }

    fn record(fields: &str) -> String {
        format!(r#"{{"type":"record","name":"R","namespace":"a.b","fields":[{fields}]}}"#)
    }

    #[track_caller]
    fn check_field(here: &str, there: &str, expected: Option<&str>) {
        let field = |rest: &str| record(&format!(r#"{{"name":"x",{rest}}}"#));
        check(&field(here), &field(there), expected);
    }

    #[test]
    fn what_changes_a_datum_or_its_meaning_is_a_difference() {
        let t = check_field;
        t(r#""type":"int""#, r#""type":"long""#, Some("field `x`: int here, long in version 3"));
        t(r#""type":"int""#, r#""type":["null","int"]"#, Some("field `x`: int here, [null, int] in version 3"));
        t(r#""type":["int","null"]"#, r#""type":["null","int"]"#, Some("field `x`: int here, null in version 3"));
        t(
            r#""type":"long""#,
            r#""type":{"type":"long","logicalType":"timestamp-micros"}"#,
            Some("field `x`: long here, long (timestamp-micros) in version 3"),
        );
        t(
            r#""type":{"type":"bytes","logicalType":"decimal","precision":20}"#,
            r#""type":{"type":"bytes","logicalType":"decimal","precision":20,"scale":2}"#,
            Some("field `x`: bytes (decimal 20,0) here, bytes (decimal 20,2) in version 3"),
        );
        t(r#""type":"int","default":0"#, r#""type":"int""#, Some("field `x`: default 0 here, no default in version 3"));
        t(
            r#""type":"null""#,
            r#""type":"null","default":null"#,
            Some("field `x`: no default here, default null in version 3"),
        );
        t(
            r#""type":{"type":"array","items":"int"}"#,
            r#""type":{"type":"array","items":"long"}"#,
            Some("field `x`: int here, long in version 3"),
        );
        t(
            r#""type":{"type":"enum","name":"E","symbols":["A","B"]}"#,
            r#""type":{"type":"enum","name":"E","symbols":["B","A"]}"#,
            Some("enum `a.b.E`: symbols A, B here, B, A in version 3"),
        );
        t(
            r#""type":{"type":"enum","name":"E","symbols":["A"],"default":"A"}"#,
            r#""type":{"type":"enum","name":"E","symbols":["A"]}"#,
            Some("enum `a.b.E`: default \"A\" here, no default in version 3"),
        );
        t(
            r#""type":{"type":"fixed","name":"F","size":4}"#,
            r#""type":{"type":"fixed","name":"F","size":8}"#,
            Some("fixed `a.b.F`: 4 bytes here, 8 bytes in version 3"),
        );
        t(
            r#""type":{"type":"fixed","name":"F","size":4}"#,
            r#""type":{"type":"enum","name":"F","symbols":["A"]}"#,
            Some("type `a.b.F`: fixed here, enum in version 3"),
        );
        t(
            r#""type":{"type":"record","name":"S","fields":[{"name":"y","type":"int"}]}"#,
            r#""type":{"type":"record","name":"S","fields":[{"name":"y","type":"string"}]}"#,
            Some("field `x.y`: int here, string in version 3"),
        );
        t(
            r#""type":{"type":"fixed","name":"F","size":4}"#,
            r#""type":{"type":"fixed","name":"F","namespace":"c","size":4}"#,
            Some("field `x`: a.b.F here, c.F in version 3"),
        );
    }

    #[test]
    fn the_order_and_the_set_of_fields_count() {
        let (x, y) = (r#"{"name":"x","type":"int"}"#, r#"{"name":"y","type":"int"}"#);
        let both = record(&format!("{x},{y}"));
        check(&both, &record(x), Some("field `y`: int here, none in version 3"));
        check(&record(x), &both, Some("field `y`: none here, int in version 3"));
        let swapped = record(&format!("{y},{x}"));
        check(&both, &swapped, Some("record `a.b.R`: `x` as its field 1 here, `y` as its field 1 in version 3"));
    }

    #[test]
    fn text_documentation_and_properties_do_not_count() {
        let one = r#"{"type":"record","name":"R","namespace":"a.b","fields":[
            {"name":"x","type":{"type":"enum","name":"E","symbols":["A"]},"default":"A"},
            {"name":"y","type":["null","E"],"default":null},
            {"name":"z","type":"double","default":0.0}]}"#;
        let other = r#"{"fields":[
            {"default":"A","doc":"first","aliases":["w"],"type":{"symbols":["A"],"doc":"e","namespace":"a.b","name":"E","type":"enum"},"name":"x","proto.number":1},
            {"default":null,"type":[{"type":"null"},"a.b.E"],"name":"y","order":"ignore"},
            {"name":"z","type":{"type":"double"},"default":0}],
            "doc":"all","aliases":["Q"],"name":"a.b.R","type":"record","owner":"me"}"#;
        check(one, other, None);
    }

    #[test]
    fn where_a_type_is_written_out_does_not_count() {
        let inner = r#"{"type":"record","name":"S","namespace":"a.b","fields":[{"name":"y","type":"int"}]}"#;
        let inline = Structure::parse(&record(&format!(r#"{{"name":"x","type":{inner}}}"#)), []).expect("good");
        let referring = record(r#"{"name":"x","type":"S"}"#);
        let apart = Structure::parse(&referring, [inner]).expect("good");
        assert_eq!(inline.differences(&apart), []);
        let error = Structure::parse(&referring, []).expect_err("it is not defined");
        assert_eq!(error.message, "the type `a.b.S` is not defined");
    }

    #[test]
    fn a_recursive_schema_is_compared_to_its_end() {
        let tree =
            |leaf: &str| record(&format!(r#"{{"name":"next","type":["null","R"]}},{{"name":"leaf","type":"{leaf}"}}"#));
        check(&tree("int"), &tree("int"), None);
        check(&tree("int"), &tree("long"), Some("field `leaf`: int here, long in version 3"));
    }

    #[test]
    fn a_long_chain_of_types_is_no_deep_recursion() {
        let records: Vec<_> = (0..20_000)
            .map(|n| {
                format!(
                    r#"{{"type":"record","name":"R{n}","fields":[{{"name":"x","type":["null","R{}"]}}]}}"#,
                    (n + 1) % 20_000
                )
            })
            .collect();
        let unions = records.chunks(1_000).enumerate();
        let fields = unions.map(|(n, union)| format!(r#"{{"name":"f{n}","type":[{}]}}"#, union.join(",")));
        let chain = format!(r#"{{"type":"record","name":"Root","fields":[{}]}}"#, fields.collect::<Vec<_>>().join(","));
        check(&chain, &chain, None);
    }

    #[test]
    fn what_is_no_schema_is_an_error() {
        for (text, part) in [
            ("", "not JSON"),
            ("1", "no type"),
            ("{}", "without `type`"),
            ("\"strin\"", "`strin` is not defined"),
            (r#"{"type":"array"}"#, "without `items`"),
            (r#"{"type":"record","name":"R"}"#, "without `fields`"),
            (r#"{"type":"enum","name":"R","symbols":[1]}"#, "no string"),
            (r#"[{"type":"fixed","name":"F","size":1},{"type":"fixed","name":"F","size":1}]"#, "defined twice"),
        ] {
            let error = Structure::parse(text, []).expect_err(text);
            assert!(error.message.contains(part), "{text}: {error}");
        }
        let deep = "[".repeat(100_000);
        assert!(Structure::parse(&deep, []).is_err());
    }
}
