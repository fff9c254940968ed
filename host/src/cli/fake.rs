//! A host for tests: it answers each request from a script and remembers what it was asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What was asked: method and path, the headers as they came, the body.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) line: String,
    pub(super) headers: String,
    pub(super) body: String,
}

/// An answer: status, further headers, body. `cut` closes the connection instead of answering.
pub(super) struct Reply {
    status: u16,
    headers: String,
    body: String,
    cut: bool,
}

pub(super) fn ok(body: &str) -> Reply {
    reply(200, body)
}

pub(super) fn reply(status: u16, body: &str) -> Reply {
    Reply { status, headers: String::new(), body: body.to_owned(), cut: false }
}

pub(super) fn lost() -> Reply {
    Reply { cut: true, ..reply(200, "") }
}

impl Reply {
    pub(super) fn header(mut self, line: &str) -> Self {
        self.headers.push_str(line);
        self.headers.push_str("\r\n");
        self
    }
}

pub(super) struct Fake {
    pub(super) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// `answer` is asked for every request but `/livez`.
    pub(super) fn start(answer: impl Fn(&Asked) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        // Ends with the test's process; a test that fails does not wait for it.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &answer, &seen);
            }
        });
        Self { url, asked }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

fn serve(stream: TcpStream, answer: &impl Fn(&Asked) -> Reply, seen: &Mutex<Vec<Asked>>) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader) {
        let reply = if asked.line == "GET /livez" {
            ok("ok")
        } else {
            seen.lock().unwrap().push(asked.clone());
            answer(&asked)
        };
        if reply.cut {
            return;
        }
        let Reply { status, headers, body, .. } = reply;
        let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n", body.len());
        if writer.write_all(format!("{head}{body}").as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let (mut line, mut headers) = (String::new(), String::new());
    reader.read_line(&mut line).ok().filter(|&n| n > 0)?;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|&n| n > 0)?;
        if header.trim().is_empty() {
            break;
        }
        headers.push_str(&header.to_lowercase());
    }
    let length =
        headers.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let line = line.rsplit_once(' ')?.0.to_owned();
    Some(Asked { line, headers, body: String::from_utf8(body).unwrap() })
}
