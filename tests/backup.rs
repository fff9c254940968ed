//! Copies made under load: each holds everything that was acknowledged before it was asked for, and a host goes on from it as
//! from the original.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidegate_tests::Project;
use tidegate_tests::http::Client;

const MANIFEST: &str = "
tidegate: 1
server: { listen: 127.0.0.1:0 }
log: sqlite:data/tidegate.db
defaults: { timeout: 60s }
consumers:
  ledger:
    component: ledger.wasm
    on: order.created
    grants: { publish: [order.booked], state: true }
";

/// How many copies are made. Overridden for long runs.
fn rounds() -> u64 {
    std::env::var("TIDEGATE_BACKUPS").ok().and_then(|n| n.parse().ok()).unwrap_or(20)
}

fn project() -> Project {
    let project = Project::new(MANIFEST);
    project.install("ledger", "ledger.wasm");
    project
}

/// Sends events one after the other until told to stop; the ids that were acknowledged.
fn feed(address: &str, round: u64, stop: &AtomicBool) -> BTreeSet<String> {
    let mut client = Client::connect(address).unwrap();
    let mut accepted = BTreeSet::new();
    while !stop.load(Ordering::SeqCst) {
        let id = format!("o-{round}-{}", accepted.len());
        let event = format!(r#"{{"id":"{id}","source":"shop","type":"order.created","data":{{"n":1}}}}"#);
        assert_eq!(client.post("/events", event.as_bytes()).unwrap().status, 202);
        accepted.insert(id);
    }
    accepted
}

/// Puts a copy where the project's database is.
fn restore(project: &Project, copy: &Path) {
    let data = project.path("data");
    fs::create_dir_all(&data).unwrap();
    for entry in fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("tidegate.db") {
            fs::remove_file(path).unwrap();
        }
    }
    project.ok(&["restore", copy.to_str().unwrap()]);
}

#[test]
fn copies_made_under_load_can_be_gone_on_from() {
    let (original, restored) = (project(), project());
    let host = original.start();
    let mut acknowledged = BTreeSet::new();
    let copy = original.path("copy.db");
    for round in 0..rounds() {
        let stop = Arc::new(AtomicBool::new(false));
        let (address, stopping) = (host.address(), stop.clone());
        let feeder = std::thread::spawn(move || feed(&address, round, &stopping));
        let made = original.json(&["backup", copy.to_str().unwrap(), "--force", "--json"]);
        stop.store(true, Ordering::SeqCst);
        let fed = feeder.join().unwrap();
        assert_eq!(made.len(), 1, "one object");

        restore(&restored, &copy);
        let found = restored.json(&["verify", "--json"]);
        for field in ["lastSequence", "hash", "events", "outcomes", "waiting", "deadLetters"] {
            assert_eq!(found[0][field], made[0][field], "{field}");
        }
        let copied = restored.start();
        copied.emit(&format!("after-{round}"), "order.created");
        restored.ok(&["wait", "--all", "--timeout", "5m"]);
        let (code, said) = copied.stop();
        assert_eq!(code, 0, "{said}");
        check(&restored, &acknowledged);
        acknowledged.extend(fed);
    }
    assert!(acknowledged.len() > 100, "the load was too small to prove anything: {}", acknowledged.len());
    original.ok(&["wait", "--all", "--timeout", "5m"]);
    assert_eq!(host.stop().0, 0);
    check(&original, &acknowledged);
}

/// Everything of `acknowledged` is there, and each order was booked once.
fn check(project: &Project, acknowledged: &BTreeSet<String>) {
    let text = |row: &Vec<serde_json::Value>| row[0].as_str().unwrap().to_owned();
    let orders = project.rows("SELECT id FROM events WHERE type = 'order.created'");
    let ids: BTreeSet<String> = orders.iter().map(text).collect();
    let lost: Vec<_> = acknowledged.difference(&ids).collect();
    assert!(lost.is_empty(), "acknowledged and not in the copy: {lost:?}");
    let orders = ids.len() as i64;
    assert_eq!(project.count("SELECT count(*) FROM events WHERE type = 'order.booked'"), orders);
    assert_eq!(project.count("SELECT count(*) FROM outcomes WHERE state = 'succeeded'"), orders);
    let total = project.json(&["state", "ledger", "--prefix", "total", "--json"]);
    assert_eq!(total[0]["value"], orders.to_string(), "counted once each");
}

#[test]
fn a_backup_is_refused_where_it_could_do_harm() {
    let project = project();
    let host = project.start();
    host.emit("o-1", "order.created");
    project.ok(&["wait", "--timeout", "5m"]);
    let refused = |file: &str, arguments: &[&str]| {
        let output = project.run(&[&["backup", file], arguments].concat());
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused("data/tidegate.db", &["--force"]).contains("is the database itself"));
    assert!(refused("data/tidegate.db-wal", &["--force"]).contains("belongs to it"));
    assert!(refused("tidegate.yaml", &["--force"]).contains("not a copy of a Tidegate database"));
    assert!(refused("none/copy.db", &[]).contains("there is no folder"));
    project.ok(&["backup", "copy.db"]);
    assert!(refused("copy.db", &[]).contains("--force"));
    // A file is written only for whoever has the host's own token, though no tokens are configured.
    let body = format!(r#"{{"path":"{}"}}"#, project.path("stolen.db").display());
    let answer = host.client().post("/backups", body.as_bytes()).unwrap();
    assert_eq!(answer.status, 401);
    assert!(!project.path("stolen.db").exists());
    assert_eq!(host.stop().0, 0);

    // Without a host the file itself is read.
    let made = project.json(&["backup", "later.db", "--json"]);
    assert_eq!(made[0]["events"], 2);
    // The copy of an older day in place of the log is noticed.
    let host = project.start();
    host.emit("o-2", "order.created");
    project.ok(&["wait", "--timeout", "5m"]);
    assert_eq!(host.stop().0, 0);
    for suffix in ["", "-wal", "-shm"] {
        let _absent = fs::remove_file(project.path(&format!("data/tidegate.db{suffix}"))).is_err();
    }
    fs::copy(project.path("later.db"), project.path("data/tidegate.db")).unwrap();
    let output = project.run(&["verify"]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("event 3 is the first that is missing"), "{said}");
    // It is put there by its own command, and only where nothing is.
    let occupied = project.run(&["restore", "later.db"]);
    assert_eq!(occupied.status.code(), Some(4), "{occupied:?}");
    for suffix in ["", "-wal", "-shm"] {
        let _absent = fs::remove_file(project.path(&format!("data/tidegate.db{suffix}"))).is_err();
    }
    project.ok(&["restore", "later.db"]);
    project.ok(&["verify"]);
    let host = project.start();
    let in_use = project.run(&["restore", "later.db"]);
    assert_eq!(in_use.status.code(), Some(5), "{in_use:?}");
    assert_eq!(host.stop().0, 0);
}
