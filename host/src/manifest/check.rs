//! Values that are each right but do not go together, and the manifest against its drop folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::authored::Manifest;
use super::codes;
use super::diagnostic::Diagnostic;
use super::elements::consumer::{Consumer, Named};
use super::elements::retry::Retry;
use super::elements::size::Bytes;
use super::flat::{Authored, flat};
use super::folder::Found;
use super::reader::{At, Quantity as _, Reader, nearest};
use super::yaml::{Span, quoted};
use crate::model::retry::RetryPolicy;
use crate::model::spec::Ceilings;
use crate::model::{ConsumerName, TypePattern, route};

/// A consumer as the manifest and the drop folder describe it together.
pub(super) struct Joined<'m> {
    pub name: ConsumerName,
    pub named: Option<&'m Named>,
    pub component: PathBuf,
    /// From the drop folder, where the manifest says no `on`.
    pub folder_type: Option<String>,
}

pub(super) fn check<'m>(reader: &mut Reader, manifest: &'m Manifest, found: &[Found]) -> Vec<Joined<'m>> {
    let consumers = join(reader, manifest, found);
    let defaults = manifest.defaults.as_ref().and_then(|defaults| defaults.retry.as_ref());
    check_retry(reader, defaults, None);
    check_defaults_memory(reader, manifest);
    for named in &manifest.consumers {
        if let Some(own) = &named.consumer.retry {
            check_retry(reader, Some(&own.value), defaults);
        }
        super::check_delivery::check(reader, manifest, &named.consumer);
        check_host_limits(reader, manifest, &named.consumer);
        check_memory(reader, manifest, named.consumer.memory.as_ref());
    }
    for joined in &consumers {
        let subscribed = subscribed(manifest, joined);
        check_catalogue(reader, manifest, &subscribed);
        if let Some(named) = joined.named {
            let published = named.consumer.grants.as_ref().map_or(&[] as &[_], |grants| &grants.value.publish);
            check_catalogue(reader, manifest, published);
            super::check_paths::check(reader, manifest, &named.consumer, &subscribed);
        }
    }
    super::check_pipelines::check(reader, manifest, &consumers);
    super::check_jobs::check(reader, manifest, &consumers);
    super::check_cycles::check(reader, manifest, &consumers);
    check_questions(reader, manifest);
    super::check_schedules::check(reader, manifest);
    consumers
}

/// What a consumer subscribes to, and where that is said.
pub(super) fn subscribed(manifest: &Manifest, joined: &Joined<'_>) -> Vec<At<TypePattern>> {
    let named = joined.named;
    match (named.and_then(|named| named.consumer.on.as_ref()), &joined.folder_type) {
        (Some(on), _) => on.value.iter().map(|subscription| subscription.pattern.clone()).collect(),
        (None, Some(folder_type)) => {
            let folder = manifest.folder.as_ref().map_or(0..0, |folder| folder.span.clone());
            let span = named.map_or(folder, |named| named.name.span.clone());
            TypePattern::new(folder_type).ok().map(|value| At { value, span }).into_iter().collect()
        }
        (None, None) => Vec::new(),
    }
}

fn join<'m>(reader: &mut Reader, manifest: &'m Manifest, found: &[Found]) -> Vec<Joined<'m>> {
    let folder_span = manifest.folder.as_ref().map_or(0..0, |folder| folder.span.clone());
    let files = unique(reader, &folder_span, found);
    let called = called(manifest);
    let mut consumers = Vec::new();
    for named in &manifest.consumers {
        let file = files.get(named.name.value.as_str()).copied();
        if let Some(component) = component_of(reader, named, file, &files) {
            let folder_type = file.map(|file| file.event_type.clone());
            consumers.push(Joined { name: named.name.value.clone(), named: Some(named), component, folder_type });
        }
        let silent = named.consumer.on.is_none() && named.consumer.answers.is_empty();
        let idle = silent && file.is_none() && named.consumer.component.is_some();
        if idle && !called.contains(&named.name.value) {
            let message = format!("nothing is ever delivered to `{}`", named.name.value);
            let warning = Diagnostic::warning(codes::NO_SUBSCRIPTION, message)
                .at(&reader.source, named.name.span.clone(), "subscribes to nothing")
                .help("say which events it gets: `on: order.created`; or call it in a step of a pipeline; or write `on: []` if only jobs are meant for it");
            reader.push(warning);
        }
    }
    for (name, file) in files {
        let described = manifest.consumers.iter().any(|named| named.name.value.as_str() == name);
        if let (false, Ok(name)) = (described, ConsumerName::new(name)) {
            let (component, folder_type) = (file.path.clone(), Some(file.event_type.clone()));
            consumers.push(Joined { name, named: None, component, folder_type });
        }
    }
    consumers
}

