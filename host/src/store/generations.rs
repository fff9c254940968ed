//! Which deployment was live from which sequence on, and how far each consumer has come.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};

use crate::model::spec::{ConsumerKind, StartFrom, SubscriptionSpec};
use crate::model::{ConsumerName, Digest, Expression, Generation, Seq, Timestamp, TypePattern};

use super::retention::first_at;
use super::row::{get_u64, int, unsigned};
use super::{Error, Writer};

pub type Subscriptions = BTreeMap<ConsumerName, Vec<SubscriptionSpec>>;

/// A subscription as `raw_generations` writes it.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(rename = "type")]
    pattern: TypePattern,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<semver::VersionReq>,
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    condition: Option<String>,
}

impl Stored {
    fn of(spec: &SubscriptionSpec) -> Self {
        let condition = spec.condition.as_ref().map(|condition| condition.source().to_owned());
        Self { pattern: spec.pattern.clone(), version: spec.version.clone(), condition }
    }

    /// None if it has a condition that this version cannot read: then it matches nothing.
    fn spec(self, consumer: &ConsumerName) -> Option<SubscriptionSpec> {
        let condition = match self.condition.as_deref().map(Expression::parse).transpose() {
            Ok(condition) => condition,
            Err(problem) => {
                let pattern = &self.pattern;
                tracing::error!(%consumer, %pattern, %problem, "a subscription of an earlier deployment cannot be read: it matches nothing");
                return None;
            }
        };
        Some(SubscriptionSpec { pattern: self.pattern, version: self.version, condition })
    }
}

fn to_json(subscriptions: &[(ConsumerName, Vec<SubscriptionSpec>)]) -> String {
    let stored: BTreeMap<&ConsumerName, Vec<Stored>> =
        subscriptions.iter().map(|(consumer, specs)| (consumer, specs.iter().map(Stored::of).collect())).collect();
    serde_json::to_string(&stored).unwrap_or_default()
}

fn from_json(text: &str) -> Result<Subscriptions, serde_json::Error> {
    let stored: BTreeMap<ConsumerName, Vec<Stored>> = serde_json::from_str(text)?;
    let specs = |(consumer, stored): (ConsumerName, Vec<Stored>)| {
        let specs = stored.into_iter().filter_map(|stored| stored.spec(&consumer)).collect();
        (consumer, specs)
    };
    Ok(stored.into_iter().map(specs).collect())
}

/// From which sequence on which subscriptions of one consumer held, oldest first: empty while it was not deployed.
/// What changed nothing for it is left out, and so is the time before it was first deployed. `begins`: the first event
/// that it is for, if it did not begin with its deployment.
pub fn timeline(
    generations: &[(Seq, Subscriptions)],
    consumer: &ConsumerName,
    begins: Option<Seq>,
) -> Vec<(Seq, Vec<SubscriptionSpec>)> {
    let mut line: Vec<(Seq, Vec<SubscriptionSpec>)> = Vec::new();
    let mut deployed = false;
    for (from, subscriptions) in generations {
        let held = subscriptions.get(consumer).cloned().unwrap_or_default();
        let from = match begins {
            Some(begins) if !deployed => begins,
            Some(begins) => begins.max(*from),
            None => *from,
        };
        deployed |= subscriptions.contains_key(consumer);
        if line.last().is_some_and(|(last, _)| *last == from) {
            line.pop();
        }
        let before = line.last().map_or(&[][..], |(_, held)| held.as_slice());
        if before != held {
            line.push((from, held));
        }
    }
    line
}

/// What a consumer is that the log knows.
#[derive(Clone, Debug)]
pub struct KindNote {
    pub consumer: ConsumerName,
    pub kind: ConsumerKind,
    /// Not: the manifest no longer has it, and it is there for its runs alone.
    pub deployed: bool,
}

fn kind_code(kind: ConsumerKind) -> i64 {
    match kind {
        ConsumerKind::Consumer => 0,
        ConsumerKind::Pipeline => 1,
    }
}

