//! Reading, the document, and small pieces.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::file::network_kind;
use super::outcomes::{outcome_code, outcome_of};
use super::row::{Id, IdText};
use super::{Class, Error, Opening, Reader, Writer, connect, migrate};
use crate::clock::SystemClock;
use crate::log::conformance::{activate, consumer, delivery, done, event, settlement, subscriptions};
use crate::log::sqlite::{Options, SqliteLog};
use crate::log::{Activation, EventLog as _, Waiting};
use crate::model::outcome::StateWrite;
use crate::model::query::{DeadLetterQuery, EventQuery, OutcomeQuery, StateQuery};
use crate::model::{Delivery, Digest, Envelope, Expression, Outcome, Payload, Priority, Seq, State, Timestamp};

struct Fixture {
    folder: tempfile::TempDir,
    log: SqliteLog,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new(folder.path().join("t.db"), Arc::new(SystemClock::new()));
        let (log, _feed) = SqliteLog::open(options).unwrap();
        Self { folder, log }
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.folder.path().join("t.db")).unwrap()
    }
}

/// An event that `cause` caused.
fn caused(id: &str, event_type: &str, cause: &Envelope, source: &str) -> Envelope {
    Envelope {
        causation_id: Some(cause.id.clone()),
        correlation_id: cause.correlation_id.clone(),
        source: source.into(),
        depth: cause.depth + 1,
        ..event(id, event_type)
    }
}

/// Five events: 1 and 2 orders, 3 confirmed by `mail` for 1, 4 a note that 2 died, 5 not looked at yet.
async fn shop() -> Fixture {
    let fixture = Fixture::new();
    let log = &fixture.log;
    activate(log, "one", &[("mail", &["order.*"]), ("index", &["**"])]).await;
    let orders = [event("0190a5c4-1c7e-7000-8000-000000000001", "order.created"), event("two", "order.created")];
    log.append(orders.to_vec()).await.unwrap();
    let mut first = done(1, "mail");
    first.events = vec![caused("p1", "mail.sent", &orders[0], "/consumers/mail")];
    let value = Bytes::from_static(b"1");
    first.state.writes.insert("sent/1".into(), StateWrite::Set { value, expires_at: None });
    log.settle(vec![first]).await.unwrap();
    let mut dead = settlement(delivery(2, "mail", 0), Outcome::Reject, State::Dead);
    dead.events = vec![caused("d1", "tidegate.dead-lettered", &orders[1], "/tidegate")];
    log.settle(vec![dead]).await.unwrap();
    let due_at = Timestamp::MAX;
    log.settle(vec![settlement(delivery(1, "index", 0), Outcome::Retry, State::Pending { due_at })]).await.unwrap();
    log.append(vec![event("five", "stock.changed")]).await.unwrap();
    fixture
}

fn seqs(reader: &Reader, query: &EventQuery) -> Vec<Seq> {
    reader.events(query).unwrap().iter().map(|e| e.sequence).collect()
}

