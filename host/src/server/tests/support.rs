//! A log that remembers, a host that says what it is told to, and a client that speaks in bytes.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{broadcast, watch};

use crate::clock::Clock;
use crate::log::{
    Activated, Activation, Appended, DeadDecision, DeadSelection, Error, EventLog, Pending, Recovery, Rekey, Settled,
    Settlement, Waiting,
};
use crate::model::pipeline::errand::{Errand, Order};
use crate::model::pipeline::run::{Refusal, RunId, Status};
use crate::model::question::{Question, Reply, Unanswered};
use crate::model::replay::{Replay, ReplaySpec, ReplayStep};
use crate::model::spec::{Ceilings, EventSpec, Retention, SchemaSpec, Scope, Secret, ServerSpec, TokenSpec};
use crate::model::{
    ConsumerName, DeliveryId, Deployment, Envelope, Event, Generation, Payload, Priority, Seq, Timestamp,
};
use crate::registry::catalogue::Catalogue;
use crate::registry::{Registry, Snapshot};
use crate::server::app::{App, Wire};
use crate::server::framing::Framing;
use crate::server::{Control, Diagnostics, Live, Parts, Reloaded, accept};
use crate::telemetry::Metrics;

pub(super) const NOW: Timestamp = Timestamp(1_767_225_600_000_000);
/// Up to where everything is settled, if it is.
pub(super) const ALL_SETTLED: Seq = 12;

/// Remembers what was appended; refuses what it is told to refuse.
#[derive(Default)]
pub(super) struct FakeLog {
    pub events: Mutex<Vec<Arc<Event>>>,
    /// Errors to answer with, first the first.
    pub refusals: Mutex<Vec<Error>>,
    pub decided: Mutex<Vec<(DeadSelection, DeadDecision)>>,
    pub replays: Mutex<Vec<ReplaySpec>>,
    pub orders: Mutex<Vec<(RunId, Order)>>,
    pub groups: Mutex<Vec<usize>>,
}

impl FakeLog {
    pub(super) fn envelopes(&self) -> Vec<Envelope> {
        self.events.lock().unwrap().iter().map(|event| event.envelope.clone()).collect()
    }

    fn put(&self, new: Vec<Envelope>) -> Result<Vec<Appended>, Error> {
        if let Some(error) = self.refusals.lock().unwrap().pop() {
            return Err(error);
        }
        let mut events = self.events.lock().unwrap();
        let same = |known: &Event, new: &Envelope| known.envelope.id == new.id && known.envelope.source == new.source;
        for (index, new) in new.iter().enumerate() {
            if let Some(known) = events.iter().find(|known| same(known, new) && !known.envelope.same_statement(new)) {
                let (source_name, id) = (new.source.clone(), new.id.clone());
                return Err(Error::Conflict { index, source_name, id, seq: known.seq });
            }
        }
        self.groups.lock().unwrap().push(new.len());
        let mut appended = Vec::new();
        for envelope in new {
            if let Some(known) = events.iter().find(|known| same(known, &envelope)) {
                appended.push(Appended { seq: known.seq, duplicate: true });
                continue;
            }
            let seq = events.len() as Seq + 1;
            events.push(Arc::new(Event { seq, accepted_at: NOW, envelope }));
            appended.push(Appended { seq, duplicate: false });
        }
        Ok(appended)
    }
}

impl EventLog for FakeLog {
    fn append(&self, events: Vec<Envelope>) -> Pending<Vec<Appended>> {
        let result = self.put(events);
        Box::pin(async move { result })
    }

    fn settle(&self, _: Vec<Settlement>) -> Pending<Settled> {
        Box::pin(async { Err(Error::Closed) })
    }

    fn settle_each(&self, _: Vec<Settlement>, _: bool) -> Pending<Vec<Settled>> {
        Box::pin(async { Err(Error::Closed) })
    }

    fn park(&self, _: Vec<Waiting>) -> Pending<()> {
        Box::pin(async { Err(Error::Closed) })
    }

    fn claim(&self, _: DeliveryId) -> Pending<()> {
        Box::pin(async { Err(Error::Closed) })
    }

    fn pause(&self, _: ConsumerName, _: bool) -> Pending<bool> {
        Box::pin(async { Err(Error::Closed) })
    }

    fn release(&self, _: ConsumerName, _: Vec<String>) -> Pending<Vec<String>> {
        Box::pin(async { Err(Error::Closed) })
    }

    fn blocked(&self, _: ConsumerName, _: String, _: bool, _: usize) -> Pending<Vec<Waiting>> {
        Box::pin(async { Err(Error::Closed) })
    }

