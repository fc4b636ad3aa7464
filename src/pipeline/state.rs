//! Whether an event type can be served, and with what.
//!
//! In: what was found out ahead of its events. Out: what the path needs of it. Never: looked up on the path; it is part of a snapshot.

use std::sync::Arc;
use std::time::Instant;

use crate::produce::TopicHandle;
use crate::route::HotKeys;
use crate::schema::SchemaSet;

/// Whether an event type can be served.
#[derive(Clone, Debug)]
pub enum State {
    /// Topic known, schemas compiled, client running.
    Ready(Ready),
    /// It answers `event_type_unavailable`, and is tried again behind.
    Unavailable(Outage),
}

/// Why an event type cannot be served. The reason is for operators, on `/ready` and in the log: it may name brokers and what
/// they said. Senders are told since when.
#[derive(Clone, Debug)]
pub struct Outage {
    /// What is wrong as of now.
    pub reason: String,
    /// Since when something is.
    pub since: Instant,
}

impl Outage {
    /// An outage that begins now.
    pub fn new(reason: impl Into<String>) -> Self {
        Outage { reason: reason.into(), since: Instant::now() }
    }
}

/// What an event type that can be served is served with.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Its compiled schemas; none for `raw_json`.
    pub schemas: Option<Arc<SchemaSet>>,
    /// Its topic, of the client of its cluster and lane.
    pub topic: Arc<TopicHandle>,
    /// Counts its keys, where hot ones are to go without.
    pub hot_keys: Option<Arc<HotKeys>>,
    /// The same topic on the clusters that may stand in, in order; those that are not available are left out.
    pub failover: Vec<Arc<TopicHandle>>,
    /// Largest record that its topic takes, in bytes, where the cluster tells; the least of all clusters that it may go to.
    pub record_bytes_max: Option<usize>,
    /// Whether its cluster has not answered since the start, or not proven that it acknowledges: it is served by what was known
    /// before, and its events wait on disk.
    pub is_assumed: bool,
}

impl Ready {
    /// The topic on the cluster that stands in while the intended one takes nothing. None as long as that takes records, and when
    /// no other does.
    pub(super) fn stand_in(&self) -> Option<&TopicHandle> {
        if self.failover.is_empty() || self.topic.client().lets_pass() {
            return None;
        }
        self.failover.iter().map(Arc::as_ref).find(|topic| topic.client().lets_pass())
    }
}
