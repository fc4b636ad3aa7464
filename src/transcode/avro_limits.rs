//! How large an Avro schema may be: one set of limits for every reader of its text.
//!
//! In: what a reader meets in a schema. Out: nothing, or what is over which limit. Never: an error that is as long as the schema.

/// Types, fields and symbols of a schema and all that it refers to. The largest Protobuf schema's takes some eight for each of its
/// declarations.
const DECLARATIONS_MAX: usize = 400_000;

/// Types of one union: each of a writer's is looked for among those of a reader.
const BRANCHES_MAX: usize = 1_000;

/// Bytes of a name, and of a full one.
const NAME_BYTES_MAX: usize = 512;

/// What was met of a schema so far.
#[derive(Debug, Default)]
pub(crate) struct AvroSize {
    declarations: usize,
}

impl AvroSize {
    /// Counts types, fields or symbols.
    ///
    /// # Errors
    /// When the schema has too many.
    pub(crate) fn add(&mut self, declarations: usize) -> Result<(), String> {
        self.declarations += declarations;
        if self.declarations > DECLARATIONS_MAX {
            return Err(format!(
                "the schema and those it refers to have more than {DECLARATIONS_MAX} types, fields and symbols"
            ));
        }
        Ok(())
    }

    /// Counts a union of so many types.
    ///
    /// # Errors
    /// When it has too many.
    pub(crate) fn union(&mut self, branches: usize) -> Result<(), String> {
        if branches > BRANCHES_MAX {
            return Err(format!("a union has {branches} types; at most {BRANCHES_MAX} are allowed"));
        }
        self.add(1)
    }
}

/// Says whether a name, or a full one, is too long.
///
/// # Errors
/// When it is, with its beginning.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.len() > NAME_BYTES_MAX {
        let start: String = name.chars().take(40).collect();
        return Err(format!("the name `{start}…` has {} bytes; at most {NAME_BYTES_MAX} are allowed", name.len()));
    }
    Ok(())
}
