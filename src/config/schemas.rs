//! `iguazu-schemas.toml`: what a repository of Protobuf files puts into registries, and how.
//!
//! One file beside the Protobuf files says which messages are events, what their subjects are called and how they become
//! Avro. `iguazu schema` checks and registers by it; a proxy's configuration that names it (`schemas_file`) takes its
//! mappings from it, and may not say otherwise.

use std::path::{Path, PathBuf};

use super::events::mapping as mapping_of;
use super::reader::{Item, Table, quoted};
use super::{Config, Problem, Registry, check, names, registries};
use crate::route::{Encoding, EventType, Mapping, SchemaType};
use crate::schema::compatibility::Level;

/// Its name, where nothing else is said.
pub const SCHEMAS_FILE: &str = "iguazu-schemas.toml";

/// The keys of a mapping, in all places where one may be written.
const MAPPING_KEYS: [&str; 8] = [
    "mapping",
    "uint64",
    "unknown_enum",
    "invalid_timestamp",
    "enum_default",
    "nested_sep",
    "timestamp",
    "avro_java_string",
];

/// The whole file.
#[derive(Clone, Debug)]
pub struct Schemas {
    /// The file itself.
    pub file: PathBuf,
    /// Folders with Protobuf files, the roots of their imports.
    pub proto: Vec<PathBuf>,
    /// Where `iguazu schema register` writes what it registered.
    pub lock: PathBuf,
    /// What a change must keep to, whatever less a registry asks for.
    pub compatibility: Level,
    /// Where the schemas go; each registry gets all of them.
    pub registries: Vec<Registry>,
    /// How messages become Avro that are not in the list, or say nothing else.
    pub mapping: Mapping,
    /// The messages that are events, by name.
    pub messages: Vec<EventMessage>,
}

/// `[messages."NAME"]`: a message that is an event.
#[derive(Clone, Debug, PartialEq)]
pub struct EventMessage {
    /// Its full name.
    pub name: String,
    /// The subject of its Protobuf schema.
    pub subject: String,
    /// The subject of its Avro schema; none if it is not to be derived.
    pub avro_subject: Option<String>,
    /// How it becomes Avro.
    pub mapping: Mapping,
}

impl EventMessage {
    /// A message by the rules that hold where nothing is set.
    pub fn named(name: &str, mapping: Mapping) -> EventMessage {
        let (name, avro_subject) = (name.to_owned(), Some(format!("{name}-avro")));
        EventMessage { subject: name.clone(), name, avro_subject, mapping }
    }
}

/// Reads and checks the file; file names in it are relative to its folder.
pub fn load_schemas(path: &Path) -> Result<Schemas, Vec<Problem>> {
    check::load_as(path, "the file", |root| read(root, path)).0.map(|(schemas, _)| schemas)
}

/// The mapping of settings as a command line has them, `mapping`, `uint64` and so on; or all that is wrong with them.
pub fn parse_mapping(settings: &[(String, String)]) -> Result<Mapping, String> {
    let line = |(key, value): &(String, String)| {
        let value = toml::Value::String(value.clone());
        format!("{} = {value}\n", quoted(key))
    };
    let text: String = settings.iter().map(line).collect();
    let parsed = check::parse_as(&text, Path::new(""), |mut root| {
        let mapping = mapping_of(&mut root);
        root.finish();
        mapping
    });
    let told = |problem: &Problem| format!("{}: {}", problem.key, problem.message);
    let parsed = parsed.0.map_err(|problems| problems.iter().map(told).collect::<Vec<_>>().join("; "));
    parsed.map(|(mapping, _)| mapping)
}

