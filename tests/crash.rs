//! `kill -9` at random moments under load, then a restart: what was acknowledged is there once, every delivery has
//! exactly one final outcome, published events and state are neither lost nor doubled.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_tests::dice::Dice;
use tidegate_tests::http::Client;
use tidegate_tests::{Host, Project, until};

const MANIFEST: &str = r#"
tidegate: 1
server: { listen: 127.0.0.1:0 }
log: sqlite:data/tidegate.db
limits: { attempts: 16 }
defaults: { timeout: 10s, retry: { attempts: 5, initial: 10ms, max: 50ms } }
consumers:
  ledger:
    component: ledger.wasm
    on: order.created
    grants: { publish: [order.booked], state: true }
  again:
    component: ledger.wasm
    on: order.booked
    grants: { publish: [order.booked], state: true }
"#;

/// How often the host is killed. Overridden for long runs.
fn rounds() -> u64 {
    std::env::var("TIDEGATE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(100)
}

/// Sends events one after the other until the host is gone; gives the ids that were acknowledged.
fn feed(address: &str, first: u64, acknowledged: &AtomicU64) -> BTreeSet<String> {
    let mut accepted = BTreeSet::new();
    let Ok(mut client) = Client::connect(address) else { return accepted };
    for n in first.. {
        let id = format!("order-{n}");
        let event = format!(r#"{{"id":"{id}","source":"shop","type":"order.created","data":{{"n":{n}}}}}"#);
        match client.post("/events", event.as_bytes()) {
            Ok(response) if response.status == 202 => {
                accepted.insert(id);
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            Ok(response) => panic!("{}: {}", response.status, String::from_utf8_lossy(&response.body)),
            // Killed: what was not answered may or may not be there.
            Err(_) => break,
        }
    }
    accepted
}

fn address(host: &Host) -> String {
    host.address()
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_happens_twice() {
    let mut dice = Dice::new();
    let project = Project::new(MANIFEST);
    project.install("ledger", "ledger.wasm");
    let mut accepted = BTreeSet::new();
    for round in 0..rounds() {
        let host = project.start();
        let acknowledged = Arc::new(AtomicU64::new(0));
        let feeders: Vec<_> = (0..4)
            .map(|feeder| {
                let (address, acknowledged) = (address(&host), acknowledged.clone());
                let first = round * 1_000_000 + feeder * 100_000;
                std::thread::spawn(move || feed(&address, first, &acknowledged))
            })
            .collect();
        // The moment is drawn in acknowledgements, not in time.
        let moment = dice.roll(60);
        until(|| acknowledged.load(Ordering::SeqCst) >= moment);
        host.kill();
        feeders.into_iter().for_each(|feeder| accepted.extend(feeder.join().unwrap()));
    }
    let host = project.start();
    // What is redriven publishes events that come after all that was accepted so far.
    project.ok(&["wait", "--all", "--timeout", "5m"]);
    redrive_crashed(&project);
    project.ok(&["wait", "--all", "--timeout", "5m"]);
    let (code, said) = host.stop();
    assert_eq!(code, 0, "{said}");
    check(&project, &accepted);
}

/// A delivery that was in hand at three of the kills is a dead letter: at each kill, one may have come to that. Nothing of
/// its attempts was kept, so that it does its work once when it is redriven.
fn redrive_crashed(project: &Project) {
    let dead = project.count("SELECT count(*) FROM dead_letters");
    let crashed = project.count("SELECT count(*) FROM dead_letters WHERE cause = 'crashed'");
    assert_eq!(dead, crashed, "nothing else may have died");
    assert!(crashed <= rounds() as i64, "{crashed} crashed in {} kills", rounds());
    if crashed > 0 {
        project.ok(&["dead", "redrive", "--all", "--yes"]);
    }
}

fn check(project: &Project, accepted: &BTreeSet<String>) {
    let text = |row: &Vec<serde_json::Value>| row[0].as_str().unwrap().to_owned();
    let logged: Vec<String> =
        project.rows("SELECT id FROM events WHERE type = 'order.created'").iter().map(text).collect();
    let logged_once: BTreeSet<String> = logged.iter().cloned().collect();
    assert_eq!(logged.len(), logged_once.len(), "an event is there twice");
    let lost: Vec<_> = accepted.difference(&logged_once).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert!(accepted.len() > 100, "the load was too small to prove anything: {}", accepted.len());

    let orders = logged.len() as i64;
    let booked = project.count("SELECT count(*) FROM events WHERE type = 'order.booked'");
    assert_eq!(booked, orders, "published once for each order");
    for consumer in ["ledger", "again"] {
        let finals = format!(
            "SELECT count(*), count(DISTINCT sequence) FROM outcomes WHERE consumer = '{consumer}' AND state IN ('succeeded', 'dead') \
             AND outcome <> 'crashed'"
        );
        let row = &project.rows(&finals)[0];
        assert_eq!(
            (row[0].as_i64(), row[1].as_i64()),
            (Some(orders), Some(orders)),
            "{consumer}: one final outcome each"
        );
        let left = "SELECT count(*) FROM dead_letters WHERE status = 'dead'";
        let dead = project.count(&format!("{left} AND consumer = '{consumer}'"));
        assert_eq!(dead, 0, "{consumer}");
        let total = project.ok(&["state", consumer, "--prefix", "total", "--json"]);
        let total: serde_json::Value = serde_json::from_str(total.trim()).unwrap();
        assert_eq!(total["value"], orders.to_string(), "{consumer}: counted once each");
        let seen =
            project.count(&format!("SELECT count(*) FROM state WHERE consumer = '{consumer}' AND key LIKE 'seen/%'"));
        assert_eq!(seen, orders, "{consumer}: every order left its key");
    }
}
