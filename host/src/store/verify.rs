//! Whether the log is whole. SQLite stops at the first bad frame of its write-ahead log without a word, and cannot know
//! that a flipped bit is in a payload; the hash chain and the watermark can.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::model::record::ContentRecord;
use crate::model::{Seq, Timestamp};

use super::backup::Tell;
use super::chain::{Hash, Head};
use super::recovery::{self, genesis};
use super::row::{EVENT, StoredEvent, get_u64, int};
use super::watermark::{self, Mark};
use super::writer::Opening;
use super::{Error, OpenError, connect, migrate, sums};

/// How long a start may spend on checking pages after an unclean stop: half of the two seconds within which a host is to be ready
/// again, whatever is in its log.
const PAGES_TIME: Duration = Duration::from_secs(1);
/// Separate damages that one start accepts.
const REPAIRS_MAX: usize = 10_000;

/// What is wrong with a log, the first of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// An event does not have its hash.
    Changed { seq: Seq, hash: Option<Hash> },
    /// Events in the middle are missing.
    Hole { first: Seq, last: Seq },
    /// The log ends before its watermark.
    Short { head: Head, mark: Seq },
    /// The chain is whole, but is not the one that the watermark was written for.
    Other { seq: Seq },
    /// The watermark is another database's.
    Foreign { mark: Seq },
}

impl Damage {
    fn first(self) -> Seq {
        match self {
            Self::Changed { seq, .. } | Self::Other { seq } => seq,
            Self::Hole { first, .. } => first,
            Self::Short { head, .. } => head.seq + 1,
            Self::Foreign { .. } => 1,
        }
    }

    fn last(self) -> Seq {
        match self {
            Self::Changed { seq, .. } | Self::Other { seq } => seq,
            Self::Hole { last, .. } => last,
            Self::Short { mark, .. } | Self::Foreign { mark } => mark,
        }
    }

    fn detail(self) -> String {
        match self {
            Self::Changed { .. } => "its content does not have its hash".into(),
            Self::Hole { last, .. } => format!("everything up to event {last} is missing"),
            Self::Short { mark, .. } => format!("the log had come to event {mark}"),
            Self::Other { .. } => "it is not the event that was written; an older copy, or another history".into(),
            Self::Foreign { mark } => format!(
                "the watermark file beside it belongs to another database, which had come to event {mark}; if this \
                 is meant to be a new start, remove the watermark file"
            ),
        }
    }
}

/// Checks the end of the log, from the older of the two watermarks on; accepts losses if told so. Answers the head.
pub(super) fn at_start(
    conn: &mut Connection,
    path: &Path,
    database_id: [u8; 16],
    opening: &Opening,
) -> Result<Head, OpenError> {
    let mut marks = watermark::read(path)?;
    for _ in 0..REPAIRS_MAX {
        let damage = match check(conn, &marks, database_id)? {
            Ok(head) => return Ok(head),
            Err(damage) => damage,
        };
        if opening.accept_loss_from.is_none_or(|from| from > damage.first()) {
            return Err(OpenError::Damaged { first_missing: damage.first(), detail: damage.detail() });
        }
        accept(conn, damage, opening.now)?;
        if matches!(damage, Damage::Other { .. } | Damage::Foreign { .. }) {
            marks.clear();
        }
    }
    Err(OpenError::Damaged { first_missing: 1, detail: "more is damaged than can be accepted".into() })
}

/// How far a thorough look, or a copy that ends with one, has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Pages of 4 KiB.
    Copying { pages: u64, of: u64 },
    /// The structure of every page, table and index.
    CheckingPages,
    /// The chain, up to this event.
    CheckingEvents { seq: Seq, of: Seq },
}

/// What a thorough look found.
pub(super) struct Checked {
    pub head: Head,
    pub database_id: [u8; 16],
    pub content: ContentRecord,
}

/// Events between two words about how far it is.
const EVENTS: u64 = 4_096;

/// Every page, the whole chain, the watermark and every row that has a sum, without changing anything; a host may be using the file.
pub fn whole(path: &Path, tell: Tell<'_>) -> Result<ContentRecord, OpenError> {
    let conn = connect::reader(path)?;
    // Read before the moment that is looked at: a running host only goes further.
    let marks = watermark::read(path)?;
    Ok(thorough(&conn, path, &marks, tell)?.content)
}

