//! Where a new password is put instead of being shown: a file, a vault.
//!
//! In: a password and whose it is. Out: it is there, and only there. Never: a place that the one who asks may choose freely (an
//! operator names the sinks, and each service has a folder of its own in them), a password in an error.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::config::{self, Secret};

mod file;
mod vault;

pub use file::FileSink;
pub use vault::VaultSink;

/// The sinks by name.
#[derive(Clone, Default)]
pub struct Sinks(Arc<BTreeMap<String, Box<dyn Sink>>>);

/// A password, and whose it is.
#[derive(Clone, Debug)]
pub struct Delivery<'d> {
    /// The service that owns the user.
    pub service: &'d str,
    /// The user's cluster.
    pub cluster: &'d str,
    /// The user.
    pub user: &'d str,
    /// Which of its passwords it is.
    pub generation: u32,
    /// How the user logs in.
    pub mechanism: &'d str,
    /// The password.
    pub password: &'d Secret,
}

/// Why a password was not put there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sink: {problem}")]
pub struct SinkError {
    /// What is wrong.
    pub problem: String,
    /// Whether the same may go later.
    pub may_pass: bool,
}

impl SinkError {
    fn for_good(problem: impl Into<String>) -> SinkError {
        SinkError { problem: problem.into(), may_pass: false }
    }

    fn for_now(problem: impl Into<String>) -> SinkError {
        SinkError { problem: problem.into(), may_pass: true }
    }
}

/// A future of a sink's.
pub type Put<'a> = Pin<Box<dyn Future<Output = Result<(), SinkError>> + Send + 'a>>;

/// A place for passwords.
pub trait Sink: Send + Sync {
    /// Puts a password there, in place of the one before. Done twice it does no harm.
    fn put<'a>(&'a self, delivery: Delivery<'a>) -> Put<'a>;
}

impl Sinks {
    /// The sinks of a configuration; or which of them cannot be, and why.
    pub fn new(settings: &[config::Sink]) -> Result<Sinks, String> {
        let mut sinks: BTreeMap<String, Box<dyn Sink>> = BTreeMap::new();
        for config::Sink { name, place } in settings {
            let sink: Box<dyn Sink> = match place {
                config::SinkPlace::File { folder } => Box::new(FileSink::new(folder.clone())),
                config::SinkPlace::Vault(vault) => {
                    Box::new(VaultSink::new(vault.clone()).map_err(|problem| format!("`{name}`: {problem}"))?)
                }
            };
            sinks.insert(name.clone(), sink);
        }
        Ok(Sinks(Arc::new(sinks)))
    }

    /// The one of this name.
    pub fn find(&self, name: &str) -> Option<&dyn Sink> {
        self.0.get(name).map(|sink| &**sink)
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests;