#[tokio::test]
async fn events_are_found_by_what_is_asked() {
    let fixture = shop().await;
    let reader = fixture.reader();
    let all = EventQuery::default;
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(seqs(&reader, &all()), [1, 2, 3, 4, 5]);
    assert_eq!(seqs(&reader, &EventQuery { newest: true, limit: Some(2), ..all() }), [5, 4]);
    assert_eq!(seqs(&reader, &EventQuery { newest: true, before: Some(4), limit: Some(2), ..all() }), [3, 2]);
    assert_eq!(seqs(&reader, &EventQuery { after: Some(2), limit: Some(2), ..all() }), [3, 4]);
    assert_eq!(seqs(&reader, &EventQuery { event_type: some("order.created"), ..all() }), [1, 2]);
    assert_eq!(seqs(&reader, &EventQuery { event_type: some("**"), ..all() }), [1, 2, 3, 5]);
    assert_eq!(seqs(&reader, &EventQuery { event_type: some("*.sent"), ..all() }), [3]);
    assert_eq!(seqs(&reader, &EventQuery { event_type: some("or*"), ..all() }), Vec::<Seq>::new());
    assert_eq!(seqs(&reader, &EventQuery { source: some("/consumers/mail"), ..all() }), [3]);
    assert_eq!(seqs(&reader, &EventQuery { source: some("/nobody"), ..all() }), Vec::<Seq>::new());
    assert_eq!(seqs(&reader, &EventQuery { subject: some("order-1"), limit: Some(1), ..all() }), [1]);
    let correlation = some("0190a5c4-1c7e-7000-8000-000000000001");
    assert_eq!(seqs(&reader, &EventQuery { correlation, ..all() }), [1, 3]);
    let fourth = reader.event("4").unwrap().unwrap().accepted_at;
    assert!(seqs(&reader, &EventQuery { since: Some(fourth), ..all() }).contains(&4));
    assert!(!seqs(&reader, &EventQuery { until: Some(fourth), ..all() }).contains(&4));
    assert_eq!(reader.event("two").unwrap().unwrap().sequence, 2);
    assert_eq!(reader.event("/test#two").unwrap().unwrap().sequence, 2);
    assert!(reader.event("nothing").unwrap().is_none());
    let mut twin = event("two", "a");
    twin.source = "/elsewhere".into();
    fixture.log.append(vec![twin]).await.unwrap();
    assert!(matches!(reader.event("two"), Err(Error::Ambiguous { .. })));
    assert_eq!(reader.event("/elsewhere#two").unwrap().unwrap().sequence, 6);
}

#[tokio::test]
async fn a_payload_is_shown_as_what_it_is() {
    let fixture = Fixture::new();
    let payload = |content_type: &str, data: &'static [u8]| {
        Some(Payload { content_type: content_type.into(), data: Bytes::from_static(data) })
    };
    let payloads = [
        payload("application/json; charset=utf-8", b"{\"n\":1.0000000000000000001}"),
        payload("application/json", b"{broken"),
        payload("text/plain", b"1"),
        payload("", &[0xff]),
        None,
    ];
    let events =
        payloads.iter().enumerate().map(|(n, p)| Envelope { payload: p.clone(), ..event(&n.to_string(), "a") });
    fixture.log.append(events.collect()).await.unwrap();
    let shown: Vec<(Option<String>, Option<String>, Option<String>)> = fixture
        .reader()
        .events(&EventQuery::default())
        .unwrap()
        .into_iter()
        .map(|e| (e.data.map(|raw| raw.get().to_owned()), e.data_text, e.data_base64))
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        shown,
        [
            (some("{\"n\":1.0000000000000000001}"), None, None),
            (None, some("{broken"), None),
            (None, some("1"), None),
            (None, None, some("/w==")),
            (None, None, None),
        ]
    );
}

#[tokio::test]
async fn outcomes_dead_letters_and_state_are_shown() {
    let fixture = shop().await;
    let reader = fixture.reader();
    let outcomes = reader.outcomes(&OutcomeQuery::default()).unwrap();
    let shown: Vec<_> =
        outcomes.iter().map(|o| (o.sequence, o.consumer.as_str(), o.outcome.as_str(), o.state.as_str())).collect();
    assert_eq!(
        shown,
        [(1, "mail", "done", "succeeded"), (1, "index", "retry", "pending"), (2, "mail", "reject", "dead"),]
    );
    assert_eq!((outcomes[0].published, outcomes[0].fuel, outcomes[0].duration_ms), (1, 21_800, 1.5));
    assert_eq!(outcomes[2].event_type, "order.created");
    let page = reader.outcomes(&OutcomeQuery { limit: Some(1), ..OutcomeQuery::default() }).unwrap();
    assert_eq!(page.len(), 2, "the whole of the first event");
    let page = reader.outcomes(&OutcomeQuery { newest: true, limit: Some(2), ..OutcomeQuery::default() }).unwrap();
    assert_eq!(page.iter().map(|o| o.sequence).collect::<Vec<_>>(), [2, 1, 1]);
    let rejected = OutcomeQuery { outcome: Some(Outcome::Reject), ..OutcomeQuery::default() };
    assert_eq!(reader.outcomes(&rejected).unwrap().len(), 1);
    let dead = reader.dead_letters(&DeadLetterQuery::default()).unwrap();
    assert_eq!(dead.iter().map(|d| (d.id.as_str(), d.cause.as_str())).collect::<Vec<_>>(), [("2/mail", "rejected")]);
    let of_type = |t: &str| DeadLetterQuery { event_type: Some(t.into()), ..DeadLetterQuery::default() };
    assert_eq!(reader.dead_letters(&of_type("order.*")).unwrap().len(), 1);
    assert_eq!(reader.dead_letters(&of_type("stock.*")).unwrap().len(), 0);
    let (_, outcomes, event) = reader.dead_letter(&delivery(2, "mail", 0)).unwrap().unwrap();
    assert_eq!((outcomes.len(), event.id.as_str()), (1, "two"));
    assert!(reader.dead_letter(&delivery(1, "mail", 0)).unwrap().is_none());
    let state = reader.state(&consumer("mail"), &StateQuery::default()).unwrap();
    assert_eq!((state[0].key.as_str(), state[0].value.as_deref(), state[0].bytes), ("sent/1", Some("1"), 1));
}

