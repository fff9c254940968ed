use super::Context;
use super::args::Reading;
use super::backend::Backend;
use super::error::Error;
use super::show;
use crate::model::Seq;
use crate::model::query::EventQuery;

/// Show an event with everything that came of it, as a tree.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Its sequence number, its id, or SOURCE#ID where an id alone is not unique.
    #[arg(value_name = "EVENT")]
    event: String,
    #[command(flatten)]
    reading: Reading,
}

/// A sequence number that the log has given and that is not there was there once: numbers are not given again.
fn missing(reference: &str, backend: &Backend) -> Result<Error, Error> {
    let given = backend.stats()?.map_or(0, |stats| stats.last_sequence);
    let pruned = reference.parse::<Seq>().is_ok_and(|seq| (1..=given).contains(&seq));
    if !pruned {
        return Ok(Error::state(format!("there is no event '{reference}'"))
            .hint("List the newest with `tidegate events`; name one by its sequence number or id."));
    }
    let error = Error::state(format!("event {reference} is no longer in the log"));
    let why = "Retention has taken it, if it was not among a loss that was accepted";
    let oldest = backend.events(&EventQuery { limit: Some(1), ..EventQuery::default() })?;
    Ok(error.hint(match oldest.first() {
        Some(oldest) => format!("{why}. The oldest that is there is {0}: `tidegate event {0}`.", oldest.sequence),
        None => format!("{why}, and all others up to {given}, the last that came."),
    }))
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let backend = Backend::find(context, &args.reading)?;
    let Some(found) = backend.tree(&args.event)? else {
        return Err(missing(&args.event, &backend)?);
    };
    if args.reading.json {
        context.out.json(&found.tree)?;
    } else {
        show::details(&found.tree.event, &mut context.out)?;
        context.out.line("")?;
        for line in show::tree(&found.tree, &context.out) {
            context.out.line(line)?;
        }
    }
    if found.cut {
        context
            .out
            .note("note: it caused more than is shown here; follow it with `tidegate events --correlation` and `tidegate queries --correlation`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, ok, reply};
    use super::super::tests::tidegate;

    #[test]
    fn an_event_that_retention_has_taken_is_told_from_one_that_never_was() {
        const STATS: &str = r#"{"events":1,"lastSequence":9,"outcomes":{},"waiting":0,"deadLetters":0,"generation":1,"databaseBytes":0}"#;
        const OLDEST: &str = r#"{"events":[{"sequence":8,"id":"e","type":"a.b","source":"/s","dataVersion":"1.0.0","correlationId":"e",
            "timestamp":"2026-02-01T11:59:00Z","acceptedAt":"2026-02-01T11:59:01Z","depth":0}]}"#;
        let fake = Fake::start(|asked| match asked.line.as_str() {
            "GET /stats" => ok(STATS),
            line if line.starts_with("GET /events?") => ok(OLDEST),
            _ => reply(404, r#"{"type":"urn:tidegate:problem:not-found","detail":"There is no such event."}"#),
        });
        let (code, _, err) = tidegate(Some(&fake), &["event", "1"]);
        assert_eq!(code, 4);
        assert!(err.starts_with("error: event 1 is no longer in the log\n"), "{err}");
        assert!(err.contains("The oldest that is there is 8"), "{err}");
        for never in ["0", "10", "e-1"] {
            let (code, _, err) = tidegate(Some(&fake), &["event", never]);
            assert!(code == 4 && err.starts_with(&format!("error: there is no event '{never}'")), "{err}");
        }
    }
}
