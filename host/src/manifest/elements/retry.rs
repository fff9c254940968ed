//! `retry`: how often and how far apart a delivery is attempted.

use schemars::JsonSchema;

use super::super::codes;
use super::super::reader::{At, Reader, Shape};
use super::super::yaml::Node;
use super::bounds::{self, FACTOR_MAX, FACTOR_MIN};
use super::count::Count;
use super::duration::Millis;
use crate::model::retry::{Backoff, Jitter};

pub(crate) const SHAPE: Shape =
    Shape { what: "`retry`", keys: &["attempts", "backoff", "initial", "factor", "max", "jitter"], later: &[] };

/// When a failed attempt is followed by another.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Retry {
    /// Attempts in all, the first included. Default 3.
    pub attempts: Option<At<Count>>,
    /// How the delay grows. Default `exponential`.
    pub backoff: Option<At<Backoff>>,
    /// The delay after the first attempt. Default `1s`.
    pub initial: Option<At<Millis>>,
    /// What each delay of exponential backoff is multiplied with. Default 2.
    #[schemars(with = "Option<Factor>")]
    pub factor: Option<At<f64>>,
    /// No delay is longer. Default `60s`.
    pub max: Option<At<Millis>>,
    /// How the delay is spread, so that deliveries that failed together do not return together. Default `full`.
    pub jitter: Option<At<Jitter>>,
}

impl Retry {
    /// Key by key: what is absent here is the other's.
    pub(crate) fn or(&self, other: &Self) -> Self {
        fn first<T: Clone>(own: &Option<At<T>>, other: &Option<At<T>>) -> Option<At<T>> {
            own.as_ref().or(other.as_ref()).cloned()
        }
        Self {
            attempts: first(&self.attempts, &other.attempts),
            backoff: first(&self.backoff, &other.backoff),
            initial: first(&self.initial, &other.initial),
            factor: first(&self.factor, &other.factor),
            max: first(&self.max, &other.max),
            jitter: first(&self.jitter, &other.jitter),
        }
    }
}

pub(crate) struct Factor;

impl JsonSchema for Factor {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Factor".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A number such as `2` or `1.5`.",
            "anyOf": [{ "type": "number" }, { "type": "string", "pattern": r"^[0-9.]+$|\$\{" }],
        })
    }
}

pub(crate) fn read(reader: &mut Reader, node: &Node) -> Option<Retry> {
    let fields = reader.fields(node, &SHAPE)?;
    let backoffs = [("exponential", Backoff::Exponential), ("linear", Backoff::Linear), ("fixed", Backoff::Fixed)];
    let jitters = [("full", Jitter::Full), ("equal", Jitter::Equal), ("none", Jitter::None)];
    Some(Retry {
        attempts: fields.get("attempts").and_then(|node| reader.quantity(node, "`attempts`", &bounds::RETRY_ATTEMPTS)),
        backoff: fields.get("backoff").and_then(|node| reader.choice(node, "`backoff`", &backoffs)),
        initial: fields.get("initial").and_then(|node| reader.quantity(node, "`initial`", &bounds::RETRY_DELAY)),
        factor: fields.get("factor").and_then(|node| factor(reader, node)),
        max: fields.get("max").and_then(|node| reader.quantity(node, "`max`", &bounds::RETRY_DELAY)),
        jitter: fields.get("jitter").and_then(|node| reader.choice(node, "`jitter`", &jitters)),
    })
}

fn factor(reader: &mut Reader, node: &Node) -> Option<At<f64>> {
    let text = reader.scalar(node, "`factor`", "a number")?;
    let range = format!("`factor` may be {FACTOR_MIN} to {FACTOR_MAX}");
    let digits = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-'));
    let written = reader.written(node);
    match text.parse::<f64>().ok().filter(|_| digits) {
        Some(value) if (FACTOR_MIN..=FACTOR_MAX).contains(&value) => Some(At { value, span: node.span.clone() }),
        Some(_) => {
            let message = format!("`factor` must be {FACTOR_MIN} to {FACTOR_MAX}, not {written}");
            reader.error(codes::OUT_OF_RANGE, node.span.clone(), message, "out of range", range);
            None
        }
        None => {
            let message = format!("{written} is not a number");
            let help = format!("write it like 2 or 1.5; {range}");
            reader.error(codes::COUNT, node.span.clone(), message, "expected a number", help);
            None
        }
    }
}
