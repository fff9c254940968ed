//! What the log reads for itself: events on their way to consumers, and what is left to do after a start.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _};

use crate::model::delivery::KeyStanding;
use crate::model::keys::{HeldKey, KeyRules};
use crate::model::pipeline::errand::Errand;
use crate::model::pipeline::run::RunId;
use crate::model::replay::Replay;
use crate::model::spec::SubscriptionSpec;
use crate::model::{ConsumerName, DeliveryId, Event, Priority, Seq, Timestamp};

use super::chain::{Hash, Head};
use super::generations::get_begins;
use super::row::{EVENT, StoredEvent, get_u64, int};
use super::runs::Definitions;
use super::waiting::WaitingRow;
use super::{Error, claims, connect, generations, jobs, keys, names, replays, runs, waiting};

/// Payload bytes of one answer, beyond the first event.
const READ_BYTES: usize = 8 << 20;

/// A read-only connection for the log's own reading.
#[derive(Debug)]
pub struct LogReader {
    conn: Connection,
    genesis: Hash,
    definitions: RefCell<Definitions>,
}

/// How far a consumer is: see `log::Recovery`.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    pub position: Seq,
    pub settled: Vec<Seq>,
    pub timeline: Vec<(Seq, Vec<SubscriptionSpec>)>,
    pub keys: Vec<KeyStanding>,
    pub held: Vec<HeldKey>,
    pub keyed_by: Option<KeyRules>,
    pub paused: bool,
    pub crashes: Vec<(DeliveryId, u32)>,
}

/// What stands before an event in the chain.
pub(super) enum Before {
    Known(Hash),
    /// An accepted loss: the chain begins anew.
    Unknown,
    Missing,
}

impl LogReader {
    pub fn open(path: &Path) -> Result<Self, Error> {
        let conn = connect::reader(path)?;
        let genesis = genesis(&conn)?;
        Ok(Self { conn, genesis, definitions: RefCell::default() })
    }

    /// Up to `limit` events after `after`, fewer if they are large, none only at the end of the log. Each one is
    /// checked against its hash.
    pub fn events(&self, after: Seq, limit: usize) -> Result<Vec<Arc<Event>>, Error> {
        let mut statement = self.conn.prepare_cached(&format!("{EVENT} WHERE e.seq > ?1 ORDER BY e.seq LIMIT ?2"))?;
        let mut rows = statement.query((int(after), i64::try_from(limit).unwrap_or(i64::MAX)))?;
        let (mut events, mut bytes) = (Vec::new(), 0);
        let mut last: Option<Head> = None;
        while let Some(row) = rows.next()? {
            let stored = StoredEvent::read(row)?;
            let seq = stored.event.seq;
            let before = match last {
                Some(last) if last.seq + 1 == seq => Before::Known(last.hash),
                _ => before(&self.conn, seq, self.genesis)?,
            };
            match before {
                Before::Known(hash) if stored.link(&hash) != stored.hash => {
                    return Err(Error::Damaged { seq, detail: "its content does not have its hash".into() });
                }
                Before::Missing => {
                    return Err(Error::Damaged { seq: seq - 1, detail: "it is missing".into() });
                }
                Before::Known(_) | Before::Unknown => {}
            }
            last = Some(Head { seq, hash: stored.hash });
            bytes += stored.event.envelope.data_len();
            events.push(Arc::new(stored.event));
            if bytes > READ_BYTES {
                break;
            }
        }
        Ok(events)
    }

    pub fn standing(&self, consumer: &ConsumerName) -> Result<Standing, Error> {
        let tx = self.conn.unchecked_transaction()?;
        let Some(id) = names::find(&tx, consumer.as_str())? else {
            let keyed_by = Some(KeyRules::default());
            return Ok(Standing { position: end(&tx)?, keyed_by, ..Standing::default() });
        };
        let mut standing = Standing {
            keys: waiting::keys(&tx, id)?,
            held: keys::held(&tx, id)?,
            paused: claims::is_paused(&tx, id)?,
            crashes: claims::crashes(&tx, (id, consumer))?,
            ..Standing::default()
        };
        let cursor = tx
            .prepare_cached("SELECT seq, begins, lines_by, marks_by FROM raw_cursors WHERE consumer = ?1")?
            .query_row([id], |row| Ok((get_u64(row, 0)?, get_begins(row, 1)?, get_rules(row)?)))
            .optional()?;
        let Some((position, begins, keyed_by)) = cursor else {
            return Ok(Standing { position: end(&tx)?, keyed_by: Some(KeyRules::default()), ..standing });
        };
        standing.position = position;
        standing.keyed_by = keyed_by;
        standing.settled = settled(&tx, id, position)?;
        standing.timeline = generations::timeline(&generations::all(&tx)?, consumer, begins);
        Ok(standing)
    }

