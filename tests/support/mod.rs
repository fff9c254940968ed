//! A host of one's own: the real binary in a folder that goes away, with the consumers that the build has compiled.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on must say so and end"
)]

pub mod dice;
pub mod hand;
pub mod http;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// How long a test waits for a signal that must come. Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(300);

/// Looks again and again until what must come has come: what is looked at tells nobody of itself. The pause between two looks
/// decides nothing; it leaves the processor to the host.
#[track_caller]
pub fn until(mut has_come: impl FnMut() -> bool) {
    let start = Instant::now();
    while !has_come() {
        assert!(start.elapsed() < PATIENCE, "what must come has not come");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// The binary under test: built beside the tests, or named by `TIDEGATE_BINARY`.
pub fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("TIDEGATE_BINARY") {
        return named.into();
    }
    built("tidegate")
}

fn built(name: &str) -> PathBuf {
    let tests = std::env::current_exe().expect("the test knows itself");
    let folder = tests.parent().and_then(Path::parent).expect("a test lives in target/PROFILE/deps");
    let binary = folder.join(name);
    assert!(binary.exists(), "{} is missing; run `make test`", binary.display());
    binary
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests live in the project").to_owned()
}

/// A component that the build has compiled, from the tests' guests or the examples' consumers.
pub fn guest(name: &str) -> PathBuf {
    let path = root().join("target/guests/wasm32-wasip2/release").join(format!("{}.wasm", name.replace('-', "_")));
    assert!(path.exists(), "{} is missing; run `make guests`", path.display());
    path
}

/// A folder with a manifest, and the commands run in it.
pub struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    pub fn new(manifest: &str) -> Self {
        let project = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        project.write("tidegate.yaml", manifest);
        project
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes as a careful editor does: beside, then renamed over.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("inside the project")).expect("folder");
        let beside = path.with_extension("new");
        fs::write(&beside, content).expect("write");
        fs::rename(beside, path).expect("rename");
    }

    /// Puts a compiled guest where the manifest expects it.
    pub fn install(&self, guest_name: &str, to: &str) {
        self.write(to, fs::read(guest(guest_name)).expect("guest"));
    }

    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(binary());
        command.current_dir(self.folder.path()).args(arguments).env("NO_COLOR", "1").env_remove("TIDEGATE_TOKEN");
        command
    }

    /// Runs a command to its end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().expect("the binary runs")
    }

    /// Runs a command that must succeed; what it printed.
    pub fn ok<S: AsRef<OsStr> + std::fmt::Debug>(&self, arguments: &[S]) -> String {
        let output = self.run(arguments);
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?} ended with {}:\n{stdout}{stderr}", output.status);
        stdout.into_owned()
    }

    /// Runs a command with input.
    pub fn feed<S: AsRef<OsStr>>(&self, arguments: &[S], input: &[u8]) -> Output {
        let mut command = self.command(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_vec();
        // A command that refuses early closes its input; that is for it to say.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("ends");
        writer.join().expect("the writer ends");
        output
    }

    /// What a `--json` command printed, line by line.
    pub fn json<S: AsRef<OsStr> + std::fmt::Debug>(&self, arguments: &[S]) -> Vec<Value> {
        self.ok(arguments).lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// Starts a host and waits until it is ready.
    pub fn start(&self) -> Host {
        self.try_start(&[]).expect("the host starts")
    }

    /// Starts a host whose environment names these files.
    pub fn start_with(&self, environment: &[(&str, &Path)]) -> Host {
        let mut command = self.command(&["run"]);
        command.envs(environment.iter().copied());
        Self::launch(command).expect("the host starts")
    }

    pub fn try_start(&self, arguments: &[&str]) -> Result<Host> {
        let mut command = self.command(&["run"]);
        command.args(arguments);
        Self::launch(command)
    }

    /// Starts the same host on a disk and by a clock that a test moves: see `tests/faulty`.
    pub fn start_faulty(&self, variables: &[(&str, &str)]) -> Result<Host> {
        let mut command = Command::new(built("tidegate-faulty"));
        command.current_dir(self.folder.path()).arg("run").env("NO_COLOR", "1").env_remove("TIDEGATE_TOKEN");
        command.env("TIDEGATE_FAULTY_DISK", self.path("data")).envs(variables.iter().copied());
        Self::launch(command)
    }

    fn launch(mut command: Command) -> Result<Host> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let stderr = BufReader::new(child.stderr.take().context("piped")?);
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let mut host = Host { child, lines, said: Vec::new(), address: String::new() };
        match host.hear("listening on ") {
            Ok(line) => {
                let url = line.split("listening on http://").nth(1).unwrap_or_default();
                host.address = url.split([',', ' ']).next().unwrap_or_default().to_owned();
                Ok(host)
            }
            Err(error) => bail!("{error}\n{}", host.said.join("\n")),
        }
    }

    /// A read-only look into the database, through its documented views.
    pub fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        let path = self.path("data/tidegate.db");
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let database = rusqlite::Connection::open_with_flags(path, flags).expect("database");
        let mut statement = database.prepare(sql).expect(sql);
        let columns = statement.column_count();
        let read = |row: &rusqlite::Row<'_>| (0..columns).map(|i| row.get_ref(i).map(to_json)).collect();
        statement.query_map([], read).expect(sql).map(|row| row.expect(sql)).collect()
    }

    /// The first column of the first row as a number.
    pub fn count(&self, sql: &str) -> i64 {
        self.rows(sql).first().and_then(|row| row.first()?.as_i64()).unwrap_or(0)
    }

    /// The outcomes of a consumer in the order of its calls: attempt, word and what the delivery became.
    pub fn calls(&self, consumer: &str) -> Vec<(i64, String, String)> {
        let sql = format!(
            "SELECT attempt, outcome, state FROM outcomes WHERE consumer = '{consumer}' ORDER BY sequence, round, call"
        );
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.rows(&sql).iter().map(|row| (row[0].as_i64().unwrap_or(0), text(&row[1]), text(&row[2]))).collect()
    }

    /// Outcomes by consumer and word.
    pub fn outcomes(&self) -> BTreeMap<(String, String), i64> {
        let rows = self.rows("SELECT consumer, outcome, count(*) FROM outcomes GROUP BY 1, 2");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        rows.iter().map(|row| ((text(&row[0]), text(&row[1])), row[2].as_i64().unwrap_or(0))).collect()
    }
}

