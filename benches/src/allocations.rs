//! What is taken from the allocator, counted only while somebody asks: otherwise an allocation costs one
//! more look at a flag, on all sides alike.

#![allow(unsafe_code, reason = "a global allocator is unsafe to implement")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

/// Passes everything to the system's allocator.
struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);

fn count(allocations: u64, before: usize, after: usize) {
    if COUNTS.load(Relaxed) {
        ALLOCATIONS.fetch_add(allocations, Relaxed);
        LIVE.fetch_add(after as i64 - before as i64, Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, 0, layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size(), 0);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, 0, layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, layout.size(), size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts for all threads, from when it is made until it is dropped; one at a time.
pub struct Counter(());

impl Counter {
    /// Counts from zero.
    pub fn start() -> Self {
        ALLOCATIONS.store(0, Relaxed);
        LIVE.store(0, Relaxed);
        COUNTS.store(true, Relaxed);
        Self(())
    }

    /// How often memory was asked for.
    pub fn allocations(&self) -> u64 {
        ALLOCATIONS.load(Relaxed)
    }

    /// Bytes that were asked for and not given back.
    pub fn live(&self) -> i64 {
        LIVE.load(Relaxed)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        COUNTS.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Large, because other tests allocate at the same time.
    const LARGE: usize = 64 << 20;

    #[test]
    fn what_is_taken_is_counted_until_it_is_given_back() {
        let counter = Counter::start();
        let taken = vec![1_u8; LARGE];
        assert!(counter.allocations() >= 1);
        assert!(counter.live() > LARGE as i64 / 2, "{}", counter.live());
        drop(taken);
        assert!(counter.live() < LARGE as i64 / 2, "{}", counter.live());
    }
}
