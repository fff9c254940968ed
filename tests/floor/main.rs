//! The floor: what a bare sandbox and a bare store cost on this machine, in this build, and what `tidegate bench` measures beside
//! them in the same run, so that a ratio can be quoted. `make bench` runs it.
#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

mod sandbox;
mod store;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// Attempts and rows of one round.
const ROUND: u32 = 20_000;
const ROWS: u32 = 200_000;

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let guest = root.join("target/guests/wasm32-wasip2/release/order.wasm");
    ensure!(guest.exists(), "{} is missing; run `make guests`", guest.display());
    let folder = tempfile::tempdir_in(root.join("target"))?;
    let orders: Vec<String> = (0..1_000).map(|n| order(n).to_string()).collect();

    let bare = sandbox::Bare::new(&guest, &orders).map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let before = attempt(&bare)?;
    let rates = store::rates(folder.path(), &orders, 512, ROWS)?;
    let first = together(&bare, folder.path(), &orders)?;
    let measured = bench(&root, &guest, &folder.path().join("bench"))?;
    let after = attempt(&bare)?;
    let again = store::rates(folder.path(), &orders, 512, ROWS)?;
    let second = together(&bare, folder.path(), &orders)?;

    let cost = before.min(after).as_secs_f64() * 1e6;
    let (events, outcomes) = (rates.events.max(again.events), rates.outcomes.max(again.outcomes));
    println!(
        "floor: a bare attempt {cost:.1} µs; the bare store, 512 rows a commit, synchronous=FULL: {events:.0} events/s, {outcomes:.0} outcomes/s"
    );
    let both = first.max(second);
    println!("floor: both parts at once, on all processors, and nothing else: {both:.0} events/s");
    let figure = |name: &str| figure(&measured, name);
    println!(
        "tidegate: settled, streamed in: {:.0} events/s, {:.2} of the floor",
        figure("stream.settled")?,
        figure("stream.settled")? / both
    );
    println!(
        "tidegate: an attempt {:.1} µs, {:.2} times the bare one",
        figure("attempt.p50")?,
        figure("attempt.p50")? / cost
    );
    println!("{measured}");
    Ok(())
}

fn attempt(bare: &sandbox::Bare) -> Result<Duration> {
    bare.attempt(ROUND).map_err(|error| anyhow::anyhow!("{error:#}"))
}

/// Events a second if each is one bare attempt and two rows: attempts on as many threads as there are processors, and the store on one
/// more. What processors that share a core take from one another is in it.
fn together(bare: &sandbox::Bare, folder: &Path, orders: &[String]) -> Result<f64> {
    let threads = std::thread::available_parallelism().map_or(1, |many| u32::try_from(many.get()).unwrap_or(1));
    let start = Instant::now();
    std::thread::scope(|scope| {
        let (done, told) = std::sync::mpsc::channel();
        let store = scope.spawn(move || store::follow(folder, orders, 512, &told));
        let attempts: Vec<_> = (0..threads)
            .map(|_| {
                let done = done.clone();
                scope.spawn(move || bare.attempts(ROUND, || assert!(done.send(()).is_ok(), "the store has ended")))
            })
            .collect();
        drop(done);
        for attempts in attempts {
            let ended = attempts.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
            ended.map_err(|error| anyhow::anyhow!("{error:#}"))?;
        }
        store.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
    })?;
    Ok(f64::from(threads * ROUND) / start.elapsed().as_secs_f64())
}

/// What `tidegate bench` says of the same guest.
fn bench(root: &Path, guest: &Path, folder: &Path) -> Result<Value> {
    let binary =
        std::env::var_os("TIDEGATE_BINARY").map_or_else(|| root.join("target/release/tidegate"), PathBuf::from);
    let mut command = Command::new(&binary);
    command.arg("bench").arg("--component").arg(guest).arg("--folder").arg(folder).arg("--json");
    let output =
        command.args(std::env::args().skip(1)).output().with_context(|| format!("run {}", binary.display()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("read what it measured")
}

fn figure(measured: &Value, name: &str) -> Result<f64> {
    let figures = measured.get("figures").and_then(Value::as_array).into_iter().flatten();
    let mut named = figures.filter(|figure| figure.get("name").and_then(Value::as_str) == Some(name));
    named.next().and_then(|figure| figure.get("value")?.as_f64()).with_context(|| format!("{name} was not measured"))
}

/// An order of some 450 bytes, as `tidegate bench` sends them.
fn order(n: u32) -> Value {
    let item =
        |k: u32| json!({ "sku": format!("SKU-{:05}", n + k), "quantity": k + 1, "price": format!("{}.99", k * 7) });
    json!({
        "orderId": format!("ord-{n}"), "customerId": format!("cus-{}", n % 500), "total": format!("{}.5", n % 1_000),
        "currency": "EUR", "items": (0..7).map(item).collect::<Vec<_>>(),
    })
}
