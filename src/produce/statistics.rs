//! What librdkafka says of a client every ten seconds, as far as it is of interest.
//!
//! In: its statistics, JSON as its STATISTICS.md describes it. Out: a few numbers of the whole client. Never: a tree of it; the text
//! is as long as there are partitions, so that it is searched and not parsed. A name with a quote in it cannot be taken for one of
//! ours, since it is escaped; one that is the same has no number behind it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use memchr::memmem;

use crate::telemetry::sources;

/// The numbers as they were said last.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    requests: AtomicU64,
    batches: AtomicU64,
    sent_bytes: AtomicU64,
    broker_ack_us: AtomicU64,
}

impl Statistics {
    /// Takes the next ones.
    pub(super) fn take(&self, text: &[u8]) {
        // The numbers of a broker that is gone are left out from then on; a counter does not fall.
        self.requests.fetch_max(numbers(text, b"\"Produce\":").sum(), Relaxed);
        self.sent_bytes.fetch_max(numbers(text, b"\"tx_bytes\":").next().unwrap_or(0), Relaxed);
        // One window a topic, of the time since the last ones.
        self.batches
            .fetch_add(windows(text, b"\"batchcnt\":").map(|window| in_window(window, b"\"cnt\":")).sum(), Relaxed);
        let slowest = windows(text, b"\"rtt\":").map(|window| in_window(window, b"\"p99\":")).max();
        self.broker_ack_us.store(slowest.unwrap_or(0), Relaxed);
    }

    /// The numbers as they stand.
    pub(super) fn read(&self) -> sources::Statistics {
        sources::Statistics {
            requests: self.requests.load(Relaxed),
            batches: self.batches.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            broker_ack: Duration::from_micros(self.broker_ack_us.load(Relaxed)),
        }
    }
}

/// The number behind each place where this stands; 0 where there is none.
fn numbers<'t>(text: &'t [u8], name: &'static [u8]) -> impl Iterator<Item = u64> + 't {
    memmem::find_iter(text, name).map(move |at| number(&text[at + name.len()..]))
}

fn number(text: &[u8]) -> u64 {
    let digits = text.iter().skip_while(|byte| **byte == b' ').take_while(|byte| byte.is_ascii_digit());
    digits.fold(0u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}

/// The objects with this name, which have no objects in them.
fn windows<'t>(text: &'t [u8], name: &'static [u8]) -> impl Iterator<Item = &'t [u8]> + 't {
    memmem::find_iter(text, name).filter_map(move |at| {
        let rest = text[at + name.len()..].trim_ascii_start().strip_prefix(b"{")?;
        Some(&rest[..memchr::memchr(b'}', rest)?])
    })
}

fn in_window(window: &[u8], name: &'static [u8]) -> u64 {
    numbers(window, name).next().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&[u8]]) -> sources::Statistics {
        let statistics = Statistics::default();
        texts.iter().for_each(|text| statistics.take(text));
        statistics.read()
    }

    #[test]
    fn numbers_are_of_all_brokers_and_topics_and_nothing_else_counts() {
        let text = br#"{ "name": "rdkafka#producer-1", "tx": 9, "tx_bytes":4096, "txmsgs":7,
            "brokers":{ "a":{ "rtt": { "min":1, "max":9000, "p99": 8000, "cnt":3 }, "req": { "Fetch":7, "Produce": 12 } },
            "b":{ "rtt": { "p99":2500 }, "txbytes":17, "req": { "Produce":30 } } },
            "topics":{ "Produce":{ "topic":"Produce", "batchcnt": { "avg":10, "cnt":4 }, "batchsize": { "cnt":4 } },
            "rtt":{ "topic":"rtt", "batchcnt": { "cnt":5 } } } }"#;
        let broker_ack = Duration::from_micros(8_000);
        assert_eq!(read(&[text]), sources::Statistics { requests: 42, batches: 9, sent_bytes: 4096, broker_ack });
        for odd in [&b""[..], b"\"Produce\":", b"\"Produce\":x", b"Produce:9", b"\"rtt\":", b"\"rtt\":{\"p99\":1"] {
            assert_eq!(read(&[odd]), sources::Statistics::default(), "{}", String::from_utf8_lossy(odd));
        }
    }

    #[test]
    fn counters_never_fall_and_windows_are_summed() {
        let text: &[&[u8]] = &[
            br#"{"tx_bytes":50,"brokers":{"a":{"rtt":{"p99":7},"req":{"Produce":5}}},"topics":{"t":{"batchcnt":{"cnt":3}}}}"#,
            br#"{"tx_bytes":60,"brokers":{},"topics":{"t":{"batchcnt":{"cnt":2}}}}"#,
        ];
        assert_eq!(
            read(text),
            sources::Statistics { requests: 5, batches: 5, sent_bytes: 60, broker_ack: Duration::ZERO }
        );
    }
}
