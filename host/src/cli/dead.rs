use bytes::Bytes;
use clap::Subcommand;
use serde::{Deserialize, Serialize};

use super::Context;
use super::args::{Limit, Page, Reach, Reading, Span, When, pages};
use super::backend::{self, Backend, DeadStory};
use super::client::{Ask, Client};
use super::error::Error;
use super::locate;
use super::output::Colour;
use super::show;
use super::text::{self, Table};
use crate::model::query::{DeadLetterQuery, LIMIT_MAX};
use crate::model::record::DeadLetterRecord;
use crate::model::{ConsumerName, DeliveryId};

/// List, inspect, redrive and discard dead letters.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(List),
    Show(Show),
    /// Deliver dead letters again: a new delivery for each.
    Redrive(Decide),
    /// Mark dead letters as no longer needed; they stay on record.
    Discard(Decide),
}

/// Which dead letters.
#[derive(clap::Args, Clone, Debug)]
struct Which {
    /// Of this consumer.
    #[arg(long, value_name = "NAME", value_parser = ConsumerName::new)]
    consumer: Option<ConsumerName>,
    /// Of events of this type: order.created, order.* or order.**.
    #[arg(long = "type", value_name = "PATTERN", value_parser = show::pattern)]
    event_type: Option<String>,
    /// That died of this.
    #[arg(long, value_parser = ["rejected", "refused", "attempts-exhausted", "expired", "crashed"])]
    cause: Option<String>,
}

/// List dead letters: the newest, or those that fit.
#[derive(clap::Args, Debug)]
struct List {
    #[command(flatten)]
    which: Which,
    /// Those that still are dead, or that were decided on.
    #[arg(long, value_parser = ["dead", "redriven", "discarded", "all"], default_value = "dead")]
    status: String,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    reading: Reading,
}

/// Show one dead letter with its event, every attempt and what the handler logged.
#[derive(clap::Args, Debug)]
struct Show {
    /// As `dead list` shows it: SEQ/CONSUMER or SEQ/CONSUMER/ROUND.
    #[arg(value_name = "ID", value_parser = show::delivery_id)]
    id: DeliveryId,
    #[command(flatten)]
    reading: Reading,
}

#[derive(clap::Args, Debug)]
struct Decide {
    /// As `dead list` shows them: SEQ/CONSUMER or SEQ/CONSUMER/ROUND. Without ids, those that fit the filters.
    #[arg(value_name = "ID", value_parser = show::delivery_id, conflicts_with_all = ["consumer", "event_type", "cause", "since", "until", "all"])]
    ids: Vec<DeliveryId>,
    #[command(flatten)]
    which: Which,
    /// That died from this time on: 2026-01-31T08:00:00Z, 2026-01-31, or how long ago: 15m, 2h, 7d.
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    since: Option<When>,
    /// That died before this time.
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    until: Option<When>,
    /// At most so many, the oldest first; or `all`.
    #[arg(long, value_name = "N", default_value = "all", value_parser = Limit::parse)]
    limit: Limit,
    /// Every dead letter there is.
    #[arg(long, conflicts_with_all = ["consumer", "event_type", "cause", "since", "until"])]
    all: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Answer in JSON: an object for each new or discarded delivery.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Redrive,
    Discard,
}

impl Decision {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Redrive => ("redrive", "redriven"),
            Self::Discard => ("discard", "discarded"),
        }
    }
}

#[derive(Serialize)]
struct Selection<'a> {
    ids: &'a [String],
}

