use std::ops::ControlFlow;
use std::path::PathBuf;

use super::Context;
use super::args::Reading;
use super::error::Error;
use super::{backup, link, locate};
use crate::store;

/// Put a copy that `backup` made where the database is to be, and read it back there.
///
/// No host may be running, and no database may be there: move the old one, and every file whose name begins like its, out of the
/// way first. Events that came after the copy was made are not in it, and effects outside of the database stay.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The copy.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    reading: Reading,
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    if !args.file.is_file() {
        return Err(Error::usage(format!("there is no file {}", args.file.display())));
    }
    let database = locate::place(context, &args.reading)?;
    let now = context.now();
    let mut tell = |progress| {
        context.out.progress(&backup::words(progress));
        ControlFlow::Continue(())
    };
    let content = store::backup::restore(&args.file, &database, now, &mut tell).map_err(link::copy_error)?;
    if args.reading.json {
        return context.out.json(&content);
    }
    backup::show("restored and read back", &content, &mut context.out)?;
    context.out.tip("Start the host with `tidegate run`.");
    Ok(())
}
