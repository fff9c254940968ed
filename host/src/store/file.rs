//! The files around a database: where it really is, whether it can be trusted there, and who holds it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

use super::OpenError;
use super::plain::{Plain, sync_directory};

/// Symbolic links followed for one path, at most.
const LINKS_MAX: usize = 40;
/// Readable by its owner alone: payloads are nobody else's business.
pub(super) const MODE: u32 = 0o600;

/// `path` with `suffix` appended to its file name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Where the file is or will be, absolute and with every symbolic link resolved, so that one database has one lock
/// however it was named. Makes the directory if it is missing. Refuses what SQLite would take for a URI.
pub fn real_path(path: &Path) -> Result<PathBuf, OpenError> {
    let text = path.to_string_lossy();
    if text.get(..5).is_some_and(|head| head.eq_ignore_ascii_case("file:")) {
        return Err(OpenError::Uri { path: text.into_owned() });
    }
    let mut path = std::path::absolute(path)?;
    for _ in 0..LINKS_MAX {
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                let target = fs::read_link(&path)?;
                path = path.parent().map_or_else(|| target.clone(), |parent| parent.join(&target));
            }
            Ok(found) if found.is_file() => return Ok(fs::canonicalize(&path)?),
            Ok(_) => return Err(OpenError::NotAFile { path }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return future_path(&path),
            Err(e) => return Err(e.into()),
        }
    }
    Err(OpenError::NotAFile { path })
}

fn future_path(path: &Path) -> Result<PathBuf, OpenError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(OpenError::NotAFile { path: path.to_owned() });
    };
    fs::create_dir_all(parent).map_err(|e| OpenError::ReadOnly { path: parent.to_owned(), detail: e.to_string() })?;
    Ok(fs::canonicalize(parent)?.join(name))
}

/// Creates an empty database file if there is none, so that it gets its mode from us. SQLite is not looking yet: the
/// lock is ours.
pub(super) fn create_if_missing(path: &Path) -> std::io::Result<()> {
    match Plain::create(path.to_owned(), MODE) {
        Ok(file) => {
            file.sync()?;
            file.sync_directory()
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
}

/// Write-ahead logs need memory that is shared by all who use the file, and locks that hold.
#[cfg(target_os = "linux")]
pub(super) fn check_file_system(path: &Path) -> Result<(), OpenError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let found = rustix::fs::statfs(parent).map_err(std::io::Error::from)?;
    match network_kind(u64::try_from(found.f_type).unwrap_or(0)) {
        Some(kind) => Err(OpenError::NetworkFs { path: path.to_owned(), kind }),
        None => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn check_file_system(_path: &Path) -> Result<(), OpenError> {
    Ok(())
}

/// By the magic numbers of statfs(2).
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "the numbers are Linux's"))]
pub(super) fn network_kind(magic: u64) -> Option<&'static str> {
    match magic & 0xffff_ffff {
        0x6969 => Some("nfs"),
        0xff53_4d42 => Some("cifs"),
        0xfe53_4d42 => Some("smb2"),
        0x517b => Some("smb"),
        0x6573_5546 => Some("fuse"),
        0x0102_1997 => Some("9p"),
        0x5346_414f => Some("afs"),
        0x00c3_6400 => Some("ceph"),
        0x0bd0_0bd0 => Some("lustre"),
        _ => None,
    }
}

/// What the lock file says about its holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockInfo {
    pub pid: u32,
    pub since: Timestamp,
    /// Where its HTTP API listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
}

/// The right to write a database, held for life. The lock is the kernel's, so it ends with the process.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// `database` is a real path.
    pub fn take(database: &Path, info: &LockInfo) -> Result<Self, OpenError> {
        let path = beside(database, ".lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .custom_flags(nofollow())
            .open(&path)
            .map_err(|e| OpenError::ReadOnly { path: path.clone(), detail: e.to_string() })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(database, &file)),
            Err(TryLockError::Error(e)) => return Err(e.into()),
        }
        let mut lock = Self { file };
        lock.write(info)?;
        sync_directory(&path)?;
        Ok(lock)
    }

    /// Says anew who holds it.
    pub fn write(&mut self, info: &LockInfo) -> std::io::Result<()> {
        let text = serde_json::to_vec(info)?;
        self.file.rewind()?;
        self.file.set_len(0)?;
        self.file.write_all(&text)
    }

    /// Who holds the database; none, if nobody does.
    pub fn holder(database: &Path) -> std::io::Result<Option<LockInfo>> {
        let file = match File::open(beside(database, ".lock")) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(read_info(&file).unwrap_or_else(unknown))),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }
}

pub(super) fn nofollow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0)
}

fn unknown() -> LockInfo {
    LockInfo { pid: 0, since: Timestamp(0), listen: None }
}

fn read_info(mut file: &File) -> Option<LockInfo> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(4_096).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Whether the process that is said to hold a database was killed and still has threads that end.
pub fn is_dying(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| is_of_the_dying(&stat))
}

/// Whether a process is on its way out, by its line in `/proc/PID/stat` (proc_pid_stat(5)): a zombie whose threads may still end, or
/// one with the flag `PF_EXITING`.
fn is_of_the_dying(stat: &str) -> bool {
    const EXITING: u64 = 0x4;
    // The name before it may have any characters in it.
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let mut fields = rest.split_whitespace();
    let state = fields.next();
    // Behind the parent, the group, the session, the terminal and its group.
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u64>().ok());
    matches!(state, Some("Z" | "X")) || flags.is_some_and(|flags| flags & EXITING != 0)
}

fn in_use(database: &Path, file: &File) -> OpenError {
    let LockInfo { pid, since, listen } = read_info(file).unwrap_or_else(unknown);
    OpenError::InUse { path: database.to_owned(), pid, since, listen }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dying_are_known_by_their_state_or_their_flag() {
        // As Linux 6.18 shows a host that sleeps, one whose leader is gone, and one on its way out; a name may have anything in it.
        let sleeps = "8963 (tidegate) S 8900 8963 8900 0 -1 4194304 5121 0 0 0 12 9 0 0 20 0 9 0 1234";
        let gone = "8963 (tidegate) Z 8900 8963 8900 0 -1 4194560 5121 0 0 0 12 9 0 0 20 0 9 0 1234";
        let leaving = "8963 (a) Z (b) R 8900 8963 8900 0 -1 4194308 5121 0 0 0 12 9 0 0 20 0 9 0 1234";
        assert_eq!([sleeps, gone, leaving, "", "8963 (x) S"].map(is_of_the_dying), [false, true, true, false, false]);
        let own = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        assert!(!is_of_the_dying(&own), "{own}");
    }
}
