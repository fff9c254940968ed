//! Sums of rows that the chain of hashes does not cover, so that a changed bit in them is found: outcomes, deliveries that wait, dead
//! letters and what consumers keep. A sum is of all other columns of its row, with numbers of names as their texts.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Params, Row};
use sha2::{Digest as _, Sha256};

use super::Error;

/// What the values of an outcome take that says and logs nothing, about.
const SUMMED_BYTES: usize = 512;

/// A table whose rows have sums.
pub(super) struct Summed {
    table: &'static str,
    /// What one of its rows is, to be followed by what the first column says.
    what: &'static str,
    /// What a sum is of, in this order.
    columns: &'static str,
}

pub(super) const OUTCOMES: Summed = Summed {
    table: "raw_outcomes",
    what: "an outcome of event",
    columns: "seq, (SELECT text FROM names WHERE names.id = consumer), round, call, attempt, outcome, state, started_at, \
        duration_us, fuel, memory_peak, published, generation, (SELECT text FROM names WHERE names.id = component), \
        logs_dropped, reason, (SELECT text FROM names WHERE names.id = output_type), output, logs",
};

pub(super) const WAITING: Summed = Summed {
    table: "raw_waiting",
    what: "a waiting delivery of event",
    columns: "seq, (SELECT text FROM names WHERE names.id = consumer), round, due_at, attempts, calls, key, blocked, errand, \
        priority",
};

pub(super) const DEAD_LETTERS: Summed = Summed {
    table: "raw_dead_letters",
    what: "a dead letter of event",
    columns: "seq, (SELECT text FROM names WHERE names.id = consumer), round, cause, outcome, reason, attempts, died_at, \
        status, decided_at, key",
};

pub(super) const STATE: Summed = Summed {
    table: "raw_state",
    what: "state of consumer",
    columns: "(SELECT text FROM names WHERE names.id = consumer), key, version, expires_at, value",
};

impl Summed {
    /// Runs a statement that writes the row of a delivery (sequence, consumer, round), and gives the row its sum.
    pub(super) fn write(
        &self,
        conn: &Connection,
        delivery: (i64, i64, u32),
        sql: &str,
        params: impl Params,
    ) -> Result<(), Error> {
        // A statement may leave the row as it is.
        let Some(sum) = self.written(conn, sql, params)? else { return Ok(()) };
        let (seq, consumer, round) = delivery;
        let sql = format!("UPDATE {} SET sum = ?4 WHERE seq = ?1 AND consumer = ?2 AND round = ?3", self.table);
        conn.prepare_cached(&sql)?.execute((seq, consumer, round, sum))?;
        Ok(())
    }

    /// Runs a statement that writes one row, if it does; answers the sum that the row should have now.
    pub(super) fn written(&self, conn: &Connection, sql: &str, params: impl Params) -> Result<Option<i64>, Error> {
        let sql = format!("{sql} RETURNING {}", self.columns);
        let mut statement = conn.prepare_cached(&sql)?;
        let columns = 0..statement.column_count();
        Ok(statement.query_row(params, |row| sum_of(row, columns)).optional()?)
    }

    /// The first row that is not as it was written.
    fn changed(&self, conn: &Connection) -> Result<Option<String>, Error> {
        let Self { table, what, columns } = self;
        let mut statement = conn.prepare(&format!("SELECT {columns}, sum FROM {table}"))?;
        let sum = statement.column_count().saturating_sub(1);
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(sum)? != sum_of(row, 0..sum)? {
                let of = match row.get_ref(0)? {
                    ValueRef::Integer(seq) => seq.to_string(),
                    ValueRef::Text(name) => String::from_utf8_lossy(name).into_owned(),
                    _ => "without a name".to_owned(),
                };
                return Ok(Some(format!("{what} {of}")));
            }
        }
        Ok(None)
    }
}

/// What the first row is that is not as it was written.
pub(super) fn changed(conn: &Connection) -> Result<Option<String>, Error> {
    for table in [OUTCOMES, WAITING, DEAD_LETTERS, STATE] {
        if let Some(row) = table.changed(conn)? {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// The first eight bytes of a SHA-256 over the values, each with its kind and length.
pub(super) fn sum<'a>(values: impl IntoIterator<Item = ValueRef<'a>>) -> i64 {
    // Put together first: hashed piece by piece, short pieces cost more than what is in them.
    let mut summed = Vec::with_capacity(SUMMED_BYTES);
    for value in values {
        let number;
        let (kind, bytes): (u8, &[u8]) = match value {
            ValueRef::Null => (0, &[]),
            ValueRef::Integer(n) => {
                number = n.to_le_bytes();
                (1, &number)
            }
            ValueRef::Real(n) => {
                number = n.to_le_bytes();
                (2, &number)
            }
            ValueRef::Text(text) => (3, text),
            ValueRef::Blob(bytes) => (4, bytes),
        };
        summed.push(kind);
        summed.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        summed.extend_from_slice(bytes);
    }
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = Sha256::digest(&summed).into();
    i64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Of these columns of a row.
fn sum_of(row: &Row<'_>, columns: std::ops::Range<usize>) -> rusqlite::Result<i64> {
    let values = columns.map(|column| row.get_ref(column)).collect::<Result<Vec<_>, _>>()?;
    Ok(sum(values))
}
