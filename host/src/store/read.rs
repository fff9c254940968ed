//! Reading for people: read-only connections with a time limit each.

mod consumers;
mod events;
mod outcomes;
mod queries;
mod runs;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::Connection;

use crate::model::pipeline::Definition;
use crate::model::pipeline::run::{RunId, Status};
use crate::model::query::{
    DeadLetterQuery, EventQuery, LIMIT, LIMIT_MAX, OutcomeQuery, QuestionQuery, RunQuery, StateQuery,
};
use crate::model::record::{
    ConsumerDetail, ConsumerRecord, DeadLetterRecord, EventRecord, EventTree, OutcomeRecord, QueryRecord, RunDetail,
    RunRecord, StateRecord, StatsRecord,
};
use crate::model::replay::Replay;
use crate::model::{ConsumerName, DeliveryId, Priority, Seq, Timestamp};

use super::{
    APPLICATION_ID, Error, SCHEMA_VERSION, claims, connect, depth, jobs, names, recovery, replays, retention, state,
};

/// How long one question may take, unless said otherwise.
pub const TIME_MAX: Duration = Duration::from_secs(1);
/// Connections open at once.
const CONNECTIONS_MAX: usize = 4;
/// Steps of SQLite's machine between two looks at the time: well under a millisecond.
const STEPS: i32 = 1_000;

/// A pool of read-only connections to one database file. Cheap to clone. Blocks for as long as a query takes, at
/// most its time limit: call it where blocking is allowed.
#[derive(Clone, Debug)]
pub struct Reader {
    pool: Arc<Pool>,
    time_max: Duration,
}

#[derive(Debug)]
struct Pool {
    path: PathBuf,
    connections: Mutex<Connections>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct Connections {
    idle: Vec<Connection>,
    open: usize,
}

impl Reader {
    /// Opens an existing database of this version, whether or not a host is running on it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        // An absolute path is never taken for a URI.
        let path = std::fs::canonicalize(path).map_err(|_| Error::Missing { path: path.to_owned() })?;
        let pool = Pool { path, connections: Mutex::default(), returned: Condvar::new() };
        let reader = Self { pool: Arc::new(pool), time_max: TIME_MAX };
        reader.run(|conn| check(conn, &reader.pool.path))?;
        Ok(reader)
    }

    /// The same connections under another time limit.
    #[must_use]
    pub fn with_time_max(&self, time_max: Duration) -> Self {
        Self { pool: Arc::clone(&self.pool), time_max }
    }

    /// The database's real path.
    pub fn path(&self) -> &Path {
        &self.pool.path
    }

    pub fn events(&self, query: &EventQuery) -> Result<Vec<EventRecord>, Error> {
        self.run(|conn| events::list(conn, query))
    }

    /// What runs go by that have not ended.
    pub fn open_definitions(&self) -> Result<Vec<Definition>, Error> {
        self.run(super::runs::open_definitions)
    }

    /// By sequence, by id alone, or by `source#id` where an id alone is not unique.
    pub fn event(&self, reference: &str) -> Result<Option<EventRecord>, Error> {
        self.run(|conn| events::find(conn, reference))
    }

    /// The event with everything it caused, at most `nodes_max` events deep and wide; says whether it was cut.
    pub fn tree(&self, seq: Seq, nodes_max: usize) -> Result<Option<(EventTree, bool)>, Error> {
        self.run(|conn| tree::of(conn, seq, nodes_max))
    }

    /// An answer may be longer than its limit by what belongs to the last event in it, so that going on after that
    /// event misses nothing.
    pub fn outcomes(&self, query: &OutcomeQuery) -> Result<Vec<OutcomeRecord>, Error> {
        self.run(|conn| outcomes::list(conn, query))
    }

    /// As [`Reader::outcomes`].
    pub fn dead_letters(&self, query: &DeadLetterQuery) -> Result<Vec<DeadLetterRecord>, Error> {
        self.run(|conn| outcomes::dead_letters(conn, query))
    }

    pub fn queries(&self, query: &QuestionQuery) -> Result<Vec<QueryRecord>, Error> {
        self.run(|conn| queries::list(conn, query))
    }

    pub fn is_paused(&self, consumer: &ConsumerName) -> Result<bool, Error> {
        self.run(|conn| match names::find(conn, consumer.as_str())? {
            Some(id) => claims::is_paused(conn, id),
            None => Ok(false),
        })
    }

    /// One dead letter with all its outcomes and its event.
    pub fn dead_letter(
        &self,
        id: &DeliveryId,
    ) -> Result<Option<(DeadLetterRecord, Vec<OutcomeRecord>, EventRecord)>, Error> {
        self.run(|conn| outcomes::dead_letter(conn, id))
    }

    /// As [`Reader::outcomes`].
    pub fn runs(&self, query: &RunQuery) -> Result<Vec<RunRecord>, Error> {
        self.run(|conn| runs::list(conn, query))
    }

    /// One run with its steps and its journal.
    pub fn run_detail(&self, run: &RunId) -> Result<Option<RunDetail>, Error> {
        self.run(|conn| runs::one(conn, run))
    }

    /// How many runs have not ended, by pipeline and status.
    pub fn open_runs(&self) -> Result<Vec<(ConsumerName, Status, u64)>, Error> {
        self.run(runs::open)
    }

    /// How many deliveries of jobs are not final, by consumer and priority.
    pub fn open_jobs(&self) -> Result<Vec<(ConsumerName, Priority, u64)>, Error> {
        self.run(jobs::waiting)
    }

    /// Every consumer that the database knows; `running` is 0 and is filled in by a running host.
    pub fn consumers(&self) -> Result<Vec<ConsumerRecord>, Error> {
        self.run(consumers::list)
    }

