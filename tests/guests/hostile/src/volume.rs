//! Guests that have a lot to say.

use std::io::Write;

use crate::tidegate::consumer::log::{self, Level};
use crate::{Answer, Delivery, done, output};

pub fn run(mode: &str, _: &Delivery) -> Option<Answer> {
    let x = |n: usize| "x".repeat(n);
    Some(match mode {
        "log" => {
            log::write(Level::Info, "one line", &[("k".into(), "v".into())]);
            done()
        }
        "log-many" => {
            (0..1_000).for_each(|_| log::write(Level::Info, "again", &[]));
            done()
        }
        "log-for-ever" => loop {
            log::write(Level::Info, "again", &[]);
        },
        "log-large" => {
            log::write(Level::Info, &x(3 << 20), &[]);
            done()
        }
        "log-too-large" => {
            log::write(Level::Info, &x(5 << 20), &[]);
            done()
        }
        "log-fields" => {
            let fields: Vec<_> = (0..500).map(|n| (n.to_string(), x(1_000))).collect();
            log::write(Level::Info, "fields", &fields);
            done()
        }
        "log-empty-fields" => {
            let fields: Vec<_> = (0..500_000).map(|_| (String::new(), String::new())).collect();
            log::write(Level::Info, "fields", &fields);
            done()
        }
        "log-escapes" => {
            log::write(Level::Error, "a\u{1b}[2J\r\nb\0", &[("\u{202e}k\n".into(), "v\u{9b}".into())]);
            println!("out\u{1b}[31m\r");
            done()
        }
        "print" => {
            println!("to stdout");
            eprint!("to stderr");
            done()
        }
        "print-many" => {
            (0..20_000).for_each(|_| println!("a line of output"));
            done()
        }
        "print-one-long-line" => {
            print!("{}", x(2 << 20));
            done()
        }
        "print-bytes" => {
            std::io::stdout().write_all(&[0xff, 0xfe, 0, 10, 0x80].repeat(10_000)).ok();
            done()
        }
        "print-for-ever" => loop {
            println!("a line of output");
        },
        "print-errors-for-ever" => loop {
            eprintln!("{}", x(4_000));
        },
        "output" => output(x(64 << 10).into_bytes()),
        "output-too-large" => output(x((64 << 10) + 1).into_bytes()),
        "output-huge" => output(vec![0; 16 << 20]),
        "output-bad-type" => Ok(Some(crate::Payload { content_type: "text/\u{1b}plain\r\n".into(), data: vec![1] })),
        _ => return None,
    })
}
