//! What the proxies have of the management plane: event types, senders, limits and brakes, as a signed snapshot by long poll.
//!
//! In: what providers have published in the store. Out: the newest snapshot to each proxy that asks, at once or as soon as there is
//! one. Never: a snapshot of half a request, an older one after a newer one, a wait without an end, more waiters than there is
//! room for.
//!
//! Several nodes share a store. Each looks twice a second whether something was published; the first that sees it makes the next
//! snapshot, in one transaction, and the others find it made. Revisions are milliseconds since 1970, or one more than the one before
//! where that is more: a store that was restored from a backup goes on above what proxies have seen.
//!
//! Rates are those of the whole fleet. Each proxy gets its share: nodes count together, in the store, who has asked within
//! [`PRESENT`]. The share stands in the signed statement beside the hash of the document and not in the document, so that nothing
//! that changes what a proxy does goes unsigned, and a proxy that comes or goes makes no new document.
//!
//! | file | subject |
//! |---|---|
//! | `build` | what is published -> the document |
//! | `keys` | what it is signed with, and how a key is replaced |
//! | `poll` | the long poll |
//! | `waiting` | event types that wait for their schemas |
//! | `fleet` | who asks, and how many they are |

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::brake::Brake;
use super::provider::EventChecks;
use super::store::{Store, StoreError};
use crate::config::{ROUTES_FORMAT, Signed, Statement, digest};

mod build;
mod fleet;
mod keys;
mod poll;
mod waiting;

pub use build::{PublishedGrant, PublishedQuota, PublishedSender};
use fleet::Fleet;
pub use fleet::PRESENT;
pub use keys::{KeyError, Keys};
pub use poll::{Poll, Proxies, Proxy, PublicKeys, router, show_keys, show_proxies, wait_for_snapshot};

/// How often a node looks whether something was published.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Polls that wait at the same time on one node.
const WAITING_MAX: usize = 10_000;

/// The newest snapshot, and who waits for the next.
#[derive(Debug)]
pub struct Snapshots {
    store: Store,
    keys: Keys,
    checks: Arc<EventChecks>,
    current: watch::Sender<Option<Arc<Current>>>,
    fleet: Fleet,
    /// When what waits was looked at last.
    looked: Mutex<Option<Instant>>,
    look: Notify,
    room: Arc<Semaphore>,
    stopping: CancellationToken,
}

/// The newest snapshot as it goes out.
#[derive(Debug)]
struct Current {
    revision: u64,
    proxies: u32,
    /// With the document, and without it for those who have it.
    whole: bytes::Bytes,
    brief: bytes::Bytes,
    document: Arc<str>,
}

/// A snapshot in the store.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    /// Up to which change it has what was published.
    change: i64,
    /// Its exact text.
    document: String,
}

impl Snapshots {
    /// Snapshots of what is published in this store, signed with these keys.
    pub fn new(store: Store, keys: Keys, checks: Arc<EventChecks>) -> Snapshots {
        Snapshots {
            store,
            keys,
            checks,
            current: watch::Sender::new(None),
            fleet: Fleet::default(),
            looked: Mutex::default(),
            look: Notify::new(),
            room: Arc::new(Semaphore::new(WAITING_MAX)),
            stopping: CancellationToken::new(),
        }
    }

    /// The keys that snapshots are signed with; proxies must know one of them.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Looks at once whether something was published: something was.
    pub fn look_now(&self) {
        self.look.notify_one();
    }

    /// Makes snapshots until it is told to stop; whoever waits then is answered.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut built_from = None;
        let mut is_failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.look.notified() => {}
                () = self.fleet.changed() => {}
                _ = tick.tick() => {}
            }
            match self.go_on(&mut built_from).await {
                Ok(()) if is_failing => {
                    info!("snapshots for the proxies are made again");
                    is_failing = false;
                }
                Ok(()) => {}
                // The next look may find the store again; proxies have what they have.
                Err(error) if !is_failing => {
                    warn!(%error, "no snapshot for the proxies can be made, they keep the one they have");
                    is_failing = true;
                }
                Err(_) => {}
            }
        }
        self.stopping.cancel();
    }

    async fn go_on(&self, built_from: &mut Option<i64>) -> Result<(), StoreError> {
        let proxies = self.fleet.count(&self.store).await?;
        self.promote_waiting().await?;
        let change = self.store.last_change().await?;
        let known = self.current.borrow().clone();
        if *built_from != Some(change) || known.is_none() {
            let (revision, document, change) = self.newest().await?;
            *built_from = Some(change);
            let is_news = known.as_ref().is_none_or(|known| known.revision != revision || known.proxies != proxies);
            if is_news {
                self.put_out(revision, proxies, document.into());
            }
        } else if let Some(known) = known
            && known.proxies != proxies
        {
            self.put_out(known.revision, proxies, Arc::clone(&known.document));
        }
        Ok(())
    }

    /// The newest snapshot; the next one, if something was published since it was made.
    async fn newest(&self) -> Result<(u64, String, i64), StoreError> {
        let mut tx = self.store.begin().await?;
        let change = tx.last_change().await?;
        let newest = tx.snapshot::<Row>().await?;
        if let Some((revision, row)) = &newest
            && row.change == change
        {
            return Ok((*revision as u64, row.document.clone(), change));
        }
        let document = build::document(&tx.published().await?, &tx.sender_keys().await?, &tx.brakes::<Brake>().await?);
        let document = serde_json::to_string(&document).expect("documents have string keys and finite numbers");
        if let Some((revision, row)) = newest
            && row.document == document
        {
            return Ok((revision as u64, document, change));
        }
        let at_least = tx.now_ms();
        let row = Row { change, document };
        let revision = tx.put_snapshot(&row, at_least).await?;
        tx.commit().await?;
        info!(revision, "there is a new snapshot for the proxies");
        Ok((revision as u64, row.document, change))
    }

    fn put_out(&self, revision: u64, proxies: u32, document: Arc<str>) {
        let statement = Statement { format: ROUTES_FORMAT, revision, sha256: digest(&document), proxies };
        let mut signed = Signed::new(&statement, self.keys.all(), None);
        let bytes = |signed: &Signed| -> bytes::Bytes {
            serde_json::to_vec(signed).expect("numbers and texts are JSON").into()
        };
        let brief = bytes(&signed);
        signed.document = Some(document.to_string());
        let whole = bytes(&signed);
        self.current.send_replace(Some(Arc::new(Current { revision, proxies, whole, brief, document })));
    }
}
