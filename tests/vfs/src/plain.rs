//! Files that are written without SQLite. Each function is called *instead of* what it is named after where the code under test
//! has its seam, and says whether it has done it: none, if no disk is attached there.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{self, Act, Kind};

/// A file was created.
pub fn created(path: &Path) {
    if let Some((disk, name)) = disk::of(path) {
        disk.call(Kind::Open, &name, |_| (0, vec![Act::Create]));
    }
}

/// Writes all of it.
pub fn write_all_at(path: &Path, file: &File, bytes: &[u8], offset: u64) -> Option<io::Result<()>> {
    let (disk, name) = disk::of(path)?;
    let mut result = Ok(());
    let code = disk.call(Kind::Write, &name, |fault| {
        if fault.is_some() {
            return (0, Vec::new());
        }
        result = file.write_all_at(bytes, offset);
        (0, if result.is_ok() { vec![Act::Write { offset, bytes: Arc::from(bytes) }] } else { Vec::new() })
    });
    Some(result.and(answer(code)))
}

pub fn sync(path: &Path) -> Option<io::Result<()>> {
    let (disk, name) = disk::of(path)?;
    let code = disk.call(Kind::Sync, &name, |fault| (0, if fault.is_some() { Vec::new() } else { vec![Act::Sync] }));
    Some(answer(code))
}

/// Of the folder that the file is in.
pub fn sync_folder(of: &Path) -> Option<io::Result<()>> {
    let (disk, name) = disk::of(of)?;
    let act = |fault: Option<&disk::Fault>| (0, if fault.is_some() { Vec::new() } else { vec![Act::SyncFolder] });
    Some(answer(disk.call(Kind::Sync, &name, act)))
}

fn answer(code: c_int) -> io::Result<()> {
    match code {
        0 => Ok(()),
        disk::code::FULL => Err(io::ErrorKind::StorageFull.into()),
        code => Err(io::Error::other(format!("the disk failed ({code})"))),
    }
}
