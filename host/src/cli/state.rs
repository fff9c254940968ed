use super::Context;
use super::args::{Limit, Reading};
use super::backend::Backend;
use super::error::Error;
use super::text::{self, Table};
use crate::model::query::{LIMIT_MAX, StateQuery};
use crate::model::record::StateRecord;
use crate::model::{ConsumerName, Timestamp};

/// Show what a consumer keeps in its state.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Whose state.
    #[arg(value_name = "CONSUMER", value_parser = ConsumerName::new)]
    consumer: ConsumerName,
    /// Only keys that begin so.
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// How many keys at most, or `all`.
    #[arg(long, value_name = "N", default_value_t = Limit::default(), value_parser = Limit::parse)]
    limit: Limit,
    #[command(flatten)]
    reading: Reading,
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let backend = Backend::find(context, &args.reading)?;
    let (mut after, mut left, mut shown) = (None, args.limit.0, Vec::new());
    while left > 0 {
        let limit = left.min(LIMIT_MAX);
        let query = StateQuery { prefix: args.prefix.clone(), after: after.clone(), limit: Some(limit) };
        let keys = backend.state(&args.consumer, &query)?;
        left = left.saturating_sub(keys.len());
        // A page may be short because its values are large, so only an empty one is the last.
        let Some(last) = keys.last() else { break };
        after = Some(last.key.clone());
        if args.reading.json {
            keys.iter().try_for_each(|record| context.out.json(record))?;
        } else {
            shown.extend(keys);
        }
    }
    if after.is_none() {
        backend.expect(&args.consumer)?;
    }
    if args.reading.json {
        return Ok(());
    }
    if shown.is_empty() {
        return nothing(args, context);
    }
    let table = table(&shown, context.now());
    context.out.table(&table)
}

fn nothing(args: &Args, context: &mut Context) -> Result<(), Error> {
    let which = if args.prefix.is_empty() { String::new() } else { format!(" under '{}'", text::escape(&args.prefix)) };
    context.out.none(format!("{} keeps no keys{which}", args.consumer))
}

fn table(records: &[StateRecord], now: Timestamp) -> Table {
    let row = |r: &StateRecord| {
        let value = match (&r.value, &r.value_base64) {
            (Some(text), _) => text.clone(),
            (None, Some(base64)) => format!("base64:{base64}"),
            (None, None) => String::new(),
        };
        vec![
            r.key.clone(),
            r.version.to_string(),
            text::bytes(r.bytes),
            r.expires_at.map_or_else(|| "never".into(), |at| text::relative(at, now)),
            value,
        ]
    };
    Table {
        head: &["key", "version", "size", "expires", "value"],
        right: &[1, 2],
        rows: records.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_escaped() {
        let record = StateRecord {
            consumer: ConsumerName::new("a").unwrap(),
            key: "stock/\u{1b}1".into(),
            version: 3,
            bytes: 2,
            expires_at: Some(Timestamp::from_millis(30_000)),
            value: Some("4\n2".into()),
            value_base64: None,
        };
        assert_eq!(
            table(&[record], Timestamp::from_millis(0)).lines(None),
            ["key          version  size  expires  value", "stock/\\x1b1        3   2 B  in 30s   4\\n2",]
        );
    }
}
