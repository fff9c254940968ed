//! Clients that ask for more than is good for others, and manifests whose checks never end: the host stays reachable, and
//! nothing is lost for it.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;

use serde_json::json;
use tidegate_tests::{Host, Project};

const MANIFEST: &str = r#"
tidegate: 1
server: { listen: 127.0.0.1:0 }
log: sqlite:data/tidegate.db
events:
  report.made: { schema: endless.json }
consumers:
  ledger:
    component: ledger.wasm
    on: order.created
    grants: { publish: [order.booked], state: true }
"#;

/// A schema that is sound and takes 2^64 steps to say yes.
fn endless() -> String {
    let twice = |n: u32| json!({ "allOf": [{ "$ref": format!("#/$defs/a{n}") }, { "$ref": format!("#/$defs/a{n}") }] });
    let mut steps: serde_json::Map<_, _> = (0..64).map(|n| (format!("a{n}"), twice(n + 1))).collect();
    steps.insert("a64".to_owned(), json!({ "type": "object" }));
    json!({ "$ref": "#/$defs/a0", "$defs": steps }).to_string()
}

fn project() -> Project {
    let project = Project::new(MANIFEST);
    project.install("ledger", "ledger.wasm");
    project.write("endless.json", endless());
    project
}

/// Sends a request and leaves: what was asked is not waited for.
fn throw(host: &Host, head: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(host.address()).unwrap();
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}",
        host.address()
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

#[test]
fn a_schema_that_takes_for_ever_delays_only_its_own_type() {
    let project = project();
    let host = project.start();
    let report = r#"{"type":"report.made","source":"s","data":{}}"#;
    let open: Vec<TcpStream> = (0..12).map(|_| throw(&host, "POST /events", report)).collect();
    let order = br#"{"id":"a","type":"order.created","source":"s","data":{}}"#;
    assert_eq!(host.client().post("/events", order).unwrap().status, 202);
    assert_eq!(host.client().get("/livez").unwrap().status, 200);
    project.ok(&["wait", "--timeout", "5m"]);
    assert_eq!(project.count("SELECT count(*) FROM outcomes WHERE consumer = 'ledger' AND outcome = 'done'"), 1);
    drop(open);
    host.kill();
}

#[test]
fn clients_that_ask_to_wait_and_go_leave_room_for_others() {
    let project = project();
    let host = project.start();
    // More than the host takes connections.
    for _ in 0..1_100 {
        drop(throw(&host, "GET /wait?through=999999&timeout=5m", ""));
    }
    let mut client = host.client();
    assert_eq!(client.get("/livez").unwrap().status, 200);
    let refused = client.get("/wait?through=999999&timeout=5m").unwrap();
    assert_eq!((refused.status, refused.headers.to_lowercase().contains("retry-after")), (429, true));
}

#[test]
fn large_rows_come_in_more_than_one_answer() {
    let project = project();
    let host = project.start();
    let mut client = host.client();
    let text = "x".repeat((1 << 20) - 2);
    for n in 0..20 {
        let event = json!({ "id": format!("{n:02}"), "type": "page.made", "source": "s", "data": text });
        assert_eq!(client.post("/events", event.to_string().as_bytes()).unwrap().status, 202);
    }
    let (mut after, mut ids) = (0, Vec::new());
    loop {
        let answer = client.get(&format!("/events?type=page.made&limit=1000&after={after}")).unwrap();
        assert!(answer.body.len() < 12 << 20, "{} bytes", answer.body.len());
        let answer = answer.json();
        let page = answer["events"].as_array().unwrap();
        ids.extend(page.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        let Some(next) = answer["next"].as_u64() else { break };
        after = next;
    }
    let all: Vec<String> = (0..20).map(|n| format!("{n:02}")).collect();
    assert_eq!(ids, all);
    let shown = project.json(&["events", "--type", "page.made", "--limit", "1000", "--json"]);
    assert_eq!(shown.iter().map(|event| event["id"].as_str().unwrap()).collect::<Vec<_>>(), all);
}

#[test]
fn large_events_for_a_slow_consumer_stay_on_disk() {
    const EVENTS: usize = 200;
    let manifest = MANIFEST.to_owned()
        + "  slow: { component: hostile.wasm, on: big.made, concurrency: 1, timeout: 1h, fuel: 1_000_000_000_000, grants: { \
           publish: [attack.**], state: true, http: [http://127.0.0.1:9], config: {}, secrets: {} } }\n";
    let project = Project::new(&manifest);
    project.install("ledger", "ledger.wasm");
    project.install("hostile", "hostile.wasm");
    project.write("endless.json", endless());
    let host = project.start();
    let before = host.memory().0;
    let text = "x".repeat(1_000_000);
    let event =
        json!({ "type": "big.made", "source": "s", "data": { "mode": "sleep-for-ever", "text": text } }).to_string();
    let address = host.address();
    let senders = (0..2).map(|_| {
        let (address, event) = (address.clone(), event.clone());
        thread::spawn(move || {
            let mut client = tidegate_tests::http::Client::connect(&address).unwrap();
            (0..EVENTS / 2).for_each(|_| assert_eq!(client.post("/events", event.as_bytes()).unwrap().status, 202));
        })
    });
    senders.collect::<Vec<_>>().into_iter().for_each(|sender| sender.join().unwrap());
    let grown = host.memory().0.saturating_sub(before);
    assert!(grown < 130 << 20, "{} MiB of {EVENTS} MB are kept in memory", grown >> 20);
    host.kill();
}
