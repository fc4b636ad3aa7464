//! What the API counts, and what a scrape reads of the plane.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::http::Method;

use super::Api;
use super::explain;
use super::problem::Problem;
use crate::control::request::Request;
use crate::telemetry::export::{Exporter, Page};
use crate::telemetry::metrics as m;

/// Methods that are told apart.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "other"];
/// Statuses from 100.
const STATUSES: usize = 500;
/// Why somebody was not let in.
const REASONS: [&str; 4] = ["unauthenticated", "forbidden", "rate_limited", "unavailable"];
const DECISIONS: [&str; 3] = ["auto", "review", "reject"];

/// The counters of one API.
pub(super) struct Meters {
    replies: [Box<[AtomicU64; STATUSES]>; METHODS.len()],
    refused: [AtomicU64; REASONS.len()],
    decisions: [AtomicU64; DECISIONS.len()],
}

impl Default for Meters {
    fn default() -> Self {
        let zeros = || Box::new([const { AtomicU64::new(0) }; STATUSES]);
        Meters { replies: std::array::from_fn(|_| zeros()), refused: Default::default(), decisions: Default::default() }
    }
}

impl Meters {
    /// Counts a reply.
    pub(super) fn reply(&self, method: &Method, status: u16) {
        let method = METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1);
        let status = usize::from(status).wrapping_sub(100).min(STATUSES - 1);
        self.replies[method][status].fetch_add(1, Relaxed);
    }

    /// Counts somebody who was not let in.
    pub(super) fn refused(&self, reason: &str) {
        if let Some(reason) = REASONS.iter().position(|known| *known == reason) {
            self.refused[reason].fetch_add(1, Relaxed);
        }
    }

    /// Counts what the rules made of a new request.
    pub(super) fn decided(&self, request: &Request) {
        for planned in &request.changes {
            let decision = planned.decision.verdict.as_str();
            if let Some(decision) = DECISIONS.iter().position(|known| *known == decision) {
                self.decisions[decision].fetch_add(1, Relaxed);
            }
        }
    }

    fn write(&self, page: &mut Page) {
        for (method, replies) in METHODS.iter().zip(&self.replies) {
            for (status, count) in (100u16..).zip(replies.iter()) {
                let count = count.load(Relaxed);
                if count > 0 {
                    page.set(&m::CONTROL_HTTP, &[method, &status.to_string()], count);
                }
            }
        }
        for (reason, count) in REASONS.iter().zip(&self.refused) {
            page.set(&m::CONTROL_REFUSED, &[reason], count.load(Relaxed));
        }
        for (decision, count) in DECISIONS.iter().zip(&self.decisions) {
            page.set(&m::CONTROL_DECISIONS, &[decision], count.load(Relaxed));
        }
    }
}

/// The text of a scrape. What the store does not answer is left out.
pub(super) async fn render(api: &Api) -> String {
    let requests = api.store.count_requests().await.unwrap_or_default();
    let budgets = budgets(api).await.unwrap_or_default();
    let api = api.clone();
    let source = move |page: &mut Page| {
        api.meters.write(page);
        for (state, count) in &requests {
            page.set(&m::CONTROL_REQUESTS, &[state], *count);
        }
        for (cluster, reserved, limit) in &budgets {
            page.set(&m::CONTROL_RESERVED, &[cluster], *reserved);
            if let Some(limit) = limit {
                page.set(&m::CONTROL_BUDGET, &[cluster], *limit);
            }
        }
    };
    Exporter::new(vec![Box::new(source)]).render()
}

/// Each cluster, what of its disk is spoken for, and most of it.
async fn budgets(api: &Api) -> Result<Vec<(String, u64, Option<u64>)>, Problem> {
    let mut budgets = Vec::new();
    for (cluster, view) in explain::views(api).await? {
        let taken = api.store.taken(&cluster).await?;
        budgets.push((cluster, taken.disk_bytes, view.disk_bytes_max));
    }
    Ok(budgets)
}
