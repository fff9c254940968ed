//! Guests that want memory, and an allocator that can be told to misbehave where only the host calls it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use crate::{Answer, Delivery, check, done};

static ON_ALLOC: AtomicBool = AtomicBool::new(false);
static ON_FREE: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU32 = AtomicU32::new(0);

struct Odd;

#[global_allocator]
static ODD: Odd = Odd;

// SAFETY: the system's allocator, or no return.
unsafe impl GlobalAlloc for Odd {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        spin_if(&ON_ALLOC);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        spin_if(&ON_FREE);
        unsafe { System.dealloc(at, layout) }
    }
}

fn spin_if(flag: &AtomicBool) {
    while flag.load(Ordering::Relaxed) {
        black_box(());
    }
}

pub fn spin_on_alloc() {
    ON_ALLOC.store(true, Ordering::Relaxed);
}

pub fn spin_on_free() {
    ON_FREE.store(true, Ordering::Relaxed);
}

const CANARY: [u8; 16] = *b"canary-canary-42";

pub fn run(mode: &str, _: &Delivery) -> Option<Answer> {
    Some(match mode {
        "grow" => {
            let mut kept = Vec::new();
            loop {
                kept.push(vec![1_u8; 1 << 20]);
                black_box(&kept);
            }
        }
        "grow-politely" => {
            while core::arch::wasm32::memory_grow(0, 16) != usize::MAX {}
            done()
        }
        "grow-at-once" => check(core::arch::wasm32::memory_grow(0, 60_000) == usize::MAX, "it grew by 3.7 GiB"),
        "grow-to-wrap" => check(core::arch::wasm32::memory_grow(0, 65_535) == usize::MAX, "it grew to 4 GiB"),
        "alloc-huge" => {
            black_box(vec![1_u8; 1 << 30]);
            done()
        }
        "use-10-mib" => {
            black_box(vec![1_u8; 10 << 20]);
            done()
        }
        "recurse" => {
            black_box(deeper(1));
            done()
        }
        "recurse-in-memory" => {
            black_box(deeper_in_memory(1));
            done()
        }
        "recurse-with-imports" => {
            black_box(deeper_with_imports(1));
            done()
        }
        "count-calls" => {
            check(CALLS.fetch_add(1, Ordering::Relaxed) == 0, "an earlier attempt has left something behind")
        }
        "canary-leave" => {
            let mut block = CANARY.repeat((8 << 20) / CANARY.len());
            black_box(&mut block);
            std::mem::forget(block);
            done()
        }
        "canary-look" => {
            core::arch::wasm32::memory_grow(0, 128);
            check(!canary_in_memory(), "another attempt's memory can be read")
        }
        _ => return None,
    })
}

/// Looks at all of memory for copies that are not the constant itself, which is in the data segment.
fn canary_in_memory() -> bool {
    let size = core::arch::wasm32::memory_size(0) * 65_536;
    let mut found = 0;
    for at in (0..size - 16).step_by(16) {
        // SAFETY: inside the memory; volatile, since the compiler knows nothing of what lies there.
        let words = unsafe { [(at as *const u64).read_volatile(), (at as *const u64).add(1).read_volatile()] };
        if words.map(u64::to_le_bytes).concat() == CANARY {
            found += 1;
        }
    }
    found > 2
}

/// Called through here, so that the compiler makes no loop of it and needs no stack in memory.
static NEXT: AtomicPtr<()> = AtomicPtr::new(deeper as *mut ());

#[inline(never)]
extern "C" fn deeper(n: u64) -> u64 {
    // SAFETY: nothing else is ever stored there.
    let next: extern "C" fn(u64) -> u64 = unsafe { std::mem::transmute(black_box(NEXT.load(Ordering::Relaxed))) };
    black_box(next(n + 1)) ^ n
}

#[inline(never)]
#[expect(unconditional_recursion, reason = "the point of it")]
fn deeper_in_memory(n: u64) -> u64 {
    let frame = black_box([n; 16]);
    black_box(deeper_in_memory(n + 1)) + frame[3]
}

static NEXT_WITH_IMPORTS: AtomicPtr<()> = AtomicPtr::new(deeper_with_imports as *mut ());

#[inline(never)]
extern "C" fn deeper_with_imports(n: u64) -> u64 {
    crate::tidegate::consumer::log::enabled(crate::tidegate::consumer::log::Level::Info);
    // SAFETY: nothing else is ever stored there.
    let next: extern "C" fn(u64) -> u64 =
        unsafe { std::mem::transmute(black_box(NEXT_WITH_IMPORTS.load(Ordering::Relaxed))) };
    black_box(next(n + 1)) ^ n
}