    fn marked(&self, _: ConsumerName, _: String) -> Pending<Option<DeliveryId>> {
        Box::pin(async { Err(Error::Closed) })
    }

    fn rekey(&self, _: Rekey) -> Pending<Option<(Seq, u32)>> {
        Box::pin(async { Err(Error::Closed) })
    }

    fn activate(&self, _: Activation) -> Pending<Activated> {
        Box::pin(async { Err(Error::Closed) })
    }

    fn decide_dead(&self, dead: DeadSelection, decision: DeadDecision) -> Pending<Vec<DeliveryId>> {
        let ids = dead.ids.clone();
        self.decided.lock().unwrap().push((dead, decision));
        Box::pin(async move { Ok(ids) })
    }

    fn errand(&self, _: DeliveryId) -> Pending<Option<Errand>> {
        Box::pin(async { Err(Error::Closed) })
    }

    fn run_of(&self, _: ConsumerName, _: String) -> Pending<Option<RunId>> {
        Box::pin(async { Err(Error::Closed) })
    }

    fn order_run(&self, run: RunId, order: Order) -> Pending<Option<Result<Status, Refusal>>> {
        let answer = match run.seq {
            1 => Some(Ok(Status::Compensating)),
            2 => Some(Err(Refusal::Over(Status::Completed))),
            3 => Some(Err(Refusal::NoStep { pipeline: run.pipeline.clone(), step: "x".into(), known: Vec::new() })),
            _ => None,
        };
        self.orders.lock().unwrap().push((run, order));
        Box::pin(async { Ok(answer) })
    }

    fn ring(&self) -> Pending<Option<Timestamp>> {
        Box::pin(async { Err(Error::Closed) })
    }

    fn start_replay(&self, spec: ReplaySpec) -> Pending<u64> {
        self.replays.lock().unwrap().push(spec);
        Box::pin(async { Ok(1) })
    }

    fn step_replay(&self, _: ReplayStep) -> Pending<Option<Replay>> {
        Box::pin(async { Err(Error::Closed) })
    }

    fn cancel_replay(&self, _: u64) -> Pending<bool> {
        Box::pin(async { Ok(false) })
    }

    fn running_replays(&self) -> Pending<Vec<Replay>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn advance(&self, _: Vec<(ConsumerName, Seq)>) {}

    fn read(&self, after: Seq, limit: usize) -> Pending<Vec<Arc<Event>>> {
        let events = self.events.lock().unwrap();
        let events = events.iter().filter(|event| event.seq > after).take(limit).cloned().collect();
        Box::pin(async move { Ok(events) })
    }

    fn recover(&self, _: ConsumerName) -> Pending<Recovery> {
        Box::pin(async { Err(Error::Closed) })
    }

    fn waiting(
        &self,
        _: ConsumerName,
        _: Priority,
        _: Option<(Timestamp, DeliveryId)>,
        _: usize,
    ) -> Pending<Vec<Waiting>> {
        Box::pin(async { Err(Error::Closed) })
    }
}

/// A host that says what it is told to say.
#[derive(Default)]
pub(super) struct FakeControl {
    pub unready: Mutex<Option<String>>,
    pub refuse_reload: Mutex<bool>,
    pub settles: Mutex<bool>,
    /// Questions that came, and answers to give, the last first.
    pub asked: Mutex<Vec<Question>>,
    pub answers: Mutex<Vec<Result<Payload, Unanswered>>>,
}

impl Control for FakeControl {
    fn ask(&self, question: Question) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        let answer = self.answers.lock().unwrap().pop().unwrap_or(Err(Unanswered::NoResponder));
        let reply = Reply {
            id: format!("q-{}", self.asked.lock().unwrap().len() + 1),
            correlation_id: question.correlation_id.clone().unwrap_or_default(),
            responder: answer.as_ref().ok().and(ConsumerName::new("stock").ok()),
            answer,
            duration: Duration::from_millis(7),
        };
        self.asked.lock().unwrap().push(question);
        Box::pin(std::future::ready(reply))
    }

    fn ready(&self) -> Vec<(&'static str, Result<(), String>)> {
        vec![("log", self.unready.lock().unwrap().clone().map_or(Ok(()), Err)), ("consumers", Ok(()))]
    }

    fn running(&self, _: &ConsumerName) -> u64 {
        0
    }

    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<Reloaded, Diagnostics>> + Send>> {
        let refused = *self.refuse_reload.lock().unwrap();
        Box::pin(async move {
            if refused {
                return Err(vec![json!({ "code": "unknown-key", "message": "no such key" })]);
            }
            Ok(Reloaded { generation: Generation(2), changes: vec!["added mailer".into()] })
        })
    }

    fn wait_settled(&self, through: Option<Seq>) -> Pin<Box<dyn Future<Output = Seq> + Send>> {
        let through = through.unwrap_or(ALL_SETTLED);
        if *self.settles.lock().unwrap() { Box::pin(async move { through }) } else { Box::pin(std::future::pending()) }
    }
}

