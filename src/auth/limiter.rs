//! Limits by the second: a token bucket for events and one for bytes, without a lock.
//!
//! Each bucket is one number (GCRA, the generic cell rate algorithm of ITU-T I.371): the moment at which it will be full
//! again. It holds one second's worth.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::route::Limits;

const SECOND_NS: u64 = 1_000_000_000;

/// Tokens per second for events and bytes; shared by all threads, kept when a snapshot is replaced.
#[derive(Debug)]
pub struct Limiter {
    events: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl Limiter {
    /// From the limits; no limits let everything pass.
    pub fn new(limits: &Limits) -> Self {
        let bucket = |rate: Option<u64>| rate.map(Bucket::new);
        Limiter { events: bucket(limits.events_per_second), bytes: bucket(limits.bytes_per_second) }
    }

    /// Takes one event of so many bytes, or takes nothing and says how many milliseconds to wait. `now_ms` is any steady clock.
    pub fn take(&self, bytes: usize, now_ms: u64) -> Result<(), u64> {
        let now_ns = now_ms.saturating_mul(1_000_000);
        if let Some(events) = &self.events {
            events.take(1, now_ns)?;
        }
        let Some(room) = &self.bytes else { return Ok(()) };
        room.take(bytes as u64, now_ns).inspect_err(|_| {
            if let Some(events) = &self.events {
                events.give_back(1);
            }
        })
    }

    /// Undoes a [`Limiter::take`] that has just succeeded, for an event that another limit then refused.
    pub fn give_back(&self, bytes: usize) {
        if let Some(events) = &self.events {
            events.give_back(1);
        }
        if let Some(room) = &self.bytes {
            room.give_back(bytes as u64);
        }
    }
}

#[derive(Debug)]
struct Bucket {
    /// Tokens a second; at least one.
    rate: u64,
    /// When the bucket will be full again, nanoseconds on the caller's clock.
    full_at_ns: AtomicU64,
}

impl Bucket {
    fn new(rate: u64) -> Self {
        Bucket { rate: rate.max(1), full_at_ns: AtomicU64::new(0) }
    }

    fn cost_ns(&self, tokens: u64) -> u64 {
        let cost_ns = u128::from(tokens) * u128::from(SECOND_NS) / u128::from(self.rate);
        cost_ns.try_into().unwrap_or(u64::MAX)
    }

    /// Takes the tokens, or says how many milliseconds to wait for them. What costs more than a full bucket passes when the
    /// bucket is full, and leaves a debt: it could never pass otherwise.
    fn take(&self, tokens: u64, now_ns: u64) -> Result<(), u64> {
        let cost_ns = self.cost_ns(tokens);
        let affordable_ns = now_ns.saturating_add(SECOND_NS.saturating_sub(cost_ns));
        let mut full_at_ns = self.full_at_ns.load(Relaxed);
        loop {
            if full_at_ns > affordable_ns {
                return Err((full_at_ns - affordable_ns).div_ceil(1_000_000));
            }
            let then_full_at_ns = full_at_ns.max(now_ns).saturating_add(cost_ns);
            match self.full_at_ns.compare_exchange_weak(full_at_ns, then_full_at_ns, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(current) => full_at_ns = current,
            }
        }
    }

    /// Undoes a [`Bucket::take`] that has just succeeded.
    fn give_back(&self, tokens: u64) {
        self.full_at_ns.fetch_sub(self.cost_ns(tokens), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(events: Option<u64>, bytes: Option<u64>) -> Limiter {
        Limiter::new(&Limits { events_per_second: events, bytes_per_second: bytes, event_bytes_max: None })
    }

    /// Takes events of `bytes` at `now_ms` until one is refused: how many passed, and the wait that the last was told.
    fn drain(limiter: &Limiter, bytes: usize, now_ms: u64) -> (u32, u64) {
        for passed in 0..1_000_000 {
            if let Err(wait_ms) = limiter.take(bytes, now_ms) {
                return (passed, wait_ms);
            }
        }
        panic!("nothing limits");
    }

    #[test]
    fn a_burst_of_one_second_passes_and_then_the_rate() {
        let limiter = limiter(Some(10), None);
        assert_eq!(drain(&limiter, 1, 5_000), (10, 100));
        assert_eq!(drain(&limiter, 1, 5_050), (0, 50));
        assert_eq!(drain(&limiter, 1, 5_100), (1, 100));
        assert_eq!(drain(&limiter, 1, 60_000), (10, 100), "a long pause saves up no more than a second");
    }

    #[test]
    fn the_wait_that_is_told_is_enough() {
        let limiter = limiter(Some(3), None);
        let mut now_ms = 1_000;
        for _ in 0..50 {
            let (_, wait_ms) = drain(&limiter, 0, now_ms);
            assert!(wait_ms > 0);
            now_ms += wait_ms;
            assert_eq!(limiter.take(0, now_ms), Ok(()));
        }
    }

    #[test]
    fn bytes_are_limited_beside_events_and_a_refusal_takes_nothing() {
        let limiter = limiter(Some(100), Some(1_000));
        assert_eq!(drain(&limiter, 400, 0), (2, 200));
        assert_eq!(drain(&limiter, 0, 0).0, 98, "the refused event took no token of the other bucket");
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let limiter = limiter(Some(10), Some(1_000));
        assert_eq!(drain(&limiter, 100, 7), (10, 100));
        limiter.give_back(100);
        assert_eq!(drain(&limiter, 100, 7), (1, 100), "one event and its bytes came back, and no more");
    }

    #[test]
    fn an_event_larger_than_a_second_passes_once_and_is_paid_off() {
        let limiter = limiter(None, Some(1_000));
        assert_eq!(limiter.take(3_000, 0), Ok(()));
        assert_eq!(limiter.take(1, 0), Err(2_001));
        assert_eq!(limiter.take(3_000, 2_999), Err(1));
        assert_eq!(limiter.take(3_000, 3_000), Ok(()));
    }

    #[test]
    fn no_limits_let_everything_pass_and_absurd_ones_do_not_overflow() {
        let open = limiter(None, None);
        assert!((0..1_000).all(|_| open.take(usize::MAX, 0).is_ok()));
        assert_eq!(limiter(Some(u64::MAX), Some(u64::MAX)).take(usize::MAX, u64::MAX), Ok(()));
        let slow = limiter(None, Some(1));
        assert_eq!(slow.take(usize::MAX, 0), Ok(()));
        assert!(slow.take(1, 0).is_err());
    }

    #[test]
    fn threads_that_take_at_once_get_no_more_than_there_is() {
        let limiter = limiter(Some(1_000), None);
        let passed: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| drain(&limiter, 1, 77).0)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 1_000);
    }
}
