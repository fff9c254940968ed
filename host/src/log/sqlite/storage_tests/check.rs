//! Whether a database holds what its log has answered, and nothing by half.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::rig::RETENTION;
use super::story::{Answer, CONSUMERS, TOTAL, Told, is_for, on};
use crate::log::conformance::consumer;
use crate::log::sqlite::{Options, SqliteLog};
use crate::log::{DeadDecision, EventLog as _, Hold, Settlement};
use crate::model::{DeliveryId, Envelope, Event, Outcome, Priority, Seq, State, Timestamp};
use crate::store;

/// What is in a database.
struct Found {
    events: BTreeMap<Seq, Envelope>,
    ids: BTreeMap<String, Seq>,
    pruned: Vec<(Seq, Seq)>,
    outcomes: BTreeMap<(DeliveryId, u32), (String, String)>,
    /// Calls and attempts, and whether it is blocked.
    waiting: BTreeMap<DeliveryId, (u32, u32, bool)>,
    /// Status.
    dead: BTreeMap<DeliveryId, String>,
    state: BTreeMap<(String, String), String>,
    generations: u64,
}

/// The promise that is broken, as a sentence.
pub(super) type Broken = String;

macro_rules! ensure {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}

/// Opens the database with the production code and holds it against what was answered up to a place in the record. Then it is
/// written to, closed and verified.
pub(super) async fn check(options: &Options, told: &Told, at: usize) -> Result<(), Broken> {
    let (log, _feed) = SqliteLog::open(options.clone()).map_err(|error| format!("it does not open: {error}"))?;
    let events = log.read(0, usize::MAX).await.map_err(|error| format!("it cannot be read: {error}"))?;
    let found = Found::read(log.path(), &events.iter().map(|event| &**event).collect::<Vec<_>>());
    let pruned = Pruned { found: &found, before: Timestamp(told.time(at).0 - micros()), told, at };
    check_answers(&found, told, at, &pruned)?;
    check_events(&found, told)?;
    check_settlements(&found, told, &pruned)?;
    check_batches(&found, told, &pruned)?;
    check_deliveries(&found, &pruned)?;
    check_keys(&log, &found, told, &pruned).await?;
    check_recovery(&log, &found, told, at).await?;
    let head = log.head();
    ensure!(found.events.keys().next_back().is_none_or(|last| *last == head), "its end is not its last event");
    let next = log.append(vec![crate::log::conformance::event("after", "other")]).await;
    ensure!(next.as_ref().is_ok_and(|next| next[0].seq == head + 1), "it does not go on after {head}: {next:?}");
    log.close().await.map_err(|error| format!("it does not close: {error}"))?;
    drop(log);
    store::verify(&options.path, &mut |_| ControlFlow::Continue(()))
        .map_err(|error| format!("it does not verify: {error}"))?;
    Ok(())
}

fn micros() -> i64 {
    i64::try_from(RETENTION.events.as_micros()).unwrap()
}

impl Found {
    fn read(path: &Path, events: &[&Event]) -> Self {
        let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let id = |row: &rusqlite::Row<'_>| DeliveryId {
            seq: row.get_unwrap::<_, i64>(0).try_into().unwrap(),
            consumer: consumer(&row.get_unwrap::<_, String>(1)),
            round: row.get_unwrap(2),
        };
        let outcomes = "SELECT sequence, consumer, round, call, outcome, state FROM outcomes";
        let waiting = "SELECT sequence, consumer, round, calls, attempts, blocked FROM waiting";
        let dead = "SELECT sequence, consumer, round, status FROM dead_letters";
        let state = "SELECT consumer, key, value FROM state";
        let gaps = "SELECT first_seq, last_seq FROM raw_gaps WHERE cause = 'pruned'";
        Self {
            events: events.iter().map(|event| (event.seq, event.envelope.clone())).collect(),
            ids: events.iter().map(|event| (event.envelope.id.clone(), event.seq)).collect(),
            pruned: rows(&conn, gaps, |row| (number(row, 0), number(row, 1))),
            outcomes: rows(&conn, outcomes, |row| {
                ((id(row), row.get_unwrap(3)), (row.get_unwrap(4), row.get_unwrap(5)))
            }),
            waiting: rows(&conn, waiting, |row| (id(row), (row.get_unwrap(3), row.get_unwrap(4), row.get_unwrap(5)))),
            dead: rows(&conn, dead, |row| (id(row), row.get_unwrap(3))),
            state: rows(&conn, state, |row| ((row.get_unwrap(0), row.get_unwrap(1)), row.get_unwrap(2))),
            generations: conn
                .query_row("SELECT coalesce(max(generation), 0) FROM generations", [], |row| Ok(number(row, 0)))
                .unwrap(),
        }
    }

    fn has_outcome(&self, settlement: &Settlement) -> bool {
        let expected = settlement.record.outcome.as_str();
        let key = (settlement.delivery.clone(), settlement.record.call);
        self.outcomes.get(&key).is_some_and(|(outcome, _)| outcome == expected)
    }

    /// Whether what this settlement alone causes is there: all of it, or nothing. None: some of it.
    fn effects(&self, settlement: &Settlement) -> Option<bool> {
        let published = settlement.events.iter().map(|event| self.ids.contains_key(&event.id));
        let name = settlement.delivery.consumer.as_str();
        let written = settlement.state.writes.keys().filter(|key| *key != TOTAL);
        let written = written.map(|key| self.state.contains_key(&(name.to_owned(), key.clone())));
        let all: BTreeSet<bool> = published.chain(written).collect();
        (all.len() < 2).then(|| all.first().copied().unwrap_or(false))
    }
}

