//! The k-th write fails, the k-th sync fails, for every k. `TIDEGATE_FAULTS` (300) is the last k.
//!
//! After a sync that failed nothing is known: nothing more is acknowledged or written, and the log says that it has failed. A write
//! that failed is undone, and the log goes on when there is space again. In both cases what was acknowledged is there after a
//! restart, whether or not what was not synced has survived.

use tidegate_vfs::{Act, Cut, Failed, Fault, Kind, Op, Platter, code};

use super::check::check;
use super::rig::Rig;
use super::story::Teller;
use super::{number, seed};
use crate::log::Error;
use crate::planted::Found;

/// The thread that commits.
const WRITER: &str = "log-writer";
/// Steps that a story goes on for after the fault.
const STEPS_AFTER: usize = 3;
/// Without a fault by then, there are not so many calls.
const STEPS_MAX: usize = 400;

fn last() -> u64 {
    number("TIDEGATE_FAULTS", 300)
}

/// How a story with a fault ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The log could not be opened, and could at the second try.
    NotOpened,
    Failed,
    WentOn,
}

/// Tells a story with a fault in it, and looks at what is left.
fn with_fault(fault: Fault, seed: u64) -> Result<Ended, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut teller = Teller::new(Rig::recording(), seed);
        teller.rig.impatient = true;
        teller.reopens = false;
        teller.rig.disk.fail(fault);
        let mut ended = Ended::WentOn;
        if teller.begin().is_err() {
            ended = Ended::NotOpened;
            teller.rig.disk.heal();
            teller.begin().map_err(|error| format!("it does not open after the fault: {error}"))?;
        }
        teller.rig.hold();
        let failed = tell(&mut teller).await?;
        if failed || (ended == Ended::WentOn && beside(&mut teller, &fault).await) {
            ended = Ended::Failed;
            silent(&mut teller).await?;
        }
        teller.crash();
        teller.rig.disk.heal();
        left(&teller, fault.nth).await?;
        if ended == Ended::WentOn && fault.kind == Kind::Sync {
            println!("it went on: {fault:?} {:?}", teller.rig.disk.failed());
        }
        Ok(ended)
    })
}

/// Goes on until some steps after the fault. True: the log has failed.
async fn tell(teller: &mut Teller) -> Result<bool, String> {
    let mut after = 0;
    let mut deployed = false;
    for _ in 0..STEPS_MAX {
        let done = if deployed { teller.step().await } else { teller.deploy().await };
        deployed |= done.is_ok();
        match done {
            Ok(()) | Err(Error::Full | Error::Busy) => {}
            Err(Error::Failed(_)) => return Ok(true),
            Err(error) => return Err(format!("{error}")),
        }
        after += usize::from(teller.rig.disk.failed().is_some());
        if after > STEPS_AFTER {
            return Ok(false);
        }
    }
    Err("there was no such call".into())
}

/// The watermark has a thread of its own, so the log may learn late that it cannot be written. For want of space it is tried again.
async fn beside(teller: &mut Teller, fault: &Fault) -> bool {
    let beside =
        teller.rig.disk.failed().is_some_and(|failed| failed.thread != WRITER && failed.thread.starts_with("log-"));
    beside && fault.kind == Kind::Sync && fault.code != code::FULL && teller.failed().await
}

/// A log that has failed says so, for good, and has neither acknowledged nor written anything since.
async fn silent(teller: &mut Teller) -> Result<(), String> {
    if !teller.failed().await {
        return Err("the log is gone without a word".into());
    }
    match teller.feed().await {
        Err(Error::Failed(_)) => {}
        answer => return Err(format!("a log that has failed answers {answer:?}")),
    }
    let Failed { at, file, thread } = teller.rig.disk.failed().ok_or("it failed without a fault")?;
    // What others write leaves no commit unknown: those that were under way may still be told.
    if thread != WRITER {
        return Ok(());
    }
    if let Some((_, answer)) = teller.told().answers.iter().find(|(place, _)| *place > at) {
        return Err(format!("after a failed call on {file} it was answered {answer:?}"));
    }
    // What was committed before may still be marked.
    let written = |op: &&Op| !op.file.ends_with(".watermark") && matches!(op.act, Act::Write { .. } | Act::Truncate(_));
    match teller.rig.disk.record()[at..].iter().find(written) {
        Some(op) => Err(format!("after a failed call on {file}, {} was written to", op.file)),
        None => Ok(()),
    }
}