pub(super) fn read(mut root: Table<'_>, path: &Path) -> Schemas {
    let folder = root.source.folder.to_owned();
    let proto = root.need_list("proto", "the folders with Protobuf files, roots of their imports");
    let proto = proto.into_iter().filter_map(Item::string).map(|name| folder.join(name)).collect();
    let lock = folder.join(root.string_or("lock", "schemas.lock"));
    let levels = Level::ALL.map(|level| (level.as_str(), level));
    let compatibility = root.choice_or("compatibility", &levels, Level::default());
    let registries = registries::read(&mut root);
    let mapping = mapping_of(&mut root);
    let children = root.children("messages");
    if children.is_empty() {
        root.problem("messages", "there is no `[messages.\"name\"]`, so nothing is an event");
    }
    let (messages, tables): (Vec<_>, Vec<_>) =
        children.into_iter().map(|(item, table)| read_message(&item, table, mapping)).unzip();
    root.finish();
    for (position, (message, table)) in messages.iter().zip(&tables).enumerate() {
        let used = |subject: &String| {
            let before = &messages[..position];
            before.iter().find(|other| other.subject == *subject || other.avro_subject.as_ref() == Some(subject))
        };
        for (key, subject) in [("subject", Some(&message.subject)), ("avro_subject", message.avro_subject.as_ref())] {
            if let Some(other) = subject.and_then(used) {
                let (subject, other) = (subject.expect("it is used"), &other.name);
                table.problem(
                    key,
                    format!("`{subject}` is a subject of message `{other}` already; each schema has its own"),
                );
            }
        }
        if message.avro_subject.as_ref() == Some(&message.subject) {
            table.problem("avro_subject", "is the `subject` too; a subject never holds schemas of two types");
        }
    }
    Schemas { file: path.to_owned(), proto, lock, compatibility, registries, mapping, messages }
}

fn read_message<'s>(item: &Item<'s>, mut table: Table<'s>, default: Mapping) -> (EventMessage, Table<'s>) {
    if let Err(message) = names::identifiers(&item.name, "the full name of a Protobuf message") {
        item.problem(message);
    }
    let avro = table.flag_or("avro", true);
    if !avro {
        for key in MAPPING_KEYS.into_iter().chain(["avro_subject"]) {
            table.refuse(key, "has no effect: it is about the Avro schema, and `avro` is false");
        }
    }
    let own = MAPPING_KEYS.iter().any(|key| table.has(key));
    let own_mapping = mapping_of(&mut table);
    let by_default = EventMessage::named(&item.name, if own { own_mapping } else { default });
    let message = EventMessage {
        subject: table.string("subject").unwrap_or(by_default.subject),
        avro_subject: table.string("avro_subject").or(by_default.avro_subject).filter(|_| avro),
        ..by_default
    };
    table.finish();
    (message, table)
}

/// The messages of a configuration's event types that are looked up in a registry.
pub fn events_of(config: &Config, registry: &str) -> Vec<EventMessage> {
    let mut messages: Vec<EventMessage> = Vec::new();
    for event_type in &config.events {
        let cluster = config.clusters.iter().find(|cluster| cluster.name == event_type.cluster);
        let of_registry = cluster.is_some_and(|cluster| cluster.registry.as_deref() == Some(registry));
        let is_ours = of_registry && event_type.schema_type == SchemaType::Protobuf;
        let Some(subject) = event_type.subject.as_ref().filter(|_| is_ours) else { continue };
        let name = event_type.message.as_ref().unwrap_or(subject);
        let by_default = EventMessage::named(name, event_type.mapping);
        let avro_subject = event_type.avro_subject.clone().or(by_default.avro_subject);
        let message = EventMessage {
            subject: subject.clone(),
            avro_subject: avro_subject.filter(|_| event_type.encoding == Encoding::Avro),
            ..by_default
        };
        match messages.iter_mut().find(|known| known.subject == message.subject && known.name == message.name) {
            // Several event types may share a message, one stored as Avro and one not.
            Some(known) if known.avro_subject.is_none() || message.avro_subject.is_none() => {
                if known.avro_subject.is_none() {
                    *known = message;
                }
            }
            Some(known) if *known == message => {}
            _ => messages.push(message),
        }
    }
    messages
}

