use std::time::Duration;

use serde::Deserialize;

use super::Context;
use super::args::{Reach, duration};
use super::client::{self, Ask, Client};
use super::error::Error;
use super::locate;
use super::text;
use crate::model::Seq;

/// Wait until every event accepted so far is settled. For scripts.
///
/// Deliveries that wait for a retry count as not settled; dead letters are settled.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Give up after this long; the exit code is then 6.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// Wait only for events up to this sequence number.
    #[arg(long, value_name = "SEQ")]
    through: Option<Seq>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Deserialize, serde::Serialize)]
struct Settled {
    settled: bool,
    through: Seq,
}

/// What a host gets beyond the time limit to say that it has passed.
const ANSWER: Duration = Duration::from_secs(5);

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let host = locate::host(context, &args.reach)?;
    let settled = ask(&host, args.through, args.timeout).map_err(|e| match e {
        client::Error::Problem(problem) if problem.status == 408 => {
            Error::timeout(format!("not everything was settled within {}", text::age(args.timeout)))
                .hint("See what is waiting with `tidegate consumers`, or wait longer with `--timeout`.")
        }
        e => e.into(),
    })?;
    if args.json {
        return context.out.json(&settled);
    }
    context.out.line(format!("everything up to event {} is settled", settled.through))
}

fn ask(host: &Client, through: Option<Seq>, timeout: Duration) -> Result<Settled, client::Error> {
    let through = through.map_or_else(|| "now".to_owned(), |seq| seq.to_string());
    let path = format!("/wait?through={through}&timeout={}ms", timeout.as_millis());
    host.json_patiently(Ask::get(&path).within(timeout.saturating_add(ANSWER)))
}
