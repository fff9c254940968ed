//! Requests from a host's side: a small server on loopback, a resolver that lies, a consumer with grants.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::model::spec::{Secret, SecretSpec};
use crate::model::{Grants, Limits};
use crate::sandbox::testing;

/// Answers every connection with `answer` after the request's head and body, and hands over what it read.
struct Server {
    port: u16,
    connections: Arc<AtomicU32>,
    requests: tokio::sync::mpsc::UnboundedReceiver<String>,
}

async fn serve(answer: Vec<u8>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (connections, (sender, requests)) = (Arc::new(AtomicU32::new(0)), tokio::sync::mpsc::unbounded_channel());
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            let mut read = Vec::new();
            while !read.windows(4).any(|w| w == b"\r\n\r\n") {
                let mut part = [0; 4096];
                let n = stream.read(&mut part).await.unwrap();
                read.extend_from_slice(&part[..n]);
            }
            sender.send(String::from_utf8(read).unwrap()).unwrap();
            let _gone = stream.write_all(&answer).await;
            if answer.is_empty() {
                // Says nothing, and keeps the line.
                std::mem::forget(stream);
            }
        }
    });
    Server { port, connections, requests }
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nx-seen: 1\r\n\r\n{body}", body.len()).into_bytes()
}

fn origin(host: &str, port: u16, private: bool) -> OriginSpec {
    OriginSpec { https: false, host: host.into(), port, private }
}

/// A consumer whose granted names all resolve to loopback.
fn host(origins: Vec<OriginSpec>) -> Host {
    let secret = SecretSpec { value: Secret::new("hush".into()), reveal: false };
    let grants = Grants { http: origins, secrets: Some([("key".to_owned(), secret)].into()), ..Grants::default() };
    let resolver: Resolver = Arc::new(|_, port| Box::pin(async move { Ok(vec![([127, 0, 0, 1], port).into()]) }));
    testing::host(Limits::default(), grants, resolver)
}

fn get(url: String) -> Request {
    Request { method: "GET".into(), url, headers: Vec::new(), body: None, timeout_ms: None }
}

async fn send(host: &mut Host, request: Request) -> Result<Response, HttpError> {
    http::Host::send(host, request).await.unwrap()
}

#[tokio::test]
async fn a_granted_request_is_sent_with_the_hosts_headers_and_secrets() {
    let mut server = serve(ok("hello")).await;
    let mut host = host(vec![origin("api.example.com", server.port, true)]);
    let mut request = get(format!("http://api.example.com:{}/a?b=c#d", server.port));
    request.method = "POST".into();
    request.headers = vec![("authorization".into(), "Bearer {secret:key}.{secret:key}".into())];
    request.body = Some(b"body".to_vec());
    let response = send(&mut host, request.clone()).await.unwrap();
    assert_eq!((response.status, response.body.as_slice()), (200, &b"hello"[..]));
    assert!(response.headers.contains(&("x-seen".into(), "1".into())));
    let seen = server.requests.recv().await.unwrap().to_ascii_lowercase();
    assert!(seen.starts_with("post /a?b=c http/1.1\r\n"), "{seen}");
    for header in [
        format!("host: api.example.com:{}\r\n", server.port),
        "authorization: bearer hush.hush\r\n".into(),
        "idempotency-key: 0190a1b2-0000-7000-8000-000000000001/guest\r\n".into(),
        "content-length: 4\r\n".into(),
        "traceparent: 00-11111111111111111111111111111111-2222222222222222-01\r\n".into(),
    ] {
        assert!(seen.contains(&header), "{header} in {seen}");
    }
    request.headers = vec![("Idempotency-Key".into(), "mine".into())];
    send(&mut host, request).await.unwrap();
    let seen = server.requests.recv().await.unwrap().to_ascii_lowercase();
    assert!(seen.contains("idempotency-key: mine\r\n") && seen.matches("idempotency-key").count() == 1, "{seen}");
    send(&mut host, get(format!("http://api.example.com:{}/", server.port))).await.unwrap();
    let seen = server.requests.recv().await.unwrap();
    assert!(seen.contains("0000000001/guest/3\r\n"), "another request, another key: {seen}");
}

