//! Copies of a database, made while it is in use and read back before they count.
//!
//! One read transaction lasts for the whole copy, so the writer goes on and the copy is the database of one moment; until it
//! ends, the write-ahead log only grows. The copy gets its name when all of it is on disk and has been read back.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use crate::model::Timestamp;
use crate::model::record::ContentRecord;

use super::chain::Head;
use super::file::{Lock, LockInfo, beside, real_path};
use super::plain::sync_directory;
use super::verify::{self, Progress};
use super::watermark::Watermark;
use super::{APPLICATION_ID, Error, OpenError, connect};

/// Pages (of 4 KiB) that are copied between two looks at whether to go on.
const STEP_PAGES: i32 = 256;
/// Steps after which what is copied is carried to the disk, so that the writer's own sync never waits behind much of it.
const SYNC_STEPS: u32 = 16;
/// Where SQLite's header has the application's number.
const APPLICATION_AT: usize = 68;

/// Why there is no copy. Nothing is left behind, and what was there before is untouched.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("{} exists; name another file, or replace it with --force", path.display())]
    Exists { path: PathBuf },
    #[error("{} exists and is not a copy of a Tidegate database; it is not replaced: name another file", path.display())]
    NotACopy { path: PathBuf },
    #[error("{} is the database itself, or a file that belongs to it; name another file", path.display())]
    Itself { path: PathBuf },
    #[error("{} is there already; move it, and every file whose name begins like its, out of the way first", path.display())]
    Occupied { path: PathBuf },
    #[error("{} is in use by a host (process {pid}); name another file", path.display())]
    InUse { path: PathBuf, pid: u32 },
    #[error("there is no folder {}; make it, or name a file elsewhere", path.display())]
    NoFolder { path: PathBuf },
    #[error("{} is not the name of a file", path.display())]
    NotAName { path: PathBuf },
    #[error("the copy could not be read back, and was taken away: {0}")]
    NotWhole(OpenError),
    #[error("the copy ends at event {found} and not at event {expected}, and was taken away")]
    AnotherEnd { expected: u64, found: u64 },
    #[error("{0}")]
    Source(#[from] OpenError),
    #[error("the copy was stopped before it was whole, and was taken away")]
    Cancelled,
    #[error("{} cannot be written: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
}

impl From<rusqlite::Error> for CopyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Source(error.into())
    }
}

/// Says how far it is, and is told whether to go on.
pub type Tell<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// Copies the database `source` to `target` and reads the copy back; a watermark is written beside it, so that a host can start
/// on it. `replace` lets it take the place of an earlier copy.
pub fn copy(source: &Path, target: &Path, replace: bool, tell: Tell<'_>) -> Result<ContentRecord, CopyError> {
    let target = place(source, target, replace)?;
    let partial = Partial::new(&target)?;
    let expected = copy_pages(source, &partial.path, tell)?;
    let checked = read_back(&partial.path, tell)?;
    if checked.head != expected {
        return Err(CopyError::AnotherEnd { expected: expected.seq, found: checked.head.seq });
    }
    let write = |source| CopyError::Write { path: target.clone(), source };
    let mut mark = Watermark::open(&partial.path, checked.database_id).map_err(write)?;
    // Into both slots: an older copy's must not be found beside this one.
    mark.write(expected).and_then(|()| mark.write(expected)).map_err(write)?;
    // Until the second name is there, the new copy stands beside the mark of an older one, which it passes as well.
    fs::rename(&partial.path, &target).map_err(write)?;
    fs::rename(beside(&partial.path, ".watermark"), beside(&target, ".watermark")).map_err(write)?;
    sync_directory(&target).map_err(write)?;
    Ok(ContentRecord { path: target.display().to_string(), ..checked.content })
}

/// Puts a copy where a database is to be, while nobody else can. Refuses a place where there is something already.
pub fn restore(from: &Path, database: &Path, now: Timestamp, tell: Tell<'_>) -> Result<ContentRecord, CopyError> {
    let path = real_path(database)?;
    let info = LockInfo { pid: std::process::id(), since: now, listen: None };
    let _lock = Lock::take(&path, &info)?;
    let left = ["", "-wal", "-shm", "-journal"].map(|suffix| beside(&path, suffix));
    if let Some(path) = left.into_iter().find(|path| path.exists()) {
        return Err(CopyError::Occupied { path });
    }
    copy(from, &path, false, tell)
}

