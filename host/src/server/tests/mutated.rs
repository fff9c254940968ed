//! Thousands of requests that are almost right: never a panic, never an unexpected server error, never half an answer.

use super::support::Fixture;

/// A small generator of pseudo-random numbers: the same requests in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let post = |headers: &str, body: &str| {
        format!("POST /events HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let cloud =
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"a.b","time":"2026-01-01T00:00:00Z","data":{"a":[1,2]}}"#;
    let native = r#"{"id":"x","type":"a.b","source":"/s","timestamp":"2026-01-01T00:00:00.5+01:00","data":null,"attributes":{"x":1}}"#;
    let checked = r#"{"type":"order.checked","source":"/s","data":{"total":5}}"#;
    [
        post("Content-Type: application/json\r\n", native),
        post("Content-Type: application/json\r\n", &format!("[{native},{checked}]")),
        post("Content-Type: application/x-ndjson\r\n", &format!("{native}\n{checked}\n")),
        post("Content-Type: application/cloudevents+json\r\n", cloud),
        post("Content-Type: application/cloudevents-batch+json\r\n", &format!("[{cloud}]")),
        post("ce-specversion: 1.0\r\nce-id: 1\r\nce-type: a.b\r\nce-source: /s\r\nce-x: %41%20\"b\r\nContent-Type: text/plain\r\n", "hello"),
        "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"typ\r\n3\r\n\":1\r\n1\r\n}\r\n0\r\n\r\n".to_owned(),
        "GET /events?type=a.*&limit=5&newest=true&since=2026-01-01T00:00:00Z HTTP/1.1\r\nHost: localhost\r\nAccept: application/json;q=0.3\r\n\r\n".to_owned(),
        "GET /events/%2Fs%23x?tree=true HTTP/1.1\r\nHost: [::1]:7420\r\n\r\n".to_owned(),
        "GET /outcomes?outcome=timed-out&consumer=a HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "GET /dead-letters/7/mailer/1 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "POST /dead-letters/redrive HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{\"ids\":[\"1/a\"]}".to_owned(),
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text\r\n\r\n".to_owned(),
        "GET /readyz?verbose&exclude=log HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n".to_owned(),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect()
}

const SPLICES: [&[u8]; 14] = [
    b"\r\n",
    b"\n",
    b"\0",
    b"%",
    b"\xff\xfe",
    b"\"",
    b"{{{{",
    b"]",
    b"9999999999999999999",
    b"-1",
    b"\\ud800",
    b": ",
    b" HTTP/1.1",
    b"\xe2\x82",
];

fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(bytes.len().max(1)).min(bytes.len());
        match dice.roll(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..at, SPLICES[dice.roll(SPLICES.len())].iter().copied())),
            2 => drop(bytes.drain(at..(at + dice.roll(20)).min(bytes.len()))),
            3 => {
                let copy: Vec<u8> = bytes[at..(at + dice.roll(60)).min(bytes.len())].to_vec();
                let to = dice.roll(bytes.len().max(1)).min(bytes.len());
                bytes.splice(to..to, copy);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = u8::try_from(dice.roll(256)).unwrap();
                }
            }
        }
    }
}

#[tokio::test]
async fn almost_right_requests_never_break_anything() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let seeds = seeds();
    let (mut answered, mut statuses) = (0, std::collections::BTreeSet::new());
    for round in 0..4_000 {
        let fixture = Fixture::new();
        let mut bytes = seeds[round % seeds.len()].clone();
        if round >= seeds.len() {
            mutate(&mut bytes, &mut dice);
        }
        let answer = fixture.bytes(&bytes).await;
        let shown = String::from_utf8_lossy(&bytes);
        for status in answer.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)) {
            statuses.insert(status.to_owned());
            assert!(!status.starts_with('5'), "{shown:?}: {answer}");
            answered += 1;
        }
        assert!(answer.is_empty() || answer.starts_with("HTTP/1."), "{shown:?}: {answer}");
        // Still alive, and nothing of the odd request is left over.
        if round % 500 == 0 {
            assert_eq!(fixture.get("/livez").await.text(), "ok");
        }
    }
    assert!(answered > 2_000, "only {answered} answers");
    assert!(statuses.contains("202") && statuses.contains("400") && statuses.contains("404"), "{statuses:?}");
}
