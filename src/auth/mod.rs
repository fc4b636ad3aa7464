//! Who is asking: senders by API key, and their limits.
//!
//! In: the key of a request. Out: the sender it belongs to, and whether an event may pass. Never: keeps a key in
//! clear, compares one in a time that depends on it, or names one in a message.

pub mod keys;
mod limiter;
mod senders;

pub use limiter::Limiter;
pub use senders::{Sender, Senders};
