//! The loader against the embedded registry, over real HTTP.

use std::time::Duration;

use super::super::compile;
use super::super::source::{Kind, Reference, Schema};
use super::*;
use crate::config;
use crate::dev::registry::{EmbeddedRegistry, Options};
use crate::envelope::SchemaReference;
use crate::outcome::Code;
use crate::route::{
    Acks, Encoding, EnvelopeForm, Framing, JavaAvro, KeySource, Limits, Mapping, MissingKey, NestedSep, Reply,
    SchemaType, UnknownFields,
};
use crate::schema::compatibility::Level;
use crate::transcode;

const SUBJECT: &str = "shop.v1.Order";
const AVRO_SUBJECT: &str = "shop.v1.Order-avro";
const ORDER: &str = "syntax = \"proto3\"; package shop.v1; message Order { string id = 1; int64 cents = 2; }";
const ORDER_WITH_NOTE: &str =
    "syntax = \"proto3\"; package shop.v1; message Order { string id = 1; int64 cents = 2; string note = 3; }";
/// Compiles, but its message cannot be found: there are two, and none is called like the subject.
const RENAMED: &str = "syntax = \"proto3\"; package shop.v1; message Order2 {} message Extra {}";

fn event_type(encoding: Encoding) -> EventType {
    EventType {
        name: "order.placed".to_owned(),
        owner: None,
        cluster: "core".to_owned(),
        failover: Vec::new(),
        topic: "orders".to_owned(),
        subject: Some(SUBJECT.to_owned()),
        schema_type: SchemaType::Protobuf,
        message: None,
        version: Version::Latest,
        mapping: Mapping::default(),
        avro_subject: None,
        encoding,
        framing: Framing::Prefix,
        envelope: EnvelopeForm::CloudEvents,
        key: KeySource::Envelope,
        missing_key: MissingKey::Null,
        acks: Acks::Leader,
        reply: Reply::Enqueued,
        ordered: false,
        low_rate: false,
        unknown_fields: UnknownFields::Reject,
        buffer_bytes_max: 1_048_576,
        hot_key_events_per_second: None,
        limits: Limits::default(),
        sensitive: Vec::new(),
        dead_letter: None,
    }
}

