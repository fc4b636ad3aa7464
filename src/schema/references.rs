//! A schema -> the schema with everything that it refers to.
//!
//! In: a schema whose references name subjects and versions. Out: a [`Family`], complete, or what is missing, round or too
//! much of it. Never: more than a bounded number of look-ups.

use std::collections::HashSet;

use super::client::{Registry, RegistryError};
use super::source::{Family, Reference, Schema};

/// How deep, how many and how large what a schema refers to may be.
const REFERENCE_DEPTH_MAX: usize = 32;
const REFERENCES_MAX: usize = 256;
const FAMILY_BYTES_MAX: usize = 16 << 20;

impl Registry {
    /// A schema with everything that it refers to. `referrer` names it in errors. Where one name is referred to in two
    /// versions, the first one found depth first counts, as with Confluent's own clients.
    pub async fn family(&self, referrer: &str, root: &Schema) -> Result<Family, RegistryError> {
        let wrong = |problem: String| RegistryError::References { referrer: referrer.to_owned(), problem };
        let mut imports = Vec::new();
        let mut names = HashSet::new();
        let mut path: Vec<Open> = vec![Open::root(root)];
        let mut bytes = root.text.len();
        while let Some(open) = path.last_mut() {
            let Some(reference) = open.references.next() else {
                let done = path.pop().expect("the loop's condition saw it");
                if let Some((reference, schema)) = done.of {
                    imports.push((reference.name, schema));
                }
                continue;
            };
            let same = |open: &Open| {
                open.of.as_ref().is_some_and(|(r, _)| r.subject == reference.subject && r.version == reference.version)
            };
            if path.iter().any(same) {
                let cycle: Vec<_> = path.iter().filter_map(|open| open.of.as_ref()).map(|(r, _)| &*r.name).collect();
                return Err(wrong(format!("has an import cycle: {} -> {}", cycle.join(" -> "), reference.name)));
            }
            if !names.insert(reference.name.clone()) {
                continue;
            }
            if names.len() > REFERENCES_MAX || path.len() > REFERENCE_DEPTH_MAX {
                return Err(wrong(format!(
                    "refers to more than {REFERENCES_MAX} schemas, or deeper than {REFERENCE_DEPTH_MAX}"
                )));
            }
            let found = match self.version(&reference.subject, reference.version).await {
                Ok(found) => found.registered.schema,
                Err(RegistryError::NotFound { wanted, registry }) => {
                    let name = &reference.name;
                    return Err(wrong(format!(
                        "imports `{name}` from {wanted}, which registry `{registry}` does not have"
                    )));
                }
                Err(other) => return Err(other),
            };
            bytes += found.text.len();
            if bytes > FAMILY_BYTES_MAX {
                return Err(wrong(format!("and what it refers to have more than {FAMILY_BYTES_MAX} bytes")));
            }
            path.push(Open { references: found.references.clone().into_iter(), of: Some((reference, found)) });
        }
        Ok(Family { root: root.clone(), imports })
    }
}

/// A schema whose references are being followed.
struct Open {
    /// The reference that led to it, and the schema; none for the root.
    of: Option<(Reference, Schema)>,
    references: std::vec::IntoIter<Reference>,
}

impl Open {
    fn root(schema: &Schema) -> Open {
        Open { of: None, references: schema.references.clone().into_iter() }
    }
}
