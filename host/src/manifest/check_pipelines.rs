//! Pipelines: steps against one another, against the consumers that do them, and against the rest of the manifest.

use std::collections::BTreeMap;

use super::authored::Manifest;
use super::check::Joined;
use super::codes;
use super::diagnostic::Diagnostic;
use super::elements::consumer::Consumer;
use super::elements::duration::Millis;
use super::elements::expression::inside;
use super::elements::pipeline::{Named, Pipeline};
use super::elements::retry::Retry;
use super::elements::step::{self, Step, Wait};
use super::flat::{Authored, Placed, before, flat};
use super::reader::{At, Quantity as _, Reader, nearest};
use super::yaml::quoted;
use crate::model::expression::{self, Path, Root};
use crate::model::pipeline::STEPS_MAX;
use crate::model::spec::Mode;
use crate::model::{ConsumerName, Expression, TypePattern};

pub(super) fn check(reader: &mut Reader, manifest: &Manifest, consumers: &[Joined<'_>]) {
    for named in &manifest.pipelines {
        check_name(reader, manifest, consumers, named);
        let pipeline = &named.pipeline;
        let begins: Vec<_> = pipeline.on.value.iter().map(|on| on.pattern.clone()).collect();
        super::check::check_catalogue(reader, manifest, &begins);
        let steps = flat(&pipeline.steps.value);
        if steps.len() > STEPS_MAX {
            step::too_many(reader, &pipeline.steps, steps.len());
            continue;
        }
        check_names(reader, &steps);
        for (index, placed) in steps.iter().enumerate() {
            match placed.step {
                Authored::Call(step) => check_call(reader, manifest, consumers, pipeline, step),
                Authored::Wait(wait) => check_wait(reader, manifest, pipeline, wait),
            }
            for expression in of_run(placed.step) {
                check_references(reader, &steps, index, expression);
            }
        }
        super::check_paths::check_pipeline(reader, manifest, pipeline, &steps);
    }
}

/// The expressions of a step that may look at the outputs of others.
fn of_run<'m>(step: Authored<'m>) -> impl Iterator<Item = &'m At<Expression>> {
    let matching = match step {
        Authored::Wait(wait) => wait.matching.as_ref().map(|matching| &matching.value.run),
        Authored::Call(_) => None,
    };
    step.when().into_iter().chain(matching)
}

