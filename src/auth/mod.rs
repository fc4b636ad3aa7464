//! Who is asking: senders by API key, and their limits; people and programs by a token of their identity provider.
//!
//! In: the key or token of a request. Out: whom it belongs to, and whether an event may pass. Never: keeps a key in
//! clear, compares one in a time that depends on it, or names one in a message.

pub mod keys;
mod limiter;
mod senders;
pub mod oidc;

pub use limiter::Limiter;
pub use senders::{Sender, Senders};
