use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::Context;
use super::args::Reading;
use super::client::{Ask, Client};
use super::error::Error;
use super::link;
use super::locate::{self, Found};
use super::output::Output;
use super::text;
use crate::model::record::{BackupRecord, ContentRecord};
use crate::store::{Progress, backup};

/// Copy the database to a file, and read the copy back.
///
/// A running host makes the copy itself and goes on meanwhile. FILE gets its name only when the copy has been read back: every page,
/// every event's place in the chain, and its end. Beside it FILE.watermark is written. `tidegate restore` goes back to a copy.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Where the copy goes, on the machine of the host. Its folder must be there.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Take the place of an earlier copy.
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    reading: Reading,
}

/// How often a running host is asked how far it is.
const POLL: Duration = Duration::from_millis(100);

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let file = std::path::absolute(&args.file)
        .map_err(|e| Error::usage(format!("{} is not the name of a file", args.file.display())).because(e))?;
    let content = match locate::record(context, &args.reading)? {
        Found::Host(host) => by_host(&host, &file, args, context)?,
        Found::Database(database) => {
            let mut tell = |progress| {
                context.out.progress(&words(progress));
                ControlFlow::Continue(())
            };
            backup::copy(&database, &file, args.force, &mut tell).map_err(link::copy_error)?
        }
    };
    if args.reading.json {
        return context.out.json(&content);
    }
    show("backed up and read back", &content, &mut context.out)
}

fn by_host(host: &Client, file: &Path, args: &Args, context: &mut Context) -> Result<ContentRecord, Error> {
    let body = Bytes::from(json!({ "path": file, "replace": args.force }).to_string());
    let mut record: BackupRecord = host.json(Ask::post("/backups", "application/json", body))?;
    let path = format!("/backups/{}", record.id);
    loop {
        match (record.content.take(), record.error.take()) {
            (Some(content), _) => return Ok(content),
            (None, Some(why)) => return Err(no_copy(&why)),
            (None, None) => {}
        }
        context.out.progress(&format!("{} {} %", record.status, record.percent));
        let next = host.pause_patiently(context.clock.as_ref(), POLL);
        record = next.and_then(|()| host.json_patiently(Ask::get(&path))).inspect_err(|_| {
            context.out.note("the host goes on with the backup; what becomes of it is in its own log");
        })?;
    }
}

fn no_copy(why: &str) -> Error {
    Error::state(format!("the host made no copy: {why}"))
        .hint("Name a file that the host can write: in a folder of the host's machine, open to the host's user, with room on its disk.")
}

/// How far it is, in a line.
pub(super) fn words(progress: Progress) -> String {
    let percent = |done: u64, of: u64| done.saturating_mul(100) / of.max(1);
    match progress {
        Progress::Copying { pages, of } => format!("copying {} %", percent(pages, of)),
        Progress::CheckingPages => "checking pages and indexes".into(),
        Progress::CheckingEvents { seq, of } => format!("checking events {} %", percent(seq, of)),
    }
}

/// What a database holds, as it was found.
pub(super) fn show(done: &str, content: &ContentRecord, out: &mut Output) -> Result<(), Error> {
    out.line(format!("{done}: {}", text::escape(&content.path)))?;
    let rows = [
        ("size", text::bytes(content.bytes)),
        ("events", format!("{}, the last is #{}", text::number(content.events), content.last_sequence)),
        ("outcomes", text::number(content.outcomes)),
        ("waiting", text::number(content.waiting)),
        ("dead letters", text::number(content.dead_letters)),
        ("hash", content.hash.clone()),
    ];
    rows.iter().try_for_each(|(name, value)| out.line(format!("  {name:<12}  {value}")))
}