    /// What a delivery is for, if it is a run's or a job with something of its own.
    pub fn errand(&self, id: &DeliveryId) -> Result<Option<Errand>, Error> {
        // What is read belongs together.
        let tx = self.conn.unchecked_transaction()?;
        match runs::errand(&tx, &mut self.definitions.borrow_mut(), id)? {
            Some(errand) => Ok(Some(errand)),
            None => jobs::errand(&tx, id),
        }
    }

    pub fn run_with_key(&self, pipeline: &ConsumerName, key: &str) -> Result<Option<RunId>, Error> {
        runs::with_key(&self.conn, pipeline, key)
    }

    /// Those of which deliveries are still to be made.
    pub fn running_replays(&self) -> Result<Vec<Replay>, Error> {
        replays::running(&self.conn)
    }

    pub fn waiting(
        &self,
        consumer: &ConsumerName,
        priority: Priority,
        after: Option<&(Timestamp, DeliveryId)>,
        limit: usize,
    ) -> Result<Vec<WaitingRow>, Error> {
        waiting::page(&self.conn, consumer, priority, after, limit)
    }

    pub fn blocked(
        &self,
        consumer: &ConsumerName,
        key: &str,
        later: bool,
        limit: usize,
    ) -> Result<Vec<WaitingRow>, Error> {
        waiting::blocked(&self.conn, consumer, key, later, limit)
    }

    /// The delivery that has settled an idempotency key, if it is remembered.
    pub fn marked(&self, consumer: &ConsumerName, key: &str, now: Timestamp) -> Result<Option<DeliveryId>, Error> {
        keys::mark(&self.conn, consumer, key, now)
    }
}

/// From columns 2 and 3.
fn get_rules(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<KeyRules>> {
    let lines: Option<String> = row.get(2)?;
    let marks: Option<String> = row.get(3)?;
    Ok(lines.zip(marks).map(|(lines, marks)| KeyRules { lines, marks }))
}

/// Events beyond a position whose first delivery is settled or waits.
fn settled(conn: &Connection, consumer: i64, position: Seq) -> Result<Vec<Seq>, Error> {
    let sql = "SELECT seq FROM raw_outcomes WHERE seq > ?1 AND consumer = ?2 AND round = 0 \
               UNION SELECT seq FROM raw_waiting WHERE seq > ?1 AND consumer = ?2 AND round = 0 ORDER BY seq";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map((int(position), consumer), |row| get_u64(row, 0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The last sequence that was ever given.
pub(super) fn end(conn: &Connection) -> Result<Seq, Error> {
    let sql = "SELECT max(coalesce((SELECT max(seq) FROM raw_events), 0), \
               coalesce((SELECT max(last_seq) FROM raw_gaps), 0))";
    Ok(conn.prepare_cached(sql)?.query_row([], |row| get_u64(row, 0))?)
}

pub(super) fn genesis(conn: &Connection) -> Result<Hash, Error> {
    let id: [u8; 16] = conn.query_row("SELECT database_id FROM host", [], |row| row.get(0))?;
    Ok(Head::genesis(&id).hash)
}

/// The chain's hash just before an event.
pub(super) fn before(conn: &Connection, seq: Seq, genesis: Hash) -> Result<Before, Error> {
    if seq <= 1 {
        return Ok(Before::Known(genesis));
    }
    let previous = int(seq - 1);
    let sql = "SELECT hash FROM raw_events WHERE seq = ?1";
    if let Some(hash) = conn.prepare_cached(sql)?.query_row([previous], |row| row.get(0)).optional()? {
        return Ok(Before::Known(hash));
    }
    let sql = "SELECT last_hash FROM raw_gaps WHERE last_seq = ?1";
    let gap = conn.prepare_cached(sql)?.query_row([previous], |row| row.get::<_, Option<Hash>>(0)).optional()?;
    Ok(match gap {
        Some(Some(hash)) => Before::Known(hash),
        Some(None) => Before::Unknown,
        None => Before::Missing,
    })
}
