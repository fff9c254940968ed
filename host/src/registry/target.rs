//! Whom a job may be for.

use super::Snapshot;
use crate::model::ConsumerName;
use crate::model::spec::Mode;

/// Spelling mistakes that are guessed at, in letters.
const DISTANCE_MAX: usize = 2;

/// Why a job cannot be for this consumer, as sentences that say what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTarget {
    #[error("No consumer is called '{name}'.{}", guess(.near.as_ref()))]
    Unknown { name: ConsumerName, near: Option<ConsumerName> },
    #[error("'{0}' is removed: the manifest no longer has it. Put it back there, or name another consumer.")]
    Removed(ConsumerName),
    #[error("'{0}' is a pipeline, and a job is for one consumer: send an event that the pipeline begins with.")]
    Pipeline(ConsumerName),
    #[error(
        "'{0}' is ephemeral, so that nothing can wait for it: give it `delivery: durable`, or send an event that it \
         subscribes to."
    )]
    Ephemeral(ConsumerName),
    #[error("the component of '{0}' handles no events: it exports no handler.")]
    NoHandler(ConsumerName),
}

fn guess(near: Option<&ConsumerName>) -> String {
    near.map(|near| format!(" Did you mean '{near}'?")).unwrap_or_default()
}

impl Snapshot {
    /// Whether a job may be for this consumer.
    pub fn check_target(&self, name: &ConsumerName) -> Result<(), NoTarget> {
        let Some(consumer) = self.consumers.get(name) else {
            return Err(NoTarget::Unknown { name: name.clone(), near: self.nearest(name) });
        };
        let exports = consumer.handler.exports();
        if !self.deployment.consumers.contains_key(name) {
            // What dispatch knows as a consumer and the manifest does not is a pipeline.
            Err(NoTarget::Pipeline(name.clone()))
        } else if consumer.spec.delivery.mode == Mode::Ephemeral {
            Err(NoTarget::Ephemeral(name.clone()))
        } else if !exports.handler && !exports.batch_handler {
            Err(NoTarget::NoHandler(name.clone()))
        } else {
            Ok(())
        }
    }

    /// The consumer that was most likely meant.
    pub fn nearest(&self, name: &ConsumerName) -> Option<ConsumerName> {
        let distance = |known: &ConsumerName| strsim::damerau_levenshtein(known.as_str(), name.as_str());
        let near = self.deployment.consumers.keys().map(|known| (distance(known), known));
        near.filter(|(distance, _)| *distance <= DISTANCE_MAX).min().map(|(_, known)| known.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::model::question::Unanswered;
    use crate::model::retry::RetryPolicy;
    use crate::model::spec::{Ceilings, DeliverySpec, Retention, ServerSpec};
    use crate::model::{ConsumerSpec, Deployment, Digest, Generation, Grants, Limits, Outcome, Report, Timestamp};
    use crate::registry::Consumer;
    use crate::registry::catalogue::Catalogue;
    use crate::sandbox::{Answered, Call, Exports, Invoke, QuestionCall};

    struct Offering(Exports);

    impl Invoke for Offering {
        fn exports(&self) -> Exports {
            self.0
        }

        fn invoke(&self, _: Call) -> Pin<Box<dyn Future<Output = Report> + Send + '_>> {
            Box::pin(std::future::ready(Report::bare(Outcome::Done, None, Timestamp(0))))
        }

        fn invoke_batch(&self, _: Vec<Call>) -> Pin<Box<dyn Future<Output = Result<Vec<Report>, Report>> + Send + '_>> {
            Box::pin(std::future::ready(Ok(Vec::new())))
        }

        fn answer(&self, _: QuestionCall) -> Pin<Box<dyn Future<Output = Answered> + Send + '_>> {
            Box::pin(std::future::ready(Answered::bare(Err(Unanswered::NoResponder), Timestamp(0))))
        }
    }

    fn name(text: &str) -> ConsumerName {
        ConsumerName::new(text).unwrap()
    }

    fn consumer(named: &str, mode: Mode, exports: Exports) -> Consumer {
        let spec = ConsumerSpec {
            name: name(named),
            component: PathBuf::new(),
            digest: None,
            subscriptions: Vec::new(),
            answers: Vec::new(),
            delivery: DeliverySpec { mode, ..DeliverySpec::default() },
            limits: Limits::default(),
            retry: RetryPolicy::default(),
            grants: Grants::default(),
        };
        Consumer { spec: Arc::new(spec), digest: Digest([0; 32]), handler: Arc::new(Offering(exports)) }
    }

    /// `pipelines` are known to dispatch, and not to the manifest's consumers.
    fn snapshot(consumers: Vec<Consumer>, pipelines: Vec<Consumer>) -> Snapshot {
        let by_name = |consumer: &Consumer| (consumer.spec.name.clone(), consumer.clone());
        let server = ServerSpec {
            listen: "127.0.0.1:0".parse().unwrap(),
            hosts: Vec::new(),
            tokens: Vec::new(),
            grace: Duration::ZERO,
        };
        let deployment = Deployment {
            server,
            database: PathBuf::new(),
            folder: None,
            retention: Retention { events: Duration::ZERO, outcomes: Duration::ZERO },
            ceilings: Ceilings::default(),
            events: BTreeMap::new(),
            consumers: consumers.iter().map(|one| (one.spec.name.clone(), one.spec.as_ref().clone())).collect(),
            schedules: BTreeMap::new(),
            pipelines: BTreeMap::new(),
        };
        Snapshot {
            generation: Generation(1),
            catalogue: Arc::new(Catalogue::new(&deployment)),
            deployment: Arc::new(deployment),
            consumers: Arc::new(consumers.iter().chain(&pipelines).map(by_name).collect()),
        }
    }

    #[test]
    fn a_job_is_for_a_durable_consumer_that_handles_events() {
        let batches = Exports { batch_handler: true, ..Exports::default() };
        let undoes = Exports { compensator: true, ..Exports::default() };
        let handles = Exports { handler: true, ..Exports::default() };
        let snapshot = snapshot(
            vec![
                consumer("mailer", Mode::Durable, handles),
                consumer("index", Mode::Durable, batches),
                consumer("undo", Mode::Durable, undoes),
                consumer("screen", Mode::Ephemeral, handles),
            ],
            vec![consumer("fulfil", Mode::Durable, handles)],
        );
        let said = |target: &str| snapshot.check_target(&name(target)).map_err(|why| why.to_string());
        assert_eq!(said("mailer"), Ok(()));
        assert_eq!(said("index"), Ok(()));
        for (target, why) in [
            ("mialer", "No consumer is called 'mialer'. Did you mean 'mailer'?"),
            ("accounts", "No consumer is called 'accounts'."),
            ("fulfil", "'fulfil' is a pipeline, and a job is for one consumer"),
            ("screen", "'screen' is ephemeral, so that nothing can wait for it"),
            ("undo", "the component of 'undo' handles no events"),
        ] {
            let found = said(target).unwrap_err();
            assert!(found.starts_with(why), "{target}: {found}");
        }
    }
}
