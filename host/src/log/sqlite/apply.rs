//! What one command does inside a transaction.

use std::sync::Arc;

use crate::log::{
    Activated, Activation, Appended, Commit, DeadDecision, DeadSelection, Error, Settled, Settlement, Waiting,
};
use crate::model::{Delivery, DeliveryId, Envelope, Event, State, StateChanges, Timestamp};
use crate::planted::{self, Bug};
use crate::store::{self, DeadFilter, DeadRow, Inserted, OutcomeRow, StateCheck, Writer};

/// Appends all or none. A conflict is an answer, not a failure of the transaction.
pub(super) fn append(
    store: &mut Writer,
    events: Vec<Envelope>,
    now: Timestamp,
    commits: &mut Vec<Commit>,
) -> Result<Result<Vec<Appended>, Error>, store::Error> {
    let answer = if events.len() == 1 {
        append_each(store, &events, now)?
    } else {
        store.all_or_nothing(|store| append_each(store, &events, now).map(|answer| (answer.is_ok(), answer)))?
    };
    let Ok(appended) = &answer else { return Ok(answer) };
    let new: Vec<Arc<Event>> = events
        .into_iter()
        .zip(appended)
        .filter(|(_, appended)| !appended.duplicate)
        .map(|(envelope, appended)| Arc::new(Event { seq: appended.seq, accepted_at: now, envelope }))
        .collect();
    announce(new, commits);
    Ok(answer)
}

fn append_each(
    store: &mut Writer,
    events: &[Envelope],
    now: Timestamp,
) -> Result<Result<Vec<Appended>, Error>, store::Error> {
    let mut appended = Vec::with_capacity(events.len());
    for (index, envelope) in events.iter().enumerate() {
        match store.append(envelope, now)? {
            Inserted::New(seq) => appended.push(Appended { seq, duplicate: false }),
            Inserted::Duplicate(seq) => appended.push(Appended { seq, duplicate: true }),
            Inserted::Conflict(seq) => {
                let (source_name, id) = (envelope.source.clone(), envelope.id.clone());
                return Ok(Err(Error::Conflict { index, source_name, id, seq }));
            }
        }
    }
    Ok(Ok(appended))
}

/// Adjoining events of one transaction are one commit.
fn announce(new: Vec<Arc<Event>>, commits: &mut Vec<Commit>) {
    if new.is_empty() {
        return;
    }
    match commits.last_mut() {
        Some(Commit::Events(events)) => events.extend(new),
        _ => commits.push(Commit::Events(new)),
    }
}

/// Everything that is only looked at comes first, so that a settlement that cannot stand leaves no trace.
pub(super) fn settle(
    store: &mut Writer,
    settlement: &Settlement,
    now: Timestamp,
    commits: &mut Vec<Commit>,
) -> Result<Settled, store::Error> {
    let settled = decide(store, settlement, now)?;
    commits.push(Commit::Settled(settlement.delivery.clone(), settled));
    if settled != Settled::Committed {
        return Ok(settled);
    }
    if planted::is(Bug::EffectsOutsideTransaction) {
        store.commit()?;
        store.begin()?;
    }
    store.write_state(&settlement.delivery.consumer, &settlement.state)?;
    stand(store, settlement, now)?;
    let mut new = Vec::new();
    for envelope in &settlement.events {
        // Ids are derived from the delivery: what is there already was published by it before.
        match store.append(envelope, now)? {
            Inserted::New(seq) => new.push(Arc::new(Event { seq, accepted_at: now, envelope: envelope.clone() })),
            Inserted::Duplicate(_) => {}
            Inserted::Conflict(seq) => {
                let (delivery, id) = (&settlement.delivery, &envelope.id);
                tracing::error!(%delivery, %id, "a published event is lost: event {seq} has its id and says something else");
            }
        }
    }
    announce(new, commits);
    Ok(settled)
}

fn decide(store: &mut Writer, settlement: &Settlement, now: Timestamp) -> Result<Settled, store::Error> {
    let Settlement { delivery, record, .. } = settlement;
    // The first call of a subscription's delivery is the only one that is made without a row.
    if record.call > 1 || delivery.round > 0 {
        let made = store.waiting_calls(delivery)?;
        if made.is_none_or(|made| made.saturating_add(1) != record.call) {
            return Ok(Settled::Fenced);
        }
    }
    // Without state, the outcome's own uniqueness says the same below.
    if settlement.state != StateChanges::default() && store.has_outcome(delivery, record.call)? {
        return Ok(Settled::Fenced);
    }
    match store.check_state(&delivery.consumer, &settlement.state, settlement.state_quota, now)? {
        StateCheck::Fits => {}
        StateCheck::Stale => return Ok(Settled::Conflict),
        StateCheck::OverQuota => return Ok(Settled::OverQuota),
    }
    let new = store.record_outcome(&OutcomeRow {
        delivery,
        next: settlement.next,
        call: record.call,
        attempt: record.attempt,
        outcome: record.outcome,
        reason: record.reason.as_deref(),
        output: record.output.as_ref(),
        logs: &record.logs,
        logs_dropped: record.logs_dropped,
        started_at: record.started_at,
        usage: record.usage,
        published: settlement.published(),
        generation: record.generation,
        component: record.component,
    })?;
    Ok(if new { Settled::Committed } else { Settled::Fenced })
}

/// Where the delivery stands from now on.
fn stand(store: &mut Writer, settlement: &Settlement, now: Timestamp) -> Result<(), store::Error> {
    let Settlement { delivery, next, record, .. } = settlement;
    match next.state {
        State::Pending { due_at } => store.wait(delivery, due_at, next.attempts, next.calls)?,
        _ if record.call > 1 || delivery.round > 0 => store.wait_no_more(delivery)?,
        _ => {}
    }
    let Some(cause) = settlement.death else { return Ok(()) };
    store.bury(&DeadRow {
        delivery,
        cause,
        outcome: record.outcome,
        reason: record.reason.as_deref(),
        attempts: next.attempts,
        died_at: now,
    })
}

pub(super) fn activate(
    store: &mut Writer,
    activation: &Activation,
    now: Timestamp,
    commits: &mut Vec<Commit>,
) -> Result<Activated, store::Error> {
    let (generation, from) = store.activate(activation.digest, &activation.subscriptions, now)?;
    let activated = Activated { generation, from };
    commits.push(Commit::Activated(activated));
    Ok(activated)
}

pub(super) fn decide_dead(
    store: &mut Writer,
    dead: DeadSelection,
    decision: DeadDecision,
    now: Timestamp,
    commits: &mut Vec<Commit>,
) -> Result<Vec<DeliveryId>, store::Error> {
    let chosen = store.dead(&DeadFilter {
        ids: dead.ids,
        consumer: dead.consumer,
        event_type: dead.event_type,
        since: dead.since,
        until: dead.until,
        cause: dead.cause,
        limit: dead.limit.unwrap_or(usize::MAX),
    })?;
    if decision == DeadDecision::Discard {
        for id in &chosen {
            store.decide(id, "discarded", now)?;
        }
        return Ok(chosen);
    }
    let mut made = Vec::with_capacity(chosen.len());
    for id in chosen {
        store.decide(&id, "redriven", now)?;
        let id = DeliveryId { round: id.round + 1, ..id };
        store.wait(&id, now, 0, 0)?;
        made.push(Waiting { id, delivery: Delivery::new(now), key: None, blocked: false });
    }
    let ids = made.iter().map(|waiting| waiting.id.clone()).collect();
    if !made.is_empty() {
        commits.push(Commit::Redriven(made));
    }
    Ok(ids)
}
