//! The shim between SQLite and its own file system. The only unsafe code of the tests: SQLite's interface is C.
//!
//! A file of the shim is a header, in which [`Known`] says which disk it is on, and behind it the file of the real file
//! system, to which every call is handed on.
#![expect(unsafe_code, reason = "SQLite's file system interface is C")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::{Arc, OnceLock};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_io_methods, sqlite3_vfs};

use crate::disk::{self, Act, Inner, Kind};

/// What the shim knows of a file on a disk.
struct Known {
    disk: Arc<Inner>,
    name: Arc<str>,
    /// A journal or write-ahead log that is new: SQLite syncs the folder with its first sync.
    new_journal: bool,
}

/// What SQLite has of an open file; the real file follows it in memory.
#[repr(C)]
struct Header {
    methods: *const sqlite3_io_methods,
    known: *mut Known,
}

const HEADER: usize = size_of::<Header>().next_multiple_of(16);

/// Written once, before SQLite can call anything here.
struct Real(*mut sqlite3_vfs);

// SAFETY: SQLite's file systems are made to be used from any thread, and this pointer is only read.
unsafe impl Send for Real {}
// SAFETY: as above.
unsafe impl Sync for Real {}

static REAL: OnceLock<Real> = OnceLock::new();

/// Puts the shim under SQLite in this process, as the default. Again changes nothing.
pub fn register() {
    REAL.get_or_init(|| {
        // SAFETY: finding the default file system initialises SQLite and gives a pointer that stays valid for ever.
        let real = unsafe {
            ffi::sqlite3_initialize();
            ffi::sqlite3_vfs_find(ptr::null())
        };
        assert!(!real.is_null(), "SQLite has a file system");
        // SAFETY: what was found is valid. The copy keeps what needs no file of ours (paths, time, randomness), which SQLite's
        // own functions answer without looking at which file system they are called for.
        let mut shim = unsafe { *real };
        shim.szOsFile += c_int::try_from(HEADER).unwrap_or(0);
        shim.pNext = ptr::null_mut();
        shim.zName = c"tidegate-vfs".as_ptr();
        shim.xOpen = Some(open);
        shim.xDelete = Some(delete);
        Real(Box::into_raw(Box::new(Registered { shim, real })).cast())
    });
    let Some(Real(registered)) = REAL.get() else { return };
    // SAFETY: the shim is never freed; its functions are those below. Registering anew is harmless.
    let code = unsafe { ffi::sqlite3_vfs_register(*registered, 1) };
    assert_eq!(code, ffi::SQLITE_OK, "the shim is registered");
}

/// The shim first, so that a pointer to it is a pointer to both.
#[repr(C)]
struct Registered {
    shim: sqlite3_vfs,
    real: *mut sqlite3_vfs,
}

/// The file system below.
unsafe fn real_of(vfs: *mut sqlite3_vfs) -> *mut sqlite3_vfs {
    // SAFETY: SQLite calls with the pointer that was registered.
    unsafe { (*vfs.cast::<Registered>()).real }
}

unsafe fn path_of(name: *const c_char) -> Option<PathBuf> {
    if name.is_null() {
        return None;
    }
    // SAFETY: SQLite's names end with a zero.
    let name = unsafe { CStr::from_ptr(name) };
    Some(Path::new(std::ffi::OsStr::from_bytes(name.to_bytes())).to_owned())
}

/// The real file behind a file of ours.
unsafe fn below(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: SQLite has allocated `szOsFile` bytes, the header's among them.
    unsafe { file.byte_add(HEADER) }
}

unsafe fn known<'a>(file: *mut sqlite3_file) -> Option<&'a mut Known> {
    // SAFETY: the header was written by `open`, and a file is used by one thread at a time.
    unsafe { (*file.cast::<Header>()).known.as_mut() }
}

/// Calls a method of the real file.
macro_rules! pass {
    ($file:expr, $method:ident $(, $argument:expr)*) => {{
        // SAFETY: the arguments are SQLite's own, and the file was opened by the real file system.
        unsafe {
            let below = below($file);
            match (*(*below).pMethods).$method {
                Some(method) => method(below $(, $argument)*),
                None => ffi::SQLITE_NOTFOUND,
            }
        }
    }};
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: `file` has room for the header and the real file; nothing of it is read before it is written.
    unsafe {
        (*file.cast::<Header>()) = Header { methods: ptr::null(), known: ptr::null_mut() };
        (*below(file)).pMethods = ptr::null();
    }
    let real = || {
        // SAFETY: as SQLite has called, with the file system and the file below.
        unsafe {
            let real = real_of(vfs);
            (*real).xOpen.map_or(ffi::SQLITE_ERROR, |open| open(real, name, below(file), flags, out))
        }
    };
    // SAFETY: the name is SQLite's.
    let path = unsafe { path_of(name) };
    let mut entry = None;
    let code = match path.as_deref().and_then(disk::of) {
        Some((disk, name)) => {
            let new = path.is_some_and(|path| !path.exists()) && flags & ffi::SQLITE_OPEN_CREATE != 0;
            let code = disk.call(Kind::Open, &name, |fault| match fault {
                Some(_) => (ffi::SQLITE_OK, Vec::new()),
                None => {
                    let code = real();
                    (code, if new && code == ffi::SQLITE_OK { vec![Act::Create] } else { Vec::new() })
                }
            });
            let new_journal = new && flags & (ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL) != 0;
            entry = Some(Known { disk, name, new_journal });
            code
        }
        None => real(),
    };
    // SAFETY: as above. Without methods SQLite does not close what was not opened.
    unsafe {
        if !(*below(file)).pMethods.is_null() {
            let known = entry.map_or(ptr::null_mut(), |known| Box::into_raw(Box::new(known)));
            (*file.cast::<Header>()) = Header { methods: &raw const METHODS, known };
        }
    }
    code
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    let real = || {
        // SAFETY: as SQLite has called, with the file system below.
        unsafe {
            let real = real_of(vfs);
            (*real).xDelete.map_or(ffi::SQLITE_ERROR, |delete| delete(real, name, 0))
        }
    };
    // SAFETY: the name is SQLite's.
    let Some((disk, name)) = unsafe { path_of(name) }.as_deref().and_then(disk::of) else { return real() };
    disk.call(Kind::Remove, &name, |fault| {
        if fault.is_some() {
            return (ffi::SQLITE_OK, Vec::new());
        }
        let code = real();
        let mut acts = Vec::new();
        if code == ffi::SQLITE_OK {
            acts.push(Act::Remove);
            acts.extend((sync != 0).then_some(Act::SyncFolder));
        }
        (code, acts)
    })
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let code = pass!(file, xClose);
    // SAFETY: SQLite closes once, and uses nothing of the file afterwards.
    unsafe {
        let header = &mut *file.cast::<Header>();
        if !header.known.is_null() {
            drop(Box::from_raw(header.known));
        }
        header.methods = ptr::null();
    }
    code
}

