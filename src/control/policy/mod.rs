//! Who decides on a change: an ordered table of rules, as data.
//!
//! In: what is known of each change of a request ([`Facts`]) and the table in force. Out: a [`Decision`] with the rule and the
//! facts that it came from. Never: I/O, a clock, anything but facts: the same facts and the same revision give the same
//! decision, so that a table can be tried on requests of the past before it is in force.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

mod table;

pub use table::{Condition, Rule, Table, TableError, Test};

/// What is known of a change, by name. A fact that is missing meets no condition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
pub struct Facts(BTreeMap<String, Fact>);

/// Every fact that a rule may ask for, and what it says. A change has those that its kind and its cluster give it.
pub const FACTS: [(&str, &str); 28] = [
    ("kind", "what is changed: `topic`, `user`, …"),
    ("operation", "`create`, `update`, `rotate` or `delete`"),
    ("violations", "how many things are wrong with it"),
    ("handover", "whether nothing changes but where it is managed"),
    ("own_service", "whether the caller is of the group that owns the service"),
    ("environment", "the cluster's label"),
    ("gives_away", "whether it becomes another service's, and the caller is not of the group that owns that one"),
    ("own_topic", "whether the topic is the same service's"),
    ("topic_visibility", "`open` or `restricted`: who may read the topic without asking"),
    ("over_budget", "whether the cluster has no room for it"),
    ("below_use", "whether a limit is cut"),
    ("disk_used", "the share of the cluster's fullest disk that is in use, by whatever"),
    ("grows", "whether it takes more of the cluster than before"),
    ("restore", "whether it only makes again what is desired already"),
    ("more_allowance", "whether the service may take more of a cluster without a person than before"),
    ("within_allowance", "whether the service's topics stay within what it may take without a person"),
    ("tier", "`standard`, `critical` or `state`"),
    ("keyed", "whether records have keys"),
    ("expert", "whether Kafka's own settings are set by hand"),
    ("budget_share", "what it takes more, as a share of the cluster's disk"),
    ("over_partitions_max", "whether it is more partitions than the cluster gives without a person"),
    ("partitions_factor", "partitions after over partitions before"),
    ("retention_cut", "whether records that are kept now would go"),
    ("durability_change", "whether copies or the clean-up change"),
    ("only_text", "whether nothing but descriptions change"),
    ("level", "`publish`, `produce`, `consume` or `describe`"),
    ("pattern", "`literal` or `prefix`"),
    (
        "first_acl_on_open_cluster",
        "whether it is the first rule on a topic of a cluster where whoever has none may do everything",
    ),
];

/// The value of one fact.
#[derive(Clone, Debug, PartialEq, PartialOrd, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Fact {
    /// Yes or no.
    Flag(bool),
    /// A number; its unit is in the fact's name.
    Number(f64),
    /// A word.
    Word(String),
}

impl Facts {
    /// Says something.
    pub fn set(&mut self, name: &str, fact: impl Into<Fact>) -> &mut Self {
        self.0.insert(name.to_owned(), fact.into());
        self
    }

    /// What is said under this name.
    pub fn get(&self, name: &str) -> Option<&Fact> {
        self.0.get(name)
    }
}

impl From<bool> for Fact {
    fn from(flag: bool) -> Fact {
        Fact::Flag(flag)
    }
}

impl From<f64> for Fact {
    fn from(number: f64) -> Fact {
        Fact::Number(number)
    }
}

impl From<&str> for Fact {
    fn from(word: &str) -> Fact {
        Fact::Word(word.to_owned())
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::Flag(flag) => write!(f, "{flag}"),
            Fact::Number(number) => write!(f, "{number}"),
            Fact::Word(word) => f.write_str(word),
        }
    }
}

/// Somebody who must agree. None of them may be the one who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Approver {
    /// An owner of the service whose resource it is.
    Owner,
    /// An owner of the service whose topic is to be read or written.
    TopicOwner,
    /// An operator of the cluster.
    Operator,
    /// An owner of the service that it is handed over to.
    NewOwner,
}

impl Approver {
    /// The name in rules and replies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Approver::Owner => "owner",
            Approver::TopicOwner => "topic_owner",
            Approver::Operator => "operator",
            Approver::NewOwner => "new_owner",
        }
    }
}

/// What becomes of a change. Ordered: of several, the last one holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It is applied at once.
    Auto,
    /// It waits until all of these have agreed.
    Review {
        /// Who.
        by: BTreeSet<Approver>,
    },
    /// It is refused.
    Reject,
}

/// What a table says of one change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Decision {
    /// What becomes of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The rule that matched; none: no rule did, and then an operator reviews.
    pub rule: Option<String>,
    /// For people: why.
    pub reason: String,
    /// Revision of the table.
    pub policy_revision: u64,
    /// What it was decided on.
    pub facts: Facts,
}

impl Verdict {
    /// The name in replies.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Verdict::Auto => "auto",
            Verdict::Review { .. } => "review",
            Verdict::Reject => "reject",
        }
    }
}

impl Table {
    /// Decides on one change: the first rule whose conditions all hold.
    pub fn decide(&self, facts: Facts) -> Decision {
        let policy_revision = self.revision;
        match self.rules.iter().find(|rule| rule.matches(&facts)) {
            Some(rule) => Decision {
                verdict: rule.verdict.clone(),
                rule: Some(rule.id.clone()),
                reason: rule.reason.clone(),
                policy_revision,
                facts,
            },
            None => Decision {
                verdict: Verdict::Review { by: BTreeSet::from([Approver::Operator]) },
                rule: None,
                reason: "no rule is about this change".to_owned(),
                policy_revision,
                facts,
            },
        }
    }
}

/// The verdict of a request: the strictest of its changes', with everybody who must agree to any of them.
pub fn combine<'d>(decisions: impl IntoIterator<Item = &'d Decision>) -> Verdict {
    decisions.into_iter().fold(Verdict::Auto, |so_far, decision| match (so_far, &decision.verdict) {
        (Verdict::Review { by }, Verdict::Review { by: more }) => {
            Verdict::Review { by: by.union(more).copied().collect() }
        }
        (so_far, verdict) => so_far.max(verdict.clone()),
    })
}

#[cfg(test)]
mod tests;
