//! Whether a cluster has room for what is asked.
//!
//! In: what a cluster has, what of it is spoken for, what is needed. Out: what is too much, in words that say what is free. Never: I/O; a
//! no to whoever takes no more than before: to shrink must always be possible.

use super::store::{Need, Taken};
use super::world::ClusterView;

/// What is too much of a need. The needs of the same request's earlier changes are among what is taken.
pub(super) fn over_budget(view: &ClusterView, taken: Taken, need: Need) -> Option<String> {
    let disk_bytes_max = view.disk_bytes_max.map(|all| all.saturating_sub(view.unmanaged_bytes));
    let limits = [
        ("bytes of disk", disk_bytes_max, taken.all.disk_bytes, taken.own.disk_bytes, need.disk_bytes),
        (
            "partitions",
            view.spec.partitions_max.map(u64::from),
            taken.all.partitions,
            taken.own.partitions,
            need.partitions,
        ),
        (
            "bytes a second",
            view.spec.ingress_bytes_per_second,
            taken.all.ingress_bytes_per_second,
            taken.own.ingress_bytes_per_second,
            need.ingress_bytes_per_second,
        ),
    ];
    let over = limits.into_iter().find_map(|(what, limit, all, own, need)| {
        let others = all.saturating_sub(own);
        let limit = limit?;
        (need > own && others.saturating_add(need) > limit)
            .then(|| format!("it needs {need} {what}, and {} of {limit} are free", limit.saturating_sub(others)))
    });
    over.or_else(|| {
        let more = need.disk_bytes.checked_sub(taken.own.disk_bytes).filter(|more| *more > 0)?;
        let broker = view.full_broker(more, need.partitions, taken.all.disk_bytes)?;
        let limit = broker.limit_bytes.unwrap_or_default();
        let free = limit.saturating_sub(broker.committed_bytes);
        Some(format!(
            "broker {} may get a share that it has no room for: {free} of {limit} bytes are free there",
            broker.id
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::world::BrokerRoom;

    fn need(disk_bytes: u64) -> Need {
        Need { disk_bytes, partitions: 6, ingress_bytes_per_second: 1 }
    }

    #[test]
    fn what_nobody_manages_is_not_free_and_to_shrink_is_always_possible() {
        let view = ClusterView { disk_bytes_max: Some(1_000), unmanaged_bytes: 400, ..ClusterView::default() };
        let taken = |all, own| Taken { all: need(all), own: need(own) };
        assert_eq!(over_budget(&view, taken(0, 0), need(600)), None);
        let over = over_budget(&view, taken(100, 0), need(501)).unwrap();
        assert_eq!(over, "it needs 501 bytes of disk, and 500 of 600 are free");
        assert_eq!(over_budget(&view, taken(5_000, 800), need(800)), None);
        assert_eq!(over_budget(&view, taken(5_000, 800), need(700)), None);
        assert!(over_budget(&view, taken(5_000, 800), need(801)).is_some());
    }

    #[test]
    fn one_full_broker_is_enough_to_say_no_however_empty_the_others_are() {
        let broker = |id, committed_bytes| BrokerRoom { id, limit_bytes: Some(1_000), committed_bytes };
        let brokers = vec![broker(1, 0), broker(2, 0), broker(3, 990)];
        let view = ClusterView { disk_bytes_max: Some(3_000), placed_bytes: 990, brokers, ..ClusterView::default() };
        let taken = Taken { all: need(990), own: need(0) };
        assert_eq!(over_budget(&view, taken, need(30)), None);
        let over = over_budget(&view, taken, need(300)).unwrap();
        assert_eq!(over, "broker 3 may get a share that it has no room for: 10 of 1000 bytes are free there");
    }
}