/// An embedded registry, which lives as long as it is held, and a client of it.
async fn start() -> (EmbeddedRegistry, Arc<Registry>) {
    // What a registry would refuse is what these tests are about.
    let options = Options { level: Level::None, ..Options::default() };
    let server = EmbeddedRegistry::start(options).await.expect("a free port");
    let settings = config::Registry {
        name: "main".to_owned(),
        urls: vec![server.url()],
        auth: None,
        ca_file: None,
        timeout: Duration::from_secs(5),
        negative_ttl: Duration::ZERO,
    };
    (server, Arc::new(Registry::new(&settings).expect("good settings")))
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn protobuf(text: &str) -> Schema {
    Schema::new(Kind::Protobuf, text)
}

/// Registers a Protobuf schema and its derived Avro schema.
async fn register_both(registry: &Registry, text: &str) {
    put(registry, SUBJECT, protobuf(text)).await;
    let compiled = compile::compile("order.proto", &protobuf(text).into()).expect("good");
    let message = compiled.message(SUBJECT, None).expect("there");
    let avro = transcode::avro_schema(&message.descriptor, &Mapping::default()).expect("it can be derived");
    put(registry, AVRO_SUBJECT, Schema::new(Kind::Avro, avro)).await;
}

async fn put(registry: &Registry, subject: &str, schema: Schema) -> SubjectVersion {
    registry.register(subject, &schema).await.expect("registered");
    registry.find(subject, &schema).await.expect("it is there")
}

fn versions(set: &SchemaSet) -> Vec<u32> {
    set.versions.iter().map(|compiled| compiled.version).collect()
}

fn default_version(set: &SchemaSet) -> u32 {
    set.versions[set.default].version
}

/// Loads an event type for which only this Protobuf text, with these references, is registered, and gives the error.
async fn refusal(text: Schema, change: impl Fn(&mut EventType)) -> String {
    let (_server, registry) = start().await;
    put(&registry, SUBJECT, text).await;
    let mut event_type = event_type(Encoding::Protobuf);
    change(&mut event_type);
    let error = Loader::new(registry, None).load(&event_type).await.expect_err("it is of no use");
    error.to_string()
}

#[tokio::test]
async fn a_schema_that_is_of_no_use_says_why() {
    let is = |text: &str| protobuf(text);
    let error = refusal(Schema::new(Kind::Json, "{}"), |_| {}).await;
    assert_eq!(
        error,
        "subject `shop.v1.Order` version 1 is or refers to a schema of type JSON, the event type expects PROTOBUF; set `schema_type = \"json\"` if that is meant"
    );
    let error = refusal(is(RENAMED), |_| {}).await;
    assert_eq!(
        error,
        "subject `shop.v1.Order` version 1: none of `shop.v1.Order2`, `shop.v1.Extra` is called `shop.v1.Order`; set `message` to one of them"
    );
    let error = refusal(is(ORDER), |e| e.version = Version::Number(9)).await;
    assert_eq!(error, "subject `shop.v1.Order` has no version 9; it has 1");
    let error = refusal(is(ORDER), |e| e.subject = Some("no.Such".to_owned())).await;
    assert_eq!(error, "registry `main` has no subject `no.Such`");
    let error = refusal(is(ORDER), |e| e.subject = None).await;
    assert_eq!(error, "event type `order.placed` has no subject");
    let error = refusal(is(ORDER), |e| e.key = KeySource::Field("no.such".to_owned())).await;
    assert!(error.starts_with("subject `shop.v1.Order` version 1: ") && error.contains("no"), "{error}");
}

#[tokio::test]
async fn a_reference_that_is_gone_is_named() {
    let (_server, registry) = start().await;
    put(&registry, "shop/money.proto", protobuf("syntax = \"proto3\"; package shop; message Money { int64 c = 1; }"))
        .await;
    let text = "syntax = \"proto3\"; package shop.v1; import \"shop/money.proto\"; message Order { shop.Money m = 1; }";
    let reference =
        |version| Reference { name: "shop/money.proto".to_owned(), subject: "shop/money.proto".to_owned(), version };
    put(&registry, SUBJECT, Schema { references: vec![reference(1)], ..protobuf(text) }).await;
    let loader = Loader::new(Arc::clone(&registry), None);
    loader.load(&event_type(Encoding::Protobuf)).await.expect("complete");

    let family = registry.family("it", &Schema { references: vec![reference(2)], ..protobuf(text) }).await;
    let error = family.expect_err("there is no version 2").to_string();
    assert_eq!(
        error,
        "it imports `shop/money.proto` from version 2 of subject `shop/money.proto`, which registry `main` does not have"
    );
}

#[tokio::test]
async fn an_avro_schema_in_other_words_is_found() {
    let (_server, registry) = start().await;
    put(&registry, SUBJECT, protobuf(ORDER)).await;
    let other_words = r#"{"fields":[
        {"type":"string","default":"","doc":"who","name":"id"},
        {"default":0,"name":"cents","type":{"type":"long"},"owner":"shop"}],
        "doc":"An order.","name":"shop.v1.Order","type":"record"}"#;
    let chosen = put(&registry, AVRO_SUBJECT, Schema::new(Kind::Avro, other_words)).await;
    let loaded = Loader::new(registry, None).load(&event_type(Encoding::Avro)).await.expect("it is found");
    let compiled = loaded.set.get(None).expect("the default");
    assert_eq!((compiled.version, compiled.value_id), (1, chosen.registered.id));
    assert_eq!(compiled.prefix, [&[0], &chosen.registered.id.to_be_bytes()[..]].concat());
    let datum = [&compiled.prefix[..], &[2, b'x', 84]].concat();
    assert_eq!(compiled.value_as_json(&datum, &["id".to_owned()]).as_deref(), Some(r#"{"id":"***","cents":42}"#));
}

#[tokio::test]
async fn a_schema_of_java_is_found_by_the_mapping_that_it_is_of() {
    let (_server, registry) = start().await;
    let text = "syntax = \"proto3\"; package shop.v1; option java_outer_classname = \"Shop\";
        message Order { message Item { string sku = 1; } Item item = 1; uint64 total = 2; }";
    put(&registry, SUBJECT, protobuf(text)).await;
    let java = r#"{"type":"record","name":"Order","namespace":"shop.v1.Shop","fields":[{"name":"item","type":["null",
        {"type":"record","name":"Item","namespace":"shop.v1.Shop_Order","fields":[{"name":"sku",
        "type":{"type":"string","avro.java.string":"String"},"default":""}]}],"default":null},
        {"name":"total","type":"long","default":0}]}"#;
    put(&registry, AVRO_SUBJECT, Schema::new(Kind::Avro, java)).await;
    let load = async |nested_sep| {
        let mapping = Mapping::JavaAvro(JavaAvro { nested_sep, ..JavaAvro::default() });
        let event_type = EventType { mapping, ..event_type(Encoding::Avro) };
        Loader::new(Arc::clone(&registry), None).load(&event_type).await
    };
    let loaded = load(NestedSep::Underscore).await.expect("it is found");
    let compiled = loaded.set.get(None).expect("the default");
    let datum = [&compiled.prefix[..], &[2, 2, b'x', 1]].concat();
    let shown = compiled.value_as_json(&datum, &[]);
    assert_eq!(shown.as_deref(), Some(r#"{"item":{"sku":"x"},"total":-1}"#));
    let error = load(NestedSep::Dot).await.expect_err("the item has another name").to_string();
    assert!(error.contains("shop.v1.Shop.Order.Item derived, shop.v1.Shop_Order.Item in version 1"), "{error}");
}

#[tokio::test]
async fn without_a_fitting_avro_schema_the_error_says_what_differs_and_what_to_do() {
    let (_server, registry) = start().await;
    put(&registry, SUBJECT, protobuf(ORDER)).await;
    let loader = Loader::new(Arc::clone(&registry), None);
    let error = loader.load(&event_type(Encoding::Avro)).await.expect_err("there is none").to_string();
    assert_eq!(
        error,
        "subject `shop.v1.Order-avro` has no schema for subject `shop.v1.Order` version 1: it has no Avro schema at all; \
         register it with `iguazu schema register`"
    );
    let near = r#"{"type":"record","name":"shop.v1.Order","fields":[
        {"name":"id","type":"string","default":""},{"name":"cents","type":"int","default":0}]}"#;
    put(&registry, AVRO_SUBJECT, Schema::new(Kind::Avro, near)).await;
    let error = loader.load(&event_type(Encoding::Avro)).await.expect_err("none fits").to_string();
    assert_eq!(
        error,
        "subject `shop.v1.Order-avro` has no schema for subject `shop.v1.Order` version 1: field `cents`: long derived, \
         int in version 1; register it with `iguazu schema register`"
    );
}

