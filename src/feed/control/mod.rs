//! Routes that a control plane pushes: the second source of event types and senders, in the place of the configuration's file.
//!
//! In: what the control plane says, or what it said in the last run. Out: a configuration with its event types and senders, which
//! goes in by the same way as a file that was read again. Never: put in force what is not signed by a known key, is of another
//! format or older than what is in force; wait for the control plane on the path of an event; lose what was good.
//!
//! Reading order: this file (what was accepted and what is in force), `follow` (asking for the next), `kept` (the copy on disk).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tracing::{info, warn};

use crate::config::{self, Accepted, Config, Good, Held, Merged, Refusal, Routes};
use crate::telemetry::health::Health;
use crate::telemetry::sources;

mod follow;
mod kept;

pub use follow::Follower;

/// Under which name `/ready` shows that what the control plane sends is refused.
const CONDITION: &str = "routes";

/// What a proxy has from its control plane. Shared by whoever asks for it, puts it in force and shows it.
#[derive(Debug)]
pub struct Pushed {
    state_dir: PathBuf,
    health: Arc<Health>,
    accepted: watch::Sender<Option<Arc<Accepted>>>,
    in_force: Mutex<InForce>,
    /// When the control plane last said what is of now, milliseconds since 1970; 0: never.
    confirmed_ms: AtomicU64,
    asked: AtomicU64,
    unanswered: AtomicU64,
    refused: [AtomicU64; Refusal::CODES.len()],
}

#[derive(Debug, Default)]
struct InForce {
    good: Good,
    revision: u64,
    proxies: u32,
    held: Vec<Held>,
    /// What of it `/ready` shows.
    shown: BTreeSet<String>,
    next_expiry_ms: Option<i64>,
}

impl Pushed {
    /// What the last run had, if it is still signed by a known key. Blocking.
    pub fn open(routes: &Routes, state_dir: &Path, health: Arc<Health>) -> Pushed {
        let mut in_force = InForce::default();
        let (mut accepted, mut confirmed_ms) = (None, 0);
        match kept::load(state_dir, &routes.public_keys) {
            Ok(Some(kept)) => {
                info!(
                    revision = kept.accepted.revision,
                    "routes of the last run are in force until the control plane answers"
                );
                in_force.good = kept.good;
                confirmed_ms = kept.confirmed_ms;
                accepted = Some(Arc::new(kept.accepted));
            }
            Ok(None) => {
                info!("there are no routes of an earlier run; nothing is served until the control plane answers")
            }
            Err(problem) => {
                warn!(problem, "the routes of the last run are of no use");
                health.set_condition(CONDITION, &format!("the copy of the last run is of no use: {problem}"));
            }
        }
        Pushed {
            state_dir: state_dir.to_owned(),
            health,
            accepted: watch::Sender::new(accepted),
            in_force: Mutex::new(in_force),
            confirmed_ms: AtomicU64::new(confirmed_ms),
            asked: AtomicU64::default(),
            unanswered: AtomicU64::default(),
            refused: Default::default(),
        }
    }

    /// Tells of each document that is accepted.
    pub fn news(&self) -> watch::Receiver<Option<Arc<Accepted>>> {
        self.accepted.subscribe()
    }

    /// A configuration with the routes that were accepted last, as it is before any were; and what is to be noted once it is in
    /// force.
    pub fn merge(&self, base: &Config) -> (Config, NoteInForce) {
        let accepted = self.accepted.borrow().clone();
        let Some(accepted) = accepted else { return (base.clone(), NoteInForce::default()) };
        let good = self.in_force().good.clone();
        let merged = config::merge(base, &accepted.document, &good, accepted.proxies, now_ms() as i64);
        let Merged { mut config, good, held, elsewhere, next_expiry_ms } = merged;
        config.revision = Some(accepted.revision);
        (config, NoteInForce { accepted: Some(accepted), good, held, elsewhere, next_expiry_ms })
    }

