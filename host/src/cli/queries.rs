use super::Context;
use super::args::{Page, Reading, Span, pages};
use super::backend::Backend;
use super::error::Error;
use super::text::{self, Table};
use crate::model::query::QuestionQuery;
use crate::model::record::QueryRecord;
use crate::model::{ConsumerName, QueryOutcome};

/// List questions and what came of them.
///
/// They are taken down a moment after the answer. `--after` and `--before` count by their numbers.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Of this type.
    #[arg(long = "type", value_name = "TYPE")]
    query_type: Option<String>,
    /// Answered by this consumer.
    #[arg(long, value_name = "NAME", value_parser = ConsumerName::new)]
    responder: Option<ConsumerName>,
    /// Asked by this consumer.
    #[arg(long, value_name = "NAME", value_parser = ConsumerName::new)]
    consumer: Option<ConsumerName>,
    /// That ended so: answered, no-responder, timed-out, invalid, not-found, unavailable, failed, abandoned.
    #[arg(long, value_parser = outcome)]
    outcome: Option<QueryOutcome>,
    /// With this correlation id.
    #[arg(long, value_name = "ID")]
    correlation: Option<String>,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    reading: Reading,
}

fn outcome(word: &str) -> Result<QueryOutcome, String> {
    QueryOutcome::parse(word).ok_or_else(|| {
        let words: Vec<_> = QueryOutcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
        match text::nearest(word, words.iter().copied()) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("it is one of {}", words.join(", ")),
        }
    })
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let backend = Backend::find(context, &args.reading)?;
    let now = context.now();
    let query = QuestionQuery {
        query_type: args.query_type.clone(),
        responder: args.responder.clone(),
        consumer: args.consumer.clone(),
        outcome: args.outcome,
        correlation: args.correlation.clone(),
        since: args.span.since.map(|when| when.at(now)),
        until: args.span.until.map(|when| when.at(now)),
        ..QuestionQuery::default()
    };
    let fetch = |page: Page| {
        let Page { after, before, newest, limit } = page;
        backend.queries(&QuestionQuery { after, before, newest, limit: Some(limit), ..query.clone() })
    };
    let (mut shown, mut any) = (Vec::new(), false);
    pages(
        &args.span,
        |query: &QueryRecord| (query.number, ()),
        fetch,
        |query| {
            any = true;
            if args.reading.json {
                return context.out.json(&query);
            }
            shown.push(query);
            Ok(())
        },
    )?;
    if !any {
        args.responder.iter().chain(&args.consumer).try_for_each(|name| backend.expect(name))?;
    }
    if args.reading.json {
        return Ok(());
    }
    if shown.is_empty() {
        return context.out.none("no questions fit");
    }
    context.out.table(&table(&shown))
}

fn table(queries: &[QueryRecord]) -> Table {
    let row = |q: &QueryRecord| {
        let asker = q.delivery.clone().or_else(|| q.consumer.as_ref().map(ToString::to_string));
        vec![
            q.number.to_string(),
            text::time(q.asked_at),
            text::cut(&q.query_type, 40),
            asker.unwrap_or_else(|| q.asked_by.clone()),
            q.responder.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            q.outcome.as_str().to_owned(),
            text::millis(q.duration_ms),
            text::rough(q.fuel),
            q.reason.clone().unwrap_or_default(),
        ]
    };
    Table {
        head: &["number", "asked", "type", "by", "responder", "outcome", "took", "fuel", "reason"],
        right: &[0, 6, 7],
        rows: queries.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Generation, Timestamp};

    #[test]
    fn a_question_is_one_line() {
        let query = QueryRecord {
            number: 7,
            id: "q-7".into(),
            query_type: "stock.check".into(),
            asked_at: Timestamp(1_000_000),
            responder: None,
            asked_by: "client".into(),
            consumer: None,
            delivery: None,
            call: None,
            parent: None,
            correlation_id: "q-7".into(),
            depth: 1,
            outcome: QueryOutcome::TimedOut,
            reason: Some("all were busy".into()),
            duration_ms: 12.0,
            fuel: 0,
            question_bytes: 2,
            answer_bytes: 0,
            generation: Generation(1),
            logs: Vec::new(),
        };
        let asked = QueryRecord {
            delivery: Some("12/orders".into()),
            consumer: ConsumerName::new("orders").ok(),
            responder: ConsumerName::new("stock").ok(),
            outcome: QueryOutcome::Answered,
            reason: None,
            fuel: 21_800,
            ..query.clone()
        };
        assert_eq!(
            table(&[query, asked]).lines(None),
            [
                "number  asked                     type         by         responder  outcome     took   fuel  reason",
                "     7  1970-01-01T00:00:01.000Z  stock.check  client     -          timed-out  12 ms      0  all were busy",
                "     7  1970-01-01T00:00:01.000Z  stock.check  12/orders  stock      answered   12 ms  21.8k",
            ]
        );
    }

    #[test]
    fn a_mistyped_outcome_is_guessed() {
        assert_eq!(outcome("not-found"), Ok(QueryOutcome::NotFound));
        assert_eq!(outcome("notfound"), Err("did you mean 'not-found'?".into()));
    }
}
