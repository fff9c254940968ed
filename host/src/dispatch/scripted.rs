//! A consumer without a component: a function stands for its handler. For tests of the rooms above the sandbox.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::spec::{DeliverySpec, SubscriptionSpec};
use crate::model::{
    ConsumerName, ConsumerSpec, Digest, Envelope, Event, Grants, Limits, Outcome, Payload, Report, Timestamp,
    TypePattern,
};
use crate::registry::Consumer;
use crate::sandbox::{Call, Exports, Invoke};

type Script = dyn Fn(&Call) -> Report + Send + Sync;

pub(crate) struct Scripted(Box<Script>);

impl Invoke for Scripted {
    fn exports(&self) -> Exports {
        Exports::ALL
    }

    fn invoke(&self, call: Call) -> Pin<Box<dyn Future<Output = Report> + Send + '_>> {
        Box::pin(async move { (self.0)(&call) })
    }

    fn invoke_batch(&self, calls: Vec<Call>) -> Pin<Box<dyn Future<Output = Result<Vec<Report>, Report>> + Send + '_>> {
        Box::pin(async move { Ok(calls.iter().map(|call| (self.0)(call)).collect()) })
    }
}

pub(crate) fn spec(name: &str, pattern: &str) -> ConsumerSpec {
    ConsumerSpec {
        name: ConsumerName::new(name).unwrap(),
        component: "none.wasm".into(),
        digest: None,
        subscriptions: vec![SubscriptionSpec {
            pattern: TypePattern::new(pattern).unwrap(),
            version: None,
            condition: None,
        }],
        answers: Vec::new(),
        delivery: DeliverySpec::default(),
        limits: Limits::default(),
        retry: crate::model::retry::RetryPolicy::default(),
        grants: Grants::default(),
    }
}

pub(crate) fn reporting(
    name: &str,
    pattern: &str,
    script: impl Fn(&Call) -> Report + Send + Sync + 'static,
) -> Consumer {
    Consumer {
        spec: Arc::new(spec(name, pattern)),
        digest: Digest::of(name.as_bytes()),
        handler: Arc::new(Scripted(Box::new(script))),
    }
}

pub(crate) fn consumer(
    name: &str,
    pattern: &str,
    script: impl Fn(&Call) -> Outcome + Send + Sync + 'static,
) -> Consumer {
    reporting(name, pattern, move |call| Report::bare(script(call), None, Timestamp(0)))
}

pub(crate) fn envelope(id: &str, event_type: &str) -> Envelope {
    Envelope {
        id: id.into(),
        event_type: event_type.into(),
        source: "test".into(),
        subject: None,
        key: None,
        data_version: "1.0.0".into(),
        timestamp: Timestamp(0),
        correlation_id: id.into(),
        causation_id: None,
        traceparent: None,
        not_before: None,
        job: None,
        attributes: serde_json::Map::new(),
        payload: Some(Payload { content_type: "application/json".into(), data: Bytes::from_static(b"{}") }),
        depth: 0,
    }
}

pub(crate) fn event(seq: u64, event_type: &str) -> Event {
    Event { seq, accepted_at: Timestamp(0), envelope: envelope(&format!("event-{seq}"), event_type) }
}
