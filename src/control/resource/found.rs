//! What is found wrong with one resource, collected as it is looked at.

use super::rule::Rule;
use super::{ResourceId, Violation};

/// The violations of one resource so far.
#[derive(Debug)]
pub(crate) struct Found<'i> {
    id: &'i ResourceId,
    violations: Vec<Violation>,
}

impl<'i> Found<'i> {
    /// None yet.
    pub(crate) fn of(id: &'i ResourceId) -> Found<'i> {
        Found { id, violations: Vec::new() }
    }

    /// Whose they are.
    pub(crate) fn id(&self) -> &'i ResourceId {
        self.id
    }

    /// Adds one: the field's path in the spec, the rule that it breaks, what is wrong, what would be right.
    pub(crate) fn add(&mut self, field: &str, rule: Rule, problem: impl Into<String>, fix: impl Into<String>) {
        let (resource, field, rule) = (self.id.clone(), field.to_owned(), rule.id.to_owned());
        self.violations.push(Violation { resource, field, rule, problem: problem.into(), fix: fix.into() });
    }

    /// Adds those that somebody else has found.
    pub(crate) fn extend(&mut self, more: Vec<Violation>) {
        self.violations.extend(more);
    }

    /// All of them.
    pub(crate) fn violations(self) -> Vec<Violation> {
        self.violations
    }
}