/// Whom pipelines call, and whom others may give jobs to.
fn called(manifest: &Manifest) -> BTreeSet<&ConsumerName> {
    let steps = manifest.pipelines.iter().flat_map(|named| flat(&named.pipeline.steps.value));
    let calls = steps.filter_map(|placed| match placed.step {
        Authored::Call(step) => Some([&step.consumer, &step.compensate]),
        Authored::Wait(_) => None,
    });
    let grants = manifest.consumers.iter().filter_map(|named| named.consumer.grants.as_ref());
    let targets = grants.flat_map(|grants| &grants.value.jobs);
    calls.flatten().flatten().chain(targets).map(|at| &at.value).collect()
}

/// The drop folder by name; two files of one name are reported.
fn unique<'f>(reader: &mut Reader, folder: &Span, found: &'f [Found]) -> BTreeMap<&'f str, &'f Found> {
    let mut files: BTreeMap<&str, &Found> = BTreeMap::new();
    for file in found {
        let Some(first) = files.get(file.name.as_str()) else {
            files.insert(&file.name, file);
            continue;
        };
        let message = format!("the drop folder has two consumers of the name {}", quoted(&file.name));
        let remark = format!("under {} and {}", quoted(&first.event_type), quoted(&file.event_type));
        let help = format!(
            "keep one file and name both types: `consumers: {{ {}: {{ on: [{}, {}] }} }}`",
            file.name, first.event_type, file.event_type
        );
        reader.error(codes::FOLDER_TWICE, folder.clone(), message, remark, help);
    }
    files
}

