use serde_json::value::RawValue;

use super::Context;
use super::args::{Limit, Page, Reach, Span, pages};
use super::backend::Backend;
use super::error::Error;
use super::locate;
use super::output::{Colour, Output};
use super::show;
use super::sse::{Message, Parser};
use super::text;
use crate::model::query::EventQuery;
use crate::model::record::{DeadLetterRecord, EventRecord, OutcomeRecord};
use crate::model::{ConsumerName, Seq, TypePattern};

/// Watch events and outcomes as they come, until Ctrl-C.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Only events of this type, and what came of them: order.created, order.* or order.**.
    #[arg(long = "type", value_name = "PATTERN", value_parser = show::pattern)]
    event_type: Option<String>,
    /// Only outcomes of this consumer.
    #[arg(long, value_name = "NAME", value_parser = ConsumerName::new, conflicts_with = "events")]
    consumer: Option<ConsumerName>,
    /// Only events.
    #[arg(long, conflicts_with = "outcomes")]
    events: bool,
    /// Only outcomes.
    #[arg(long)]
    outcomes: bool,
    /// Answer in JSON, one object a line: `kind` and the record.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let host = locate::host(context, &args.reach)?;
    let wanted = Wanted {
        pattern: args.event_type.as_deref().and_then(|text| TypePattern::new(text).ok()),
        consumer: args.consumer.clone(),
        events: !args.outcomes && args.consumer.is_none(),
        outcomes: !args.events,
    };
    context.out.tip("Watching; Ctrl-C ends it.");
    context.out.flush()?;
    let mut parser = Parser::default();
    host.stream("/stream", |bytes| {
        for message in &parser.push(bytes).ok_or_else(unreadable)? {
            draw(&wanted, message, args.json, &mut context.out)?;
        }
        // Whoever reads our output sees each line as soon as it is there.
        context.out.flush()
    })?;
    Err(ended())
}

/// Goes on after a list of events has been shown.
pub(super) fn follow_events(
    backend: &Backend,
    query: &EventQuery,
    after: Seq,
    json: bool,
    context: &mut Context,
) -> Result<(), Error> {
    let Backend::Host(host) = backend else {
        return Err(Error::environment("no host is running, so no events will come")
            .hint("Start one with `tidegate run`, or leave `--follow` away."));
    };
    context.out.flush()?;
    let (mut last, mut parser, mut first) = (after, Parser::default(), true);
    // The stream only says that there is something; the list is asked for it, with the same filters and without a gap.
    host.stream("/stream", |bytes| {
        let messages = parser.push(bytes).ok_or_else(unreadable)?;
        if std::mem::take(&mut first) || messages.iter().any(|message| message.kind == "event") {
            last = catch_up(backend, query, last, json, &mut context.out)?;
        }
        context.out.flush()
    })?;
    Err(ended())
}

/// Shows what has come after `last`; says what is the last now.
fn catch_up(backend: &Backend, query: &EventQuery, last: Seq, json: bool, out: &mut Output) -> Result<Seq, Error> {
    let span = Span { after: Some(last), limit: Limit(usize::MAX), ..Span::default() };
    let fetch = |page: Page| {
        backend.events(&EventQuery { after: page.after, limit: Some(page.limit), newest: false, ..query.clone() })
    };
    let mut last = last;
    pages(
        &span,
        |event: &EventRecord| (event.sequence, ()),
        fetch,
        |event| {
            last = last.max(event.sequence);
            if json { out.json(&event) } else { out.line(event_line(&event, out)) }
        },
    )?;
    Ok(last)
}

fn unreadable() -> Error {
    Error::environment("the host's stream is not understood").hint("Is the host of the same version as this command?")
}

fn ended() -> Error {
    Error::environment("the host has ended the stream").hint("Has it been stopped? `tidegate stats` tells.")
}

struct Wanted {
    pattern: Option<TypePattern>,
    consumer: Option<ConsumerName>,
    events: bool,
    outcomes: bool,
}

impl Wanted {
    fn fits(&self, event_type: &str) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.matches(event_type))
    }
}

