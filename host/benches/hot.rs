//! The functions that every event goes through, one by one: `make bench-micro`. What they cost together, and with a disk and sockets
//! around them, `tidegate bench` measures; what they may cost, `src/cost.txt` says.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on must say so and end")]

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use tidegate::clock::SystemClock;
use tidegate::dispatch::core::{Action, Core, Ended, Wake};
use tidegate::dispatch::lane::Left;
use tidegate::dispatch::settle::{Claim, settlement};
use tidegate::log::sqlite::{Options, SqliteLog};
use tidegate::log::{Activated, Activation, Commit, EventLog as _, Recovery, Settled, Settlement};
use tidegate::model::retry::RetryPolicy;
use tidegate::model::spec::{Ceilings, DeliverySpec, Deployment, Retention, ServerSpec, SubscriptionSpec};
use tidegate::model::{
    ConsumerName, ConsumerSpec, Digest, Envelope, Event, Generation, Grants, Limits, Moment, Outcome, Report,
    Timestamp, TypePattern,
};
use tidegate::registry::catalogue::Catalogue;
use tidegate::registry::{Consumer, Snapshot};
use tidegate::sandbox::{self, Call, Compiler, Dependencies, Exports, Invoke, Sandbox};
use tidegate::server::event::{Defaults, native};

/// Events of a group.
const EVENTS: u64 = 512;
const NOW: Moment = Moment { wall: Timestamp(1_767_225_600_000_000), monotonic: Duration::ZERO };

fn main() {
    divan::main();
}

/// An order of some 450 bytes in native JSON, as producers send it.
fn order(seq: u64) -> String {
    let item = |k: u64| format!(r#"{{"sku":"SKU-{:05}","quantity":{k},"price":"{}.99"}}"#, seq + k, k * 7);
    let items: Vec<String> = (1..=7).map(item).collect();
    let items = items.join(",");
    format!(
        r#"{{"type":"order.created","source":"/bench","data":{{"orderId":"ord-{seq}","total":"1.5","items":[{items}]}}}}"#
    )
}

fn read(text: &str, seq: u64) -> Envelope {
    let defaults = Defaults {
        now: NOW.wall,
        source: None,
        traceparent: None,
        event_bytes: 1 << 20,
        version: &|_| None,
        id: &|_| format!("01939c2e-0000-7000-8000-{seq:012}"),
    };
    native(text.as_bytes(), &defaults).unwrap()
}

fn event(seq: u64) -> Arc<Event> {
    Arc::new(Event { seq, accepted_at: NOW.wall, envelope: read(&order(seq), seq) })
}

fn spec(name: &str, on: &str) -> ConsumerSpec {
    let pattern = TypePattern::new(on).unwrap();
    ConsumerSpec {
        name: ConsumerName::new(name).unwrap(),
        component: "none.wasm".into(),
        digest: None,
        subscriptions: vec![SubscriptionSpec { pattern, version: None, condition: None }],
        answers: Vec::new(),
        delivery: DeliverySpec::default(),
        limits: Limits::default(),
        retry: RetryPolicy::default(),
        grants: Grants::default(),
    }
}

/// A handler that is done at once.
struct Done;

impl Invoke for Done {
    fn exports(&self) -> Exports {
        Exports::ALL
    }

    fn invoke(&self, _: Call) -> Pin<Box<dyn Future<Output = Report> + Send + '_>> {
        Box::pin(async { done() })
    }

    fn invoke_batch(&self, calls: Vec<Call>) -> Pin<Box<dyn Future<Output = Result<Vec<Report>, Report>> + Send + '_>> {
        Box::pin(async move { Ok(calls.iter().map(|_| done()).collect()) })
    }
}

fn done() -> Report {
    Report::bare(Outcome::Done, None, NOW.wall)
}

fn consumer(name: &str, on: &str) -> Consumer {
    Consumer { spec: Arc::new(spec(name, on)), digest: Digest::of(name.as_bytes()), handler: Arc::new(Done) }
}

