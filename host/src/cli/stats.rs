use super::Context;
use super::args::Reading;
use super::backend::Backend;
use super::error::Error;
use super::output::Colour;
use super::text;
use crate::model::record::StatsRecord;
use crate::model::{Outcome, Timestamp};

/// Show the database in a few numbers.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    reading: Reading,
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let backend = Backend::find(context, &args.reading)?;
    let stats = backend.stats()?.ok_or_else(|| {
        Error::state("the database has not been used yet").hint("Start a host on it with `tidegate run`.")
    })?;
    if args.reading.json {
        return context.out.json(&stats);
    }
    let now = context.now();
    let running = matches!(backend, Backend::Host(_));
    for (name, value, colour) in lines(&stats, running, now) {
        let value = match colour {
            Some(colour) => context.out.paint(colour, &value),
            None => value,
        };
        context.out.line(format!("{name:<16}  {value}"))?;
    }
    if stats.dead_letters > 0 {
        context.out.tip("See what is dead and why with `tidegate dead list`.");
    }
    Ok(())
}

fn lines(stats: &StatsRecord, running: bool, now: Timestamp) -> Vec<(String, String, Option<Colour>)> {
    let plain = |name: &str, value: String| (name.to_owned(), value, None);
    let ago = |at: Timestamp| format!("{} ({})", text::time(at), text::relative(at, now));
    let mut lines = vec![
        plain("host", if running { "running".into() } else { "not running".into() }),
        plain("generation", stats.generation.to_string()),
        plain("events", text::number(stats.events)),
        plain("last sequence", stats.last_sequence.to_string()),
    ];
    lines.extend(stats.first_event_at.map(|at| plain("first event", ago(at))));
    lines.extend(stats.last_event_at.map(|at| plain("last event", ago(at))));
    lines.extend(stats.last_outcome_at.map(|at| plain("last outcome", ago(at))));
    lines.extend(pace(stats).map(|pace| plain("pace", pace)));
    lines.push(plain("waiting", text::number(stats.waiting)));
    let dead = (stats.dead_letters > 0).then_some(Colour::Bad);
    lines.push(("dead letters".into(), text::number(stats.dead_letters), dead));
    lines.push(plain("database", text::bytes(stats.database_bytes)));
    lines.push(plain("attempts", text::number(stats.outcomes.values().sum())));
    for outcome in Outcome::ALL {
        if let Some(&n) = stats.outcomes.get(&outcome).filter(|&&n| n > 0) {
            lines.push((format!("  {}", outcome.as_str()), text::number(n), Some(Colour::of(outcome))));
        }
    }
    lines
}

/// The mean over the whole time in which there was anything to do.
fn pace(stats: &StatsRecord) -> Option<String> {
    let last = stats.last_outcome_at?.max(stats.last_event_at?);
    let seconds = last.since(stats.first_event_at?).as_secs_f64();
    let attempts: u64 = stats.outcomes.values().sum();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate, rounded"
    )]
    let a_second = |n: u64| text::number((n as f64 / seconds) as u64);
    (seconds > 0.0).then(|| {
        let (events, attempts) = (a_second(stats.events), a_second(attempts));
        format!("{events} events and {attempts} attempts a second, from the first event to the last event or outcome")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Generation;

    #[test]
    fn numbers_are_shown_with_what_they_count() {
        let stats = StatsRecord {
            events: 1_200,
            last_sequence: 1_204,
            outcomes: [(Outcome::Done, 2_000), (Outcome::OutOfFuel, 3), (Outcome::Retry, 0)].into(),
            waiting: 2,
            dead_letters: 1,
            generation: Generation(4),
            database_bytes: 3 << 20,
            first_event_at: None,
            last_event_at: Some(Timestamp::from_millis(1_000)),
            last_outcome_at: None,
        };
        let shown: Vec<String> = lines(&stats, true, Timestamp::from_millis(6_000))
            .into_iter()
            .map(|(name, value, _)| format!("{name}: {value}"))
            .collect();
        assert_eq!(
            shown,
            [
                "host: running",
                "generation: 4",
                "events: 1,200",
                "last sequence: 1204",
                "last event: 1970-01-01T00:00:01.000Z (5s ago)",
                "waiting: 2",
                "dead letters: 1",
                "database: 3.00 MiB",
                "attempts: 2,003",
                "  done: 2,000",
                "  out-of-fuel: 3",
            ]
        );
    }
}
