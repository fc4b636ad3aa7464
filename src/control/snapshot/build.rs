//! What is published -> the document that proxies get.
//!
//! In: what providers have published, by resource, and the digests of senders' keys. Out: the document. Never: I/O; the settings of
//! an event type that waits for its schema: its name, and what it waits for; a grant of an event type that is neither published nor
//! waits, or to a sender that is not published; two texts of one content.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::{Document, DocumentKey, DocumentLimits, DocumentSender, DocumentWaiting, Settings};
use crate::control::brake::{Brake, Hold};
use crate::control::resource::Kind;
use crate::control::store::{Published, SenderKey};

/// What is published of a sender.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PublishedSender {
    /// Limits over all its events.
    #[serde(default)]
    pub limits: DocumentLimits,
    /// Whether nothing of it is let through for now.
    #[serde(default)]
    pub disabled: bool,
    /// The share of its events that is let through for now.
    #[serde(default)]
    pub sample: Option<f64>,
}

/// What is published of a grant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublishedGrant {
    /// To which sender.
    pub sender: String,
    /// Of which event.
    pub event: String,
}

/// What is published of a quota.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublishedQuota {
    /// Of which event type.
    pub event: String,
    /// Most payload bytes a second.
    pub bytes_per_second: Option<u64>,
    /// Most events a second.
    pub events_per_second: Option<u64>,
}

/// The document of all that is published.
pub(super) fn document(published: &[Published], keys: &[SenderKey], brakes: &[Brake]) -> Document {
    let of = |kind: Kind| published.iter().filter(move |row| row.resource.kind == kind);
    let mut events: BTreeMap<String, Settings> = BTreeMap::new();
    let mut waiting = BTreeMap::new();
    for row in of(Kind::EventType) {
        let name = row.resource.name.clone();
        if let Some(Value::Object(settings)) = &row.live {
            events.insert(name, settings.clone());
        } else if let Some(next) = &row.next {
            let text = |key: &str| next.get(key).and_then(Value::as_str).map(str::to_owned);
            let (cluster, subject) = (text("cluster").unwrap_or_default(), text("subject"));
            waiting.insert(name, DocumentWaiting { cluster, subject, reason: row.reason.clone() });
        }
    }
    for quota in of(Kind::Quota).filter_map(read::<PublishedQuota>) {
        if let Some(settings) = events.get_mut(&quota.event) {
            limit(settings, "bytes_per_second", quota.bytes_per_second);
            limit(settings, "events_per_second", quota.events_per_second);
        }
    }
    for brake in brakes.iter().filter(|brake| brake.resource.kind == Kind::EventType) {
        if let Some(settings) = events.get_mut(&brake.resource.name) {
            hold(settings, brake);
        }
    }
    let mut senders: BTreeMap<String, DocumentSender> = BTreeMap::new();
    for row in of(Kind::Sender) {
        let Some(PublishedSender { limits, disabled, sample }) = read(row) else { continue };
        let keys = keys.iter().filter(|key| key.sender == row.resource);
        let keys = keys.map(|key| DocumentKey { sha256: key.sha256.clone(), expires_ms: key.expires_ms }).collect();
        let sender = DocumentSender { keys, events: vec![], limits, disabled, sample };
        senders.insert(row.resource.name.clone(), sender);
    }
    for grant in of(Kind::Access).filter_map(read::<PublishedGrant>) {
        if let Some(sender) = senders.get_mut(&grant.sender)
            && (events.contains_key(&grant.event) || waiting.contains_key(&grant.event))
            && !sender.events.contains(&grant.event)
        {
            sender.events.push(grant.event);
        }
    }
    senders.values_mut().for_each(|sender| sender.events.sort());
    Document { events, senders, waiting }
}

fn read<T: serde::de::DeserializeOwned>(row: &Published) -> Option<T> {
    serde_json::from_value(row.live.clone()?).ok()
}

