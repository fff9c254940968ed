//! The real host on a disk that fails, is full or is slow. What was acknowledged is there after a restart, once.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use tidegate_tests::http::Client;
use tidegate_tests::{Host, Project, until};

const MANIFEST: &str = "
tidegate: 1
server: { listen: 127.0.0.1:0 }
log: sqlite:data/tidegate.db
defaults: { timeout: 60s, retry: { attempts: 3, initial: 10ms, max: 10ms } }
consumers:
  ledger:
    component: ledger.wasm
    on: order.created
    grants: { publish: [order.booked], state: true }
";

/// `SQLITE_IOERR_FSYNC`.
const SYNC_FAILED: &str = "1034";

fn project() -> Project {
    let project = Project::new(MANIFEST);
    project.install("ledger", "ledger.wasm");
    project
}

/// Sends an event; the status, or none if nobody answered.
fn send(client: &mut Client, id: &str) -> Option<u16> {
    let event = format!(r#"{{"id":"{id}","source":"shop","type":"order.created","data":{{}}}}"#);
    client.post("/events", event.as_bytes()).ok().map(|response| response.status)
}

/// Sends until something is refused or nobody answers; what was acknowledged is added.
fn feed(host: &Host, acknowledged: &mut BTreeSet<String>) -> Option<u16> {
    let mut client = Client::connect(&host.address()).ok()?;
    loop {
        let id = format!("o-{}", acknowledged.len());
        match send(&mut client, &id) {
            Some(202) => acknowledged.insert(id),
            refused => return refused,
        };
        assert!(acknowledged.len() < 10_000, "nothing fails");
    }
}

/// Every acknowledged event is there, and each that is there is done once.
fn check(project: &Project, acknowledged: &BTreeSet<String>) {
    let ids = |sql: &str| -> Vec<String> {
        project.rows(sql).iter().map(|row| row[0].as_str().unwrap().to_owned()).collect()
    };
    let logged: BTreeSet<String> = ids("SELECT id FROM events WHERE type = 'order.created'").into_iter().collect();
    let lost: Vec<_> = acknowledged.difference(&logged).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let finals = ids("SELECT id FROM outcomes JOIN events USING (sequence) WHERE state IN ('succeeded', 'dead')");
    assert_eq!(finals.len(), logged.len(), "each has one final outcome");
    assert_eq!(finals.into_iter().collect::<BTreeSet<_>>(), logged);
    let booked = project.count("SELECT count(*) FROM events WHERE type = 'order.booked'");
    assert_eq!(usize::try_from(booked).unwrap(), logged.len(), "published once for each");
}

fn settle(project: &Project) {
    project.ok(&["wait", "--all", "--timeout", "5m"]);
}

#[test]
fn a_failed_sync_ends_the_host_and_loses_nothing() {
    let project = project();
    // So that the database is there, and its first syncs are over.
    assert_eq!(project.start().stop().0, 0);
    let mut acknowledged = BTreeSet::new();
    for nth in [25, 26, 31, 40] {
        let call = format!("sync:{nth}:{SYNC_FAILED}");
        let host = project.start_faulty(&[("TIDEGATE_FAULTY_CALL", &call)]).unwrap();
        let answer = feed(&host, &mut acknowledged);
        assert!(answer.is_none_or(|status| status == 503), "{answer:?}");
        let (code, said) = host.ended();
        assert_eq!(code, 7, "{said}");
        assert!(said.contains("the log failed") && said.contains("what was acknowledged is safe"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        let host = project.start();
        settle(&project);
        check(&project, &acknowledged);
        assert_eq!(host.stop().0, 0);
    }
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
}

#[test]
fn a_disk_without_space_pushes_back_until_there_is_some() {
    let project = project();
    let control = project.path("control");
    let host = project.start_faulty(&[("TIDEGATE_FAULTY_CONTROL", control.to_str().unwrap())]).unwrap();
    let mut client = host.client();
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        for n in 0..20 {
            let id = format!("o-{round}-{n}");
            assert_eq!(send(&mut client, &id), Some(202));
            acknowledged.insert(id);
        }
        fs::write(&control, "full").unwrap();
        for n in 0..10 {
            assert_eq!(send(&mut client, &format!("refused-{round}-{n}")), Some(503));
        }
        assert_eq!(client.get("/stats").unwrap().status, 200, "what is there can be read");
        fs::remove_file(&control).unwrap();
        // The log looks after the disk at its own pace.
        until(|| send(&mut client, &format!("after-{round}")) == Some(202));
        acknowledged.insert(format!("after-{round}"));
    }
    settle(&project);
    check(&project, &acknowledged);
    assert_eq!(project.count("SELECT count(*) FROM events WHERE id LIKE 'refused-%'"), 0);
    let (code, said) = host.stop();
    assert_eq!(code, 0, "{said}");
    let _host = project.start();
    settle(&project);
    check(&project, &acknowledged);
}

#[test]
fn a_slow_sync_keeps_only_those_waiting_who_need_it() {
    let project = project();
    let (control, gate) = (project.path("control"), project.path("control.gate"));
    assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let mut host = project.start_faulty(&[("TIDEGATE_FAULTY_CONTROL", control.to_str().unwrap())]).unwrap();
    assert_eq!(send(&mut host.client(), "before"), Some(202));
    settle(&project);
    fs::write(&control, "hold").unwrap();
    let senders: Vec<_> = (0..4)
        .map(|n| {
            let address = host.address();
            std::thread::spawn(move || send(&mut Client::connect(&address).unwrap(), &format!("held-{n}")))
        })
        .collect();
    host.hear("a sync waits").unwrap();
    for path in ["/livez", "/stats", "/events"] {
        assert_eq!(host.client().get(path).unwrap().status, 200, "{path} does not wait for the disk");
    }
    assert!(senders.iter().all(|sender| !sender.is_finished()), "nothing is acknowledged before it is synced");
    assert_eq!(project.count("SELECT count(*) FROM outcomes"), 1);
    fs::remove_file(&control).unwrap();
    // Open for as long as anybody may be on the way to it.
    let _open = fs::OpenOptions::new().read(true).write(true).open(&gate).unwrap();
    assert!(senders.into_iter().all(|sender| sender.join().unwrap() == Some(202)));
    settle(&project);
    check(&project, &(0..4).map(|n| format!("held-{n}")).chain(["before".to_owned()]).collect());
    assert_eq!(host.stop().0, 0);
}
