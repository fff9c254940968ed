//! Opening what a manifest names, or the manifest itself: only files that lie there to be read. A path may also lead to a pipe
//! that nobody writes to, or to a file that the kernel makes up and that blocks or never ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Opens a regular file, links followed, without ever waiting for somebody at its other end. None: it is something else.
pub fn open(path: &Path) -> io::Result<Option<File>> {
    // Looked at before it is opened, because opening a device may do things; and after, because it may be another by then.
    if !path.metadata()?.is_file() || is_made_up(path)? {
        return Ok(None);
    }
    let unblocked = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(unblocked).open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}

/// Whether it lies in one of the kernel's own file systems, by the magic numbers of statfs(2).
#[cfg(target_os = "linux")]
fn is_made_up(path: &Path) -> io::Result<bool> {
    let magic = u64::try_from(rustix::fs::statfs(path)?.f_type).unwrap_or(0);
    // proc, sysfs, debugfs, tracefs
    Ok(matches!(magic & 0xffff_ffff, 0x9fa0 | 0x6265_6572 | 0x6462_6720 | 0x7472_6163))
}

#[cfg(not(target_os = "linux"))]
fn is_made_up(_path: &Path) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    #[test]
    fn a_file_is_opened_also_behind_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a"), folder.path().join("link"));
        std::fs::write(&path, "content").unwrap();
        symlink(&path, &link).unwrap();
        for path in [path, link] {
            let mut text = String::new();
            open(&path).unwrap().unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "content");
        }
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let inside = |name: &str| folder.path().join(name);
        mkfifoat(CWD, inside("pipe"), Mode::RUSR).unwrap();
        symlink(inside("pipe"), inside("link to a pipe")).unwrap();
        let _socket = UnixListener::bind(inside("socket")).unwrap();
        let mut paths = vec![inside("pipe"), inside("link to a pipe"), inside("socket"), folder.path().to_owned()];
        paths.push("/dev/zero".into());
        #[cfg(target_os = "linux")]
        paths.extend(["/proc/kmsg", "/proc/self/environ", "/sys/kernel/notes"].map(Into::into));
        for path in paths.iter().filter(|path| path.exists()) {
            assert!(open(path).unwrap().is_none(), "{}", path.display());
        }
        symlink(inside("nothing"), inside("to nothing")).unwrap();
        assert_eq!(open(&inside("to nothing")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
