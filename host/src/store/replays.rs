//! Replays: how far each is, and which deliveries were made by one.

use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::model::flow::Rate;
use crate::model::replay::{OPEN_MAX, Replay, ReplaySpec, ReplayStatus, ReplayStep, fit};
use crate::model::{ConsumerName, DeliveryId, Seq, State, Timestamp, TypePattern};

use super::depth::{self, Known};
use super::row::{get_time, get_u64, int};
use super::{Error, Writer};

/// Rows of one step of retention, at most.
const STEP: i64 = 500;

impl Writer {
    /// Notes a replay that nothing has been made of; answers its number.
    pub fn start_replay(&mut self, spec: &ReplaySpec, now: Timestamp) -> Result<u64, Error> {
        let sql = "INSERT INTO raw_replays (from_seq, to_seq, type, key, correlation, consumer, rate_count, rate_ms, \
                   position, status, made, dead, skipped, created_at) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'running', 0, 0, 0, ?10)";
        self.conn.prepare_cached(sql)?.execute((
            int(spec.from),
            int(spec.to),
            spec.event_type.as_ref().map(TypePattern::as_str),
            &spec.key,
            &spec.correlation,
            spec.consumer.as_ref().map(ConsumerName::as_str),
            spec.rate.map(|rate| rate.count),
            spec.rate.map(|rate| i64::try_from(rate.per.as_millis()).unwrap_or(i64::MAX)),
            int(spec.from.saturating_sub(1)),
            now.0,
        ))?;
        Ok(u64::try_from(self.conn.last_insert_rowid()).unwrap_or(0))
    }

