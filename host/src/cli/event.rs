use super::Context;
use super::args::Reading;
use super::backend::Backend;
use super::error::Error;
use super::show;

/// Show an event with everything that came of it, as a tree.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Its sequence number, its id, or SOURCE#ID where an id alone is not unique.
    #[arg(value_name = "EVENT")]
    event: String,
    #[command(flatten)]
    reading: Reading,
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let backend = Backend::find(context, &args.reading)?;
    let Some(found) = backend.tree(&args.event)? else {
        return Err(Error::state(format!("there is no event '{}'", args.event))
            .hint("List the newest with `tidegate events`; name one by its sequence number or id."));
    };
    if args.reading.json {
        context.out.json(&found.tree)?;
    } else {
        show::details(&found.tree.event, &mut context.out)?;
        context.out.line("")?;
        for line in show::tree(&found.tree, &context.out) {
            context.out.line(line)?;
        }
    }
    if found.cut {
        context
            .out
            .note("note: it caused more than is shown here; follow it with `tidegate events --correlation` and `tidegate queries --correlation`");
    }
    Ok(())
}
