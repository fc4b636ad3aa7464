//! Avro schemas with names that Java writes and parsers refuse, for readers that only need the shape of a datum.
//!
//! In: a schema's text. Out: the same with legal names. Never: what is registered or compared; a name decides nothing
//! about a datum.

use serde_json::Value;

/// The text with every character that Avro does not allow in names of types replaced by `_`; none if it is no JSON.
pub(super) fn with_legal_names(text: &str) -> Option<String> {
    let mut schema = serde_json::from_str(text).ok()?;
    rename(&mut schema);
    Some(schema.to_string())
}

/// Renames in a type: a name, a union, or a definition.
fn rename(of: &mut Value) {
    match of {
        Value::String(name) => *name = legal(name),
        Value::Array(branches) => branches.iter_mut().for_each(rename),
        Value::Object(definition) => {
            for key in ["type", "items", "values", "name", "namespace"] {
                definition.get_mut(key).into_iter().for_each(rename);
            }
            let fields = definition.get_mut("fields").and_then(Value::as_array_mut);
            fields.into_iter().flatten().for_each(rename);
        }
        _ => {}
    }
}

fn legal(name: &str) -> String {
    let part = |part: &str| {
        let legal = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
        let digit_first = part.starts_with(|c: char| c.is_ascii_digit());
        let start = if part.is_empty() || digit_first { "_" } else { "" };
        format!("{start}{}", part.chars().map(legal).collect::<String>())
    };
    if name.is_empty() { String::new() } else { name.split('.').map(part).collect::<Vec<_>>().join(".") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_legal_and_nothing_else_changes() {
        let java = r#"{"type":"record","name":"M","namespace":".Foo-bar$A","fields":[
            {"name":"x","type":["null",".Foo-bar$A.M"],"default":null,"doc":"$"},
            {"name":"y","type":{"type":"array","items":{"type":"enum","name":"E","namespace":"p.3$B","symbols":["S"]}}},
            {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"default":-7},
            {"name":"s","type":"string","default":"$-"}]}"#;
        let legal = with_legal_names(java).unwrap();
        apache_avro::Schema::parse_str(java).unwrap_err();
        apache_avro::Schema::parse_str(&legal).unwrap();
        for part in [
            r#""_.Foo_bar_A""#,
            r#""_.Foo_bar_A.M""#,
            r#""p._3_B""#,
            r#""timestamp-millis""#,
            r#""$-""#,
            "-7",
            r#""$""#,
        ] {
            assert!(legal.contains(part), "{legal}");
        }
        assert_eq!(with_legal_names("{"), None);
    }
}
