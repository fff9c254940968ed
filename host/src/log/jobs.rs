//! Jobs: events whose only delivery is made with them.

use std::sync::Arc;

use super::{Commit, Waiting};
use crate::model::{Delivery, DeliveryId, Event};

/// The delivery of a job, as it begins; none if the event is none. Its ordering key is found when it is due.
pub(super) fn waiting(event: &Event) -> Option<Waiting> {
    let job = event.envelope.job.as_ref()?;
    let due_at = event.envelope.not_before.unwrap_or(event.accepted_at);
    Some(Waiting {
        id: DeliveryId { seq: event.seq, consumer: job.to.clone(), round: 0 },
        delivery: Delivery::new(due_at),
        key: None,
        blocked: false,
        errand: job.retry.is_some(),
        priority: job.priority,
    })
}

/// Tells of new events, and of the deliveries that were made with them. Adjoining events of one transaction are one commit.
pub(super) fn announce(new: Vec<Arc<Event>>, commits: &mut Vec<Commit>) {
    let made: Vec<Waiting> = new.iter().filter_map(|event| waiting(event)).collect();
    match commits.last_mut() {
        _ if new.is_empty() => {}
        Some(Commit::Events(events)) => events.extend(new),
        _ => commits.push(Commit::Events(new)),
    }
    if !made.is_empty() {
        commits.push(Commit::Redriven(made));
    }
}
