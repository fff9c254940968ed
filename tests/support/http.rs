//! A client as small as can be: one request a connection, or many over one.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

pub struct Response {
    pub status: u16,
    pub headers: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// A kept-alive connection.
pub struct Client {
    address: String,
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(300)))?;
        stream.set_nodelay(true)?;
        Ok(Self { address: address.to_owned(), stream: BufReader::new(stream) })
    }

    pub fn get(&mut self, path: &str) -> Result<Response> {
        self.send("GET", path, "application/json", b"")
    }

    pub fn post(&mut self, path: &str, body: &[u8]) -> Result<Response> {
        self.send("POST", path, "application/json", body)
    }

    pub fn send(&mut self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Result<Response> {
        self.request(&format!("{method} {path}"), &format!("Content-Type: {content_type}"), body)
    }

    /// Asks for a certain form.
    pub fn get_as(&mut self, path: &str, accept: &str) -> Result<Response> {
        self.request(&format!("GET {path}"), &format!("Accept: {accept}"), b"")
    }

    fn request(&mut self, what: &str, header: &str, body: &[u8]) -> Result<Response> {
        let address = &self.address;
        let head = format!("{what} HTTP/1.1\r\nHost: {address}\r\n{header}\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request)?;
        self.read()
    }

    /// Waits until a consumer's delivery of an event has an outcome.
    pub fn settled(&mut self, consumer: &str, sequence: u64) {
        loop {
            let answer = self.get(&format!("/outcomes?consumer={consumer}&sequence={sequence}"));
            let answer = answer.unwrap_or_else(|error| panic!("{error}"));
            if answer.json()["outcomes"].as_array().is_some_and(|rows| !rows.is_empty()) {
                return;
            }
        }
    }

    fn read(&mut self) -> Result<Response> {
        let mut status_line = String::new();
        self.stream.read_line(&mut status_line)?;
        let status = status_line.split_whitespace().nth(1).and_then(|s| s.parse().ok()).context("no status line")?;
        let (mut headers, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            headers.push_str(&line);
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Response { status, headers, body })
    }
}

/// Server-sent events, as they come.
pub struct Stream {
    lines: BufReader<TcpStream>,
}

impl Stream {
    /// What becomes durable from now on is heard once this has returned.
    pub fn open(address: &str) -> Result<Self> {
        Self::at(address, "/stream")
    }

    /// Only what concerns this consumer.
    pub fn of(address: &str, consumer: &str) -> Result<Self> {
        Self::at(address, &format!("/stream?consumer={consumer}"))
    }

    fn at(address: &str, path: &str) -> Result<Self> {
        let mut client = Client::connect(address)?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n");
        client.stream.get_mut().write_all(request.as_bytes())?;
        let mut stream = Self { lines: client.stream };
        let head = stream.line()?;
        anyhow::ensure!(head.contains("200"), "{head}");
        while !stream.line()?.is_empty() {}
        Ok(stream)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line)?;
        anyhow::ensure!(read > 0, "the stream has ended");
        Ok(line.trim_end().to_owned())
    }

    /// The next one of this kind: `event`, `outcome`, `dead-letter` or `reloaded`.
    pub fn next(&mut self, kind: &str) -> Result<Value> {
        let mut now = String::new();
        loop {
            let line = self.line()?;
            if let Some(name) = line.strip_prefix("event:") {
                now = name.trim().to_owned();
            } else if let Some(data) = line.strip_prefix("data:")
                && now == kind
            {
                return Ok(serde_json::from_str(data.trim())?);
            }
        }
    }
}
