//! The suite on SQLite, and what only a database on a disk can suffer.

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::log::Feed;
use bytes::Bytes;
use tokio::sync::watch;

use super::linger::LINGER_MAX;
use super::{OpenError, Options, SqliteLog, schedule};
use crate::clock::{Clock, SystemClock};
use crate::log::conformance::{NOW, Subject, activate, conforms, consumer, done, event, suite};
use crate::log::{Error, EventLog as _, Settled, Settlement};
use crate::model::outcome::StateWrite;
use crate::model::query::OutcomeQuery;
use crate::model::{ConsumerName, DeliveryId, Envelope, Payload, Seq, Timestamp};
use crate::store::Reader;
use crate::telemetry::{Format, Gauges, Metrics, render};

pub(super) struct OnDisk {
    pub(super) folder: tempfile::TempDir,
}

impl OnDisk {
    pub(super) fn options(&self) -> Options {
        Options::new(self.folder.path().join("tidegate.db"), Arc::new(SystemClock::new()))
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.folder.path().join("tidegate.db")).unwrap()
    }
}

fn now() -> Timestamp {
    SystemClock::new().now()
}

impl Subject for OnDisk {
    type Log = SqliteLog;

    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn open(&mut self) -> (Arc<SqliteLog>, Feed) {
        let (log, feed) = SqliteLog::open(self.options()).unwrap();
        (Arc::new(log), feed)
    }

    fn crash(&mut self, log: Arc<SqliteLog>) {
        drop(log);
    }

    async fn stop(&mut self, log: Arc<SqliteLog>) {
        log.close().await.unwrap();
    }

    fn published(&self, _log: &SqliteLog, id: &DeliveryId, call: u32) -> Option<usize> {
        let query = OutcomeQuery { sequence: Some(id.seq), ..OutcomeQuery::default() };
        let outcomes = self.reader().outcomes(&query).unwrap();
        let found = outcomes.iter().find(|o| o.consumer == id.consumer && o.round == id.round && o.call == call);
        found.map(|outcome| outcome.published as usize)
    }

    fn state(&self, _log: &SqliteLog, consumer: &ConsumerName, key: &str) -> Option<(Bytes, u64)> {
        self.reader().state_get(consumer, key, now()).unwrap()
    }

    fn keys(&self, _log: &SqliteLog, consumer: &ConsumerName, prefix: &str) -> (Vec<String>, u64) {
        self.reader().state_keys(consumer, prefix, None, 100, now()).unwrap()
    }
}

conforms!(OnDisk);
suite!(OnDisk: a_slot_fires_once, slots_are_remembered_and_forgotten);

/// A clock that moves when told to.
pub(crate) struct ManualClock {
    elapsed: watch::Sender<Duration>,
}

impl ManualClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { elapsed: watch::Sender::new(Duration::ZERO) })
    }

    pub(super) fn advance(&self, by: Duration) {
        self.elapsed.send_modify(|elapsed| *elapsed += by);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        NOW.plus(*self.elapsed.borrow())
    }

    fn monotonic(&self) -> Duration {
        *self.elapsed.borrow()
    }

    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut elapsed = self.elapsed.subscribe();
        Box::pin(async move {
            let _moved = elapsed.wait_for(|elapsed| *elapsed >= at).await;
        })
    }
}

pub(super) fn events(numbers: std::ops::RangeInclusive<u64>) -> Vec<Envelope> {
    numbers.map(|n| event(&n.to_string(), "a")).collect()
}

impl OnDisk {
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("tidegate.db")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("tidegate.db{suffix}"))
    }

    /// A connection as a stranger with a shell would have it.
    pub(super) fn stranger(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).unwrap()
    }

    fn refused(&self) -> OpenError {
        match SqliteLog::open(self.options()) {
            Ok(_) => panic!("it was opened"),
            Err(e) => e,
        }
    }

    fn first_missing(&self) -> Seq {
        match self.refused() {
            OpenError::Damaged { first_missing, .. } => first_missing,
            e => panic!("{e}"),
        }
    }

    async fn write(&mut self, numbers: std::ops::RangeInclusive<u64>) {
        let (log, _feed) = self.open();
        log.append(events(numbers)).await.unwrap();
        log.close().await.unwrap();
    }
}

