use super::Context;
use super::args::Reading;
use super::backend::Backend;
use super::error::Error;
use super::text::{self, Table};
use crate::model::Timestamp;
use crate::model::record::ConsumerRecord;

/// List the consumers and how they stand.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    reading: Reading,
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let consumers = Backend::find(context, &args.reading)?.consumers()?;
    if args.reading.json {
        return consumers.iter().try_for_each(|consumer| context.out.json(consumer));
    }
    if consumers.is_empty() {
        context
            .out
            .tip("No consumers yet: add one under `consumers` in the manifest, or drop a component into its folder.");
        return Ok(());
    }
    let table = table(&consumers, context.now());
    context.out.table(&table)?;
    if consumers.iter().any(|consumer| consumer.dead_letters > 0) {
        context.out.tip("See what is dead and why with `tidegate dead list`.");
    }
    Ok(())
}

fn table(consumers: &[ConsumerRecord], now: Timestamp) -> Table {
    let row = |c: &ConsumerRecord| {
        vec![
            c.name.to_string(),
            c.status.clone(),
            text::number(c.running),
            text::number(c.depth),
            text::number(c.waiting),
            c.oldest_waiting_since.map_or_else(|| "-".into(), |at| text::age(now.since(at))),
            text::number(c.succeeded),
            text::number(c.failed_attempts),
            text::number(c.dead_letters),
            c.on.join(", "),
        ]
    };
    Table {
        head: &[
            "consumer",
            "status",
            "running",
            "depth",
            "waiting",
            "oldest",
            "succeeded",
            "failed attempts",
            "dead",
            "on",
        ],
        right: &[2, 3, 4, 5, 6, 7, 8],
        rows: consumers.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ConsumerName;

    #[test]
    fn a_consumer_is_one_line() {
        let consumer = ConsumerRecord {
            name: ConsumerName::new("send-confirmation").unwrap(),
            status: "active".into(),
            on: vec!["order.created".into(), "order.paid".into()],
            component: "consumers/a.wasm".into(),
            running: 2,
            depth: 1_200,
            waiting: 3,
            oldest_waiting_since: Some(Timestamp::from_millis(0)),
            succeeded: 40_000,
            failed_attempts: 7,
            dead_letters: 1,
        };
        let lines = table(&[consumer], Timestamp::from_millis(90_000)).lines(None);
        assert_eq!(
            lines,
            [
                "consumer           status  running  depth  waiting  oldest  succeeded  failed attempts  dead  on",
                "send-confirmation  active        2  1,200        3  1m 30s     40,000                7     1  order.created, order.paid",
            ]
        );
    }
}