/// What was acknowledged is there: as a process finds the files that follows, and as the next start after a power cut.
async fn left(teller: &Teller, seed: u64) -> Result<(), String> {
    let (record, told) = (teller.rig.disk.record(), teller.told());
    let mut platter = Platter::new(&record);
    platter.advance(record.len());
    check(&teller.rig.options(), &told, record.len()).await?;
    let mut after = Rig::forgetful();
    let cut = Cut { at: record.len(), sector: Some(512), seed };
    platter.image(&cut).write_to(after.folder()).unwrap();
    after.advance(told.time(record.len()).since(after.now()));
    check(&after.options(), &told, record.len()).await.map_err(|what| format!("{cut:?}: {what}"))
}

/// Every k; how often the log ended how.
fn every(fault: impl Fn(u64) -> Fault) -> [usize; 3] {
    let mut counts = [0; 3];
    for nth in 1..=last() {
        match with_fault(fault(nth), seed() + nth) {
            Ok(ended) => counts[ended as usize] += 1,
            Err(what) => panic!("TIDEGATE_SEED={}, {:?}: {what}", seed(), fault(nth)),
        }
    }
    counts
}

#[test]
fn no_failed_sync_is_followed_by_an_acknowledgement() {
    let [not_opened, failed, went_on] = every(|nth| Fault::once(Kind::Sync, nth, code::SYNC));
    println!("failed syncs: {not_opened} at the start, {failed} later; the log went on after {went_on}");
    assert_eq!(went_on, 0, "a log that goes on after a failed sync");
    assert!(not_opened > 0 && failed > 100, "{not_opened} {failed}");
}

#[test]
fn no_failed_write_loses_anything() {
    let [not_opened, failed, went_on] =
        every(|nth| Fault { torn: nth % 2 == 0, ..Fault::once(Kind::Write, nth, code::WRITE) });
    println!("failed writes: {not_opened} at the start; the log failed after {failed} and went on after {went_on}");
    assert!(not_opened > 0 && went_on > 100, "{not_opened} {went_on}");
}

#[test]
fn a_disk_that_is_full_for_a_while_is_got_over() {
    let [not_opened, failed, went_on] =
        every(|nth| Fault { times: 10, torn: nth % 2 == 0, ..Fault::once(Kind::Write, nth, code::FULL) });
    println!("full disks: {not_opened} at the start; the log failed after {failed} and went on after {went_on}");
    assert!(not_opened > 0 && went_on > 100, "{not_opened} {went_on}");
}

#[test]
fn other_calls_may_fail_too() {
    let kinds = [
        (Kind::Open, code::CANNOT_OPEN, 12),
        (Kind::Truncate, code::TRUNCATE, 3),
        (Kind::Read, code::READ, 40),
        (Kind::Write, code::READ_ONLY, 40),
    ];
    for (kind, code, last) in kinds {
        for nth in 1..=last {
            if let Err(what) = with_fault(Fault::once(kind, nth, code), seed() + nth) {
                panic!("TIDEGATE_SEED={}, call {nth} of {kind:?} answers {code}: {what}", seed());
            }
        }
    }
}

/// With [`crate::planted::Bug::FsyncErrorIgnored`] planted.
pub(super) fn hunt_ignored_sync() -> Option<Found> {
    (1..=last()).find_map(|nth| match with_fault(Fault::once(Kind::Sync, nth, code::SYNC), seed() + nth) {
        Ok(Ended::WentOn) => Some(Found { tries: nth, seen: "the log goes on after a failed sync".into() }),
        Ok(_) => None,
        Err(seen) => Some(Found { tries: nth, seen }),
    })
}
