//! Bits that change on the disk of a stopped host. `TIDEGATE_FLIPS` (200) says how many in a run.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use tidegate_vfs::{Dice, Disk, Image, Platter};

use super::super::tests::ManualClock;
use super::rig::Rig;
use super::story::{CONSUMERS, story_without_retention};
use super::{number, seed};
use crate::log::conformance::{consumer, delivery, done, event, settlement};
use crate::log::sqlite::{Options, SqliteLog};
use crate::log::{DeadDecision, DeadSelection, EventLog as _, Settlement, Waiting};
use crate::model::delivery::DeathCause;
use crate::model::outcome::StateWrite;
use crate::model::query::{DeadLetterQuery, LIMIT_MAX, OutcomeQuery};
use crate::model::{Delivery, Event, Job, Outcome, Payload, Priority, State, Timestamp};
use crate::store::{self, Reader};

/// What a host would hand out of a database.
#[derive(Debug, PartialEq)]
struct Content {
    events: Vec<Arc<Event>>,
    /// Each as it is shown.
    outcomes: BTreeSet<String>,
    /// What waits, dead letters and what consumers keep.
    kept: String,
    /// What else is left to do.
    left: String,
}

impl Content {
    /// Whether this is what the other was at some earlier time: what came after the last watermark may be gone without a trace.
    fn is_earlier(&self, whole: &Self) -> bool {
        whole.events.starts_with(&self.events) && self.outcomes.is_subset(&whole.outcomes)
    }

    fn differs_in_the_rest_alone(&self, whole: &Self) -> bool {
        (&self.events, &self.outcomes, &self.kept) == (&whole.events, &whole.outcomes, &whole.kept)
    }
}

/// What is in it; or who has noticed that something is wrong.
fn look(path: &Path) -> Result<Content, String> {
    store::verify(path, &mut |_| ControlFlow::Continue(())).map_err(|error| format!("verify: {error}"))?;
    let (log, _feed) =
        SqliteLog::open(Options::new(path, ManualClock::new())).map_err(|error| format!("open: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let content = runtime.block_on(async {
        let events = log.read(0, usize::MAX).await.map_err(|error| format!("read: {error}"))?;
        let (mut left, mut kept) = (String::new(), String::new());
        for (name, _) in CONSUMERS {
            let recovery = log.recover(consumer(name)).await.map_err(|error| format!("recover: {error}"))?;
            left += &format!("{recovery:?}");
            for priority in Priority::ALL {
                let waiting = log.waiting(consumer(name), priority, None, usize::MAX).await;
                let waiting = waiting.map_err(|error| format!("waiting: {error}"))?;
                kept += &format!(" {waiting:?}");
            }
        }
        let reader = Reader::open(path).map_err(|error| format!("look: {error}"))?;
        let query = OutcomeQuery { limit: Some(LIMIT_MAX), ..OutcomeQuery::default() };
        let outcomes = reader.outcomes(&query).map_err(|error| format!("outcomes: {error}"))?;
        let query = DeadLetterQuery { limit: Some(LIMIT_MAX), ..DeadLetterQuery::default() };
        let dead = reader.dead_letters(&query).map_err(|error| format!("dead letters: {error}"))?;
        let outcomes = outcomes.iter().map(|row| format!("{row:?}")).collect();
        kept += &format!("{dead:?} {:?}", state(path));
        Ok(Content { events, outcomes, kept, left })
    });
    let failed = log.failed().borrow().clone();
    assert!(!failed.as_ref().is_some_and(|reason| reason.contains("panicked")), "{failed:?}");
    content
}

