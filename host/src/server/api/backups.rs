//! `/backups`: copies of the database, made by the host while it runs.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::json as value;

use super::{Answer, Nothing, Path, json, query};
use crate::model::record::BackupRecord;
use crate::server::app::App;
use crate::server::backups;
use crate::server::problem::Problem;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// On the host's machine, absolute.
    path: PathBuf,
    #[serde(default)]
    replace: bool,
}

pub(super) async fn start(app: &Arc<App>, parts: &Parts, body: Body) -> Answer {
    let asked: Asked = super::operate::read(app, parts, body).await?;
    if !asked.path.is_absolute() {
        return Err(Problem::bad_request("path: an absolute path on the machine of the host is needed."));
    }
    if app.is_stopping() {
        return Err(crate::log::Error::Closed.into());
    }
    match backups::start(app, asked.path, asked.replace) {
        Ok(record) => json(StatusCode::ACCEPTED, &record),
        Err(running) => Err(Problem::new(
            StatusCode::CONFLICT,
            "backup-running",
            format!("A backup to {} is being made. Wait for its end.", running.path),
        )
        .see(format!("/backups/{}", running.id))
        .with("backup", value!(running))),
    }
}

pub(super) fn list(app: &Arc<App>, uri: &Uri) -> Answer {
    #[derive(Serialize)]
    struct Backups {
        backups: Vec<BackupRecord>,
    }

    let Nothing {} = query(uri)?;
    json(StatusCode::OK, &Backups { backups: app.backups.all() })
}

pub(super) fn one(app: &Arc<App>, uri: &Uri, path: &Path) -> Answer {
    let Nothing {} = query(uri)?;
    let found = path.get("id").and_then(|id| id.parse().ok()).and_then(|id| app.backups.one(id));
    let missing = || Problem::not_found("There is no such backup since this host was started.").see("/backups");
    json(StatusCode::OK, &found.ok_or_else(missing)?)
}
