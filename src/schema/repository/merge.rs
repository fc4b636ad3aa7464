//! Registers what a repository holds: the merge of a change.
//!
//! In: entries, in their order. Out: the version and id of each. What is registered already stays as it is, so that a run
//! that was killed is made good by the next one. References are pinned to the versions that this run found or made.

use std::collections::BTreeMap;

use super::Entry;
use super::claim::{Claim, ClaimError};
use super::gate::status;
use super::held::Held;
use super::lock::Locked;
use super::report::Status;
use crate::schema::client::{Registry, RegistryError};
use crate::schema::compatibility::Level;

/// Why the merge ended before its end. What it did so far stays.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The registry did not answer, or refused.
    #[error("subject `{subject}` cannot be registered")]
    Registry {
        /// The subject.
        subject: String,
        /// What the registry said.
        source: RegistryError,
    },
    /// The merge has lost the registry to another one, or did not get it.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// Somebody else registered a newer schema under the subject meanwhile.
    #[error(
        "subject `{subject}` has version {newest} now, which was registered while this merge made version {version}; \
         merge again from the newest commit"
    )]
    Overtaken {
        /// The subject.
        subject: String,
        /// What this merge made of it.
        version: u32,
        /// What is newest.
        newest: u32,
    },
}

/// What was done to a subject.
#[derive(Clone, Debug)]
pub struct Merged {
    /// Whether it had the schema before.
    pub status: Status,
    /// Where the schema is now.
    pub locked: Locked,
}

/// Registers every entry that is not registered yet; `tell` hears of each when it is done. With a claim, no other merge that
/// has to have one can come between.
pub async fn merge(
    registry: &Registry,
    entries: &[Entry],
    claim: Option<&Claim<'_>>,
    mut tell: impl FnMut(&Merged) -> std::io::Result<()>,
) -> Result<Vec<Merged>, MergeError> {
    let mut versions = BTreeMap::new();
    let mut done = Vec::with_capacity(entries.len());
    for entry in entries {
        if let Some(claim) = claim {
            claim.verify().await?;
        }
        let failed = |source| MergeError::Registry { subject: entry.subject.clone(), source };
        let merged = register(registry, entry, &versions).await.map_err(failed)?;
        versions.insert(entry.subject.clone(), merged.locked.version);
        // Whoever reads along may go away; what is registered is still to be finished.
        let _ = tell(&merged);
        done.push(merged);
    }
    for (entry, merged) in entries.iter().zip(&done) {
        let (subject, version) = (entry.subject.clone(), merged.locked.version);
        let newest = registry.latest(&subject).await;
        let newest = newest.map_err(|source| MergeError::Registry { subject: subject.clone(), source })?.version;
        if newest != version {
            return Err(MergeError::Overtaken { subject, version, newest });
        }
    }
    Ok(done)
}

async fn register(
    registry: &Registry,
    entry: &Entry,
    imports: &BTreeMap<String, u32>,
) -> Result<Merged, RegistryError> {
    let held = Held::fetch(registry, &entry.subject, Level::None).await?;
    let status = status(entry, &held, imports);
    let found = match held.newest() {
        Some(newest) if status == Status::Unchanged => newest.clone(),
        _ => {
            let schema = entry.schema(imports).expect("an import stands before what imports it");
            registry.register(&entry.subject, &schema).await?;
            // What a look-up answers is not all that a version says: some registries leave the type out.
            let version = registry.find(&entry.subject, &schema).await?.version;
            registry.version(&entry.subject, version).await?
        }
    };
    Ok(Merged { status, locked: Locked::new(registry.name(), &found) })
}
