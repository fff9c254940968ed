//! Replays: events of the past delivered again. Which events and to whom is decided here; the log keeps how far a replay
//! is, so that it goes on after a restart and makes nothing twice.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::flow::Rate;
use super::spec::{ConsumerSpec, Mode, SubscriptionSpec};
use super::{ConsumerName, Event, Seq, Timestamp, TypePattern};

/// Deliveries of one replay that are not final, at most: a million events are not a million rows at once.
pub const OPEN_MAX: u64 = 1_000;

/// What is to be delivered again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplaySpec {
    /// First and last event.
    pub from: Seq,
    pub to: Seq,
    pub event_type: Option<TypePattern>,
    /// The event's own key.
    pub key: Option<String>,
    pub correlation: Option<String>,
    /// To this consumer only.
    pub consumer: Option<ConsumerName>,
    /// Deliveries made per time.
    pub rate: Option<Rate>,
}

impl ReplaySpec {
    pub fn wants(&self, event: &Event) -> bool {
        let envelope = &event.envelope;
        (self.from..=self.to).contains(&event.seq)
            && self.event_type.as_ref().is_none_or(|pattern| pattern.matches(&envelope.event_type))
            && self.key.as_ref().is_none_or(|key| envelope.key.as_ref() == Some(key))
            && self.correlation.as_ref().is_none_or(|correlation| envelope.correlation_id == *correlation)
    }

    /// Whether the consumer, as it is deployed now, is meant: durable, and named if one is.
    fn means(&self, consumer: &ConsumerSpec) -> bool {
        consumer.delivery.mode == Mode::Durable && self.consumer.as_ref().is_none_or(|name| *name == consumer.name)
    }

    /// The deliveries that these events cause, in order: by event, then by consumer. What consumers subscribe to now counts.
    pub fn plan<'a>(
        &self,
        events: &[Arc<Event>],
        consumers: impl Iterator<Item = &'a ConsumerSpec> + Clone,
    ) -> Vec<(Seq, ConsumerName)> {
        let mut planned = Vec::new();
        for event in events.iter().filter(|event| self.wants(event)) {
            let subscribed = |consumer: &&ConsumerSpec| consumer.subscriptions.iter().any(|s| s.matches(event));
            let foreign = |consumer: &&ConsumerSpec| !event.envelope.is_of_breaker(&consumer.name);
            let meant = consumers.clone().filter(|consumer| self.means(consumer)).filter(foreign).filter(subscribed);
            planned.extend(meant.map(|consumer| (event.seq, consumer.name.clone())));
        }
        planned
    }

    /// Why nothing can come of it, whatever the log holds.
    pub fn check<'a>(&self, consumers: impl Iterator<Item = &'a ConsumerSpec> + Clone) -> Result<(), Refusal> {
        if self.from > self.to {
            return Err(Refusal::Reversed { from: self.from, to: self.to });
        }
        if let Some(name) = &self.consumer {
            let Some(consumer) = consumers.clone().find(|consumer| consumer.name == *name) else {
                return Err(Refusal::NoConsumer(name.clone()));
            };
            if consumer.delivery.mode == Mode::Ephemeral {
                return Err(Refusal::Ephemeral(name.clone()));
            }
        }
        let Some(pattern) = &self.event_type else { return Ok(()) };
        let overlaps = |s: &SubscriptionSpec| s.pattern.overlaps(pattern);
        let meant = consumers.filter(|consumer| self.means(consumer));
        if meant.clone().any(|consumer| consumer.subscriptions.iter().any(overlaps)) {
            return Ok(());
        }
        let pattern = pattern.clone();
        Err(match &self.consumer {
            Some(name) => {
                let on = meant.flat_map(|consumer| &consumer.subscriptions).map(|on| on.pattern.to_string()).collect();
                Refusal::NotSubscribed { name: name.clone(), pattern, on }
            }
            None => Refusal::Nobody(pattern),
        })
    }
}

/// Why nothing can come of a replay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the range ends (at event {to}) before it begins (at event {from})")]
    Reversed { from: Seq, to: Seq },
    #[error("no consumer {0} is deployed")]
    NoConsumer(ConsumerName),
    #[error("{0} is ephemeral: it gets events only as they come")]
    Ephemeral(ConsumerName),
    #[error("{name} does not subscribe to {pattern}, but to {}", if .on.is_empty() { "nothing".into() } else { .on.join(", ") })]
    NotSubscribed { name: ConsumerName, pattern: TypePattern, on: Vec<String> },
    #[error("no consumer subscribes to {0}")]
    Nobody(TypePattern),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayStatus {
    /// Deliveries are still to be made.
    Running,
    /// All of them are made.
    Made,
    /// No more of them are made.
    Cancelled,
}

/// A replay and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    pub id: u64,
    pub spec: ReplaySpec,
    pub status: ReplayStatus,
    /// Everything up to here is made or skipped.
    pub position: Seq,
    /// Deliveries made; of them, those that are not final; those that died.
    pub made: u64,
    pub open: u64,
    pub dead: u64,
    /// Not made, because a delivery of the same event to the same consumer was not final.
    pub skipped: u64,
    pub created_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

impl Replay {
    /// Whether all is made and final, or given up.
    pub fn is_over(&self) -> bool {
        match self.status {
            ReplayStatus::Running => false,
            ReplayStatus::Made => self.open == 0,
            ReplayStatus::Cancelled => true,
        }
    }

    /// The word that people read.
    pub fn word(&self) -> &'static str {
        match self.status {
            ReplayStatus::Cancelled => "cancelled",
            _ if self.is_over() => "done",
            _ => "running",
        }
    }
}

/// The next deliveries of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayStep {
    pub id: u64,
    /// Where it stands: if it does not, the step is not made.
    pub after: Seq,
    /// Where it stands afterwards, if there is room for all.
    pub through: Seq,
    /// By event; those of one event are made together.
    pub deliveries: Vec<(Seq, ConsumerName)>,
    /// Deliveries that may be made.
    pub room: u64,
}

/// What a step would make: answers how many of the deliveries, in whole events, there is room for, and up to which event that is.
/// `takes` says which of them count; the others take no room. Where there is any room, the first event goes in any case.
pub fn fit(step: &ReplayStep, room: u64, mut takes: impl FnMut(&(Seq, ConsumerName)) -> bool) -> (usize, Seq) {
    let (mut taken, mut fits) = (0, 0);
    for group in step.deliveries.chunk_by(|a, b| a.0 == b.0) {
        let wanted = group.iter().filter(|delivery| takes(delivery)).count() as u64;
        if taken + wanted > room && (taken > 0 || room == 0) {
            let before = group.first().map_or(step.through, |(seq, _)| seq.saturating_sub(1));
            return (fits, before);
        }
        taken += wanted;
        fits += group.len();
    }
    (fits, step.through)
}

/// As text: `100/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RateText(pub Rate);

impl fmt::Display for RateText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.0.per.as_secs() {
            3_600 => "h",
            60 => "m",
            _ => "s",
        };
        write!(f, "{}/{unit}", self.0.count)
    }
}

impl TryFrom<String> for RateText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || "write a rate as 100/s, 600/m or 1000/h, with at least 1".to_owned();
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let per = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => return Err(wrong()),
        };
        let count = count.trim().replace('_', "").parse().ok().filter(|&count| count > 0).ok_or_else(wrong)?;
        Ok(Self(Rate { count, per: Duration::from_secs(per) }))
    }
}

impl From<RateText> for String {
    fn from(rate: RateText) -> Self {
        rate.to_string()
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
