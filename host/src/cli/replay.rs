use std::time::Duration;

use bytes::Bytes;
use clap::Subcommand;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Context;
use super::args::{Reach, Reading, When};
use super::backend::Backend;
use super::client::{self, Ask, Client};
use super::error::{Error, Kind};
use super::locate;
use super::show;
use super::text::{self, Table};
use crate::model::record::{ReplayPlan, ReplayRecord};
use crate::model::replay::RateText;
use crate::model::{ConsumerName, Seq};

/// Deliver events of the past again.
///
/// Each chosen event is delivered once more to every consumer that subscribes to it now, or to one of them. The host makes the
/// deliveries in small steps and goes on after a restart; Ctrl-C only stops watching. A delivery that is not final yet is not made
/// twice: it is skipped. What a consumer with an `idempotency-key` has settled within its window is not run again.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    start: Start,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(List),
    Show(Show),
    Cancel(Cancel),
}

#[derive(clap::Args, Debug)]
struct Start {
    /// The first event: its sequence number, or the first accepted from a time on: 2026-01-31T08:00:00Z, 2026-01-31, or how long
    /// ago: 15m, 2h, 7d.
    #[arg(long, value_name = "SEQ|TIME", value_parser = Place::parse)]
    from: Option<Place>,
    /// The last event: its sequence number, or the last accepted before a time.
    #[arg(long, value_name = "SEQ|TIME", value_parser = Place::parse)]
    to: Option<Place>,
    /// Events of this type: order.created, order.* or order.**.
    #[arg(long = "type", value_name = "PATTERN", value_parser = show::pattern)]
    event_type: Option<String>,
    /// Events with this key.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Events with this correlation id.
    #[arg(long, value_name = "ID")]
    correlation: Option<String>,
    /// To this consumer only.
    #[arg(long, value_name = "NAME", value_parser = ConsumerName::new)]
    consumer: Option<ConsumerName>,
    /// Deliveries made per time: 100/s, 600/m, 1000/h.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<RateText>,
    /// Only say what would be delivered, and to whom.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Answer in JSON: how it stands in the end.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// List replays, the newest first.
#[derive(clap::Args, Debug)]
struct List {
    #[command(flatten)]
    reading: Reading,
}

/// Show how a replay stands.
#[derive(clap::Args, Debug)]
struct Show {
    #[arg(value_name = "ID")]
    id: u64,
    #[command(flatten)]
    reading: Reading,
}

/// Make no more deliveries of a replay. Those that are made go on.
#[derive(clap::Args, Debug)]
struct Cancel {
    #[arg(value_name = "ID")]
    id: u64,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Sequence(Seq),
    Time(When),
}

impl Place {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(seq) = text.trim_start_matches('#').parse() {
            return Ok(Self::Sequence(seq));
        }
        When::parse(text).map(Self::Time).map_err(|why| format!("write a sequence number, or {why}"))
    }

    fn json(self, context: &Context) -> Value {
        match self {
            Self::Sequence(seq) => json!(seq),
            Self::Time(when) => json!(when.at(context.now())),
        }
    }
}

fn rate(text: &str) -> Result<RateText, String> {
    RateText::try_from(text.to_owned())
}

/// How often the host is asked how far it is.
const POLL: Duration = Duration::from_millis(200);
/// A plan reads every event of the range.
const PLAN: Duration = Duration::from_secs(600);

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    match &args.verb {
        None => start(&args.start, context),
        Some(Verb::List(args)) => list(args, context),
        Some(Verb::Show(args)) => shown(args, context),
        Some(Verb::Cancel(args)) => cancel(args, context),
    }
}

fn start(args: &Start, context: &mut Context) -> Result<(), Error> {
    let chosen = args.from.is_some()
        || args.to.is_some()
        || args.event_type.is_some()
        || args.key.is_some()
        || args.correlation.is_some()
        || args.consumer.is_some();
    if !chosen {
        return Err(Error::usage("say which events to replay").hint(
            "Choose them with `--from` and `--to`, `--type`, `--key` or `--correlation`, or choose a `--consumer`; \
             `--from 1` is all of them.",
        ));
    }
    let host = locate::host(context, &args.reach)?;
    if args.dry_run || !args.yes {
        let plan = ask_plan(&host, args, context)?;
        if args.dry_run {
            return tell_plan(&plan, args.json, context);
        }
        if total(&plan) == 0 {
            return Err(pointless(&plan));
        }
        context.confirm(&format!("Deliver {}?", words(&plan)), false)?;
    }
    let record: ReplayRecord = host.json(Ask::post("/replays", JSON, body(args, false, context)))?;
    watch(&host, record, args.json, context)
}

