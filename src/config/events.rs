//! `[events."NAME"]`: the event types.

use std::collections::{BTreeMap, HashMap};

use crate::route::{
    Acks, Brake, Encoding, EnvelopeForm, EventType, Framing, JavaAvro, JavaTimestamp, JavaUnknownEnum, KeySource, Lane,
    Limits, Mapping, MissingKey, NestedSep, Presence, Reply, SchemaType, TimestampPolicy, Uint64Policy,
    UnknownEnumPolicy, UnknownFields, Version,
};

use super::reader::{Item, Table};
use super::{Cluster, Http, Schemas, Spool, clusters, dead_letters, names};

/// Reads every event type and checks what must hold between them.
pub(super) fn read(
    root: &mut Table<'_>,
    http: &Http,
    clusters: &[Cluster],
    schemas: Option<&Schemas>,
    spool: Option<&Spool>,
) -> Vec<EventType> {
    let read_one = |(item, table)| {
        let (event_type, table) = read_one(&item, table, http, clusters);
        check_wal(&event_type, &table, spool);
        (event_type, table)
    };
    let (mut events, tables): (Vec<_>, Vec<_>) = root.children("events").into_iter().map(read_one).unzip();
    if let Some(schemas) = schemas {
        events.iter_mut().zip(&tables).for_each(|(event_type, table)| schemas.hold(event_type, table));
    }
    check_avro_subjects(&events, &tables, clusters);
    dead_letters::check(&events, &tables, clusters);
    share_buffers(&mut events, &tables, clusters);
    events
}

/// Each event type's share of its producer's buffer: by default half of it, or all where no other event type has the same one.
fn share_buffers(events: &mut [EventType], tables: &[Table<'_>], clusters: &[Cluster]) {
    let mut users: HashMap<(String, Lane), usize> = HashMap::new();
    events.iter().for_each(|event| *users.entry((event.cluster.clone(), event.lane())).or_default() += 1);
    for (event, table) in events.iter_mut().zip(tables) {
        let Some(cluster) = clusters.iter().find(|cluster| cluster.name == event.cluster) else { continue };
        let buffer = cluster.buffer_bytes_max;
        let is_alone = users[&(event.cluster.clone(), event.lane())] == 1;
        match event.buffer_bytes_max {
            0 => event.buffer_bytes_max = if is_alone { buffer } else { buffer / 2 },
            bytes if bytes > buffer => table.problem(
                "buffer_bytes_max",
                format!(
                    "is over `buffer_bytes_max` of cluster `{}` ({buffer}), so that it would never apply",
                    cluster.name
                ),
            ),
            _ => {}
        }
    }
}

fn read_one<'s>(item: &Item<'s>, mut table: Table<'s>, http: &Http, clusters: &[Cluster]) -> (EventType, Table<'s>) {
    if let Err(message) = names::event(&item.name) {
        item.problem(message);
    }
    let encodings = [Encoding::Avro, Encoding::Protobuf, Encoding::Json, Encoding::RawJson].map(|e| (e.as_str(), e));
    let encoding =
        table.need("encoding", "`avro`, `protobuf`, `json` or `raw_json`").and_then(|i| i.choice(&encodings));
    let schema_type = schema_type(&mut table, encoding);
    refuse_without_effect(&mut table, encoding, schema_type);

    let event_type = EventType {
        name: item.name.clone(),
        owner: table.string("owner"),
        cluster: table
            .need("cluster", "the cluster that its topic is on")
            .and_then(|item| clusters::reference(item, "cluster", clusters.iter().map(|c| &*c.name)))
            .unwrap_or_default(),
        failover: failover(&mut table, clusters),
        topic: table
            .need("topic", "the topic that its records go to")
            .and_then(|i| clusters::topic(&i))
            .unwrap_or_default(),
        subject: subject(&mut table, encoding),
        schema_type,
        message: table.take("message").and_then(|item| path(&item, "the full name of a Protobuf message")),
        version: version(&mut table),
        mapping: mapping(&mut table),
        avro_subject: table.string("avro_subject"),
        encoding: encoding.unwrap_or(Encoding::RawJson),
        framing: table.choice_or(
            "framing",
            &[("prefix", Framing::Prefix), ("header", Framing::Header)],
            Framing::default(),
        ),
        envelope: table.choice_or(
            "envelope",
            &[("cloudevents", EnvelopeForm::CloudEvents), ("single", EnvelopeForm::Single)],
            EnvelopeForm::default(),
        ),
        key: table.take("key").and_then(key).unwrap_or_default(),
        missing_key: table.choice_or(
            "missing_key",
            &[("null", MissingKey::Null), ("reject", MissingKey::Reject)],
            MissingKey::default(),
        ),
        acks: table.choice_or("acks", &[("leader", Acks::Leader), ("all", Acks::All)], Acks::default()),
        reply: table.choice_or("reply", &Reply::ALL.map(|reply| (reply.as_str(), reply)), Reply::default()),
        ordered: table.flag("ordered"),
        low_rate: table.flag("low_rate"),
        unknown_fields: table.choice_or(
            "unknown_fields",
            &[
                ("reject", UnknownFields::Reject),
                ("drop", UnknownFields::Drop),
                ("properties", UnknownFields::Properties),
            ],
            UnknownFields::default(),
        ),
        // 0: what is left out follows from the cluster's.
        buffer_bytes_max: table
            .optional_number("buffer_bytes_max", 65_536..=68_719_476_736)
            .map_or(0, |bytes| bytes as usize),
        hot_key_events_per_second: table
            .optional_number("hot_key_events_per_second", 1..=1_000_000_000)
            .map(|number| number as u32),
        limits: limits(&mut table, http),
        brake: brake(&mut table),
        dead_letter: table.take("dead_letter").and_then(|item| clusters::topic(&item)),
        sensitive: sensitive(&mut table),
    };
    table.finish();
    check_one(&event_type, &table, clusters);
    (event_type, table)
}

