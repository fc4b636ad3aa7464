//! Senders of the proxy: an API key is made, its hash and the sender's limits are what proxies get, and the key itself is shown once.
//!
//! Never: a key in a step or a log line; a key that ends before the overlap that was promised with its successor.

use serde::{Deserialize, Serialize};

use super::{Answer, Comparison, Observed, Provider, Reach, Step, StepError, check_service, publish, read_wish};
use crate::auth;
use crate::config::DocumentLimits;
use crate::control::policy::Facts;
use crate::control::resource::{Found, Kind, ResourceId, SenderSpec, Spec, Violation, rule};
use crate::control::snapshot::PublishedSender;
use crate::control::store::{Need, Secret};
use crate::control::world::{Change, World};

const HOUR_MS: i64 = 3_600_000;

/// The provider of senders.
pub struct SenderProvider;

/// What a step wishes of a sender.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "wish", rename_all = "snake_case")]
enum Wish {
    /// It has a key of this generation, and those before end after the overlap.
    Key { generation: u32, overlap_hours: u32, reader: String },
    /// It has none.
    NoKey,
}

impl SenderProvider {
    fn spec(change: &Change) -> Option<&SenderSpec> {
        match &change.desired {
            Some(Spec::Sender(sender)) => Some(sender),
            _ => None,
        }
    }
}

impl Provider for SenderProvider {
    fn kind(&self) -> Kind {
        Kind::Sender
    }

    fn related(&self, change: &Change) -> Vec<ResourceId> {
        Self::spec(change).map(|sender| ResourceId::of(Kind::Service, &sender.service)).into_iter().collect()
    }

    fn violations(&self, change: &Change, world: &World) -> Vec<Violation> {
        let Some(sender) = Self::spec(change) else { return vec![] };
        let mut found = Found::of(&change.id);
        check_service(&mut found, world, &sender.service);
        if let Some(Spec::Sender(before)) = world.before(&change.id).map(|resource| &resource.spec)
            && sender.generation < before.generation
        {
            let problem = format!("its key is of generation {}, and none before it comes back", before.generation);
            found.add("generation", rule::NO_WAY_BACK, problem, "a greater number makes a new key");
        }
        found.violations()
    }

    fn facts(&self, _: &Change, _: &World, _: &mut Facts) {}

    fn need(&self, _: &Change, _: &World) -> Option<Need> {
        None
    }

    fn steps(&self, change: &Change, world: &World, observed: &Observed) -> Vec<Step> {
        let name = &change.id.name;
        let (wish, summary) = match Self::spec(change) {
            Some(sender) => {
                let SenderSpec { generation, overlap_hours, .. } = *sender;
                let reader = world.requester().to_owned();
                (Wish::Key { generation, overlap_hours, reader }, format!("make key {generation} of sender {name}"))
            }
            None => (Wish::NoKey, format!("take the keys of sender {name} away")),
        };
        let is_so = compare(&wish, observed) == Comparison::Same;
        let wish = serde_json::to_value(wish).expect("a wish has string keys");
        let key = (!is_so).then(|| Step { target: change.id.clone(), wish, summary, is_destructive: false });
        let publish = Self::spec(change).map(published);
        let summary = match publish {
            Some(_) => format!("let the proxies know sender {name}"),
            None => format!("let the proxies know sender {name} no more"),
        };
        let publish = publish::step(&change.id, publish, observed, summary);
        key.into_iter().chain(publish).collect()
    }

    fn observe<'a>(&'a self, id: &'a ResourceId, reach: &'a Reach) -> Answer<'a, Observed> {
        Box::pin(async move {
            let state = reach.store.secret_state(&id.to_string()).await?;
            let generation =
                state.newest.filter(|_| !state.locked).map(|newest| ("generation".to_owned(), newest.into()));
            publish::observe(id, reach, generation.into_iter().collect()).await
        })
    }

    fn compare(&self, step: &Step, observed: &Observed) -> Comparison {
        if let Some(comparison) = publish::compare(step, observed) {
            return comparison;
        }
        match read_wish::<Wish>(step) {
            Ok(wish) => compare(&wish, observed),
            Err(problem) => Comparison::Conflict(problem),
        }
    }

    fn act<'a>(&'a self, step: &'a Step, reach: &'a Reach) -> Answer<'a, ()> {
        Box::pin(async move {
            if publish::act(step, reach).await? {
                return Ok(());
            }
            let resource = step.target.to_string();
            let mut tx = reach.store.begin().await?;
            match read_wish(step).map_err(StepError::Conflict)? {
                Wish::Key { generation, overlap_hours, reader } => {
                    let (key, hash) = auth::keys::fresh().map_err(|error| StepError::Conflict(error.to_string()))?;
                    let key = zeroize::Zeroizing::new(key);
                    let sealed = reach.sealer.seal(&key, &format!("{resource}#{generation}"));
                    let sealed = sealed.map_err(|error| StepError::Conflict(error.to_string()))?;
                    let generation = i64::from(generation);
                    tx.expire_secrets(&resource, generation, i64::from(overlap_hours) * HOUR_MS).await?;
                    let digest = Some(hex::encode(hash));
                    let sealed = Some(sealed);
                    tx.put_secret(&Secret { resource, generation, sealed, digest, reader, expires_ms: None }).await?;
                }
                Wish::NoKey => tx.lock_secrets(&resource).await?,
            }
            Ok(tx.commit().await?)
        })
    }
}

/// What proxies get of a sender beside its keys.
fn published(sender: &SenderSpec) -> serde_json::Value {
    let limits = DocumentLimits {
        event_bytes_max: None,
        bytes_per_second: sender.bytes_per_second,
        events_per_second: sender.events_per_second,
    };
    let published = PublishedSender { limits, disabled: sender.disabled, sample: sender.sample };
    serde_json::to_value(published).expect("numbers and flags are JSON")
}

fn compare(wish: &Wish, observed: &Observed) -> Comparison {
    let has = match observed {
        Observed::Absent => None,
        Observed::Present(value) => value.get("generation").and_then(serde_json::Value::as_u64),
    };
    let is_same = match wish {
        Wish::Key { generation, .. } => has == Some(u64::from(*generation)),
        Wish::NoKey => has.is_none(),
    };
    if is_same { Comparison::Same } else { Comparison::Different }
}