fn component_of(
    reader: &mut Reader,
    named: &Named,
    file: Option<&Found>,
    files: &BTreeMap<&str, &Found>,
) -> Option<PathBuf> {
    let name = &named.name.value;
    match (&named.consumer.component, file) {
        (Some(component), Some(file)) if !same_file(&component.value, &file.path) => {
            let message = format!("`{name}` is another file here than in the drop folder");
            let help = format!("leave `component` out to use {}, or rename one of the two", file.path.display());
            reader.error(codes::FOLDER_OTHER, component.span.clone(), message, "not the file in the drop folder", help);
            None
        }
        (Some(component), _) => Some(component.value.clone()),
        (None, Some(file)) => Some(file.path.clone()),
        // Its `component` was there and is reported already.
        (None, None) if named.component_span != named.name.span => None,
        (None, None) => {
            let message = format!("`{name}` has no component");
            let help = match nearest(name.as_str(), files.keys().copied()) {
                Some(near) => format!("name its file under `component`; the drop folder has a `{near}`"),
                None => "name its file: `component: consumers/NAME.wasm`".to_owned(),
            };
            let remark = "neither here nor in the drop folder";
            reader.error(codes::NO_COMPONENT, named.name.span.clone(), message, remark, help);
            None
        }
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// `initial` above `max` would be cut to it at once, which is not what was meant.
pub(super) fn check_retry(reader: &mut Reader, own: Option<&Retry>, defaults: Option<&Retry>) {
    let Some(own) = own else { return };
    let initial = own.initial.as_ref().or_else(|| defaults?.initial.as_ref());
    let max = own.max.as_ref().or_else(|| defaults?.max.as_ref());
    let usual = RetryPolicy::default();
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let initial_ms = initial.map_or(millis(usual.initial), |at| at.value.0);
    let max_ms = max.map_or(millis(usual.max), |at| at.value.0);
    let Some(place) = own.initial.as_ref().or(own.max.as_ref()) else { return };
    if initial_ms > max_ms {
        let show = |ms| super::elements::duration::Millis(ms).show();
        let message = format!("the first delay ({}) is longer than the longest ({})", show(initial_ms), show(max_ms));
        let help = "make `initial` at most `max`";
        reader.error(codes::CONTRADICTION, place.span.clone(), message, "", help);
    }
}

fn check_host_limits(reader: &mut Reader, manifest: &Manifest, consumer: &Consumer) {
    let host = manifest.limits.as_ref();
    let usual = Ceilings::default();
    let attempts = host.and_then(|limits| limits.attempts.as_ref()).map_or(u64::from(usual.attempts), |at| at.value.0);
    if let Some(own) = consumer.concurrency.as_ref().filter(|own| own.value.0 > attempts) {
        let message = format!("at most {attempts} attempts run at once in the whole host");
        let warning = Diagnostic::warning(codes::CONTRADICTION, message)
            .at(&reader.source, own.span.clone(), "never reached")
            .help("raise `limits.attempts`, or lower this");
        reader.push(warning);
    }
}

/// What one attempt may use, against what all may.
pub(super) fn check_memory(reader: &mut Reader, manifest: &Manifest, own: Option<&At<Bytes>>) {
    let host = manifest.limits.as_ref().and_then(|limits| limits.memory.as_ref());
    let memory = host.map_or(Ceilings::default().memory, |at| at.value.0);
    if let Some(own) = own.filter(|own| own.value.0 > memory) {
        too_much_memory(reader, own, memory);
    }
}

fn check_defaults_memory(reader: &mut Reader, manifest: &Manifest) {
    let host = manifest.limits.as_ref().and_then(|limits| limits.memory.as_ref());
    let memory = host.map_or(Ceilings::default().memory, |at| at.value.0);
    let default = manifest.defaults.as_ref().and_then(|defaults| defaults.memory.as_ref());
    match (default, host) {
        (Some(own), _) if own.value.0 > memory => too_much_memory(reader, own, memory),
        (None, Some(host)) if crate::model::Limits::default().memory > host.value.0 => {
            let message = "the host's memory is less than the 64MiB that one attempt may use";
            let help = "raise `limits.memory`, or set `defaults.memory` below it";
            reader.error(codes::CONTRADICTION, host.span.clone(), message, "", help);
        }
        _ => {}
    }
}

fn too_much_memory(reader: &mut Reader, own: &At<Bytes>, memory: u64) {
    let message =
        format!("an attempt may use {}, all attempts together only {}", own.value.show(), Bytes(memory).show());
    reader.error(codes::CONTRADICTION, own.span.clone(), message, "", "raise `limits.memory`, or lower this");
}

/// Types that a catalogue does not know are probably misspelt.
pub(super) fn check_catalogue(reader: &mut Reader, manifest: &Manifest, patterns: &[At<TypePattern>]) {
    if manifest.events.is_empty() {
        return;
    }
    for pattern in patterns {
        let known = manifest.events.iter().any(|(name, _)| pattern.value.matches(&name.value));
        if known || route::is_host_type(pattern.value.as_str()) {
            continue;
        }
        let names = manifest.events.iter().map(|(name, _)| name.value.as_str());
        let help = match nearest(pattern.value.as_str(), names) {
            Some(name) => format!("did you mean `{name}`?"),
            None => "declare it under `events`".to_owned(),
        };
        let message = format!("no event type of the catalogue is {}", quoted(pattern.value.as_str()));
        let warning = Diagnostic::warning(codes::UNDECLARED, message)
            .at(&reader.source, pattern.span.clone(), "not under `events`")
            .help(help);
        reader.push(warning);
    }
}

/// A question that nobody answers is probably misspelt.
fn check_questions(reader: &mut Reader, manifest: &Manifest) {
    let answered = || manifest.consumers.iter().flat_map(|named| &named.consumer.answers).map(|at| at.value.as_str());
    let granted = manifest.consumers.iter().filter_map(|named| named.consumer.grants.as_ref());
    for asked in granted.flat_map(|grants| &grants.value.queries) {
        if answered().any(|query_type| asked.value.matches(query_type)) {
            continue;
        }
        let message = format!("no consumer answers {}", quoted(asked.value.as_str()));
        let help = match nearest(asked.value.as_str(), answered()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "say who answers it: `answers: TYPE` at a consumer".to_owned(),
        };
        let warning = Diagnostic::warning(codes::UNANSWERED, message)
            .at(&reader.source, asked.span.clone(), "under nobody's `answers`")
            .help(help);
        reader.push(warning);
    }
}