#[tokio::test]
async fn what_is_left_is_counted_honestly() {
    let fixture = shop().await;
    let (log, reader) = (&fixture.log, fixture.reader());
    // index: 1 waits, 2, 3 and 5 are not looked at; the host's own event is not for it.
    let depths = || reader.consumers().unwrap().into_iter().map(|c| (c.name.to_string(), c.depth, c.waiting)).collect();
    let expected: Vec<(String, u64, u64)> = vec![("index".into(), 4, 1), ("mail".into(), 0, 0)];
    let counted: Vec<(String, u64, u64)> = depths();
    assert_eq!(counted, expected);
    assert_eq!((reader.unsettled(0).unwrap(), reader.unsettled(1).unwrap(), reader.unsettled(5).unwrap()), (0, 1, 4));
    log.settle(vec![done(2, "index")]).await.unwrap();
    log.settle(vec![done(3, "index")]).await.unwrap();
    // Not deployed any more: what was meant for it still waits, what comes now is not for it.
    activate(log, "two", &[("mail", &["order.*"])]).await;
    log.append(vec![event("six", "stock.changed")]).await.unwrap();
    assert_eq!(reader.unsettled(6).unwrap(), 2);
    let index = reader.consumers().unwrap().remove(0);
    assert_eq!((index.status.as_str(), index.depth, index.on), ("removed", 2, vec!["**".to_owned()]));
    assert_eq!(reader.removed_consumers().unwrap(), [(consumer("index"), 2)]);
    let known = ["index", "mail", "nobody"].map(|name| reader.has_consumer(&consumer(name)).unwrap());
    assert_eq!(known, [true, true, false]);
    log.settle(vec![done(5, "index")]).await.unwrap();
    let mut last = done(1, "index");
    (last.stored, last.record.call, last.record.attempt) = (true, 2, 2);
    log.settle(vec![last]).await.unwrap();
    assert_eq!(reader.unsettled(6).unwrap(), 0);
    let stats = reader.stats().unwrap().unwrap();
    let counted: BTreeMap<Outcome, u64> = [(Outcome::Done, 5), (Outcome::Retry, 1), (Outcome::Reject, 1)].into();
    assert_eq!((stats.events, stats.last_sequence, stats.outcomes, stats.dead_letters), (6, 6, counted, 1));
}

#[tokio::test]
async fn a_tree_shows_what_an_event_caused() {
    let fixture = shop().await;
    let reader = fixture.reader();
    let (tree, cut) = reader.tree(1, 10).unwrap().unwrap();
    let nodes: Vec<_> =
        tree.deliveries.iter().map(|d| (d.consumer.as_str(), d.state.as_str(), d.events.len())).collect();
    assert_eq!((nodes, cut), (vec![("index", "pending", 0), ("mail", "succeeded", 1)], false));
    assert_eq!(tree.deliveries[1].events[0].deliveries[0].state, "pending", "nobody has come to it yet");
    assert_eq!((tree.deliveries[0].due_at, tree.deliveries[0].blocked), (Some(Timestamp::MAX), false));
    assert_eq!(tree.deliveries[1].due_at, None, "it is over");
    let behind = Waiting {
        id: delivery(2, "index", 0),
        delivery: Delivery::new(Timestamp(5)),
        key: Some("k".into()),
        blocked: true,
        errand: false,
        priority: Priority::Normal,
    };
    fixture.log.park(vec![behind]).await.unwrap();
    let (tree, _) = reader.tree(2, 10).unwrap().unwrap();
    assert_eq!((tree.deliveries[0].due_at, tree.deliveries[0].blocked), (None, true));
    assert!(reader.tree(1, 1).unwrap().unwrap().1, "cut");
    let (tree, _) = reader.tree(2, 10).unwrap().unwrap();
    assert_eq!(tree.events[0].event.event_type, "tidegate.dead-lettered");
    assert!(reader.tree(99, 10).unwrap().is_none());
}

