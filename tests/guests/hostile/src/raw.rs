//! Imports called without the generated bindings, the way only a guest with bad intentions calls them.

use crate::{Answer, Delivery, done};

#[link(wasm_import_module = "wasi:clocks/monotonic-clock@0.2.0")]
unsafe extern "C" {
    #[link_name = "subscribe-duration"]
    fn subscribe_duration(nanoseconds: u64) -> u32;
}

#[link(wasm_import_module = "wasi:io/poll@0.2.0")]
unsafe extern "C" {
    #[link_name = "[method]pollable.block"]
    fn pollable_block(handle: u32);
    #[link_name = "[method]pollable.ready"]
    fn pollable_ready(handle: u32) -> u32;
    #[link_name = "[resource-drop]pollable"]
    fn pollable_drop(handle: u32);
    #[link_name = "poll"]
    fn poll(handles: *const u32, count: usize, out: *mut [usize; 2]);
}

#[link(wasm_import_module = "wasi:cli/stdout@0.2.0")]
unsafe extern "C" {
    #[link_name = "get-stdout"]
    fn get_stdout() -> u32;
}

#[link(wasm_import_module = "wasi:random/random@0.2.0")]
unsafe extern "C" {
    #[link_name = "get-random-bytes"]
    fn get_random_bytes(count: u64, out: *mut [usize; 2]);
}

#[link(wasm_import_module = "tidegate:consumer/log@0.1.0")]
unsafe extern "C" {
    #[link_name = "write"]
    fn log_write(level: u32, message: usize, length: usize, fields: usize, count: usize);
}

pub struct Pollable(u32);

impl Pollable {
    pub fn after(nanoseconds: u64) -> Self {
        Self(unsafe { subscribe_duration(nanoseconds) })
    }

    pub fn block(&self) {
        unsafe { pollable_block(self.0) }
    }

    pub fn ready(&self) -> bool {
        unsafe { pollable_ready(self.0) != 0 }
    }
}

impl Drop for Pollable {
    fn drop(&mut self) {
        unsafe { pollable_drop(self.0) }
    }
}

pub fn random(count: u64) -> Vec<u8> {
    let mut out = [0; 2];
    unsafe {
        get_random_bytes(count, &mut out);
        if out[1] == 0 { Vec::new() } else { Vec::from_raw_parts(out[0] as *mut u8, out[1], out[1]) }
    }
}

/// Logs whatever lies there.
fn log(level: u32, message: usize, length: usize, fields: usize, count: usize) -> Answer {
    unsafe { log_write(level, message, length, fields, count) };
    done()
}

pub fn run(mode: &str, _: &Delivery) -> Option<Answer> {
    let text = b"text";
    let bad = [0xff_u8, 0xfe, 0xfd];
    let end = core::arch::wasm32::memory_size(0) * 65_536;
    Some(match mode {
        "pointer-outside" => log(2, end, 1, 0, 0),
        "pointer-across-the-end" => log(2, end - 4, 8, 0, 0),
        "pointer-wraps" => log(2, usize::MAX - 3, 8, 0, 0),
        "length-wraps" => log(2, text.as_ptr() as usize, usize::MAX, 0, 0),
        "list-outside" => log(2, text.as_ptr() as usize, 4, end - 8, 1_000),
        "list-length-wraps" => log(2, text.as_ptr() as usize, 4, 16, 0x1000_0001),
        "list-misaligned" => log(2, text.as_ptr() as usize, 4, 17, 1),
        "not-utf-8" => log(2, bad.as_ptr() as usize, bad.len(), 0, 0),
        "no-such-level" => log(99, text.as_ptr() as usize, 4, 0, 0),
        "no-such-handle" => {
            unsafe { pollable_block(12_345) };
            done()
        }
        "handle-of-another-kind" => {
            unsafe { pollable_block(get_stdout()) };
            done()
        }
        "drop-twice" => {
            let handle = unsafe { subscribe_duration(1) };
            unsafe { pollable_drop(handle) };
            unsafe { pollable_drop(handle) };
            done()
        }
        "poll-nothing" => {
            unsafe { poll(std::ptr::null(), 0, &mut [0; 2]) };
            done()
        }
        "poll-a-million" => {
            let timer = Pollable::after(0);
            let handles = vec![timer.0; 1_000_000];
            unsafe { poll(handles.as_ptr(), handles.len(), &mut [0; 2]) };
            done()
        }
        "timers-for-ever" => loop {
            std::mem::forget(Pollable::after(u64::MAX));
        },
        "streams-for-ever" => loop {
            unsafe { get_stdout() };
        },
        "read-outside" => {
            std::hint::black_box(unsafe { ((end - 2) as *const u32).read_volatile() });
            done()
        }
        "call-nothing" => {
            let nothing: extern "C" fn() = unsafe { std::mem::transmute(0xff_ffff_usize) };
            std::hint::black_box(nothing)();
            done()
        }
        "call-with-a-wrong-signature" => {
            let wrong: extern "C" fn(f64, f64, f64) -> f64 = unsafe { std::mem::transmute(plain as *const ()) };
            std::hint::black_box(std::hint::black_box(wrong)(1.0, 2.0, 3.0));
            done()
        }
        _ => return None,
    })
}

extern "C" fn plain() {
    std::hint::black_box(());
}