#[tokio::test]
async fn a_new_version_of_no_use_does_not_take_the_place_of_a_good_one() {
    let (_server, registry) = start().await;
    register_both(&registry, ORDER).await;
    let loader = Loader::new(Arc::clone(&registry), None);
    let avro = event_type(Encoding::Avro);
    let first = loader.load(&avro).await.expect("good").set;

    // No Avro schema for it yet.
    put(&registry, SUBJECT, protobuf(ORDER_WITH_NOTE)).await;
    assert!(matches!(loader.refresh(&avro, &first).await, Refreshed::Unchanged));
    let problems = loader.status(&avro.name).problems;
    assert!(
        problems[0].starts_with("version 2: ")
            && problems[0].contains("field `note`: string derived, none in version 1")
    );

    // It comes, and the new version is taken up.
    register_both(&registry, ORDER_WITH_NOTE).await;
    let Refreshed::Changed(second) = loader.refresh(&avro, &first).await else { panic!("it has healed") };
    assert_eq!((versions(&second.set), default_version(&second.set)), (vec![1, 2], 2));
    assert!(Arc::ptr_eq(&first.versions[0], &second.set.versions[0]), "version 1 is not compiled again");
    assert_eq!(loader.status(&avro.name).problems, Vec::<String>::new());

    // A file without its message.
    put(&registry, SUBJECT, protobuf(RENAMED)).await;
    assert!(matches!(loader.refresh(&avro, &second.set).await, Refreshed::Unchanged));
    assert!(loader.status(&avro.name).problems[0].contains("`shop.v1.Order2`"));
    let again = loader.load(&avro).await.expect("the one before still serves");
    assert_eq!((default_version(&again.set), again.skipped.len()), (2, 1));
}

#[tokio::test]
async fn a_restart_after_a_bad_version_serves_the_good_one_before() {
    let ((_server, registry), folder) = (start().await, folder());
    register_both(&registry, ORDER).await;
    let protobuf_event = event_type(Encoding::Protobuf);
    Loader::new(Arc::clone(&registry), Some(folder.path())).load(&protobuf_event).await.expect("good");
    put(&registry, SUBJECT, protobuf(RENAMED)).await;
    let loaded = Loader::new(Arc::clone(&registry), Some(folder.path())).load(&protobuf_event).await.expect("good");
    assert_eq!(default_version(&loaded.set), 1);
    // The registry alone knows as much.
    let loaded = Loader::new(Arc::clone(&registry), None).load(&protobuf_event).await.expect("good");
    assert_eq!((default_version(&loaded.set), loaded.skipped.len()), (1, 1));
    let pinned = EventType { version: Version::Number(2), ..protobuf_event };
    Loader::new(registry, None).load(&pinned).await.expect_err("the one that is asked for is bad");
}

