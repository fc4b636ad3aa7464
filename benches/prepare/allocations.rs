//! Counts allocations, of the production allocator.
#![allow(
    unsafe_code,
    reason = "an allocator is unsafe by its trait; all that this one does beside counting is another's"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use mimalloc::MiMalloc;

#[global_allocator]
static COUNTING: Counting = Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call is passed on as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Relaxed);
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Relaxed);
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Relaxed);
        unsafe { MiMalloc.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { MiMalloc.dealloc(at, layout) }
    }
}

/// How often memory was allocated or resized while `run` ran; nothing else may run.
pub fn count(run: impl FnOnce()) -> u64 {
    let before = COUNT.load(Relaxed);
    run();
    COUNT.load(Relaxed) - before
}