pub(super) fn verified(path: &std::path::Path) -> Result<crate::model::record::ContentRecord, OpenError> {
    crate::store::verify(path, &mut |_| std::ops::ControlFlow::Continue(()))
}

#[tokio::test]
async fn an_answer_comes_only_after_the_commit() {
    let mut disk = OnDisk::new();
    let (log, _feed) = disk.open();
    let reader = disk.reader();
    for n in 1..=100 {
        log.append(events(n..=n)).await.unwrap();
        assert_eq!(reader.stats().unwrap().unwrap().last_sequence, n);
    }
}

#[tokio::test]
async fn the_happy_path_writes_one_row_for_the_event_and_one_for_each_outcome() {
    let mut disk = OnDisk::new();
    let (log, _feed) = disk.open();
    activate(&*log, "one", &[("mail", &["a"]), ("index", &["a"])]).await;
    log.append(events(1..=1)).await.unwrap();
    log.settle(vec![done(1, "mail")]).await.unwrap();
    log.settle(vec![done(1, "index")]).await.unwrap();
    let rows = || {
        let conn = disk.stranger();
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
        let mut statement = conn.prepare(sql).unwrap();
        let tables: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let count = |t: &String| conn.query_row(&format!("SELECT count(*) FROM {t}"), [], |row| row.get(0)).unwrap();
        tables.into_iter().map(|table| (count(&table), table)).collect::<Vec<(i64, String)>>()
    };
    let before = rows();
    log.append(events(2..=11)).await.unwrap();
    for seq in 2..=11 {
        log.settle(vec![done(seq, "mail")]).await.unwrap();
        log.settle(vec![done(seq, "index")]).await.unwrap();
    }
    let grown: Vec<(i64, String)> = rows()
        .into_iter()
        .zip(before)
        .map(|((now, table), (then, _))| (now - then, table))
        .filter(|(n, _)| *n != 0)
        .collect();
    assert_eq!(grown, [(10, "raw_events".to_owned()), (20, "raw_outcomes".to_owned())]);
}

#[tokio::test]
async fn a_changed_payload_is_never_handed_out() {
    let mut disk = OnDisk::new();
    disk.write(1..=20).await;
    let (log, _feed) = disk.open();
    disk.stranger().execute("UPDATE raw_events SET data = '{\"a\": 2}' WHERE seq = 7", []).unwrap_err();
    let sql = "UPDATE raw_events SET data = CAST('{\"a\": 2}' AS BLOB) WHERE seq = 7";
    assert_eq!(disk.stranger().execute(sql, []).unwrap(), 1);
    assert_eq!(log.read(0, 6).await.unwrap().len(), 6);
    let answer = log.read(6, 1).await;
    assert!(matches!(&answer, Err(Error::Failed(text)) if text.contains("event 7")), "{answer:?}");
    assert!(matches!(verified(&disk.path()), Err(OpenError::Damaged { first_missing: 7, .. })));
    assert_eq!(log.read(7, 20).await.unwrap().len(), 13, "what comes after it is whole");
}

#[tokio::test]
async fn damage_at_the_end_is_found_at_the_start_and_accepted_only_when_told() {
    let mut disk = OnDisk::new();
    let (log, _feed) = disk.open();
    log.append(events(1..=20)).await.unwrap();
    disk.crash(log);
    disk.stranger().execute("UPDATE raw_events SET subject = 'other' WHERE seq = 15", []).unwrap();
    assert_eq!(disk.first_missing(), 15);
    let accept = |from| SqliteLog::open(Options { accept_loss_from: Some(from), ..disk.options() });
    assert!(matches!(accept(16), Err(OpenError::Damaged { first_missing: 15, .. })));
    let (log, _feed) = accept(15).unwrap();
    let left: Vec<Seq> = log.read(0, 100).await.unwrap().iter().map(|e| e.seq).collect();
    assert_eq!(left, (1..=20).filter(|seq| *seq != 15).collect::<Vec<_>>());
    assert_eq!(log.append(events(21..=21)).await.unwrap()[0].seq, 21);
    log.close().await.unwrap();
    let losses: i64 = disk.stranger().query_row("SELECT count(*) FROM losses", [], |row| row.get(0)).unwrap();
    assert_eq!(losses, 1);
    disk.write(22..=22).await;
    verified(&disk.path()).unwrap();
}

