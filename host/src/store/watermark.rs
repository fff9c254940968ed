//! How far the log had come, in a file beside the database. The database alone cannot tell that its end was cut off,
//! or that an older copy was put in its place.
//!
//! Two slots, written in turn, each with a checksum: a torn write leaves the other one. Always written after the
//! commit, never before, so that the log reaches its watermark unless something is lost.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::chain::Head;
use super::file::{MODE, beside};
use super::plain::Plain;

const MAGIC: [u8; 8] = *b"TIDEWM01";
/// Apart, so that one damaged sector does not take both.
const SLOT_BYTES: u64 = 4_096;
const RECORD_BYTES: usize = 104;

/// One slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub database_id: [u8; 16],
    pub head: Head,
    /// Counts writes; the higher one is the newer.
    count: u64,
}

#[derive(Debug)]
pub struct Watermark {
    file: Plain,
    database_id: [u8; 16],
    count: u64,
}

/// The valid slots, newest first.
pub fn read(database: &Path) -> std::io::Result<Vec<Mark>> {
    let file = match File::open(beside(database, ".watermark")) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut marks: Vec<Mark> = (0..2).filter_map(|slot| read_slot(&file, slot)).collect();
    marks.sort_by_key(|mark| std::cmp::Reverse(mark.count));
    Ok(marks)
}

fn read_slot(file: &File, slot: u64) -> Option<Mark> {
    let mut record = [0; RECORD_BYTES];
    file.read_exact_at(&mut record, slot * SLOT_BYTES).ok()?;
    let (body, check) = record.split_last_chunk::<32>()?;
    if *check != <[u8; 32]>::from(Sha256::digest(body)) {
        return None;
    }
    let (magic, rest) = body.split_first_chunk::<8>()?;
    let (database_id, rest) = rest.split_first_chunk::<16>()?;
    let (seq, rest) = rest.split_first_chunk::<8>()?;
    let (count, hash) = rest.split_first_chunk::<8>()?;
    let head = Head { seq: u64::from_le_bytes(*seq), hash: hash.try_into().ok()? };
    (*magic == MAGIC).then_some(Mark { database_id: *database_id, head, count: u64::from_le_bytes(*count) })
}

impl Watermark {
    /// Goes on where the file stands.
    pub fn open(database: &Path, database_id: [u8; 16]) -> std::io::Result<Self> {
        let count = read(database)?.first().map_or(0, |mark| mark.count);
        let path = beside(database, ".watermark");
        let file = Plain::open_or_create(path, MODE)?;
        // Full size from the start: later writes need no space, so a full disk cannot stop them.
        if file.len()? < 2 * SLOT_BYTES {
            file.write_all_at(&[0; 2 * SLOT_BYTES as usize], 0)?;
            file.sync()?;
            file.sync_directory()?;
        }
        Ok(Self { file, database_id, count })
    }

    /// Durable when it returns. What cannot be written leaves the other slot as it is, also when it is tried again.
    pub fn write(&mut self, head: Head) -> std::io::Result<()> {
        let count = self.count + 1;
        let mut record = Vec::with_capacity(RECORD_BYTES);
        record.extend(MAGIC);
        record.extend(self.database_id);
        record.extend(head.seq.to_le_bytes());
        record.extend(count.to_le_bytes());
        record.extend(head.hash);
        let check = Sha256::digest(&record);
        record.extend(check);
        self.file.write_all_at(&record, (count % 2) * SLOT_BYTES)?;
        self.file.sync()?;
        self.count = count;
        Ok(())
    }
}
