//! `[dead_letters]` and the dead-letter topics of event types.

use super::Cluster;
use super::reader::Table;
use crate::produce::Sampling;
use crate::route::EventType;

/// Reads how many dead letters of rejected events are kept.
pub(super) fn read(root: &mut Table<'_>) -> Sampling {
    let mut table = root.section("dead_letters");
    let sampling = Sampling {
        events_per_second: table.number("events_per_second", 100, 1..=1_000_000),
        one_in: table.number("sample_one_in", 100, 0..=1_000_000),
    };
    table.finish();
    sampling
}

/// A dead-letter topic holds nothing else: consumers of events must not meet dead letters, and a dead letter that is rejected or fails
/// must not become another.
pub(super) fn check(events: &[EventType], tables: &[Table<'_>], clusters: &[Cluster]) {
    for (event_type, table) in events.iter().zip(tables) {
        let EventType { cluster, dead_letter: Some(topic), .. } = event_type else { continue };
        let routed = events.iter().find(|other| other.cluster == *cluster && other.topic == *topic);
        if let Some(routed) = routed {
            let name = &routed.name;
            table.problem(
                "dead_letter",
                format!("is the `topic` of event type `{name}`; dead letters need one of their own"),
            );
        }
        let canary = clusters.iter().find(|known| known.name == *cluster).and_then(|known| known.canary_topic.as_ref());
        if canary == Some(topic) {
            table.problem(
                "dead_letter",
                format!("is the `canary_topic` of cluster `{cluster}`; dead letters need one of their own"),
            );
        }
    }
}
