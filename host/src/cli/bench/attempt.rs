//! What an attempt costs inside the sandbox, without a log or a queue around it: in this process, on one thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::error::Error;
use super::bed::{Bed, CONSUMER, Grants};
use super::load::Target;
use super::spread::Spread;
use crate::model::pipeline::StepLimits;
use crate::model::retry::RetryPolicy;
use crate::model::spec::{Ceilings, DeliverySpec};
use crate::model::{ConsumerName, ConsumerSpec, Envelope, Event, Limits, Outcome, Payload};
use crate::sandbox::{CacheOptions, Call, Compiler, Dependencies, Invoke as _, LoadedComponent, Options, Sandbox};

/// What one attempt took and used.
pub(super) struct Cost {
    pub(super) spread: Spread,
    pub(super) attempts: u64,
    pub(super) in_time: Duration,
    pub(super) fuel: u64,
}

/// Attempts one after the other for so long.
pub(super) async fn measure(bed: &Bed, component: Bytes, target: &Target, time: Duration) -> Result<Cost, Error> {
    let clock = &target.clock;
    let events: Vec<Arc<Event>> =
        target.events.iter().zip(1..).map(|(event, seq)| Arc::new(delivered(event, seq))).collect();
    let loaded = load(bed, component, target).await?;
    let (start, mut spread, mut fuel) = (clock.monotonic(), Spread::default(), 0);
    let mut turns = events.iter().cycle();
    loop {
        let began = clock.monotonic();
        let Some(event) = turns.next().filter(|_| began < start + time) else { break };
        let report = loaded.invoke(call(event.clone())).await;
        spread.add(clock.monotonic().saturating_sub(began));
        if report.outcome != Outcome::Done {
            return Err(super::failed(report.outcome.as_str(), report.reason.as_deref(), 1));
        }
        fuel = report.usage.fuel;
    }
    let in_time = clock.monotonic().saturating_sub(start);
    Ok(Cost { attempts: spread.len() as u64, spread, in_time, fuel })
}

async fn load(bed: &Bed, component: Bytes, target: &Target) -> Result<LoadedComponent, Error> {
    let cannot = |e: &dyn std::fmt::Display| Error::manifest(format!("the component cannot be loaded: {e}"));
    let program = std::env::current_exe().map_err(|e| Error::environment("cannot find this program").because(e))?;
    let (directory, key_file) = (bed.path("data/compiled"), bed.path("data/compiled.key"));
    let sandbox = Sandbox::new(Options {
        ceilings: Ceilings::default(),
        cache: Some(CacheOptions { directory, key_file }),
        compiler: Compiler::Child { program, args: vec!["compile-component".into()] },
        clock: target.clock.clone(),
    });
    let sandbox = sandbox.map_err(|e| cannot(&e))?;
    let spec = ConsumerSpec {
        name: ConsumerName::new(CONSUMER).map_err(|e| cannot(&e))?,
        component: PathBuf::new(),
        digest: None,
        subscriptions: Vec::new(),
        answers: Vec::new(),
        delivery: DeliverySpec::default(),
        limits: Limits::default(),
        retry: RetryPolicy::default(),
        grants: Grants::of(&component).spec(),
    };
    sandbox.load(component, &spec, Dependencies::none()).await.map_err(|e| cannot(&e))
}

fn delivered(event: &Bytes, seq: u64) -> Event {
    let sent: serde_json::Value = serde_json::from_slice(event).unwrap_or_default();
    let event_type = sent.get("type").and_then(|t| t.as_str()).unwrap_or_default();
    let data = sent.get("data").map(ToString::to_string).unwrap_or_default();
    let now = crate::model::Timestamp::from_millis(1_767_225_600_000);
    let envelope =
        Envelope::of_host(event_type, format!("01939c2e-0000-7000-8000-{seq:012}"), now, &serde_json::Value::Null);
    let payload = Some(Payload { content_type: "application/json".into(), data: Bytes::from(data) });
    Event { seq, accepted_at: now, envelope: Envelope { source: "/bench".into(), payload, ..envelope } }
}

fn call(event: Arc<Event>) -> Call {
    Call {
        event,
        round: 0,
        call: 1,
        attempt: 1,
        attempts_max: 3,
        replayed: false,
        ephemeral: false,
        seed: 7,
        limits: StepLimits::default(),
        run: None,
    }
}