    /// As [`Reader::consumers`], one in full.
    pub fn consumer(&self, name: &ConsumerName) -> Result<Option<ConsumerDetail>, Error> {
        self.run(|conn| consumers::one(conn, name))
    }

    /// Whether the database knows a consumer.
    pub fn has_consumer(&self, name: &ConsumerName) -> Result<bool, Error> {
        self.run(|conn| consumers::exists(conn, name))
    }

    /// Consumers that the manifest no longer has, and how many deliveries wait for each of them.
    pub fn removed_consumers(&self) -> Result<Vec<(ConsumerName, u64)>, Error> {
        self.run(consumers::removed)
    }

    /// Consumers that are paused, and since when.
    pub fn paused(&self) -> Result<BTreeMap<ConsumerName, Timestamp>, Error> {
        self.run(claims::paused)
    }

    /// The newest first, at most so many, each with how many of its deliveries have failed and are tried again.
    pub fn replays(&self, limit: usize) -> Result<Vec<(Replay, u64)>, Error> {
        self.run(|conn| replays::list(conn, None, limit))
    }

    pub fn replay(&self, id: u64) -> Result<Option<(Replay, u64)>, Error> {
        self.run(|conn| Ok(replays::list(conn, Some(id), 1)?.pop()))
    }

    /// How many of these deliveries a replay would skip, because one of the same event to the same consumer is not final.
    pub fn unfinished(&self, deliveries: &[(Seq, ConsumerName)]) -> Result<u64, Error> {
        self.run(|conn| replays::unfinished(conn, deliveries))
    }

    /// The first event from which on retention has taken nothing away, and the last event of the log.
    pub fn range(&self) -> Result<(Seq, Seq), Error> {
        self.run(|conn| Ok((replays::whole_from(conn)?, recovery::end(conn)?)))
    }

    /// The first event accepted at or after a time; the one after the end, if there is none.
    pub fn first_at(&self, time: Timestamp) -> Result<Seq, Error> {
        self.run(|conn| retention::first_at(conn, time, recovery::end(conn)?))
    }

    pub fn stats(&self) -> Result<Option<StatsRecord>, Error> {
        self.run(consumers::stats)
    }

    pub fn state(&self, consumer: &ConsumerName, query: &StateQuery) -> Result<Vec<StateRecord>, Error> {
        self.run(|conn| consumers::state(conn, consumer, query))
    }

    /// How many deliveries of events up to `through` are not final yet: those that nobody has come to and those that
    /// wait.
    pub fn unsettled(&self, through: Seq) -> Result<u64, Error> {
        self.run(|conn| {
            let mut unsettled = 0;
            for consumer in depth::known(conn)? {
                unsettled += depth::lag(conn, &consumer, through)?.deliveries;
                unsettled += depth::waiting(conn, consumer.id, through)?.deliveries;
            }
            Ok(unsettled)
        })
    }

    /// A value of a consumer's state and its version; none if it is absent or has expired.
    pub fn state_get(&self, consumer: &ConsumerName, key: &str, now: Timestamp) -> Result<Option<(Bytes, u64)>, Error> {
        self.run(|conn| state::get(conn, consumer, key, now))
    }

    /// Keys in byte order, and the revision of the consumer's state under which they were listed.
    pub fn state_keys(
        &self,
        consumer: &ConsumerName,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now: Timestamp,
    ) -> Result<(Vec<String>, u64), Error> {
        self.run(|conn| state::keys(conn, consumer, (prefix, after), limit, now))
    }

    /// Bytes of keys and values that a consumer keeps.
    pub fn state_bytes(&self, consumer: &ConsumerName) -> Result<u64, Error> {
        self.run(|conn| state::bytes(conn, consumer))
    }

    /// Lends a connection for one question, within the time limit and one view of the database.
    pub(super) fn run<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let deadline = Instant::now() + self.time_max;
        let mut conn = self.take(deadline)?;
        let answer =
            conn.progress_handler(STEPS, Some(move || Instant::now() > deadline)).map_err(Error::from).and_then(|()| {
                let tx = conn.unchecked_transaction()?;
                work(&tx)
            });
        self.give_back(conn);
        answer.map_err(|e| match e {
            Error::Sqlite(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) => {
                self.timed_out()
            }
            e => e,
        })
    }

    fn timed_out(&self) -> Error {
        Error::TimedOut { limit_ms: u64::try_from(self.time_max.as_millis()).unwrap_or(u64::MAX) }
    }

    fn take(&self, deadline: Instant) -> Result<Connection, Error> {
        let mut connections = self.pool.connections.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(conn) = connections.idle.pop() {
                return Ok(conn);
            }
            if connections.open < CONNECTIONS_MAX {
                let conn = connect::reader(&self.pool.path)?;
                connections.open += 1;
                return Ok(conn);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.timed_out());
            }
            let waited = self.pool.returned.wait_timeout(connections, left);
            connections = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn give_back(&self, conn: Connection) {
        let mut connections = self.pool.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.idle.push(conn);
        self.pool.returned.notify_one();
    }
}

fn check(conn: &Connection, path: &Path) -> Result<(), Error> {
    let number = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i32>(0));
    let application = number("PRAGMA application_id").map_err(|_| Error::Foreign { path: path.to_owned() })?;
    let found = number("PRAGMA user_version")?;
    match application {
        APPLICATION_ID if found > SCHEMA_VERSION => Err(Error::Newer { found, known: SCHEMA_VERSION }),
        APPLICATION_ID if found > 0 => Ok(()),
        _ => Err(Error::Foreign { path: path.to_owned() }),
    }
}

fn limit(asked: Option<usize>) -> usize {
    asked.unwrap_or(LIMIT).clamp(1, LIMIT_MAX)
}
