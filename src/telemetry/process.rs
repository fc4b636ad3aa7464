//! The process as the system sees it.
//!
//! In: `/proc/self`. Out: samples; where there is no `/proc` (not Linux), only the start time.

use std::time::{SystemTime, UNIX_EPOCH};

use super::export::Page;
use super::metrics as m;

/// Clock ticks a second in `/proc/self/stat`: `USER_HZ`, which Linux fixes at 100 for user space on every architecture
/// that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Writes what is known of this process, which began at `started`.
pub(super) fn write(page: &mut Page, started: SystemTime) {
    page.set(&m::PROCESS_START, &[], started.duration_since(UNIX_EPOCH).unwrap_or_default());
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    if let Some(ticks) = cpu_ticks(&read("stat")) {
        page.set(&m::PROCESS_CPU, &[], ticks as f64 / TICKS_PER_SECOND);
    }
    let status = read("status");
    if let Some(kib) = number_after(&status, "VmRSS:") {
        page.set(&m::PROCESS_RESIDENT, &[], kib * 1024);
    }
    if let Some(threads) = number_after(&status, "Threads:") {
        page.set(&m::PROCESS_THREADS, &[], threads);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        // One of them is the descriptor by which they are listed.
        page.set(&m::PROCESS_FDS, &[], (entries.count() as u64).saturating_sub(1));
    }
    if let Some(max) = number_after(&read("limits"), "Max open files") {
        page.set(&m::PROCESS_FDS_MAX, &[], max);
    }
}

/// `utime` and `stime`, fields 14 and 15. Field 2 is the program's name in parentheses and may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The first number on the line that begins so.
fn number_after(text: &str, start: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(start))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 100 1 1";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn a_limit_may_be_unlimited() {
        assert_eq!(number_after("Max open files            1024  4096 files", "Max open files"), Some(1024));
        assert_eq!(number_after("Max open files            unlimited", "Max open files"), None);
        assert_eq!(number_after("", "VmRSS:"), None);
    }
}
