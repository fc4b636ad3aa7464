//! What the API counts, and what a scrape reads of the plane.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::http::Method;

use super::Api;
use super::guard::Grant;
use crate::control::reconcile::FindingKind;
use crate::control::reconcile::budget::Budget;
use crate::control::request::Request;
use crate::control::snapshot::PRESENT;
use crate::control::store::{RequestCount, StoreError, Token, now_ms};
use crate::telemetry::certificates::Expiry;
use crate::telemetry::export::{Exporter, Page, note_start};
use crate::telemetry::{metrics as m, sources};

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
        // The exporter of a scrape lives no longer than that.
        note_start();
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

/// States of requests that another one follows.
const STATES_UNDER_WAY: [&str; 4] = ["pending", "approved", "applying", "quiet"];
/// Tokens that are shown with when they end.
const TOKENS_SHOWN_MAX: usize = 200;

/// The text of a scrape. What the store does not answer is left out.
pub(super) async fn render(api: &Api) -> String {
    let plane = Plane::read(api).await;
    let meters = api.clone();
    let source = move |page: &mut Page| {
        meters.meters.write(page);
        plane.write(page);
    };
    Exporter::new(vec![Box::new(source)]).render()
}

/// What the store and the files say at the moment of a scrape.
#[derive(Default)]
struct Plane {
    /// Whether the store has not answered all of it.
    is_partial: bool,
    requests: Vec<RequestCount>,
    budgets: Vec<Budget>,
    findings: Vec<(String, FindingKind, u64)>,
    tokens: Vec<Token<Grant>>,
    proxies: Option<u64>,
    revision: Option<i64>,
    certificates: Vec<Expiry>,
    now_ms: i64,
}

impl Plane {
    async fn read(api: &Api) -> Plane {
        let mut plane = Plane { certificates: (api.expiries)(), now_ms: now_ms(), ..Plane::default() };
        plane.requests = plane.answered(api.store.count_requests().await).unwrap_or_default();
        plane.budgets = plane.answered(api.reconciler.budgets().await).unwrap_or_default();
        let findings = plane.answered(api.store.count_findings().await).unwrap_or_default();
        plane.findings = findings.into_iter().filter_map(known_kind).collect();
        plane.tokens = plane.answered(api.store.tokens_that_end(TOKENS_SHOWN_MAX).await).unwrap_or_default();
        plane.proxies = plane.answered(api.store.count_proxies(PRESENT.as_millis() as i64).await);
        plane.revision = plane.answered(api.store.published_revision().await);
        plane
    }

    fn answered<T>(&mut self, answer: Result<T, StoreError>) -> Option<T> {
        self.is_partial |= answer.is_err();
        answer.ok()
    }

    fn write(&self, page: &mut Page) {
        for RequestCount { state, count, oldest_ms } in &self.requests {
            page.set(&m::CONTROL_REQUESTS, &[state], *count);
            if STATES_UNDER_WAY.contains(&state.as_str()) {
                page.set(&m::CONTROL_REQUESTS_OLDEST, &[state], self.since(*oldest_ms));
            }
        }
        self.budgets.iter().for_each(|budget| self.write_budget(page, budget));
        for (cluster, kind, count) in &self.findings {
            let (kind, severity, _) = kind.told();
            page.set(&m::CONTROL_FINDINGS, &[cluster, kind, severity.as_str()], *count);
        }
        for token in &self.tokens {
            let ends_ms = token.expires_ms.unwrap_or(i64::MAX);
            page.set(&m::CREDENTIAL_EXPIRY, &["token", &token.name, owner(&token.document)], ends_ms as f64 / 1e3);
        }
        if let Some(proxies) = self.proxies {
            page.set(&m::CONTROL_PROXIES, &[], proxies);
        }
        if let Some(revision) = self.revision {
            page.set(&m::CONTROL_ROUTES_REVISION, &[], revision.max(0) as u64);
        }
        page.set(&m::CONTROL_STORE_UP, &[], u64::from(!self.is_partial));
        sources::certificates(page, &self.certificates);
    }

    fn write_budget(&self, page: &mut Page, budget: &Budget) {
        let cluster = [budget.cluster.as_str()];
        page.set(&m::CONTROL_RESERVED, &cluster, budget.reserved_bytes);
        page.set(&m::CONTROL_RESERVED_PARTITIONS, &cluster, budget.partitions);
        page.set(&m::CONTROL_RESERVED_INGRESS, &cluster, budget.ingress);
        let limits = [
            (&m::CONTROL_BUDGET, budget.disk_bytes),
            (&m::CONTROL_BUDGET_PARTITIONS, budget.partitions_max.map(u64::from)),
            (&m::CONTROL_BUDGET_INGRESS, budget.ingress_max),
        ];
        for (metric, limit) in limits {
            if let Some(limit) = limit {
                page.set(metric, &cluster, limit);
            }
        }
        if let Some(used) = budget.brokers.iter().filter_map(|broker| broker.used).max_by(f64::total_cmp) {
            page.set(&m::CONTROL_DISK_USED, &cluster, used);
        }
        if let Some(full_ms) = budget.brokers.iter().filter_map(|broker| broker.full_ms).min() {
            page.set(&m::CONTROL_DISK_FULL, &cluster, full_ms as f64 / 1e3);
        }
        if let Some(at_ms) = budget.at_ms {
            page.set(&m::CONTROL_OBSERVED, &cluster, self.since(at_ms));
        }
    }

    fn since(&self, at_ms: i64) -> f64 {
        (self.now_ms - at_ms).max(0) as f64 / 1e3
    }
}

/// Who is to make another token in time: the group of its bearer. One of nobody's, or of several groups', is the operator's to look at.
fn owner(grant: &Grant) -> &str {
    let groups = &grant.actor.groups;
    groups.first().filter(|_| groups.len() == 1).map_or("", String::as_str)
}

/// One that an older or newer node has found is of a kind that this one may not know.
fn known_kind((cluster, kind, count): (String, String, u64)) -> Option<(String, FindingKind, u64)> {
    let kind = FindingKind::ALL.iter().find(|known| known.as_str() == kind)?;
    Some((cluster, *kind, count))
}