#[divan::bench]
fn reading_an_event(bencher: Bencher<'_, '_>) {
    let text = order(1);
    bencher.counter(ItemsCount::new(1_u64)).bench(|| read(divan::black_box(&text), 1));
}

#[divan::bench(args = ["order.created", "order.*", "payment.**"])]
fn matching_a_subscription(bencher: Bencher<'_, '_>, pattern: &str) {
    let (event, spec) = (event(1), spec("measured", pattern));
    bencher.bench(|| spec.subscriptions.iter().any(|subscription| subscription.matches(divan::black_box(&event))));
}

#[divan::bench]
fn what_an_attempt_caused(bencher: Bencher<'_, '_>) {
    let mut core = core(0);
    let claims = claims(core.handle([Wake::Commit(Commit::Events(vec![event(1)]))], NOW));
    let claim = claims.first().unwrap();
    bencher.bench(|| settlement(divan::black_box(claim), done(), NOW.wall, 7));
}

/// A core with a consumer of orders and others that wait for what nobody sends.
fn core(idle: u64) -> Core {
    let others = (0..idle).map(|n| consumer(&format!("idle-{n}"), "nothing"));
    let all = others.chain([consumer("measured", "order.created")]);
    let consumers: BTreeMap<_, _> = all.map(|consumer| (consumer.spec.name.clone(), consumer)).collect();
    let day = Duration::from_secs(86_400);
    let deployment = Arc::new(Deployment {
        server: ServerSpec { listen: ([127, 0, 0, 1], 0).into(), hosts: vec![], tokens: vec![], grace: day },
        database: "none.db".into(),
        folder: None,
        retention: Retention { events: day, outcomes: day },
        ceilings: Ceilings { attempts: 64, ..Ceilings::default() },
        events: BTreeMap::new(),
        consumers: BTreeMap::new(),
        pipelines: BTreeMap::new(),
        schedules: BTreeMap::new(),
    });
    let catalogue = Arc::new(Catalogue::new(&deployment));
    let generation = Generation(1);
    let snapshot = Snapshot { generation, deployment, consumers: Arc::new(consumers), catalogue };
    let mut core = Core::new(0);
    let activated = Commit::Activated(Activated { generation, from: 1 });
    let mut wakes = vec![Wake::Prepared(Some(snapshot)), Wake::Commit(activated)];
    while !wakes.is_empty() {
        let answer = |action| match action {
            Action::Recover(name) => Some(Wake::Recovered(name, Recovery::default())),
            Action::Load(name, priority, _) => Some(Wake::Loaded(name, priority, Some(vec![]))),
            Action::Ring => Some(Wake::Rang(Some(None))),
            _ => None,
        };
        wakes = core.handle(wakes, NOW).into_iter().filter_map(answer).collect();
    }
    core
}

fn claims(actions: Vec<Action>) -> Vec<Claim> {
    let claim = |action| if let Action::Attempt(claim, _) = action { Some(*claim) } else { None };
    actions.into_iter().filter_map(claim).collect()
}

/// From its commit until it has ended, each attempt in a turn of the loop of its own: as it is where they come one by one.
#[divan::bench(args = [0, 1_000])]
fn a_delivery_in_the_core(bencher: Bencher<'_, '_>, idle: u64) {
    let mut core = core(idle);
    let mut seq = 0;
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        let events = (0..EVENTS).map(|_| {
            seq += 1;
            Arc::new(Event {
                seq,
                accepted_at: NOW.wall,
                envelope: Envelope { event_type: "order.created".into(), ..bare() },
            })
        });
        let mut open = claims(core.handle([Wake::Commit(Commit::Events(events.collect()))], NOW));
        while let Some(claim) = open.pop() {
            let settlement = settlement(&claim, done(), NOW.wall, 7).unwrap();
            let id = claim.id;
            open.extend(claims(core.handle([Wake::Called(vec![id.clone()])], NOW)));
            let settled = Wake::Commit(Commit::Settled(id.clone(), Settled::Committed));
            let ended = Wake::Ended(vec![Ended::one(id, left(&settlement), Duration::from_micros(10))]);
            open.extend(claims(core.handle([settled, ended], NOW)));
        }
    });
}