fn draw(wanted: &Wanted, message: &Message, json: bool, out: &mut Output) -> Result<(), Error> {
    let garbled = |e: serde_json::Error| Error::environment("the host's stream is not understood").because(e);
    let line = match message.kind.as_str() {
        "event" => {
            let event: EventRecord = serde_json::from_str(&message.data).map_err(garbled)?;
            (wanted.events && wanted.fits(&event.event_type)).then(|| event_line(&event, out))
        }
        "outcome" => {
            let outcome: OutcomeRecord = serde_json::from_str(&message.data).map_err(garbled)?;
            let consumer = wanted.consumer.as_ref().is_none_or(|name| *name == outcome.consumer);
            (wanted.outcomes && consumer && wanted.fits(&outcome.event_type)).then(|| outcome_line(&outcome, out))
        }
        "dead-letter" => {
            let dead: DeadLetterRecord = serde_json::from_str(&message.data).map_err(garbled)?;
            let consumer = wanted.consumer.as_ref().is_none_or(|name| *name == dead.consumer);
            (wanted.outcomes && consumer && wanted.fits(&dead.event_type)).then(|| dead_line(&dead, out))
        }
        // The host may say more than this version knows: shown as it is, unless something was asked for.
        kind if wanted.events && wanted.outcomes && wanted.pattern.is_none() => {
            Some(format!("{}  {}", text::escape(kind), text::escape(&message.data)))
        }
        _ => None,
    };
    match line {
        None => Ok(()),
        Some(line) if !json => out.line(line),
        Some(_) => {
            let record: Box<RawValue> = serde_json::from_str(&message.data).map_err(garbled)?;
            out.json(&Told { kind: &message.kind, record: &record })
        }
    }
}

#[derive(serde::Serialize)]
struct Told<'a> {
    kind: &'a str,
    record: &'a RawValue,
}

fn event_line(event: &EventRecord, out: &Output) -> String {
    let data = show::data(event).unwrap_or_default();
    let data = out.width().map_or_else(|| data.clone(), |width| text::cut(&data, width));
    let name = out.paint(Colour::Strong, &text::escape(&event.event_type));
    format!("{}  #{}  {name}  {data}", text::time(event.accepted_at), event.sequence)
}

fn outcome_line(outcome: &OutcomeRecord, out: &Output) -> String {
    let attempt = show::attempt(outcome, out);
    format!("{}  #{}  {}  {attempt}", text::time(outcome.started_at), outcome.sequence, outcome.consumer)
}

fn dead_line(dead: &DeadLetterRecord, out: &Output) -> String {
    let mark = out.paint(Colour::Bad, "dead letter");
    let reason = dead.reason.as_deref().map(|reason| format!("  {}", text::escape(reason))).unwrap_or_default();
    format!(
        "{}  #{}  {}  {mark}  {}{reason}",
        text::time(dead.died_at),
        dead.sequence,
        dead.consumer,
        text::escape(&dead.cause)
    )
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::captured;
    use super::*;
    use crate::model::Outcome;

    fn told(wanted: &Wanted, kind: &str, data: &impl serde::Serialize, json: bool) -> String {
        let (mut out, seen, _) = captured(false);
        let message = Message { kind: kind.into(), data: serde_json::to_string(data).unwrap() };
        draw(wanted, &message, json, &mut out).unwrap();
        seen.text()
    }

    #[test]
    fn what_was_asked_for_is_shown() {
        let all = || Wanted { pattern: None, consumer: None, events: true, outcomes: true };
        let event = show::tests::event(12, "order.created");
        let outcome = show::tests::outcome(12, "a", 1, Outcome::Done);
        assert_eq!(told(&all(), "event", &event, false), "1970-01-01T00:00:12.000Z  #12  order.created  {\"n\":12}\n");
        assert_eq!(
            told(&all(), "outcome", &outcome, false),
            "1970-01-01T00:00:01.000Z  #12  a  attempt 1  done  12 ms  21.8k fuel  1.00 MiB\n"
        );
        assert!(told(&all(), "event", &event, true).starts_with("{\"kind\":\"event\",\"record\":{\"sequence\":12,"));
        let other = TypePattern::new("payment.*").ok();
        assert_eq!(told(&Wanted { pattern: other, ..all() }, "event", &event, false), "");
        let consumer = ConsumerName::new("b").ok();
        assert_eq!(told(&Wanted { consumer, ..all() }, "outcome", &outcome, false), "");
        assert_eq!(told(&all(), "reloaded", &"x\u{1b}", false), "reloaded  \"x\\\\u001b\"\n".replace("\\\\", "\\"));
    }
}
