//! The floor: what a bare sandbox and a bare store cost on this machine, in this build, and what `tidegate bench` measures beside
//! them in the same run, so that a ratio can be quoted. `make bench` runs it.
#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

mod sandbox;
mod store;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

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

    let before = attempt(&guest, &orders)?;
    let rates = store::rates(folder.path(), &orders, 512, ROWS)?;
    let measured = bench(&root, &guest, &folder.path().join("bench"))?;
    let after = attempt(&guest, &orders)?;
    let again = store::rates(folder.path(), &orders, 512, ROWS)?;

    let bare = before.min(after).as_secs_f64() * 1e6;
    let (events, outcomes) = (rates.events.max(again.events), rates.outcomes.max(again.outcomes));
    println!(
        "floor: a bare attempt {bare:.1} µs; the bare store, 512 rows a commit, synchronous=FULL: {events:.0} events/s, {outcomes:.0} outcomes/s"
    );
    let both = 2e6 / (bare + 1e6 / events + 1e6 / outcomes);
    println!("floor: both parts on two cores, if nothing else cost anything: {both:.0} events/s");
    let figure = |name: &str| figure(&measured, name);
    println!(
        "tidegate: settled, streamed in: {:.0} events/s, {:.2} of the floor",
        figure("stream.settled")?,
        figure("stream.settled")? / both
    );
    println!(
        "tidegate: an attempt {:.1} µs, {:.2} times the bare one",
        figure("attempt.p50")?,
        figure("attempt.p50")? / bare
    );
    println!("{measured}");
    Ok(())
}

fn attempt(guest: &Path, orders: &[String]) -> Result<Duration> {
    sandbox::attempt(guest, orders, ROUND).map_err(|error| anyhow::anyhow!("{error:#}"))
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
