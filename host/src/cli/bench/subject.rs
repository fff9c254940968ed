//! The host that is measured: a process of its own, as anybody runs it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::super::client::Base;
use super::super::error::Error;
use super::bed::Bed;

/// A host that has not said by then where it listens does not start: compiling takes its time.
const START: Duration = Duration::from_secs(120);
/// What a host says at the end, for whoever asks why it ended.
const LINES_SHOWN: usize = 5;

pub(super) struct Subject {
    child: Child,
    pub(super) base: Base,
}

impl Subject {
    /// Starts a host on the bed's manifest and waits until it listens.
    pub(super) fn start(bed: &Bed) -> Result<Self, Error> {
        let cannot = |e| Error::environment("cannot start a host to measure").because(e);
        let program = std::env::current_exe().map_err(cannot)?;
        let mut command = Command::new(program);
        command.arg("run").arg("--manifest").arg(bed.path("tidegate.yaml"));
        // Warnings say what is wrong with a component; one line for each thing that goes well would be measured, too.
        command.env("TIDEGATE_LOG", "info").env("NO_COLOR", "1").env_remove("TIDEGATE_TOKEN");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(cannot)?;
        let (send, lines) = mpsc::channel();
        if let Some(stderr) = child.stderr.take() {
            // Read to the end, so that the host never waits for a reader.
            std::thread::spawn(move || {
                BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| drop(send.send(line)));
            });
        }
        let mut said = Vec::new();
        while let Ok(line) = lines.recv_timeout(START) {
            if let Some(base) = listening(&line) {
                return Ok(Self { child, base });
            }
            said.push(line);
        }
        drop(child.kill());
        drop(child.wait());
        let shown = said.len().saturating_sub(LINES_SHOWN);
        let mut error = Error::manifest("the host that was to be measured did not start")
            .hint("A component must export a handler and may import what a consumer may; `tidegate explain` knows the codes above.");
        error.details.extend(said.drain(shown..));
        Err(error)
    }

    /// Resident memory in bytes: now, and the most there was. None where the system does not say.
    pub(super) fn memory(&self) -> Option<(u64, u64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        Some((number(&status, "VmRSS:")? << 10, number(&status, "VmHWM:")? << 10))
    }

    /// Bytes handed to the disk since the start. None where the system does not say.
    pub(super) fn written(&self) -> Option<u64> {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.child.id())).ok()?;
        number(&io, "write_bytes:")
    }

    /// Processor time used since the start. None where the system does not say.
    pub(super) fn processor(&self) -> Option<Duration> {
        let mut total = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?.flatten() {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            total += stat.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
        }
        Some(Duration::from_nanos(total))
    }

    /// Stops it in order.
    pub(super) fn stop(mut self) -> Result<(), Error> {
        let pid = rustix::process::Pid::from_child(&self.child);
        let asked = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        asked.map_err(|e| Error::environment("cannot stop the host").because(std::io::Error::from(e)))?;
        self.child.wait().map_err(|e| Error::environment("the host does not end").because(e))?;
        Ok(())
    }

    /// Ends it as a crash does.
    pub(super) fn kill(mut self) -> Result<(), Error> {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        ended.map(drop).map_err(|e| Error::environment("the host does not end").because(e))
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It is gone already where all went well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The address in the line that says that the host is ready.
fn listening(line: &str) -> Option<Base> {
    let url = line.split("listening on ").nth(1)?.split([',', ' ']).next()?;
    Base::parse(url).ok()
}

fn number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_in_the_line_that_says_that_the_host_is_ready() {
        let line =
            "2026-01-01T00:00:00Z  INFO listening on http://127.0.0.1:4711, generation 1, 1 consumer, log data/1.db";
        assert_eq!(listening(line).map(|base| base.authority), Some("127.0.0.1:4711".into()));
        assert_eq!(listening("INFO consumer measured is loaded"), None);
    }

    #[test]
    fn numbers_are_read_as_the_system_writes_them() {
        let status = "Name:\ttidegate\nVmHWM:\t   41236 kB\nVmRSS:\t   20480 kB\n";
        assert_eq!((number(status, "VmRSS:"), number(status, "VmHWM:")), (Some(20_480), Some(41_236)));
        assert_eq!(number("rchar: 1\nwrite_bytes: 4096\n", "write_bytes:"), Some(4_096));
    }
}
