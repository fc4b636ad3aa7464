//! One merge after the other, by means of the registry alone.
//!
//! In: a number that grows with every merge. Out: a [`Claim`], which at most one merge holds; or that a newer merge is through
//! already. Registries have no locks, but they number the versions of a subject: each merge registers a version under
//! [`SUBJECT`], the lowest that is not deleted holds the claim, deleting it (softly) lets the next one go on. The last one that
//! was let go says what was merged last. Never: in the way for longer than a lease, when a merge was killed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::schema::client::{Registry, RegistryError};
use crate::schema::source::{Kind, Schema};

/// The subject whose versions are claims.
pub const SUBJECT: &str = "iguazu-schemas-merge";

/// After so long another merge may take a claim for one of a merge that was killed.
const LEASE: Duration = Duration::from_secs(60);

/// How long to wait for other merges.
const PATIENCE: Duration = Duration::from_secs(300);

/// Pause between two looks.
const POLL: Duration = Duration::from_millis(500);

/// What a claim says, in the documentation of an Avro schema: what any registry keeps as it is.
#[derive(Debug, Serialize, Deserialize)]
struct Said {
    sequence: u64,
    /// Seconds since 1970.
    claimed: u64,
}

/// The right to register, until it is let go.
#[derive(Debug)]
pub struct Claim<'a> {
    registry: &'a Registry,
    version: u32,
}

/// What became of asking for a claim.
#[derive(Debug)]
pub enum Claimed<'a> {
    /// It is ours.
    Held(Claim<'a>),
    /// A merge of a higher number is through; there is nothing left to do.
    Newer(u64),
}

/// Why there is no claim.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ClaimError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("merge {holder} has held the registry for {} s; if it does not run any more, try again", PATIENCE.as_secs())]
    Busy { holder: u64 },
    #[error("another merge took this one for dead, since it ran longer than {} s; merge again", LEASE.as_secs())]
    Lost,
}

impl Claim<'_> {
    /// Waits for the merges before, and claims the registry. A claim of the same number is of a run before this one that was
    /// killed, and is taken over at once.
    pub async fn take(registry: &Registry, sequence: u64) -> Result<Claimed<'_>, ClaimError> {
        let claim = Claim { registry, version: register(registry, sequence).await? };
        let mut waited = Duration::ZERO;
        loop {
            let open = claim.open().await?;
            if !open.contains(&claim.version) {
                return Err(ClaimError::Lost);
            }
            let Some(first) = open.first().copied().filter(|first| *first != claim.version) else { break };
            match read(registry, first).await? {
                Some(said) if said.sequence != sequence && now().saturating_sub(said.claimed) < LEASE.as_secs() => {
                    if waited >= PATIENCE {
                        claim.withdraw().await?;
                        return Err(ClaimError::Busy { holder: said.sequence });
                    }
                    tokio::time::sleep(POLL).await;
                    waited += POLL;
                }
                // Of a merge that was killed, or no claim at all.
                _ => remove(registry, first).await?,
            }
        }
        match claim.last_through().await? {
            Some(last) if last > sequence => {
                claim.withdraw().await?;
                Ok(Claimed::Newer(last))
            }
            _ => Ok(Claimed::Held(claim)),
        }
    }

    /// Makes sure that nobody took this merge for dead. To be asked before each change.
    pub async fn verify(&self) -> Result<(), ClaimError> {
        if self.open().await?.first() == Some(&self.version) { Ok(()) } else { Err(ClaimError::Lost) }
    }

    /// Lets the next merge go on; this one is through.
    pub async fn release(self) -> Result<(), ClaimError> {
        self.registry.delete_version(SUBJECT, self.version).await?;
        for older in self.registry.versions_with_deleted(SUBJECT).await? {
            if older < self.version {
                self.registry.purge_version(SUBJECT, older).await?;
            }
        }
        Ok(())
    }

    /// Gives up without having merged.
    pub async fn withdraw(&self) -> Result<(), ClaimError> {
        Ok(remove(self.registry, self.version).await?)
    }

    /// Claims that were not let go, oldest first.
    async fn open(&self) -> Result<Vec<u32>, RegistryError> {
        match self.registry.versions(SUBJECT).await {
            Err(RegistryError::NotFound { .. }) => Ok(Vec::new()),
            versions => versions,
        }
    }

    /// The number of the last merge that was let go.
    async fn last_through(&self) -> Result<Option<u64>, RegistryError> {
        let all = self.registry.versions_with_deleted(SUBJECT).await?;
        let open = self.open().await?;
        let mut last = None;
        for version in all.into_iter().filter(|version| !open.contains(version)) {
            last = last.max(read(self.registry, version).await?.map(|said| said.sequence));
        }
        Ok(last)
    }
}

async fn register(registry: &Registry, sequence: u64) -> Result<u32, RegistryError> {
    let said = serde_json::to_string(&Said { sequence, claimed: now() }).expect("two numbers are JSON");
    // A name of its own makes it a version of its own, and its default lets every version follow every other.
    let field = json!({"name": format!("run_{}", Uuid::now_v7().simple()), "type": "null", "default": null});
    let text =
        json!({"type": "record", "name": "Merge", "namespace": "iguazu.schemas", "doc": said, "fields": [field]});
    let schema = Schema::new(Kind::Avro, text.to_string());
    registry.register(SUBJECT, &schema).await?;
    Ok(registry.find(SUBJECT, &schema).await?.version)
}

/// What a claim says; none if it is gone, or is no claim.
async fn read(registry: &Registry, version: u32) -> Result<Option<Said>, RegistryError> {
    let found = match registry.version_with_deleted(SUBJECT, version).await {
        Err(RegistryError::NotFound { .. }) => return Ok(None),
        found => found?,
    };
    let text: serde_json::Value = serde_json::from_str(&found.registered.schema.text).unwrap_or_default();
    Ok(text["doc"].as_str().and_then(|said| serde_json::from_str(said).ok()))
}

/// Removes a claim for good; one that is gone already is.
async fn remove(registry: &Registry, version: u32) -> Result<(), RegistryError> {
    for removed in [registry.delete_version(SUBJECT, version).await, registry.purge_version(SUBJECT, version).await] {
        match removed {
            Err(RegistryError::NotFound { .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
