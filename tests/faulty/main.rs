//! The real host on a disk and by a clock that a test moves. It is told by its environment:
//!
//! | variable | means |
//! |---|---|
//! | `TIDEGATE_FAULTY_DISK` | the folder whose files are on that disk |
//! | `TIDEGATE_FAULTY_CALL` | `KIND:NTH:CODE`: this call fails, for example `sync:17:1034` |
//! | `TIDEGATE_FAULTY_CONTROL` | a file; while it says `full` there is no space, while it says `hold` each sync waits |
//! | `TIDEGATE_FAULTY_CLOCK` | a file with the microseconds that the wall clock is off |
//!
//! A sync that waits says so on standard error, and goes on when somebody opens the pipe beside the control file, `CONTROL.gate`, for
//! writing.

#![expect(clippy::expect_used, reason = "a test that cannot go on must say so and end")]

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tidegate::clock::{Clock, SystemClock};
use tidegate::model::Timestamp;
use tidegate_vfs::{Disk, Fault, Kind, code};

fn main() -> ExitCode {
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let _disk = path("TIDEGATE_FAULTY_DISK").map(|folder| disk(&folder, path("TIDEGATE_FAULTY_CONTROL")));
    let clock = Arc::new(MovedClock { machine: SystemClock::new(), by: path("TIDEGATE_FAULTY_CLOCK") });
    tidegate::cli::main_by(clock, std::env::args_os())
}

fn disk(folder: &Path, control: Option<PathBuf>) -> Disk {
    fs::create_dir_all(folder).expect("the disk's folder");
    let disk = Disk::forgetful(folder);
    if let Ok(call) = std::env::var("TIDEGATE_FAULTY_CALL") {
        disk.fail(fault(&call).expect("KIND:NTH:CODE"));
    }
    if let Some(control) = control {
        disk.before(move |kind, _| controlled(&control, kind));
    }
    disk
}

fn fault(call: &str) -> Option<Fault> {
    let mut parts = call.split(':');
    let kind = match parts.next()? {
        "write" => Kind::Write,
        "sync" => Kind::Sync,
        "truncate" => Kind::Truncate,
        _ => return None,
    };
    Some(Fault::once(kind, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[expect(clippy::print_stderr, reason = "the test hears it there")]
fn controlled(control: &Path, kind: Kind) -> Option<i32> {
    let word = fs::read_to_string(control).unwrap_or_default();
    match (word.trim(), kind) {
        ("full", Kind::Write) => Some(code::FULL),
        ("hold", Kind::Sync) => {
            eprintln!("a sync waits");
            // Ends when the other end is opened.
            drop(fs::File::open(control.with_extension("gate")).expect("the gate"));
            None
        }
        _ => None,
    }
}

/// The machine's clock, set to another time.
struct MovedClock {
    machine: SystemClock,
    by: Option<PathBuf>,
}

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        let by = self.by.as_ref().and_then(|path| fs::read_to_string(path).ok()?.trim().parse().ok()).unwrap_or(0);
        Timestamp(self.machine.now().0 + by)
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }

    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.machine.sleep_until(at)
    }
}
