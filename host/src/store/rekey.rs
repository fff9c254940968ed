//! Keys found anew after a reload that changed the rules for them: of deliveries that wait, and of what dead letters hold.

use rusqlite::Connection;

use crate::model::keys::{self, KeyRules, held_key};
use crate::model::{ConsumerSpec, Event, Seq};

use super::row::{event_by_seq, get_time, get_u64, int};
use super::{Error, Writer, sums};

/// Rows of one step, and keys forgotten in one, at most.
const STEP: i64 = 256;
const FORGET_STEP: i64 = 2_000;

/// What has a key, or may get one.
struct Place {
    seq: Seq,
    round: u32,
    /// It is held by a dead letter; otherwise it waits.
    held: bool,
}

impl Writer {
    /// One step after that place; answers where the next one goes on, none when all is done.
    pub fn rekey(&mut self, consumer: &ConsumerSpec, after: Option<(Seq, u32)>) -> Result<Option<(Seq, u32)>, Error> {
        let rules = KeyRules::of(&consumer.delivery);
        let id = self.names.intern(&self.conn, consumer.name.as_str())?;
        if self.forget_marks(id, &rules)? {
            return Ok(after.or(Some((0, 0))));
        }
        let places = places(&self.conn, id, after.unwrap_or((0, 0)))?;
        for place in &places {
            // What the log has lost has no key any more.
            let event = event_by_seq(&self.conn, place.seq)?.map(|stored| stored.event);
            if place.held {
                self.rekey_held(id, place, consumer, event.as_ref())?;
            } else {
                self.rekey_waiting(id, place, consumer, event.as_ref())?;
            }
        }
        let last = places.last().map(|place| (place.seq, place.round));
        let (lines, marks) = if last.is_none() { (Some(rules.lines), Some(rules.marks)) } else { (None, None) };
        let sql = "UPDATE raw_cursors SET lines_by = ?2, marks_by = coalesce(?3, marks_by) WHERE consumer = ?1";
        self.conn.prepare_cached(sql)?.execute((id, lines, marks))?;
        Ok(last)
    }

    /// What was settled under another rule says nothing under this one. Answers whether there may be more of it.
    fn forget_marks(&mut self, consumer: i64, rules: &KeyRules) -> Result<bool, Error> {
        let sql = "UPDATE raw_cursors SET marks_by = NULL WHERE consumer = ?1 AND marks_by IS NOT ?2";
        if self.conn.prepare_cached(sql)?.execute((consumer, &rules.marks))? == 0 {
            return Ok(false);
        }
        let sql = "DELETE FROM raw_marks WHERE (consumer, key) IN ( \
                   SELECT consumer, key FROM raw_marks WHERE consumer = ?1 LIMIT ?2)";
        Ok(self.conn.prepare_cached(sql)?.execute((consumer, FORGET_STEP))? > 0)
    }

    fn rekey_waiting(
        &mut self,
        consumer: i64,
        place: &Place,
        spec: &ConsumerSpec,
        event: Option<&Event>,
    ) -> Result<(), Error> {
        let at = (int(place.seq), consumer, place.round);
        let sql = "SELECT key, blocked, due_at, calls FROM raw_waiting WHERE seq = ?1 AND consumer = ?2 AND round = ?3";
        let (before, calls) = self.conn.prepare_cached(sql)?.query_row(at, |row| {
            let before = keys::Place { key: row.get(0)?, blocked: row.get(1)?, due_at: get_time(row, 2)? };
            Ok((before, row.get(3)?))
        })?;
        let now = match event {
            Some(event) => keys::place(&spec.delivery, event, (place.round, calls), &before),
            None => keys::Place { key: None, blocked: false, ..before },
        };
        let sql = "UPDATE raw_waiting SET key = ?4, blocked = ?5, due_at = ?6 WHERE seq = ?1 AND consumer = ?2 AND round = ?3";
        sums::WAITING.write(&self.conn, at, sql, (at.0, at.1, at.2, now.key, now.blocked, now.due_at.0))
    }

    fn rekey_held(
        &mut self,
        consumer: i64,
        place: &Place,
        spec: &ConsumerSpec,
        event: Option<&Event>,
    ) -> Result<(), Error> {
        let at = (consumer, int(place.seq));
        match event.and_then(|event| held_key(&spec.delivery, event)) {
            Some(key) => {
                let sql = "UPDATE OR REPLACE raw_held_keys SET key = ?3 WHERE consumer = ?1 AND seq = ?2";
                self.conn.prepare_cached(sql)?.execute((at.0, at.1, key))?;
            }
            None => {
                let sql = "DELETE FROM raw_held_keys WHERE consumer = ?1 AND seq = ?2";
                self.conn.prepare_cached(sql)?.execute(at)?;
            }
        }
        Ok(())
    }
}

fn places(conn: &Connection, consumer: i64, after: (Seq, u32)) -> Result<Vec<Place>, Error> {
    let sql = "SELECT seq, round, 0 FROM raw_waiting WHERE consumer = ?1 AND (seq, round) > (?2, ?3) \
               UNION ALL SELECT seq, round, 1 FROM raw_held_keys WHERE consumer = ?1 AND (seq, round) > (?2, ?3) \
               ORDER BY 1, 2 LIMIT ?4";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map((consumer, int(after.0), after.1, STEP), |row| {
        Ok(Place { seq: get_u64(row, 0)?, round: row.get(1)?, held: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
