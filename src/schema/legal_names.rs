//! Avro schemas with names that Java writes and parsers refuse, for readers that only need the shape of a datum.
//!
//! In: a schema's text. Out: a reader of its datums. Never: what is registered or compared; a name decides nothing about a
//! datum.

use serde_json::Value;

use super::read::ValueReader;

/// A reader of a schema, whether or not its names are legal.
pub(super) fn reader(text: &str, references: &[String]) -> Result<ValueReader, apache_avro::Error> {
    ValueReader::avro(text, references).or_else(|error| {
        let references: Option<Vec<_>> = references.iter().map(|text| with_legal_names(text)).collect();
        match (with_legal_names(text), references) {
            (Some(text), Some(references)) => ValueReader::avro(&text, &references),
            _ => Err(error),
        }
    })
}

/// The text with every character that Avro does not allow in names of types replaced by `_`; none if it is no JSON.
fn with_legal_names(text: &str) -> Option<String> {
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
    fn values_of_a_schema_that_java_wrote_are_read() {
        let java = r#"{"type":"record","name":"Order","namespace":"shop.v1.Shop","fields":[{"name":"item","type":["null",
            {"type":"record","name":"Item","namespace":"shop.v1.Shop$Order","fields":[{"name":"sku",
            "type":{"type":"string","avro.java.string":"String"},"default":""}]}],"default":null},
            {"name":"next","type":["null","shop.v1.Shop$Order.Item"],"default":null}]}"#;
        let shown = reader(java, &[]).unwrap().read(&[2, 2, b'x', 0], &[]);
        assert_eq!(shown.unwrap(), r#"{"item":{"sku":"x"},"next":null}"#);
        assert!(reader("{\"type\":\"recor\"}", &[]).is_err());
    }

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
