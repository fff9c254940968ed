//! What one command does inside a transaction; settlements have a file of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::log::jobs::announce;
use crate::log::{Activated, Activation, Appended, Commit, DeadDecision, DeadSelection, Error, Waiting};
use crate::model::{ConsumerName, Delivery, DeliveryId, Envelope, Event, Priority, Seq, Timestamp};
use crate::store::{self, DeadFilter, Inserted, Writer};

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

pub(super) fn pause(
    store: &mut Writer,
    consumer: ConsumerName,
    paused: bool,
    now: Timestamp,
    commits: &mut Vec<Commit>,
) -> Result<bool, store::Error> {
    let news = store.pause(&consumer, paused, now)?;
    if news {
        commits.push(Commit::Paused(consumer, paused));
    }
    Ok(news)
}

pub(super) fn release(
    store: &mut Writer,
    consumer: ConsumerName,
    keys: &[String],
    commits: &mut Vec<Commit>,
) -> Result<Vec<String>, store::Error> {
    let held = store.release(&consumer, keys)?;
    if !held.is_empty() {
        commits.push(Commit::Released(consumer, held.iter().map(|held| (held.seq, held.round)).collect()));
    }
    let mut freed: Vec<String> = held.into_iter().map(|held| held.key).collect();
    freed.dedup();
    Ok(freed)
}

pub(super) fn activate(
    store: &mut Writer,
    activation: &Activation,
    now: Timestamp,
    commits: &mut Vec<Commit>,
) -> Result<Activated, store::Error> {
    let (generation, from) = store.activate(activation.digest, &activation.subscriptions, &activation.from, now)?;
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
    match decision {
        DeadDecision::Redrive => redrive(store, chosen, now, commits),
        DeadDecision::Discard => discard(store, chosen, now, commits),
    }
}

fn redrive(
    store: &mut Writer,
    chosen: Vec<DeliveryId>,
    now: Timestamp,
    commits: &mut Vec<Commit>,
) -> Result<Vec<DeliveryId>, store::Error> {
    let mut made = Vec::with_capacity(chosen.len());
    for id in chosen {
        store.decide(&id, "redriven", now)?;
        let id = DeliveryId { round: store.next_round(&id)?, ..id };
        // A job keeps its own retry; in all else it is redriven as any other.
        let errand = store.has_own_retry(id.seq)?;
        store.wait(&id, now, (0, 0), None, errand)?;
        let delivery = Delivery::new(now);
        made.push(Waiting { id, delivery, key: None, blocked: false, errand, priority: Priority::Normal });
    }
    let ids = made.iter().map(|waiting| waiting.id.clone()).collect();
    if !made.is_empty() {
        commits.push(Commit::Redriven(made));
    }
    Ok(ids)
}

/// What nobody needs any more holds no key.
fn discard(
    store: &mut Writer,
    chosen: Vec<DeliveryId>,
    now: Timestamp,
    commits: &mut Vec<Commit>,
) -> Result<Vec<DeliveryId>, store::Error> {
    let mut freed: BTreeMap<ConsumerName, Vec<(Seq, u32)>> = BTreeMap::new();
    for id in &chosen {
        store.decide(id, "discarded", now)?;
        let holders = store.hold_no_more(id)?.into_iter().map(|round| (id.seq, round));
        freed.entry(id.consumer.clone()).or_default().extend(holders);
    }
    let freed = freed.into_iter().filter(|(_, holders)| !holders.is_empty());
    commits.extend(freed.map(|(consumer, holders)| Commit::Released(consumer, holders)));
    Ok(chosen)
}
