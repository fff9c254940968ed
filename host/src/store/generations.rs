//! Which deployment was live from which sequence on, and how far each consumer has come.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};

use crate::model::spec::SubscriptionSpec;
use crate::model::{ConsumerName, Digest, Generation, Seq, Timestamp, TypePattern};

use super::row::{get_u64, int};
use super::{Error, Writer};

pub type Subscriptions = BTreeMap<ConsumerName, Vec<SubscriptionSpec>>;

/// A subscription as `raw_generations` writes it.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(rename = "type")]
    pattern: TypePattern,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<semver::VersionReq>,
}

fn to_json(subscriptions: &[(ConsumerName, Vec<SubscriptionSpec>)]) -> String {
    let stored: BTreeMap<&ConsumerName, Vec<Stored>> = subscriptions
        .iter()
        .map(|(consumer, specs)| {
            let stored = |s: &SubscriptionSpec| Stored { pattern: s.pattern.clone(), version: s.version.clone() };
            (consumer, specs.iter().map(stored).collect())
        })
        .collect();
    serde_json::to_string(&stored).unwrap_or_default()
}

fn from_json(text: &str) -> Result<Subscriptions, serde_json::Error> {
    let stored: BTreeMap<ConsumerName, Vec<Stored>> = serde_json::from_str(text)?;
    let spec = |s: Stored| SubscriptionSpec { pattern: s.pattern, version: s.version, condition: None };
    Ok(stored.into_iter().map(|(consumer, specs)| (consumer, specs.into_iter().map(spec).collect())).collect())
}

/// From which sequence on which subscriptions of one consumer held, oldest first: empty while it was not deployed.
/// What changed nothing for it is left out, and so is the time before it was first deployed.
pub fn timeline(generations: &[(Seq, Subscriptions)], consumer: &ConsumerName) -> Vec<(Seq, Vec<SubscriptionSpec>)> {
    let mut line: Vec<(Seq, Vec<SubscriptionSpec>)> = Vec::new();
    for (from, subscriptions) in generations {
        let held = subscriptions.get(consumer).cloned().unwrap_or_default();
        if line.last().is_some_and(|(last, _)| last == from) {
            line.pop();
        }
        let before = line.last().map_or(&[][..], |(_, held)| held.as_slice());
        if before != held {
            line.push((*from, held));
        }
    }
    line
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

    /// Makes a deployment the one that is live for events appended from now on; consumers that are new start there.
    pub fn activate(
        &mut self,
        digest: Digest,
        subscriptions: &[(ConsumerName, Vec<SubscriptionSpec>)],
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
            let consumer = self.names.intern(&self.conn, consumer.as_str())?;
            let sql = "INSERT OR IGNORE INTO raw_cursors VALUES (?1, ?2)";
            self.conn.prepare_cached(sql)?.execute((consumer, int(self.head.seq)))?;
        }
        Ok((generation, from))
    }

    /// Moves a consumer's position forward, never back.
    pub fn advance(&mut self, consumer: &ConsumerName, seq: Seq) -> Result<(), Error> {
        let consumer = self.names.intern(&self.conn, consumer.as_str())?;
        let sql = "INSERT INTO raw_cursors VALUES (?1, ?2) ON CONFLICT (consumer) DO UPDATE SET seq = max(seq, ?2)";
        self.conn.prepare_cached(sql)?.execute((consumer, int(seq)))?;
        Ok(())
    }
}
