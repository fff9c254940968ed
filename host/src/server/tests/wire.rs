//! Bytes on a connection: slow clients, odd clients, requests that are framed in two ways. Time is tokio's, paused.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::support::{Fixture, server};

const BODY: &str = r#"{"type":"a.b","source":"/s"}"#;

fn post(headers: &str, body: &str) -> String {
    format!("POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}\r\n{body}")
}

fn length() -> String {
    format!("Content-Length: {}\r\n", BODY.len())
}

#[tokio::test]
async fn a_client_that_half_closes_after_a_whole_request_is_answered() {
    let fixture = Fixture::new();
    let answer = fixture.bytes(post(&length(), BODY).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
}

#[tokio::test]
async fn a_connection_carries_several_requests_also_at_once() {
    let fixture = Fixture::new();
    let one = post(&length(), BODY);
    let answer = fixture.bytes(format!("{one}{one}GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await;
    assert_eq!((answer.matches("HTTP/1.1 202").count(), answer.matches("HTTP/1.1 200").count()), (2, 1), "{answer}");
    assert_eq!(fixture.log.envelopes().len(), 2);
}

#[tokio::test]
async fn chunks_are_read_and_end_the_connection() {
    let fixture = Fixture::new();
    let chunked = format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len());
    let answer = fixture.bytes(post("Transfer-Encoding: chunked\r\n", &chunked).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 202") && answer.contains("connection: close"), "{answer}");
}

/// Each carries a second request, which a proxy would take for part of the first one's body, or the other way round.
#[tokio::test]
async fn nothing_is_smuggled() {
    let inner =
        format!("POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{}\r\n{BODY}", length());
    let chunk = format!("{:x}\r\n{BODY}\r\n0\r\n\r\n{inner}", BODY.len());
    let plain = format!("{BODY}{inner}");
    let n = BODY.len();
    let cases: Vec<(String, &str)> = vec![
        (format!("Content-Length: {n}\r\nTransfer-Encoding: chunked\r\n"), &chunk),
        (format!("Transfer-Encoding: chunked\r\nContent-Length: {n}\r\n"), &chunk),
        (format!("Content-Length: {n}\r\nContent-Length: {n}\r\n"), &plain),
        (format!("Content-Length: {n}\r\nContent-Length: 0\r\n"), &plain),
        (format!("Content-Length: 0\r\nContent-Length: {n}\r\n"), &plain),
        (format!("Content-Length: {n}, {n}\r\n"), &plain),
        (format!("Content-Length: {n}, 0\r\n"), &plain),
        (format!("Content-Length: +{n}\r\n"), &plain),
        (format!("Content-Length: -{n}\r\n"), &plain),
        (format!("Content-Length: 0x{n:x}\r\n"), &plain),
        (format!("Content-Length: {n}.0\r\n"), &plain),
        (format!("Content-Length: {n} {n}\r\n"), &plain),
        (format!("Content-Length : {n}\r\n"), &plain),
        (format!(" Content-Length: {n}\r\n"), &plain),
        (format!("Content-Length:\r\n {n}\r\n"), &plain),
        (format!("Content-Length: {n}\n"), &plain),
        ("Content-Length: 18446744073709551616\r\n".into(), &plain),
        ("Content-Length:\r\n".into(), &plain),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".into(), &chunk),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n".into(), &chunk),
        ("Transfer-Encoding: identity\r\n".into(), &chunk),
        ("Transfer-Encoding: identity, chunked\r\n".into(), &chunk),
        ("Transfer-Encoding: gzip, chunked\r\n".into(), &chunk),
        ("Transfer-Encoding: chunked, identity\r\n".into(), &chunk),
        ("Transfer-Encoding: xchunked\r\n".into(), &chunk),
        ("Transfer-Encoding : chunked\r\n".into(), &chunk),
        ("Transfer-Encoding:\x0bchunked\r\n".into(), &chunk),
        ("Transfer-Encoding: \"chunked\"\r\n".into(), &chunk),
        ("X: y\rTransfer-Encoding: chunked\r\n".into(), &chunk),
        (format!("X: y\nContent-Length: {n}\r\n"), &plain),
        (
            format!(
                "Content_Length: {n}\r\nContent-Length: {n}\r\nTransfer_Encoding: x\r\nTransfer-Encoding: chunked\r\n"
            ),
            &chunk,
        ),
    ];
    for (headers, body) in cases {
        let fixture = Fixture::new();
        let answer = fixture.bytes(post(&headers, body).as_bytes()).await;
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 413");
        assert!(refused, "{headers:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), usize::from(!answer.is_empty()), "{headers:?}: {answer}");
        assert!(fixture.log.envelopes().is_empty(), "{headers:?}");
    }
}

#[tokio::test]
async fn bad_chunks_and_ended_bodies_are_no_events() {
    for body in
        ["5\r\nab", "zz\r\nabc\r\n0\r\n\r\n", "-1\r\n\r\n", "fffffffffffffffff\r\n", "1;\r\n{", "2\r\n{}x\r\n0\r\n\r\n"]
    {
        let fixture = Fixture::new();
        let answer = fixture.bytes(post("Transfer-Encoding: chunked\r\n", body).as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{body:?}: {answer}");
        assert!(fixture.log.envelopes().is_empty());
    }
    let fixture = Fixture::new();
    let answer = fixture.bytes(post("Content-Length: 100\r\n", BODY).as_bytes()).await;
    assert!(answer.is_empty() || answer.contains("problem:cut-off"), "{answer}");
    assert!(fixture.log.envelopes().is_empty());
}

#[tokio::test]
async fn heads_are_bounded_and_hosts_are_not_doubled() {
    let fixture = Fixture::new();
    let many: String = (0..80).map(|n| format!("X-{n}: y\r\n")).collect();
    let long = format!("X: {}\r\n", "y".repeat(70 << 10));
    for (head, status) in [
        ("GET /livez HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("GET /livez HTTP/1.0\r\n\r\n".to_owned(), "400"),
        ("GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n".to_owned(), "400"),
        ("GET /livez HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(), "403"),
        (format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"), "431"),
        (format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{long}\r\n"), "431"),
        ("GET /livez HTTP/2.0\r\nHost: localhost\r\n\r\n".to_owned(), "400"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "400"),
        ("GET /livez\r\n\r\n".to_owned(), "400"),
        ("\x16\x03\x01\x02\x00\x01".to_owned() + &"\u{0}".repeat(40), "400"),
        ("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "404"),
        ("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "404"),
    ] {
        let answer = fixture.bytes(head.as_bytes()).await;
        let shown: String = head.chars().take(60).collect();
        assert!(answer.is_empty() || answer.get(9..12) == Some(status), "{shown:?}: {answer}");
    }
}

/// Sends one byte every nine seconds; gives back after how long it was cut, and with which answer.
async fn dribble(fixture: &Fixture, start: &str, drip: &str) -> (Duration, String) {
    let mut client = fixture.connect();
    client.write_all(start.as_bytes()).await.unwrap();
    let begin = Instant::now();
    let mut drips = drip.bytes().cycle();
    let mut answer = Vec::new();
    loop {
        let mut buffer = [0; 1_024];
        match tokio::time::timeout(Duration::from_secs(9), client.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return (begin.elapsed(), String::from_utf8_lossy(&answer).into_owned()),
            Ok(Ok(n)) => answer.extend_from_slice(&buffer[..n]),
            Err(_) => {
                client.write_all(&[drips.next().unwrap()]).await.ok();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_dribbles_is_cut() {
    let fixture = Fixture::new();
    let head = "POST /events HTTP/1.1\r\nHost: localhost\r\n";
    for (start, drip, seconds, kind) in [
        // Not a byte, half a head, and idle after an answer.
        ("", "", 11, ""),
        (head, "X", 11, ""),
        ("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", "", 11, ""),
        // A body kept whole, announced and in chunks.
        (&post("Content-Length: 1000\r\n", "{"), " ", 41, "too-slow"),
        (&post("Transfer-Encoding: chunked\r\n", ""), "1\r\n \r\n", 41, "too-slow"),
    ] {
        let drip = if drip.is_empty() { None } else { Some(drip) };
        let (after, answer) = match drip {
            Some(drip) => dribble(&fixture, start, drip).await,
            None => silence(&fixture, start).await,
        };
        assert!(after <= Duration::from_secs(seconds), "{start:?} was cut after {after:?}");
        assert!(answer.contains(kind), "{start:?}: {answer}");
    }
    // A stream may be silent for a moment between lines, but not within one.
    let lines =
        post("Transfer-Encoding: chunked\r\n", "1\r\n{\r\n").replace("application/json", "application/x-ndjson");
    let (after, answer) = dribble(&fixture, &lines, "1\r\n \r\n").await;
    assert!(after <= Duration::from_secs(41) && answer.contains("too-slow"), "{after:?}: {answer}");
}

/// Its parts may end in the middle of a line for as long as each line comes in time.
#[tokio::test(start_paused = true)]
async fn a_stream_may_last_as_long_as_its_lines_come() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let (head, tail) = (r#"{"type":"order"#, ".created\",\"source\":\"/shop\"}\n");
    let start =
        post("Transfer-Encoding: chunked\r\n", &chunk(head)).replace("application/json", "application/x-ndjson");
    client.write_all(start.as_bytes()).await.unwrap();
    let mut answer = [0; 1_024];
    for _ in 0..6 {
        let early = tokio::time::timeout(Duration::from_secs(9), client.read(&mut answer)).await;
        assert!(early.is_err(), "{:?}", early.map(|n| String::from_utf8_lossy(&answer[..n.unwrap()]).into_owned()));
        client.write_all(chunk(&format!("{tail}{head}")).as_bytes()).await.unwrap();
    }
    client.write_all(format!("{}0\r\n\r\n", chunk(tail)).as_bytes()).await.unwrap();
    let n = client.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..n]);
    assert!(answer.contains("202 Accepted") && answer.contains("\"accepted\":7"), "{answer}");
}

async fn silence(fixture: &Fixture, start: &str) -> (Duration, String) {
    let mut client = fixture.connect();
    client.write_all(start.as_bytes()).await.unwrap();
    let begin = Instant::now();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.ok();
    (begin.elapsed(), String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut() {
    let fixture = Fixture::new();
    let (mut client, end) = tokio::io::duplex(64);
    let app = std::sync::Arc::clone(&fixture.app);
    let serving = tokio::spawn(crate::server::accept::connection(end, None, app, fixture.stop.subscribe()));
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), serving).await.expect("the connection ends").unwrap();
}

#[tokio::test]
async fn the_whole_server_answers_over_a_socket_and_stops() {
    let fixture = Fixture::new();
    let mut spec = server();
    spec.listen = "127.0.0.1:0".parse().unwrap();
    let listener = crate::server::bind(&spec).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let serving = tokio::spawn(crate::server::serve(listener, fixture.app.parts.clone(), stopping));
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    client.write_all(post(&length(), BODY).as_bytes()).await.unwrap();
    let mut start = [0; 12];
    client.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 202");
    stop.send(true).unwrap();
    serving.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

/// Without the linger a client that is still sending would see a reset instead of the answer.
#[tokio::test]
async fn a_refused_body_does_not_cost_the_answer() {
    let fixture = Fixture::new();
    for path in ["/nothing", "/events", "/stats"] {
        let body = "x".repeat(1 << 20);
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = fixture.bytes(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 4") && answer.contains("urn:tidegate:problem:"), "{path}: {answer}");
    }
}
