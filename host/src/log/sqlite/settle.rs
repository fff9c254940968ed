//! What a settlement does inside a transaction.

use std::sync::Arc;

use super::command::Settling;
use crate::log::jobs::announce;
use crate::log::{Commit, Hold, Settled, Settlement, runs};
use crate::model::{Event, State, StateChanges, Timestamp};
use crate::planted::{self, Bug};
use crate::store::{self, DeadRow, Inserted, OutcomeRow, StateCheck, Writer};

/// What came of them: one answer for all if they stand or fall together, otherwise one each.
pub(super) fn settle(
    store: &mut Writer,
    settling: &Settling,
    now: Timestamp,
    commits: &mut Vec<Commit>,
) -> Result<Vec<Settled>, store::Error> {
    if settling.together {
        return Ok(vec![settle_together(store, &settling.settlements, now, commits)?]);
    }
    settling.settlements.iter().map(|one| settle_together(store, std::slice::from_ref(one), now, commits)).collect()
}

/// All of them or none: the first that cannot stand is the answer for all.
fn settle_together(
    store: &mut Writer,
    settlements: &[Settlement],
    now: Timestamp,
    commits: &mut Vec<Commit>,
) -> Result<Settled, store::Error> {
    let before = commits.len();
    let settled = match settlements {
        [one] => settle_one(store, one, now, commits)?,
        many => store.all_or_nothing(|store| {
            let settled = settle_until_one_cannot(store, many, now, commits)?;
            Ok((settled == Settled::Committed, settled))
        })?,
    };
    if settled != Settled::Committed {
        commits.truncate(before);
        commits.extend(settlements.iter().map(|settlement| Commit::Settled(settlement.delivery.clone(), settled)));
    }
    Ok(settled)
}

fn settle_until_one_cannot(
    store: &mut Writer,
    settlements: &[Settlement],
    now: Timestamp,
    commits: &mut Vec<Commit>,
) -> Result<Settled, store::Error> {
    for settlement in settlements {
        let settled = settle_one(store, settlement, now, commits)?;
        if settled != Settled::Committed {
            return Ok(settled);
        }
    }
    Ok(Settled::Committed)
}

/// Everything that is only looked at comes first, so that a settlement that cannot stand leaves no trace.
fn settle_one(
    store: &mut Writer,
    settlement: &Settlement,
    now: Timestamp,
    commits: &mut Vec<Commit>,
) -> Result<Settled, store::Error> {
    let settled = decide(store, settlement, now)?;
    if settled != Settled::Committed {
        return Ok(settled);
    }
    if planted::is(Bug::EffectsOutsideTransaction) {
        store.commit()?;
        store.begin()?;
    }
    commits.push(Commit::Settled(settlement.delivery.clone(), settled));
    store.write_state(&settlement.delivery.consumer, &settlement.state)?;
    stand(store, settlement, now)?;
    publish(store, settlement, now, commits)?;
    note(store, settlement, now, commits)?;
    if let Some(change) = &settlement.run {
        let of = (settlement.delivery.seq, &settlement.delivery.consumer);
        runs::change(store, of, change, settlement.record.output.as_ref(), now, commits)?;
    }
    Ok(settled)
}

fn publish(
    store: &mut Writer,
    settlement: &Settlement,
    now: Timestamp,
    commits: &mut Vec<Commit>,
) -> Result<(), store::Error> {
    let mut new = Vec::new();
    let mut published = 0;
    for (index, envelope) in settlement.events.iter().enumerate() {
        // Ids are derived from the delivery: what is there already was published by it before.
        match store.append(envelope, now)? {
            Inserted::New(seq) => {
                published += usize::from(index < settlement.published());
                new.push(Arc::new(Event { seq, accepted_at: now, envelope: envelope.clone() }));
            }
            Inserted::Duplicate(_) => {}
            Inserted::Conflict(seq) => {
                let (delivery, id) = (&settlement.delivery, &envelope.id);
                tracing::error!(%delivery, %id, "a published event is lost: event {seq} has its id and says something else");
            }
        }
    }
    if published < settlement.published() {
        store.correct_published(&settlement.delivery, settlement.record.call, published)?;
    }
    announce(new, commits);
    Ok(())
}

/// What it does to its keys and its claim.
fn note(
    store: &mut Writer,
    settlement: &Settlement,
    now: Timestamp,
    commits: &mut Vec<Commit>,
) -> Result<(), store::Error> {
    let delivery = &settlement.delivery;
    match &settlement.hold {
        Some(Hold::Begin(key)) => store.hold(delivery, key, now)?,
        Some(Hold::End(_)) => {
            let holders: Vec<_> =
                store.hold_no_more(delivery)?.into_iter().map(|round| (delivery.seq, round)).collect();
            let told = (!holders.is_empty()).then(|| Commit::Released(delivery.consumer.clone(), holders));
            commits.extend(told);
        }
        None => {}
    }
    if let Some(mark) = settlement.marks() {
        store.mark(delivery, &mark.key, mark.until)?;
    }
    if settlement.claimed {
        store.claim_no_more(delivery)?;
    }
    Ok(())
}

fn decide(store: &mut Writer, settlement: &Settlement, now: Timestamp) -> Result<Settled, store::Error> {
    let Settlement { delivery, record, .. } = settlement;
    let expected = if settlement.stored {
        store.waiting_calls(delivery)?.map(|made| made.saturating_add(1))
    } else {
        // The first call of a subscription's delivery is the only one that is made without a row.
        (delivery.round == 0).then_some(1)
    };
    if expected != Some(record.call) {
        return Ok(Settled::Fenced);
    }
    let mark = settlement.marks();
    // Without these, the outcome's own uniqueness says the same below.
    let checked = mark.is_some() || settlement.run.is_some() || settlement.state != StateChanges::default();
    if checked && store.has_outcome(delivery, record.call)? {
        return Ok(Settled::Fenced);
    }
    if let Some(mark) = mark
        && store.is_marked_by_another(delivery, &mark.key, now)?
    {
        return Ok(Settled::Duplicate);
    }
    if let Some(change) = &settlement.run
        && !runs::may(store, &delivery.consumer, change)?
    {
        return Ok(Settled::Duplicate);
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
        State::Pending { due_at } => {
            store.wait(delivery, due_at, (next.attempts, next.calls), settlement.kept_key(), settlement.errand)?;
        }
        _ if settlement.stored => store.wait_no_more(delivery)?,
        _ => {}
    }
    store.settle_replayed(delivery, next.state, now)?;
    let Some(cause) = settlement.death else { return Ok(()) };
    store.bury(&DeadRow {
        delivery,
        cause,
        outcome: record.outcome,
        reason: record.reason.as_deref(),
        attempts: next.attempts,
        died_at: now,
        key: settlement.kept_key(),
    })
}
