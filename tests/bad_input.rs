//! What a tired person or a hostile client gets wrong: never a panic, never a lost event, always a message that says
//! where, what and what next.

use std::fs;

use tidegate_tests::{Project, guest};

const MANIFEST: &str = r#"
tidegate: 1
server: { listen: 127.0.0.1:0 }
log: sqlite:data/tidegate.db
consumers:
  ledger:
    component: ledger.wasm
    on: order.created
    grants: { publish: [order.booked], state: true }
"#;

fn project() -> Project {
    let project = Project::new(MANIFEST);
    project.install("ledger", "ledger.wasm");
    project
}

/// The message of a host that does not start, and its exit code.
fn refusal(project: &Project) -> (i32, String) {
    let output = project.run(&["run"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    (output.status.code().unwrap(), said)
}

#[track_caller]
fn says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "'{word}' is not in:\n{said}");
    }
}

#[test]
fn events_that_are_not_are_refused_with_a_place() {
    let project = project();
    let host = project.start();
    let mut client = host.client();
    let big =
        |n: usize| format!(r#"{{"type":"order.created","source":"s","data":"{}"}}"#, "x".repeat(n - 2)).into_bytes();
    let cases: Vec<(Vec<u8>, u16, &[&str])> = vec![
        (br#"{"source":"s","data":{}}"#.to_vec(), 400, &["type"]),
        (br#"{"type":"Not A Type","source":"s"}"#.to_vec(), 400, &["type"]),
        (br#"{"type":"order.created","source":"s","dta":{}}"#.to_vec(), 400, &["dta", "data"]),
        (b"{\"type\":\"order.created\",\"source\":\"\xff\"}".to_vec(), 400, &["UTF-8"]),
        (b"{".to_vec(), 400, &["JSON"]),
        (br#"{"type":"tidegate.dead-lettered","source":"s"}"#.to_vec(), 400, &["tidegate"]),
        (big((1 << 20) + 1), 413, &["1048576"]),
    ];
    for (body, status, words) in cases {
        let response = client.post("/events", &body).unwrap();
        let text = String::from_utf8_lossy(&response.body).into_owned();
        assert_eq!(response.status, status, "{text}");
        assert!(response.headers.to_lowercase().contains("application/problem+json"), "{}", response.headers);
        says(&text, words);
        client = host.client();
    }
    assert_eq!(client.post("/events", &big(1 << 20)).unwrap().status, 202, "exactly the limit is allowed");
    assert_eq!(project.count("SELECT count(*) FROM events"), 1);
}

#[test]
fn an_id_comes_twice() {
    let project = project();
    let host = project.start();
    let mut client = host.client();
    let event = br#"{"id":"a","type":"order.created","source":"s","data":{"n":1}}"#;
    assert_eq!(client.post("/events", event).unwrap().json()["events"][0]["duplicate"], false);
    assert_eq!(client.post("/events", event).unwrap().json()["events"][0]["duplicate"], true);
    let other = br#"{"id":"a","type":"order.created","source":"s","data":{"n":2}}"#;
    assert_eq!(client.post("/events", other).unwrap().status, 409);
    project.ok(&["wait", "--timeout", "5m"]);
    assert_eq!(project.count("SELECT count(*) FROM outcomes WHERE consumer = 'ledger'"), 1);
}

#[test]
fn a_second_host_on_one_database_is_refused() {
    let project = project();
    let host = project.start();
    let (code, said) = refusal(&project);
    assert_ne!(code, 0);
    says(&said, &["in use", &host.pid().to_string()]);
    // The same file by another name.
    std::os::unix::fs::symlink(project.path("data"), project.path("alias")).unwrap();
    project.write("tidegate.yaml", MANIFEST.replace("data/tidegate.db", "alias/tidegate.db"));
    says(&refusal(&project).1, &["in use"]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let project = project();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    project.write("tidegate.yaml", MANIFEST.replace("127.0.0.1:0", &address));
    let (code, said) = refusal(&project);
    assert_ne!(code, 0);
    says(&said, &[&address, "server.listen"]);
}

#[test]
fn a_database_that_cannot_be_served_is_refused_with_a_reason() {
    let project = project();
    project.start().stop();
    let path = project.path("data/tidegate.db");
    let good = fs::read(&path).unwrap();

    let newer = rusqlite::Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 9_999).unwrap();
    drop(newer);
    says(&refusal(&project).1, &["9999", "newer"]);

    fs::write(&path, b"this is no database at all, only a text that somebody saved here by mistake").unwrap();
    says(&refusal(&project).1, &["tidegate.db"]);

    fs::write(&path, &good).unwrap();
    project.start().stop();
}

#[test]
fn a_log_that_has_lost_events_is_not_served() {
    let project = project();
    let host = project.start();
    let mut client = host.client();
    for n in 0..5 {
        let event = format!(r#"{{"id":"{n}","type":"order.created","source":"s","data":{{}}}}"#);
        assert_eq!(client.post("/events", event.as_bytes()).unwrap().status, 202);
    }
    project.ok(&["wait", "--timeout", "5m"]);
    assert_eq!(host.stop().0, 0);
    let path = project.path("data/tidegate.db");
    let copy = project.path("copy.db");
    fs::copy(&path, &copy).unwrap();
    let host = project.start();
    let event = br#"{"id":"later","type":"order.created","source":"s","data":{}}"#;
    assert_eq!(host.client().post("/events", event).unwrap().status, 202);
    let first_lost = project.count("SELECT sequence FROM events WHERE id = 'later'");
    assert_eq!(host.stop().0, 0);
    // Yesterday's copy is put back.
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(project.path(&format!("data/tidegate.db{suffix}"))).ok();
    }
    fs::copy(&copy, &path).unwrap();
    let (code, said) = refusal(&project);
    assert_ne!(code, 0);
    says(&said, &[&first_lost.to_string(), "--accept-loss-from"]);
    let host = project.try_start(&["--accept-loss-from", &first_lost.to_string()]).unwrap();
    assert_eq!(host.client().post("/events", event).unwrap().status, 202);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let project = project();
    project.write("tidegate.yaml", MANIFEST.replace("sqlite:data/", "sqlite:/proc/tidegate-test/"));
    let (code, said) = refusal(&project);
    assert_ne!(code, 0);
    says(&said, &["/proc/tidegate-test"]);
}

#[test]
fn components_that_are_none_are_refused_by_name() {
    let project = project();
    // What the host itself compiles, saved under the name of a component.
    let native = project.feed(&["compile-component"], &fs::read(guest("ledger")).unwrap()).stdout;
    assert!(native.starts_with(b"\x7fELF"));
    let cases: [(&str, &[u8], &[&str]); 5] = [
        ("core.wasm", b"\0asm\x01\0\0\0", &["core module", "wasm32-wasip2"]),
        ("text.wasm", b"(component)", &["not WebAssembly in binary form", ".wat"]),
        ("native.wasm", &native, &["compiled machine code", "never run"]),
        ("cut.wasm", &fs::read(guest("ledger")).unwrap()[..5_000], &["does not compile"]),
        ("missing.wasm", b"", &["is not there", "missing.wasm"]),
    ];
    for (name, bytes, words) in cases {
        if !bytes.is_empty() {
            project.write(name, bytes);
        }
        project.write("tidegate.yaml", MANIFEST.replace("ledger.wasm", name));
        let output = project.run(&["check"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        says(&said, words);
        says(&said, &["tidegate.yaml:7", "error[TG"]);
    }
}

#[test]
fn an_ungranted_import_is_refused_with_the_grant_to_add() {
    let project = project();
    project.write("tidegate.yaml", MANIFEST.replace(", state: true", ""));
    let output = project.run(&["check"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    says(&said, &["tidegate:consumer/state", "grants", "state: true"]);
}

#[test]
fn a_component_that_cannot_be_started_is_refused_with_how_it_ended() {
    let project = project();
    for (name, words) in [("start-trap", ["trapped", "unreachable"]), ("start-spin", ["out-of-fuel", "fuel"])] {
        let file = format!("{}.wasm", name.replace('-', "_"));
        project.install(&name.replace('-', "_"), &file);
        project.write("tidegate.yaml", MANIFEST.replace("ledger.wasm", &file));
        let output = project.run(&["check"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        says(&said, &["error[TG414]", "fails when it is started"]);
        says(&said, &words);
    }
}

#[test]
fn a_consumer_that_dies_of_dead_letters_does_so_only_so_often() {
    let project = Project::new(
        r#"
tidegate: 1
server: { listen: 127.0.0.1:0 }
log: sqlite:data/tidegate.db
consumers:
  hopeless:
    component: hostile.wasm
    on: [attack.begun, tidegate.dead-lettered]
    chain-depth: 3
    retry: { attempts: 1 }
    grants: { publish: [order.**], state: true, http: [http://127.0.0.1:9], config: {}, secrets: {} }
"#,
    );
    project.install("hostile", "hostile.wasm");
    let host = project.start();
    project.ok(&["emit", "attack.begun", r#"{"mode":"panic"}"#]);
    // Each link of the chain is accepted when the one before is settled.
    for _ in 0..6 {
        project.ok(&["wait", "--timeout", "5m"]);
    }
    // The event and three deaths that follow from one another; the last one's event is recorded and goes to nobody.
    let dead = project.count("SELECT count(*) FROM dead_letters");
    assert_eq!(dead, 4, "{:?}", project.rows("SELECT outcome, reason FROM outcomes"));
    assert_eq!(project.count("SELECT count(*) FROM events WHERE type = 'tidegate.dead-lettered'"), 4);
    assert_eq!(host.stop().0, 0);
}
