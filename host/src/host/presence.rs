//! How commands find the host that runs: a small file beside the manifest, which stays readable even while the manifest itself is
//! broken or gone.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;
use crate::model::Timestamp;

/// Folder beside the manifest for what a running host leaves there, and how the file's name ends: it begins with the manifest's,
/// because a folder may have several.
const FOLDER: &str = ".tidegate";
const SUFFIX: &str = ".host.json";
/// The file is a few lines; more is not ours.
const BYTES_MAX: u64 = 64 << 10;

/// What the file says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    pub pid: u32,
    pub url: String,
    /// Made anew at every start; allows everything.
    pub token: String,
    pub database: PathBuf,
    pub started_at: Timestamp,
}

impl Announcement {
    /// Where the file of a manifest is.
    pub fn path(manifest: &Path) -> PathBuf {
        let folder = manifest.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut name = manifest.file_name().unwrap_or_default().to_owned();
        name.push(SUFFIX);
        folder.join(FOLDER).join(name)
    }

    /// Reads the file; one that is absent, half or not ours is as good as none.
    pub fn read(manifest: &Path) -> Option<Self> {
        read(&Self::path(manifest))
    }
}

fn read(path: &Path) -> Option<Announcement> {
    if fs::metadata(path).ok()?.len() > BYTES_MAX {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

impl std::fmt::Debug for Announcement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Announcement").field("pid", &self.pid).field("url", &self.url).finish_non_exhaustive()
    }
}

/// The file, for as long as the host runs.
pub(super) struct Presence {
    path: PathBuf,
    announcement: Announcement,
}

impl Presence {
    pub(super) fn announce(
        manifest: &Path,
        listener: &tokio::net::TcpListener,
        database: &Path,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let doing =
            |source| Error::Io { doing: "say where the host is (in the folder .tidegate beside the manifest)", source };
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| doing(std::io::Error::other(error.to_string())))?;
        let announcement = Announcement {
            pid: std::process::id(),
            url: format!("http://{}", reachable(listener.local_addr().map_err(doing)?)),
            token: secret.iter().map(|byte| format!("{byte:02x}")).collect(),
            database: database.to_owned(),
            started_at: now,
        };
        let path = Announcement::path(manifest);
        write(&path, &announcement).map_err(doing)?;
        Ok(Self { path, announcement })
    }

    pub(super) fn token(&self) -> &str {
        &self.announcement.token
    }

    pub(super) fn url(&self) -> &str {
        &self.announcement.url
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // Another host may have said since that it serves this manifest.
        if read(&self.path).is_some_and(|said| said != self.announcement) {
            return;
        }
        // Gone already, perhaps with its folder: nothing is left to say.
        let _gone = fs::remove_file(&self.path).is_err();
    }
}

/// An address to connect to: one that listens everywhere is reached on loopback.
fn reachable(mut address: std::net::SocketAddr) -> std::net::SocketAddr {
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    address
}

/// Only the owner may read it: the token inside allows everything.
fn write(path: &Path, announcement: &Announcement) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let beside = path.with_extension("new");
    // A leftover of a host that was killed.
    let _absent = fs::remove_file(&beside).is_err();
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    serde_json::to_writer(&mut file, announcement)?;
    file.write_all(b"\n")?;
    fs::rename(&beside, path)
}
