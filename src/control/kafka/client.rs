//! Which broker a request goes to, the connections that are kept, and what is tried again.
//!
//! In: a request, and whether it is a question or a change. Out: what a broker answered. Never: sends a change a second time,
//! unless the first did not reach a broker or the broker said that it did not make it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::messages::MetadataResponse;
use kafka_protocol::protocol::Request;
use rustls::pki_types::pem;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::connection::{Address, CallError, Connection, Security};
use super::error::AdminError;
use super::login::{Login, Mechanism};
use super::tls;
use super::{Each, Refusal};
use crate::config::{ClientTls, Sasl};

/// Connections in use at a time; further calls wait for one, within their time.
const CONNECTIONS_MAX: usize = 8;
/// Connections kept for each broker between calls.
const IDLE_PER_BROKER: usize = 2;
/// First pause before a question is asked again; it doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How a cluster is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `host:port` of some of its brokers; the others are learnt from these.
    pub brokers: Vec<String>,
    /// TLS to the brokers; none is plain text.
    pub tls: Option<ClientTls>,
    /// Login; none is anonymous.
    pub sasl: Option<Sasl>,
    /// How long is waited.
    pub timeouts: Timeouts,
}

/// How long is waited for brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For one connection: TCP, TLS, versions and login.
    pub connect: Duration,
    /// For one answer to a question, after which another broker is asked.
    pub answer: Duration,
    /// For a whole call, with everything that is tried again in it. A change waits so long for its answer.
    pub call: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { connect: Duration::from_secs(5), answer: Duration::from_secs(10), call: Duration::from_secs(30) }
    }
}

/// Settings that no client can be made of.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No broker is named.
    #[error("no broker is named; give `host:port` of at least one")]
    NoBrokers,
    /// A broker is not `host:port`.
    #[error("broker `{0}` is not `host:port`")]
    Broker(String),
    /// A file of TLS is not readable or holds nothing of use.
    #[error("`{}` cannot be used", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// Certificates and key are of no use together, or the system has no authorities.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// A mechanism that this client does not speak.
    #[error("SASL mechanism `{0}` is not supported for administration; use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")]
    Mechanism(String),
}

/// A [`KafkaAdmin`](super::KafkaAdmin) over the wire. Connects when it is asked something, and has no task of its own.
pub struct KafkaClient {
    bootstrap: Vec<Address>,
    security: Security,
    pub(super) timeouts: Timeouts,
    connections: Semaphore,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// By id, as the cluster last said.
    brokers: BTreeMap<i32, Address>,
    idle: HashMap<Address, Vec<Connection>>,
    /// Which of the addresses is asked first; moves on when one fails.
    turn: usize,
}

/// Who is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum To {
    /// Any broker: each has the metadata, and passes changes on to the controller.
    Any,
    /// This one, which alone knows or does it.
    Broker(i32),
}

impl KafkaClient {
    /// Checks the settings and reads the files of TLS. Does not connect.
    pub fn new(settings: Settings) -> Result<KafkaClient, SetupError> {
        let bootstrap = settings.brokers.iter().map(|broker| address(broker)).collect::<Result<Vec<_>, _>>()?;
        if bootstrap.is_empty() {
            return Err(SetupError::NoBrokers);
        }
        let login = match settings.sasl {
            None => None,
            Some(Sasl::Password { mechanism, username, password }) => {
                let mechanism = Mechanism::named(&mechanism).ok_or(SetupError::Mechanism(mechanism))?;
                Some(Login { mechanism, username, password })
            }
            Some(Sasl::OAuth { .. }) => return Err(SetupError::Mechanism("OAUTHBEARER".to_owned())),
        };
        let tls = settings.tls.as_ref().map(tls::encryption).transpose()?;
        Ok(KafkaClient {
            bootstrap,
            security: Security { tls, login },
            timeouts: settings.timeouts,
            connections: Semaphore::new(CONNECTIONS_MAX),
            known: Mutex::default(),
        })
    }