unsafe extern "C" fn read(file: *mut sqlite3_file, into: *mut c_void, amount: c_int, offset: i64) -> c_int {
    // SAFETY: the file is ours.
    let Some(known) = (unsafe { known(file) }) else { return pass!(file, xRead, into, amount, offset) };
    known.disk.call(Kind::Read, &known.name, |fault| match fault {
        Some(_) => (ffi::SQLITE_OK, Vec::new()),
        None => (pass!(file, xRead, into, amount, offset), Vec::new()),
    })
}

unsafe extern "C" fn write(file: *mut sqlite3_file, from: *const c_void, amount: c_int, offset: i64) -> c_int {
    // SAFETY: the file is ours.
    let Some(known) = (unsafe { known(file) }) else { return pass!(file, xWrite, from, amount, offset) };
    known.disk.call(Kind::Write, &known.name, |fault| {
        let amount = match fault {
            Some(fault) if !fault.torn => return (ffi::SQLITE_OK, Vec::new()),
            Some(_) => amount / 2,
            None => amount,
        };
        let code = pass!(file, xWrite, from, amount, offset);
        if code != ffi::SQLITE_OK {
            return (code, Vec::new());
        }
        // SAFETY: SQLite hands over so many bytes.
        let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), usize::try_from(amount).unwrap_or(0)) };
        (code, vec![Act::Write { offset: u64::try_from(offset).unwrap_or(0), bytes: bytes.into() }])
    })
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: i64) -> c_int {
    // SAFETY: the file is ours.
    let Some(known) = (unsafe { known(file) }) else { return pass!(file, xTruncate, size) };
    known.disk.call(Kind::Truncate, &known.name, |fault| {
        if fault.is_some() {
            return (ffi::SQLITE_OK, Vec::new());
        }
        let code = pass!(file, xTruncate, size);
        let acts = (code == ffi::SQLITE_OK).then(|| Act::Truncate(u64::try_from(size).unwrap_or(0)));
        (code, acts.into_iter().collect())
    })
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: the file is ours.
    let Some(known) = (unsafe { known(file) }) else { return pass!(file, xSync, flags) };
    let new_journal = &mut known.new_journal;
    known.disk.call(Kind::Sync, &known.name, |fault| {
        if fault.is_some() {
            return (ffi::SQLITE_OK, Vec::new());
        }
        let mut acts = vec![Act::Sync];
        acts.extend(std::mem::take(new_journal).then_some(Act::SyncFolder));
        (ffi::SQLITE_OK, acts)
    })
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut i64) -> c_int {
    pass!(file, xFileSize, size)
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    pass!(file, xLock, level)
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    pass!(file, xUnlock, level)
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, out: *mut c_int) -> c_int {
    pass!(file, xCheckReservedLock, out)
}

unsafe extern "C" fn file_control(file: *mut sqlite3_file, op: c_int, argument: *mut c_void) -> c_int {
    pass!(file, xFileControl, op, argument)
}

unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    pass!(file, xSectorSize)
}

unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    pass!(file, xDeviceCharacteristics)
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    let code = pass!(file, xShmMap, region, size, extend, out);
    // SAFETY: the file is ours.
    if let Some(known) = unsafe { known(file) }
        && extend != 0
        && code == ffi::SQLITE_OK
    {
        known.disk.note(&known.name, Act::Shared);
    }
    code
}

unsafe extern "C" fn shm_lock(file: *mut sqlite3_file, offset: c_int, count: c_int, flags: c_int) -> c_int {
    pass!(file, xShmLock, offset, count, flags)
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    // SAFETY: as in `pass!`; this one answers nothing.
    unsafe {
        let below = below(file);
        if let Some(method) = (*(*below).pMethods).xShmBarrier {
            method(below);
        }
    }
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, delete: c_int) -> c_int {
    pass!(file, xShmUnmap, delete)
}

unsafe extern "C" fn fetch(file: *mut sqlite3_file, offset: i64, amount: c_int, out: *mut *mut c_void) -> c_int {
    pass!(file, xFetch, offset, amount, out)
}

unsafe extern "C" fn unfetch(file: *mut sqlite3_file, offset: i64, page: *mut c_void) -> c_int {
    pass!(file, xUnfetch, offset, page)
}

/// Of version 3, as SQLite's own files have.
static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 3,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: Some(fetch),
    xUnfetch: Some(unfetch),
};

#[cfg(test)]
#[path = "shim_tests.rs"]
mod tests;
