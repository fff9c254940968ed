use super::Context;
use super::args::{Page, Reading, Span, pages};
use super::backend::Backend;
use super::error::Error;
use super::text::{self, Table};
use crate::model::query::OutcomeQuery;
use crate::model::record::OutcomeRecord;
use crate::model::{ConsumerName, Outcome, Seq};

/// List what came of attempts.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Of this consumer.
    #[arg(long, value_name = "NAME", value_parser = ConsumerName::new)]
    consumer: Option<ConsumerName>,
    /// That ended so: done, retry, defer, reject, trapped, timed-out, out-of-fuel, out-of-memory, over-limit, refused,
    /// interrupted, duplicate, expired, crashed, withdrawn.
    #[arg(long, value_parser = outcome)]
    outcome: Option<Outcome>,
    /// Of the event with this sequence number.
    #[arg(long, value_name = "SEQ")]
    sequence: Option<Seq>,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    reading: Reading,
}

fn outcome(word: &str) -> Result<Outcome, String> {
    Outcome::parse(word).ok_or_else(|| {
        let words: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
        match text::nearest(word, words.iter().copied()) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("it is one of {}", words.join(", ")),
        }
    })
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let backend = Backend::find(context, &args.reading)?;
    let now = context.now();
    let query = OutcomeQuery {
        consumer: args.consumer.clone(),
        outcome: args.outcome,
        sequence: args.sequence,
        since: args.span.since.map(|when| when.at(now)),
        until: args.span.until.map(|when| when.at(now)),
        ..OutcomeQuery::default()
    };
    let fetch = |page: Page| {
        let Page { after, before, newest, limit } = page;
        backend.outcomes(&OutcomeQuery { after, before, newest, limit: Some(limit), ..query.clone() })
    };
    let key = |o: &OutcomeRecord| (o.sequence, (o.consumer.clone(), o.round, o.call));
    let (mut shown, mut any) = (Vec::new(), false);
    pages(&args.span, key, fetch, |outcome| {
        any = true;
        if args.reading.json {
            return context.out.json(&outcome);
        }
        shown.push(outcome);
        Ok(())
    })?;
    if !any {
        args.consumer.iter().try_for_each(|name| backend.expect(name))?;
    }
    if args.reading.json {
        return Ok(());
    }
    if shown.is_empty() {
        return context.out.none("no attempts fit");
    }
    context.out.table(&table(&shown))
}

fn table(outcomes: &[OutcomeRecord]) -> Table {
    let row = |o: &OutcomeRecord| {
        let round = text::origin(o.origin.as_deref(), o.round);
        vec![
            o.sequence.to_string(),
            text::time(o.started_at),
            text::cut(&o.event_type, 40),
            format!("{}{round}", o.consumer),
            o.attempt.to_string(),
            o.outcome.as_str().to_owned(),
            text::millis(o.duration_ms),
            text::rough(o.fuel),
            text::bytes(o.memory_peak),
            o.generation.to_string(),
            o.reason.clone().unwrap_or_default(),
        ]
    };
    Table {
        head: &[
            "sequence",
            "started",
            "type",
            "consumer",
            "attempt",
            "outcome",
            "took",
            "fuel",
            "memory",
            "generation",
            "reason",
        ],
        right: &[0, 4, 6, 7, 8, 9],
        rows: outcomes.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::show;
    use super::*;

    #[test]
    fn an_attempt_is_one_line() {
        let mut record = show::tests::outcome(12, "hog", 2, Outcome::OutOfFuel);
        record.reason = Some("used all of its fuel".into());
        assert_eq!(
            table(&[record]).lines(None),
            [
                "sequence  started                   type           consumer  attempt  outcome       took   fuel    memory  generation  reason",
                "      12  1970-01-01T00:00:01.000Z  order.created  hog             2  out-of-fuel  12 ms  21.8k  1.00 MiB           1  used all of its fuel",
            ]
        );
    }

    #[test]
    fn a_mistyped_outcome_is_guessed() {
        assert_eq!(outcome("timed-out"), Ok(Outcome::TimedOut));
        assert_eq!(outcome("timedout"), Err("did you mean 'timed-out'?".into()));
        assert!(outcome("xyz").unwrap_err().starts_with("it is one of done, retry"));
    }
}
