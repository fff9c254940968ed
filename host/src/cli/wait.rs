use std::time::Duration;

use serde::Deserialize;

use super::Context;
use super::args::{Reach, duration};
use super::client::{self, Ask, Client, Problem};
use super::error::Error;
use super::locate;
use super::text;
use crate::model::{Seq, time};

/// Wait until every event accepted so far is settled. For scripts.
///
/// Deliveries that wait for a retry count as not settled. What waits for a person is not waited for: dead letters, and deliveries of
/// paused consumers or behind held keys.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Give up after this long; the exit code is then 6.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// Wait only for events up to this sequence number.
    #[arg(long, value_name = "SEQ")]
    through: Option<Seq>,
    /// Wait as well for the events that those cause, and for what these cause in turn, until nothing is left to do.
    #[arg(long, conflicts_with = "through")]
    all: bool,
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

/// What `--all` asks for.
const ALL: &str = "all";

/// A host waits no longer than this for one request; what takes longer is asked again.
const SLICE: Duration = Duration::from_secs(240);

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let host = locate::host(context, &args.reach)?;
    let through = match args.through {
        Some(through) => through.to_string(),
        None if args.all => ALL.to_owned(),
        None => "now".to_owned(),
    };
    let settled = wait(&host, through, args.timeout).map_err(|e| match e {
        client::Error::Problem(problem) if problem.status == 408 => late(&problem, args),
        e => e.into(),
    })?;
    if args.json {
        return context.out.json(&settled);
    }
    context.out.line(format!("everything up to event {} is settled", settled.through))
}

fn wait(host: &Client, mut through: String, mut left: Duration) -> Result<Settled, client::Error> {
    loop {
        let slice = left.min(SLICE);
        left -= slice;
        match ask(host, &through, slice) {
            // What was accepted when the wait began is waited for, not what has come since.
            Err(client::Error::Problem(problem)) if problem.status == 408 && !left.is_zero() => {
                let began = problem.through.filter(|_| through != ALL);
                through = began.map_or(through, |seq| seq.to_string());
            }
            other => return other,
        }
    }
}

fn ask(host: &Client, through: &str, timeout: Duration) -> Result<Settled, client::Error> {
    let path = format!("/wait?through={through}&timeout={}ms", timeout.as_millis());
    host.json_patiently(Ask::get(&path).within(timeout.saturating_add(ANSWER)))
}

fn late(problem: &Problem, args: &Args) -> Error {
    let what = match problem.unsettled {
        // Nothing is left to do, so what is missing is the event itself.
        Some(0) => match args.through {
            Some(through) => format!("event {through} has not been accepted"),
            None => "not everything is settled".to_owned(),
        },
        Some(1) => "1 delivery is not settled".to_owned(),
        Some(n) => format!("{} deliveries are not settled", text::number(n)),
        None => "not everything is settled".to_owned(),
    };
    Error::timeout(format!("{what} after {}", time::written(args.timeout)))
        .hint("See what is waiting with `tidegate consumers`, or wait longer with `--timeout`.")
}
