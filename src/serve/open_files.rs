//! How many files the process may have open: every connection is one.
//!
//! In: how many connections are allowed. Out: a soft limit as high as the hard one, and a warning where that is too low. Never: fails; with
//! few files a listener serves the connections that it can.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Files beside connections: 256 for those of the admin listener, and as many for brokers, registries, segments on disk and the runtime.
const BESIDE: u64 = 512;

/// Raises the soft limit of open files (systemd's is 1,024 unless a unit says more), so that `connections_max` connections can be served.
pub fn raise_open_files(connections_max: usize) {
    let needed = connections_max as u64 + BESIDE;
    let limit = getrlimit(Resource::Nofile);
    let raised = raised(limit.current, limit.maximum, needed);
    // Where it is refused, what is in force tells.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: raised, maximum: limit.maximum });
    if let Some(files) = getrlimit(Resource::Nofile).current.filter(|files| *files < needed) {
        warn!(files, needed, "fewer files may be open than the connections that are allowed need");
    }
}

/// The soft limit to ask for, where none is no limit: the hard one, and not an unlimited one where a number will do, since some systems refuse that.
fn raised(soft: Option<u64>, hard: Option<u64>, needed: u64) -> Option<u64> {
    match (soft, hard) {
        (None, _) => None,
        (Some(_), Some(hard)) => Some(hard),
        (Some(soft), None) => Some(soft.max(needed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one_and_never_less() {
        assert_eq!(raised(Some(1_024), Some(524_288), 10_512), Some(524_288));
        assert_eq!(raised(Some(1_024), Some(4_096), 10_512), Some(4_096));
        assert_eq!(raised(Some(256), None, 10_512), Some(10_512));
        assert_eq!(raised(Some(20_000), None, 10_512), Some(20_000));
        assert_eq!(raised(None, None, 10_512), None);
    }
}