impl Schemas {
    /// Holds an event type of a proxy to this file: its mapping is the file's, and what it says itself must not differ.
    pub(super) fn hold(&self, event_type: &mut EventType, table: &Table<'_>) {
        // Subjects of Avro and JSON Schema are registered by whoever owns them.
        if event_type.encoding == Encoding::RawJson || event_type.schema_type != SchemaType::Protobuf {
            return;
        }
        let file = self.file.file_name().unwrap_or_default().to_string_lossy();
        let name = event_type.message.as_ref().or(event_type.subject.as_ref());
        let Some(message) = self.messages.iter().find(|message| Some(&message.name) == name) else {
            let name = name.cloned().unwrap_or_default();
            return table
                .problem("message", format!("`{name}` is no message of `{file}`, by which schemas are registered"));
        };
        if event_type.subject.as_ref() != Some(&message.subject) {
            table.problem(
                "subject",
                format!("`{file}` registers `{}` under subject `{}`", message.name, message.subject),
            );
        }
        if event_type.encoding != Encoding::Avro {
            return;
        }
        let Some(avro_subject) = &message.avro_subject else {
            return table.problem("encoding", format!("`{file}` derives no Avro schema for `{}`", message.name));
        };
        match &event_type.avro_subject {
            Some(own) if own != avro_subject => {
                table.problem("avro_subject", format!("`{file}` registers it under subject `{avro_subject}`"));
            }
            _ => event_type.avro_subject = Some(avro_subject.clone()),
        }
        let own = MAPPING_KEYS.into_iter().find(|key| table.has(key));
        match own {
            Some(key) if event_type.mapping != message.mapping => {
                table.problem(key, format!("contradicts `{file}`, by which schemas are derived; leave it out here"));
            }
            _ => event_type.mapping = message.mapping,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Schemas, Vec<String>> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(SCHEMAS_FILE);
        std::fs::write(&file, text).expect("written");
        load_schemas(&file).map_err(|problems| problems.iter().map(Problem::to_string).collect())
    }

    fn uint64(policy: &str) -> Mapping {
        parse_mapping(&[("uint64".to_owned(), policy.to_owned())]).expect("a policy")
    }

    #[test]
    fn a_mapping_of_the_command_line_is_one_of_a_configuration() {
        assert_ne!(uint64("wrap"), uint64("reject"));
        let wrong =
            |key: &str, value: &str| parse_mapping(&[(key.to_owned(), value.to_owned())]).expect_err("it is wrong");
        assert!(wrong("mapping", "other").starts_with("mapping: `other` is none of"), "{}", wrong("mapping", "other"));
        assert!(wrong("uint", "wrap").starts_with("uint: unknown key `uint`"), "{}", wrong("uint", "wrap"));
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        match parse(text) {
            Ok(_) => assert!(expected.is_empty(), "it is taken: {text}"),
            Err(problems) => assert_eq!(problems, expected, "{text}"),
        }
    }

    #[test]
    fn every_problem_of_the_file_is_told_at_once() {
        check(
            "compatibility = \"SOME\"\nlockk = 1\n",
            &[
                "messages: there is no `[messages.\"name\"]`, so nothing is an event",
                "proto: missing: the folders with Protobuf files, roots of their imports",
                "line 1: compatibility: `SOME` is none of `NONE`, `BACKWARD`, `BACKWARD_TRANSITIVE`, `FORWARD`, `FORWARD_TRANSITIVE`, `FULL`, `FULL_TRANSITIVE`",
                "line 2: lockk: unknown key `lockk`; did you mean `lock`?",
            ],
        );
        check(
            "proto = [\"proto\"]\n[messages.\"a b\"]\n[messages.\"a.B\"]\navro = false\nuint64 = \"wrap\"\n",
            &[
                "line 2: messages.\"a b\": `a b` is not the full name of a Protobuf message: identifiers joined by dots",
                "line 5: messages.\"a.B\".uint64: has no effect: it is about the Avro schema, and `avro` is false",
            ],
        );
    }

    #[test]
    fn two_schemas_never_share_a_subject() {
        let of = |settings: &str| format!("proto = [\"proto\"]\n[messages.\"a.A\"]\n[messages.\"a.B\"]\n{settings}\n");
        check(
            &of("subject = \"a.A\""),
            &["line 4: messages.\"a.B\".subject: `a.A` is a subject of message `a.A` already; each schema has its own"],
        );
        check(
            &of("avro_subject = \"a.A-avro\""),
            &[
                "line 4: messages.\"a.B\".avro_subject: `a.A-avro` is a subject of message `a.A` already; each schema has its own",
            ],
        );
        check(
            &of("avro_subject = \"a.B\""),
            &[
                "line 4: messages.\"a.B\".avro_subject: is the `subject` too; a subject never holds schemas of two types",
            ],
        );
    }

    #[test]
    fn what_is_not_said_of_a_message_is_the_rule() {
        let text = "proto = [\"proto\"]\nuint64 = \"wrap\"\n[messages.\"a.A\"]\n[messages.\"a.B\"]\nuint64 = \"reject\"\nsubject = \"b\"\n[messages.\"a.C\"]\navro = false\n";
        let schemas = parse(text).expect("it is good");
        let of = |n: usize| {
            let message = &schemas.messages[n];
            (message.subject.as_str(), message.avro_subject.as_deref(), message.mapping)
        };
        assert_eq!(of(0), ("a.A", Some("a.A-avro"), uint64("wrap")));
        assert_eq!(of(1), ("b", Some("a.B-avro"), uint64("reject")));
        assert_eq!(of(2), ("a.C", None, uint64("wrap")));
        assert_eq!(schemas.compatibility, Level::Backward);
        assert!(schemas.lock.ends_with("schemas.lock"));
    }

    #[test]
    fn a_proxy_takes_mappings_from_the_file_and_may_not_contradict_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let schemas = "proto = [\"p\"]\nuint64 = \"wrap\"\n[messages.\"a.A\"]\navro_subject = \"x\"\n[messages.\"a.B\"]\navro = false\n";
        std::fs::write(folder.path().join(SCHEMAS_FILE), schemas).expect("written");
        let with = |event: &str| {
            let text = format!(
                "schemas_file = \"iguazu-schemas.toml\"\n[registries.r]\nurls = [\"http://r\"]\n[clusters.c]\nbrokers = [\"b:1\"]\nregistry = \"r\"\n[events.e]\ncluster = \"c\"\ntopic = \"t\"\n{event}"
            );
            let parsed = super::super::parse(&text, folder.path());
            parsed.map_err(|problems| problems.iter().map(Problem::to_string).collect::<Vec<_>>())
        };
        let event = &with("subject = \"a.A\"\nencoding = \"avro\"\n").expect("it says nothing else").events[0];
        assert_eq!((event.mapping, event.avro_subject.as_deref()), (uint64("wrap"), Some("x")));
        for (event, problem) in [
            (
                "subject = \"a.A\"\nencoding = \"avro\"\nuint64 = \"reject\"\n",
                "line 12: events.e.uint64: contradicts `iguazu-schemas.toml`, by which schemas are derived; leave it out here",
            ),
            (
                "subject = \"a.A\"\nencoding = \"avro\"\navro_subject = \"y\"\n",
                "line 12: events.e.avro_subject: `iguazu-schemas.toml` registers it under subject `x`",
            ),
            (
                "subject = \"a.B\"\nencoding = \"avro\"\n",
                "line 11: events.e.encoding: `iguazu-schemas.toml` derives no Avro schema for `a.B`",
            ),
            (
                "subject = \"s\"\nmessage = \"a.B\"\nencoding = \"json\"\n",
                "line 10: events.e.subject: `iguazu-schemas.toml` registers `a.B` under subject `a.B`",
            ),
            (
                "subject = \"a.C\"\nencoding = \"avro\"\n",
                "line 7: events.e.message: `a.C` is no message of `iguazu-schemas.toml`, by which schemas are registered",
            ),
        ] {
            assert_eq!(with(event).expect_err("it contradicts"), [problem], "{event}");
        }
    }
}
