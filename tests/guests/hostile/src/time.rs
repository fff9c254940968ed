//! Guests that take their time.

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use crate::raw::Pollable;
use crate::tidegate::consumer::attempt::in_progress;
use crate::{Answer, Delivery, check, done, memory, tidegate};

pub fn run(mode: &str, _: &Delivery) -> Option<Answer> {
    Some(match mode {
        "spin" | "spin-long" => loop {
            black_box(());
        },
        "fill" | "fill-long" => {
            let mut block = vec![0_u8; 16 << 20];
            loop {
                block.fill(black_box(7));
            }
        }
        "sleep" => {
            std::thread::sleep(Duration::from_secs(365 * 24 * 3_600));
            done()
        }
        "sleep-for-ever" => {
            Pollable::after(u64::MAX).block();
            done()
        }
        "nap" => {
            std::thread::sleep(Duration::from_millis(20));
            done()
        }
        "sleep-zero-again-and-again" => loop {
            Pollable::after(0).block();
        },
        "poll-ready-again-and-again" => {
            let timer = Pollable::after(u64::MAX);
            loop {
                black_box(timer.ready());
            }
        }
        "spin-in-realloc" => {
            memory::spin_on_alloc();
            tidegate::consumer::config::all();
            done()
        }
        "spin-in-post-return" => {
            memory::spin_on_free();
            crate::output(vec![1; 64])
        }
        "clock-frozen" => {
            let before = SystemTime::now();
            spin_for(Duration::from_millis(5));
            check(before == SystemTime::now(), "the wall clock moved")
        }
        "clock-coarse" => {
            let start = Instant::now();
            let coarse = (0..500).all(|_| start.elapsed().subsec_nanos() % 1_000_000 == 0);
            check(coarse, "the monotonic clock is finer than a millisecond")
        }
        "clock-moves" => {
            spin_for(Duration::from_millis(3));
            done()
        }
        "call-storm" => loop {
            tidegate::consumer::log::enabled(tidegate::consumer::log::Level::Info);
        },
        "call-many" => {
            for _ in 0..9_000 {
                tidegate::consumer::log::enabled(tidegate::consumer::log::Level::Info);
            }
            done()
        }
        "budget" => {
            let budget = tidegate::consumer::attempt::remaining();
            let left = in_progress();
            let sound = budget.remaining_ms <= 60_000 && budget.remaining_fuel > 0 && budget.remaining_memory > 0;
            check(sound && left <= budget.remaining_ms, "the budget makes no sense")
        }
        "in-progress-for-ever" => loop {
            in_progress();
        },
        "in-progress-and-spin" => loop {
            (0..1_000_000).for_each(|n| _ = black_box(n));
            in_progress();
        },
        "in-progress-and-sleep" => loop {
            std::thread::sleep(Duration::from_millis(200));
            in_progress();
        },
        "in-progress-in-steps" => {
            let step = |_| {
                std::thread::sleep(Duration::from_millis(200));
                in_progress().to_string()
            };
            crate::output((0..4).map(step).collect::<Vec<_>>().join(" ").into_bytes())
        }
        _ => return None,
    })
}

fn spin_for(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        // Long enough that reading the clock does not use up the host calls.
        (0..20_000).for_each(|n| _ = black_box(n));
    }
}
