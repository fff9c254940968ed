//! Authored pipelines become what runs go by.

use std::collections::BTreeMap;

use super::authored::Manifest;
use super::elements::duration::Millis;
use super::elements::pipeline::{Named, Pipeline};
use super::elements::retry::Retry;
use super::elements::step::{Step, Wait};
use super::flat::{Authored, Placed, flat};
use super::reader::At;
use super::resolve;
use super::yaml::Span;
use super::{Demand, Role};
use crate::model::ConsumerName;
use crate::model::pipeline::{CallSpec, Definition, PipelineSpec, StepLimits, StepSpec, WaitSpec, Work};

/// Without those that lack something: that has been reported.
pub(super) fn resolve(manifest: &Manifest) -> BTreeMap<ConsumerName, PipelineSpec> {
    let one = |named: &Named| Some((named.name.value.clone(), pipeline(manifest, &named.name.value, &named.pipeline)?));
    manifest.pipelines.iter().filter_map(one).collect()
}

/// What the pipelines ask of the components.
pub(super) fn demands(manifest: &Manifest) -> Vec<Demand> {
    let mut demands = Vec::new();
    for named in &manifest.pipelines {
        for placed in flat(&named.pipeline.steps.value) {
            let (Authored::Call(step), Some(name)) = (placed.step, placed.step.name()) else { continue };
            let mut of = |role, consumer: &Option<At<ConsumerName>>| {
                let Some(At { value, span }) = consumer.clone() else { return };
                let (pipeline, step): (ConsumerName, String) = (named.name.value.clone(), name.value.clone());
                let (consumer, span): (ConsumerName, Span) = (value, span);
                demands.push(Demand { pipeline, step, consumer, role, span });
            };
            of(Role::Step, &step.consumer);
            of(Role::Compensation, &step.compensate);
        }
    }
    demands
}

fn pipeline(manifest: &Manifest, name: &ConsumerName, authored: &Pipeline) -> Option<PipelineSpec> {
    let steps = flat(&authored.steps.value).iter().map(|placed| step(manifest, placed)).collect::<Option<_>>()?;
    Some(PipelineSpec {
        name: name.clone(),
        subscriptions: authored.on.value.iter().cloned().map(resolve::subscription).collect(),
        key: authored.key.as_ref().map(|key| key.value.clone()),
        definition: Definition {
            pipeline: name.clone(),
            steps,
            timeout: authored.timeout.as_ref().map(|at| at.value.duration()),
            on_failure: authored.on_failure.as_ref().map(|at| at.value).unwrap_or_default(),
        },
    })
}

fn step(manifest: &Manifest, placed: &Placed<'_>) -> Option<StepSpec> {
    let work = match placed.step {
        Authored::Call(step) => Work::Call(call(manifest, step)?),
        Authored::Wait(step) => Work::Wait(wait(step)?),
    };
    Some(StepSpec {
        name: placed.step.name()?.value.clone(),
        after: placed.after.clone(),
        when: placed.step.when().map(|when| when.value.clone()),
        work,
    })
}

fn call(manifest: &Manifest, authored: &Step) -> Option<CallSpec> {
    let consumer = authored.consumer.as_ref()?.value.clone();
    // Key by key: the step's own, the consumer's, the defaults'.
    let retry = authored.retry.as_ref().map(|own| {
        let described = manifest.consumers.iter().find(|named| named.name.value == consumer);
        let consumer: Option<&Retry> = described.and_then(|named| named.consumer.retry.as_ref()).map(|at| &at.value);
        let own = consumer.map_or_else(|| own.value.clone(), |consumer| own.value.or(consumer));
        resolve::retry(&own, &manifest.defaults.clone().unwrap_or_default().retry.unwrap_or_default())
    });
    Some(CallSpec {
        consumer,
        compensate: authored.compensate.as_ref().map(|at| at.value.clone()),
        retry,
        limits: StepLimits {
            timeout: authored.timeout.as_ref().map(|at| Millis::duration(at.value)),
            fuel: authored.fuel.as_ref().map(|at| at.value.0),
            memory: authored.memory.as_ref().map(|at| at.value.0),
        },
    })
}

fn wait(authored: &Wait) -> Option<WaitSpec> {
    let matching = &authored.matching.as_ref()?.value;
    Some(WaitSpec {
        pattern: authored.wait_for.as_ref()?.value.clone(),
        event: matching.event.value.clone(),
        run: matching.run.value.clone(),
        timeout: authored.timeout.as_ref()?.value.duration(),
    })
}