/// The language of the subject's schema. It is said, not guessed: what a subject holds is decided elsewhere, and may change.
fn schema_type(table: &mut Table<'_>, encoding: Option<Encoding>) -> SchemaType {
    let types = [SchemaType::Protobuf, SchemaType::Avro, SchemaType::Json].map(|known| (known.setting(), known));
    table.by_default("schema_type", || format!("`{:?}`", SchemaType::default().setting()));
    let Some(item) = table.take("schema_type") else { return SchemaType::default() };
    let Some(schema_type) = item.clone().choice(&types) else { return SchemaType::default() };
    match (schema_type, encoding) {
        (_, Some(Encoding::RawJson)) => {
            item.problem("has no effect with `encoding = \"raw_json\"`: the payload has no schema");
        }
        (SchemaType::Avro, Some(Encoding::Protobuf | Encoding::Json)) => {
            item.problem("`avro` is stored as Avro: it needs `encoding = \"avro\"`");
        }
        (SchemaType::Json, Some(Encoding::Avro | Encoding::Protobuf)) => {
            item.problem("`json` is stored as JSON: it needs `encoding = \"json\"`");
        }
        _ => {}
    }
    schema_type
}

/// A setting that would do nothing is refused: whoever wrote it expects something of it.
fn refuse_without_effect(table: &mut Table<'_>, encoding: Option<Encoding>, schema_type: SchemaType) {
    let of_mapping = || ["mapping", "unknown_enum", "avro_subject"].into_iter().chain(OF_PRESENCE).chain(OF_JAVA_AVRO);
    if encoding == Some(Encoding::RawJson) {
        let why =
            "has no effect with `encoding = \"raw_json\"`: the payload has no schema and is stored as it was sent";
        for key in ["subject", "message", "version", "unknown_fields"] {
            table.refuse(key, why);
        }
    }
    match (encoding, schema_type) {
        (Some(Encoding::RawJson), _) | (Some(Encoding::Json), SchemaType::Protobuf) => {
            table.refuse("framing", "has no effect: such values name no schema");
        }
        _ => {}
    }
    if schema_type == SchemaType::Protobuf {
        if encoding.is_some_and(|encoding| encoding != Encoding::Avro) {
            for key in of_mapping() {
                table.refuse(key, "has no effect: it is about the mapping to Avro (`encoding = \"avro\"`)");
            }
        }
        return;
    }
    table.refuse("message", "has no effect: it names a Protobuf message, and `schema_type` is another");
    for key in of_mapping() {
        table.refuse(key, "has no effect: it is about the mapping of Protobuf to Avro, and `schema_type` is another");
    }
    if schema_type == SchemaType::Json {
        table.refuse("unknown_fields", "has no effect: a JSON Schema says itself which members it allows");
    }
}