fn number(row: &rusqlite::Row<'_>, index: usize) -> u64 {
    row.get_unwrap::<_, i64>(index).try_into().unwrap()
}

fn rows<T, C: FromIterator<T>>(conn: &Connection, sql: &str, mut read: impl FnMut(&rusqlite::Row<'_>) -> T) -> C {
    let mut statement = conn.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok(read(row))).unwrap();
    rows.map(|row| row.unwrap()).collect()
}

/// What retention may have taken.
struct Pruned<'a> {
    found: &'a Found,
    before: Timestamp,
    told: &'a Told,
    at: usize,
}

impl Pruned<'_> {
    fn event(&self, seq: Seq) -> bool {
        self.found.pruned.iter().any(|(first, last)| (*first..=*last).contains(&seq))
    }

    /// A call that long ago, if its delivery is final.
    fn settlement(&self, settlement: &Settlement) -> bool {
        let Settlement { delivery, record, .. } = settlement;
        record.started_at < self.before
            && self.told.answered(self.at).any(|answer| {
                matches!(answer, Answer::Settled(index)
                    if self.told.settlements[*index].delivery == *delivery
                    && !matches!(self.told.settlements[*index].next.state, State::Pending { .. }))
            })
    }

    /// Dead letters that were decided long ago may be gone.
    fn decisions(&self) -> bool {
        self.before >= self.told.times[0].1
    }

    /// Retention looks at events in the order of the log, so what is of the same time may be gone with it.
    fn effects(&self, settlement: &Settlement) -> bool {
        settlement.record.started_at < self.before
    }
}

/// What was answered is so.
fn check_answers(found: &Found, told: &Told, at: usize, pruned: &Pruned<'_>) -> Result<(), Broken> {
    for answer in told.answered(at) {
        match answer {
            Answer::Opened => {}
            Answer::Appended(id, seq) => match found.events.get(seq) {
                Some(event) => ensure!(event.id == *id, "event {seq} was {id} and is {}", event.id),
                None => ensure!(pruned.event(*seq), "event {seq} ({id}) was acknowledged and is lost"),
            },
            Answer::Settled(index) => {
                let settlement = &told.settlements[*index];
                let (id, call) = (&settlement.delivery, settlement.record.call);
                ensure!(
                    found.has_outcome(settlement) || pruned.settlement(settlement),
                    "call {call} of {id} was settled, and its outcome is lost"
                );
            }
            Answer::Decided(decision, id) => {
                let expected = if *decision == DeadDecision::Redrive { "redriven" } else { "discarded" };
                let status = found.dead.get(id).map_or(expected, String::as_str);
                ensure!(status == expected, "{id} was {expected} and is {status}");
            }
            Answer::Activated(generation) => {
                ensure!(found.generations >= generation.0, "generation {} is lost", generation.0);
            }
            Answer::Parked(id) => {
                let there = found.waiting.contains_key(id) || found.outcomes.keys().any(|(of, _)| of == id);
                ensure!(there || pruned.event(id.seq) || pruned.decisions(), "{id} was parked and does not wait");
            }
            // In `check_keys`.
            Answer::Paused(_) => {}
        }
    }
    Ok(())
}

/// Every event is one that the log was given, as it was given.
fn check_events(found: &Found, told: &Told) -> Result<(), Broken> {
    ensure!(found.ids.len() == found.events.len(), "an event is there twice");
    for (seq, event) in &found.events {
        let given = told.events.get(&event.id);
        ensure!(given == Some(event), "event {seq} ({}) is not what was given", event.id);
    }
    Ok(())
}

