//! Editing the manifest and the components while the host runs.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidegate_tests::{Project, guest};

fn manifest(timeout: u32) -> String {
    format!(
        r#"
tidegate: 1
server: {{ listen: 127.0.0.1:0 }}
log: sqlite:data/tidegate.db
folder: drop
consumers:
  ledger:
    component: ledger.wasm
    on: order.created
    timeout: {timeout}s
    grants: {{ publish: [order.booked], state: true }}
"#
    )
}

fn project() -> Project {
    let project = Project::new(&manifest(10));
    project.install("ledger", "ledger.wasm");
    std::fs::create_dir(project.path("drop")).unwrap();
    project
}

fn order(n: u64) -> Vec<u8> {
    format!(r#"{{"id":"order-{n}","source":"shop","type":"order.created","data":{{"n":{n}}}}}"#).into_bytes()
}

#[test]
fn twenty_reloads_under_load_lose_and_double_nothing() {
    let project = project();
    let mut host = project.start();
    let done = Arc::new(AtomicBool::new(false));
    let (stop, mut client) = (done.clone(), host.client());
    let feeder = std::thread::spawn(move || {
        let mut n = 0;
        while !stop.load(Ordering::SeqCst) {
            n += 1;
            assert_eq!(client.post("/events", &order(n)).unwrap().status, 202);
        }
        n
    });
    for round in 0..20 {
        if round == 10 {
            project.write("ledger.wasm", b"\0asm not a component at all");
            let refused = host.hear("error[").unwrap();
            assert!(refused.contains("TG"), "{refused}");
            let output = project.run(&["reload"]);
            assert!(!output.status.success(), "a broken component is refused");
            project.install("ledger", "ledger.wasm");
        } else {
            project.write("tidegate.yaml", manifest(11 + round));
            host.hear(" is live").unwrap();
        }
    }
    done.store(true, Ordering::SeqCst);
    let sent = i64::try_from(feeder.join().unwrap()).unwrap();
    project.ok(&["wait", "--timeout", "5m"]);
    assert_eq!(project.count("SELECT count(*) FROM outcomes WHERE consumer = 'ledger' AND outcome = 'done'"), sent);
    assert_eq!(project.count("SELECT count(DISTINCT sequence) FROM outcomes WHERE consumer = 'ledger'"), sent);
    assert_eq!(project.count("SELECT count(*) FROM events WHERE type = 'order.booked'"), sent);
    let generations = project.count("SELECT count(DISTINCT generation) FROM outcomes");
    assert!(generations > 1, "the load went on over the reloads");
}

#[test]
fn a_bad_save_changes_nothing_and_is_shown_and_a_good_one_follows() {
    let project = project();
    let mut host = project.start();
    project.write("tidegate.yaml", manifest(10).replace("timeout", "timeot"));
    let line = host.hear("error[").unwrap();
    assert!(line.contains("timeot"), "{line}");
    assert_eq!(host.client().post("/events", &order(1)).unwrap().status, 202);
    project.ok(&["wait", "--timeout", "5m"]);
    assert_eq!(project.count("SELECT count(*) FROM outcomes WHERE outcome = 'done'"), 1);

    // Gone and empty are not "delete everything".
    std::fs::remove_file(project.path("tidegate.yaml")).unwrap();
    host.hear("error[").unwrap();
    let output = project.run(&["reload"]);
    assert!(!output.status.success());
    project.write("tidegate.yaml", "");
    host.hear("error[").unwrap();
    assert!(host.alive());
    project.write("tidegate.yaml", manifest(12));
    host.hear("generation 2 is live").unwrap();
}

#[test]
fn a_removed_consumer_keeps_its_work_paused_and_that_is_said() {
    let project = project();
    let mut host = project.start();
    for n in 1..=3 {
        let later = br#""notBefore":"2099-01-01T00:00:00Z","data""#;
        let event = String::from_utf8(order(n)).unwrap().replace("\"data\"", std::str::from_utf8(later).unwrap());
        assert_eq!(host.client().post("/events", event.as_bytes()).unwrap().status, 202);
    }
    let deployed = project.json(&["consumers", "--json"]);
    let digest = deployed[0]["component"].as_str().unwrap();
    assert_eq!(digest.len(), 64, "known before its first attempt: {deployed:?}");
    project.write("tidegate.yaml", "tidegate: 1\nserver: { listen: 127.0.0.1:0 }\nlog: sqlite:data/tidegate.db\n");
    let said = host.hear("removed ledger").unwrap();
    assert!(said.contains("3 of its deliveries wait"), "{said}");
    let removed = project.json(&["consumers", "--json"]);
    assert_eq!((&removed[0]["status"], &removed[0]["depth"]), (&"removed".into(), &3.into()), "{removed:?}");
    assert_eq!(removed[0].get("component"), None, "it has attempted nothing: {removed:?}");

    // The next start says so as well, and what comes back goes on.
    assert_eq!(host.stop().0, 0);
    let mut host = project.start();
    host.hear("3 deliveries of ledger wait").unwrap();
    project.write("tidegate.yaml", manifest(10));
    project.ok(&["reload"]);
    assert_eq!(project.json(&["consumers", "--json"])[0]["status"], "active");
}

#[test]
fn a_consumer_dropped_into_the_folder_runs() {
    let project = project();
    let mut host = project.start();
    project.install("ledger", "drop/order.paid/noted.wasm");
    let refused = host.hear("noted").unwrap();
    assert!(refused.contains("publish") || refused.contains("state"), "it needs grants, and says which: {refused}");
    let granted = manifest(10) + "  noted:\n    grants: { publish: [order.booked], state: true }\n";
    project.write("tidegate.yaml", granted);
    host.hear("added noted").unwrap();
    let event = br#"{"id":"p-1","source":"shop","type":"order.paid","data":{}}"#;
    assert_eq!(host.client().post("/events", event).unwrap().status, 202);
    project.ok(&["wait", "--timeout", "5m"]);
    assert_eq!(project.count("SELECT count(*) FROM outcomes WHERE consumer = 'noted' AND outcome = 'done'"), 1);
}

#[test]
fn a_component_half_written_is_never_run_and_the_whole_one_is() {
    let project = project();
    let mut host = project.start();
    let mut bytes = std::fs::read(guest("ledger")).unwrap();
    // A custom section at the end: other bytes, the same behaviour.
    bytes.extend_from_slice(&[0, 5, 4, b'n', b'o', b't', b'e']);
    let path = project.path("ledger.wasm");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    host.hear("error[").unwrap();
    std::fs::write(&path, &bytes).unwrap();
    host.hear("generation 2 is live: changed ledger").unwrap();
    assert_eq!(host.client().post("/events", &order(1)).unwrap().status, 202);
    project.ok(&["wait", "--timeout", "5m"]);
    assert_eq!(project.count("SELECT count(*) FROM outcomes WHERE outcome = 'done' AND generation = 2"), 1);
}

/// Puts something in the place of a component that cannot be read as one: a word for it, and what puts it there.
type Obstacle = (&'static str, fn(&Path));

const OBSTACLES: [Obstacle; 5] = [
    ("a folder", |path| std::fs::create_dir(path).unwrap()),
    ("a link to nowhere", |path| symlink("nowhere.wasm", path).unwrap()),
    ("a link to a file of the kernel's that blocks", |path| symlink("/proc/kmsg", path).unwrap()),
    ("a pipe that nobody writes to", |path| {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }),
    ("a file of somebody else's", |path| {
        std::fs::write(path, "secret").unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
    }),
];

#[test]
fn a_component_that_cannot_be_read_is_refused_and_the_last_good_generation_goes_on() {
    let project = project();
    let path = project.path("ledger.wasm");
    let host = project.start();
    for (n, (what, put)) in (1..).zip(OBSTACLES) {
        std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path)).unwrap();
        put(&path);
        let code = match what {
            "a link to nowhere" => "TG401",
            "a file of somebody else's" if std::fs::read(&path).is_err() => "TG402",
            // Nobody keeps root from reading it, and it is no component.
            "a file of somebody else's" => "TG407",
            _ => "TG403",
        };
        for command in ["check", "reload"] {
            let output = project.run(&[command]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
            assert!(!output.status.success() && !said.contains("panicked"), "{command} with {what}: {said}");
            assert!(said.contains(code) && said.contains("ledger.wasm"), "{command} with {what}: {said}");
        }
        let response = host.client().post("/events", &order(n)).unwrap();
        assert_eq!(response.status, 202, "{what}");
        host.client().settled("ledger", response.json()["events"][0]["sequence"].as_u64().unwrap());
    }
    assert_eq!(project.count("SELECT count(*) FROM outcomes WHERE outcome = 'done' AND generation = 1"), 5);
    assert_eq!(host.stop().0, 0);
    let refused = project.try_start(&[]).err().map(|error| error.to_string()).unwrap();
    assert!(refused.contains("ledger.wasm") && refused.contains("error["), "{refused}");

    std::fs::remove_file(&path).unwrap();
    project.install("ledger", "ledger.wasm");
    assert_eq!(project.start().stop().0, 0);
}

#[test]
fn a_config_map_swap_is_noticed() {
    let project = Project::new("");
    for (version, timeout) in [("v1", 10), ("v2", 20)] {
        project.write(&format!("{version}/tidegate.yaml"), manifest(timeout));
        project.install("ledger", &format!("{version}/ledger.wasm"));
    }
    std::fs::create_dir(project.path("drop")).unwrap();
    std::fs::remove_file(project.path("tidegate.yaml")).unwrap();
    symlink("v1", project.path("..data")).unwrap();
    symlink("..data/tidegate.yaml", project.path("tidegate.yaml")).unwrap();
    symlink("..data/ledger.wasm", project.path("ledger.wasm")).unwrap();
    let mut host = project.start();
    symlink("v2", project.path("..data_tmp")).unwrap();
    std::fs::rename(project.path("..data_tmp"), project.path("..data")).unwrap();
    host.hear("generation 2 is live").unwrap();
}

#[test]
fn a_hangup_and_the_command_reload_as_well() {
    let project = project();
    let mut host = project.start();
    let unchanged = project.ok(&["reload"]);
    assert!(unchanged.contains("1"), "{unchanged}");
    project.write("tidegate.yaml", manifest(30));
    project.ok(&["reload"]);
    host.hear("generation 2 is live").unwrap();
    host.signal("HUP");
    project.write("tidegate.yaml", manifest(40));
    host.signal("HUP");
    host.hear("generation 3 is live").unwrap();
    // One reload each, however many hints there were: nothing reloads itself.
    assert_eq!(project.count("SELECT max(generation) FROM generations"), 3);
}