#[tokio::test]
async fn a_name_that_resolves_to_the_machine_is_not_dialled() {
    let server = serve(ok("secret")).await;
    let mut host = host(vec![origin("rebind.example.com", server.port, false)]);
    let answer = send(&mut host, get(format!("http://rebind.example.com:{}/", server.port))).await;
    assert!(matches!(&answer, Err(HttpError::NotGranted(why)) if why.contains("127.0.0.1")), "{answer:?}");
    assert!(host.refused().is_some(), "another attempt would be refused as well");
    let answer = send(&mut host, get(format!("http://127.0.0.1:{}/", server.port))).await;
    assert!(matches!(answer, Err(HttpError::NotGranted(_))), "an address is another origin");
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_origin_written_as_an_address_is_granted_as_such() {
    let server = serve(ok("")).await;
    let mut host = host(vec![origin("127.0.0.1", server.port, false)]);
    let answer = send(&mut host, get(format!("http://127.0.0.1:{}/", server.port))).await;
    assert_eq!(answer.unwrap().status, 200);
}

#[tokio::test]
async fn redirects_are_answers() {
    let elsewhere = serve(ok("no")).await;
    let location =
        format!("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{}/\r\ncontent-length: 0\r\n\r\n", elsewhere.port);
    let server = serve(location.into_bytes()).await;
    let mut host = host(vec![origin("a.example.com", server.port, true)]);
    let answer = send(&mut host, get(format!("http://a.example.com:{}/", server.port))).await.unwrap();
    assert_eq!(answer.status, 302);
    assert_eq!(elsewhere.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn answers_and_requests_are_bounded() {
    let body = "x".repeat(HTTP_BODY_BYTES_MAX + 1);
    let endless = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}", body.len());
    for answer in [ok(&body), endless.into_bytes()] {
        let server = serve(answer).await;
        let mut host = host(vec![origin("a.example.com", server.port, true)]);
        let answer = send(&mut host, get(format!("http://a.example.com:{}/", server.port))).await;
        assert!(matches!(answer, Err(HttpError::TooLarge(_))), "{answer:?}");
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(100));
    for answer in
        [many.into_bytes(), b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec(), b"nonsense\r\n\r\n".to_vec()]
    {
        let server = serve(answer).await;
        let mut host = host(vec![origin("a.example.com", server.port, true)]);
        let answer = send(&mut host, get(format!("http://a.example.com:{}/", server.port))).await;
        assert!(matches!(answer, Err(HttpError::Unreachable(_))), "{answer:?}");
    }
    let mut host = host(vec![origin("a.example.com", 1, true)]);
    let large = Request { body: Some(vec![0; HTTP_BODY_BYTES_MAX + 1]), ..get("http://a.example.com:1/".into()) };
    assert!(matches!(send(&mut host, large).await, Err(HttpError::TooLarge(_))));
    for _ in 1..HTTP_REQUESTS_MAX {
        assert!(matches!(send(&mut host, get("http://a.example.com:1/".into())).await, Err(HttpError::Unreachable(_))));
    }
    assert!(matches!(send(&mut host, get("http://a.example.com:1/".into())).await, Err(HttpError::TooMany(_))));
}

#[tokio::test]
async fn a_server_that_says_nothing_costs_the_requests_own_time() {
    let server = serve(Vec::new()).await;
    let mut host = host(vec![origin("a.example.com", server.port, true)]);
    let request = Request { timeout_ms: Some(50), ..get(format!("http://a.example.com:{}/", server.port)) };
    assert!(matches!(send(&mut host, request).await, Err(HttpError::TimedOut)));
}

#[tokio::test]
async fn headers_cannot_smuggle() {
    let server = serve(ok("")).await;
    let mut host = host(vec![origin("a.example.com", server.port, true)]);
    for (name, value) in [
        ("x", "a\r\nhost: evil.com"),
        ("x\r\ny", "a"),
        ("x y", "a"),
        ("", "a"),
        ("Host", "evil.com"),
        ("Content-Length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "upgrade"),
        ("x", "{secret:key"),
        ("x", "\0"),
    ] {
        let request = Request {
            headers: vec![(name.into(), value.into())],
            ..get(format!("http://a.example.com:{}/", server.port))
        };
        let answer = send(&mut host, request).await;
        assert!(matches!(answer, Err(HttpError::Invalid(_))), "{name:?}: {value:?}: {answer:?}");
    }
    let request = Request {
        headers: vec![("x".into(), "{secret:other}".into())],
        ..get(format!("http://a.example.com:{}/", server.port))
    };
    assert!(matches!(send(&mut host, request).await, Err(HttpError::NotGranted(_))));
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_request_may_take_what_in_progress_has_given() {
    let server = serve(Vec::new()).await;
    let clock = testing::ManualClock::new();
    let ms = Duration::from_millis;
    let limits = Limits { timeout: ms(300), timeout_max: Some(ms(1_000)), ..Limits::default() };
    let grants = Grants { http: vec![origin("127.0.0.1", server.port, false)], ..Grants::default() };
    let none = crate::sandbox::Dependencies::none();
    let mut host = testing::host_at(clock.clone(), none, limits, grants, system_resolver());
    let start = host.clock.monotonic();
    drop(host.clock.sleep_until(start + ms(200)));
    clock.reach(start + ms(200)).await;
    host.in_progress().unwrap();
    let over = async {
        clock.reach(start + ms(500)).await;
        std::future::pending().await
    };
    let answer = tokio::select! {
        answer = send(&mut host, get(format!("http://127.0.0.1:{}/", server.port))) => answer,
        () = over => unreachable!(),
    };
    assert!(matches!(answer, Err(HttpError::TimedOut)));
    assert!(host.is_late(), "the request had all of the attempt's time");
}
