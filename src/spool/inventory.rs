//! What a cluster's spool holds: its segments in order, how far each is on disk, and the counts that others read.
//!
//! Shared by the writer, which adds segments and lets them grow, and the reader, which takes settled ones away.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use super::queue::Refusal;

/// One segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Number of its first entry.
    pub(super) base: u64,
    /// Bytes of it that survive a power cut: as far as it may be read.
    pub(super) durable: u64,
    /// Whether the writer still appends to it.
    pub(super) is_open: bool,
    /// When the first event in it was received; 0 when nobody has looked.
    pub(super) first_ms: i64,
}

/// The segments and the counts.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    segments: Mutex<VecDeque<Held>>,
    /// Bytes on disk, and those that are on their way there.
    pub(super) used: AtomicU64,
    /// When the oldest event that is not settled was received; 0 when there is none.
    pub(super) oldest_ms: AtomicI64,
    pub(super) written: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    pub(super) settled: AtomicU64,
    pub(super) damaged_bytes: AtomicU64,
    errors: [AtomicU64; ErrorKind::ALL.len()],
}

impl Inventory {
    pub(super) fn segments(&self) -> MutexGuard<'_, VecDeque<Held>> {
        self.segments.lock().expect("no code panics while it holds this lock")
    }

    /// Changes the entry of a segment that is there.
    pub(super) fn update(&self, base: u64, change: impl FnOnce(&mut Held)) {
        let mut segments = self.segments();
        if let Some(held) = segments.iter_mut().rev().find(|held| held.base == base) {
            change(held);
        }
    }

    pub(super) fn count_refusal(&self, refusal: Refusal) {
        self.refused[refusal as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn refusals(&self) -> [(Refusal, u64); Refusal::ALL.len()] {
        Refusal::ALL.map(|refusal| (refusal, self.refused[refusal as usize].load(Relaxed)))
    }

    pub(super) fn count_error(&self, error: &io::Error) {
        self.errors[ErrorKind::of(error) as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn errors(&self) -> [(ErrorKind, u64); ErrorKind::ALL.len()] {
        ErrorKind::ALL.map(|kind| (kind, self.errors[kind as usize].load(Relaxed)))
    }
}

/// What kind of trouble the disk makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ErrorKind {
    /// No space is left (`ENOSPC`, a quota, a limit on the size of files).
    Full,
    /// It is mounted read-only.
    ReadOnly,
    /// Anything else, such as `EIO`.
    Other,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [ErrorKind; 3] = [ErrorKind::Full, ErrorKind::ReadOnly, ErrorKind::Other];

    /// The label in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Full => "full",
            ErrorKind::ReadOnly => "read_only",
            ErrorKind::Other => "other",
        }
    }

    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => ErrorKind::Full,
            io::ErrorKind::ReadOnlyFilesystem => ErrorKind::ReadOnly,
            _ => ErrorKind::Other,
        }
    }
}