const JSON: &str = "application/json";

fn body(args: &Start, dry_run: bool, context: &Context) -> Bytes {
    let place = |place: Option<Place>| place.map(|place| place.json(context));
    let body = json!({
        "from": place(args.from),
        "to": place(args.to),
        "type": args.event_type,
        "key": args.key,
        "correlation": args.correlation,
        "consumer": args.consumer,
        "rate": args.rate,
        "dryRun": dry_run,
    });
    Bytes::from(body.to_string())
}

fn ask_plan(host: &Client, args: &Start, context: &mut Context) -> Result<ReplayPlan, Error> {
    context.out.progress("counting");
    Ok(host.json_patiently(Ask::post("/replays", JSON, body(args, true, context)).within(PLAN))?)
}

fn total(plan: &ReplayPlan) -> u64 {
    plan.deliveries.values().sum::<u64>().saturating_sub(plan.skipped)
}

/// `3 events (#1 to #9) again: 5 deliveries, to audit and mail`.
fn words(plan: &ReplayPlan) -> String {
    let names: Vec<&str> = plan.deliveries.keys().map(ConsumerName::as_str).collect();
    format!(
        "{} (between #{} and #{}) again: {}, to {}",
        text::count(plan.events, "event"),
        plan.from,
        plan.to,
        text::deliveries(total(plan)),
        if names.is_empty() { "nobody".to_owned() } else { text::cut(&names.join(", "), 60) }
    )
}

/// There is nothing to agree to.
fn pointless(plan: &ReplayPlan) -> Error {
    if plan.skipped > 0 {
        let message = format!("nothing to deliver: {} that fit are not final yet", text::deliveries(plan.skipped));
        return Error::state(message).hint("Wait for them; see how they stand with `tidegate consumers`.");
    }
    let message = format!("nothing to deliver: no event between #{} and #{} fits", plan.from, plan.to);
    Error::state(message)
        .hint("See what is there with `tidegate events`, and who subscribes to it with `tidegate consumers`.")
}

fn tell_plan(plan: &ReplayPlan, json: bool, context: &mut Context) -> Result<(), Error> {
    if json {
        return context.out.json(plan);
    }
    context.out.line(format!("would deliver {}", words(plan)))?;
    for (consumer, count) in &plan.deliveries {
        context.out.line(format!("  {consumer}  {}", text::number(*count)))?;
    }
    if plan.skipped > 0 {
        let all: u64 = plan.deliveries.values().sum();
        context.out.line(format!(
            "  {} of these {} would be skipped: the same event is not settled yet for the same consumer",
            text::number(plan.skipped),
            text::number(all)
        ))?;
    }
    Ok(())
}

/// Shows how far it is until it is over.
fn watch(host: &Client, mut record: ReplayRecord, json: bool, context: &mut Context) -> Result<(), Error> {
    let id = record.id;
    let path = format!("/replays/{id}");
    while record.status == "running" {
        context.out.progress(&progress(&record));
        let next = host.pause_patiently(context.clock.as_ref(), POLL);
        record = match next.and_then(|()| host.json_patiently(Ask::get(&path))) {
            Ok(record) => record,
            Err(error) => {
                context.out.note(format!(
                    "replay {id} goes on: look at it with `tidegate replay show {id}`, stop it with `tidegate replay cancel {id}`"
                ));
                return Err(client_error(error));
            }
        };
    }
    finish(&record, json, context)
}

fn client_error(error: client::Error) -> Error {
    match error {
        client::Error::Interrupted => Error::interrupted(),
        other => other.into(),
    }
}

fn finish(record: &ReplayRecord, json: bool, context: &mut Context) -> Result<(), Error> {
    if json {
        context.out.json(record)?;
    } else {
        context.out.line(format!("replay {} {}: {}", record.id, record.status, counts(record)))?;
    }
    if record.dead == 0 {
        return Ok(());
    }
    let message = format!("{} of its deliveries died", text::number(record.dead));
    Err(Error::new(Kind::State, message).hint("See what is dead and why with `tidegate dead list`."))
}