/// Each settlement is there whole or not at all, and of one call only one.
fn check_settlements(found: &Found, told: &Told, pruned: &Pruned<'_>) -> Result<(), Broken> {
    let mut of_call: BTreeMap<(DeliveryId, u32), u32> = BTreeMap::new();
    let mut counted: BTreeMap<&str, u64> = BTreeMap::new();
    for settlement in &told.settlements {
        let key = (settlement.delivery.clone(), settlement.record.call);
        let (id, call) = (&key.0, key.1);
        if settlement.record.outcome == Outcome::Done {
            let name = settlement.delivery.consumer.as_str();
            let left = settlement.state.writes.keys().filter(|key| *key != TOTAL);
            let left = left.filter(|key| found.state.contains_key(&(name.to_owned(), (*key).clone())));
            *counted.entry(name).or_default() += left.count() as u64;
        }
        if pruned.effects(settlement) {
            continue;
        }
        let outcome = found.outcomes.contains_key(&key);
        let Some(effects) = found.effects(settlement) else { return Err(format!("call {call} of {id} is half there")) };
        ensure!(outcome || !effects, "what call {call} of {id} caused is there, and not its outcome");
        *of_call.entry(key.clone()).or_default() += u32::from(effects);
        let alone =
            told.settlements.iter().filter(|other| (&other.delivery, other.record.call) == (id, call)).count() == 1;
        let causes = !settlement.events.is_empty() || !settlement.state.writes.is_empty();
        ensure!(
            !(alone && outcome && causes) || effects,
            "call {call} of {id} has an outcome, and what it caused is not there"
        );
    }
    for ((id, call), effects) in of_call {
        ensure!(effects < 2, "call {call} of {id} has happened {effects} times");
    }
    for (name, _) in CONSUMERS {
        let total = found.state.get(&(name.to_owned(), TOTAL.to_owned())).map_or(0, |total| total.parse().unwrap());
        let counted = counted.get(name).copied().unwrap_or(0);
        ensure!(total == counted, "{name} has counted to {total} and done {counted}");
    }
    Ok(())
}

/// What was given together is there together.
fn check_batches(found: &Found, told: &Told, pruned: &Pruned<'_>) -> Result<(), Broken> {
    for batch in &told.batches {
        let all = batch.iter().map(|index| &told.settlements[*index]);
        let causes = |one: &Settlement| !one.events.is_empty() || !one.state.writes.is_empty();
        let visible = all.filter(|one| !pruned.effects(one) && causes(one));
        let there: BTreeSet<bool> = visible.filter_map(|settlement| found.effects(settlement)).collect();
        let first = &told.settlements[batch[0]].delivery;
        ensure!(
            there.len() < 2,
            "of the settlements that were given together with that of {first}, only some are there"
        );
    }
    Ok(())
}

/// Marks, holds and pauses are those of what was settled and told.
async fn check_keys(log: &SqliteLog, found: &Found, told: &Told, pruned: &Pruned<'_>) -> Result<(), Broken> {
    let at = pruned.at;
    let mut marks: BTreeMap<(&str, &str), &Settlement> = BTreeMap::new();
    for settlement in told.answered(at).filter_map(|answer| settled(told, answer)) {
        if let Some(mark) = &settlement.mark {
            marks.insert((settlement.delivery.consumer.as_str(), mark.key.as_str()), settlement);
        }
    }
    for ((name, key), settlement) in marks {
        let marked = log.marked(consumer(name), key.to_owned()).await.map_err(|error| error.to_string())?;
        let expired = settlement.mark.as_ref().is_some_and(|mark| mark.until <= told.time(at));
        let id = &settlement.delivery;
        ensure!(expired || marked.as_ref() == Some(id), "{id} has settled the key {key}, and {marked:?} is remembered");
    }
    for (name, _) in CONSUMERS {
        let recovery = log.recover(consumer(name)).await.map_err(|error| error.to_string())?;
        for settlement in &told.settlements {
            let Some(Hold::Begin(key)) = &settlement.hold else { continue };
            if settlement.delivery.consumer.as_str() != name || pruned.effects(settlement) {
                continue;
            }
            let id = &settlement.delivery;
            let held = recovery.held.iter().any(|held| held.key == *key && held.seq == id.seq);
            let there = found.effects(settlement) == Some(true);
            ensure!(!held || there, "{key} is held by {id}, which has not died so");
            let dead = found.dead.get(id).is_some_and(|status| status == "dead");
            ensure!(held || !(there && dead), "{id} is dead and does not hold {key}");
        }
        let told_last = told.answered(at).filter_map(|answer| match answer {
            Answer::Paused(index) if told.pauses[*index].0.as_str() == name => Some(*index),
            _ => None,
        });
        let last = told_last.max();
        let mut since = told.pauses.iter().skip(last.unwrap_or(0)).filter(|(of, _)| of.as_str() == name);
        let can_be = since.any(|(_, paused)| *paused == recovery.paused) || (last.is_none() && !recovery.paused);
        ensure!(can_be, "{name} is paused: {}, and was told otherwise", recovery.paused);
    }
    Ok(())
}