/// Clusters that are declared, each once.
fn failover(table: &mut Table<'_>, clusters: &[Cluster]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for item in table.list("failover") {
        match clusters::reference(item.clone(), "cluster", clusters.iter().map(|c| &*c.name)) {
            Some(name) if names.contains(&name) => item.problem(format!("`{name}` stands here twice")),
            name => names.extend(name),
        }
    }
    names
}

fn subject(table: &mut Table<'_>, encoding: Option<Encoding>) -> Option<String> {
    match encoding {
        None | Some(Encoding::RawJson) => table.string("subject"),
        Some(_) => table.need("subject", "the registry subject of its schema").and_then(Item::string),
    }
}

/// What must hold between the settings of one event type.
fn check_one(event_type: &EventType, table: &Table<'_>, clusters: &[Cluster]) {
    let cluster = clusters.iter().find(|cluster| cluster.name == event_type.cluster);
    if let Some(cluster) = cluster {
        let name = &cluster.name;
        // `subject` is known to be wrong already when the registry's own name is.
        if event_type.encoding != Encoding::RawJson && cluster.registry.is_none() && table.has("subject") {
            table.problem("subject", format!("cluster `{name}` names no `registry` to look it up in"));
        }
        if cluster.canary_topic.as_deref() == Some(&*event_type.topic) {
            table.problem("topic", format!("is the `canary_topic` of cluster `{name}`, whose records are no events"));
        }
    }
    for name in &event_type.failover {
        check_failover(name, event_type, table, clusters);
    }
    match event_type.key {
        KeySource::Field(_) if event_type.encoding == Encoding::RawJson => {
            table.problem(
                "key",
                "a `raw_json` payload is not read, so its fields cannot be a key; the envelope's `key` can",
            );
        }
        KeySource::None if event_type.missing_key == MissingKey::Reject => {
            table.problem("missing_key", "`reject` contradicts `key = false`: every event would be refused");
        }
        _ => {}
    }
    if event_type.hot_key_events_per_second.is_some() && event_type.key == KeySource::None {
        table.problem("hot_key_events_per_second", "has no effect with `key = false`: no event has a key");
    }
    if event_type.low_rate && event_type.acks == Acks::All && event_type.lane() != Lane::Wal {
        table.problem("low_rate", "has no effect with `acks = \"all\"`: those share one client whatever their rate");
    }
}

/// What must hold for event types that are on disk before they are produced.
fn check_wal(event_type: &EventType, table: &Table<'_>, spool: Option<&Spool>) {
    if event_type.lane() != Lane::Wal {
        return;
    }
    let key = if event_type.ordered { "ordered" } else { "reply" };
    let what = if event_type.ordered { "`ordered = true`" } else { "`reply = \"durable\"`" };
    if spool.is_none() {
        table.problem(key, "needs `[spool]`: such events are on disk before they are produced");
    }
    if event_type.reply == Reply::Durable && spool.is_some_and(|spool| spool.is_ephemeral) {
        table.problem(
            "reply",
            "`durable` contradicts `spool.ephemeral`: what is on that disk goes with the pod; `acknowledged` waits for Kafka",
        );
    }
    if table.has("acks") && event_type.acks == Acks::Leader {
        table.problem(
            "acks",
            format!("`leader` contradicts {what}: such events need all in-sync replicas; leave it out"),
        );
    }
    if event_type.low_rate {
        table.problem("low_rate", format!("has no effect with {what}: those share one client whatever their rate"));
    }
    if !event_type.failover.is_empty() {
        table.problem("failover", format!("contradicts {what}: such events wait for their own cluster"));
    }
    if table.has("buffer_bytes_max") {
        table
            .problem("buffer_bytes_max", format!("has no effect with {what}: such events wait on disk, not in memory"));
    }
    if event_type.ordered && event_type.hot_key_events_per_second.is_some() {
        table.problem(
            "hot_key_events_per_second",
            "contradicts `ordered = true`: what goes without its key goes to any partition, so that its order is lost",
        );
    }
}