/// As [`whole`], in one view of the database.
pub(super) fn thorough(conn: &Connection, path: &Path, marks: &[Mark], tell: Tell<'_>) -> Result<Checked, OpenError> {
    migrate::inspect(conn, path)?;
    migrate::check_schema(conn, path)?;
    let moment = conn.unchecked_transaction()?;
    check_every_page(&moment, path, tell)?;
    let database_id: [u8; 16] = moment.query_row("SELECT database_id FROM host", [], |row| row.get(0))?;
    let found = match marks.iter().find(|mark| mark.database_id != database_id) {
        Some(mark) => Err(Damage::Foreign { mark: mark.head.seq }),
        None => {
            let of = recovery::end(&moment)?;
            let genesis = Head { seq: 0, hash: genesis(&moment)? };
            match walk(&moment, genesis, &mut |seq| go_on(tell(Progress::CheckingEvents { seq, of })))? {
                Ok(head) => compare(&moment, head, marks)?,
                Err(damage) => Err(damage),
            }
        }
    };
    let damaged = |damage: Damage| OpenError::Damaged { first_missing: damage.first(), detail: damage.detail() };
    let head = found.map_err(damaged)?;
    if let Some(row) = sums::changed(&moment)? {
        return Err(OpenError::RowChanged { row });
    }
    Ok(Checked { head, database_id, content: content(&moment, path, head)? })
}

fn go_on(answer: ControlFlow<()>) -> Result<(), Error> {
    if answer.is_break() { Err(Error::Cancelled) } else { Ok(()) }
}

/// SQLite's own look at every page and index, and at every rule of the tables.
fn check_every_page(conn: &Connection, path: &Path, tell: Tell<'_>) -> Result<(), OpenError> {
    go_on(tell(Progress::CheckingPages))?;
    let mut statement = conn.prepare("PRAGMA integrity_check(1)")?;
    let found: String = statement.query_row([], |row| row.get(0))?;
    go_on(tell(Progress::CheckingPages))?;
    if found == "ok" { Ok(()) } else { Err(OpenError::DamagedFile { path: path.to_owned(), detail: found }) }
}

fn content(conn: &Connection, path: &Path, head: Head) -> Result<ContentRecord, Error> {
    let number = |sql: &str| conn.query_row(sql, [], |row| get_u64(row, 0));
    Ok(ContentRecord {
        path: path.display().to_string(),
        bytes: number("PRAGMA page_count")? * number("PRAGMA page_size")?,
        last_sequence: head.seq,
        hash: head.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        events: number("SELECT count(*) FROM raw_events")?,
        outcomes: number("SELECT count(*) FROM raw_outcomes")?,
        waiting: number("SELECT count(*) FROM raw_waiting")?,
        dead_letters: number("SELECT count(*) FROM raw_dead_letters WHERE status = 'dead'")?,
    })
}

/// The end of the log and the chain's hash there.
pub(super) fn end(conn: &Connection) -> Result<Head, Error> {
    let seq = recovery::end(conn)?;
    let hash = match hash_at(conn, seq)? {
        Some(hash) => hash,
        None => genesis(conn)?,
    };
    Ok(Head { seq, hash })
}

fn check(conn: &Connection, marks: &[Mark], database_id: [u8; 16]) -> Result<Result<Head, Damage>, Error> {
    if let Some(mark) = marks.iter().find(|mark| mark.database_id != database_id) {
        return Ok(Err(Damage::Foreign { mark: mark.head.seq }));
    }
    let genesis = Head { seq: 0, hash: genesis(conn)? };
    let start = match marks.last() {
        Some(mark) if hash_at(conn, mark.head.seq)? == Some(mark.head.hash) => mark.head,
        _ => genesis,
    };
    match walk(conn, start, &mut |_| Ok(()))? {
        Ok(head) => compare(conn, head, marks),
        Err(damage) => Ok(Err(damage)),
    }
}

fn compare(conn: &Connection, head: Head, marks: &[Mark]) -> Result<Result<Head, Damage>, Error> {
    if let Some(mark) = marks.iter().map(|mark| mark.head.seq).max()
        && mark > head.seq
    {
        return Ok(Err(Damage::Short { head, mark }));
    }
    for mark in marks.iter().rev() {
        if hash_at(conn, mark.head.seq)?.is_some_and(|hash| hash != mark.head.hash) {
            return Ok(Err(Damage::Other { seq: mark.head.seq }));
        }
    }
    Ok(Ok(head))
}

fn hash_at(conn: &Connection, seq: Seq) -> Result<Option<Hash>, Error> {
    use rusqlite::OptionalExtension as _;
    let sql = "SELECT hash FROM raw_events WHERE seq = ?1 \
               UNION ALL SELECT last_hash FROM raw_gaps WHERE last_seq = ?1 AND last_hash IS NOT NULL LIMIT 1";
    Ok(conn.prepare_cached(sql)?.query_row([int(seq)], |row| row.get(0)).optional()?)
}