/// What is let through is the least of what the owner and the brake let through.
fn hold(settings: &mut Settings, brake: &Brake) {
    let own = (settings.get("disabled").and_then(Value::as_bool), settings.get("sample").and_then(Value::as_f64));
    let Hold { disabled, sample } = brake.hold.and(own.0.unwrap_or(false), own.1);
    settings.remove("sample");
    if disabled {
        settings.insert("disabled".to_owned(), true.into());
    } else if let Some(sample) = sample {
        settings.insert("sample".to_owned(), sample.into());
    }
}

/// The lower of two limits counts.
fn limit(settings: &mut Settings, key: &str, most: Option<u64>) {
    let Some(most) = most else { return };
    let limits = settings.entry("limits").or_insert_with(|| Value::Object(Map::new()));
    let Some(limits) = limits.as_object_mut() else { return };
    let has = limits.get(key).and_then(Value::as_u64);
    limits.insert(key.to_owned(), has.map_or(most, |has| has.min(most)).into());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(id: &str, live: Value) -> Published {
        Published { resource: id.parse().unwrap(), live: Some(live), next: None, reason: String::new() }
    }

    #[test]
    fn event_types_quotas_senders_and_grants_come_together_by_name() {
        let published = [
            row("event_type/a", json!({ "topic": "t", "limits": { "events_per_second": 5 } })),
            Published {
                live: None,
                next: Some(json!({ "cluster": "core", "topic": "t", "subject": "x.Y" })),
                reason: "no schema".into(),
                ..row("event_type/waits", json!({}))
            },
            row("quota/core/a", json!({ "event": "a", "bytes_per_second": 1000, "events_per_second": 9 })),
            row("quota/core/u", json!({ "event": "a", "bytes_per_second": 700, "events_per_second": null })),
            row("quota/core/gone", json!({ "event": "gone", "bytes_per_second": 1, "events_per_second": null })),
            row("sender/s", json!({ "limits": { "events_per_second": 3 }, "sample": 0.5 })),
            row("access/core/s:publish:a", json!({ "sender": "s", "event": "a" })),
            row("access/far/s:publish:a", json!({ "sender": "s", "event": "a" })),
            row("access/core/s:publish:waits", json!({ "sender": "s", "event": "waits" })),
            row("access/core/gone:publish:a", json!({ "sender": "gone", "event": "a" })),
        ];
        let key =
            |sender: &str| SenderKey { sender: sender.parse().unwrap(), sha256: "ab".into(), expires_ms: Some(7) };
        let document = document(&published, &[key("sender/s"), key("sender/other")], &[]);
        assert_eq!(
            serde_json::to_value(&document).unwrap(),
            json!({
                "events": { "a": { "topic": "t", "limits": { "bytes_per_second": 700, "events_per_second": 5 } } },
                "senders": { "s": {
                    "keys": [{ "sha256": "ab", "expires_ms": 7 }], "events": ["a", "waits"],
                    "limits": { "events_per_second": 3 }, "disabled": false, "sample": 0.5,
                } },
                "waiting": { "waits": { "cluster": "core", "subject": "x.Y", "reason": "no schema" } },
            })
        );
    }

    #[test]
    fn a_brake_holds_what_the_owner_lets_through_and_never_more() {
        let check = |own: Value, disabled: bool, sample: Option<f64>, expected: Value| {
            let brake = Brake {
                resource: "event_type/a".parse().unwrap(),
                hold: Hold { disabled, sample },
                reason: "a flood".into(),
                actor: "olga".into(),
                at_ms: 1,
            };
            let elsewhere = Brake { resource: "event_type/gone".parse().unwrap(), ..brake.clone() };
            let document = document(&[row("event_type/a", own)], &[], &[brake, elsewhere]);
            assert_eq!(serde_json::to_value(&document.events).unwrap(), json!({ "a": expected }));
        };
        check(json!({}), true, None, json!({ "disabled": true }));
        check(json!({ "sample": 0.5 }), true, None, json!({ "disabled": true }));
        check(json!({}), false, Some(0.1), json!({ "sample": 0.1 }));
        check(json!({ "sample": 0.05 }), false, Some(0.1), json!({ "sample": 0.05 }));
        check(json!({ "disabled": true }), false, Some(0.1), json!({ "disabled": true }));
        check(json!({ "disabled": false }), false, Some(0.1), json!({ "disabled": false, "sample": 0.1 }));
    }
}
