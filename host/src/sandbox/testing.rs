//! What tests of the sandbox share: a sandbox, the built guests, events with a payload.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::capability::http::{Network, Resolver};
use super::instance::{Consumer, Host};
use super::limits::MemoryBudget;
use super::{Call, Compiler, Dependencies, Invoke, LoadError, LoadedComponent, Options, Sandbox};
use crate::clock::SystemClock;
use crate::model::retry::RetryPolicy;
use crate::model::spec::{Ceilings, ConsumerSpec, DeliverySpec};
use crate::model::{ConsumerName, Envelope, Event, Grants, Limits, Payload, Report, Timestamp};

/// A guest of `tests/guests`, built.
pub(super) fn guest(name: &str) -> Bytes {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../target/guests/wasm32-wasip2/release")
        .join(format!("{name}.wasm"));
    let problem = |error| panic!("{}: {error}; build the guests first: tests/guests/build", path.display());
    std::fs::read(&path).unwrap_or_else(problem).into()
}

pub(super) fn sandbox() -> Sandbox {
    sandbox_with(Ceilings { attempts: 8, ..Ceilings::default() })
}

pub(super) fn sandbox_with(ceilings: Ceilings) -> Sandbox {
    let clock = Arc::new(SystemClock::new());
    Sandbox::new(Options { ceilings, cache: None, compiler: Compiler::InProcess, clock }).unwrap()
}

pub(super) fn spec(limits: Limits, grants: Grants) -> ConsumerSpec {
    ConsumerSpec {
        name: ConsumerName::new("guest").unwrap(),
        component: PathBuf::new(),
        digest: None,
        subscriptions: Vec::new(),
        delivery: DeliverySpec::default(),
        limits,
        retry: RetryPolicy::default(),
        grants,
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
        attributes: Default::default(),
        payload: Some(Payload { content_type: "application/json".into(), data: data.to_owned().into() }),
        depth: 0,
    };
    Event { seq: 7, accepted_at: Timestamp(1_795_000_000_000_000), envelope }
}

pub(super) fn call(event: Event) -> Call {
    Call { event: Arc::new(event), round: 0, attempt: 1, attempts_max: 3, replayed: false, seed: 42 }
}

/// A store's data without a store, for capabilities by themselves.
pub(super) fn host(limits: Limits, grants: Grants, resolver: Resolver) -> Host {
    host_on(Dependencies::none(), limits, grants, resolver)
}

pub(super) fn host_on(dependencies: Dependencies, limits: Limits, grants: Grants, resolver: Resolver) -> Host {
    let consumer = Consumer {
        name: ConsumerName::new("guest").unwrap(),
        limits,
        network: Network::new(&grants.http, resolver),
        grants,
        dependencies,
        event_bytes_max: 1 << 20,
    };
    let clock: Arc<dyn crate::clock::Clock> = Arc::new(SystemClock::new());
    let budget = Arc::new(MemoryBudget::new(1 << 30));
    Host::new(&Arc::new(consumer), &call(event("{}")), &clock, &budget, limits.timeout)
}

pub(super) async fn run(component: &LoadedComponent, data: &str) -> Report {
    component.invoke(call(event(data))).await
}
