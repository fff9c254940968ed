use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

use super::Context;
use super::args::MANIFEST;
use super::error::Error;
use super::link;
use crate::host;
use crate::model::Seq;

/// Run a host: serve the manifest until told to stop.
///
/// Ctrl-C or SIGTERM stop it in order: attempts in hand finish or are given back, and none is charged. SIGHUP and
/// `tidegate reload` load the manifest again; so does saving it. TIDEGATE_LOG chooses what is logged, for example
/// `debug` or `tidegate=debug`.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The manifest.
    #[arg(short, long, value_name = "PATH", default_value = MANIFEST)]
    manifest: PathBuf,
    /// How the host's own log is written, on standard error.
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"], default_value = "text")]
    log_format: String,
    /// Go on although the log has lost events from this sequence number on. Only when a start was refused and says so.
    #[arg(long, value_name = "SEQ")]
    accept_loss_from: Option<Seq>,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Error> {
    log(&args, context)?;
    let clock = context.clock.clone();
    let options = host::Options { manifest: args.manifest, accept_loss_from: args.accept_loss_from, clock };
    host::run(&options).map_err(|e| link::host_error(e, &options.manifest, context))
}

/// Sends the host's log to standard error.
fn log(args: &Args, context: &Context) -> Result<(), Error> {
    let wanted = context.var("TIDEGATE_LOG").unwrap_or_else(|| "info".into());
    let filter = EnvFilter::try_new(&wanted).map_err(|e| {
        Error::usage(format!("TIDEGATE_LOG is '{wanted}', which is no choice of what to log"))
            .because(e)
            .hint("Write a level (error, warn, info, debug, trace) or levels by module, as in `info,tidegate=debug`.")
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(context.out.colour_err());
    // Fails only where somebody listens already, as in tests of this process; then that goes on.
    drop(if args.log_format == "json" { log.json().try_init() } else { log.try_init() });
    Ok(())
}
