//! Schedules: for each, the last slot that is over.

use crate::model::Timestamp;

use super::{Error, Writer};

impl Writer {
    /// These schedules, by name and rule, are the ones there are. Answers for each the last slot that is over; for one that
    /// is new, or has another rule now, that is this moment.
    pub fn plan(&mut self, schedules: &[(String, String)], now: Timestamp) -> Result<Vec<Timestamp>, Error> {
        let known = {
            let mut statement = self.conn.prepare_cached("SELECT name, rule FROM raw_schedules")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<Result<Vec<(String, String)>, _>>()?
        };
        for (name, _) in known.iter().filter(|known| !schedules.contains(known)) {
            self.conn.prepare_cached("DELETE FROM raw_schedules WHERE name = ?1")?.execute([name])?;
        }
        let mut last = Vec::with_capacity(schedules.len());
        for (name, rule) in schedules {
            let sql = "INSERT OR IGNORE INTO raw_schedules (name, rule, slot) VALUES (?1, ?2, ?3)";
            self.conn.prepare_cached(sql)?.execute((name, rule, now.0))?;
            let sql = "SELECT slot FROM raw_schedules WHERE name = ?1";
            last.push(Timestamp(self.conn.prepare_cached(sql)?.query_row([name], |row| row.get(0))?));
        }
        Ok(last)
    }

    /// A slot of a schedule is over. Answers whether that is news.
    pub fn pass(&mut self, schedule: &str, slot: Timestamp) -> Result<bool, Error> {
        let sql = "UPDATE raw_schedules SET slot = ?2 WHERE name = ?1 AND slot < ?2";
        Ok(self.conn.prepare_cached(sql)?.execute((schedule, slot.0))? > 0)
    }
}