    /// Makes deliveries, due at once, and moves the replay's position with them. Answers where it stands then and what was made;
    /// none if it does not stand where the step begins, or is not running.
    pub fn step_replay(
        &mut self,
        step: &ReplayStep,
        now: Timestamp,
    ) -> Result<Option<(Replay, Vec<DeliveryId>)>, Error> {
        let Some(replay) = one(&self.conn, step.id)? else { return Ok(None) };
        if replay.status != ReplayStatus::Running || replay.position != step.after {
            return Ok(None);
        }
        let known = depth::known(&self.conn)?;
        // Nothing is looked at beyond what there is room for: others wait for the writer.
        let (mut finals, mut failed) = (Vec::new(), None);
        let room = step.room.min(OPEN_MAX.saturating_sub(replay.open));
        let (taken, position) = fit(step, room, |(seq, consumer)| {
            let answer = is_final(&self.conn, &known, *seq, consumer).unwrap_or_else(|error| {
                failed.get_or_insert(error);
                false
            });
            finals.push(answer);
            answer
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let (mut made, mut skipped) = (Vec::new(), 0_u64);
        for ((seq, consumer), is_final) in step.deliveries.iter().zip(finals).take(taken) {
            if !is_final {
                skipped += 1;
                continue;
            }
            let first = DeliveryId { seq: *seq, consumer: consumer.clone(), round: 0 };
            let id = DeliveryId { round: self.next_round(&first)?, ..first };
            self.wait(&id, now, (0, 0), None, false)?;
            let consumer = self.names.intern(&self.conn, id.consumer.as_str())?;
            let sql = "INSERT INTO raw_replayed (seq, consumer, round, replay, open) VALUES (?1, ?2, ?3, ?4, 1)";
            self.conn.prepare_cached(sql)?.execute((int(id.seq), consumer, id.round, int(step.id)))?;
            made.push(id);
        }
        let ends = position >= replay.spec.to;
        let sql = "UPDATE raw_replays SET position = ?2, made = made + ?3, skipped = skipped + ?4, \
                   status = CASE WHEN ?5 THEN 'made' ELSE status END, ended_at = CASE WHEN ?6 THEN ?7 END WHERE id = ?1";
        let is_over = ends && made.is_empty() && replay.open == 0;
        let position = position.min(replay.spec.to);
        self.conn.prepare_cached(sql)?.execute((
            int(step.id),
            int(position),
            int(made.len() as u64),
            int(skipped),
            ends,
            is_over,
            now.0,
        ))?;
        Ok(one(&self.conn, step.id)?.map(|replay| (replay, made)))
    }

    /// Makes nothing more of a replay; answers whether it was running. What is made goes on.
    pub fn cancel_replay(&mut self, id: u64, now: Timestamp) -> Result<bool, Error> {
        let sql = "UPDATE raw_replays SET status = 'cancelled', ended_at = ?2 WHERE id = ?1 AND status = 'running'";
        Ok(self.conn.prepare_cached(sql)?.execute((int(id), now.0))? > 0)
    }

    /// Notes with its replay, if a replay has made it, that a delivery is final.
    pub fn settle_replayed(&mut self, id: &DeliveryId, state: State, now: Timestamp) -> Result<(), Error> {
        if id.round == 0 || !state.is_final() {
            return Ok(());
        }
        let consumer = self.names.intern(&self.conn, id.consumer.as_str())?;
        let sql = "UPDATE raw_replayed SET open = 0 WHERE seq = ?1 AND consumer = ?2 AND round = ?3 AND open = 1 \
                   RETURNING replay";
        let mut statement = self.conn.prepare_cached(sql)?;
        let replay: Option<i64> =
            statement.query_row((int(id.seq), consumer, id.round), |row| row.get(0)).optional()?;
        let Some(replay) = replay else { return Ok(()) };
        let sql = "UPDATE raw_replays AS r SET dead = dead + ?2, ended_at = CASE WHEN status = 'made' AND NOT EXISTS \
                   (SELECT 1 FROM raw_replayed AS d WHERE d.replay = r.id AND d.open = 1) THEN ?3 ELSE ended_at END \
                   WHERE id = ?1";
        self.conn.prepare_cached(sql)?.execute((replay, state == State::Dead, now.0))?;
        Ok(())
    }

    /// Takes away what says of outcomes that are gone, up to an event, that a replay has made them.
    pub(super) fn prune_replayed(&mut self, last: Seq) -> Result<usize, Error> {
        let sql = "DELETE FROM raw_replayed WHERE (seq, consumer, round) IN ( \
                   SELECT r.seq, r.consumer, r.round FROM raw_replayed AS r WHERE r.open = 0 AND r.seq <= ?1 \
                   AND NOT EXISTS (SELECT 1 FROM raw_outcomes AS o WHERE o.seq = r.seq AND o.consumer = r.consumer \
                     AND o.round = r.round) LIMIT ?2)";
        Ok(self.conn.prepare_cached(sql)?.execute((int(last), STEP))?)
    }
}

const REPLAY: &str = "SELECT id, from_seq, to_seq, type, key, correlation, consumer, rate_count, rate_ms, position, \
    status, made, dead, skipped, created_at, ended_at, \
    (SELECT count(*) FROM raw_replayed AS d WHERE d.replay = r.id AND d.open = 1) FROM raw_replays AS r";

fn one(conn: &Connection, id: u64) -> Result<Option<Replay>, Error> {
    Ok(conn.prepare_cached(&format!("{REPLAY} WHERE id = ?1"))?.query_row([int(id)], read).optional()?)
}

/// Those of which deliveries are still to be made.
pub(super) fn running(conn: &Connection) -> Result<Vec<Replay>, Error> {
    let mut statement = conn.prepare_cached(&format!("{REPLAY} WHERE status = 'running' ORDER BY id"))?;
    let rows = statement.query_map([], read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The newest first, with how many of their deliveries have failed and are tried again.
pub(super) fn list(conn: &Connection, id: Option<u64>, limit: usize) -> Result<Vec<(Replay, u64)>, Error> {
    let sql = format!("{REPLAY} WHERE ?1 IS NULL OR id = ?1 ORDER BY id DESC LIMIT ?2");
    let mut statement = conn.prepare_cached(&sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map((id.map(int), limit), read)?;
    rows.map(|replay| {
        let replay = replay?;
        let sql = "SELECT count(*) FROM raw_replayed AS d JOIN raw_waiting AS w USING (seq, consumer, round) \
                   WHERE d.replay = ?1 AND d.open = 1 AND w.attempts > 0";
        let failing = conn.prepare_cached(sql)?.query_row([int(replay.id)], |row| get_u64(row, 0))?;
        Ok((replay, failing))
    })
    .collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Replay> {
    let failed =
        |index, why: String| rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, why.into());
    let event_type: Option<String> = row.get(3)?;
    let consumer: Option<String> = row.get(6)?;
    let rate = row.get::<_, Option<u32>>(7)?.zip(row.get::<_, Option<i64>>(8)?);
    let spec = ReplaySpec {
        from: get_u64(row, 1)?,
        to: get_u64(row, 2)?,
        event_type: event_type.map(|text| TypePattern::new(&text)).transpose().map_err(|why| failed(3, why))?,
        key: row.get(4)?,
        correlation: row.get(5)?,
        consumer: consumer.map(|text| ConsumerName::new(&text)).transpose().map_err(|why| failed(6, why))?,
        rate: rate
            .map(|(count, ms)| Rate { count, per: std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0)) }),
    };
    Ok(Replay {
        id: get_u64(row, 0)?,
        spec,
        position: get_u64(row, 9)?,
        status: match row.get_ref(10)?.as_str()? {
            "running" => ReplayStatus::Running,
            "made" => ReplayStatus::Made,
            _ => ReplayStatus::Cancelled,
        },
        made: get_u64(row, 11)?,
        dead: get_u64(row, 12)?,
        skipped: get_u64(row, 13)?,
        created_at: get_time(row, 14)?,
        ended_at: row.get::<_, Option<i64>>(15)?.map(Timestamp),
        open: get_u64(row, 16)?,
    })
}

/// Up to where no replay needs the log.
pub(super) fn needed_after(conn: &Connection, end: Seq) -> Result<Seq, Error> {
    let sql = "SELECT min(position) FROM raw_replays WHERE status = 'running'";
    let low: Option<i64> = conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(low.and_then(|low| Seq::try_from(low).ok()).map_or(end, |low| low.min(end)))
}

/// The first event from which on retention has taken nothing away.
pub(super) fn whole_from(conn: &Connection) -> Result<Seq, Error> {
    let sql = "SELECT coalesce(max(last_seq), 0) + 1 FROM raw_gaps WHERE cause = 'pruned'";
    Ok(conn.prepare_cached(sql)?.query_row([], |row| get_u64(row, 0))?)
}

/// How many of these deliveries would be skipped now.
pub(super) fn unfinished(conn: &Connection, deliveries: &[(Seq, ConsumerName)]) -> Result<u64, Error> {
    let known = depth::known(conn)?;
    let mut unfinished = 0;
    for (seq, consumer) in deliveries {
        unfinished += u64::from(!is_final(conn, &known, *seq, consumer)?);
    }
    Ok(unfinished)
}

/// Whether no delivery of the event to the consumer is under way or to come. One that never was is as final as can be.
fn is_final(conn: &Connection, known: &[Known], seq: Seq, consumer: &ConsumerName) -> Result<bool, Error> {
    let Some(consumer) = known.iter().find(|known| known.name == *consumer) else { return Ok(true) };
    let sql = "SELECT 1 FROM raw_waiting WHERE seq = ?1 AND consumer = ?2";
    if conn.prepare_cached(sql)?.exists((int(seq), consumer.id))? {
        return Ok(false);
    }
    // What a step of a run came to, in a round of its own, says nothing of what the consumer subscribes to.
    let sql = "SELECT 1 FROM raw_outcomes WHERE seq = ?1 AND consumer = ?2 AND round = 0";
    if seq <= consumer.position || conn.prepare_cached(sql)?.exists((int(seq), consumer.id))? {
        return Ok(true);
    }
    // Nobody has come to it, or it was never meant for this consumer.
    let held = consumer.timeline.iter().rev().find(|(from, _)| *from <= seq);
    let Some((_, subscriptions)) = held.filter(|(_, subscriptions)| !subscriptions.is_empty()) else { return Ok(true) };
    let sql = "SELECT t.text, v.text FROM raw_events AS e JOIN names AS t ON t.id = e.type \
               JOIN names AS v ON v.id = e.data_version WHERE e.seq = ?1 \
               AND NOT EXISTS (SELECT 1 FROM raw_jobs AS j WHERE j.seq = e.seq)";
    let mut statement = conn.prepare_cached(sql)?;
    let found: Option<(String, String)> =
        statement.query_row([int(seq)], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    Ok(!found.is_some_and(|(event_type, version)| subscriptions.iter().any(|s| s.matches_type(&event_type, &version))))
}
