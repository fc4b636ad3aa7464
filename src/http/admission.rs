//! The budget of bytes in flight: bodies, what decompresses them, and replies until they are written, over all requests of
//! the listener.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use super::refusal::Refusal;
use crate::telemetry::meters::HttpMeters;

/// A reply up to this long is not counted once it is made: its connection takes more than that anyway.
const REPLY_BYTES_UNCOUNTED: usize = 1024;

/// Bytes that all requests together may hold. The meter of bytes in flight is the count itself.
#[derive(Debug)]
pub(super) struct Budget {
    bytes_max: u64,
    meters: Arc<HttpMeters>,
}

impl Budget {
    pub(super) fn new(bytes_max: usize, meters: Arc<HttpMeters>) -> Self {
        meters.in_flight_bytes_max.store(bytes_max as u64, Relaxed);
        Budget { bytes_max: bytes_max as u64, meters }
    }

    /// A share of nothing yet.
    pub(super) fn hold(&self) -> Hold<'_> {
        Hold { budget: self, bytes: 0 }
    }
}

/// A request's share of the budget. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Hold<'b> {
    budget: &'b Budget,
    bytes: u64,
}

impl Hold<'_> {
    /// Adds to the share, or refuses the request. It is answered at once rather than made to wait: waiting would keep the
    /// memory that ran out.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let (bytes, held) = (bytes as u64, &self.budget.meters.in_flight_bytes);
        if held.fetch_add(bytes, Relaxed).saturating_add(bytes) > self.budget.bytes_max {
            held.fetch_sub(bytes, Relaxed);
            return Err(Refusal::overloaded());
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Makes the share what is held now. Never refused: events that were taken cannot be taken back, so room for what is
    /// said of them is made before.
    pub(super) fn set(&mut self, bytes: usize) {
        let (bytes, held) = (bytes as u64, &self.budget.meters.in_flight_bytes);
        match bytes.checked_sub(self.bytes) {
            Some(more) => held.fetch_add(more, Relaxed),
            None => held.fetch_sub(self.bytes - bytes, Relaxed),
        };
        self.bytes = bytes;
    }

    /// The bytes of a reply, counted until the connection has written them, or is closed.
    pub(super) fn keep(mut self, reply: Vec<u8>) -> Bytes {
        if reply.len() <= REPLY_BYTES_UNCOUNTED {
            return reply.into();
        }
        self.set(reply.capacity());
        let held = Counted { reply, bytes: self.bytes, meters: Arc::clone(&self.budget.meters) };
        self.bytes = 0;
        Bytes::from_owner(held)
    }
}

/// A reply with its share of the budget.
struct Counted {
    reply: Vec<u8>,
    bytes: u64,
    meters: Arc<HttpMeters>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.reply
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.meters.in_flight_bytes.fetch_sub(self.bytes, Relaxed);
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        // The count is shared by all threads: nothing to give back is not worth a write to it.
        if self.bytes == 0 {
            return;
        }
        self.budget.meters.in_flight_bytes.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Code;

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_done_is_given_back() {
        let budget = Budget::new(100, Arc::default());
        let mut first = budget.hold();
        first.grow(60).unwrap();
        let mut second = budget.hold();
        assert_eq!(second.grow(41).unwrap_err().code(), Code::Overloaded);
        second.grow(40).unwrap();
        assert_eq!(first.grow(1).unwrap_err().code(), Code::Overloaded);
        drop(first);
        second.grow(60).unwrap();
        drop(second);
        assert_eq!(budget.meters.in_flight_bytes.load(Relaxed), 0);
    }

    #[test]
    fn a_reply_is_counted_until_its_last_piece_is_gone() {
        let check = |length: usize, counted: usize| {
            let budget = Budget::new(100_000, Arc::default());
            let held = || budget.meters.in_flight_bytes.load(Relaxed) as usize;
            let mut hold = budget.hold();
            hold.grow(50_000).unwrap();
            hold.set(60_000);
            hold.set(10_000);
            assert_eq!(held(), 10_000);
            let mut reply = hold.keep(vec![0; length]);
            let piece = reply.split_to(length / 2);
            drop(reply);
            assert_eq!(held(), counted, "{length} bytes");
            drop(piece);
            assert_eq!(held(), 0);
        };
        check(1_024, 0);
        check(1_025, 1_025);
        check(200_000, 200_000);
    }
}
