//! Whose turn it is: which of the requests that wait may be carried out beside those that are.
//!
//! In: requests in the order in which they came, what is being carried out, what rests after it did not go. Out: those to begin with
//! now. Never: I/O; two requests at a time that are of one cluster or about one resource, and so no request twice; a request before
//! an older one of the same resource.
//!
//! A request that did not go rests for a while. Meanwhile others of its clusters have their turn, as something that is wrong with one
//! resource must not hold up a whole cluster; those about the same resources wait for it all the same.

use std::collections::BTreeSet;

use crate::control::request::{Request, RequestState};
use crate::control::resource::{Kind, ResourceId, Spec};

/// A request, as far as its turn depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// The request's id; ids are in order of time.
    pub id: String,
    /// Whether it was begun: then it goes before all that were not.
    pub is_begun: bool,
    claim: Claim,
}

/// What a request has to itself while it is carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Claim {
    /// Clusters that are asked.
    clusters: BTreeSet<String>,
    /// What it changes, and the topics that its events go to.
    resources: BTreeSet<ResourceId>,
}

impl Job {
    pub(super) fn of(request: &Request) -> Job {
        let mut claim = Claim::default();
        for planned in &request.changes {
            claim.clusters.extend(planned.resource.cluster.clone());
            claim.resources.insert(planned.resource.clone());
            // It asks nothing of the cluster, and so it need not wait for one that does not answer, but for its topic it must.
            if let Some(Spec::EventType(event_type)) = &planned.desired {
                let topic = ResourceId::on(Kind::Topic, &event_type.cluster, &event_type.topic);
                claim.resources.insert(topic);
            }
        }
        Job { id: request.id.clone(), is_begun: request.state == RequestState::Applying, claim }
    }
}

impl Claim {
    fn add(&mut self, other: &Claim) {
        self.clusters.extend(other.clusters.iter().cloned());
        self.resources.extend(other.resources.iter().cloned());
    }

    fn is_beside(&self, other: &Claim) -> bool {
        self.clusters.is_disjoint(&other.clusters) && self.resources.is_disjoint(&other.resources)
    }
}

/// Those whose turn it is, at most so many.
pub(super) fn turns<'j>(
    mut waiting: Vec<Job>,
    at_work: impl IntoIterator<Item = &'j Job>,
    rests: impl Fn(&str) -> bool,
    most: usize,
) -> Vec<Job> {
    waiting.sort_by(|one, other| (!one.is_begun, &one.id).cmp(&(!other.is_begun, &other.id)));
    let (mut claimed, mut busy) = (Claim::default(), BTreeSet::new());
    for job in at_work {
        claimed.add(&job.claim);
        busy.insert(job.id.as_str());
    }
    let mut turns = Vec::new();
    for job in waiting {
        if turns.len() >= most {
            break;
        }
        if busy.contains(job.id.as_str()) {
            continue;
        }
        if rests(&job.id) {
            claimed.resources.extend(job.claim.resources);
            continue;
        }
        let is_its_turn = job.claim.is_beside(&claimed);
        // Whether it goes or waits: what came after it must not go before it.
        claimed.add(&job.claim);
        if is_its_turn {
            turns.push(job);
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ID: CLUSTER.. / RESOURCE..`, with a `!` when it was begun.
    fn job(text: &str) -> Job {
        let (id, claim) = text.split_once(':').unwrap();
        let (clusters, resources) = claim.split_once('/').unwrap();
        let claim = Claim {
            clusters: clusters.split_whitespace().map(str::to_owned).collect(),
            resources: resources.split_whitespace().map(|name| format!("service/{name}").parse().unwrap()).collect(),
        };
        Job { id: id.trim_end_matches('!').to_owned(), is_begun: id.ends_with('!'), claim }
    }

    fn check(waiting: &[&str], at_work: &[&str], resting: &[&str], expected: &[&str]) {
        let at_work: Vec<Job> = at_work.iter().map(|text| job(text)).collect();
        let waiting: Vec<Job> = waiting.iter().map(|text| job(text)).collect();
        let turns = turns(waiting.clone(), &at_work, |id| resting.contains(&id), 3);
        let ids: Vec<&str> = turns.iter().map(|job| job.id.as_str()).collect();
        assert_eq!(ids, expected, "{waiting:?} beside {at_work:?}, {resting:?} rest");
    }

    #[test]
    fn requests_of_different_clusters_go_side_by_side_and_of_one_in_their_order() {
        check(&["1: a / x", "2: b / y", "3: a / z"], &[], &[], &["1", "2"]);
        check(&["2: b / y", "3: a / z"], &["1: a / x"], &[], &["2"]);
        check(&["3: a / z"], &[], &[], &["3"]);
        check(&["1: / x", "2: / y", "3: / x"], &[], &[], &["1", "2"]);
        check(&["1: a /", "2: b /", "3: c /", "4: d /"], &[], &[], &["1", "2", "3"]);
    }

    #[test]
    fn what_is_of_two_clusters_goes_when_it_has_both_and_nothing_overtakes_it() {
        check(&["2: a b / x", "3: b / y", "4: c / z"], &["1: a / w"], &[], &["4"]);
        check(&["2: a b / x", "3: b / y"], &[], &[], &["2"]);
        check(&["2: a b / x", "3: b / y"], &["2: a b / x"], &[], &[]);
    }

    #[test]
    fn what_was_begun_goes_first() {
        check(&["1: a / x", "2!: a / y"], &[], &[], &["2"]);
    }

    #[test]
    fn what_rests_holds_up_what_is_about_the_same_and_nothing_else() {
        check(&["1: a / x", "2: a / y", "3: b / x"], &[], &["1"], &["2"]);
        check(&["1: a / x", "2: a / x", "3: b / x"], &[], &["1"], &[]);
    }
}
