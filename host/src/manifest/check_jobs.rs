//! Whom consumers may give jobs to.

use super::authored::Manifest;
use super::check::Joined;
use super::check_pipelines::check_consumer;
use super::codes;
use super::diagnostic::Diagnostic;
use super::reader::{At, Reader};
use crate::model::ConsumerName;
use crate::model::spec::Mode;

pub(super) fn check(reader: &mut Reader, manifest: &Manifest, consumers: &[Joined<'_>]) {
    let grants = manifest.consumers.iter().filter_map(|named| named.consumer.grants.as_ref());
    for target in grants.flat_map(|grants| &grants.value.jobs) {
        if let Some(pipeline) = manifest.pipelines.iter().find(|named| named.name.value == target.value) {
            let message = format!("`{}` is a pipeline, and a job is for one consumer", target.value);
            let help = "grant `publish` of an event that the pipeline begins with";
            refuse(reader, target, message, (&pipeline.name.span, "begins with events"), help);
            continue;
        }
        check_consumer(reader, manifest, consumers, target, codes::JOB_TARGET);
        let named = manifest.consumers.iter().find(|named| named.name.value == target.value);
        let mode = named.and_then(|named| named.consumer.delivery.as_ref());
        if let Some(ephemeral) = mode.filter(|mode| mode.value == Mode::Ephemeral) {
            let message = format!("a job cannot wait for `{}`: an ephemeral consumer keeps nothing", target.value);
            let help = "leave `delivery: ephemeral` out, or publish an event that it subscribes to";
            refuse(reader, target, message, (&ephemeral.span, "at most once"), help);
        }
    }
}

fn refuse(
    reader: &mut Reader,
    target: &At<ConsumerName>,
    message: String,
    (place, remark): (&super::yaml::Span, &str),
    help: &str,
) {
    let problem = Diagnostic::error(codes::JOB_TARGET, message)
        .at(&reader.source, target.span.clone(), "its jobs")
        .at(&reader.source, place.clone(), remark)
        .help(help);
    reader.push(problem);
}
