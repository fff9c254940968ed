//! An event, what came of its deliveries, what was asked for them, and what they caused in turn.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::model::event::{CONSUMER_SOURCE_PREFIX, RUN_PREFIX};
use crate::model::limit::ANSWER_BYTES;
use crate::model::query::bounded;
use crate::model::record::{DeliveryNode, EventTree, OutcomeRecord, QueryNode, RunNode};
use crate::model::{ConsumerName, DeliveryId, Event, Seq, Timestamp};
use crate::store::Error;
use crate::store::depth::{self, Known};
use crate::store::row::{EVENT, Id, StoredEvent, event_by_seq, get_time, int};
use crate::store::waiting::delivery_id;

use super::{events, outcomes, queries, runs};

/// Levels of a tree, at most: it is built by recursion.
const LEVELS_MAX: usize = 64;

/// What a tree may still have, and whether there was more.
pub(super) struct Budget {
    pub(super) nodes: usize,
    pub(super) bytes: usize,
    pub(super) cut: bool,
}

pub(super) fn of(conn: &Connection, seq: Seq, nodes_max: usize) -> Result<Option<(EventTree, bool)>, Error> {
    let Some(stored) = event_by_seq(conn, seq)? else { return Ok(None) };
    let mut budget = Budget { nodes: nodes_max.saturating_sub(1), bytes: ANSWER_BYTES, cut: false };
    let known = depth::known(conn)?;
    let tree = grow(conn, stored.event, &known, &mut budget, 1)?;
    Ok(Some((tree, budget.cut)))
}

fn grow(
    conn: &Connection,
    event: Event,
    known: &[Known],
    budget: &mut Budget,
    level: usize,
) -> Result<EventTree, Error> {
    let mut deliveries = deliveries(conn, &event, known)?;
    let outcomes = deliveries.iter().flat_map(|node| &node.outcomes).map(OutcomeRecord::bytes).sum::<usize>();
    budget.bytes = budget.bytes.saturating_sub(outcomes + event.envelope.data_len());
    budget.cut |= outcomes > ANSWER_BYTES;
    let queries = asked(conn, event.seq, &mut deliveries, budget)?;
    let (mut events, mut about_runs) = (Vec::new(), Vec::new());
    for child in children(conn, &event, budget)? {
        if level >= LEVELS_MAX || budget.nodes == 0 || budget.bytes == 0 {
            budget.cut = true;
            break;
        }
        budget.nodes -= 1;
        let publisher = child.envelope.source.strip_prefix(CONSUMER_SOURCE_PREFIX).map(str::to_owned);
        let about_run = child.envelope.event_type.starts_with(RUN_PREFIX);
        let tree = grow(conn, child, known, budget, level + 1)?;
        let node = publisher.and_then(|name| publisher_of(&mut deliveries, &name));
        match node {
            Some(node) => node.events.push(tree),
            None if about_run => about_runs.push(tree),
            None => events.push(tree),
        }
    }
    let runs = runs(conn, event.seq, &mut deliveries, about_runs)?;
    Ok(EventTree { event: events::record(event), deliveries, runs, queries, events })
}

/// The delivery that published the next event of this consumer, in log order: only one that succeeded has published, and of several rounds
/// each as much as its outcome says, in the order in which their last attempts began.
fn publisher_of<'a>(deliveries: &'a mut [DeliveryNode], consumer: &str) -> Option<&'a mut DeliveryNode> {
    let last = |node: &DeliveryNode| node.outcomes.last().map(|outcome| (outcome.started_at, outcome.published));
    let mut nodes: Vec<&mut DeliveryNode> =
        deliveries.iter_mut().filter(|node| node.consumer.as_str() == consumer && node.state == "succeeded").collect();
    nodes.sort_by_key(|node| last(node).map(|(started_at, _)| started_at));
    let owes = |node: &DeliveryNode| last(node).is_some_and(|(_, published)| node.events.len() < published as usize);
    let at = nodes.iter().position(|node| owes(node)).or(nodes.len().checked_sub(1))?;
    Some(nodes.swap_remove(at))
}

/// Gives each delivery what its handler asked; what is left was asked by deliveries that are not known.
fn asked(
    conn: &Connection,
    seq: Seq,
    deliveries: &mut [DeliveryNode],
    budget: &mut Budget,
) -> Result<Vec<QueryNode>, Error> {
    let mut left = Vec::new();
    for node in queries::of_event(conn, seq, budget)? {
        let asker = deliveries.iter_mut().find(|delivery| {
            let id = DeliveryId { seq, consumer: delivery.consumer.clone(), round: delivery.round };
            node.query.delivery == Some(id.to_string())
        });
        asker.map_or(&mut left, |delivery| &mut delivery.queries).push(node);
    }
    Ok(left)
}