    /// Notes that a merged configuration is in force: shows what of it is held, and keeps it for the next start. Blocking.
    pub fn note_in_force(&self, merged: NoteInForce) {
        let Some(accepted) = merged.accepted else { return };
        let mut in_force = self.in_force();
        let revision = accepted.revision;
        if revision != in_force.revision {
            let (events, senders) = (merged.good.events.len(), merged.good.senders.len());
            info!(revision, events, senders, elsewhere = merged.elsewhere, "routes of the control plane are in force");
        }
        let mut shown = BTreeSet::new();
        for held in &merged.held {
            let name = format!("route of {}", held.name);
            let what = match held.has_good {
                true => format!(
                    "its last good version is in force, what the control plane has now is refused: {}",
                    held.problem
                ),
                false => format!("it is left out, what the control plane has is refused: {}", held.problem),
            };
            if !in_force.held.contains(held) {
                warn!(
                    route = held.name,
                    has_good = held.has_good,
                    problem = held.problem,
                    "a route is refused, all others go on"
                );
            }
            self.health.set_condition(&name, &what);
            shown.insert(name);
        }
        in_force.shown.difference(&shown).for_each(|name| self.health.clear_condition(name));
        *in_force = InForce {
            good: merged.good,
            revision,
            proxies: accepted.proxies,
            held: merged.held,
            shown,
            next_expiry_ms: merged.next_expiry_ms,
        };
        let confirmed_ms = self.confirmed_ms.load(Relaxed);
        let kept = kept::Kept { accepted: (*accepted).clone(), good: in_force.good.clone(), confirmed_ms };
        if let Err(error) = kept::save(&self.state_dir, &kept) {
            warn!(%error, "the routes cannot be kept for the next start");
        }
    }

    /// How long until a key in force ends; none when none does.
    pub fn next_expiry(&self) -> Option<Duration> {
        let next_ms = self.in_force().next_expiry_ms?;
        Some(Duration::from_millis((next_ms - now_ms() as i64).max(0) as u64))
    }

    /// What is shown of it on `/metrics`.
    pub fn reading(&self) -> sources::Routes {
        let confirmed_ms = self.confirmed_ms.load(Relaxed);
        let in_force = self.in_force();
        sources::Routes {
            revision: in_force.revision,
            // Without any it is as old as can be.
            age: Duration::from_millis(now_ms().saturating_sub(confirmed_ms)),
            proxies: u64::from(in_force.proxies),
            held: in_force.held.len() as u64,
            asked: self.asked.load(Relaxed),
            unanswered: self.unanswered.load(Relaxed),
            refused: Refusal::CODES
                .iter()
                .zip(&self.refused)
                .map(|(code, count)| (*code, count.load(Relaxed)))
                .collect(),
        }
    }

    fn confirm(&self) {
        self.confirmed_ms.store(now_ms(), Relaxed);
        self.health.clear_condition(CONDITION);
    }

    fn take(&self, accepted: Accepted) {
        self.confirm();
        self.accepted.send_replace(Some(Arc::new(accepted)));
    }

    fn refuse(&self, refusal: &Refusal) {
        let position = Refusal::CODES.iter().position(|code| *code == refusal.code());
        let count = &self.refused[position.expect("the list has every code")];
        count.fetch_add(1, Relaxed);
        self.health.set_condition(CONDITION, &format!("refused, those of before stay in force: {refusal}"));
    }

    fn in_force(&self) -> MutexGuard<'_, InForce> {
        self.in_force.lock().expect("no code panics while it holds this lock")
    }
}

/// What of a merged configuration is noted once it is in force.
#[derive(Clone, Debug, Default)]
pub struct NoteInForce {
    accepted: Option<Arc<Accepted>>,
    good: Good,
    held: Vec<Held>,
    elsewhere: usize,
    next_expiry_ms: Option<i64>,
}

/// A configuration with the routes that its proxy keeps on disk, for tools beside it; as it is where routes stand in the file.
/// Blocking.
pub fn with_last_good(base: Config) -> Result<Config, String> {
    let (Some(routes), Some(state_dir)) = (&base.routes, &base.state_dir) else { return Ok(base) };
    let nothing = || {
        let folder = state_dir.display();
        format!("its event types come from the control plane, and `{folder}` holds none yet: has its proxy run?")
    };
    let kept::Kept { accepted, good, .. } = kept::load(state_dir, &routes.public_keys)?.ok_or_else(nothing)?;
    let mut config = config::merge(&base, &accepted.document, &good, accepted.proxies, now_ms() as i64).config;
    config.revision = Some(accepted.revision);
    Ok(config)
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