/// Runs and deliveries are known by these names in one place.
fn check_name(reader: &mut Reader, manifest: &Manifest, consumers: &[Joined<'_>], named: &Named) {
    let name = &named.name;
    let authored = manifest.consumers.iter().find(|consumer| consumer.name.value == name.value);
    if authored.is_none() && !consumers.iter().any(|consumer| consumer.name == name.value) {
        return;
    }
    let message = format!("`{}` is the name of a pipeline and of a consumer", name.value);
    let mut problem = Diagnostic::error(codes::NAME_SHARED, message)
        .at(&reader.source, name.span.clone(), "this pipeline")
        .help("rename one of the two");
    if let Some(consumer) = authored {
        problem = problem.at(&reader.source, consumer.name.span.clone(), "this consumer");
    }
    reader.push(problem);
}

fn check_names(reader: &mut Reader, steps: &[Placed<'_>]) {
    let mut seen: BTreeMap<&str, &At<String>> = BTreeMap::new();
    for name in steps.iter().filter_map(|placed| placed.step.name()) {
        let Some(first) = seen.get(name.value.as_str()) else {
            seen.insert(&name.value, name);
            continue;
        };
        let problem = Diagnostic::error(codes::STEP_TWICE, format!("two steps have the name {}", quoted(&name.value)))
            .at(&reader.source, name.span.clone(), "again here")
            .at(&reader.source, first.span.clone(), "first here")
            .help("rename one of the two: expressions know a step's output by its name");
        reader.push(problem);
    }
}

fn check_call(reader: &mut Reader, manifest: &Manifest, consumers: &[Joined<'_>], pipeline: &Pipeline, step: &Step) {
    for name in [&step.consumer, &step.compensate].into_iter().flatten() {
        check_known(reader, manifest, consumers, name);
    }
    let does = |name: &At<ConsumerName>| manifest.consumers.iter().find(|named| named.name.value == name.value);
    let consumer = step.consumer.as_ref().and_then(does).map(|named| &named.consumer);
    if let (Some(name), Some(consumer)) = (&step.consumer, consumer) {
        check_kind(reader, name, consumer);
    }
    let defaults = manifest.defaults.as_ref().and_then(|defaults| defaults.retry.clone()).unwrap_or_default();
    let own = consumer.and_then(|consumer| consumer.retry.as_ref());
    let base = own.map_or_else(|| defaults.clone(), |own| own.value.or(&defaults));
    check_limits(reader, manifest, step, &base);
    check_run_time(reader, pipeline, step.timeout.as_ref());
}

fn check_limits(reader: &mut Reader, manifest: &Manifest, step: &Step, base: &Retry) {
    super::check::check_retry(reader, step.retry.as_ref().map(|retry| &retry.value), Some(base));
    super::check::check_memory(reader, manifest, step.memory.as_ref());
}

/// What a run has no time for is never reached.
fn check_run_time(reader: &mut Reader, pipeline: &Pipeline, own: Option<&At<Millis>>) {
    let (Some(own), Some(run)) = (own, &pipeline.timeout) else { return };
    if own.value > run.value {
        let message = format!("a run has {} in all, and this step alone {}", run.value.show(), own.value.show());
        let warning = Diagnostic::warning(codes::CONTRADICTION, message)
            .at(&reader.source, own.span.clone(), "never reached")
            .at(&reader.source, run.span.clone(), "the run's time is up before")
            .help("raise the pipeline's `timeout`, or lower this");
        reader.push(warning);
    }
}

fn check_known(reader: &mut Reader, manifest: &Manifest, consumers: &[Joined<'_>], name: &At<ConsumerName>) {
    let is_consumer = consumers.iter().any(|consumer| consumer.name == name.value);
    let pipeline = manifest.pipelines.iter().find(|named| named.name.value == name.value);
    if let (false, Some(pipeline)) = (is_consumer, pipeline) {
        let message = format!("`{}` is a pipeline, and a step calls a consumer", name.value);
        let problem = Diagnostic::error(codes::UNKNOWN_CONSUMER, message)
            .at(&reader.source, name.span.clone(), "called here")
            .at(&reader.source, pipeline.name.span.clone(), "begins with events")
            .help("have a consumer publish an event that it begins with, and `wait-for` one that tells of its end");
        reader.push(problem);
        return;
    }
    check_consumer(reader, manifest, consumers, name, codes::UNKNOWN_CONSUMER);
}

/// Whether there is such a consumer.
pub(super) fn check_consumer(
    reader: &mut Reader,
    manifest: &Manifest,
    consumers: &[Joined<'_>],
    name: &At<ConsumerName>,
    code: &'static str,
) {
    let names = || {
        let authored = manifest.consumers.iter().map(|named| named.name.value.as_str());
        authored.chain(consumers.iter().map(|consumer| consumer.name.as_str()))
    };
    if names().any(|known| known == name.value.as_str()) {
        return;
    }
    let help = match nearest(name.value.as_str(), names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("describe it under `consumers`: `{}: {{ component: … }}`", name.value),
    };
    let message = format!("there is no consumer {}", quoted(name.value.as_str()));
    reader.error(code, name.span.clone(), message, "", help);
}

/// A step is one delivery of its own, made again until it is settled.
fn check_kind(reader: &mut Reader, name: &At<ConsumerName>, consumer: &Consumer) {
    let ephemeral = consumer.delivery.as_ref().filter(|mode| mode.value == Mode::Ephemeral);
    let batch = consumer.batch.as_ref();
    for (place, why, remark) in [
        (ephemeral.map(|at| at.span.clone()), "an ephemeral consumer keeps nothing of what it did", "at most once"),
        (batch.map(|at| at.span.clone()), "a consumer of batches has no handler for one delivery", "many at once"),
    ] {
        let Some(place) = place else { continue };
        let message = format!("`{}` cannot do a step: {why}", name.value);
        let problem = Diagnostic::error(codes::STEP_CONSUMER, message)
            .at(&reader.source, name.span.clone(), "called here")
            .at(&reader.source, place, remark)
            .help(
                "describe a consumer of its own for the step; it may have the same component if that exports `handler`",
            );
        reader.push(problem);
    }
}

fn check_wait(reader: &mut Reader, manifest: &Manifest, pipeline: &Pipeline, wait: &Wait) {
    if let Some(pattern) = &wait.wait_for {
        super::check::check_catalogue(reader, manifest, std::slice::from_ref(pattern));
        check_begins(reader, pipeline, pattern);
    }
    if let Some(timeout) = &wait.timeout {
        let retention = manifest.retention.as_ref().and_then(|retention| retention.events.as_ref());
        let kept = retention.map_or(super::resolve::RETENTION, |at| at.value);
        if timeout.value > kept {
            let message = format!("this waits up to {}, and events are kept for {}", timeout.value.show(), kept.show());
            let mut problem = Diagnostic::error(codes::WAIT_TOO_LONG, message)
                .at(&reader.source, timeout.span.clone(), "longer than the run's own event is there")
                .help("raise `retention.events`, or wait less long");
            if let Some(retention) = retention {
                problem = problem.at(&reader.source, retention.span.clone(), "kept so long");
            }
            reader.push(problem);
        }
    }
    check_run_time(reader, pipeline, wait.timeout.as_ref());
}

/// An event either begins a run or goes on with one.
fn check_begins(reader: &mut Reader, pipeline: &Pipeline, pattern: &At<TypePattern>) {
    let begins = pipeline.on.value.iter().find(|on| on.pattern.value.overlaps(&pattern.value));
    let Some(begins) = begins else { return };
    let message = format!("an event of {} may begin a run as well as end this wait", quoted(pattern.value.as_str()));
    let problem = Diagnostic::error(codes::WAIT_BEGINS, message)
        .at(&reader.source, pattern.span.clone(), "waited for here …")
        .at(&reader.source, begins.pattern.span.clone(), "… and begins a run")
        .help("wait for another type, or let a pipeline of its own begin with this one");
    reader.push(problem);
}

/// A step that is looked at must be over by then, whatever else happens.
fn check_references(reader: &mut Reader, steps: &[Placed<'_>], index: usize, expression: &At<Expression>) {
    let over = before(steps, index);
    let name = |index: usize| steps.get(index).and_then(|placed| placed.step.name());
    let is = |index: usize, wanted: &str| name(index).is_some_and(|name| step::identifier(&name.value) == wanted);
    for path in expression.value.paths().iter().filter(|path| path.root == Root::Steps) {
        let Some(expression::Step::Member(wanted)) = path.steps.first() else { continue };
        if over.iter().any(|index| is(*index, wanted)) {
            continue;
        }
        let names = over.iter().filter_map(|index| name(*index)).map(|name| name.value.as_str());
        let (message, help) = match (0..steps.len()).find(|index| is(*index, wanted)) {
            Some(same) if same == index => {
                (format!("step `{wanted}` looks at itself"), "a step's output is there once it is done".to_owned())
            }
            Some(other) => {
                let later = before(steps, other).contains(&index);
                let place = if later { "comes after this step" } else { "runs beside this step" };
                let help = format!("move it before this one, or name a step that is over by then{}", listed(names));
                (format!("step `{wanted}` {place}, so its output is not there yet"), help)
            }
            None => {
                let help = match nearest(wanted, names.clone()) {
                    Some(near) => format!("did you mean `steps.{near}`?"),
                    None => format!("name a step that is over by then{}", listed(names)),
                };
                (format!("there is no step {}", quoted(wanted)), help)
            }
        };
        let span = place_of(reader, expression, path);
        reader.error(codes::UNKNOWN_STEP, span, message, "", help);
    }
}

/// ": `a`, `b`", or that there is none.
fn listed<'s>(names: impl Iterator<Item = &'s str>) -> String {
    let list: Vec<String> = names.map(quoted).collect();
    if list.is_empty() { "; before this one there is none".to_owned() } else { format!(": {}", list.join(", ")) }
}

fn place_of(reader: &Reader, expression: &At<Expression>, path: &Path) -> std::ops::Range<usize> {
    inside(reader, &expression.span, expression.value.source(), &path.at).unwrap_or_else(|| expression.span.clone())
}
