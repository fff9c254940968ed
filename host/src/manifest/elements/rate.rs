//! Rates: `100/s`, `10/m`, `20/250ms`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::super::codes;
use super::super::reader::{At, Quantity as _, Reader};
use super::super::yaml::Node;
use super::bounds::{RATE_COUNT, RATE_PER};
use super::count::Count;
use super::duration::Millis;
use crate::model::flow::Rate as Resolved;

/// So many per so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    count: Count,
    per: Millis,
}

impl Rate {
    pub(crate) fn resolved(self) -> Resolved {
        Resolved { count: self.count.small(), per: self.per.duration() }
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A count and a length of time: `100/s`, `10/m`, `1/h`, `20/250ms`.",
            "type": "string",
            "pattern": r"^[0-9_]+/[0-9a-z_]+$|\$\{",
        })
    }
}

pub(crate) fn read(reader: &mut Reader, node: &Node, what: &str) -> Option<At<Rate>> {
    let text = reader.scalar(node, what, "a rate")?;
    let written = reader.written(node);
    let (ranges, span) = (format!("{} in {}", RATE_COUNT.show(), RATE_PER.show()), node.span.clone());
    let Some((count, per)) = parse(text) else {
        let message = format!("{written} is not a rate");
        let help = format!("write it like 100/s, 10/m or 20/250ms; {what} may be {ranges}");
        reader.error(codes::RATE, span, message, "expected a rate", help);
        return None;
    };
    let count = u64::try_from(count).ok().map(Count).filter(|count| RATE_COUNT.0.contains(count));
    let per = u64::try_from(per).ok().map(Millis).filter(|per| RATE_PER.0.contains(per));
    let (Some(count), Some(per)) = (count, per) else {
        let message = format!("{what} must be {ranges}, not {written}");
        let help = if text.starts_with("0/") {
            "nothing would ever be attempted; `tidegate consumers pause NAME` does that"
        } else {
            "choose a smaller or larger length of time"
        };
        reader.error(codes::OUT_OF_RANGE, span, message, "out of range", help);
        return None;
    };
    Some(At { value: Rate { count, per }, span })
}

/// Count, and milliseconds; a unit alone is one of it.
fn parse(text: &str) -> Option<(i128, i128)> {
    let (count, per) = text.trim().split_once('/')?;
    let per = if per.starts_with(|c: char| c.is_ascii_digit()) { Cow::Borrowed(per) } else { format!("1{per}").into() };
    Some((Count::parse(count).ok()?, Millis::parse(&per).ok()?))
}
