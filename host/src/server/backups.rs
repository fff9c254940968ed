//! Copies of the database that the host makes of itself: one at a time, on a thread that may block; the latest are
//! remembered until the host ends.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::app::App;
use crate::model::record::{BackupRecord, ContentRecord};
use crate::store::Progress;
use crate::store::backup::{self, CopyError};

/// Copies remembered.
const KEPT_MAX: usize = 16;

#[derive(Default)]
pub(super) struct Backups {
    kept: Mutex<VecDeque<BackupRecord>>,
}

impl Backups {
    /// The oldest first.
    pub(super) fn all(&self) -> Vec<BackupRecord> {
        self.kept().iter().cloned().collect()
    }

    pub(super) fn one(&self, id: u64) -> Option<BackupRecord> {
        self.kept().iter().find(|record| record.id == id).cloned()
    }

    /// A place for one more; the running one's, if one runs.
    fn begin(&self, record: BackupRecord) -> Result<BackupRecord, Box<BackupRecord>> {
        let mut kept = self.kept();
        if let Some(running) = kept.back().filter(|last| last.ended_at.is_none()) {
            return Err(Box::new(running.clone()));
        }
        let record = BackupRecord { id: kept.back().map_or(1, |last| last.id + 1), ..record };
        kept.push_back(record.clone());
        if kept.len() > KEPT_MAX {
            kept.pop_front();
        }
        Ok(record)
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut BackupRecord)) {
        if let Some(record) = self.kept().iter_mut().find(|record| record.id == id) {
            change(record);
        }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<BackupRecord>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins a copy; or gives the one that is being made.
pub(super) fn start(app: &Arc<App>, path: PathBuf, replace: bool) -> Result<BackupRecord, Box<BackupRecord>> {
    let record = BackupRecord {
        id: 0,
        path: path.display().to_string(),
        status: "copying".into(),
        percent: 0,
        started_at: app.parts.clock.now(),
        ended_at: None,
        error: None,
        content: None,
    };
    let record = app.backups.begin(record)?;
    let (app, id) = (Arc::clone(app), record.id);
    // Nobody waits for the thread: what becomes of the copy is told by its record.
    drop(tokio::task::spawn_blocking(move || {
        let source = app.parts.reader.path().to_owned();
        let mut tell = |progress| {
            let (status, percent) = shown(progress);
            app.backups.change(id, |record| (record.status, record.percent) = (status.to_owned(), percent));
            if app.is_stopping() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let copied = backup::copy(&source, &path, replace, &mut tell);
        let now = app.parts.clock.now();
        app.backups.change(id, |record| {
            record.ended_at = Some(now);
            ended(record, copied);
        });
    }));
    Ok(record)
}

fn ended(record: &mut BackupRecord, copied: Result<ContentRecord, CopyError>) {
    match copied {
        Ok(content) => {
            tracing::info!("backed up to {}: {} events up to {}", content.path, content.events, content.last_sequence);
            record.path.clone_from(&content.path);
            (record.status, record.percent) = ("done".into(), 100);
            record.content = Some(content);
        }
        Err(error) => {
            tracing::warn!(%error, "the backup to {} failed", record.path);
            record.status = "failed".into();
            record.error = Some(error.to_string());
        }
    }
}

/// In which part of the work it is, and how much of all is done. Reading back takes about as long as copying.
fn shown(progress: Progress) -> (&'static str, u64) {
    match progress {
        Progress::Copying { pages, of } => ("copying", pages.saturating_mul(40) / of.max(1)),
        Progress::CheckingPages => ("checking", 40),
        Progress::CheckingEvents { seq, of } => ("checking", 70 + seq.saturating_mul(29) / of.max(1)),
    }
}
