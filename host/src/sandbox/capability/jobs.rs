//! Jobs: events that are for one consumer. They are held back with what the attempt publishes, and keep to the same limits.

use super::super::bindings::jobs;
use super::super::bindings::publisher::{Draft, PublishError};
use super::super::instance::Host;
use super::super::text;
use crate::model::{ConsumerName, Job, Priority, route};

impl jobs::Host for Host {
    fn enqueue(
        &mut self,
        consumer: String,
        draft: Draft,
        priority: jobs::Priority,
    ) -> wasmtime::Result<Result<String, PublishError>> {
        self.enter_draft(&draft)?;
        Ok(self.enqueued(&consumer, draft, priority))
    }
}

impl Host {
    fn enqueued(&mut self, to: &str, draft: Draft, priority: jobs::Priority) -> Result<String, PublishError> {
        let to = self.may_enqueue(to, &draft.type_)?;
        let priority = match priority {
            jobs::Priority::Low => Priority::Low,
            jobs::Priority::Normal => Priority::Normal,
            jobs::Priority::High => Priority::High,
        };
        self.hold(draft, Some(Job { to, priority, retry: None }))
    }

    /// Of what type a job is does not matter to its grant, as no subscription sees it.
    fn may_enqueue(&mut self, to: &str, event_type: &str) -> Result<ConsumerName, PublishError> {
        route::check_type(event_type).map_err(PublishError::Invalid)?;
        let granted = self.consumer.grants.jobs.iter().find(|granted| granted.as_str() == to).cloned();
        let Some(granted) = granted.filter(|_| !route::is_host_type(event_type)) else {
            let to = text::safe(to, ConsumerName::LENGTH_MAX);
            self.refuse(format!("a job of type '{event_type}' for '{to}' is not granted: name it under grants.jobs"));
            return Err(PublishError::NotGranted(to));
        };
        self.may_cause(&format!("a job for '{to}'"))?;
        Ok(granted)
    }
}
