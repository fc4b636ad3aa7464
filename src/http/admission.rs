//! The budget of bytes in flight: bodies, and what decompresses them, over all requests of the listener.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::refusal::Refusal;
use crate::telemetry::meters::HttpMeters;

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
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
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
}
