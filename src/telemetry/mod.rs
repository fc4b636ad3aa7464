//! What operators see: metrics, logs, health.
//!
//! In: readings of counters that others keep (the ledger, producers, registries), durations that they observe, and what they
//! say about themselves.
//! Out: `/metrics`, `/ledger`, `/live`, `/ready`, `/startup`, `/rejections` as pure answers, log lines, and spans for a collector. Never: counts an event a second time,
//! puts input into a label, or a payload's value or a secret anywhere.

pub mod metrics;
pub mod export;
pub mod sources;
pub mod accounts;
pub mod certificates;
pub mod meters;
mod process;
pub mod health;
pub mod ledger;
pub mod admin;
pub mod logs;
pub mod traces;

#[cfg(test)]
mod docs_tests;