fn to_json(value: rusqlite::types::ValueRef<'_>) -> Value {
    use rusqlite::types::ValueRef;
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => n.into(),
        ValueRef::Real(n) => n.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned().into(),
        ValueRef::Blob(bytes) => bytes.iter().map(|b| format!("{b:02x}")).collect::<String>().into(),
    }
}

/// A running host. It is killed when it goes out of scope.
pub struct Host {
    child: Child,
    lines: mpsc::Receiver<String>,
    said: Vec<String>,
    address: String,
}

impl Host {
    /// Where it listens, as `host:port`.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    pub fn client(&self) -> http::Client {
        http::Client::connect(&self.address).expect("the host answers")
    }

    /// Sends an event; its sequence.
    #[track_caller]
    pub fn emit(&self, id: &str, event_type: &str) -> u64 {
        let event = format!(r#"{{"id":"{id}","source":"shop","type":"{event_type}","data":{{"id":"{id}"}}}}"#);
        let response = self.client().post("/events", event.as_bytes()).expect("the host answers");
        assert_eq!(response.status, 202, "{}", String::from_utf8_lossy(&response.body));
        response.json()["events"][0]["sequence"].as_u64().expect("a sequence")
    }

    /// Waits until the host says this, and gives the line.
    pub fn hear(&mut self, what: &str) -> Result<String> {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(what) {
                        return Ok(line);
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the host ended without saying '{what}'"),
                Err(mpsc::RecvTimeoutError::Timeout) => bail!("the host did not say '{what}'"),
            }
        }
    }

    /// Everything the host has said so far.
    pub fn said(&mut self) -> String {
        self.said.extend(self.lines.try_iter());
        self.said.join("\n")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name}");
    }

    /// Ends the host as a power cut would, as far as a process can.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Asks the host to stop, and waits for its end.
    pub fn stop(mut self) -> (i32, String) {
        self.signal("TERM");
        self.ended_in_place()
    }

    /// Waits for its end.
    pub fn ended(mut self) -> (i32, String) {
        self.ended_in_place()
    }

    fn ended_in_place(&mut self) -> (i32, String) {
        let status = self.child.wait().expect("wait");
        self.said.extend(self.lines.iter());
        (status.code().unwrap_or(-1), self.said.join("\n"))
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    /// Resident memory in bytes, now and at its peak.
    pub fn memory(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        (field("VmRSS:"), field("VmHWM:"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill().is_err();
        let _waited = self.child.wait().is_err();
    }
}
