//! Compiled code on disk. Running a tampered entry would be running an attacker's machine code, so an entry counts
//! only if its authentication code is right, under a key that lies elsewhere; and what was checked in memory is what
//! is run. An entry that does not verify is deleted, counted and compiled again.
//!
//! An entry is: magic (8 bytes), HMAC-SHA256 (32 bytes), compiled bytes.

use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, Mac};
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::model::Digest;
use crate::planted::{self, Bug};

const MAGIC: &[u8; 8] = b"TGCODE01";
const MAC_BYTES: usize = 32;
const KEY_BYTES: usize = 32;
/// Compiled code of one component, in bytes.
pub(super) const CODE_BYTES_MAX: u64 = 512 << 20;

/// Native code that this host, or its compile child, made: the only thing that is ever deserialised.
pub(super) struct Code(Vec<u8>);

impl Code {
    /// Bytes straight from the compiler.
    pub(super) fn compiled(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

/// Where compiled code is kept.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// Made, and kept private to the user, if it is not there.
    pub directory: PathBuf,
    /// The key under which entries are authenticated; outside `directory`. Made if it is not there.
    pub key_file: PathBuf,
}

pub(super) struct CodeCache {
    place: Option<(PathBuf, [u8; KEY_BYTES])>,
    /// What the code depends on besides the component: engine, settings, version of this crate.
    profile: [u8; 32],
    rejected: AtomicU64,
    deserialised: AtomicU64,
}

impl CodeCache {
    pub(super) fn open(engine: &Engine, options: Option<&CacheOptions>) -> io::Result<Self> {
        let place = options.map(|options| -> io::Result<_> {
            private_directory(&options.directory)?;
            Ok((options.directory.clone(), read_or_make_key(&options.key_file)?))
        });
        Ok(Self {
            place: place.transpose()?,
            profile: profile(engine),
            rejected: AtomicU64::new(0),
            deserialised: AtomicU64::new(0),
        })
    }

    /// Entries that did not verify, since the start.
    pub(super) fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// How many times native code was made executable; a seam for tests of the tampering kind.
    pub(super) fn deserialised(&self) -> u64 {
        self.deserialised.load(Ordering::Relaxed)
    }

    pub(super) fn get(&self, component: &Digest) -> Option<Code> {
        let (directory, key) = self.place.as_ref()?;
        let path = entry(directory, component);
        match self.read(&path, key, component) {
            Ok(code) => Some(code),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(path = %path.display(), %error, "compiled code did not verify; compiling again");
                // It may be a link or a directory: gone is gone, and if it cannot go the next write says so.
                drop(std::fs::remove_file(&path));
                None
            }
        }
    }

    fn read(&self, path: &Path, key: &[u8], component: &Digest) -> io::Result<Code> {
        let mut file = std::fs::File::options().read(true).custom_flags(no_follow()).open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() || meta.len() > CODE_BYTES_MAX || meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("not a file of ours"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
        Read::by_ref(&mut file).take(CODE_BYTES_MAX).read_to_end(&mut bytes)?;
        let (magic, rest) = bytes.split_at_checked(MAGIC.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        let (mac, code) = rest.split_at_checked(MAC_BYTES).ok_or(io::ErrorKind::UnexpectedEof)?;
        if magic != MAGIC {
            return Err(io::Error::other("of another format"));
        }
        let expected = self.mac(key, component, code)?;
        if !planted::is(Bug::CacheWithoutMac) {
            expected.verify_slice(mac).map_err(|_| io::Error::other("its authentication code is wrong"))?;
        }
        bytes.drain(..MAGIC.len() + MAC_BYTES);
        Ok(Code(bytes))
    }

    /// Best effort: a host that cannot write its cache compiles more often.
    pub(super) fn put(&self, component: &Digest, code: &Code) -> io::Result<()> {
        let Some((directory, key)) = &self.place else { return Ok(()) };
        let mac = self.mac(key, component, &code.0)?.finalize().into_bytes();
        let unique = getrandom::u64().map_err(no_random)?;
        let temporary = directory.join(format!(".{unique:016x}.tmp"));
        let written = (|| {
            let mut file = new_private_file(&temporary)?;
            file.write_all(MAGIC)?;
            file.write_all(&mac)?;
            file.write_all(&code.0)?;
            file.sync_all()?;
            std::fs::rename(&temporary, entry(directory, component))?;
            std::fs::File::open(directory)?.sync_all()
        })();
        if written.is_err() {
            drop(std::fs::remove_file(&temporary));
        }
        written
    }

    fn mac(&self, key: &[u8], component: &Digest, code: &[u8]) -> io::Result<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(io::Error::other)?;
        mac.update(MAGIC);
        mac.update(&component.0);
        mac.update(&self.profile);
        mac.update(&(code.len() as u64).to_be_bytes());
        mac.update(code);
        Ok(mac)
    }

    /// Makes code executable.
    pub(super) fn deserialise(&self, engine: &Engine, code: Code) -> wasmtime::Result<Component> {
        self.deserialised.fetch_add(1, Ordering::Relaxed);
        #[expect(unsafe_code, reason = "the one place where native code becomes executable")]
        // SAFETY: a `Code` comes from the compiler or from an entry whose authentication code has just been verified
        // over these very bytes, for this engine and this version; nothing can change them in between.
        unsafe {
            Component::deserialize(engine, code.0)
        }
    }
}

fn entry(directory: &Path, component: &Digest) -> PathBuf {
    directory.join(format!("{component}.code"))
}

fn no_follow() -> i32 {
    OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits().cast_signed()
}

fn profile(engine: &Engine) -> [u8; 32] {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut sha = Sha(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut sha);
    env!("CARGO_PKG_VERSION").hash(&mut sha);
    sha.0.finalize().into()
}

fn private_directory(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let meta = std::fs::symlink_metadata(path)?;
    if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(format!("{}: not a directory of this user", path.display())));
    }
    if meta.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn new_private_file(path: &Path) -> io::Result<std::fs::File> {
    std::fs::File::options().write(true).create_new(true).mode(0o600).custom_flags(no_follow()).open(path)
}

fn read_or_make_key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    match read_key(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(no_random)?;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match new_private_file(path) {
        Ok(mut file) => {
            file.write_all(&key)?;
            file.sync_all()?;
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read_key(path),
        Err(error) => Err(error),
    }
}

fn read_key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let mut file = std::fs::File::options().read(true).custom_flags(no_follow()).open(path)?;
    let meta = file.metadata()?;
    if meta.mode() & 0o077 != 0 || meta.uid() != rustix::process::geteuid().as_raw() {
        let text = format!("{}: others can read or change this key; delete it, a new one will be made", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    let mut key = [0; KEY_BYTES];
    file.read_exact(&mut key)?;
    Ok(key)
}

fn no_random(error: getrandom::Error) -> io::Error {
    io::Error::other(error.to_string())
}

#[cfg(test)]
#[path = "code_cache_tests.rs"]
mod tests;
