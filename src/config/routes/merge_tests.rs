use serde_json::json;

use super::*;
use crate::config;

const BASE: &str = "state_dir = \"s\"\n[routes]\nsource = \"control\"\nurl = \"http://127.0.0.1:1\"\ntoken_file = \"token\"\n\
    public_key = \"ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"\n\n\
    [clusters.core]\nbrokers = [\"a:1\"]\nregistry = \"main\"\n\n[registries.main]\nurls = [\"http://r\"]\n";

fn base() -> Config {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "t").unwrap();
    config::parse(BASE, folder.path()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn event(settings: serde_json::Value) -> Settings {
    let mut event = json!({ "cluster": "core", "topic": "t", "encoding": "raw_json" });
    event.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    event.as_object().unwrap().clone()
}

fn document(events: &[(&str, Settings)], senders: &[(&str, DocumentSender)]) -> Document {
    Document {
        waiting: BTreeMap::new(),
        events: events.iter().map(|(name, settings)| ((*name).to_owned(), settings.clone())).collect(),
        senders: senders.iter().map(|(name, sender)| ((*name).to_owned(), sender.clone())).collect(),
    }
}

fn of(document: &Document, before: &Good) -> Merged {
    merge(&base(), document, before, 1, 1_000)
}

fn events_of(merged: &Merged) -> Vec<(&str, &str)> {
    merged.config.events.iter().map(|event| (event.name.as_str(), event.topic.as_str())).collect()
}

fn key(digit: char, expires_ms: Option<i64>) -> DocumentKey {
    DocumentKey { sha256: digit.to_string().repeat(64), expires_ms }
}

#[test]
fn one_bad_route_is_held_at_its_last_good_version_and_all_others_go_on() {
    let first = of(&document(&[("a.b", event(json!({}))), ("a", event(json!({})))], &[]), &Good::default());
    assert_eq!((events_of(&first), first.held.len()), (vec![("a", "t"), ("a.b", "t")], 0));
    let next = document(
        &[
            ("a", event(json!({ "topic": "moved" }))),
            ("a.b", event(json!({ "topic": "moved", "limits": { "nonsense": 1 } }))),
            ("new", event(json!({ "encoding": "wax" }))),
            ("null", event(json!({ "key": null }))),
        ],
        &[],
    );
    let second = of(&next, &first.good);
    assert_eq!(events_of(&second), [("a", "moved"), ("a.b", "t")]);
    let held: Vec<_> = second.held.iter().map(|held| (held.name.as_str(), held.has_good)).collect();
    assert_eq!(held, [("event type a.b", true), ("event type new", false), ("event type null", false)]);
    assert!(second.held[0].problem.contains("nonsense"), "{}", second.held[0].problem);
    // It stays there however many documents have it as it is.
    let third = of(&next, &second.good);
    assert_eq!((events_of(&third), &third.held), (events_of(&second), &second.held));
    // And goes when it is taken out.
    let last = of(&document(&[("a", event(json!({})))], &[]), &third.good);
    assert_eq!((events_of(&last), last.held.len()), (vec![("a", "t")], 0));
}

#[test]
fn of_two_that_contradict_each_other_one_is_held() {
    let avro = |message: &str| {
        event(json!({ "encoding": "avro", "subject": message, "avro_subject": "shared", "topic": message }))
    };
    let merged = of(&document(&[("a", avro("x.A")), ("b", avro("x.B"))], &[]), &Good::default());
    assert_eq!(events_of(&merged), [("a", "x.A")]);
    assert_eq!((merged.held.len(), merged.held[0].name.as_str()), (1, "event type b"));
}

#[test]
fn an_event_type_may_not_contradict_those_that_are_there() {
    let avro = |message: &str| {
        event(json!({ "encoding": "avro", "subject": message, "avro_subject": "shared", "topic": message }))
    };
    let others: BTreeMap<String, Settings> =
        [("b".to_owned(), avro("x.B")), ("bad".to_owned(), event(json!({ "no": 1 })))].into();
    let clusters = base().clusters;
    // The parser blames the second by name, whichever came first.
    for name in ["a", "c"] {
        let problem = check_beside(name, &avro("x.A"), &others, &clusters).unwrap();
        assert!(problem.contains("two messages never share one"), "{problem}");
    }
    assert_eq!(check_beside("c", &avro("x.B"), &others, &clusters), None);
    assert_eq!(check_beside("b", &avro("x.C"), &others, &clusters), None, "it takes its own place");
}

#[test]
fn event_types_of_other_proxies_clusters_are_no_concern_and_no_problem() {
    let merged = of(
        &document(&[("here", event(json!({}))), ("there", event(json!({ "cluster": "far" })))], &[]),
        &Good::default(),
    );
    assert_eq!((events_of(&merged), merged.elsewhere, merged.held.len()), (vec![("here", "t")], 1, 0));
}

#[test]
fn rates_are_shared_among_the_proxies_and_sizes_are_not() {
    let limits = json!({ "limits": { "events_per_second": 10, "bytes_per_second": 1000, "event_bytes_max": 500 } });
    let sender = DocumentSender {
        limits: super::super::DocumentLimits { events_per_second: Some(1), ..Default::default() },
        ..DocumentSender::default()
    };
    let merged = merge(&base(), &document(&[("a", event(limits))], &[("s", sender)]), &Good::default(), 3, 0);
    let Limits { event_bytes_max, bytes_per_second, events_per_second } = merged.config.events[0].limits;
    assert_eq!((event_bytes_max, bytes_per_second, events_per_second), (Some(500), Some(334), Some(4)));
    assert_eq!(merged.config.senders[0].limits.events_per_second, Some(1), "never nothing");
}

#[test]
fn a_key_counts_until_it_ends_and_the_first_end_is_told() {
    let keys = vec![key('a', Some(900)), key('b', Some(3_000)), key('c', Some(2_000)), key('d', None)];
    let sender = DocumentSender { keys, events: vec!["a".into()], ..DocumentSender::default() };
    let merged = of(&document(&[], &[("s", sender)]), &Good::default());
    assert_eq!((merged.config.senders[0].key_hashes.len(), merged.next_expiry_ms), (3, Some(2_000)));
}

#[test]
fn a_bad_sender_is_held_and_a_key_has_one_owner() {
    let with = |key: DocumentKey| DocumentSender { keys: vec![key], ..DocumentSender::default() };
    let two = DocumentSender { keys: vec![key('b', None), key('d', None)], ..DocumentSender::default() };
    let first = of(&document(&[], &[("a", with(key('a', None))), ("b", two)]), &Good::default());
    let stolen = DocumentSender { keys: vec![key('a', None), key('d', None)], ..DocumentSender::default() };
    let next = document(&[], &[("a", with(key('a', None))), ("b", stolen), ("c", with(key('x', None)))]);
    let second = of(&next, &first.good);
    let found: Vec<_> = second.config.senders.iter().map(|s| (s.name.as_str(), s.key_hashes.clone())).collect();
    assert_eq!(found, [("a", vec![[0xaa; 32]]), ("b", vec![[0xdd; 32]])], "what was taken from it stays taken");
    assert_eq!(second.held.iter().map(|held| held.has_good).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn one_event_type_is_checked_by_the_parser_of_the_file() {
    let clusters = base().clusters;
    let check = |settings: serde_json::Value| check_event_type("a.b", &event(settings), &clusters);
    assert_eq!(check(json!({ "ordered": true, "limits": { "event_bytes_max": 50_000_000 } })).unwrap().name, "a.b");
    let problems = check(json!({ "cluster": "far", "limits": { "event_bytes_max": 0 } })).unwrap_err();
    let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["events.\"a.b\".cluster", "events.\"a.b\".limits.event_bytes_max"]);
    assert!(check(json!({ "ordered": null })).is_err());
}
