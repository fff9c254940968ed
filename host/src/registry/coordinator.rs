//! A pipeline's handler: says what an event means for the pipeline's runs. Pure; what follows is the log's to carry out.

use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Consumer;
use crate::clock::Clock;
use crate::model::pipeline::errand::{Begins, Signal, key_of_event};
use crate::model::pipeline::{Definition, PipelineSpec, WaitSpec};
use crate::model::question::Unanswered;
use crate::model::retry::RetryPolicy;
use crate::model::spec::DeliverySpec;
use crate::model::{ConsumerName, ConsumerSpec, Deployment, Digest, Event, Grants, Limits, Outcome, Report};
use crate::sandbox::{Answered, Call, Exports, Invoke, QuestionCall};

/// Events looked at at once: each waits for no more than its settlement.
const CONCURRENCY: u32 = 64;

/// The definitions that runs go by which have not ended.
pub trait OpenRuns: Send + Sync {
    fn definitions(&self) -> Vec<Definition>;
}

/// There are none.
pub struct NoRuns;

impl OpenRuns for NoRuns {
    fn definitions(&self) -> Vec<Definition> {
        Vec::new()
    }
}

/// Definitions by which runs may begin, for as long as anybody holds them: a deployment does, and so do attempts in hand of earlier ones,
/// whose settlements begin runs that the log does not know of yet.
#[derive(Default)]
pub struct Beginnings(Mutex<Vec<Weak<Definition>>>);

impl Beginnings {
    fn keep(&self, definition: &Arc<Definition>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|definition| definition.strong_count() > 0);
        held.push(Arc::downgrade(definition));
    }

    pub(crate) fn definitions(&self) -> Vec<Definition> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().filter_map(Weak::upgrade).map(|definition| (*definition).clone()).collect()
    }
}

/// The pipelines of a deployment as the consumers that they are to the dispatcher. `earlier`: definitions that runs may still go
/// by. A pipeline that the deployment has no longer is there for its runs alone, and begins none.
pub(crate) fn consumers(
    deployment: &Deployment,
    earlier: &[Definition],
    beginnings: &Beginnings,
    clock: &Arc<dyn Clock>,
) -> BTreeMap<ConsumerName, Consumer> {
    let gone = earlier.iter().map(|definition| &definition.pipeline);
    // A name that a consumer has now is that consumer's.
    let gone = gone.filter(|name| !deployment.consumers.contains_key(*name));
    let names = deployment.pipelines.keys().chain(gone);
    let one = |name: &ConsumerName| {
        let of = earlier.iter().filter(|definition| definition.pipeline == *name);
        (name.clone(), consumer(name, deployment.pipelines.get(name), of, beginnings, clock))
    };
    names.map(one).collect()
}

fn consumer<'a>(
    name: &ConsumerName,
    spec: Option<&'a PipelineSpec>,
    earlier: impl Iterator<Item = &'a Definition>,
    beginnings: &Beginnings,
    clock: &Arc<dyn Clock>,
) -> Consumer {
    let mut waits: Vec<(String, WaitSpec)> = Vec::new();
    for step in spec.map(|spec| &spec.definition).into_iter().chain(earlier).flat_map(|definition| &definition.steps) {
        let wait = step.work.wait().map(|wait| (step.name.clone(), wait.clone()));
        waits.extend(wait.filter(|wait| !waits.contains(wait)));
    }
    let mut subscriptions = spec.map(|spec| spec.subscriptions.clone()).unwrap_or_default();
    for subscription in waits.iter().map(|(_, wait)| wait.subscription()) {
        if !subscriptions.contains(&subscription) {
            subscriptions.push(subscription);
        }
    }
    let begins = spec.map(|spec| (spec.clone(), Arc::new(spec.definition.clone())));
    begins.iter().for_each(|(_, definition)| beginnings.keep(definition));
    let digest = begins.as_ref().map_or_else(|| Digest::of(name.as_str().as_bytes()), |(_, of)| of.digest());
    let as_consumer = ConsumerSpec {
        name: name.clone(),
        component: PathBuf::new(),
        digest: None,
        subscriptions,
        answers: Vec::new(),
        delivery: DeliverySpec::default(),
        limits: Limits { concurrency: CONCURRENCY, ..Limits::default() },
        retry: RetryPolicy::default(),
        grants: Grants::default(),
    };
    let handler = Arc::new(Coordinator { begins, waits, clock: Arc::clone(clock) });
    Consumer { spec: Arc::new(as_consumer), digest, handler }
}