/// Another cluster stands in for the intended one only if its consumers can read what then arrives there.
fn check_failover(name: &str, event_type: &EventType, table: &Table<'_>, clusters: &[Cluster]) {
    let find = |name: &str| clusters.iter().find(|cluster| cluster.name == name);
    if name == event_type.cluster {
        table.problem("failover", format!("`{name}` is the event type's own `cluster`; name another, or leave it out"));
        return;
    }
    let (Some(intended), Some(other)) = (find(&event_type.cluster), find(name)) else { return };
    if event_type.encoding != Encoding::RawJson && intended.registry != other.registry {
        let registry = |cluster: &Cluster| match &cluster.registry {
            Some(registry) => format!("registry `{registry}`"),
            None => "no registry".to_owned(),
        };
        table.problem(
            "failover",
            format!(
                "cluster `{name}` has {}, `{}` has {}: records name their schema by an id, which another registry gives to another schema",
                registry(other),
                intended.name,
                registry(intended)
            ),
        );
    }
    if other.canary_topic.as_deref() == Some(&*event_type.topic) {
        table.problem(
            "failover",
            format!("the `topic` is the `canary_topic` of cluster `{name}`, whose records are no events"),
        );
    }
}

/// Two messages never share an Avro subject: the second one's schema would be refused, or worse, accepted.
fn check_avro_subjects(events: &[EventType], tables: &[Table<'_>], clusters: &[Cluster]) {
    let registry = |event: &EventType| {
        let cluster = clusters.iter().find(|cluster| cluster.name == event.cluster)?;
        cluster.registry.clone()
    };
    let sources: HashMap<_, _> =
        events.iter().filter_map(|event| Some(((registry(event)?, event.subject.clone()?), event))).collect();
    let mut owners: BTreeMap<(String, String), &EventType> = BTreeMap::new();
    for (event, table) in events.iter().zip(tables) {
        let (Some(registry), Some(message)) = (registry(event), message(event)) else { continue };
        if event.encoding != Encoding::Avro || event.schema_type != SchemaType::Protobuf {
            continue;
        }
        let subject = event.avro_subject.clone().unwrap_or_else(|| format!("{message}-avro"));
        if let Some(source) = sources.get(&(registry.clone(), subject.clone())) {
            let name = &source.name;
            table.problem("avro_subject", format!("`{subject}` is the `subject` of event type `{name}`"));
        }
        let owner = *owners.entry((registry, subject.clone())).or_insert(event);
        if self::message(owner) != Some(message) {
            let (name, other) = (&owner.name, self::message(owner).unwrap_or_default());
            table.problem(
                "avro_subject",
                format!("`{subject}` holds message `{other}` of event type `{name}`; two messages never share one"),
            );
        } else if owner.mapping.of_schema() != event.mapping.of_schema() {
            let name = &owner.name;
            table.problem(
                "avro_subject",
                format!("`{subject}` holds the schema by the mapping of event type `{name}`, which has other settings; set another"),
            );
        }
    }
}

/// The message as far as the configuration knows it: by default the one named like the subject.
fn message(event: &EventType) -> Option<&str> {
    event.message.as_deref().or(event.subject.as_deref())
}

fn version(table: &mut Table<'_>) -> Version {
    table.by_default("version", || "`\"latest\"`".to_owned());
    table.take("version").and_then(read_version).unwrap_or_default()
}

fn read_version(item: Item<'_>) -> Option<Version> {
    item.is_meant_as("`latest` or number, at least 1");
    match item.text() {
        None => item.number(1..=2_147_483_647).map(|number| Version::Number(number as u32)),
        Some("latest") => Some(Version::Latest),
        Some(_) => item.wrong("must be `latest` or a number"),
    }
}

/// Settings that only one of the mappings has.
const OF_PRESENCE: [&str; 2] = ["uint64", "invalid_timestamp"];
const OF_JAVA_AVRO: [&str; 4] = ["enum_default", "nested_sep", "timestamp", "avro_java_string"];

pub(super) fn mapping(table: &mut Table<'_>) -> Mapping {
    let kinds = [Mapping::default(), Mapping::JavaAvro(JavaAvro::default())].map(|mapping| (mapping.as_str(), mapping));
    match table.choice_or("mapping", &kinds, Mapping::default()) {
        Mapping::Presence(defaults) => {
            for key in OF_JAVA_AVRO {
                table.refuse(key, "has no effect: it is about `mapping = \"java-avro\"`");
            }
            Mapping::Presence(presence(table, defaults))
        }
        Mapping::JavaAvro(defaults) => {
            for key in OF_PRESENCE {
                table.refuse(key, "has no effect: it is about `mapping = \"presence\"`");
            }
            Mapping::JavaAvro(java_avro(table, defaults))
        }
    }
}

fn presence(table: &mut Table<'_>, defaults: Presence) -> Presence {
    let uint64 = [("reject", Uint64Policy::Reject), ("wrap", Uint64Policy::Wrap), ("decimal", Uint64Policy::Decimal)];
    let unknown_enum = [
        ("default_symbol", UnknownEnumPolicy::DefaultSymbol),
        ("reject", UnknownEnumPolicy::Reject),
        ("string", UnknownEnumPolicy::String),
    ];
    let invalid_timestamp = [("reject", TimestampPolicy::Reject), ("clamp", TimestampPolicy::Clamp)];
    Presence {
        uint64: table.choice_or("uint64", &uint64, defaults.uint64),
        unknown_enum: table.choice_or("unknown_enum", &unknown_enum, defaults.unknown_enum),
        invalid_timestamp: table.choice_or("invalid_timestamp", &invalid_timestamp, defaults.invalid_timestamp),
    }
}

fn java_avro(table: &mut Table<'_>, defaults: JavaAvro) -> JavaAvro {
    let nested_sep = [NestedSep::Dot, NestedSep::Underscore, NestedSep::Dollar].map(|sep| (sep.as_str(), sep));
    let timestamp =
        [("record", JavaTimestamp::Record), ("millis", JavaTimestamp::Millis), ("micros", JavaTimestamp::Micros)];
    let unknown_enum = [("throw", JavaUnknownEnum::Throw), ("default", JavaUnknownEnum::Default)];
    JavaAvro {
        enum_default: table.flag_or("enum_default", defaults.enum_default),
        nested_sep: table.choice_or("nested_sep", &nested_sep, defaults.nested_sep),
        timestamp: table.choice_or("timestamp", &timestamp, defaults.timestamp),
        avro_java_string: table.flag_or("avro_java_string", defaults.avro_java_string),
        unknown_enum: table.choice_or("unknown_enum", &unknown_enum, defaults.unknown_enum),
    }
}

/// A field path, or `false` for never a key.
fn key(item: Item<'_>) -> Option<KeySource> {
    item.is_meant_as("field path or `false`");
    if !item.is_boolean() {
        return path(&item, "a field path such as `order.id`").map(KeySource::Field);
    }
    match item.clone().boolean()? {
        false => Some(KeySource::None),
        true => item.wrong("must be a field path, or `false` for never a key; left out, it is the envelope's key"),
    }
}

/// `limits` of an event type or a sender.
pub(super) fn limits(table: &mut Table<'_>, http: &Http) -> Limits {
    let Some(mut table) = table.table("limits") else { return Limits::default() };
    let mut number = |key| table.optional_number(key, 1..=u64::MAX);
    let event_bytes_max = number("event_bytes_max");
    let limits = Limits {
        event_bytes_max: event_bytes_max.map(|bytes| bytes as usize),
        bytes_per_second: number("bytes_per_second"),
        events_per_second: number("events_per_second"),
    };
    table.finish();
    let body = http.body_bytes_max;
    if limits.event_bytes_max.is_some_and(|bytes| bytes > body) {
        table.problem(
            "event_bytes_max",
            format!("is over `http.body_bytes_max` ({body}), so that it would never apply"),
        );
    }
    if let (Some(event), Some(second)) = (event_bytes_max, limits.bytes_per_second)
        && second < event
    {
        table.problem(
            "bytes_per_second",
            format!("is less than `event_bytes_max` ({event}): the largest event could never pass"),
        );
    }
    limits
}

/// `disabled` or `sample` of an event type or a sender.
pub(super) fn brake(table: &mut Table<'_>) -> Brake {
    let disabled = table.flag("disabled");
    let share = table.take("sample").and_then(|item| item.share());
    if disabled && table.has("sample") {
        table.problem("sample", "has no effect beside `disabled = true`: nothing is let through");
    }
    match (disabled, share) {
        (true, _) => Brake::Disabled,
        (false, Some(share)) => Brake::sample(share),
        (false, None) => Brake::Off,
    }
}

fn sensitive(table: &mut Table<'_>) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    for item in table.list("sensitive") {
        match path(&item, "a field path such as `order.card_number`") {
            Some(field) if fields.contains(&field) => item.problem(format!("`{field}` stands here twice")),
            field => fields.extend(field),
        }
    }
    fields
}

/// Identifiers joined by dots.
fn path(item: &Item<'_>, what: &str) -> Option<String> {
    let text = item.clone().string()?;
    match names::identifiers(&text, what) {
        Ok(()) => Some(text),
        Err(message) => item.wrong(message),
    }
}
