//! What a client's connection to its cluster suffers from.
//!
//! In: librdkafka's error callback, and every success. Out: the last error for `/ready`, and counts by kind. Never: a
//! secret; librdkafka's reasons name brokers and states, not credentials.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Kafka;

/// What kind of trouble a client has. Ordered: the first is the one to tell people about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ErrorKind {
    /// The client is beyond repair and must be replaced.
    Fatal,
    /// The brokers refuse our credentials.
    Authentication,
    /// TLS cannot be set up.
    Tls,
    /// A broker cannot be reached, or closed the connection.
    Transport,
    /// No broker is connected.
    AllBrokersDown,
    /// Anything else.
    Other,
}

impl ErrorKind {
    /// Every kind, the one to tell people about first.
    pub const ALL: [ErrorKind; 6] = [
        ErrorKind::Fatal,
        ErrorKind::Authentication,
        ErrorKind::Tls,
        ErrorKind::Transport,
        ErrorKind::AllBrokersDown,
        ErrorKind::Other,
    ];

    /// The label in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Fatal => "fatal",
            ErrorKind::Authentication => "authentication",
            ErrorKind::Tls => "tls",
            ErrorKind::Transport => "transport",
            ErrorKind::AllBrokersDown => "all_brokers_down",
            ErrorKind::Other => "other",
        }
    }

    /// Whether no broker at all is of use while it lasts.
    const fn cuts_off(self) -> bool {
        matches!(self, ErrorKind::Authentication | ErrorKind::Tls | ErrorKind::AllBrokersDown)
    }

    pub(super) fn of(code: Option<Kafka>) -> Self {
        match code {
            Some(Kafka::Fatal) => ErrorKind::Fatal,
            Some(
                Kafka::Authentication
                | Kafka::SaslAuthenticationFailed
                | Kafka::UnsupportedSASLMechanism
                | Kafka::IllegalSASLState,
            ) => ErrorKind::Authentication,
            Some(Kafka::SSL) => ErrorKind::Tls,
            Some(
                Kafka::BrokerTransportFailure
                | Kafka::Resolve
                | Kafka::OperationTimedOut
                | Kafka::TimedOutQueue
                | Kafka::NetworkException,
            ) => ErrorKind::Transport,
            Some(Kafka::AllBrokersDown) => ErrorKind::AllBrokersDown,
            _ => ErrorKind::Other,
        }
    }
}

/// An error that the client has not recovered from, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientError {
    /// Its kind.
    pub kind: ErrorKind,
    /// librdkafka's words.
    pub reason: String,
    /// How long ago it was last reported.
    pub age: Duration,
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.reason)
    }
}

/// How often an error of the same kind is logged as a warning.
const WARN_EVERY_MS: u32 = 30_000;
/// rdkafka calls back twice for each error of a producer, one right after the other.
const TWIN_MS: u32 = 20;

#[derive(Debug)]
struct Seen {
    reason: String,
    at_ms: u32,
    warned_ms: u32,
}

impl Seen {
    fn told(&self, kind: ErrorKind, now_ms: u32) -> ClientError {
        let age = Duration::from_millis(u64::from(now_ms.wrapping_sub(self.at_ms)));
        ClientError { kind, reason: self.reason.clone(), age }
    }
}

/// The errors since the last success, one a kind, and the counts of all.
#[derive(Debug, Default)]
pub(super) struct Health {
    troubled: AtomicBool,
    seen: Mutex<[Option<Seen>; ErrorKind::ALL.len()]>,
    counts: [AtomicU64; ErrorKind::ALL.len()],
}

impl Health {
    /// Takes an error in; says whether it is worth a warning.
    pub(super) fn failed(&self, kind: ErrorKind, reason: &str, now_ms: u32) -> bool {
        let mut seen = self.lock();
        let before = seen[kind as usize].take();
        let is_twin = before.as_ref().is_some_and(|b| b.reason == reason && now_ms.wrapping_sub(b.at_ms) < TWIN_MS);
        if !is_twin {
            self.counts[kind as usize].fetch_add(1, Relaxed);
        }
        let warned_ms = before.map(|b| b.warned_ms).filter(|at| now_ms.wrapping_sub(*at) < WARN_EVERY_MS);
        let reason = reason.to_owned();
        seen[kind as usize] = Some(Seen { reason, at_ms: now_ms, warned_ms: warned_ms.unwrap_or(now_ms) });
        self.troubled.store(true, Relaxed);
        warned_ms.is_none()
    }

