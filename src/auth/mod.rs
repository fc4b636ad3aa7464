//! Who is asking: senders by API key, and their limits.
//!
//! In: the key of a request. Out: the sender it belongs to, and whether an event may pass. Never: keeps a key in
//! clear, compares one in a time that depends on it, or names one in a message.

use std::sync::Arc;

use crate::config;

/// The senders of a snapshot.
#[derive(Debug, Default)]
pub struct Senders {}

/// A sender that a request was made by.
#[derive(Debug)]
pub struct Sender {
    /// Its name.
    pub name: String,
}

/// Tokens per second for events and bytes; shared by all threads, kept when a snapshot is replaced.
#[derive(Debug)]
pub struct Limiter {}

impl Senders {
    /// Builds the table.
    pub fn new(_senders: &[config::Sender]) -> Self {
        todo!()
    }

    /// Whether no sender exists, so that everybody may send everything.
    pub fn is_open(&self) -> bool {
        todo!()
    }

    /// The sender with this API key.
    pub fn find(&self, _key: &str) -> Option<&Arc<Sender>> {
        todo!()
    }
}

impl Sender {
    /// Whether it may send this event.
    pub fn may_send(&self, _event: &str) -> bool {
        todo!()
    }
    /// Its limits.
    pub fn limiter(&self) -> &Limiter {
        todo!()
    }
}

impl Limiter {
    /// From the limits; no limits let everything pass.
    pub fn new(_limits: &crate::route::Limits) -> Self {
        todo!()
    }

    /// Takes one event of so many bytes, or says how many milliseconds to wait. `now_ms` is any steady clock.
    pub fn take(&self, _bytes: usize, _now_ms: u64) -> Result<(), u64> {
        todo!()
    }
}