/// Follows the chain from `start` to its end, and says from time to time how far it is.
fn walk(
    conn: &Connection,
    start: Head,
    tell: &mut dyn FnMut(Seq) -> Result<(), Error>,
) -> Result<Result<Head, Damage>, Error> {
    let gaps = gaps(conn)?;
    let (mut seq, mut hash) = (start.seq, Some(start.hash));
    let skip = |seq: &mut Seq, hash: &mut Option<Hash>| {
        while let Some((last, last_hash)) = gaps.get(&(*seq + 1)) {
            (*seq, *hash) = (*last, *last_hash);
        }
    };
    let mut statement = conn.prepare_cached(&format!("{EVENT} WHERE e.seq > ?1 ORDER BY e.seq"))?;
    let mut rows = statement.query([int(start.seq)])?;
    while let Some(row) = rows.next()? {
        skip(&mut seq, &mut hash);
        let found = get_u64(row, 0)?;
        if found.is_multiple_of(EVENTS) {
            tell(found)?;
        }
        if found > seq + 1 {
            return Ok(Err(Damage::Hole { first: seq + 1, last: found - 1 }));
        }
        let Ok(stored) = StoredEvent::read(row) else {
            return Ok(Err(Damage::Changed { seq: found, hash: row.get(15).ok() }));
        };
        if hash.is_some_and(|hash| stored.link(&hash) != stored.hash) {
            return Ok(Err(Damage::Changed { seq: found, hash: Some(stored.hash) }));
        }
        (seq, hash) = (found, Some(stored.hash));
    }
    skip(&mut seq, &mut hash);
    Ok(Ok(Head { seq, hash: hash.unwrap_or(start.hash) }))
}

/// By first sequence: the last one, and the hash there.
fn gaps(conn: &Connection) -> Result<BTreeMap<Seq, (Seq, Option<Hash>)>, Error> {
    let mut statement = conn.prepare("SELECT first_seq, last_seq, last_hash FROM raw_gaps")?;
    let rows = statement.query_map([], |row| Ok((get_u64(row, 0)?, (get_u64(row, 1)?, row.get(2)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Goes on without what is lost, and writes down that it was so. Its sequence numbers are not given again.
fn accept(conn: &mut Connection, damage: Damage, now: Timestamp) -> Result<(), Error> {
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let (first, last) = (int(damage.first()), int(damage.last()));
    let gap = match damage {
        Damage::Changed { hash, .. } => Some(hash),
        Damage::Hole { .. } => Some(None),
        Damage::Short { head, .. } => Some(Some(head.hash)),
        Damage::Other { .. } | Damage::Foreign { .. } => None,
    };
    if let Some(hash) = gap {
        tx.execute("DELETE FROM raw_events WHERE seq BETWEEN ?1 AND ?2", (first, last))?;
        tx.execute("DELETE FROM raw_jobs WHERE seq BETWEEN ?1 AND ?2", (first, last))?;
        // Deliveries of what is gone cannot be made.
        tx.execute("DELETE FROM raw_waiting WHERE seq BETWEEN ?1 AND ?2", (first, last))?;
        tx.execute("UPDATE raw_replayed SET open = 0 WHERE seq BETWEEN ?1 AND ?2 AND open = 1", (first, last))?;
        tx.execute("DELETE FROM raw_claims WHERE seq BETWEEN ?1 AND ?2", (first, last))?;
        let sql = "INSERT OR REPLACE INTO raw_gaps VALUES (?1, ?2, ?3, 'lost', ?4)";
        tx.execute(sql, (last, first, hash, now.0))?;
    }
    let sql = "INSERT INTO raw_losses (first_seq, last_seq, detail, recorded_at) VALUES (?1, ?2, ?3, ?4)";
    tx.execute(sql, (first, last, damage.detail(), now.0))?;
    Ok(tx.commit()?)
}

/// A quick look at the structure of all pages, as far as the time goes.
pub(super) fn check_pages(conn: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let deadline = Instant::now() + PAGES_TIME;
    conn.progress_handler(10_000, Some(move || Instant::now() > deadline))?;
    let found = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    conn.progress_handler(0, None::<fn() -> bool>)?;
    match found {
        Ok(word) if word == "ok" => Ok(()),
        Ok(detail) => Err(OpenError::DamagedFile { path: path.to_owned(), detail }),
        Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