    /// Asks a question, of other brokers and again, until there is an answer that is not "not now", or the time is over.
    pub(super) async fn read<Q: Request, T>(
        &self,
        to: To,
        request: &Q,
        take: impl Fn(Q::Response) -> Result<T, AdminError>,
    ) -> Result<T, AdminError> {
        let deadline = Instant::now() + self.timeouts.call;
        let (mut pause, mut earlier) = (PAUSE_FIRST, None);
        loop {
            let answer_until = deadline.min(Instant::now() + self.timeouts.answer);
            let error = match self.send(to, request, answer_until).await {
                Ok(response) => match take(response) {
                    Err(error) => error,
                    answer => return answer,
                },
                Err(CallError::NotSent(error)) => error,
                Err(CallError::Unanswered(reason)) => AdminError::Timeout { reason },
            };
            let error = error.or_earlier(earlier);
            if !error.is_transient() || !wait_before(deadline, &mut pause).await {
                return Err(error.of_read());
            }
            earlier = Some(error);
        }
    }

    /// Asks a question once, of the first broker that can be sent to.
    pub(super) async fn read_once<Q: Request, T>(
        &self,
        to: To,
        request: &Q,
        take: impl Fn(Q::Response) -> Result<T, AdminError>,
    ) -> Result<T, AdminError> {
        match self.send(to, request, Instant::now() + self.timeouts.answer).await {
            Ok(response) => take(response),
            Err(CallError::NotSent(error)) => Err(error),
            Err(CallError::Unanswered(reason)) => Err(AdminError::Timeout { reason }),
        }
        .map_err(AdminError::of_read)
    }

    /// Makes a change: one result per item. It is sent again only when it reached no broker, or was refused because the
    /// controller is moving; everything else is the caller's to observe.
    pub(super) async fn write<Q: Request, T>(
        &self,
        to: To,
        request: &Q,
        take: impl Fn(Q::Response) -> Each<T>,
    ) -> Result<Each<T>, AdminError> {
        let deadline = Instant::now() + self.timeouts.call;
        let (mut pause, mut earlier) = (PAUSE_FIRST, None);
        loop {
            match self.send(to, request, deadline).await {
                Ok(response) => {
                    let items = take(response);
                    if !items.iter().all(is_refused_by_a_moving_controller) || !wait_before(deadline, &mut pause).await
                    {
                        return Ok(items);
                    }
                }
                Err(CallError::Unanswered(reason)) => return Err(AdminError::Unknown { reason }),
                Err(CallError::NotSent(error)) => {
                    let error = error.or_earlier(earlier);
                    if !error.is_transient() || !wait_before(deadline, &mut pause).await {
                        return Err(error);
                    }
                    earlier = Some(error);
                }
            }
        }
    }

    /// What the broker is told to wait at most, so that its answer comes before we give up.
    pub(super) fn broker_timeout_ms(&self) -> i32 {
        i32::try_from(self.timeouts.call.as_millis() * 2 / 3).unwrap_or(i32::MAX)
    }

    /// One request and its answer, from the first of the possible brokers that it can be sent to. No broker gets it twice,
    /// except on a fresh connection after a kept one turned out to be closed.
    async fn send<Q: Request>(&self, to: To, request: &Q, until: Instant) -> Result<Q::Response, CallError> {
        let permit = tokio::time::timeout_at(until, self.connections.acquire()).await;
        let busy = || AdminError::Unreachable {
            broker: "the cluster".to_owned(),
            reason: format!("all {CONNECTIONS_MAX} connections are in use"),
        };
        let _permit = permit.map_err(|_| CallError::NotSent(busy()))?.expect("the semaphore is never closed");

        let mut last_error = None;
        for address in self.addresses(to).map_err(CallError::NotSent)? {
            match self.send_to(&address, request, until).await {
                Err(CallError::NotSent(error)) if error.is_transient() => {
                    self.known().turn += 1;
                    last_error = Some(error);
                    // It took all the time that there was. The others get theirs at the next try, which begins with the next one.
                    if Instant::now() >= until {
                        break;
                    }
                }
                Err(error @ CallError::Unanswered(_)) => {
                    self.known().turn += 1;
                    return Err(error);
                }
                answered => return answered,
            }
        }
        Err(CallError::NotSent(last_error.expect("there is at least one address")))
    }

