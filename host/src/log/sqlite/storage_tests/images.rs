//! Power cuts. A story is told on a disk that remembers what was synced; then, for many moments of it, the disk is put together as a
//! power cut could have left it, and the log must hold what it had answered by then.
//!
//! `TIDEGATE_IMAGES` (1,000) says how many in a run, `TIDEGATE_SEED` where it begins. A seed repeats the workload and the cuts; which
//! commands share a transaction is up to the threads, so `TIDEGATE_KEEP` keeps an image that breaks a promise.

use tidegate_vfs::{Act, Cut, Dice, Disk, Image, Op, Platter};

use super::super::tests::ManualClock;
use super::check::check;
use super::rig::RETENTION;
use super::story::{Answer, Story, Told, story};
use super::{number, seed};
use crate::clock::Clock as _;
use crate::log::sqlite::{OpenError, Options, SqliteLog};
use crate::planted::{Bug, Found, Suite, table};

const STEPS: usize = 40;
/// Of one story.
const IMAGES: u64 = 100;
const SECTORS: [Option<usize>; 3] = [Some(512), Some(4_096), None];

/// A broken promise, and how to see it again.
struct Seen {
    tries: u64,
    what: String,
}

/// Tries so many images, of as many stories as that takes. The first that breaks a promise.
fn hunt(seed: u64, images: u64) -> Result<Tried, Seen> {
    let mut tried = Tried::default();
    for number in 0..images.div_ceil(IMAGES) {
        let seed = seed + number;
        let story = story(seed, STEPS);
        let of_story = IMAGES.min(images - tried.images);
        tried.acknowledged += story.told.answers.len();
        one_story(&story, seed, of_story, &mut tried)
            .map_err(|what| Seen { tries: tried.images, what: format!("TIDEGATE_SEED={seed}: {what}") })?;
    }
    Ok(tried)
}

#[derive(Default)]
struct Tried {
    images: u64,
    /// Those for which something was in flight.
    in_flight: u64,
    acknowledged: usize,
}

fn one_story(story: &Story, seed: u64, images: u64, tried: &mut Tried) -> Result<(), String> {
    let mut dice = Dice::new(seed ^ 0xcafe);
    let mut cuts: Vec<Cut> = (0..images)
        .map(|_| Cut { at: moment(&story.record, &mut dice), sector: *dice.choose(&SECTORS), seed: dice.next_u64() })
        .collect();
    cuts.sort_by_key(|cut| cut.at);
    let mut platter = Platter::new(&story.record);
    for cut in cuts {
        platter.advance(cut.at);
        tried.images += 1;
        tried.in_flight += u64::from(platter.in_flight() > 0);
        one_image(&platter.image(&cut), &story.told, cut.at).map_err(|what| format!("{cut:?}: {what}"))?;
    }
    Ok(())
}

/// Anywhere, and often just before a sync is done, when most is in flight.
fn moment(record: &[Op], dice: &mut Dice) -> usize {
    let at = dice.roll(record.len() + 1);
    if dice.once_in(2) {
        return at;
    }
    let next = record[at..].iter().position(|op| op.act == Act::Sync);
    next.map_or(at, |next| at + next)
}

/// The image on a disk, opened and looked at.
fn one_image(image: &Image, told: &Told, at: usize) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    image.write_to(folder.path()).unwrap();
    if told.answered(at).any(|answer| matches!(answer, Answer::Opened)) {
        for name in ["tidegate.db", "tidegate.db.watermark"] {
            if !image.0.contains_key(name) {
                return Err(format!("{name} is not in its folder"));
            }
        }
    }
    // Nothing on it is really synced: it is looked at and thrown away.
    let _disk = Disk::forgetful(folder.path());
    let clock = ManualClock::new();
    clock.advance(told.time(at).since(clock.now()));
    let options = Options { retention: Some(RETENTION), ..Options::new(folder.path().join("tidegate.db"), clock) };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let checked = runtime.block_on(check(&options, told, at));
    if checked.is_err() && std::env::var_os("TIDEGATE_KEEP").is_some() {
        let kept = tempfile::tempdir().unwrap().keep();
        image.write_to(&kept).unwrap();
        println!("the image is in {}", kept.display());
    }
    checked
}

#[test]
fn no_power_cut_loses_or_doubles_anything() {
    let images = number("TIDEGATE_IMAGES", 1_000);
    let began = std::time::Instant::now();
    match hunt(seed(), images) {
        Ok(tried) => {
            let Tried { images, in_flight, acknowledged } = tried;
            println!(
                "{images} crash images from seed {}, {in_flight} with writes in flight, of stories with {acknowledged} answers, \
                 in {:.1?}: nothing lost, nothing twice, nothing half",
                seed(),
                began.elapsed()
            );
            assert!(in_flight > images / 2, "most images must have something to lose: {in_flight} of {images}");
        }
        Err(seen) => panic!("image {}: {}", seen.tries, seen.what),
    }
}

/// The same hunt finds what is planted.
#[test]
fn planted_bugs_are_found() {
    table(Suite::Images, |bug| {
        if bug == Bug::FsyncErrorIgnored {
            return super::faults::hunt_ignored_sync();
        }
        let seen = hunt(seed(), 2_000).err()?;
        Some(Found { tries: seen.tries, seen: seen.what })
    });
}

/// A disk that says that it has synced and has not: what is lost up to the watermark is noticed.
#[test]
fn a_disk_that_lies_is_found_out() {
    let (mut refused, mut whole) = (0, 0);
    for seed in seed()..seed() + 5 {
        let story = story(seed, STEPS);
        let mut dice = Dice::new(seed);
        for _ in 0..10 {
            // From here on nothing that SQLite wrote has reached the disk.
            let lie = dice.roll(story.record.len());
            let kept = |(at, op): &(usize, &Op)| *at < lie || op.file.ends_with(".watermark");
            let record: Vec<Op> = story.record.iter().enumerate().filter(kept).map(|(_, op)| op.clone()).collect();
            let mut platter = Platter::new(&record);
            platter.advance(record.len());
            let folder = tempfile::tempdir().unwrap();
            platter.image(&Cut { at: record.len(), sector: None, seed }).write_to(folder.path()).unwrap();
            let path = folder.path().join("tidegate.db");
            let _disk = Disk::forgetful(folder.path());
            let marked = crate::store::watermark::read(&path).unwrap().first().map_or(0, |mark| mark.head.seq);
            match SqliteLog::open(Options::new(&path, ManualClock::new())) {
                Ok((log, _feed)) => {
                    assert!(
                        log.head() >= marked,
                        "a log that ends at {} is served, and had come to {marked}",
                        log.head()
                    );
                    whole += 1;
                }
                Err(OpenError::Damaged { first_missing, .. }) => {
                    assert!(first_missing <= marked, "event {first_missing} is missing, and the mark is {marked}");
                    refused += 1;
                }
                // What is left is no database at all.
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 10 && whole > 0, "{refused} refused, {whole} whole");
}