struct Coordinator {
    /// None: it is there for the runs that it has.
    begins: Option<(PipelineSpec, Arc<Definition>)>,
    /// By the name of the step; more than one a name if the definition has changed.
    waits: Vec<(String, WaitSpec)>,
    clock: Arc<dyn Clock>,
}

impl Coordinator {
    /// What the event means for runs; or why that cannot be said.
    fn signal(&self, event: &Event) -> Result<Signal, String> {
        let mut signal = Signal::default();
        if let Some((spec, definition)) = &self.begins
            && spec.subscriptions.iter().any(|subscription| subscription.matches(event))
        {
            let key = spec.key.as_ref().map_or_else(|| Ok(key_of_event(event.seq)), |key| key.key(event));
            let key = key.map_err(|reason| format!("the pipeline's key: {reason}"))?;
            signal.begins = Some(Begins { key, definition: Arc::clone(definition) });
        }
        for (step, wait) in &self.waits {
            if wait.pattern.matches(&event.envelope.event_type) {
                let key = wait.event.key(event).map_err(|reason| format!("match of step '{step}': {reason}"))?;
                signal.arrives.push((step.clone(), key));
            }
        }
        Ok(signal)
    }

    fn report(&self, event: &Event) -> Report {
        let now = self.clock.now();
        match self.signal(event) {
            Ok(signal) => Report { signal: Some(signal), ..Report::bare(Outcome::Done, None, now) },
            Err(reason) => Report::bare(Outcome::Refused, reason, now),
        }
    }
}

impl Invoke for Coordinator {
    fn exports(&self) -> Exports {
        Exports { handler: true, ..Exports::default() }
    }

    fn invoke(&self, call: Call) -> Pin<Box<dyn Future<Output = Report> + Send + '_>> {
        Box::pin(ready(self.report(&call.event)))
    }

    fn answer(&self, _: QuestionCall) -> Pin<Box<dyn Future<Output = Answered> + Send + '_>> {
        Box::pin(ready(Answered::bare(Err(Unanswered::NoResponder), self.clock.now())))
    }

    fn invoke_batch(&self, calls: Vec<Call>) -> Pin<Box<dyn Future<Output = Result<Vec<Report>, Report>> + Send + '_>> {
        Box::pin(ready(Ok(calls.iter().map(|call| self.report(&call.event)).collect())))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::SystemClock;
    use crate::log::conformance::runs::{PIPELINE, definition, wait_step};

    /// Its settlement begins a run, of which the log knows nothing yet: whatever is deployed meanwhile must take what the run waits for.
    #[test]
    fn a_definition_is_known_for_as_long_as_an_attempt_in_hand_may_begin_a_run_by_it() {
        let definition = definition(vec![wait_step("paid", &[], Duration::from_secs(1))], None);
        let name = ConsumerName::new(PIPELINE).unwrap();
        let spec = PipelineSpec { name: name.clone(), subscriptions: Vec::new(), key: None, definition };
        let (beginnings, clock): (_, Arc<dyn Clock>) = (Beginnings::default(), Arc::new(SystemClock::new()));
        let deployed = consumer(&name, Some(&spec), [].iter(), &beginnings, &clock);
        let in_hand = deployed.clone();
        drop(deployed);
        let known = beginnings.definitions();
        assert_eq!(known, std::slice::from_ref(&spec.definition));

        let other = PipelineSpec { definition: Definition { steps: Vec::new(), ..spec.definition.clone() }, ..spec };
        let later = consumer(&name, Some(&other), known.iter(), &beginnings, &clock);
        assert!(
            later
                .spec
                .subscriptions
                .iter()
                .any(|subscription| known[0].steps[0].work.wait().unwrap().subscription() == *subscription)
        );
        drop(in_hand);
        assert_eq!(beginnings.definitions(), [other.definition]);
    }
}
