//! The hand that moves the `puppet` guest: each attempt asks it what to do, and is in hand until it answers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use serde_json::Value;

use crate::PATIENCE;

pub struct Hand {
    url: String,
    asked: mpsc::Receiver<Asked>,
}

/// An attempt that waits for its answer.
pub struct Asked {
    pub what: Value,
    stream: TcpStream,
}

impl Default for Hand {
    fn default() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (send, asked) = mpsc::channel::<Asked>();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let send = send.clone();
                // A host that is killed cuts the connection; a test that is over hears nothing.
                std::thread::spawn(move || read(stream).map(|asked| send.send(asked).is_ok()));
            }
        });
        Self { url, asked }
    }
}

impl Hand {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lines for a consumer of the manifest that is moved by this hand.
    pub fn consumer(&self, name: &str, on: &str, more: &str) -> String {
        let url = &self.url;
        format!(
            "  {name}:\n    component: puppet.wasm\n    on: {on}\n    grants: {{ publish: ['**'], state: true, http: \
             [{url}], config: {{ hand: {url} }} }}\n{more}"
        )
    }

    /// The next attempt that asks.
    pub fn asked(&self) -> Asked {
        self.asked.recv_timeout(PATIENCE).expect("no attempt asked")
    }

    /// The next attempt, as the name of its consumer, the id of its event and its number.
    #[track_caller]
    pub fn expect(&self, consumer: &str, id: &str, attempt: u32) -> Asked {
        let asked = self.asked();
        let (who, what, number) = (&asked.what["consumer"], &asked.what["id"], &asked.what["attempt"]);
        assert_eq!((who.as_str(), what.as_str(), number.as_u64()), (Some(consumer), Some(id), Some(attempt.into())));
        asked
    }

    /// What has asked already, without waiting.
    pub fn asked_already(&self) -> Vec<Asked> {
        self.asked.try_iter().collect()
    }

    /// Answers everything from here on; ends with the test.
    pub fn answer_all(self, answer: Value) {
        std::thread::spawn(move || self.asked.iter().for_each(|asked| asked.answer(&answer)));
    }
}

impl Asked {
    /// Tells the attempt what to do. One that is gone meanwhile does not hear it.
    pub fn answer(mut self, answer: &Value) {
        let body = answer.to_string();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: ";
        drop(write!(self.stream, "{head}{}\r\n\r\n{body}", body.len()));
    }

    pub fn done(self) {
        self.answer(&serde_json::json!({}));
    }
}

fn read(stream: TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&n| n > 0)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { what: serde_json::from_slice(&body).ok()?, stream: reader.into_inner() })
}
