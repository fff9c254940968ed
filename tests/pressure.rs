//! Producers faster than the disk: they are told so at once, with when to come back, and nothing of theirs is lost.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc;

use tidegate_tests::Project;
use tidegate_tests::http::Client;

const MANIFEST: &str = "
tidegate: 1
server: { listen: 127.0.0.1:0 }
log: sqlite:data/tidegate.db
";

/// As many events as may wait for the writer.
const QUEUE: usize = 10_000;

/// Sends a queue full of events until they are accepted. Tells of each refusal, and waits to be told to send them again.
fn produce(address: &str, name: &str, refused: &mpsc::Sender<()>, again: &mpsc::Receiver<()>) {
    let event = |n: usize| format!(r#"{{"id":"{name}-{n}","source":"shop","type":"noise.made"}}"#);
    let batch = format!("[{}]", (0..QUEUE).map(event).collect::<Vec<_>>().join(","));
    loop {
        let mut client = Client::connect(address).unwrap();
        let answer = client.post("/events", batch.as_bytes()).unwrap();
        match answer.status {
            202 => return,
            429 => assert!(answer.headers.to_lowercase().contains("\r\nretry-after: "), "{}", answer.headers),
            status => panic!("{status}: {}", String::from_utf8_lossy(&answer.body)),
        }
        // The test may have ended.
        let _gone = refused.send(()).is_err();
        let _gone = again.recv().is_err();
    }
}

#[test]
fn a_full_queue_reaches_the_producer() {
    let project = Project::new(MANIFEST);
    let host = project.start();
    // Somebody else writes to the database, so that nothing is written for a while.
    let stranger = rusqlite::Connection::open(project.path("data/tidegate.db")).unwrap();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (refused, refusals) = mpsc::channel();
    let producers: Vec<_> = ["one", "two"]
        .into_iter()
        .map(|name| {
            let (address, refused) = (host.address(), refused.clone());
            let (again, told) = mpsc::channel();
            (again, std::thread::spawn(move || produce(&address, name, &refused, &told)))
        })
        .collect();
    // One of them fills the queue, so there is no room for the other.
    refusals.recv().unwrap();

    let mut command = project.command(&["emit", "noise.made", "--id", "last", "--json"]);
    let mut emit = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut stderr = BufReader::new(emit.stderr.take().unwrap());
    stderr.read_line(&mut said).unwrap();
    assert_eq!(said, "not accepted yet; the host has no room at the moment: waiting until it has\n");

    stranger.execute_batch("ROLLBACK").unwrap();
    for (again, producer) in producers {
        // It may be sent again more often than once: the writer gave up on the first after a while.
        drop(again);
        producer.join().unwrap();
    }
    let output = emit.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let accepted: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(accepted["id"], "last");
    let events = "SELECT count(*), count(DISTINCT id) FROM events WHERE type = 'noise.made'";
    let all = (2 * QUEUE + 1) as i64;
    assert_eq!(project.rows(events)[0], [all, all], "each once");
    assert_eq!(host.stop().0, 0);
}
