//! The program that libFuzzer drives: it runs the target that `NETPLAY_FUZZ_TARGET` names, and without
//! a name lists all targets with their longest inputs.
//!
//! Guaranteed: an input that makes a target hold more memory than its table entry allows is a find, as
//! is one that panics. `./run` builds this with coverage and knows the flags.

#![no_main]
#![allow(
    unsafe_code,
    reason = "a global allocator and the symbols that libFuzzer calls are unsafe"
)]

use core::sync::atomic::{AtomicUsize, Ordering};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::OnceLock;

use netplay_fuzz::{TARGETS, Target};

/// Passes everything to the system's allocator, and gives no more than is allowed. libFuzzer's own limit
/// for allocations works with sanitizers only.
struct Limited {
    in_use: AtomicUsize,
    most: AtomicUsize,
}

// SAFETY: every call goes to the system's allocator with the arguments it came with, or fails.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let before = self.in_use.fetch_add(layout.size(), Ordering::Relaxed);
        if before + layout.size() > self.most.load(Ordering::Relaxed) {
            // Once: what reports it may take what it needs.
            self.most.store(usize::MAX, Ordering::Relaxed);
            return core::ptr::null_mut();
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.in_use.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Limited =
    Limited { in_use: AtomicUsize::new(0), most: AtomicUsize::new(usize::MAX) };

static CHOSEN: OnceLock<&Target> = OnceLock::new();

#[expect(clippy::print_stdout, reason = "the list is for the script")]
fn choose() -> &'static Target {
    let Ok(name) = std::env::var("NETPLAY_FUZZ_TARGET") else {
        TARGETS.iter().for_each(|target| println!("{} {}", target.name, target.max_len));
        std::process::exit(0);
    };
    netplay_fuzz::find(&name).unwrap_or_else(|| panic!("there is no target {name:?}"))
}

libfuzzer_sys::fuzz_target!(
    init: {
        CHOSEN.get_or_init(choose);
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // What reports it takes more.
            ALLOCATOR.most.store(usize::MAX, Ordering::Relaxed);
            report(panic);
        }));
    },
    |data: &[u8]| {
        let target = CHOSEN.get_or_init(choose);
        let before = ALLOCATOR.in_use.load(Ordering::Relaxed);
        ALLOCATOR.most.store(before + target.memory, Ordering::Relaxed);
        (target.run)(data);
        ALLOCATOR.most.store(usize::MAX, Ordering::Relaxed);
    }
);