/// `made 300 deliveries, 280 of them finished, 2 dead, 5 skipped`.
fn counts(record: &ReplayRecord) -> String {
    let mut parts = vec![format!("made {}", text::deliveries(record.made))];
    parts.push(format!("{} of them finished", text::number(record.finished)));
    for (count, word) in [(record.dead, "dead"), (record.failing, "failing"), (record.skipped, "skipped")] {
        if count > 0 {
            parts.push(format!("{} {word}", text::number(count)));
        }
    }
    parts.join(", ")
}

fn progress(record: &ReplayRecord) -> String {
    format!("replay {}: {}; at event {} of {}", record.id, counts(record), record.position, record.to)
}

#[derive(Deserialize)]
struct Replays {
    replays: Vec<ReplayRecord>,
}

fn list(args: &List, context: &mut Context) -> Result<(), Error> {
    let replays = match Backend::find(context, &args.reading)? {
        Backend::Host(host) => host.json::<Replays>(Ask::get("/replays"))?.replays,
        Backend::File(file) => {
            let found = file.replays(crate::model::query::LIMIT).map_err(super::backend::unread)?;
            found.iter().map(|(replay, failing)| ReplayRecord::new(replay, *failing)).collect()
        }
    };
    if args.reading.json {
        return replays.iter().try_for_each(|replay| context.out.json(replay));
    }
    if replays.is_empty() {
        return context.out.none("no replays: deliver events again with `tidegate replay --from SEQ`");
    }
    context.out.table(&table(&replays))
}

fn table(replays: &[ReplayRecord]) -> Table {
    let row = |r: &ReplayRecord| {
        vec![
            r.id.to_string(),
            r.status.clone(),
            text::time(r.created_at),
            format!("#{} to #{}", r.from, r.to),
            text::number(r.position),
            text::number(r.made),
            text::number(r.finished),
            text::number(r.dead),
            text::number(r.skipped),
            choice(r),
        ]
    };
    Table {
        head: &["id", "status", "begun", "events", "at", "made", "finished", "dead", "skipped", "only"],
        right: &[0, 4, 5, 6, 7, 8],
        rows: replays.iter().map(row).collect(),
    }
}

/// What narrows it.
fn choice(record: &ReplayRecord) -> String {
    let consumer = record.consumer.as_ref().map(ToString::to_string);
    let rate = record.rate.map(|rate| rate.to_string());
    let parts = [
        ("type", &record.event_type),
        ("key", &record.key),
        ("correlation", &record.correlation),
        ("consumer", &consumer),
        ("rate", &rate),
    ];
    let said = parts.iter().filter_map(|(name, value)| Some(format!("{name} {}", text::escape(value.as_ref()?))));
    said.collect::<Vec<_>>().join(", ")
}

fn shown(args: &Show, context: &mut Context) -> Result<(), Error> {
    let found = match Backend::find(context, &args.reading)? {
        Backend::Host(host) => host.find(Ask::get(&format!("/replays/{}", args.id)))?,
        Backend::File(file) => {
            let found = file.replay(args.id).map_err(super::backend::unread)?;
            found.map(|(replay, failing)| ReplayRecord::new(&replay, failing))
        }
    };
    let record: ReplayRecord = found.ok_or_else(|| {
        Error::state(format!("there is no replay {}", args.id)).hint("List them with `tidegate replay list`.")
    })?;
    if args.reading.json {
        return context.out.json(&record);
    }
    let mut rows = vec![
        ("status", record.status.clone()),
        ("begun", text::time(record.created_at)),
        ("events", format!("#{} to #{}, looked at up to #{}", record.from, record.to, record.position)),
        ("deliveries", counts(&record)),
    ];
    rows.extend(record.ended_at.map(|at| ("ended", text::time(at))));
    if !choice(&record).is_empty() {
        rows.push(("only", choice(&record)));
    }
    rows.iter().try_for_each(|(name, value)| context.out.line(format!("{name:<12}  {value}")))
}

fn cancel(args: &Cancel, context: &mut Context) -> Result<(), Error> {
    let host = locate::host(context, &args.reach)?;
    let path = format!("/replays/{}/cancel", args.id);
    let record: ReplayRecord = host.json(Ask::post(&path, JSON, Bytes::new()))?;
    if args.json {
        return context.out.json(&record);
    }
    context.out.line(format!("replay {} cancelled: {}", record.id, counts(&record)))
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