fn state(path: &Path) -> Vec<(String, String, Vec<u8>)> {
    let conn = rusqlite::Connection::open(path).unwrap();
    let sql = "SELECT n.text, s.key, s.value FROM raw_state AS s JOIN names AS n ON n.id = s.consumer ORDER BY 1, 2";
    let mut statement = conn.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// What a stopped host leaves, with or without a write-ahead log.
fn stopped(seed: u64) -> Image {
    let story = story_without_retention(seed, 40);
    let mut platter = Platter::new(&story.record);
    platter.advance(story.record.len());
    // Everything that was written is there: a process that ends does not lose what it wrote.
    platter.all()
}

fn put(image: &Image) -> (tempfile::TempDir, Disk) {
    let folder = tempfile::tempdir().unwrap();
    image.write_to(folder.path()).unwrap();
    let disk = Disk::forgetful(folder.path());
    (folder, disk)
}

#[test]
fn no_changed_bit_is_handed_out() {
    let mut dice = Dice::new(seed());
    let flips = number("TIDEGATE_FLIPS", 200);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut missed = Vec::new();
    let mut images = Vec::new();
    for story in 0..flips.div_ceil(40) {
        let image = stopped(seed() + story);
        let (folder, _disk) = put(&image);
        let whole = look(&folder.path().join("tidegate.db")).unwrap();
        images.push((image, whole));
    }
    for flip in 0..flips {
        let (image, whole) = &images[usize::try_from(flip / 40).unwrap()];
        let name = if flip % 2 == 0 { "tidegate.db" } else { "tidegate.db-wal" };
        let mut changed = image.clone();
        let bytes = changed.0.get_mut(name).unwrap();
        if bytes.is_empty() {
            continue;
        }
        let (at, bit) = (dice.roll(bytes.len()), dice.roll(8));
        bytes[at] ^= 1 << bit;
        let (folder, _disk) = put(&changed);
        let what = match look(&folder.path().join("tidegate.db")) {
            Err(who) => who.split(':').next().unwrap().to_owned(),
            Ok(content) if content == *whole => "harmless".to_owned(),
            Ok(content) if !whole.events.starts_with(&content.events) => {
                panic!("bit {bit} of byte {at} of {name}: a changed event is handed out")
            }
            Ok(content) if name.ends_with("-wal") && content.is_earlier(whole) => {
                "shorter, after the watermark".to_owned()
            }
            Ok(content) if content.differs_in_the_rest_alone(whole) => "beside all of this".to_owned(),
            Ok(_) => {
                missed.push(format!("bit {bit} of byte {at} of {name}"));
                "missed".to_owned()
            }
        };
        *counts.entry(format!("{name} {what}")).or_default() += 1;
    }
    println!("{flips} bits changed, from seed {}: {counts:#?}", seed());
    assert!(missed.is_empty(), "what was changed is handed out: {missed:?}");
}

/// Each column of an outcome, and the names in it.
#[tokio::test]
async fn a_changed_outcome_is_found() {
    let changes = [
        "UPDATE raw_outcomes SET fuel = fuel + 1",
        "UPDATE raw_outcomes SET call = call + 1",
        "UPDATE raw_outcomes SET reason = 'other'",
        "UPDATE raw_outcomes SET output = CAST('no' AS BLOB)",
        "UPDATE raw_outcomes SET published = published + 1",
        "UPDATE raw_outcomes SET sum = sum + 1",
        "UPDATE names SET text = 'mall' WHERE text = 'mail'",
    ];
    for change in changes {
        let rig = Rig::forgetful();
        let (log, _feed) = rig.open().unwrap();
        log.append(vec![event("1", "a.one"), event("there", "b.one")]).await.unwrap();
        let mut settlement = done(1, "mail");
        // One of them is there already, so the outcome is corrected.
        settlement.events = vec![event("there", "b.one"), event("new", "b.one")];
        settlement.record.output = Some(Payload { content_type: "text/plain".into(), data: "ok".into() });
        log.settle(vec![settlement]).await.unwrap();
        log.close().await.unwrap();
        drop(log);
        assert!(store::verify(&rig.path(), &mut |_| ControlFlow::Continue(())).is_ok());
        assert_eq!(rusqlite::Connection::open(rig.path()).unwrap().execute(change, []).unwrap(), 1);
        let found = store::verify(&rig.path(), &mut |_| ControlFlow::Continue(()));
        let Err(store::OpenError::RowChanged { row }) = &found else { panic!("{change}: {found:?}") };
        assert_eq!(row, "an outcome of event 1", "{change}");
    }
}

/// Rows that were written once, and rows that were changed in every way there is.
#[tokio::test]
async fn a_change_in_what_waits_is_dead_or_is_kept_is_found() {
    let changes = [
        ("UPDATE raw_waiting SET due_at = due_at + 1 WHERE seq = 1", "a waiting delivery of event 1"),
        ("UPDATE raw_waiting SET attempts = 0 WHERE seq = 1", "a waiting delivery of event 1"),
        ("UPDATE raw_waiting SET key = 'other' WHERE seq = 2", "a waiting delivery of event 2"),
        ("UPDATE raw_waiting SET priority = 0 WHERE seq = 5", "a waiting delivery of event 5"),
        ("UPDATE raw_waiting SET sum = sum + 1 WHERE seq = 4", "a waiting delivery of event 4"),
        ("UPDATE raw_dead_letters SET reason = 'other' WHERE seq = 3", "a dead letter of event 3"),
        ("UPDATE raw_dead_letters SET decided_at = 0 WHERE seq = 4", "a dead letter of event 4"),
        ("UPDATE raw_state SET value = CAST('2' AS BLOB)", "state of consumer mail"),
        ("UPDATE raw_state SET expires_at = 9", "state of consumer mail"),
        ("UPDATE raw_state SET key = 'other'", "state of consumer mail"),
    ];
    for (change, expected) in changes {
        let rig = Rig::forgetful();
        let (log, _feed) = rig.open().unwrap();
        let mut job = event("5", "a.one");
        job.job = Some(Job::to(consumer("mail")));
        log.append(["1", "2", "3", "4"].map(|id| event(id, "a.one")).into()).await.unwrap();
        log.append(vec![job, event("6", "a.one")]).await.unwrap();
        let retry = State::Pending { due_at: Timestamp(7) };
        log.settle(vec![settlement(delivery(1, "mail", 0), Outcome::Retry, retry)]).await.unwrap();
        for (key, blocked) in [(None, false), (Some("a".to_owned()), true)] {
            let (id, delivery, priority) = (delivery(2, "mail", 0), Delivery::new(Timestamp(7)), Priority::Normal);
            log.park(vec![Waiting { id, delivery, key, blocked, errand: false, priority }]).await.unwrap();
        }
        for seq in [3, 4] {
            let dead = settlement(delivery(seq, "mail", 0), Outcome::Reject, State::Dead);
            log.settle(vec![Settlement { death: Some(DeathCause::Rejected), ..dead }]).await.unwrap();
        }
        let second = DeadSelection { ids: vec![delivery(4, "mail", 0)], ..DeadSelection::default() };
        log.decide_dead(second, DeadDecision::Redrive).await.unwrap();
        let mut writes = done(6, "mail");
        writes.state_quota = 1_000;
        let value = StateWrite::Set { value: "1".into(), expires_at: None };
        writes.state.writes.insert("count".into(), value);
        log.settle(vec![writes]).await.unwrap();
        log.close().await.unwrap();
        drop(log);
        let before = store::verify(&rig.path(), &mut |_| ControlFlow::Continue(()));
        assert!(before.is_ok(), "{before:?}");
        assert_eq!(rusqlite::Connection::open(rig.path()).unwrap().execute(change, []).unwrap(), 1, "{change}");
        let found = store::verify(&rig.path(), &mut |_| ControlFlow::Continue(()));
        let Err(store::OpenError::RowChanged { row }) = &found else { panic!("{change}: {found:?}") };
        assert_eq!(row, expected, "{change}");
    }
}