#[derive(Deserialize)]
struct Decided {
    deliveries: Vec<String>,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Error> {
    match args.verb {
        Verb::List(args) => list(&args, context),
        Verb::Show(args) => story(&args, context),
        Verb::Redrive(args) => decide(&args, Decision::Redrive, context),
        Verb::Discard(args) => decide(&args, Decision::Discard, context),
    }
}

fn query(which: &Which, since: Option<When>, until: Option<When>, context: &Context) -> DeadLetterQuery {
    let now = context.now();
    DeadLetterQuery {
        consumer: which.consumer.clone(),
        event_type: which.event_type.clone(),
        cause: which.cause.clone(),
        since: since.map(|when| when.at(now)),
        until: until.map(|when| when.at(now)),
        ..DeadLetterQuery::default()
    }
}

fn key(letter: &DeadLetterRecord) -> (u64, (ConsumerName, u32)) {
    (letter.sequence, (letter.consumer.clone(), letter.round))
}

fn list(args: &List, context: &mut Context) -> Result<(), Error> {
    let backend = Backend::find(context, &args.reading)?;
    let mut query = query(&args.which, args.span.since, args.span.until, context);
    query.status = Some(args.status.clone());
    let fetch = |Page { after, before, newest, limit }: Page| {
        backend.dead_letters(&DeadLetterQuery { after, before, newest, limit: Some(limit), ..query.clone() })
    };
    let (mut shown, mut any) = (Vec::new(), false);
    pages(&args.span, key, fetch, |letter| {
        any = true;
        if args.reading.json {
            return context.out.json(&letter);
        }
        shown.push(letter);
        Ok(())
    })?;
    if !any {
        args.which.consumer.iter().try_for_each(|name| backend.expect(name))?;
    }
    if args.reading.json {
        return Ok(());
    }
    let Some(last) = shown.last() else {
        return context.out.none("no dead letters fit");
    };
    context.out.table(&table(&shown))?;
    context.out.tip(format!(
        "See the whole story of one with `tidegate dead show {0}`, deliver it again with `tidegate dead redrive {0}`.",
        last.id
    ));
    Ok(())
}

fn table(letters: &[DeadLetterRecord]) -> Table {
    let row = |l: &DeadLetterRecord| {
        vec![
            l.id.clone(),
            text::time(l.died_at),
            text::cut(&l.event_type, 40),
            l.status.clone(),
            l.cause.clone(),
            l.outcome.as_str().to_owned(),
            l.attempts.to_string(),
            l.reason.clone().unwrap_or_default(),
        ]
    };
    Table {
        head: &["id", "died", "type", "status", "cause", "last outcome", "attempts", "reason"],
        right: &[6],
        rows: letters.iter().map(row).collect(),
    }
}

fn story(args: &Show, context: &mut Context) -> Result<(), Error> {
    let backend = Backend::find(context, &args.reading)?;
    let Some(story) = backend.dead_letter(&args.id)? else { return Err(no_letter(&args.id)) };
    if args.reading.json {
        return context.out.json(&story);
    }
    draw(&story, context)?;
    if story.dead_letter.status == "dead" {
        context.out.tip(format!("Deliver it again with `tidegate dead redrive {}`.", args.id));
    }
    Ok(())
}

fn no_letter(id: &DeliveryId) -> Error {
    Error::state(format!("there is no dead letter {id}"))
        .hint("List them with `tidegate dead list --status all`.")
        .hint(format!("See how the event's deliveries stand with `tidegate event {}`.", id.seq))
}

fn draw(story: &DeadStory, context: &mut Context) -> Result<(), Error> {
    let DeadStory { dead_letter: letter, outcomes, event } = story;
    let out = &mut context.out;
    let status = out.paint(Colour::Bad, &text::escape(&letter.status));
    out.line(format!(
        "{}  {status}  {} at {}",
        text::escape(&letter.id),
        text::escape(&letter.cause),
        text::time(letter.died_at)
    ))?;
    if let Some(reason) = &letter.reason {
        out.line(format!("{:<12}  {}", "reason", text::escape(reason)))?;
    }
    out.line("")?;
    for outcome in outcomes {
        let line = show::attempt(outcome, out);
        out.line(format!("{}  {line}", text::time(outcome.started_at)))?;
        show::logs(outcome, "    ", out)?;
    }
    out.line("")?;
    out.line(format!("{:<12}  {} #{}", "event", text::escape(&event.event_type), event.sequence))?;
    show::details(event, out)
}

fn decide(args: &Decide, decision: Decision, context: &mut Context) -> Result<(), Error> {
    let (verb, past) = decision.words();
    let filtered = args.which.consumer.is_some()
        || args.which.event_type.is_some()
        || args.which.cause.is_some()
        || args.since.is_some()
        || args.until.is_some();
    if args.ids.is_empty() && !filtered && !args.all {
        return Err(Error::usage(format!("say which dead letters to {verb}"))
            .hint(format!("Name them, as in `tidegate dead {verb} 12/send-mail`, choose with `--consumer`, `--type`, `--cause` or `--since`, or take `--all`.")));
    }
    let host = locate::host(context, &args.reach)?;
    let ids = if args.ids.is_empty() {
        chosen(&host, args, decision, context)?
    } else {
        let ids: Vec<String> = args.ids.iter().map(ToString::to_string).collect();
        // To deliver again what was named one by one loses nothing; to discard it does.
        let question = format!(
            "Discard {}? What is discarded is never delivered again.",
            text::count(ids.len() as u64, "dead letter")
        );
        context.confirm(&question, args.yes || decision == Decision::Redrive)?;
        ids
    };
    let mut done = Vec::new();
    for part in ids.chunks(LIMIT_MAX) {
        done.extend(send(&host, verb, part)?);
    }
    if args.json {
        return done.iter().try_for_each(|id| context.out.json(&serde_json::json!({ "delivery": id })));
    }
    context.out.line(format!("{past} {}", text::count(done.len() as u64, "dead letter")))?;
    let missed = ids.len().saturating_sub(done.len()) as u64;
    if missed > 0 {
        let message = format!("{} not {past}: no longer dead, or never were", text::count(missed, "delivery"));
        let message = message.replace("deliverys", "deliveries");
        return Err(Error::state(message).hint("See how they stand with `tidegate dead list --status all`."));
    }
    Ok(())
}

/// Those that fit now, agreed to by name: what dies while the question is being read is not among them.
fn chosen(host: &Client, args: &Decide, decision: Decision, context: &mut Context) -> Result<Vec<String>, Error> {
    let query = query(&args.which, args.since, args.until, context);
    let span = Span { after: Some(0), limit: args.limit, ..Span::default() };
    let fetch = |Page { after, limit, .. }: Page| {
        backend::dead_letters(host, &DeadLetterQuery { after, limit: Some(limit), ..query.clone() })
    };
    let mut letters = Vec::new();
    pages(&span, key, fetch, |letter| {
        letters.push(letter);
        Ok(())
    })?;
    if letters.is_empty() {
        return Err(Error::state("no dead letter fits").hint("List them with `tidegate dead list`."));
    }
    let mut consumers: Vec<_> = letters.iter().map(|letter| letter.consumer.as_str()).collect();
    consumers.sort_unstable();
    consumers.dedup();
    let (count, of) = (text::count(letters.len() as u64, "dead letter"), text::cut(&consumers.join(", "), 60));
    let question = match decision {
        Decision::Redrive => format!("Redrive {count} of {of}?"),
        Decision::Discard => format!("Discard {count} of {of}? What is discarded is never delivered again."),
    };
    context.confirm(&question, args.yes)?;
    Ok(letters.into_iter().map(|letter| letter.id).collect())
}

fn send(host: &Client, verb: &str, ids: &[String]) -> Result<Vec<String>, Error> {
    let body = serde_json::to_vec(&Selection { ids }).map_err(|e| Error::bug("cannot write JSON").because(e))?;
    let path = format!("/dead-letters/{verb}");
    Ok(host.json::<Decided>(Ask::post(&path, "application/json", Bytes::from(body)))?.deliveries)
}
