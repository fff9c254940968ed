//! The disk under a folder: what is recorded, and what is to fail.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Result codes of SQLite that a fault may answer with.
pub mod code {
    use std::ffi::c_int;

    use rusqlite::ffi;

    pub const FULL: c_int = ffi::SQLITE_FULL;
    pub const READ_ONLY: c_int = ffi::SQLITE_READONLY;
    pub const CANNOT_OPEN: c_int = ffi::SQLITE_CANTOPEN;
    pub const WRITE: c_int = ffi::SQLITE_IOERR_WRITE;
    pub const READ: c_int = ffi::SQLITE_IOERR_READ;
    pub const SYNC: c_int = ffi::SQLITE_IOERR_FSYNC;
    pub const TRUNCATE: c_int = ffi::SQLITE_IOERR_TRUNCATE;
}

/// What happened to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// It came into being. Its name lasts only once its folder is synced.
    Create,
    Write {
        offset: u64,
        bytes: Arc<[u8]>,
    },
    Truncate(u64),
    /// What was written to it before is durable.
    Sync,
    Remove,
    /// Names in the folder are durable; the file is only the reason.
    SyncFolder,
    /// Its shared memory was made larger. Memory does not survive a power cut: only counted.
    Shared,
}

/// One entry of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Name in the folder.
    pub file: Arc<str>,
    pub act: Act,
}

/// Kinds of calls that can fail or be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Open,
    Read,
    Write,
    Truncate,
    Sync,
    Remove,
}

/// A call that is to fail.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub kind: Kind,
    /// Which one, counted from 1 when the fault is set.
    pub nth: u64,
    /// See [`code`].
    pub code: c_int,
    /// So many in a row.
    pub times: u64,
    /// A write that fails has written its first half.
    pub torn: bool,
}

impl Fault {
    #[must_use]
    pub fn once(kind: Kind, nth: u64, code: c_int) -> Self {
        Self { kind, nth, code, times: 1, torn: false }
    }

    #[must_use]
    pub fn for_good(self) -> Self {
        Self { times: u64::MAX, ..self }
    }
}

type Hook = Arc<dyn Fn(Kind, &str) -> Option<c_int> + Send + Sync>;

/// A call that failed.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Entries of the record before it.
    pub at: usize,
    pub file: Arc<str>,
    /// Name of the thread that made it.
    pub thread: String,
}

#[derive(Default)]
struct State {
    record: Vec<Op>,
    faults: Vec<(Fault, u64)>,
    failed: Option<Failed>,
    calls: BTreeMap<Kind, u64>,
}

pub(crate) struct Inner {
    folder: PathBuf,
    recording: bool,
    state: Mutex<State>,
    hook: RwLock<Option<Hook>>,
}

/// The disks that are attached now.
static DISKS: RwLock<Vec<Arc<Inner>>> = RwLock::new(Vec::new());

/// What holds the files of a folder, for as long as this value lives. Nothing is really synced on it: a test that cuts the power
/// does so by [`Platter`](crate::Platter).
pub struct Disk(Arc<Inner>);

impl Disk {
    /// Records what happens in the folder from now on. The folder is empty, and exists.
    #[must_use]
    pub fn attach(folder: &Path) -> Self {
        Self::new(folder, true)
    }

    /// Fails and waits, but keeps no record.
    #[must_use]
    pub fn forgetful(folder: &Path) -> Self {
        Self::new(folder, false)
    }

    fn new(folder: &Path, recording: bool) -> Self {
        crate::register();
        let folder = folder.canonicalize().expect("the folder exists");
        let inner = Arc::new(Inner { folder, recording, state: Mutex::new(State::default()), hook: RwLock::new(None) });
        DISKS.write().unwrap_or_else(PoisonError::into_inner).push(inner.clone());
        Self(inner)
    }

    /// How much has happened.
    #[must_use]
    pub fn position(&self) -> usize {
        self.0.state().record.len()
    }

    /// What has happened.
    #[must_use]
    pub fn record(&self) -> Vec<Op> {
        self.0.state().record.clone()
    }

    /// Calls of a kind so far.
    #[must_use]
    pub fn calls(&self, kind: Kind) -> u64 {
        self.0.state().calls.get(&kind).copied().unwrap_or(0)
    }

    pub fn fail(&self, fault: Fault) {
        self.0.state().faults.push((fault, 0));
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        self.0.state().faults.clear();
    }

    /// The first call that failed, if one has.
    #[must_use]
    pub fn failed(&self) -> Option<Failed> {
        self.0.state().failed.clone()
    }

    /// Is called before each call on a file, on the thread that makes it, with the file's name. It may wait, and it may answer
    /// a code with which the call fails.
    pub fn before(&self, hook: impl Fn(Kind, &str) -> Option<c_int> + Send + Sync + 'static) {
        *self.0.hook.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        DISKS.write().unwrap_or_else(PoisonError::into_inner).retain(|disk| !Arc::ptr_eq(disk, &self.0));
    }
}

/// The disk that a file is on, and its name there.
pub(crate) fn of(path: &Path) -> Option<(Arc<Inner>, Arc<str>)> {
    let (folder, name) = (path.parent()?, path.file_name()?.to_str()?);
    let disks = DISKS.read().unwrap_or_else(PoisonError::into_inner);
    let disk = disks.iter().find(|disk| disk.folder == folder)?;
    Some((disk.clone(), name.into()))
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what cannot fail.
    pub(crate) fn note(&self, file: &Arc<str>, act: Act) {
        if self.recording {
            self.state().record.push(Op { file: file.clone(), act });
        }
    }

    /// Makes a call: unless it is to fail, does it and writes down what it did. Both under one lock, so that the record has the
    /// order in which things happened. The fault says itself what a failed call leaves.
    pub(crate) fn call(
        &self,
        kind: Kind,
        file: &Arc<str>,
        real: impl FnOnce(Option<&Fault>) -> (c_int, Vec<Act>),
    ) -> c_int {
        let hook = self.hook.read().unwrap_or_else(PoisonError::into_inner).clone();
        let refused = hook.and_then(|hook| hook(kind, file));
        let mut state = self.state();
        *state.calls.entry(kind).or_default() += 1;
        let fault = state.fault(kind).or(refused.map(|code| Fault::once(kind, 1, code)));
        if fault.is_some() {
            let at = state.record.len();
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            state.failed.get_or_insert_with(|| Failed { at, file: file.clone(), thread });
        }
        let (code, acts) = real(fault.as_ref());
        if self.recording {
            state.record.extend(acts.into_iter().map(|act| Op { file: file.clone(), act }));
        }
        fault.map_or(code, |fault| fault.code)
    }
}

impl State {
    /// Counts the call for each fault of its kind; the one that strikes now.
    fn fault(&mut self, kind: Kind) -> Option<Fault> {
        let mut strikes = None;
        for (fault, calls) in self.faults.iter_mut().filter(|(fault, _)| fault.kind == kind) {
            *calls += 1;
            if *calls >= fault.nth && *calls - fault.nth < fault.times {
                strikes = Some(*fault);
            }
        }
        strikes
    }
}
