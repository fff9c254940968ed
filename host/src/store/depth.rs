//! What is left to do: deliveries that are not final. Rows say what was settled and what waits; what nobody has come to
//! yet has no row, and follows from the log, the consumer's position and what it subscribed to at the time.

use rusqlite::Connection;

use crate::model::spec::{ConsumerKind, SubscriptionSpec};
use crate::model::{ConsumerName, Seq, Timestamp};

use super::generations::{get_begins, get_kind};
use super::row::{EVENT, StoredEvent, get_u64, int};
use super::waiting::get_consumer;
use super::{Error, generations, replays};

/// A consumer that the database knows.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub id: i64,
    pub name: ConsumerName,
    pub kind: ConsumerKind,
    /// Not: the manifest no longer has it, and it is there for its runs alone.
    pub deployed: bool,
    pub position: Seq,
    /// What it subscribed to from which sequence on, oldest first.
    pub timeline: Vec<(Seq, Vec<SubscriptionSpec>)>,
    /// Whether the newest generation has it.
    pub active: bool,
    pub on: Vec<SubscriptionSpec>,
}

pub(super) fn known(conn: &Connection) -> Result<Vec<Known>, Error> {
    let generations = generations::all(conn)?;
    let newest = generations.last().map(|(_, subscriptions)| subscriptions);
    let sql = "SELECT c.consumer, n.text, c.seq, c.begins, c.kind, c.deployed FROM raw_cursors AS c JOIN names AS n ON n.id = c.consumer ORDER BY n.text";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        let name = get_consumer(row, 1)?;
        let timeline = generations::timeline(&generations, &name, get_begins(row, 3)?);
        let now = newest.and_then(|subscriptions| subscriptions.get(&name));
        Ok(Known {
            id: row.get(0)?,
            kind: get_kind(row, 4)?,
            deployed: row.get(5)?,
            position: get_u64(row, 2)?,
            active: now.is_some(),
            on: now
                .or_else(|| timeline.iter().rev().map(|(_, on)| on).find(|on| !on.is_empty()))
                .cloned()
                .unwrap_or_default(),
            timeline,
            name,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Deliveries of a consumer that nobody has come to yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lag {
    pub deliveries: u64,
    /// When the oldest of their events was accepted.
    pub oldest: Option<Timestamp>,
}

impl Lag {
    fn add(&mut self, deliveries: u64, oldest: Timestamp) {
        self.deliveries += deliveries;
        self.oldest = Some(self.oldest.map_or(oldest, |known| known.min(oldest)));
    }
}

/// Of events up to `through`.
pub(super) fn lag(conn: &Connection, consumer: &Known, through: Seq) -> Result<Lag, Error> {
    lag_of(conn, consumer, through, true)
}

/// `exact`: with a look at what conditions say; otherwise they count as true, which is quick and at least as much.
fn lag_of(conn: &Connection, consumer: &Known, through: Seq, exact: bool) -> Result<Lag, Error> {
    let mut lag = Lag::default();
    let mut froms = consumer.timeline.iter().map(|(from, _)| *from).skip(1);
    for (from, subscriptions) in &consumer.timeline {
        let last = froms.next().map_or(through, |next| through.min(next - 1));
        let after = consumer.position.max(from - 1);
        if subscriptions.is_empty() || after >= last {
            continue;
        }
        for (id, event_type) in types(conn)? {
            let mut of_type = subscriptions.iter().filter(|s| s.pattern.matches(&event_type)).peekable();
            if of_type.peek().is_none() {
                continue;
            }
            let plain = of_type.all(|s| s.condition.is_none());
            if plain || !exact {
                add(conn, consumer.id, (id, &event_type), subscriptions, (after, last), &mut lag)?;
            } else {
                add_each(conn, consumer.id, id, subscriptions, (after, last), &mut lag)?;
            }
        }
    }
    Ok(lag)
}

/// Event types in the log. There are few, and the index on them is skipped through.
pub(super) fn types(conn: &Connection) -> Result<Vec<(i64, String)>, Error> {
    let sql = "WITH RECURSIVE t(id) AS (SELECT min(type) FROM raw_events UNION ALL \
               SELECT (SELECT min(type) FROM raw_events WHERE type > t.id) FROM t WHERE t.id IS NOT NULL) \
               SELECT t.id, n.text FROM t JOIN names AS n ON n.id = t.id";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Counts the events of one type by schema version, as a subscription may want only some.
fn add(
    conn: &Connection,
    consumer: i64,
    (type_id, event_type): (i64, &str),
    subscriptions: &[SubscriptionSpec],
    (after, last): (Seq, Seq),
    lag: &mut Lag,
) -> Result<(), Error> {
    let sql = "SELECT n.text, count(*), min(e.accepted_at) FROM raw_events AS e INDEXED BY raw_events_by_type \
               JOIN names AS n ON n.id = e.data_version WHERE e.type = ?1 AND e.seq > ?2 AND e.seq <= ?3 \
               AND NOT EXISTS (SELECT 1 FROM raw_outcomes AS o WHERE o.seq = e.seq AND o.consumer = ?4 AND o.round = 0) \
               AND NOT EXISTS (SELECT 1 FROM raw_waiting AS w WHERE w.seq = e.seq AND w.consumer = ?4 AND w.round = 0) \
               AND NOT EXISTS (SELECT 1 FROM raw_jobs AS j WHERE j.seq = e.seq) GROUP BY e.data_version";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query((type_id, int(after), int(last), consumer))?;
    while let Some(row) = rows.next()? {
        let version: String = row.get(0)?;
        if subscriptions.iter().any(|s| s.matches_type(event_type, &version)) {
            lag.add(get_u64(row, 1)?, Timestamp(row.get(2)?));
        }
    }
    Ok(())
}

/// As [`add`], with a look at each event: a condition is over its payload.
fn add_each(
    conn: &Connection,
    consumer: i64,
    type_id: i64,
    subscriptions: &[SubscriptionSpec],
    (after, last): (Seq, Seq),
    lag: &mut Lag,
) -> Result<(), Error> {
    let sql = format!(
        "{EVENT} WHERE e.type = ?1 AND e.seq > ?2 AND e.seq <= ?3 \
         AND NOT EXISTS (SELECT 1 FROM raw_outcomes AS o WHERE o.seq = e.seq AND o.consumer = ?4 AND o.round = 0) \
         AND NOT EXISTS (SELECT 1 FROM raw_waiting AS w WHERE w.seq = e.seq AND w.consumer = ?4 AND w.round = 0)"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map((type_id, int(after), int(last), consumer), StoredEvent::read)?;
    for stored in rows {
        let event = stored?.event;
        if subscriptions.iter().any(|s| s.matches(&event)) {
            lag.add(1, event.accepted_at);
        }
    }
    Ok(())
}

/// Deliveries of a consumer that wait, of events up to `through`, and when the oldest of their events was accepted.
pub(super) fn waiting(conn: &Connection, consumer: i64, through: Seq) -> Result<Lag, Error> {
    let sql = "SELECT count(*), min(e.accepted_at) FROM raw_waiting AS w LEFT JOIN raw_events AS e ON e.seq = w.seq \
               WHERE w.consumer = ?1 AND w.seq <= ?2";
    let lag = conn.prepare_cached(sql)?.query_row((consumer, int(through)), |row| {
        Ok(Lag { deliveries: get_u64(row, 0)?, oldest: row.get::<_, Option<i64>>(1)?.map(Timestamp) })
    })?;
    Ok(lag)
}

/// Up to where no consumer needs the log for what it has not come to yet. A removed consumer needs only what was
/// meant for it.
pub(super) fn needed_after(conn: &Connection, end: Seq) -> Result<Seq, Error> {
    let mut low = replays::needed_after(conn, end)?;
    for consumer in known(conn)? {
        if consumer.active || lag_of(conn, &consumer, end, false)?.deliveries > 0 {
            low = low.min(consumer.position);
        }
    }
    Ok(low)
}