#[tokio::test]
async fn readers_are_bounded_cannot_write_and_need_no_host() {
    let fixture = shop().await;
    let path = fixture.folder.path().join("t.db");
    let slow = fixture.reader().with_time_max(Duration::ZERO);
    let forever = slow.events(&EventQuery::default());
    assert!(matches!(forever, Ok(_) | Err(Error::TimedOut { .. })), "{forever:?}");
    let conn = connect::reader(&path).unwrap();
    conn.execute("DELETE FROM raw_events", []).unwrap_err();
    drop(conn);
    drop(fixture.log);
    assert!(path.with_extension("db-wal").exists());
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.stats().unwrap().unwrap().events, 5);
    let (log, _feed) = SqliteLog::open(Options::new(&path, Arc::new(SystemClock::new()))).unwrap();
    log.close().await.unwrap();
    drop(log);
    assert_eq!(reader.stats().unwrap().unwrap().events, 5);
    assert_eq!(Reader::open(&path).unwrap().stats().unwrap().unwrap().events, 5);
    assert!(matches!(Reader::open(&path.with_extension("none")), Err(Error::Missing { .. })));
    std::fs::write(path.with_extension("txt"), "no database at all, only text").unwrap();
    assert!(matches!(Reader::open(&path.with_extension("txt")), Err(Error::Foreign { .. })));
}

#[test]
fn a_statement_ends_with_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    drop(SqliteLog::open(Options::new(&path, Arc::new(SystemClock::new()))).unwrap());
    let reader = Reader::open(&path).unwrap().with_time_max(Duration::from_millis(1));
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let answer = reader.run(|conn| Ok(conn.query_row(endless, [], |row| row.get::<_, i64>(0))?));
    assert!(matches!(answer, Err(Error::TimedOut { limit_ms: 1 })), "{answer:?}");
}

#[test]
fn the_document_names_every_view_and_column() {
    let mut conn = rusqlite::Connection::open_in_memory().unwrap();
    migrate::apply(&mut conn, migrate::Found::Empty).unwrap();
    let text = include_str!("../../../docs/database.md");
    let mut documented = BTreeMap::new();
    for section in text.split("\n### `").skip(1) {
        let (name, rest) = section.split_once('`').unwrap();
        let rows = rest.split("\n## ").next().unwrap().lines().filter_map(|line| line.strip_prefix("| `"));
        let columns: Vec<String> = rows.map(|row| row.split('`').next().unwrap().to_owned()).collect();
        documented.insert(name.to_owned(), columns);
    }
    assert_eq!(documented, migrate::views(&conn).into_iter().collect());
}

#[test]
fn ids_read_back_as_they_came() {
    let conn = rusqlite::Connection::open_in_memory().unwrap();
    let round = |text: &str| {
        let IdText(back) = conn.query_row("SELECT ?1", [Id(text)], |row| row.get(0)).unwrap();
        back
    };
    for text in [
        "",
        "a",
        "0190a5c4-1c7e-7000-8000-00000000abcd",
        "0190A5C4-1C7E-7000-8000-00000000ABCD",
        "0190a5c41c7e70008000-00000000abcd----",
    ] {
        assert_eq!(round(text), text);
    }
    proptest::proptest!(|(text in ".{0,40}|[0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f-]{36}")| {
        proptest::prop_assert_eq!(round(&text), text);
    });
}