fn settled<'a>(told: &'a Told, answer: &Answer) -> Option<&'a Settlement> {
    if let Answer::Settled(index) = answer { told.settlements.get(*index) } else { None }
}

/// Where each delivery stands follows from its last outcome.
fn check_deliveries(found: &Found, pruned: &Pruned<'_>) -> Result<(), Broken> {
    let mut last: BTreeMap<&DeliveryId, (u32, &str)> = BTreeMap::new();
    let mut finals: BTreeSet<&DeliveryId> = BTreeSet::new();
    for ((id, call), (_, state)) in &found.outcomes {
        if state != "pending" {
            ensure!(finals.insert(id), "{id} has two final outcomes");
        }
        last.insert(id, (*call, state));
    }
    for (id, (call, state)) in last {
        let waiting = found.waiting.get(id);
        match state {
            "pending" => {
                ensure!(waiting.is_some_and(|(calls, ..)| *calls == call), "{id} is pending and waits not: {waiting:?}")
            }
            _ => ensure!(waiting.is_none(), "{id} is {state} and waits"),
        }
        let dead = found.dead.contains_key(id) || (state == "dead" && pruned.decisions());
        ensure!((state == "dead") == dead, "{id} is {state}, and its dead letter says otherwise");
    }
    for (id, status) in &found.dead {
        let next = DeliveryId { round: id.round + 1, ..id.clone() };
        let goes_on = found.waiting.contains_key(&next) || found.outcomes.keys().any(|(of, _)| *of == next);
        ensure!(goes_on == (status == "redriven"), "{id} is {status}, and its next round is {goes_on}");
    }
    for (id, (calls, attempts, _)) in &found.waiting {
        ensure!(attempts <= calls, "{id} waits with {attempts} attempts in {calls} calls");
        ensure!(
            *calls == 0 || found.outcomes.contains_key(&(id.clone(), *calls)),
            "{id} waits after call {calls}, which has no outcome"
        );
    }
    Ok(())
}

/// What is given back to be done is what is not settled.
async fn check_recovery(log: &SqliteLog, found: &Found, told: &Told, at: usize) -> Result<(), Broken> {
    if !told.answered(at).any(|answer| matches!(answer, Answer::Activated(_))) {
        return Ok(());
    }
    for (name, _) in CONSUMERS {
        let name = consumer(name);
        let recovery = log.recover(name.clone()).await.map_err(|error| format!("it does not recover: {error}"))?;
        let settled: BTreeSet<Seq> = recovery.settled.iter().copied().collect();
        for (seq, _) in found.events.iter().filter(|(_, event)| is_for(on(&name), &event.event_type)) {
            let id = DeliveryId { seq: *seq, consumer: name.clone(), round: 0 };
            let has_row = found.waiting.contains_key(&id) || found.outcomes.keys().any(|(of, _)| *of == id);
            let given_back = *seq > recovery.position && !settled.contains(seq);
            let final_before = told
                .answered(at)
                .any(|answer| matches!(answer, Answer::Settled(index) if told.settlements[*index].delivery == id));
            ensure!(given_back || has_row || final_before, "{id} is neither settled nor given back");
            ensure!(!(given_back && has_row), "{id} is settled or waits, and is given back");
        }
        let mut waiting = BTreeSet::new();
        for priority in Priority::ALL {
            let page = log.waiting(name.clone(), priority, None, usize::MAX).await;
            let page = page.map_err(|error| format!("what waits cannot be read: {error}"))?;
            waiting.extend(page.into_iter().map(|waiting| waiting.id));
        }
        let due = found.waiting.iter().filter(|(id, (.., blocked))| id.consumer == name && !blocked);
        let rows: BTreeSet<DeliveryId> = due.map(|(id, _)| id.clone()).collect();
        ensure!(waiting == rows, "{name:?}: what waits is {waiting:?} and should be {rows:?}");
    }
    Ok(())
}