/// The runs that an event began, each with those of the deliveries that are its own, and what the host told of it.
fn runs(
    conn: &Connection,
    seq: Seq,
    deliveries: &mut Vec<DeliveryNode>,
    mut told: Vec<EventTree>,
) -> Result<Vec<RunNode>, Error> {
    let mut steps = runs::steps_of_event(conn, seq)?;
    let mut own: Vec<(runs::StepOf, DeliveryNode)> = Vec::new();
    for mut node in std::mem::take(deliveries) {
        match steps.remove(&(node.consumer.clone(), node.round)) {
            Some(step) => {
                (node.step, node.undo) = (Some(step.name.clone()), step.undo);
                own.push((step, node));
            }
            None => deliveries.push(node),
        }
    }
    own.sort_by_key(|(step, node)| (step.order, node.round));
    let mut nodes = Vec::new();
    for run in runs::of_event(conn, seq)? {
        let (mine, others): (Vec<_>, _) = own.into_iter().partition(|(step, _)| step.pipeline == run.pipeline);
        let (about, elsewhere) = told.into_iter().partition(|tree| tree.event.subject.as_deref() == Some(&run.id));
        (own, told) = (others, elsewhere);
        nodes.push(RunNode { run, deliveries: mine.into_iter().map(|(_, node)| node).collect(), events: about });
    }
    Ok(nodes)
}

/// Events that name this one as their cause, in log order.
fn children(conn: &Connection, event: &Event, budget: &mut Budget) -> Result<Vec<Event>, Error> {
    let sql = format!(
        "{EVENT} WHERE e.causation = ?1 AND coalesce(e.correlation, e.id) = ?2 AND e.seq > ?3 ORDER BY e.seq LIMIT ?4"
    );
    let limit = budget.nodes.saturating_add(1);
    let mut statement = conn.prepare_cached(&sql)?;
    let envelope = &event.envelope;
    let rows = statement.query_map(
        (Id(&envelope.id), Id(&envelope.correlation_id), int(event.seq), int(limit as u64)),
        StoredEvent::read,
    )?;
    Ok(bounded(rows.map(|row| row.map(|row| row.event)), |event| event.envelope.data_len())?)
}

/// What is known of a delivery: its attempts, and how it waits.
#[derive(Default)]
struct Found {
    outcomes: Vec<OutcomeRecord>,
    due_at: Option<Timestamp>,
    blocked: bool,
}

/// Every delivery of an event: those with outcomes, those that wait, and those that nobody has come to yet.
fn deliveries(conn: &Connection, event: &Event, known: &[Known]) -> Result<Vec<DeliveryNode>, Error> {
    let mut nodes: BTreeMap<(ConsumerName, u32), Found> = BTreeMap::new();
    for outcome in outcomes::of_event(conn, event.seq)? {
        nodes.entry((outcome.consumer.clone(), outcome.round)).or_default().outcomes.push(outcome);
    }
    let sql = "SELECT w.seq, n.text, w.round, w.due_at, w.blocked FROM raw_waiting AS w \
               JOIN names AS n ON n.id = w.consumer WHERE w.seq = ?1";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([int(event.seq)], |row| Ok((delivery_id(row)?, get_time(row, 3)?, row.get(4)?)))?;
    for row in rows {
        let (id, due_at, blocked): (DeliveryId, Timestamp, bool) = row?;
        let found = nodes.entry((id.consumer, id.round)).or_default();
        // When one is due that waits for its key depends on the others.
        (found.due_at, found.blocked) = (Some(due_at).filter(|_| !blocked), blocked);
    }
    for consumer in known.iter().filter(|consumer| consumer.position < event.seq) {
        let held = consumer.timeline.iter().rev().find(|(from, _)| *from <= event.seq);
        if held.is_some_and(|(_, on)| on.iter().any(|subscription| subscription.matches(event))) {
            nodes.entry((consumer.name.clone(), 0)).or_default();
        }
    }
    let node = |((consumer, round), found): ((ConsumerName, u32), Found)| DeliveryNode {
        consumer,
        round,
        step: None,
        undo: false,
        state: found.outcomes.last().map_or_else(|| "pending".to_owned(), |last| last.state.clone()),
        due_at: found.due_at,
        blocked: found.blocked,
        outcomes: found.outcomes,
        queries: Vec::new(),
        events: Vec::new(),
    };
    Ok(nodes.into_iter().map(node).collect())
}
