//! Protobuf files under folders.
//!
//! In: folders, or texts. Out: their messages compiled, and those among them that may be events. Never: a file that lies
//! outside the folders it was given.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

/// Protobuf files by the name under which others import them.
#[derive(Clone, Debug, Default)]
pub struct ProtoFiles {
    texts: BTreeMap<String, String>,
}

/// Why Protobuf files cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ProtoError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} holds no .proto file", folder.display())]
    Empty { folder: PathBuf },
    #[error("`{name}` is in more than one folder; imports could mean either")]
    Twice { name: String },
    #[error("{text}")]
    Compile { text: String, source: Box<protox::Error> },
    #[error("no message to send: every top-level message is part of another one")]
    NoEvent,
}

/// Folders deeper than this are taken for a loop of symbolic links.
const FOLDERS_DEEP: usize = 32;

impl ProtoFiles {
    /// Texts by the names under which they are imported.
    pub fn of<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> ProtoFiles {
        ProtoFiles { texts: texts.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect() }
    }

    /// Every `.proto` file under these folders; imports are relative to the folder that a file is under.
    pub fn under(folders: &[PathBuf]) -> Result<ProtoFiles, ProtoError> {
        let mut files = ProtoFiles::default();
        for folder in folders {
            let before = files.texts.len();
            files.add_folder(folder, folder, 0)?;
            if files.texts.len() == before {
                return Err(ProtoError::Empty { folder: folder.clone() });
            }
        }
        Ok(files)
    }

    fn add_folder(&mut self, root: &Path, folder: &Path, depth: usize) -> Result<(), ProtoError> {
        let failed = |source| ProtoError::Read { path: folder.to_owned(), source };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            paths.push(entry.map_err(failed)?.path());
        }
        paths.sort();
        for path in paths {
            if path.is_dir() && depth < FOLDERS_DEEP {
                self.add_folder(root, &path, depth + 1)?;
            } else if path.extension().is_some_and(|extension| extension == "proto") {
                let text =
                    std::fs::read_to_string(&path).map_err(|source| ProtoError::Read { path: path.clone(), source })?;
                let below = path.strip_prefix(root).expect("the path was made by joining names to the root");
                let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
                let name = parts.join("/");
                if self.texts.insert(name.clone(), text).is_some() {
                    return Err(ProtoError::Twice { name });
                }
            }
        }
        Ok(())
    }

    /// Names and texts, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// The text of a file.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// Compiles all of them together.
    pub fn compile(&self) -> Result<DescriptorPool, ProtoError> {
        // The debug form is the one with file, line and column.
        let told = |source: &protox::Error| format!("{source:?}").lines().map(str::trim).collect::<Vec<_>>().join("; ");
        let failed = |source| ProtoError::Compile { text: told(&source), source: Box::new(source) };
        let mut resolver = ChainFileResolver::new();
        resolver.add(self.clone());
        resolver.add(GoogleFileResolver::new());
        let mut compiler = protox::Compiler::with_file_resolver(resolver);
        for name in self.texts.keys() {
            compiler.open_file(name).map_err(failed)?;
        }
        Ok(compiler.descriptor_pool())
    }

    /// The messages that are events: every top-level one of these files that no other message refers to.
    pub fn events(&self, pool: &DescriptorPool) -> Result<Vec<MessageDescriptor>, ProtoError> {
        let ours: Vec<_> = self.texts.keys().filter_map(|name| pool.get_file_by_name(name)).collect();
        let mut referred = BTreeSet::new();
        for message in ours.iter().flat_map(|file| file.messages()) {
            refer(&message, message.full_name(), &mut referred);
        }
        let top = ours.iter().flat_map(|file| file.messages().collect::<Vec<_>>());
        let events: Vec<_> = top.filter(|message| !referred.contains(message.full_name())).collect();
        if events.is_empty() { Err(ProtoError::NoEvent) } else { Ok(events) }
    }
}

/// Notes the messages that `message` and those nested in it refer to, other than the top-level message `within` itself.
fn refer(message: &MessageDescriptor, within: &str, referred: &mut BTreeSet<String>) {
    for field in message.fields() {
        if let Kind::Message(to) = field.kind()
            && to.full_name() != within
        {
            referred.insert(to.full_name().to_owned());
        }
    }
    for nested in message.child_messages() {
        refer(&nested, within, referred);
    }
}

impl FileResolver for ProtoFiles {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.texts.get(name) {
            Some(text) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(texts: &[(&str, &str)]) -> ProtoFiles {
        let texts = texts.iter().map(|(name, text)| ((*name).to_owned(), format!("syntax = \"proto3\";\n{text}")));
        ProtoFiles { texts: texts.collect() }
    }

    fn check(texts: &[(&str, &str)], expected: Result<&[&str], &str>) {
        let files = files(texts);
        let events = files.compile().and_then(|pool| files.events(&pool));
        match (events, expected) {
            (Ok(events), Ok(names)) => {
                assert_eq!(events.iter().map(MessageDescriptor::full_name).collect::<Vec<_>>(), names);
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, _) => panic!("{got:?}"),
        }
    }

    #[test]
    fn a_file_that_does_not_compile_is_named() {
        check(&[("a/b.proto", "message A { Missing m = 1; }")], Err("Missing"));
        check(&[("a.proto", "import \"gone.proto\";")], Err("gone.proto"));
        check(&[("a.proto", "enum E { ZERO = 0; }")], Err("no message to send"));
    }

    #[test]
    fn events_are_the_messages_that_no_other_refers_to() {
        check(&[("a.proto", "package p; message A { B b = 1; } message B {} message C {}")], Ok(&["p.A", "p.C"]));
        check(&[("a.proto", "message Tree { Tree left = 1; }")], Ok(&["Tree"]));
        check(&[("a.proto", "message A { message In { B b = 1; } In in = 1; } message B {}")], Ok(&["A"]));
        check(&[("a.proto", "message A { map<string, B> b = 1; } message B {}")], Ok(&["A"]));
        let imported = ("x/b.proto", "package b; message B {} message Lone {}");
        check(
            &[("a.proto", "import \"x/b.proto\"; message A { repeated b.B b = 1; }"), imported],
            Ok(&["A", "b.Lone"]),
        );
    }

    #[test]
    fn a_folder_without_files_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = ProtoFiles::under(&[folder.path().to_owned()]).expect_err("nothing there");
        assert!(error.to_string().contains("no .proto file"), "{error}");
    }
}