#[tokio::test]
async fn a_write_ahead_log_that_was_cut_or_changed_is_found() {
    for damage in ["cut", "flip"] {
        let mut disk = OnDisk::new();
        let (log, _feed) = disk.open();
        for n in 0..30 {
            // More than a thousand events, so that the watermark follows while the log is open.
            log.append(events(n * 50 + 1..=n * 50 + 50)).await.unwrap();
        }
        disk.crash(log);
        let wal = std::fs::OpenOptions::new().read(true).write(true).open(disk.beside("-wal")).unwrap();
        let middle = wal.metadata().unwrap().len() / 3;
        assert!(middle > 100_000);
        if damage == "cut" {
            wal.set_len(middle).unwrap();
        } else {
            let mut byte = [0];
            wal.read_exact_at(&mut byte, middle).unwrap();
            wal.write_all_at(&[byte[0] ^ 1], middle).unwrap();
        }
        let missing = disk.first_missing();
        let there = disk.stranger().query_row("SELECT max(seq) FROM raw_events", [], |row| row.get::<_, i64>(0));
        let there = Seq::try_from(there.unwrap()).unwrap();
        assert_eq!(missing, there + 1, "{damage}");
        assert!(missing > 1 && missing < 1_001, "{damage}: {missing}");
    }
}

#[tokio::test]
async fn an_older_copy_is_found() {
    let mut disk = OnDisk::new();
    disk.write(1..=10).await;
    std::fs::copy(disk.path(), disk.beside(".old")).unwrap();
    disk.write(11..=15).await;
    std::fs::rename(disk.beside(".old"), disk.path()).unwrap();
    assert_eq!(disk.first_missing(), 11);
    let (log, _feed) = SqliteLog::open(Options { accept_loss_from: Some(11), ..disk.options() }).unwrap();
    assert_eq!(log.append(events(16..=16)).await.unwrap()[0].seq, 16, "what was acknowledged is not given again");
    assert_eq!(log.read(9, 10).await.unwrap().iter().map(|e| e.seq).collect::<Vec<_>>(), [10, 16]);
    disk.crash(Arc::new(log));
    disk.write(17..=17).await;
}

#[tokio::test]
async fn another_databases_watermark_and_another_history_are_found() {
    let (mut disk, mut other) = (OnDisk::new(), OnDisk::new());
    disk.write(1..=3).await;
    other.write(1..=5).await;
    std::fs::copy(disk.path(), disk.beside(".old")).unwrap();
    disk.write(4..=6).await;
    let mark = std::fs::read(disk.beside(".watermark")).unwrap();
    std::fs::copy(other.beside(".watermark"), disk.beside(".watermark")).unwrap();
    assert_eq!(disk.first_missing(), 1);
    // The same database, gone on from an older copy in another way.
    std::fs::remove_file(disk.beside(".watermark")).unwrap();
    std::fs::rename(disk.beside(".old"), disk.path()).unwrap();
    disk.write(7..=12).await;
    std::fs::write(disk.beside(".watermark"), mark).unwrap();
    assert!(matches!(disk.first_missing(), 3..=6));
}

