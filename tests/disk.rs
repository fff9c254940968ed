//! A disk that is full or cannot be written. The disk is a small file system in memory, mounted where nobody else sees it:
//! each test runs itself again in a name space of its own.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tidegate_tests::Project;
use tidegate_tests::hand::{Asked, Hand};
use tidegate_tests::http::Client;

const INSIDE: &str = "TIDEGATE_TEST_MOUNTS";

const MANIFEST: &str = "
tidegate: 1
server: { listen: 127.0.0.1:0, grace: 1s }
log: sqlite:data/tidegate.db
defaults: { timeout: 60s, retry: { attempts: 3, initial: 10ms, max: 10ms } }
consumers:
  ledger:
    component: ledger.wasm
    on: order.created
    grants: { publish: [order.booked], state: true }
";

#[expect(clippy::print_stderr, reason = "whoever runs the tests must see what was not tested")]
fn not_tested(name: &str) {
    eprintln!("\n*** NOT TESTED: {name}, because `unshare -rm` is not permitted here ***\n");
}

/// Runs the test of this name where it may mount. False: this is the outer run, and it is over.
fn may_mount(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let allowed = Command::new("unshare").args(["-rm", "true"]).output();
    if !allowed.as_ref().is_ok_and(|output| output.status.success()) {
        let ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!ci, "this machine lets nobody mount in a name space of his own: {allowed:?}");
        not_tested(name);
        return false;
    }
    let me = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .arg("-rm")
        .arg(me)
        .args(["--exact", &format!("disk::{name}"), "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

fn mount(arguments: &[&str]) {
    let output = Command::new("mount").args(arguments).output().unwrap();
    assert!(output.status.success(), "mount {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn project(size: &str) -> (Project, String) {
    let (project, data) = disk(size, MANIFEST);
    project.install("ledger", "ledger.wasm");
    (project, data)
}

/// Of so many bytes, with the project's data on it.
fn disk(size: &str, manifest: &str) -> (Project, String) {
    let project = Project::new(manifest);
    let data = project.path("data");
    fs::create_dir(&data).unwrap();
    let data = data.to_str().unwrap().to_owned();
    mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", &data]);
    (project, data)
}

/// Sends an event of so many bytes; the status, and the answer's head and body.
fn send(client: &mut Client, id: &str, bytes: usize) -> (u16, String) {
    let text = "x".repeat(bytes);
    let event = format!(r#"{{"id":"{id}","source":"shop","type":"order.created","data":{{"text":"{text}"}}}}"#);
    let response = client.post("/events", event.as_bytes()).unwrap();
    let said = response.headers.to_lowercase() + &String::from_utf8_lossy(&response.body);
    (response.status, said)
}

/// Sends until the disk is full; what was acknowledged is added.
fn fill(client: &mut Client, acknowledged: &mut BTreeSet<String>, bytes: usize) -> String {
    loop {
        let id = format!("o-{bytes}-{}", acknowledged.len());
        match send(client, &id, bytes) {
            (202, _) => acknowledged.insert(id),
            (503, said) => return said,
            (status, said) => panic!("{status}: {said}"),
        };
        assert!(acknowledged.len() < 10_000, "the disk does not fill");
    }
}

#[test]
fn a_full_disk_pushes_back_loses_nothing_and_is_got_over() {
    if !may_mount("a_full_disk_pushes_back_loses_nothing_and_is_got_over") {
        return;
    }
    let (project, data) = project("32m");
    let ballast = format!("{data}/ballast");
    fs::write(&ballast, vec![1; 16 << 20]).unwrap();
    let mut host = project.start();
    let mut client = host.client();
    let mut acknowledged = BTreeSet::new();
    for bytes in [200_000, 20_000, 1_000] {
        let said = fill(&mut client, &mut acknowledged, bytes);
        assert!(said.contains("retry-after:"), "{said}");
        assert!(said.contains("urn:tidegate:problem:disk-full"), "{said}");
    }
    assert!(acknowledged.len() > 10, "{}", acknowledged.len());
    assert!(host.alive());
    let events = client.get("/stats").unwrap();
    assert_eq!(events.status, 200, "what is there can be read");
    assert_eq!(client.get("/livez").unwrap().status, 200);

    fs::remove_file(&ballast).unwrap();
    // The log looks after the disk at its own pace.
    let mut tries = 0;
    while send(&mut client, "after", 10).0 != 202 {
        tries += 1;
        assert!(tries < 100_000, "there is room, and nothing is accepted: {}", host.said());
    }
    acknowledged.insert("after".to_owned());
    project.ok(&["wait", "--all", "--timeout", "5m"]);
    check(&project, &acknowledged);
    let (code, said) = host.stop();
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("panicked"), "{said}");
    let host = project.start();
    project.ok(&["wait", "--all", "--timeout", "5m"]);
    check(&project, &acknowledged);
    assert_eq!(host.stop().0, 0);
}

/// Nothing is accepted any more: what was accepted is finished all the same.
#[test]
fn what_is_under_way_is_finished_on_a_full_disk() {
    if !may_mount("what_is_under_way_is_finished_on_a_full_disk") {
        return;
    }
    let (project, data) = project("64m");
    let ballast = Path::new(&data).join("tidegate.db.ballast");
    let host = project.start();
    let mut client = host.client();
    assert_eq!(fs::metadata(&ballast).unwrap().len(), 4 << 20, "a sixteenth of the disk");
    project.ok(&["consumers", "pause", "ledger"]);
    let mut acknowledged = BTreeSet::new();
    let said = fill(&mut client, &mut acknowledged, 100_000);
    assert!(said.contains("urn:tidegate:problem:disk-full"), "{said}");
    assert!(!ballast.exists());
    assert_eq!(send(&mut client, "small", 10).0, 503, "the room is for what is under way");
    project.ok(&["consumers", "resume", "ledger"]);
    project.ok(&["wait", "--all", "--timeout", "5m"]);
    check(&project, &acknowledged);
    // The other connection may have been idle for too long.
    let mut client = host.client();
    assert_eq!(send(&mut client, "small", 10).0, 503);
    let metrics = client.get("/metrics").unwrap();
    assert!(String::from_utf8_lossy(&metrics.body).contains("\ntidegate_ballast_bytes 0\n"));
    let (code, said) = host.stop();
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_host_starts_on_a_full_disk_with_what_the_ballast_took() {
    if !may_mount("a_host_starts_on_a_full_disk_with_what_the_ballast_took") {
        return;
    }
    let (project, data) = project("64m");
    let (ballast, filler) = (Path::new(&data).join("tidegate.db.ballast"), Path::new(&data).join("filler"));
    let host = project.start();
    let mut acknowledged = BTreeSet::from(["o-1".to_owned()]);
    assert_eq!(send(&mut host.client(), "o-1", 10).0, 202);
    project.ok(&["wait", "--all", "--timeout", "5m"]);
    assert_eq!(host.stop().0, 0);
    assert!(ballast.exists());
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 4_096]).is_ok() {}
    // What is open keeps its room although it is removed.
    drop(file);

    let mut host = project.start();
    let mut client = host.client();
    let (status, said) = send(&mut client, "o-2", 10);
    assert!(status == 503 && said.contains("urn:tidegate:problem:disk-full"), "{status} {said}");
    assert!(host.alive() && !ballast.exists());
    fs::remove_file(&filler).unwrap();
    let mut tries = 0;
    while send(&mut client, "after", 10).0 != 202 {
        tries += 1;
        assert!(tries < 100_000, "there is room, and nothing is accepted: {}", host.said());
    }
    acknowledged.insert("after".to_owned());
    assert!(ballast.exists(), "it is there again");
    project.ok(&["wait", "--all", "--timeout", "5m"]);
    check(&project, &acknowledged);
    assert_eq!(host.stop().0, 0);
}

/// Outcomes that the log cannot take keep no host: these attempts are made again.
#[test]
fn a_stop_on_a_full_disk_ends() {
    if !may_mount("a_stop_on_a_full_disk_ends") {
        return;
    }
    let hand = Hand::new();
    let consumer = hand.consumer("worker", "order.created", "    timeout: 60s\n    concurrency: 16\n");
    let (project, data) = disk(
        "64m",
        &format!(
            "tidegate: 1\nserver: {{ listen: 127.0.0.1:0, grace: 1s }}\nlog: sqlite:data/tidegate.db\nconsumers:\n{consumer}"
        ),
    );
    project.install("puppet", "puppet.wasm");
    let host = project.start();
    let mut client = host.client();
    (0..16).for_each(|n| assert_eq!(send(&mut client, &format!("o-{n}"), 10).0, 202));
    let asked: Vec<_> = (0..16).map(|_| hand.asked()).collect();
    let mut file = fs::File::create(Path::new(&data).join("filler")).unwrap();
    let mut take_all = || while file.write_all(&[1; 4_096]).is_ok() {};
    take_all();
    assert_eq!(send(&mut client, "large", 900_000).0, 503);
    // Somebody else also takes what the ballast gave back.
    take_all();
    let publish = vec![json!(["order.booked", "x".repeat(100_000)]); 8];
    asked.into_iter().for_each(|asked| asked.answer(&json!({ "publish": publish, "tell": true })));
    let published: Vec<_> = (0..16).map(|_| hand.asked()).collect();
    published.into_iter().for_each(Asked::done);
    let (code, said) = host.stop();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("these are made again after the next start"), "{said}");
    fs::remove_file(Path::new(&data).join("filler")).unwrap();
    let host = project.start();
    let settled = project.count("SELECT count(*) FROM outcomes");
    assert!(settled < 16, "there was room for all of them");
    (settled..16).for_each(|_| hand.asked().done());
    project.ok(&["wait", "--all", "--timeout", "5m"]);
    assert_eq!(project.count("SELECT count(*) FROM outcomes WHERE outcome = 'done' AND attempt = 1"), 16);
    assert_eq!(host.stop().0, 0);
}

fn check(project: &Project, acknowledged: &BTreeSet<String>) {
    let ids = |sql: &str| -> Vec<String> {
        project.rows(sql).iter().map(|row| row[0].as_str().unwrap().to_owned()).collect()
    };
    let logged: BTreeSet<String> = ids("SELECT id FROM events WHERE type = 'order.created'").into_iter().collect();
    assert_eq!(&logged, acknowledged, "what was acknowledged is there, and nothing else");
    let done = ids("SELECT id FROM outcomes JOIN events USING (sequence) WHERE outcome = 'done'");
    assert_eq!(done.len(), acknowledged.len(), "each is done once");
    let booked = project.count("SELECT count(*) FROM events WHERE type = 'order.booked'");
    assert_eq!(usize::try_from(booked).unwrap(), acknowledged.len());
}

#[test]
fn a_disk_that_cannot_be_written_is_named() {
    if !may_mount("a_disk_that_cannot_be_written_is_named") {
        return;
    }
    let (project, data) = project("32m");
    let refused = || {
        let output = project.run(&["run"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{said}");
        assert!(said.contains(&data) && said.to_lowercase().contains("read-only"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    };
    mount(&["-o", "remount,ro", &data]);
    refused();
    // With a database there already.
    mount(&["-o", "remount,rw", &data]);
    let host = project.start();
    assert_eq!(send(&mut host.client(), "o-1", 10).0, 202);
    project.ok(&["wait", "--all", "--timeout", "5m"]);
    assert_eq!(host.stop().0, 0);
    mount(&["-o", "remount,ro", &data]);
    refused();
    assert_eq!(project.json(&["events", "--type", "order.created", "--json"]).len(), 1, "it can still be read");
}
