//! Guests that look for the machine.

use std::io::{IsTerminal, Read};

use crate::{Answer, Delivery, check, done, raw};

pub fn run(mode: &str, _: &Delivery) -> Option<Answer> {
    Some(match mode {
        "environment" => check(std::env::vars().next().is_none(), "there is an environment"),
        "arguments" => check(std::env::args().next().is_none(), "there are arguments"),
        "write-file" => check(std::fs::write("/tmp/tidegate-escape", "x").is_err(), "it wrote a file"),
        "read-file" => check(std::fs::read("/etc/passwd").is_err(), "it read a file"),
        "read-own-files" => check(std::fs::read("../../Cargo.toml").is_err(), "it read a file"),
        "read-directory" => check(std::fs::read_dir("/").is_err(), "it read a directory"),
        "make-directory" => check(std::fs::create_dir("/tmp/tidegate-escape").is_err(), "it made a directory"),
        "remove-file" => check(std::fs::remove_file("/tmp/nothing").is_err(), "it removed a file"),
        "trailing-slash" => check(std::fs::read("/etc/passwd/").is_err(), "it read a file"),
        "standard-input" => {
            let read = std::io::stdin().read(&mut [0; 16]);
            check(matches!(read, Ok(0) | Err(_)), "it read something")
        }
        "terminal" => check(!std::io::stdout().is_terminal(), "there is a terminal"),
        "thread" => check(std::thread::Builder::new().spawn(|| ()).is_err(), "it started a thread"),
        "process" => check(std::process::Command::new("/bin/true").status().is_err(), "it started a process"),
        "random" => check(raw::random(65_536) != raw::random(65_536), "it is always the same"),
        "random-zero" => check(raw::random(0).is_empty(), "more than nothing"),
        "random-too-large" => check(raw::random(65_537).is_empty(), "no limit"),
        "random-huge" => check(raw::random(1 << 40).is_empty(), "no limit"),
        "random-for-ever" => loop {
            std::hint::black_box(raw::random(65_536));
        },
        "exit" => std::process::exit(0),
        "exit-badly" => std::process::exit(3),
        "abort" => std::process::abort(),
        "panic" => panic!("a panic of the guest\u{1b}[31m"),
        "divide-by-zero" => {
            std::hint::black_box(1_u32 / std::hint::black_box(0));
            done()
        }
        _ => return None,
    })
}
