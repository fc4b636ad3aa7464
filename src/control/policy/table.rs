//! The table itself: how it is written down, and what is refused of it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Approver, Fact, Facts, Verdict};

/// Most rules of a table, and conditions of a rule: somebody must be able to read it.
const RULES_MAX: usize = 200;
const CONDITIONS_MAX: usize = 20;

/// The table that comes with the program.
const DEFAULT: &str = include_str!("default.toml");

/// An ordered decision table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Counts the tables that were in force; given by the store.
    #[serde(default)]
    pub revision: u64,
    /// First match wins.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Rule {
    /// Its stable name.
    pub id: String,
    /// For people: why it is so.
    pub reason: String,
    /// All of these must hold; a rule without conditions always matches.
    #[serde(default)]
    pub when: Vec<Condition>,
    /// What then becomes of the change.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// One fact, and what it must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Condition {
    /// Name of the fact.
    pub fact: String,
    /// What it must be.
    #[serde(flatten)]
    pub test: Test,
}

/// What a fact must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// This.
    Is(Fact),
    /// One of these.
    In(Vec<Fact>),
    /// A number of at most so much.
    AtMost(f64),
    /// A number over this.
    Over(f64),
}

/// Why a table is refused.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum TableError {
    #[error("the policy cannot be read: {0}")]
    Syntax(#[from] Box<toml::de::Error>),
    #[error("the policy has {count} rules, at most {RULES_MAX} are allowed")]
    TooManyRules { count: usize },
    #[error("rule `{id}` has {count} conditions, at most {CONDITIONS_MAX} are allowed")]
    TooManyConditions { id: String, count: usize },
    #[error("two rules are named `{id}`")]
    SameId { id: String },
    #[error("rule `{id}` can never match: `{before}` above it always does")]
    Unreachable { id: String, before: String },
    #[error("rule `{id}`: no fact is named `{fact}`; there are {known}")]
    UnknownFact { id: String, fact: String, known: String },
    #[error("rule `{id}`: a review needs somebody who reviews, `by` is empty")]
    NobodyReviews { id: String },
}

impl Default for Table {
    fn default() -> Self {
        Table::parse(DEFAULT, None).expect("a test reads the table that comes with the program")
    }
}

impl Table {
    /// Reads a table from TOML, and refuses one that cannot be meant so. Facts are checked where it is said which there are.
    pub fn parse(text: &str, known_facts: Option<&BTreeSet<&str>>) -> Result<Table, TableError> {
        let table: Table = toml::from_str(text).map_err(Box::new)?;
        table.check(known_facts)?;
        Ok(table)
    }

    /// Refuses what cannot be meant so.
    pub fn check(&self, known_facts: Option<&BTreeSet<&str>>) -> Result<(), TableError> {
        if self.rules.len() > RULES_MAX {
            return Err(TableError::TooManyRules { count: self.rules.len() });
        }
        let mut ids = BTreeSet::new();
        let mut always: Option<&Rule> = None;
        for rule in &self.rules {
            let id = || rule.id.clone();
            if rule.when.len() > CONDITIONS_MAX {
                return Err(TableError::TooManyConditions { id: id(), count: rule.when.len() });
            }
            if !ids.insert(&rule.id) {
                return Err(TableError::SameId { id: id() });
            }
            if let Some(before) = always {
                return Err(TableError::Unreachable { id: id(), before: before.id.clone() });
            }
            if rule.when.is_empty() {
                always = Some(rule);
            }
            if matches!(&rule.verdict, Verdict::Review { by } if by.is_empty()) {
                return Err(TableError::NobodyReviews { id: id() });
            }
            let unknown = rule.when.iter().find(|c| known_facts.is_some_and(|known| !known.contains(c.fact.as_str())));
            if let (Some(condition), Some(known)) = (unknown, known_facts) {
                let known = known.iter().copied().collect::<Vec<_>>().join(", ");
                return Err(TableError::UnknownFact { id: id(), fact: condition.fact.clone(), known });
            }
        }
        Ok(())
    }
}

impl Rule {
    /// Whether all conditions hold.
    pub fn matches(&self, facts: &Facts) -> bool {
        self.when.iter().all(|condition| facts.get(&condition.fact).is_some_and(|fact| condition.test.holds(fact)))
    }

    /// Everybody who must agree, for a rule that asks for a review.
    pub fn approvers(&self) -> impl Iterator<Item = Approver> + '_ {
        let by = match &self.verdict {
            Verdict::Review { by } => Some(by),
            Verdict::Auto | Verdict::Reject => None,
        };
        by.into_iter().flatten().copied()
    }
}

impl Test {
    /// Whether the fact is so. A word is never a number.
    pub fn holds(&self, fact: &Fact) -> bool {
        match self {
            Test::Is(wanted) => fact == wanted,
            Test::In(wanted) => wanted.contains(fact),
            Test::AtMost(most) => matches!(fact, Fact::Number(number) if number <= most),
            Test::Over(limit) => matches!(fact, Fact::Number(number) if number > limit),
        }
    }
}