    /// Something went through: what was wrong is over. A fatal error never is.
    pub(super) fn worked(&self) {
        if self.troubled.load(Relaxed) {
            let mut seen = self.lock();
            seen.iter_mut().skip(1).for_each(|seen| *seen = None);
            self.troubled.store(seen[ErrorKind::Fatal as usize].is_some(), Relaxed);
        }
    }

    /// The error to tell people about, if nothing has gone through since.
    pub(super) fn last(&self, now_ms: u32) -> Option<ClientError> {
        if !self.troubled.load(Relaxed) {
            return None;
        }
        let seen = self.lock();
        ErrorKind::ALL.into_iter().zip(seen.iter()).find_map(|(kind, seen)| Some(seen.as_ref()?.told(kind, now_ms)))
    }

    /// The error that says that no broker can be reached or that they refuse our login, if nothing has gone through since.
    pub(super) fn cut_off(&self, now_ms: u32) -> Option<ClientError> {
        if !self.troubled.load(Relaxed) {
            return None;
        }
        let seen = self.lock();
        ErrorKind::ALL.into_iter().zip(seen.iter()).find_map(|(kind, seen)| {
            let seen = seen.as_ref().filter(|_| kind.cuts_off())?;
            Some(seen.told(kind, now_ms))
        })
    }

    /// Errors reported so far, by kind.
    pub(super) fn counts(&self) -> impl Iterator<Item = (ErrorKind, u64)> + '_ {
        ErrorKind::ALL.into_iter().zip(self.counts.iter().map(|n| n.load(Relaxed)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, [Option<Seen>; ErrorKind::ALL.len()]> {
        self.seen.lock().expect("no code panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_told_rather_than_its_consequence() {
        let health = Health::default();
        health.failed(ErrorKind::AllBrokersDown, "1/1 brokers are down", 10);
        health.failed(ErrorKind::Authentication, "wrong password", 11);
        let age = Duration::from_millis(9);
        let told = ClientError { kind: ErrorKind::Authentication, reason: "wrong password".to_owned(), age };
        assert_eq!(health.last(20), Some(told));
    }

    #[test]
    fn a_success_ends_every_trouble_but_a_fatal_one() {
        let health = Health::default();
        assert_eq!(health.last(1), None);
        health.failed(ErrorKind::Transport, "refused", 1);
        health.worked();
        assert_eq!(health.last(2), None);
        health.failed(ErrorKind::Fatal, "fenced", 3);
        health.worked();
        assert_eq!(health.last(4).map(|error| error.kind), Some(ErrorKind::Fatal));
    }

    #[test]
    fn a_cluster_is_cut_off_when_no_broker_is_of_use_and_not_for_one_of_them() {
        let health = Health::default();
        health.failed(ErrorKind::Transport, "refused", 1);
        health.failed(ErrorKind::Other, "odd", 1);
        assert_eq!(health.cut_off(2), None);
        health.failed(ErrorKind::AllBrokersDown, "2/2 brokers are down", 3);
        assert_eq!(health.cut_off(4).map(|error| error.kind), Some(ErrorKind::AllBrokersDown));
        health.worked();
        assert_eq!(health.cut_off(5), None);
    }

    #[test]
    fn an_error_that_is_called_back_twice_counts_once_and_warns_once_in_half_a_minute() {
        let health = Health::default();
        let warned = [0, 0, 100, 29_900, 30_000].map(|now_ms| health.failed(ErrorKind::Transport, "refused", now_ms));
        assert_eq!(warned, [true, false, false, false, true]);
        assert_eq!(health.counts().find(|(kind, _)| *kind == ErrorKind::Transport), Some((ErrorKind::Transport, 4)));
    }
}