/// How a settlement that stands leaves its delivery.
fn left(settlement: &Settlement) -> Left {
    Left::Settled { next: settlement.next, outcome: settlement.record.outcome, hold: None }
}

fn bare() -> Envelope {
    Envelope::of_host("order.created", "1".into(), NOW.wall, &serde_json::Value::Null)
}

/// A whole attempt: a fresh instance, the call of a guest that parses the order, and all that the sandbox does around them.
#[divan::bench]
fn an_attempt_in_the_sandbox(bencher: Bencher<'_, '_>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests/wasm32-wasip2/release/order.wasm");
    let component = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; run `make guests`", path.display()));
    let clock = Arc::new(SystemClock::new());
    let options = sandbox::Options { ceilings: Ceilings::default(), cache: None, compiler: Compiler::InProcess, clock };
    let sandbox = Sandbox::new(options).unwrap();
    let spec = spec("measured", "order.created");
    let loaded = runtime.block_on(sandbox.load(component.into(), &spec, Dependencies::none())).unwrap();
    let event = event(1);
    bencher.bench_local(|| {
        let call = Call {
            event: event.clone(),
            round: 0,
            call: 1,
            attempt: 1,
            attempts_max: 3,
            replayed: false,
            ephemeral: false,
            seed: 7,
            limits: Default::default(),
            run: None,
        };
        let report = runtime.block_on(loaded.invoke(call));
        assert_eq!(report.outcome, Outcome::Done);
    });
}

/// 512 events appended in one commit, and their outcomes in the next, on a database on the disk of the temporary folder.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn a_group_in_the_log(bencher: Bencher<'_, '_>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (log, _commits) =
        SqliteLog::open(Options::new(folder.path().join("bench.db"), Arc::new(SystemClock::new()))).unwrap();
    let consumer = consumer("measured", "order.created");
    let of = vec![(consumer.spec.name.clone(), consumer.spec.subscriptions.clone())];
    let activation = Activation { digest: Digest::of(b"1"), subscriptions: of, from: Vec::new() };
    runtime.block_on(log.activate(activation)).unwrap();
    let mut core = core(0);
    let mut seq = 0;
    let group = || {
        let first = seq + 1;
        seq += EVENTS;
        let events: Vec<Arc<Event>> = (first..=seq).map(event).collect();
        let settlements = settled(&mut core, events.clone());
        (events.iter().map(|event| event.envelope.clone()).collect::<Vec<_>>(), settlements)
    };
    let group = std::cell::RefCell::new(group);
    bencher.counter(ItemsCount::new(EVENTS)).with_inputs(|| group.borrow_mut()()).bench_local_values(
        |(events, settlements)| {
            runtime.block_on(async {
                log.append(events).await.unwrap();
                let settled = log.settle_each(settlements, false).await.unwrap();
                assert!(settled.iter().all(|settled| *settled == Settled::Committed));
            });
        },
    );
}

/// What comes of the deliveries of these events.
fn settled(core: &mut Core, events: Vec<Arc<Event>>) -> Vec<Settlement> {
    let mut settlements = Vec::new();
    let mut wakes = vec![Wake::Commit(Commit::Events(events))];
    while !wakes.is_empty() {
        for claim in claims(core.handle(wakes.drain(..), NOW)) {
            let settlement = settlement(&claim, done(), NOW.wall, 7).unwrap();
            let id = claim.id;
            wakes.push(Wake::Called(vec![id.clone()]));
            wakes.push(Wake::Ended(vec![Ended::one(id, left(&settlement), Duration::from_micros(10))]));
            settlements.push(settlement);
        }
    }
    settlements
}