/// Stands still, but lets sleepers go on with tokio's clock.
struct FakeClock;

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep_until(tokio::time::Instant::now() + at))
    }
}

pub(super) struct Fixture {
    pub app: Arc<App>,
    pub log: Arc<FakeLog>,
    pub control: Arc<FakeControl>,
    pub live: broadcast::Sender<Live>,
    pub stop: watch::Sender<bool>,
}

pub(super) fn token(name: &str, token: &str, scopes: &[Scope]) -> TokenSpec {
    TokenSpec { name: name.into(), token: Secret::new(token.into()), scopes: scopes.to_vec() }
}

pub(super) fn server() -> ServerSpec {
    ServerSpec {
        listen: "127.0.0.1:7420".parse().unwrap(),
        hosts: vec!["events.example".into()],
        tokens: Vec::new(),
        grace: Duration::from_secs(1),
    }
}

fn deployment(server: ServerSpec) -> Deployment {
    let document = json!({
        "type": "object", "required": ["total"], "properties": { "total": { "type": "number", "minimum": 0 } },
    });
    let declared = EventSpec {
        version: "1.2.0".into(),
        schema: Some(SchemaSpec { path: "schemas/checked.json".into(), document }),
        owner: None,
        description: None,
        examples: Vec::new(),
    };
    Deployment {
        server,
        database: "tidegate.db".into(),
        folder: None,
        retention: Retention { events: Duration::from_secs(1), outcomes: Duration::from_secs(1) },
        ceilings: Ceilings::default(),
        events: [("order.checked".to_owned(), declared)].into(),
        consumers: std::collections::BTreeMap::new(),
        pipelines: std::collections::BTreeMap::new(),
        schedules: std::collections::BTreeMap::new(),
    }
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::of(server())
    }

    pub(super) fn of(server: ServerSpec) -> Self {
        let (log, control) = (Arc::new(FakeLog::default()), Arc::new(FakeControl::default()));
        let (live, _) = broadcast::channel(16);
        let (stop, stopping) = watch::channel(false);
        let deployment = deployment(server);
        let snapshot = Snapshot {
            generation: Generation(1),
            catalogue: Arc::new(Catalogue::new(&deployment)),
            deployment: Arc::new(deployment),
            consumers: Arc::default(),
        };
        let parts = Parts {
            log: log.clone(),
            reader: super::reader::empty(),
            registry: Arc::new(Registry::new(snapshot)),
            metrics: Arc::new(Metrics::default()),
            clock: Arc::new(FakeClock),
            control: control.clone(),
            boot_token: "boot-token".into(),
            live: live.clone(),
        };
        Self { app: Arc::new(App::new(parts, stopping)), log, control, live, stop }
    }

    /// One request through everything but the connection.
    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let local: SocketAddr = "127.0.0.1:7420".parse().unwrap();
        let response = self.app.handle(request, Wire { framing: Framing::Clear, local: Some(local) }).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(request("GET", path, &[], "")).await
    }

    pub(super) async fn post(&self, path: &str, content_type: &str, body: impl Into<Body>) -> Answer {
        self.send(request("POST", path, &[("content-type", content_type)], body)).await
    }

    /// The client's end of a connection that is being served.
    pub(super) fn connect(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(256 << 10);
        let local = Some("127.0.0.1:7420".parse().unwrap());
        tokio::spawn(accept::connection(server, local, Arc::clone(&self.app), self.stop.subscribe()));
        client
    }

    /// Sends bytes and reads until the connection is closed.
    pub(super) async fn bytes(&self, bytes: &[u8]) -> String {
        let mut client = self.connect();
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end as well.
        client.read_to_end(&mut answer).await.ok();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

pub(super) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        builder = builder.header("host", "localhost:7420");
    }
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body.into()).unwrap()
}

#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts that this is a problem document of that kind, which says what to do, and gives it back.
    #[track_caller]
    pub(super) fn problem(&self, status: u16, kind: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.header("x-content-type-options"), "nosniff");
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:tidegate:problem:{kind}"));
        assert_eq!(problem["status"], status);
        assert!(!problem["title"].as_str().unwrap().is_empty() && problem["detail"].as_str().unwrap().len() > 20);
        problem
    }
}
