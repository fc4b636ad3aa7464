//! What is pushed: event types and senders, as of one revision.
//!
//! In: a text. Out: its parts, not yet checked: an event type is in the words of `[events.NAME]`, and the parser of those checks
//! it. Never: a key, only digests of keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Settings of an event type, in the words of `[events.NAME]`.
pub type Settings = Map<String, Value>;

/// Everything that a control plane says of routes. Rates are those of all proxies together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Event types by name.
    pub events: BTreeMap<String, Settings>,
    /// Senders by name.
    pub senders: BTreeMap<String, DocumentSender>,
    /// Event types that are agreed on and cannot be served yet, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub waiting: BTreeMap<String, DocumentWaiting>,
}

/// An event type that waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentWaiting {
    /// The cluster that it is for.
    pub cluster: String,
    /// The registry subject of its schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What it waits for, for operators.
    pub reason: String,
}

/// A sender.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentSender {
    /// Its keys.
    pub keys: Vec<DocumentKey>,
    /// The events that it may send, by name.
    pub events: Vec<String>,
    /// Limits over all its events.
    #[serde(default)]
    pub limits: DocumentLimits,
    /// Whether nothing of it is let through for now.
    #[serde(default)]
    pub disabled: bool,
    /// The share of its events that is let through for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<f64>,
}

/// An API key, as far as a proxy needs to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentKey {
    /// SHA-256 of the key, in hex.
    pub sha256: String,
    /// Until when it is taken, milliseconds since 1970; none: until it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
}

/// Limits of a sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentLimits {
    /// Most bytes of one event's payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_bytes_max: Option<u64>,
    /// Most payload bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// Most events a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_per_second: Option<u64>,
}