pub(super) fn get_kind(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<ConsumerKind> {
    let code: i64 = row.get(index)?;
    let known = [ConsumerKind::Consumer, ConsumerKind::Pipeline].into_iter().find(|kind| kind_code(*kind) == code);
    known.ok_or(rusqlite::Error::IntegralValueOutOfRange(index, code))
}

/// A consumer's `begins`.
pub(super) fn get_begins(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<Option<Seq>> {
    let begins: Option<i64> = row.get(index)?;
    Ok(begins.map(unsigned))
}

/// Every generation's first sequence and subscriptions, oldest first.
pub(super) fn all(conn: &Connection) -> Result<Vec<(Seq, Subscriptions)>, Error> {
    let sql = "SELECT from_seq, subscriptions FROM raw_generations ORDER BY generation";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        let subscriptions = from_json(row.get_ref(1)?.as_str()?)
            .map_err(|e| rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(e)))?;
        Ok((get_u64(row, 0)?, subscriptions))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

impl Writer {
    /// The newest generation: its number, its digest and the first sequence for which it is live.
    pub fn generation(&self) -> Result<Option<(Generation, Digest, Seq)>, Error> {
        let sql = "SELECT generation, digest, from_seq FROM raw_generations ORDER BY generation DESC LIMIT 1";
        let mut statement = self.conn.prepare_cached(sql)?;
        let row = statement
            .query_row([], |row| Ok((Generation(get_u64(row, 0)?), Digest(row.get(1)?), get_u64(row, 2)?)))
            .optional()?;
        Ok(row)
    }

    /// Makes a deployment the one that is live for events appended from now on; consumers that are new begin there, or
    /// where `starts` says.
    pub fn activate(
        &mut self,
        digest: Digest,
        subscriptions: &[(ConsumerName, Vec<SubscriptionSpec>)],
        starts: &[(ConsumerName, StartFrom)],
        now: Timestamp,
    ) -> Result<(Generation, Seq), Error> {
        let latest = self.generation()?;
        if let Some((generation, known, from)) = latest
            && known == digest
        {
            return Ok((generation, from));
        }
        let generation = Generation(latest.map_or(1, |(generation, ..)| generation.0 + 1));
        let from = self.head.seq + 1;
        let sql = "INSERT INTO raw_generations VALUES (?1, ?2, ?3, ?4, ?5)";
        self.conn.prepare_cached(sql)?.execute((
            int(generation.0),
            digest.0,
            int(from),
            now.0,
            to_json(subscriptions),
        ))?;
        for (consumer, _) in subscriptions {
            let start = starts.iter().find(|(name, _)| name == consumer).map_or(StartFrom::End, |(_, start)| *start);
            let begins = self.begins(start)?;
            let consumer = self.names.intern(&self.conn, consumer.as_str())?;
            let cursor = begins.map_or(self.head.seq, |begins| begins - 1);
            let sql = "INSERT OR IGNORE INTO raw_cursors (consumer, seq, begins) VALUES (?1, ?2, ?3)";
            self.conn.prepare_cached(sql)?.execute((consumer, int(cursor), begins.map(int)))?;
        }
        Ok((generation, from))
    }

    /// Notes what consumers are that the log knows. Nothing but what is shown depends on it.
    pub fn note_kinds(&mut self, notes: &[KindNote]) -> Result<(), Error> {
        let sql =
            "UPDATE raw_cursors SET kind = ?2, deployed = ?3 WHERE consumer = ?1 AND (kind, deployed) <> (?2, ?3)";
        for note in notes {
            let consumer = self.names.intern(&self.conn, note.consumer.as_str())?;
            self.conn.prepare_cached(sql)?.execute((consumer, kind_code(note.kind), note.deployed))?;
        }
        Ok(())
    }

    /// The first event that a consumer which starts so is for; none: the next one.
    fn begins(&self, start: StartFrom) -> Result<Option<Seq>, Error> {
        let next = self.head.seq + 1;
        Ok(match start {
            StartFrom::End => None,
            StartFrom::Start => {
                let sql = "SELECT coalesce(min(seq), ?1) FROM raw_events";
                Some(self.conn.prepare_cached(sql)?.query_row([int(next)], |row| get_u64(row, 0))?)
            }
            StartFrom::Sequence(seq) => Some(seq.max(1)),
            StartFrom::Time(time) => Some(first_at(&self.conn, time, self.head.seq)?),
        })
    }

    /// Moves a consumer's position forward, never back.
    pub fn advance(&mut self, consumer: &ConsumerName, seq: Seq) -> Result<(), Error> {
        let consumer = self.names.intern(&self.conn, consumer.as_str())?;
        let sql = "INSERT INTO raw_cursors (consumer, seq) VALUES (?1, ?2) \
                   ON CONFLICT (consumer) DO UPDATE SET seq = max(seq, ?2)";
        self.conn.prepare_cached(sql)?.execute((consumer, int(seq)))?;
        Ok(())
    }
}
