//! Says when files may have changed. Only a hint: whoever hears it looks at the files themselves, and looks now and
//! then without a hint as well, because watchers go blind (NFS, overflowing queues, links that are exchanged).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::EventKind;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// Watches folders, never single files: an editor replaces a file by renaming another over it, and the watch on the
/// old one would see nothing any more.
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    changed: Arc<Notify>,
}

impl Watch {
    pub(super) fn new() -> Self {
        let changed = Arc::new(Notify::new());
        let hint = changed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is an event, too; hearing our own would never end.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                hint.notify_one();
            }
        });
        let watcher = watcher
            .inspect_err(
                |error| tracing::warn!(%error, "files cannot be watched; changes are noticed every few seconds"),
            )
            .ok();
        Self { watcher, watched: BTreeSet::new(), changed }
    }

    /// Ends when something may have changed since it ended last.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Watches the folders of these files, and these folders with their subfolders, and nothing else.
    pub(super) fn follow<'a>(&mut self, files: impl Iterator<Item = &'a Path>, folder: Option<&Path>) {
        let mut wanted = BTreeSet::new();
        for file in files {
            wanted.extend(file.parent().map(Path::to_owned));
            // Where a link leads may change as well as the link.
            wanted.extend(file.canonicalize().ok().and_then(|real| Some(real.parent()?.to_owned())));
        }
        if let Some(folder) = folder {
            wanted.insert(folder.to_owned());
            let inside = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            wanted.extend(inside.filter(|path| path.is_dir()));
        }
        let Some(watcher) = &mut self.watcher else { return };
        for gone in self.watched.difference(&wanted) {
            // A folder that is gone has taken its watch along.
            let _unwatched = watcher.unwatch(gone).is_ok();
        }
        self.watched.retain(|path| wanted.contains(path));
        for path in wanted {
            // Again, if it is watched: another folder may have taken its place.
            if watcher.watch(&path, RecursiveMode::NonRecursive).is_ok() {
                self.watched.insert(path);
            }
        }
    }
}
