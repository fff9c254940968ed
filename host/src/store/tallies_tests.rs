use crate::clock::SystemClock;
use crate::log::conformance::{activate, delivery, done, event, settlement};
use crate::log::sqlite::{Options, SqliteLog};
use crate::log::{EventLog as _, Settled};
use crate::model::{Outcome, State, Timestamp};
use crate::store::Reader;

/// Consumer, outcome, attempts and last event.
type Row = (i64, i64, i64, i64);

/// What the rows themselves say, and what is kept of it.
fn counted(path: &std::path::Path) -> (Vec<Row>, Vec<Row>) {
    let conn = rusqlite::Connection::open(path).unwrap();
    let rows = |sql: &str| {
        let mut statement = conn.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    (
        rows("SELECT consumer, outcome, count(*), max(seq) FROM raw_outcomes GROUP BY 1, 2 ORDER BY 1, 2"),
        rows("SELECT consumer, outcome, attempts, last_seq FROM raw_tallies ORDER BY 1, 2"),
    )
}

#[tokio::test]
async fn what_is_kept_is_what_the_rows_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tidegate.db");
    let open = || SqliteLog::open(Options::new(&path, std::sync::Arc::new(SystemClock::new()))).unwrap();
    let (log, _feed) = open();
    activate(&log, "one", &[("mail", &["a"]), ("index", &["a"])]).await;
    log.append((1..=40).map(|n| event(&n.to_string(), "a")).collect()).await.unwrap();
    let mut pending = Vec::new();
    for seq in 1..=30 {
        pending.push(log.settle(vec![done(seq, "mail")]));
        let retry = State::Pending { due_at: Timestamp(5) };
        pending.push(log.settle(vec![settlement(delivery(seq, "index", 0), Outcome::Retry, retry)]));
        // Settled already: nothing is recorded, nor counted.
        pending.push(log.settle(vec![done(seq, "mail")]));
    }
    for answer in pending {
        answer.await.unwrap();
    }
    let batch = vec![done(31, "mail"), done(32, "mail"), done(1, "mail")];
    assert_eq!(log.settle(batch).await.unwrap(), Settled::Fenced, "all or none");
    let (rows, kept) = counted(&path);
    assert_eq!((rows.len(), &kept), (2, &rows));

    drop(log);
    let (log, _feed) = open();
    log.settle(vec![done(31, "mail"), done(32, "mail")]).await.unwrap();
    let (rows, kept) = counted(&path);
    assert_eq!(kept, rows);
    let reader = Reader::open(&path).unwrap();
    let stats = reader.stats().unwrap().unwrap();
    assert_eq!((stats.events, stats.outcomes[&Outcome::Done], stats.outcomes[&Outcome::Retry]), (40, 32, 30));
    let consumers = reader.consumers().unwrap();
    let numbers: Vec<_> = consumers.iter().map(|c| (c.name.as_str(), c.succeeded, c.failed_attempts)).collect();
    assert_eq!(numbers, [("index", 0, 30), ("mail", 32, 0)]);
}

#[tokio::test]
async fn what_is_undone_is_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tidegate.db");
    let opening = crate::store::Opening::new(&path, Timestamp(0));
    let mut writer = crate::store::Writer::open(&opening).unwrap();
    let record = |writer: &mut crate::store::Writer, seq| {
        let settlement = done(seq, "mail");
        let row = crate::store::OutcomeRow {
            delivery: &settlement.delivery,
            next: settlement.next,
            call: 1,
            attempt: 1,
            outcome: Outcome::Done,
            reason: None,
            output: None,
            logs: &[],
            logs_dropped: 0,
            started_at: Timestamp(0),
            usage: settlement.record.usage,
            published: 0,
            generation: settlement.record.generation,
            component: settlement.record.component,
        };
        assert!(writer.record_outcome(&row).unwrap());
    };
    writer.begin().unwrap();
    record(&mut writer, 1);
    writer.rollback().unwrap();
    writer.begin().unwrap();
    record(&mut writer, 2);
    writer
        .all_or_nothing(|writer| {
            record(writer, 3);
            Ok((false, ()))
        })
        .unwrap();
    writer.commit().unwrap();
    let (rows, kept) = counted(&path);
    assert_eq!((rows.len(), &kept), (1, &rows));
    assert_eq!((kept[0].2, kept[0].3), (1, 2));
}
