//! Room that is kept for the day on which the disk is full: a file beside the database whose blocks are really allocated. Given back, it
//! lets what attempts came to be written, retention do its work and a host start.
//!
//! It is never in the way: it takes a small share of the disk at most, is made only where as much again is free, and where it cannot
//! be made there is none.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::file::{MODE, beside, nofollow};

/// Of the whole file system, one part in so many at most.
const SHARE: u64 = 16;
/// Whole pieces of this size; a disk of which the share is less has none.
const PIECE: u64 = 1 << 20;
/// The unit of what the file system says that a file takes.
const BLOCK: u64 = 512;

/// Of the file system that the database is on, in bytes.
#[derive(Clone, Copy, Debug)]
struct Space {
    total: u64,
    free: u64,
}

#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
    /// As large as it should be; 0: there should be none.
    wanted: u64,
    held: u64,
}

impl Ballast {
    /// Of `wanted` bytes, or as many as fit this disk; makes it if there is room, or keeps what the last host has left of it.
    /// `database` is a real path, and its lock is held.
    pub fn new(database: &Path, wanted: u64) -> Self {
        let mut ballast = Self::found(database);
        match space(database) {
            Ok(space) => ballast.wanted = share(wanted, space.total),
            Err(error) => tracing::warn!(%error, "nobody knows how large the disk is, so no room is kept on it"),
        }
        if ballast.wanted < wanted {
            let disk = database.display();
            let (kept, unit) =
                if ballast.wanted < 1 << 20 { (ballast.wanted >> 10, "KiB") } else { (ballast.wanted >> 20, "MiB") };
            tracing::info!("the disk of {disk} is small: {kept} {unit} are kept for when it is full");
        }
        if ballast.held != ballast.wanted && !ballast.restore() && ballast.wanted > 0 {
            tracing::warn!(file = %ballast.path.display(), "the disk has no room for the ballast file");
        }
        ballast
    }

    /// What a last host has left may be what keeps this one from starting. Whether there was anything.
    pub fn drop_left(database: &Path) -> bool {
        Self::found(database).release()
    }

    /// Bytes that are kept.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Whether it should be there and is not.
    pub fn is_missing(&self) -> bool {
        self.held < self.wanted
    }

    /// Gives the room back. Whether there was any.
    pub fn release(&mut self) -> bool {
        let released = self.held > 0 && self.remove();
        if released {
            self.held = 0;
        }
        released
    }

    /// Makes it as it should be, if there is room for that and for as much again: else it would be needed at once. Whether it is so now.
    pub fn restore(&mut self) -> bool {
        if self.wanted == 0 {
            self.held = if self.remove() { 0 } else { self.held };
            return true;
        }
        let free = space(&self.path).map_or(0, |space| space.free.saturating_add(self.held));
        if free / 2 < self.wanted {
            return false;
        }
        match allocate(&self.path, self.wanted) {
            Ok(()) => self.held = self.wanted,
            Err(error) => {
                self.remove();
                self.held = 0;
                if !matches!(Errno::from_io_error(&error), Some(Errno::NOSPC | Errno::DQUOT)) {
                    tracing::warn!(%error, file = %self.path.display(), "no room can be kept for when the disk is full");
                    self.wanted = 0;
                }
            }
        }
        self.held == self.wanted
    }

    /// What a host has left, as far as it is allocated.
    fn found(database: &Path) -> Self {
        let path = beside(database, ".ballast");
        let found = fs::symlink_metadata(&path).ok().filter(|found| found.is_file());
        let held = found.map_or(0, |found| found.len().min(found.blocks().saturating_mul(BLOCK)));
        Self { path, wanted: 0, held }
    }

    fn remove(&self) -> bool {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| !found.is_file()) {
            // Nobody of us has put that there.
            return false;
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, file = %self.path.display(), "the ballast file cannot be removed");
                false
            }
            _ => true,
        }
    }
}

fn share(wanted: u64, total: u64) -> u64 {
    let most = wanted.min(total / SHARE);
    most - most % PIECE
}

/// `at`: a file there or to come.
fn space(at: &Path) -> io::Result<Space> {
    let found = rustix::fs::statvfs(at.parent().unwrap_or(at))?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Space { total: bytes(found.f_blocks), free: bytes(found.f_bavail) })
}

fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).custom_flags(nofollow()).open(path)?;
    file.set_len(bytes)?;
    Ok(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn it_is_a_small_share_of_a_small_disk() {
        assert_eq!(share(64 * MIB, 1 << 40), 64 * MIB);
        assert_eq!(share(64 * MIB, 1 << 30), 64 * MIB);
        assert_eq!(share(64 * MIB, 512 * MIB), 32 * MIB);
        assert_eq!(share(64 * MIB, 40 * MIB), 2 * MIB, "whole pieces");
        assert_eq!(share(64 * MIB, 10 * MIB), 0);
        assert_eq!(share(0, 1 << 40), 0);
    }

    #[test]
    fn it_is_allocated_given_back_and_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("x.db");
        let file = folder.path().join("x.db.ballast");
        let blocks = || fs::metadata(&file).map(|found| (found.len(), found.blocks() * BLOCK));
        let mut ballast = Ballast::new(&database, 2 * MIB);
        assert_eq!((ballast.held(), ballast.is_missing()), (2 * MIB, false));
        let (bytes, allocated) = blocks().unwrap();
        assert!(bytes == 2 * MIB && allocated >= bytes, "{allocated} of {bytes} bytes are allocated");
        assert!(ballast.release() && ballast.is_missing() && !ballast.release());
        assert!(blocks().is_err());
        assert!(ballast.restore() && blocks().is_ok());

        assert_eq!(Ballast::new(&database, 3 * MIB).held(), 3 * MIB, "another size");
        assert_eq!(blocks().unwrap().0, 3 * MIB);
        assert_eq!(Ballast::new(&database, MIB).held(), MIB);
        assert_eq!(blocks().unwrap().0, MIB);
        assert_eq!(Ballast::new(&database, 0).held(), 0);
        assert!(blocks().is_err(), "nobody wants it any more");
    }

    /// Somebody else's file must not be written to, and is no reason not to run.
    #[test]
    fn where_it_cannot_be_made_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let precious = folder.path().join("precious");
        fs::write(&precious, "text").unwrap();
        std::os::unix::fs::symlink(&precious, folder.path().join("x.db.ballast")).unwrap();
        let ballast = Ballast::new(&folder.path().join("x.db"), 2 * MIB);
        assert_eq!((ballast.held(), ballast.is_missing()), (0, false), "it is not tried again");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "text");
    }
}