#[tokio::test]
async fn one_database_has_one_host_however_it_is_named() {
    let mut disk = OnDisk::new();
    let link = disk.beside(".link");
    std::os::unix::fs::symlink("tidegate.db", &link).unwrap();
    let (log, _feed) =
        SqliteLog::open(Options { path: link.clone(), listen: Some("127.0.0.1:7420".into()), ..disk.options() })
            .unwrap();
    assert_eq!(log.path(), std::fs::canonicalize(disk.path()).unwrap());
    for path in [disk.path(), link] {
        match SqliteLog::open(Options { path, ..disk.options() }).err() {
            Some(e @ OpenError::InUse { .. }) => {
                let text = e.to_string();
                assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
                assert!(text.contains("127.0.0.1:7420"), "{text}");
            }
            e => panic!("{e:?}"),
        }
    }
    log.announce("[::1]:80".into());
    log.append(events(1..=1)).await.unwrap();
    assert!(disk.refused().to_string().contains("[::1]:80"));
    log.close().await.unwrap();
    disk.write(2..=2).await;
}

#[tokio::test]
async fn what_is_not_ours_is_refused_and_left_as_it_is() {
    let disk = OnDisk::new();
    std::fs::write(disk.path(), b"This is a diary, and has been one for years.").unwrap();
    assert!(matches!(disk.refused(), OpenError::NotADatabase { .. }), "{}", disk.refused());
    assert_eq!(std::fs::read(disk.path()).unwrap().len(), 44);
    std::fs::remove_file(disk.path()).unwrap();
    disk.stranger().execute_batch("CREATE TABLE diary (day TEXT); PRAGMA application_id = 7;").unwrap();
    assert!(matches!(disk.refused(), OpenError::ForeignApplication { found: 7, .. }), "{}", disk.refused());
    for uri in ["file:x.db?nolock=1", "FILE:x.db"] {
        let refused = SqliteLog::open(Options { path: uri.into(), ..disk.options() });
        assert!(matches!(refused, Err(OpenError::Uri { .. })));
    }
    let refused = SqliteLog::open(Options { path: disk.folder.path().into(), ..disk.options() });
    assert!(matches!(refused, Err(OpenError::NotAFile { .. })));
    let refused = SqliteLog::open(Options { path: "/proc/tidegate.db".into(), ..disk.options() });
    assert!(matches!(refused, Err(OpenError::ReadOnly { .. })));
}

#[tokio::test]
async fn another_schema_is_refused() {
    let mut disk = OnDisk::new();
    disk.write(1..=1).await;
    disk.stranger().execute_batch("CREATE TRIGGER t AFTER INSERT ON names BEGIN DELETE FROM names; END").unwrap();
    assert!(matches!(disk.refused(), OpenError::SchemaChanged { object, .. } if object == "trigger t"));
    disk.stranger().execute_batch("DROP TRIGGER t; DROP VIEW state; PRAGMA user_version = 99").unwrap();
    assert!(matches!(disk.refused(), OpenError::NewerVersion { found: 99, known: 1 }));
    assert!(matches!(Reader::open(&disk.path()), Err(crate::store::Error::Newer { found: 99, known: 1 })));
    disk.stranger().execute_batch("PRAGMA user_version = 1").unwrap();
    assert!(matches!(disk.refused(), OpenError::SchemaChanged { object, .. } if object == "view state"));
}

#[tokio::test]
async fn whoever_lost_the_database_writes_nothing_more() {
    let mut disk = OnDisk::new();
    let (log, _feed) = disk.open();
    log.append(events(1..=1)).await.unwrap();
    disk.stranger().execute("UPDATE host SET epoch = epoch + 1", []).unwrap();
    let answer = log.append(events(2..=2)).await;
    assert!(matches!(&answer, Err(Error::Failed(text)) if text.contains("another host")), "{answer:?}");
    assert!(log.failed().wait_for(Option::is_some).await.is_ok());
    disk.stranger().execute("UPDATE host SET epoch = epoch - 1", []).unwrap();
    assert!(matches!(log.append(events(3..=3)).await, Err(Error::Failed(_))), "for good");
    assert_eq!(disk.reader().stats().unwrap().unwrap().last_sequence, 1);
}