    async fn send_to<Q: Request>(
        &self,
        address: &Address,
        request: &Q,
        until: Instant,
    ) -> Result<Q::Response, CallError> {
        while let Some(mut connection) = self.take_idle(address) {
            if connection.is_usable().await {
                match connection.call(request, until).await {
                    Err(CallError::NotSent(error)) if error.is_transient() => continue,
                    answer => return self.keep_after(address, connection, answer),
                }
            }
        }
        let connect_until = until.min(Instant::now() + self.timeouts.connect);
        let opened = Connection::open(address, &self.security, connect_until).await;
        let mut connection = opened.map_err(CallError::NotSent)?;
        let answer = connection.call(request, until).await;
        self.keep_after(address, connection, answer)
    }

    /// Keeps a connection that has nothing outstanding; any other is closed, so that no answer is taken for another's.
    fn keep_after<T>(
        &self,
        address: &Address,
        connection: Connection,
        answer: Result<T, CallError>,
    ) -> Result<T, CallError> {
        if answer.is_ok() {
            let mut known = self.known();
            let idle = known.idle.entry(address.clone()).or_default();
            if idle.len() < IDLE_PER_BROKER {
                idle.push(connection);
            }
        }
        answer
    }

    fn take_idle(&self, address: &Address) -> Option<Connection> {
        self.known().idle.get_mut(address)?.pop()
    }

    /// The addresses to try, in order; at least one.
    fn addresses(&self, to: To) -> Result<Vec<Address>, AdminError> {
        let known = self.known();
        match to {
            To::Broker(id) => match known.brokers.get(&id) {
                Some(address) => Ok(vec![address.clone()]),
                None => Err(AdminError::NotFound(Refusal::new(
                    kafka_protocol::ResponseError::BrokerIdNotRegistered,
                    format!("broker {id} is not up"),
                ))),
            },
            To::Any => {
                let mut seen = HashSet::new();
                let all = known.brokers.values().chain(&self.bootstrap).filter(|address| seen.insert(*address));
                let mut all: Vec<Address> = all.cloned().collect();
                let first = known.turn % all.len();
                all.rotate_left(first);
                Ok(all)
            }
        }
    }

    /// Whether this broker's address is known.
    pub(super) fn knows(&self, broker: i32) -> bool {
        self.known().brokers.contains_key(&broker)
    }

    /// Remembers where brokers listen, and closes what was kept to those that are gone.
    pub(super) fn learn(&self, metadata: &MetadataResponse) {
        let learnt = metadata.brokers.iter().filter_map(|broker| {
            let port = u16::try_from(broker.port).ok()?;
            Some((broker.node_id.0, Address { host: broker.host.to_string(), port }))
        });
        let brokers: BTreeMap<i32, Address> = learnt.collect();
        if !brokers.is_empty() {
            let mut known = self.known();
            known.idle.retain(|address, _| self.bootstrap.contains(address) || brokers.values().any(|b| b == address));
            known.brokers = brokers;
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for KafkaClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaClient").field("bootstrap", &self.bootstrap).finish_non_exhaustive()
    }
}

/// `NOT_CONTROLLER`: the broker passed the change on to a controller that was no longer one, and it was not made.
fn is_refused_by_a_moving_controller<T>(item: &Result<T, AdminError>) -> bool {
    let code = item.as_ref().err().and_then(AdminError::refusal).map(|refusal| refusal.code);
    code == Some(kafka_protocol::ResponseError::NotController.code())
}

/// Pauses before another try; false when there is no time for one.
pub(super) async fn wait_before(deadline: Instant, pause: &mut Duration) -> bool {
    if Instant::now() + *pause >= deadline {
        return false;
    }
    sleep(*pause).await;
    *pause = (*pause * 2).min(PAUSE_MAX);
    true
}

/// The pause that [`wait_before`] begins with.
pub(super) const fn first_pause() -> Duration {
    PAUSE_FIRST
}

fn address(broker: &str) -> Result<Address, SetupError> {
    let refuse = || SetupError::Broker(broker.to_owned());
    let (host, port) = broker.rsplit_once(':').ok_or_else(refuse)?;
    // An IPv6 address stands in brackets.
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port > 0 && !host.is_empty()).ok_or_else(refuse)?;
    Ok(Address { host: host.to_owned(), port })
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
