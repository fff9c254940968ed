use std::ops::ControlFlow;

use super::Context;
use super::args::Reading;
use super::error::Error;
use super::locate;
use super::{backup, link};
use crate::store;

/// Check the whole database: every page, every event's place in the chain, and its watermark.
///
/// Reads only, also while a host uses the file. A backup is checked with `--database FILE`.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    reading: Reading,
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let database = locate::file(context, &args.reading)?;
    let mut tell = |progress| {
        context.out.progress(&backup::words(progress));
        ControlFlow::Continue(())
    };
    let content = store::verify(&database, &mut tell).map_err(link::open_error)?;
    if args.reading.json {
        return context.out.json(&content);
    }
    backup::show("nothing is missing or changed", &content, &mut context.out)
}
