//! What the tests stand on: processes that die with the run, Kafka, the registry, the proxy under test, an independent
//! consumer, and the oracle that says what should have arrived.

#![allow(dead_code, reason = "a helper may wait for the test that needs it")]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

pub mod balancer;
pub mod certificates;
pub mod collector;
pub mod control;
pub mod fixture;
pub mod gate;
pub mod http;
pub mod java_keys;
pub mod kafka;
pub mod load;
pub mod oracle;
pub mod ordeal;
pub mod plane;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod raw;
pub mod read_back;
pub mod referee;
pub mod registry;
pub mod rules;
pub mod seed;
pub mod tool;

/// Longest that any test waits for anything: generous, since two cores also run three brokers and a compiler.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// What `tests/run.sh --fetch` left in `target/tests`; panics with what to do when it is not there.
pub fn fetched(path: &str) -> PathBuf {
    let found = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("tmp is in target").join("tests").join(path);
    assert!(found.exists(), "{} is missing; run tests/run.sh --fetch", found.display());
    found
}

/// Whether the long forms of tests are asked for (`tests/run.sh --long`).
pub fn long() -> bool {
    std::env::var_os("IGUAZU_TESTS_LONG").is_some()
}

/// A new folder of this run. Those of runs that ended are removed when the next run begins, so that a failed run's
/// logs can still be read.
pub fn folder(name: &str) -> PathBuf {
    static RUN: LazyLock<PathBuf> = LazyLock::new(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("it");
        for old in std::fs::read_dir(&all).into_iter().flatten().flatten() {
            let pid = old.file_name();
            if !Path::new("/proc").join(&pid).exists() {
                let _ = std::fs::remove_dir_all(old.path());
            }
        }
        all.join(std::process::id().to_string())
    });
    let folder = RUN.join(unique(name));
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}

/// A name that no other test of this run has: tests share a cluster and a registry.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{name}-{}", NEXT.fetch_add(1, Relaxed))
}

/// Asks again until there is an answer; panics after [`PATIENCE`] with the last reason why there was none. Blocks:
/// within a `tokio` test only for what does not need the runtime.
pub fn wait_for<T>(what: &str, ask: impl FnMut() -> Result<T, String>) -> T {
    try_wait_for(what, ask).unwrap_or_else(|reason| panic!("{reason}"))
}

/// [`wait_for`] that returns the reason instead of panicking, for destructors.
pub fn try_wait_for<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let begin = Instant::now();
    loop {
        match ask() {
            Err(reason) if begin.elapsed() > PATIENCE => {
                return Err(format!("{what}: not after {PATIENCE:?}: {reason}"));
            }
            Err(_) => std::thread::sleep(POLL),
            answer => return answer,
        }
    }
}

/// [`wait_for`] for questions that are futures.
pub async fn wait_until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(reason) if begin.elapsed() > PATIENCE => panic!("{what}: not after {PATIENCE:?}: {reason}"),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// Pause between two questions.
const POLL: Duration = Duration::from_millis(20);
