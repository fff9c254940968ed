//! Clients that put load on a host: each request is what a producer would send, each answer is read.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use futures_util::stream;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body, Frame};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::{Mutex, mpsc, watch};

use super::super::client::Base;
use super::super::error::Error;
use super::super::sse::{Message, Parser};
use super::bed::CONSUMER;
use super::spread::Spread;
use crate::clock::Clock;
use crate::model::Seq;

/// A piece of a stream of events, in bytes.
const PIECE: usize = 64 << 10;
/// For everything to settle after a load.
const SETTLE: &str = "5m";
/// How long outcomes that are still to be told are waited for at the end of a measure.
const LAST_OUTCOMES: Duration = Duration::from_secs(10);

/// A host under load.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) base: Base,
    pub(super) clock: Arc<dyn Clock>,
    /// One event each, as native JSON without an id: the host gives it one.
    pub(super) events: Arc<[Bytes]>,
}

/// What a load came to.
pub(super) struct Taken {
    pub(super) events: u64,
    /// From the first byte to the last answer.
    pub(super) in_time: Duration,
    pub(super) spread: Spread,
}

/// What an event is timed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    Outcomes,
    /// Ends of runs.
    Runs,
}

impl Watched {
    fn path(self) -> String {
        match self {
            Self::Outcomes => format!("/stream?consumer={CONSUMER}"),
            Self::Runs => "/stream?type=tidegate.run.completed".to_owned(),
        }
    }

