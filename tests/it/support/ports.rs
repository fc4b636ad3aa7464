//! Ports for programs that cannot be told to take any free one and say which.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::sync::Mutex;

/// Free ports on loopback, distinct over the whole run.
///
/// They lie below the range from which the kernel takes the ports of outgoing connections. A port that was found by
/// binding 0 lies inside it: while a broker is down, any connection of any process may take its port away.
pub fn free(count: usize) -> Vec<u16> {
    static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut taken = TAKEN.lock().expect("no code panics while it holds this lock");
    let taken = taken.get_or_insert_default();
    let range = 10_000..first_ephemeral();
    let mut found = Vec::with_capacity(count);
    while found.len() < count {
        // Random, so that two runs at once seldom try the same.
        let port = range.start + (RandomState::new().hash_one(taken.len()) % u64::from(range.end - range.start)) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && taken.insert(port) {
            found.push(port);
        }
    }
    found
}

fn first_ephemeral() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok())
        .filter(|first| *first > 12_000)
        .unwrap_or(32_768)
}
