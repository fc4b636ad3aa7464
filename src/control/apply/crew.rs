//! Requests carried out side by side: a task for each, in the order that `turn` says.
//!
//! In: what waits in the store. Out: it carried out, and what came of each. Never: more than [`TASKS_MAX`] tasks, a task that nobody
//! joins, a request that somebody is at already, a lease that is kept while nobody works.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::turn::{Job, turns};
use super::{Applier, ApplyError, is_due};
use crate::control::request::{Request, RequestState};
use crate::control::store::{Lease, StoreError};

/// Most requests at a time: more clusters than most installations have, and few enough for one store.
const TASKS_MAX: usize = 16;
/// Requests read at a time.
const PAGE: u32 = 200;
/// How long a request rests that did not go: as long as it took, so that others of its cluster have as much time as it had.
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(30);

/// Those who carry requests out.
pub struct Crew {
    applier: Applier,
    tasks: JoinSet<Result<(), ApplyError>>,
    at_work: HashMap<Id, (Job, Instant)>,
    /// Until when a request rests.
    rests: BTreeMap<String, Instant>,
    lease: Option<Lease>,
}

/// How work on a request has ended, for now.
#[derive(Debug)]
pub struct Ended {
    request: String,
    outcome: Result<Result<(), ApplyError>, JoinError>,
}

impl Crew {
    /// A crew without work.
    pub fn new(applier: Applier) -> Crew {
        let (tasks, at_work, rests) = (JoinSet::new(), HashMap::new(), BTreeMap::new());
        Crew { applier, tasks, at_work, rests, lease: None }
    }

    /// Sets to work on what has its turn, and keeps the lease while anybody works.
    pub async fn look(&mut self) -> Result<(), ApplyError> {
        let waiting = self.waiting().await?;
        let now = Instant::now();
        self.rests.retain(|_, until| *until > now);
        let at_work = self.at_work.values().map(|(job, _)| job);
        let most = TASKS_MAX.saturating_sub(self.at_work.len());
        let turns = turns(waiting, at_work, |id| self.rests.contains_key(id), most);
        if turns.is_empty() && self.tasks.is_empty() {
            return self.let_go().await;
        }
        // Another lease than before: whoever still works under that one finds out at the next line of its journal.
        let lease = self.applier.lease().await?;
        self.lease = Some(lease.clone());
        for job in turns {
            let (applier, lease, id) = (self.applier.clone(), lease.clone(), job.id.clone());
            let task = self.tasks.spawn(async move { applier.carry_out(&lease, &id).await });
            self.at_work.insert(task.id(), (job, now));
        }
        Ok(())
    }

    /// Waits until work on a request has ended; for ever, while nobody works.
    pub async fn ended(&mut self) -> Ended {
        let Some(joined) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
        let (task, outcome) = match joined {
            Ok((task, outcome)) => (task, Ok(outcome)),
            Err(error) => (error.id(), Err(error)),
        };
        let (job, began) = self.at_work.remove(&task).expect("every task stands there until it is joined");
        if !matches!(outcome, Ok(Ok(()))) {
            let now = Instant::now();
            self.rests.insert(job.id.clone(), now + (now - began).clamp(REST_MIN, REST_MAX));
        }
        Ended { request: job.id, outcome }
    }

    /// Everything that waits, each of it tried once; says how many came to an end.
    pub(super) async fn once(mut self) -> Result<usize, ApplyError> {
        let (mut ended, mut failed) = (0, None);
        loop {
            self.look().await?;
            if self.tasks.is_empty() {
                return failed.map_or(Ok(ended), Err);
            }
            let Ended { request, outcome } = self.ended().await;
            match outcome {
                Ok(Ok(())) => ended += 1,
                Ok(Err(error @ ApplyError::Later { .. })) => note(&request, error),
                Ok(Err(error)) => failed = Some(error),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
            // What was tried is not tried again.
            self.rests.insert(request, Instant::now() + Duration::from_secs(86_400));
        }
    }

    /// Ends: what is not done by then is left as `kill -9` would leave it, whoever is next looks at what is there.
    pub async fn finish(mut self, grace: Duration) {
        let done = tokio::time::timeout(grace, async {
            while !self.tasks.is_empty() {
                self.ended().await.note();
            }
        });
        if done.await.is_err() {
            warn!(requests = self.tasks.len(), "a step was not done in time; it is gone on with at the next start");
            self.tasks.shutdown().await;
        }
        if let Err(error) = self.let_go().await {
            debug!(%error, "the lease could not be given back; it ends by itself");
        }
    }

    /// Another node need not wait until the lease runs out.
    async fn let_go(&mut self) -> Result<(), ApplyError> {
        if let Some(lease) = self.lease.take() {
            self.applier.store.release(&lease).await?;
        }
        Ok(())
    }

    /// Every request that is to be carried out.
    async fn waiting(&self) -> Result<Vec<Job>, StoreError> {
        let states = [RequestState::Applying, RequestState::Approved, RequestState::Quiet].map(RequestState::as_str);
        let (mut jobs, mut after) = (Vec::new(), String::new());
        loop {
            let rows = self.applier.store.requests_in::<Request>(states, &after, PAGE).await?;
            jobs.extend(rows.iter().filter(|row| is_due(&row.document)).map(|row| Job::of(&row.document)));
            match rows.last() {
                Some(last) if rows.len() == PAGE as usize => after.clone_from(&last.id),
                _ => return Ok(jobs),
            }
        }
    }
}

impl Ended {
    /// Says in the log what did not go.
    pub fn note(self) {
        match self.outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => note(&self.request, error),
            Err(error) => error!(request = self.request, %error, "work on a request ended by itself"),
        }
    }
}

fn note(request: &str, error: ApplyError) {
    match error {
        ApplyError::Later { step, source } => warn!(request, step, %source, "a step is tried again later"),
        ApplyError::NotOurs => debug!("another node applies requests"),
        error => warn!(request, %error, "requests could not be applied; they are tried again"),
    }
}