    /// The event whose end the message tells of.
    fn of(self, message: &Message) -> Option<Seq> {
        #[derive(Deserialize)]
        struct Told {
            sequence: Seq,
            subject: Option<String>,
        }
        let told = || serde_json::from_str::<Told>(&message.data).ok();
        match (self, message.kind.as_str()) {
            (Self::Outcomes, "outcome") => told().map(|told| told.sequence),
            (Self::Runs, "event") => told()?.subject?.split('/').next()?.parse().ok(),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Accepted {
    events: Vec<Place>,
}

#[derive(Deserialize)]
struct Place {
    sequence: Seq,
}

impl Target {
    fn event(&self, index: usize) -> Bytes {
        self.events.get(index % self.events.len().max(1)).cloned().unwrap_or_default()
    }

    async fn connect<B>(&self) -> Result<SendRequest<B>, Error>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let cannot = |e| Error::environment("the host that is measured cannot be reached").because(e);
        let socket = tokio::net::TcpStream::connect(&self.base.authority).await.map_err(cannot)?;
        socket.set_nodelay(true).map_err(cannot)?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(broken)?;
        // Ends with the connection; what went wrong with it is told by the request that needed it.
        drop(tokio::spawn(async move { drop(connection.await) }));
        Ok(sender)
    }

    fn post<B>(&self, content_type: &'static str, body: B) -> Result<Request<B>, Error> {
        let request = Request::post("/events").header(header::HOST, &self.base.authority);
        request.header(header::CONTENT_TYPE, content_type).body(body).map_err(|e| Error::bug("cannot ask").because(e))
    }

    /// One event in a request of its own.
    async fn send(&self, sender: &mut SendRequest<Full<Bytes>>, event: Bytes) -> Result<Bytes, Error> {
        let request = self.post("application/json", Full::new(event))?;
        sender.ready().await.map_err(broken)?;
        accepted(sender.send_request(request).await.map_err(broken)?).await
    }

    /// One event; its place in the log.
    pub(super) async fn one(&self) -> Result<Seq, Error> {
        let mut sender = self.connect().await?;
        place(&self.send(&mut sender, self.event(0)).await?)
    }

    /// So many clients for so long, each of which sends the next event when the last one is acknowledged.
    pub(super) async fn closed(&self, clients: usize, time: Duration) -> Result<Taken, Error> {
        let senders = try_join_all((0..clients).map(|_| self.connect())).await?;
        let start = self.clock.monotonic();
        let client = |(index, mut sender): (usize, SendRequest<Full<Bytes>>)| async move {
            let mut spread = Spread::default();
            let mut next = index;
            loop {
                let began = self.clock.monotonic();
                if began >= start + time {
                    return Ok::<_, Error>(spread);
                }
                self.send(&mut sender, self.event(next)).await?;
                spread.add(self.clock.monotonic().saturating_sub(began));
                next += clients;
            }
        };
        let mut spread = Spread::default();
        for one in try_join_all(senders.into_iter().enumerate().map(client)).await? {
            spread.join(one);
        }
        let in_time = self.clock.monotonic().saturating_sub(start);
        Ok(Taken { events: spread.len() as u64, in_time, spread })
    }

    /// One request that brings events for so long, as fast as the host takes them, or so many of them, rounded up to a piece. Answers
    /// how many came and how long it took until all were accepted.
    pub(super) async fn streamed(&self, time: Duration, most: u64) -> Result<Taken, Error> {
        let pieces = self.pieces();
        let mut sender = self.connect().await?;
        let (start, clock) = (self.clock.monotonic(), self.clock.clone());
        let (count, counted) = watch::channel(0);
        let body = StreamBody::new(stream::iter((0..).map_while(move |turn: usize| {
            let (events, piece) = pieces.get(turn % pieces.len().max(1))?;
            let wanted = clock.monotonic() < start + time && *count.borrow() < most;
            wanted.then(|| {
                count.send_modify(|sum| *sum += events);
                Ok::<_, Infallible>(Frame::data(piece.clone()))
            })
        })));
        let request = self.post("application/x-ndjson", body)?;
        accepted(sender.send_request(request).await.map_err(broken)?).await?;
        let events = *counted.borrow();
        Ok(Taken { events, in_time: self.clock.monotonic().saturating_sub(start), spread: Spread::default() })
    }

    /// Lines of events, put together beforehand; with how many are in each piece.
    fn pieces(&self) -> Vec<(u64, Bytes)> {
        let mut pieces = Vec::new();
        let (mut lines, mut piece) = (0, Vec::with_capacity(PIECE));
        for event in self.events.iter() {
            piece.extend_from_slice(event);
            piece.push(b'\n');
            lines += 1;
            if piece.len() >= PIECE {
                pieces.push((std::mem::take(&mut lines), Bytes::from(std::mem::take(&mut piece))));
            }
        }
        if lines > 0 && pieces.is_empty() {
            pieces.push((lines, Bytes::from(piece)));
        }
        pieces
    }

    /// Waits until nothing is left to do.
    pub(super) async fn settled(&self) -> Result<(), Error> {
        let path = format!("/wait?through=all&timeout={SETTLE}");
        drop(self.get(&path).await?);
        Ok(())
    }

    /// Waits until this event is settled.
    pub(super) async fn settled_through(&self, sequence: Seq) -> Result<(), Error> {
        drop(self.get(&format!("/wait?through={sequence}&timeout={SETTLE}")).await?);
        Ok(())
    }

    /// The whole answer to a question.
    pub(super) async fn get(&self, path: &str) -> Result<Bytes, Error> {
        self.ask(Request::get(path)).await
    }

    /// Tells the host to do something.
    pub(super) async fn order(&self, path: &str) -> Result<(), Error> {
        self.ask(Request::post(path)).await.map(drop)
    }

    async fn ask(&self, request: hyper::http::request::Builder) -> Result<Bytes, Error> {
        let mut sender = self.connect().await?;
        let request = request.header(header::HOST, &self.base.authority).body(Full::<Bytes>::default());
        let request = request.map_err(|e| Error::bug("cannot ask").because(e))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
        if status.is_success() { Ok(body) } else { Err(refused(status, &body)) }
    }

    /// Events at a fixed rate, whatever the host does: each is timed from when it was to be sent until its outcome is told, so that
    /// a host that falls behind shows it (no coordinated omission).
    pub(super) async fn at_rate(
        &self,
        rate: u32,
        clients: usize,
        time: Duration,
        watched: Watched,
    ) -> Result<Spread, Error> {
        let senders = try_join_all((0..clients).map(|_| self.connect())).await?;
        let ends = self.ends(watched).await?;
        let total = (f64::from(rate) * time.as_secs_f64()) as usize;
        let due = Mutex::new(metronome(self.clock.clone(), rate, total));
        let sent = RefCell::new(HashMap::with_capacity(total));
        let client = |mut sender: SendRequest<Full<Bytes>>| {
            let (due, sent) = (&due, &sent);
            async move {
                loop {
                    let next = due.lock().await.recv().await;
                    let Some((index, at)) = next else { return Ok::<_, Error>(()) };
                    let sequence = place(&self.send(&mut sender, self.event(index)).await?)?;
                    sent.borrow_mut().insert(sequence, at);
                }
            }
        };
        for ended in join_all(senders.into_iter().map(client)).await {
            ended?;
        }
        let sent = sent.into_inner();
        let told = self.told(ends, &sent).await?;
        let mut spread = Spread::default();
        for (sequence, at) in &sent {
            let told = told.get(sequence).ok_or_else(|| {
                Error::state(format!("what event {sequence} came to was not told in time"))
                    .hint("The host does not keep up with the rate: measure a lower one with `--rate`.")
            })?;
            spread.add(told.saturating_sub(*at));
        }
        Ok(spread)
    }

    /// When the end of each of these was told.
    async fn told(
        &self,
        mut ends: mpsc::UnboundedReceiver<(Seq, Duration)>,
        sent: &HashMap<Seq, Duration>,
    ) -> Result<HashMap<Seq, Duration>, Error> {
        let mut told = HashMap::with_capacity(sent.len());
        let until = self.clock.monotonic() + LAST_OUTCOMES;
        while sent.keys().any(|sequence| !told.contains_key(sequence)) {
            tokio::select! {
                one = ends.recv() => match one {
                    Some((sequence, at)) => drop(told.insert(sequence, at)),
                    None => break,
                },
                () = self.clock.sleep_until(until) => break,
            }
            while let Ok((sequence, at)) = ends.try_recv() {
                told.insert(sequence, at);
            }
        }
        Ok(told)
    }

    /// What events came to, as the host tells of it, with the moment at which it did.
    async fn ends(&self, watched: Watched) -> Result<mpsc::UnboundedReceiver<(Seq, Duration)>, Error> {
        let mut sender = self.connect().await?;
        let path = watched.path();
        let request = Request::get(path).header(header::HOST, &self.base.authority).body(Full::<Bytes>::default());
        let request = request.map_err(|e| Error::bug("cannot ask").because(e))?;
        let mut body = sender.send_request(request).await.map_err(broken)?.into_body();
        let (send, ends) = mpsc::unbounded_channel();
        let clock = self.clock.clone();
        tokio::spawn(async move {
            let mut parser = Parser::default();
            // The connection is open as long as somebody asks it.
            let _open = sender;
            while let Some(Ok(frame)) = body.frame().await {
                let now = clock.monotonic();
                let messages = frame.data_ref().and_then(|data| parser.push(data)).unwrap_or_default();
                for sequence in messages.iter().filter_map(|message| watched.of(message)) {
                    if send.send((sequence, now)).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(ends)
    }
}

/// Says when each of `total` events is due. A thread of its own, because the runtime's timers are a millisecond coarse.
#[expect(clippy::disallowed_methods, reason = "to be told is to be late: the pause is what is measured against")]
fn metronome(clock: Arc<dyn Clock>, rate: u32, total: usize) -> mpsc::UnboundedReceiver<(usize, Duration)> {
    let (send, due) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let start = clock.monotonic();
        for index in 0..total {
            let at = start + Duration::from_secs_f64(index as f64 / f64::from(rate.max(1)));
            std::thread::sleep(at.saturating_sub(clock.monotonic()));
            if send.send((index, at)).is_err() {
                return;
            }
        }
    });
    due
}

/// The body of an answer that says that the events are on disk.
async fn accepted(response: Response<hyper::body::Incoming>) -> Result<Bytes, Error> {
    let status = response.status();
    let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
    if status == StatusCode::ACCEPTED { Ok(body) } else { Err(refused(status, &body)) }
}

fn place(body: &[u8]) -> Result<Seq, Error> {
    let accepted: Option<Accepted> = serde_json::from_slice(body).ok();
    let place = accepted.and_then(|accepted| accepted.events.first().map(|place| place.sequence));
    place.ok_or_else(|| Error::bug("the host's answer does not say where the event is"))
}

fn broken(error: hyper::Error) -> Error {
    Error::environment("the connection to the host that is measured broke").because(error)
}

fn refused(status: StatusCode, body: &[u8]) -> Error {
    #[derive(Deserialize)]
    struct Detail {
        detail: Option<String>,
        #[serde(default)]
        errors: Vec<IgnoredAny>,
    }
    let detail: Option<Detail> = serde_json::from_slice(body).ok();
    let said = detail.and_then(|detail| detail.detail.filter(|_| detail.errors.len() < 2));
    Error::state(format!("the host that is measured answered {status}: {}", said.unwrap_or_default()))
}
