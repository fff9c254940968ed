//! Files beside the database that are written without SQLite. Few lines, so that tests can put a disk under them that records,
//! forgets and fails: a database and what stands beside it must be consistent after a power cut.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(super) struct Plain {
    path: PathBuf,
    file: File,
}

impl Plain {
    /// A new file; an error of kind `AlreadyExists` if there is one.
    pub(super) fn create(path: PathBuf, mode: u32) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(&path)?;
        #[cfg(test)]
        tidegate_vfs::plain::created(&path);
        Ok(Self { path, file })
    }

    pub(super) fn open_or_create(path: PathBuf, mode: u32) -> io::Result<Self> {
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Self::create(path, mode),
            Err(e) => Err(e),
        }
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub(super) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        if let Some(done) = tidegate_vfs::plain::write_all_at(&self.path, &self.file, bytes, offset) {
            return done;
        }
        self.file.write_all_at(bytes, offset)
    }

    /// What was written is durable; the file's name is only with [`Plain::sync_directory`].
    pub(super) fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        if let Some(done) = tidegate_vfs::plain::sync(&self.path) {
            return done;
        }
        self.file.sync_data()
    }

    pub(super) fn sync_directory(&self) -> io::Result<()> {
        sync_directory(&self.path)
    }
}

/// Makes names in the directory of a file durable.
pub(super) fn sync_directory(of: &Path) -> io::Result<()> {
    if crate::planted::is(crate::planted::Bug::NoDirectorySync) {
        return Ok(());
    }
    #[cfg(test)]
    if let Some(done) = tidegate_vfs::plain::sync_folder(of) {
        return done;
    }
    of.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}
