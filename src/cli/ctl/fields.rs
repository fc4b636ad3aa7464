//! Fields of a spec by their paths: `capacity.mb_per_second=0.5`, and what differs between two specs.
//!
//! In: documents and assignments. Out: documents, and pairs of path and value. Never: I/O.

use serde_json::{Map, Value};

use crate::cli::Failure;

/// What a field is to be; none: it is taken out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Assignment {
    path: String,
    value: Option<Value>,
}

/// Reads `FIELD=VALUE`.
pub(super) fn assignment(text: &str) -> Result<Assignment, String> {
    let (path, value) = text.split_once('=').ok_or("it is FIELD=VALUE, such as `service=orders`")?;
    if path.is_empty() || path.split('.').any(str::is_empty) {
        return Err("it is FIELD=VALUE, such as `capacity.consumers=6`".to_owned());
    }
    // What is no JSON is text, so that nobody has to quote a name twice.
    let value = match value {
        "" => None,
        text => Some(serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))),
    };
    Ok(Assignment { path: path.to_owned(), value })
}

/// Sets fields of a document.
pub(super) fn set(document: &mut Value, assignments: &[Assignment]) -> Result<(), Failure> {
    for Assignment { path, value } in assignments {
        let mut place = &mut *document;
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            if place.is_null() {
                *place = Value::Object(Map::new());
            }
            let Some(object) = place.as_object_mut() else {
                return Err(Failure::Usage(format!("`{path}`: there is a value before `{part}`, which has no fields")));
            };
            if parts.peek().is_some() {
                place = object.entry(part).or_insert(Value::Null);
                continue;
            }
            match value {
                Some(value) => _ = object.insert(part.to_owned(), value.clone()),
                None => _ = object.remove(part),
            }
            break;
        }
    }
    Ok(())
}

/// The same as a patch (RFC 7396): what is taken out is null.
pub(super) fn patch(assignments: &[Assignment]) -> Result<Value, Failure> {
    let mut patch = Value::Object(Map::new());
    for Assignment { path, value } in assignments {
        let value = Some(value.clone().unwrap_or(Value::Null));
        set(&mut patch, &[Assignment { path: path.clone(), value }])?;
    }
    Ok(patch)
}

/// Every value of a document that is no object, by its path.
pub(super) fn flat(document: &Value) -> Vec<(String, &Value)> {
    fn walk<'v>(prefix: &str, value: &'v Value, out: &mut Vec<(String, &'v Value)>) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (name, value) in fields {
                    let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    walk(&path, value, out);
                }
            }
            value => out.push((prefix.to_owned(), value)),
        }
    }
    let mut out = Vec::new();
    walk("", document, &mut out);
    out
}

/// What differs: path, before, after.
pub(super) fn differences(before: &Value, after: &Value) -> Vec<(String, Value, Value)> {
    let (before, after) = (flat(before), flat(after));
    let of = |side: &[(String, &Value)], path: &str| {
        side.iter().find(|(known, _)| known == path).map_or(Value::Null, |(_, value)| (*value).clone())
    };
    let mut paths: Vec<&String> = before.iter().chain(&after).map(|(path, _)| path).collect();
    paths.sort();
    paths.dedup();
    let pairs = paths.into_iter().map(|path| (path.clone(), of(&before, path), of(&after, path)));
    pairs.filter(|(_, before, after)| before != after).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_set_by_path_and_taken_out_again() {
        let mut spec = json!({ "capacity": { "growth": 2.0 }, "expert": null });
        let fields = [
            "service=orders",
            "capacity.mb_per_second=0.5",
            "capacity.growth=",
            "keyed=true",
            "expert.partitions=6",
            "description=a = b",
        ];
        let fields: Vec<_> = fields.iter().map(|text| assignment(text).expect(text)).collect();
        set(&mut spec, &fields).expect("set");
        let expected = json!({
            "service": "orders", "capacity": { "mb_per_second": 0.5 }, "keyed": true, "expert": { "partitions": 6 }, "description": "a = b"
        });
        assert_eq!(spec, expected);
        let through_a_value = set(&mut spec, &[assignment("service.name=x").expect("one")]);
        assert!(through_a_value.is_err_and(|error| error.to_string().contains("before `name`")));
        for wrong in ["service", "=x", "a..b=1", ".a=1"] {
            assert!(assignment(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_patch_says_what_is_taken_out() {
        let fields = ["capacity.growth=", "capacity.consumers=6", "keyed="].map(|text| assignment(text).expect(text));
        let expected = json!({ "capacity": { "growth": null, "consumers": 6 }, "keyed": null });
        assert_eq!(patch(&fields).expect("a patch"), expected);
    }

    #[test]
    fn differences_are_told_by_path_and_null_is_as_good_as_absent() {
        let before = json!({ "a": { "b": 1, "c": null }, "d": [1, 2], "e": {} });
        let after = json!({ "a": { "b": 2 }, "d": [1, 3], "e": {}, "f": "x" });
        let expected =
            [("a.b", json!(1), json!(2)), ("d", json!([1, 2]), json!([1, 3])), ("f", json!(null), json!("x"))];
        assert_eq!(differences(&before, &after), expected.map(|(path, b, a)| (path.to_owned(), b, a)));
    }
}
