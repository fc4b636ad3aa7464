//! How large a schema may be, and what its declarations may be called.
//!
//! In: the files of a schema as parsed. Out: nothing, or what is wrong with them. Never: the compiler's work, which this is to bound: it
//! keeps the full name of every declaration, so a long name around many short ones would take their product of memory. Names are
//! looked at here because descriptors come past the parser, which alone knows what a name is.

use prost_reflect::prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};

/// Messages, fields, enums and symbols of a schema and all that it imports. A schema of as many fields compiles in about a second.
const DECLARATIONS_MAX: usize = 50_000;

/// Bytes of a full name, package and parents included.
const NAME_BYTES_MAX: usize = 512;

/// What was counted of a schema so far.
#[derive(Debug, Default)]
pub(super) struct Size {
    declarations: usize,
}

impl Size {
    /// Counts one file more; the error says what is over which limit.
    pub(super) fn add(&mut self, file: &FileDescriptorProto) -> Result<(), String> {
        let mut parts = file.package().split('.').filter(|_| !file.package().is_empty());
        let package = parts.try_fold(0, name_bytes)?;
        self.enums(package, &file.enum_type)?;
        file.extension.iter().try_for_each(|field| self.declare(package, field.name()).map(drop))?;
        file.message_type.iter().try_for_each(|message| self.message(package, message))
    }

    /// Parsers end at some hundred levels, so this may call itself.
    fn message(&mut self, parent: usize, message: &DescriptorProto) -> Result<(), String> {
        let name = self.declare(parent, message.name())?;
        for field in message.field.iter().chain(&message.extension) {
            self.declare(name, field.name())?;
        }
        message.oneof_decl.iter().try_for_each(|oneof| self.declare(name, oneof.name()).map(drop))?;
        self.enums(name, &message.enum_type)?;
        message.nested_type.iter().try_for_each(|inner| self.message(name, inner))
    }

    fn enums(&mut self, parent: usize, enums: &[EnumDescriptorProto]) -> Result<(), String> {
        for declared in enums {
            let name = self.declare(parent, declared.name())?;
            declared.value.iter().try_for_each(|symbol| self.declare(name, symbol.name()).map(drop))?;
        }
        Ok(())
    }

    /// Counts a declaration; returns the bytes of its full name.
    fn declare(&mut self, parent: usize, name: &str) -> Result<usize, String> {
        self.declarations += 1;
        if self.declarations > DECLARATIONS_MAX {
            return Err(format!(
                "the schema and its imports declare more than {DECLARATIONS_MAX} messages, fields, enums and symbols"
            ));
        }
        name_bytes(parent, name)
    }
}

/// Bytes of the full name of what is called so in a parent whose full name has that many.
fn name_bytes(parent: usize, name: &str) -> Result<usize, String> {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let is_name = name.bytes().enumerate().all(|(i, byte)| is_letter(byte) || (i > 0 && byte.is_ascii_digit()));
    if name.is_empty() || !is_name {
        let start: String = name.chars().take(40).collect();
        return Err(format!("{start:?} is not a name; names are of letters, digits and underscores"));
    }
    let bytes = parent + usize::from(parent > 0) + name.len();
    if bytes > NAME_BYTES_MAX {
        let start: String = name.chars().take(40).collect();
        return Err(format!("`{start}…` has a full name of {bytes} bytes; at most {NAME_BYTES_MAX} are allowed"));
    }
    Ok(bytes)
}
