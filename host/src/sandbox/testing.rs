//! What tests of the sandbox share: a sandbox, the built guests, events with a payload.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::capability::http::{Network, Resolver};
use super::cause::Cause;
use super::deadline::Allowance;
use super::instance::{Consumer, Host};
use super::limits::MemoryBudget;
use super::{Call, Compiler, Dependencies, Invoke, LoadError, LoadedComponent, Options, Sandbox};
use crate::clock::{Clock, SystemClock};
use crate::model::retry::RetryPolicy;
use crate::model::spec::{Ceilings, ConsumerSpec, DeliverySpec, OriginSpec, Secret, SecretSpec};
use crate::model::{ConsumerName, Envelope, Event, Grants, Limits, Payload, Report, Timestamp, TypePattern};

/// A guest of `tests/guests`, built.
pub(super) fn guest(name: &str) -> Bytes {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../target/guests/wasm32-wasip2/release")
        .join(format!("{name}.wasm"));
    let problem = |error| panic!("{}: {error}; build the guests first: tests/guests/build", path.display());
    std::fs::read(&path).unwrap_or_else(problem).into()
}

/// A component that exports empty interfaces of these names.
pub(super) fn exporting(interfaces: &[&str]) -> Bytes {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    for (n, interface) in interfaces.iter().enumerate() {
        let (n, name) = (u8::try_from(n).unwrap(), format!("tidegate:consumer/{interface}@0.1.0"));
        let size = u8::try_from(name.len()).unwrap();
        // An instance of nothing, and its export.
        bytes.extend([5, 3, 1, 1, 0, 11, size + 6, 1, 0, size]);
        bytes.extend([name.as_bytes(), &[5, n * 2, 0]].concat());
    }
    bytes.into()
}

pub(super) fn sandbox() -> Sandbox {
    sandbox_with(Ceilings { attempts: 8, ..Ceilings::default() })
}

pub(super) fn sandbox_with(ceilings: Ceilings) -> Sandbox {
    sandbox_on(Arc::new(SystemClock::new()), ceilings)
}

pub(super) fn sandbox_on(clock: Arc<dyn Clock>, ceilings: Ceilings) -> Sandbox {
    Sandbox::new(Options { ceilings, cache: None, compiler: Compiler::InProcess, clock }).unwrap()
}

pub(super) fn spec(limits: Limits, grants: Grants) -> ConsumerSpec {
    ConsumerSpec {
        name: ConsumerName::new("guest").unwrap(),
        component: PathBuf::new(),
        digest: None,
        subscriptions: Vec::new(),
        answers: Vec::new(),
        delivery: DeliverySpec::default(),
        limits,
        retry: RetryPolicy::default(),
        grants,
    }
}

/// Every grant there is.
pub(super) fn all_grants() -> Grants {
    let secret = |value: &str, reveal| SecretSpec { value: Secret::new(value.into()), reveal };
    Grants {
        publish: vec![TypePattern::new("order.**").unwrap()],
        jobs: vec![ConsumerName::new("worker").unwrap()],
        queries: vec![TypePattern::new("stock.*").unwrap()],
        http: vec![OriginSpec { https: true, host: "mail.example.com".into(), port: 443, private: false }],
        state: Some(1 << 20),
        config: Some([("sender".into(), "shop".into())].into()),
        secrets: Some([("hidden".into(), secret("hush", false)), ("shown".into(), secret("seen", true))].into()),
    }
}

pub(super) async fn load(sandbox: &Sandbox, name: &str, spec: &ConsumerSpec) -> Result<LoadedComponent, LoadError> {
    sandbox.load(guest(name), spec, Dependencies::none()).await
}

pub(super) fn event(data: &str) -> Event {
    let envelope = Envelope {
        id: "0190a1b2-0000-7000-8000-000000000001".into(),
        event_type: "order.created".into(),
        source: "/tests".into(),
        subject: Some("order-1".into()),
        key: None,
        data_version: "1.0.0".into(),
        timestamp: Timestamp(1_795_000_000_000_000),
        correlation_id: "correlation-1".into(),
        causation_id: None,
        traceparent: Some("00-11111111111111111111111111111111-2222222222222222-01".into()),
        not_before: None,
        job: None,
        attributes: Default::default(),
        payload: Some(Payload { content_type: "application/json".into(), data: data.to_owned().into() }),
        depth: 0,
    };
    Event { seq: 7, accepted_at: Timestamp(1_795_000_000_000_000), envelope }
}

pub(super) fn call(event: Event) -> Call {
    Call {
        event: Arc::new(event),
        round: 0,
        call: 1,
        attempt: 1,
        attempts_max: 3,
        replayed: false,
        ephemeral: false,
        seed: 42,
        limits: Default::default(),
        run: None,
    }
}

/// A store's data without a store, for capabilities by themselves.
pub(super) fn host(limits: Limits, grants: Grants, resolver: Resolver) -> Host {
    host_on(Dependencies::none(), limits, grants, resolver)
}

pub(super) fn host_on(dependencies: Dependencies, limits: Limits, grants: Grants, resolver: Resolver) -> Host {
    host_at(Arc::new(SystemClock::new()), dependencies, limits, grants, resolver)
}

pub(super) fn host_at(
    clock: Arc<dyn Clock>,
    dependencies: Dependencies,
    limits: Limits,
    grants: Grants,
    resolver: Resolver,
) -> Host {
    let consumer = Consumer {
        name: ConsumerName::new("guest").unwrap(),
        limits,
        network: Network::new(&grants.http, resolver),
        grants,
        dependencies,
        event_bytes_max: 1 << 20,
    };
    let budget = Arc::new(MemoryBudget::new(1 << 30));
    let cause = Cause::new(&call(event("{}")), &[]);
    Host::new(&Arc::new(consumer), cause, &clock, &budget, limits, Allowance::of(&limits))
}

pub(super) async fn run(component: &LoadedComponent, data: &str) -> Report {
    component.invoke(call(event(data))).await
}

/// A clock that a test moves, and that says who waits for it.
pub(super) struct ManualClock {
    elapsed: watch::Sender<Duration>,
    awaited: watch::Sender<BTreeSet<Duration>>,
}

impl ManualClock {
    pub(super) fn new() -> Arc<Self> {
        let start = Duration::from_secs(1_000);
        Arc::new(Self { elapsed: watch::Sender::new(start), awaited: watch::Sender::new(BTreeSet::new()) })
    }

    /// Waits until somebody sleeps until this moment, and makes it that moment.
    pub(super) async fn reach(&self, at: Duration) {
        self.awaited.subscribe().wait_for(|awaited| awaited.contains(&at)).await.unwrap();
        self.elapsed.send_replace(at);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_795_000_000_000_000).plus(*self.elapsed.borrow())
    }

    fn monotonic(&self) -> Duration {
        *self.elapsed.borrow()
    }

    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.awaited.send_modify(|awaited| _ = awaited.insert(at));
        let mut elapsed = self.elapsed.subscribe();
        Box::pin(async move { drop(elapsed.wait_for(|elapsed| *elapsed >= at).await) })
    }
}

/// A clock that moves on by a millisecond whenever somebody looks at it, and wakes nobody.
#[derive(Default)]
pub(super) struct LookedAtClock(AtomicU64);

impl Clock for LookedAtClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_795_000_000_000_000)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn sleep_until(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }
}