/// Where the copy goes: an absolute path in a folder that is there.
fn place(source: &Path, target: &Path, replace: bool) -> Result<PathBuf, CopyError> {
    let not_a_name = || CopyError::NotAName { path: target.to_owned() };
    let target = std::path::absolute(target).map_err(|_| not_a_name())?;
    let (folder, name) = (target.parent().ok_or_else(not_a_name)?, target.file_name().ok_or_else(not_a_name)?);
    let folder = fs::canonicalize(folder).map_err(|_| CopyError::NoFolder { path: folder.to_owned() })?;
    let path = folder.join(name);
    let source = fs::canonicalize(source).unwrap_or_else(|_| source.to_owned());
    let suffixes = ["", "-wal", "-shm", "-journal", ".lock", ".watermark"];
    if suffixes.iter().any(|suffix| beside(&source, suffix) == path) {
        return Err(CopyError::Itself { path });
    }
    let Ok(found) = fs::symlink_metadata(&path) else { return Ok(path) };
    if !found.is_file() || !is_ours(&path) {
        return Err(CopyError::NotACopy { path });
    }
    if !replace {
        return Err(CopyError::Exists { path });
    }
    match Lock::holder(&path) {
        Ok(Some(LockInfo { pid, .. })) => Err(CopyError::InUse { path, pid }),
        _ => Ok(path),
    }
}

/// By its header: a database of ours, or an empty file.
fn is_ours(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(100).read_to_end(&mut head));
    let application = head.get(APPLICATION_AT..APPLICATION_AT + 4);
    read.is_ok()
        && (head.is_empty()
            || head.starts_with(b"SQLite format 3\0") && application == Some(&APPLICATION_ID.to_be_bytes()[..]))
}

/// The copy under the name that it has until it is whole; taken away if it never is.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn new(target: &Path) -> Result<Self, CopyError> {
        let path = beside(target, &format!(".partial-{}", std::process::id()));
        let partial = Self { path };
        // What a process of this number left when it was killed.
        partial.remove();
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial.path);
        match created {
            Ok(_) => Ok(partial),
            Err(source) => Err(CopyError::Write { path: target.to_owned(), source }),
        }
    }

    fn remove(&self) {
        for suffix in ["", ".watermark", "-journal", "-wal", "-shm"] {
            let _absent = fs::remove_file(beside(&self.path, suffix)).is_err();
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Copies every page as of one moment; answers where the log ended then.
fn copy_pages(source: &Path, to: &Path, tell: Tell<'_>) -> Result<Head, CopyError> {
    let from = connect::reader(source).map_err(OpenError::from)?;
    super::migrate::inspect(&from, source)?;
    // The transaction begins with its first reading, and holds for every step below.
    let moment = from.unchecked_transaction()?;
    let head = verify::end(&moment).map_err(OpenError::from)?;
    let write = |source| CopyError::Write { path: to.to_owned(), source };
    let file = OpenOptions::new().write(true).open(to).map_err(write)?;
    {
        let flags =
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let mut copy = Connection::open_with_flags(to, flags)?;
        // A half copy is thrown away, so it needs no journal, and it is synced as a whole.
        connect::run(&copy, "PRAGMA journal_mode = OFF")?;
        connect::run(&copy, "PRAGMA synchronous = OFF")?;
        let backup = Backup::new(&from, &mut copy)?;
        let mut steps = 0_u32;
        loop {
            let step = backup.step(STEP_PAGES).map_err(|e| written(e, to))?;
            let progress = backup.progress();
            let of = u64::try_from(progress.pagecount).unwrap_or(0);
            let left = u64::try_from(progress.remaining).unwrap_or(0);
            if tell(Progress::Copying { pages: of.saturating_sub(left), of }).is_break() {
                return Err(CopyError::Cancelled);
            }
            match step {
                StepResult::Done => break,
                StepResult::More => {}
                // Another process has the file to itself for a moment.
                _ => std::thread::yield_now(),
            }
            steps += 1;
            if steps.is_multiple_of(SYNC_STEPS) {
                file.sync_data().map_err(write)?;
            }
        }
    }
    file.sync_all().map_err(write)?;
    // Read back from the disk, as far as the system lets us.
    #[cfg(target_os = "linux")]
    let _kept = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).is_err();
    drop(moment);
    Ok(head)
}

/// A full disk is the target's, and everything else the source's.
fn written(error: rusqlite::Error, to: &Path) -> CopyError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => {
            CopyError::Write { path: to.to_owned(), source: std::io::ErrorKind::StorageFull.into() }
        }
        _ => error.into(),
    }
}

fn read_back(path: &Path, tell: Tell<'_>) -> Result<verify::Checked, CopyError> {
    let conn = immutable(path)?;
    verify::thorough(&conn, path, &[], tell).map_err(|error| match error {
        OpenError::Store(Error::Cancelled) => CopyError::Cancelled,
        error => CopyError::NotWhole(error),
    })
}

/// A file that nobody writes: SQLite then needs no files beside it.
fn immutable(path: &Path) -> Result<Connection, CopyError> {
    let mut uri = String::from("file:");
    for byte in std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()) {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let conn = Connection::open_with_flags(uri, flags)?;
    connect::harden(&conn)?;
    Ok(conn)
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
