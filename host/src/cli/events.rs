use super::Context;
use super::args::{Page, Reading, Span, pages};
use super::backend::Backend;
use super::error::Error;
use super::show;
use super::tail;
use super::text::{self, Table};
use crate::model::query::EventQuery;
use crate::model::record::EventRecord;

/// List events: the newest, or those that fit.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Of this type: order.created, order.* or order.**.
    #[arg(long = "type", value_name = "PATTERN", value_parser = show::pattern)]
    event_type: Option<String>,
    /// From this source.
    #[arg(long)]
    source: Option<String>,
    /// About this subject.
    #[arg(long)]
    subject: Option<String>,
    /// With this correlation id.
    #[arg(long, value_name = "ID")]
    correlation: Option<String>,
    #[command(flatten)]
    span: Span,
    /// Go on with new ones as they come, until Ctrl-C.
    #[arg(long, conflicts_with_all = ["until", "before", "database"])]
    follow: bool,
    #[command(flatten)]
    reading: Reading,
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let backend = Backend::find(context, &args.reading)?;
    let query = query(args, context);
    let fetch = |page: Page| {
        let Page { after, before, newest, limit } = page;
        backend.events(&EventQuery { after, before, newest, limit: Some(limit), ..query.clone() })
    };
    let (mut shown, mut last) = (Vec::new(), args.span.after.unwrap_or(0));
    pages(
        &args.span,
        |event: &EventRecord| (event.sequence, ()),
        fetch,
        |event| {
            last = event.sequence;
            if args.reading.json {
                return context.out.json(&event);
            }
            shown.push(event);
            Ok(())
        },
    )?;
    if !args.reading.json {
        print(&shown, args, context)?;
    }
    if args.follow { tail::follow_events(&backend, &query, last, args.reading.json, context) } else { Ok(()) }
}

fn query(args: &Args, context: &Context) -> EventQuery {
    let now = context.now();
    EventQuery {
        event_type: args.event_type.clone(),
        source: args.source.clone(),
        subject: args.subject.clone(),
        correlation: args.correlation.clone(),
        since: args.span.since.map(|when| when.at(now)),
        until: args.span.until.map(|when| when.at(now)),
        ..EventQuery::default()
    }
}

fn print(events: &[EventRecord], args: &Args, context: &mut Context) -> Result<(), Error> {
    let Some(first) = events.first() else {
        return context.out.none("no events fit: send one with `tidegate emit TYPE DATA`");
    };
    context.out.table(&table(events))?;
    if args.span.newest() && events.len() >= args.span.limit.0 {
        context.out.tip(format!("There may be older ones: `--before {}`.", first.sequence));
    }
    context.out.tip(format!("See what came of one with `tidegate event {}`.", first.sequence));
    Ok(())
}

fn table(events: &[EventRecord]) -> Table {
    let row = |e: &EventRecord| {
        vec![
            e.sequence.to_string(),
            text::time(e.accepted_at),
            show::name(e),
            text::cut(&e.source, 30),
            e.subject.as_deref().map_or_else(|| "-".into(), |subject| text::cut(subject, 30)),
            text::cut(&e.id, 40),
            show::data(e).unwrap_or_default(),
        ]
    };
    Table {
        head: &["sequence", "accepted", "type", "source", "subject", "id", "data"],
        right: &[0],
        rows: events.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_safe_line() {
        let mut event = show::tests::event(12, "order.created");
        event.subject = Some("A\u{202e}1".into());
        assert_eq!(
            table(&[event]).lines(None)[1],
            concat!("      12  1970-01-01T00:00:12.000Z  order.created  /shop   ", "A\\u{202e}1  id-12  {\"n\":12}")
        );
    }
}