/// How many commits had settlements in them.
fn settling_commits(metrics: &Metrics) -> u64 {
    let text = render(metrics, &Gauges::default(), Format::Prometheus);
    let count = text.lines().find_map(|line| line.strip_prefix("tidegate_settle_batch_size_count "));
    count.and_then(|count| count.parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn settlements_that_nobody_waits_for_share_a_commit_with_those_that_follow_and_wait_a_moment_at_most() {
    let disk = OnDisk::new();
    let (clock, metrics) = (ManualClock::new(), Arc::new(Metrics::default()));
    let options =
        Options { clock: Arc::clone(&clock) as Arc<dyn Clock>, metrics: Some(metrics.clone()), ..disk.options() };
    let (log, _feed) = SqliteLog::open(options).unwrap();
    activate(&log, "one", &[("mail", &["a"])]).await;
    log.append(events(1..=6)).await.unwrap();
    let settled = vec![Settled::Committed];
    // The clock stands still: they go with the last ones.
    let first = log.settle_each(vec![done(1, "mail")], true);
    let last = log.settle_each(vec![done(2, "mail")], false);
    assert_eq!((first.await.unwrap(), last.await.unwrap()), (settled.clone(), settled.clone()));
    assert_eq!(settling_commits(&metrics), 1);
    // Or with what somebody waits for.
    let first = log.settle_each(vec![done(3, "mail")], true);
    log.append(events(7..=7)).await.unwrap();
    assert_eq!(first.await.unwrap(), settled);
    let keyed = Settlement { key: Some("a".into()), ..done(4, "mail") };
    assert_eq!(log.settle_each(vec![keyed], true).await.unwrap(), settled, "the next one of its key waits for it");
    // Or by themselves.
    let mut first = log.settle_each(vec![done(5, "mail")], true);
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut first => break answer,
            () = tokio::task::yield_now() => clock.advance(LINGER_MAX),
        }
    };
    assert_eq!(answer.unwrap(), settled);
    assert_eq!(settling_commits(&metrics), 4);
    log.close().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_events_and_keeps_settlements_until_there_is_space() {
    let disk = OnDisk::new();
    let clock = ManualClock::new();
    let options = Options { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..disk.options() };
    let (log, _feed) = SqliteLog::open(options).unwrap();
    activate(&log, "one", &[("mail", &["a"])]).await;
    log.append(events(1..=5)).await.unwrap();
    let pages: u32 = disk.stranger().query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    log.limit_pages(pages);
    let large = |id: u64| {
        let mut large = event(&id.to_string(), "a");
        large.payload = Some(Payload { content_type: String::new(), data: vec![7; 100_000].into() });
        large
    };
    assert!(matches!(log.append(vec![large(6)]).await, Err(Error::Full)));
    let mut settlement = done(1, "mail");
    settlement.events = vec![large(7)];
    let mut pending = log.settle(vec![settlement]);
    assert!(matches!(log.append(vec![large(8)]).await, Err(Error::Full)), "the settlement was before it");
    tokio::select! {
        biased;
        answer = &mut pending => panic!("{answer:?}"),
        () = std::future::ready(()) => {}
    }
    log.limit_pages(1_000_000);
    assert!(log.append(events(9..=9)).await.is_ok(), "the same connection goes on");
    clock.advance(Duration::from_secs(1));
    assert_eq!(pending.await.unwrap(), Settled::Committed);
    let seqs: Vec<Seq> = log.read(0, 100).await.unwrap().iter().map(|e| e.seq).collect();
    assert_eq!(seqs, (1..=7).collect::<Vec<_>>());
    log.close().await.unwrap();
    verified(&disk.path()).unwrap();
}

/// Only the database may not grow here, so that the ballast can be made again as soon as somebody looks.
#[tokio::test]
async fn the_ballast_is_given_back_and_nothing_new_is_taken_in_until_it_is_there_again() {
    let disk = OnDisk::new();
    let clock = ManualClock::new();
    let options = Options { clock: Arc::clone(&clock) as Arc<dyn Clock>, ballast: 1 << 20, ..disk.options() };
    let (log, _feed) = SqliteLog::open(options).unwrap();
    let ballast = disk.path().with_extension("db.ballast");
    assert!(ballast.exists());
    activate(&log, "one", &[("mail", &["a"])]).await;
    log.append(events(1..=5)).await.unwrap();
    let pages: u32 = disk.stranger().query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    log.limit_pages(pages);
    let mut large = event("6", "a");
    large.payload = Some(Payload { content_type: String::new(), data: vec![7; 100_000].into() });
    assert!(matches!(log.append(vec![large]).await, Err(Error::Full)));
    assert!(!ballast.exists());
    log.limit_pages(1_000_000);
    assert!(matches!(log.append(events(7..=7)).await, Err(Error::Full)), "the room is for what is under way");
    assert_eq!(log.settle(vec![done(1, "mail")]).await.unwrap(), Settled::Committed);
    clock.advance(Duration::from_secs(1));
    assert!(log.append(events(8..=8)).await.is_ok());
    assert!(ballast.exists());
    log.close().await.unwrap();
    assert!(ballast.exists(), "the next host takes it over");
}

#[tokio::test]
async fn appends_beyond_the_bound_are_busy() {
    let disk = OnDisk::new();
    let (log, _feed) = SqliteLog::open(Options { queue_events_max: 10, ..disk.options() }).unwrap();
    // More than all at once is taken when nothing else waits.
    log.append(events(1..=50)).await.unwrap();
    let blocker = disk.stranger();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (first, second) = (log.append(events(51..=58)), log.append(events(59..=68)));
    assert!(matches!(second.await, Err(Error::Busy)));
    blocker.execute_batch("ROLLBACK").unwrap();
    assert_eq!(first.await.unwrap().len(), 8);
}

#[tokio::test]
async fn small_commands_pass_a_large_one() {
    let mut disk = OnDisk::new();
    let (log, _feed) = disk.open();
    let blocker = disk.stranger();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let first = log.append(events(1..=1));
    let mut large = event("large", "a");
    large.payload = Some(Payload { content_type: String::new(), data: vec![7; schedule::LARGE_BYTES + 1].into() });
    let large = log.append(vec![large]);
    let small = log.append(events(2..=2));
    blocker.execute_batch("ROLLBACK").unwrap();
    let seqs = [first.await, small.await, large.await].map(|answer| answer.unwrap()[0].seq);
    assert_eq!(seqs, [1, 2, 3]);
    let mut settlement = done(1, "mail");
    let value = Bytes::from(vec![7; schedule::LARGE_BYTES]);
    settlement.state.writes.insert("k".into(), StateWrite::Set { value, expires_at: None });
    assert!(settlement.bytes() > schedule::LARGE_BYTES, "state counts");
}

#[tokio::test]
async fn the_write_ahead_log_is_carried_over_and_cut_back() {
    let mut disk = OnDisk::new();
    let (log, _feed) = disk.open();
    // 96 MiB in all; of the write-ahead log no more than 64 MiB and what comes before the next cut may stay.
    for n in 0..96 {
        let mut large = event(&n.to_string(), "a");
        large.payload = Some(Payload { content_type: String::new(), data: vec![7; 1 << 20].into() });
        log.append(vec![large]).await.unwrap();
    }
    let length = |suffix: &str| std::fs::metadata(disk.beside(suffix)).unwrap().len();
    assert!(length("-wal") < 90 << 20, "{}", length("-wal"));
    assert!(length("") > 1 << 20, "{}", length(""));
    log.close().await.unwrap();
    assert!(length("") > 96 << 20);
    crate::store::verify(&disk.path(), &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
}

#[tokio::test]
async fn after_the_end_everything_is_closed() {
    let mut disk = OnDisk::new();
    let (log, _feed) = disk.open();
    activate(&*log, "one", &[("mail", &["a"])]).await;
    log.append(events(1..=3)).await.unwrap();
    log.advance(vec![(consumer("mail"), 3)]);
    log.close().await.unwrap();
    assert!(matches!(log.append(events(4..=4)).await, Err(Error::Closed)));
    assert!(matches!(log.read(0, 1).await, Err(Error::Closed)));
    assert!(matches!(log.close().await, Err(Error::Closed)));
    drop(log);
    let (log, _feed) = disk.open();
    assert_eq!(log.recover(consumer("mail")).await.unwrap().position, 3, "positions are written at the end");
}