#[test]
fn codes_are_those_of_the_views() {
    let mut conn = rusqlite::Connection::open_in_memory().unwrap();
    migrate::apply(&mut conn, migrate::Found::Empty).unwrap();
    for outcome in Outcome::ALL {
        assert_eq!(outcome_of(outcome_code(outcome)), Some(outcome));
        let state = match outcome {
            Outcome::Done | Outcome::Duplicate => 0,
            Outcome::Reject | Outcome::Refused | Outcome::Expired | Outcome::Crashed => 2,
            Outcome::Withdrawn => 3,
            _ => 1,
        };
        let sql = "INSERT INTO raw_outcomes (seq, consumer, round, call, attempt, outcome, state, started_at, duration_us, \
                   fuel, memory_peak, published, generation, component) VALUES (?1, 1, 0, 1, 1, ?2, ?3, 0, 0, 0, 0, 0, 1, 1)";
        let seq = 1 + i64::from(outcome_code(outcome));
        conn.execute(sql, (seq, outcome_code(outcome), state)).unwrap();
        let word: String =
            conn.query_row("SELECT outcome FROM outcomes WHERE sequence = ?1", [seq], |row| row.get(0)).unwrap();
        assert_eq!(word, outcome.as_str());
    }
    for wrong in [(0, 1), (1, 0), (3, 1), (9, 1), (2, 2), (11, 1), (12, 1), (13, 0)] {
        let sql = "UPDATE raw_outcomes SET outcome = ?1, state = ?2 WHERE seq = 1";
        assert!(conn.execute(sql, wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn errors_are_told_apart_by_what_can_be_done() {
    use rusqlite::ffi;
    let class = |code| Error::Sqlite(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)).class();
    for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC, ffi::SQLITE_CORRUPT, ffi::SQLITE_CONSTRAINT] {
        assert_eq!(class(code), Class::Fatal, "{code}");
    }
    for code in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_READONLY] {
        assert_eq!(class(code), Class::Full, "{code}");
    }
    assert_eq!(class(ffi::SQLITE_BUSY), Class::Busy);
}

#[test]
fn marks_are_taken_away_in_bounded_steps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let now = Timestamp(1_000);
    let mut store = Writer::open(&Opening::new(path, now)).unwrap();
    store.begin().unwrap();
    for n in 0..1_200 {
        store.mark(&delivery(1, "mail", 0), &n.to_string(), Timestamp(n)).unwrap();
    }
    let steps: Vec<usize> = (0..4).map(|_| store.prune_marks(now).unwrap()).collect();
    assert_eq!(steps, [500, 500, 1, 0], "those until 1,000 included");
    store.commit().unwrap();
}

#[tokio::test]
async fn conditions_count_in_what_is_left() {
    let fixture = Fixture::new();
    let mut of = subscriptions(&[("mail", &["order.*"]), ("index", &["order.*"])]);
    of[0].1[0].condition = Some(Expression::parse("data.paid").unwrap());
    let activation = Activation { digest: Digest::of(b"one"), subscriptions: of, from: Vec::new() };
    fixture.log.activate(activation).await.unwrap();
    let order = |n: u32| {
        let data = Bytes::from(format!("{{\"paid\": {}}}", n.is_multiple_of(3)));
        let payload = Some(Payload { content_type: "application/json".into(), data });
        Envelope { payload, ..event(&n.to_string(), "order.created") }
    };
    fixture.log.append((1..=9).map(order).collect()).await.unwrap();
    let depths: Vec<(String, u64)> =
        fixture.reader().consumers().unwrap().into_iter().map(|c| (c.name.to_string(), c.depth)).collect();
    assert_eq!(depths, [("index".to_owned(), 9), ("mail".to_owned(), 3)]);
    let parked = Waiting {
        id: delivery(3, "mail", 0),
        delivery: Delivery::new(Timestamp(5)),
        key: None,
        blocked: false,
        errand: false,
        priority: Priority::Normal,
    };
    fixture.log.park(vec![parked]).await.unwrap();
    let mail = fixture.reader().consumers().unwrap().remove(1);
    assert_eq!((mail.depth, mail.waiting), (3, 1), "what is parked is counted once");
}

#[test]
fn network_file_systems_are_known() {
    assert_eq!(network_kind(0x6969), Some("nfs"));
    assert_eq!(network_kind(0xffff_ffff_ff53_4d42), Some("cifs"), "sign-extended");
    assert_eq!(network_kind(0xef53), None);
}