#[tokio::test]
async fn what_was_chosen_stays_chosen() {
    let ((_server, registry), folder) = (start().await, folder());
    register_both(&registry, ORDER).await;
    let avro = event_type(Encoding::Avro);
    let first = Loader::new(Arc::clone(&registry), Some(folder.path())).load(&avro).await.expect("good").set;
    // The same structure under a higher version.
    let text = &registry.latest(AVRO_SUBJECT).await.expect("there").registered.schema.text;
    let documented = text.replacen('{', r#"{"doc":"new","#, 1);
    let higher = put(&registry, AVRO_SUBJECT, Schema::new(Kind::Avro, documented)).await;
    assert_eq!(higher.version, 2);
    let kept = Loader::new(Arc::clone(&registry), Some(folder.path())).load(&avro).await.expect("good").set;
    assert_eq!(kept.versions[0].value_id, first.versions[0].value_id);
    let fresh = Loader::new(registry, None).load(&avro).await.expect("good").set;
    assert_eq!(fresh.versions[0].value_id, higher.registered.id, "with nothing chosen, the highest");
}

#[tokio::test]
async fn a_registry_that_goes_away_leaves_what_was_loaded() {
    let (server, registry) = start().await;
    register_both(&registry, ORDER).await;
    let loader = Loader::new(registry, None);
    let avro = event_type(Encoding::Avro);
    let set = loader.load(&avro).await.expect("good").set;
    let confirmed = loader.status(&avro.name).last_success.expect("just now");
    assert_eq!(loader.status(&avro.name).stale_since, None);

    server.set_failing(Some(500));
    let Refreshed::Stale(stale) = loader.refresh(&avro, &set).await else { panic!("the registry fails") };
    assert_eq!(stale.since, confirmed);
    assert!(matches!(stale.error, SchemaError::Registry(RegistryError::Unreachable { .. })));
    assert_eq!(loader.status(&avro.name).stale_since, Some(confirmed));
    let again = loader.load(&avro).await.expect("from memory");
    assert!(Arc::ptr_eq(&again.set.versions[0], &set.versions[0]));
    assert!(again.stale.is_some());

    server.set_failing(None);
    assert!(matches!(loader.refresh(&avro, &set).await, Refreshed::Unchanged));
    let status = loader.status(&avro.name);
    assert!(status.stale_since.is_none() && status.last_success > Some(confirmed));
}

#[tokio::test]
async fn a_restart_needs_no_registry() {
    let ((server, registry), folder) = (start().await, folder());
    register_both(&registry, ORDER).await;
    register_both(&registry, ORDER_WITH_NOTE).await;
    let header = EventType { framing: Framing::Header, name: "order.header".to_owned(), ..event_type(Encoding::Avro) };
    let event_types = [event_type(Encoding::Avro), header];
    let mut before = Vec::new();
    let loader = Loader::new(Arc::clone(&registry), Some(folder.path()));
    for event_type in &event_types {
        before.push(loader.load(event_type).await.expect("good").set);
    }
    let url = server.url();
    server.stop().await;

    let loader = Loader::new(registry, Some(folder.path()));
    for (event_type, before) in event_types.iter().zip(before) {
        let loaded = loader.load(event_type).await.unwrap_or_else(|error| panic!("{url}: {error}"));
        let told = |set: &SchemaSet| -> Vec<_> {
            set.versions.iter().map(|c| (c.version, c.id, c.value_id, c.prefix.clone(), c.header.clone())).collect()
        };
        assert_eq!((told(&loaded.set), loaded.set.default), (told(&before), before.default));
        let stale = loaded.stale.expect("nobody confirmed it");
        assert!(stale.since.elapsed().expect("in the past") < Duration::from_secs(60));
        assert!(loader.status(&event_type.name).stale_since.is_some());
    }
    let other = EventType { subject: Some("other.v1.Other".to_owned()), ..event_type(Encoding::Avro) };
    loader.load(&other).await.expect_err("what is on disk is of another subject");
}

#[tokio::test]
async fn a_damaged_snapshot_is_reported_and_not_used() {
    let ((server, registry), folder) = (start().await, folder());
    register_both(&registry, ORDER).await;
    let avro = event_type(Encoding::Avro);
    Loader::new(Arc::clone(&registry), Some(folder.path())).load(&avro).await.expect("good");
    let file = std::fs::read_dir(folder.path().join("schemas")).expect("there").next().expect("one").expect("readable");
    std::fs::write(file.path(), "nonsense\n").expect("spoilt");

    let loader = Loader::new(Arc::clone(&registry), Some(folder.path()));
    loader.load(&avro).await.expect("from the registry");
    let problem = loader.status(&avro.name).snapshot_problem.expect("it is reported");
    assert!(problem.contains("is damaged") && problem.contains("move it away"), "{problem}");
    server.stop().await;
    Loader::new(registry, Some(folder.path())).load(&avro).await.expect_err("nothing is left to serve from");
    assert_eq!(std::fs::read(file.path()).expect("there"), b"nonsense\n");
}

#[tokio::test]
async fn the_newest_versions_are_loaded_and_the_one_it_is_pinned_to() {
    let (_server, registry) = start().await;
    for n in 1..=40 {
        let text = format!("syntax = \"proto3\"; package shop.v1; message Order {{ string id = {n}; }}");
        put(&registry, SUBJECT, protobuf(&text)).await;
    }
    let loader = Loader::new(registry, None);
    let latest = loader.load(&event_type(Encoding::Protobuf)).await.expect("good").set;
    assert_eq!((versions(&latest), default_version(&latest)), ((9..=40).collect(), 40));
    let pinned = EventType { version: Version::Number(3), ..event_type(Encoding::Protobuf) };
    let pinned = loader.load(&pinned).await.expect("good").set;
    assert_eq!((versions(&pinned), default_version(&pinned)), ([3].into_iter().chain(9..=40).collect(), 3));
}

#[tokio::test]
async fn an_unknown_version_or_id_is_refused_without_asking_the_registry() {
    let (server, registry) = start().await;
    register_both(&registry, ORDER).await;
    let set = Loader::new(registry, None).load(&event_type(Encoding::Avro)).await.expect("good").set;
    let before = server.requests();
    set.get(Some(SchemaReference::Version(1))).expect("loaded");
    set.get(Some(SchemaReference::Id(set.versions[0].id))).expect("loaded");
    for unknown in [SchemaReference::Version(2), SchemaReference::Id(99)] {
        assert_eq!(set.get(Some(unknown)).expect_err("not loaded").code, Code::UnknownSchema);
    }
    assert_eq!(server.requests(), before);
}

#[tokio::test]
async fn looking_again_costs_one_request_while_nothing_changes() {
    let (server, registry) = start().await;
    register_both(&registry, ORDER).await;
    let loader = Loader::new(registry, None);
    let avro = event_type(Encoding::Avro);
    let set = loader.load(&avro).await.expect("good").set;
    let before = server.requests();
    for _ in 0..5 {
        assert!(matches!(loader.refresh(&avro, &set).await, Refreshed::Unchanged));
    }
    assert_eq!(server.requests(), before + 5);
}

#[tokio::test]
async fn event_types_alike_share_what_is_compiled() {
    let (_server, registry) = start().await;
    register_both(&registry, ORDER).await;
    let loader = Loader::new(registry, None);
    let one = loader.load(&event_type(Encoding::Avro)).await.expect("good").set;
    let other = EventType { name: "order.other".to_owned(), ..event_type(Encoding::Avro) };
    let alike = loader.load(&other).await.expect("good").set;
    assert!(Arc::ptr_eq(&one.versions[0], &alike.versions[0]));
    let keyed = EventType { key: KeySource::Field("id".to_owned()), ..other };
    let different = loader.load(&keyed).await.expect("good").set;
    assert!(!Arc::ptr_eq(&one.versions[0], &different.versions[0]));
}

#[tokio::test]
async fn framing_is_that_of_the_schema_the_value_is_written_with() {
    let (_server, registry) = start().await;
    let text = "syntax = \"proto3\"; package shop.v1; message First {} message Order { string id = 1; }";
    let source = put(&registry, SUBJECT, protobuf(text)).await.registered;
    let loader = Loader::new(Arc::clone(&registry), None);
    let load = async |encoding, framing| {
        let event_type = EventType { framing, ..event_type(encoding) };
        let set = loader.load(&event_type).await.expect("good").set;
        let compiled = &set.versions[0];
        (compiled.value_id, compiled.prefix.clone(), compiled.header.clone())
    };
    let prefix = [&[0], &source.id.to_be_bytes()[..], &[2, 2]].concat();
    assert_eq!(load(Encoding::Protobuf, Framing::Prefix).await, (source.id, prefix, vec![]));
    let guid = registry.schema(source.id).await.expect("there").guid.clone().expect("it gives one");
    let guid = uuid::Uuid::parse_str(&guid).expect("a GUID");
    let header = [&[1], &guid.as_bytes()[..], &[2, 2]].concat();
    assert_eq!(load(Encoding::Protobuf, Framing::Header).await, (source.id, vec![], header));
    assert_eq!(load(Encoding::Json, Framing::Prefix).await, (source.id, vec![], vec![]));
}
