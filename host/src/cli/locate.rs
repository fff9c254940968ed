//! Which host, or which database file: what every command that reads or acts needs to know first. A host says where it
//! is in a small file beside its manifest, so it is found even while the manifest is broken or gone.

use std::path::{Path, PathBuf};

use super::Context;
use super::args::{Reach, Reading};
use super::client::{Base, Client};
use super::error::Error;
use super::link;
use crate::host::Announcement;

/// What was found.
pub(super) enum Found {
    Host(Client),
    Database(PathBuf),
}

/// The running host of a manifest or address; an error that says how to start one if there is none.
pub(super) fn host(context: &Context, reach: &Reach) -> Result<Client, Error> {
    if let Some(client) = named(context, reach)? {
        return Ok(client);
    }
    let note = Announcement::read(&reach.manifest);
    match note.as_ref().and_then(alive) {
        Some(client) => Ok(client),
        None => Err(no_host(&reach.manifest)),
    }
}

/// The running host, or else the database file that it left.
pub(super) fn record(context: &Context, reading: &Reading) -> Result<Found, Error> {
    if let Some(path) = &reading.database {
        return database(path.clone());
    }
    if let Some(client) = named(context, &reading.reach)? {
        return Ok(Found::Host(client));
    }
    let manifest = &reading.reach.manifest;
    let note = Announcement::read(manifest);
    if let Some(client) = note.as_ref().and_then(alive) {
        return Ok(Found::Host(client));
    }
    match link::database_of(manifest, context).or_else(|| left(note)) {
        Some(path) => database(path),
        None if manifest.is_file() => Err(Error::state("no host is running, and the manifest does not say where its database is")
            .hint("See what is wrong with it with `tidegate check`, or name the file with `--database PATH`.")),
        None => Err(Error::state(format!("no host is running, and there is no manifest at {}", manifest.display()))
            .hint("Name the manifest with `--manifest PATH`, a host with `--url URL` or a database with `--database PATH`.")),
    }
}

/// The database file itself, whether or not a host uses it.
pub(super) fn file(context: &Context, reading: &Reading) -> Result<PathBuf, Error> {
    match database(place(context, reading)?)? {
        Found::Database(path) => Ok(path),
        Found::Host(host) => Err(Error::bug(format!("{} is no file", host.base))),
    }
}

/// Where the database file is, or is to be.
pub(super) fn place(context: &Context, reading: &Reading) -> Result<PathBuf, Error> {
    let elsewhere = || {
        Error::usage("the database of a host that is named by its address cannot be opened from here")
            .hint("Name the file with `--database PATH`, or the manifest with `--manifest PATH`.")
    };
    if reading.reach.url.is_some() {
        return Err(elsewhere());
    }
    let manifest = &reading.reach.manifest;
    let found = || {
        let note = Announcement::read(manifest);
        // A host that runs has the one that it began with, whatever the manifest says by now.
        match note {
            Some(note) if alive(&note).is_some() => Some(note.database),
            note => link::database_of(manifest, context).or_else(|| left(note)),
        }
    };
    reading.database.clone().or_else(found).ok_or_else(|| {
        Error::state(format!("{} does not say where the database is", manifest.display()))
            .hint("Name the manifest with `--manifest PATH`, or the file with `--database PATH`.")
    })
}

/// The database of a host that is gone, for when the manifest does not say which it is.
fn left(note: Option<Announcement>) -> Option<PathBuf> {
    note.map(|note| note.database).filter(|path| path.is_file())
}

fn database(path: PathBuf) -> Result<Found, Error> {
    if path.is_file() {
        return Ok(Found::Database(path));
    }
    Err(Error::state(format!("no host is running, and there is no database at {} yet", path.display()))
        .hint("Start a host with `tidegate run`; it makes the database."))
}

/// The host that `--url` or TIDEGATE_URL names; it must answer.
fn named(context: &Context, reach: &Reach) -> Result<Option<Client>, Error> {
    let (name, url) = match (&reach.url, context.var("TIDEGATE_URL")) {
        (Some(url), _) => ("--url", url.clone()),
        (None, Some(url)) => ("TIDEGATE_URL", url),
        (None, None) => return Ok(None),
    };
    let base = Base::parse(&url)
        .map_err(|why| Error::usage(format!("{name} is '{url}', which is no address of a host: {why}")))?;
    let client = Client::new(base, token(context, reach, &url).as_deref())?;
    client.alive()?;
    Ok(Some(client))
}

/// TIDEGATE_TOKEN, or the token in the host file if it is that very host's.
fn token(context: &Context, reach: &Reach, url: &str) -> Option<String> {
    context.var("TIDEGATE_TOKEN").or_else(|| {
        let note = Announcement::read(&reach.manifest)?;
        (note.url.trim_end_matches('/') == url.trim_end_matches('/')).then_some(note.token)
    })
}

/// The host of a file, if it still runs. A file that was left behind is nobody's fault and not worth a word.
fn alive(note: &Announcement) -> Option<Client> {
    let client = Client::new(Base::parse(&note.url).ok()?, Some(&note.token)).ok()?;
    client.alive().ok().map(|()| client)
}

fn no_host(manifest: &Path) -> Error {
    let error = Error::environment(format!("no host is running for {}", manifest.display()));
    if manifest.is_file() {
        return error.hint(format!("Start one with `tidegate run -m {}`.", manifest.display()));
    }
    error.hint("Name the manifest with `--manifest PATH` or the host with `--url URL`.")
}

#[cfg(test)]
#[path = "locate_tests.rs"]
mod tests;
