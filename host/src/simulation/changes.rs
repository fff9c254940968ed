//! What became durable, for the model.

use std::fmt;

use futures_util::FutureExt as _;

use crate::log::memory::{MemoryLog, RunStanding};
use crate::log::{
    Activated, Activation, Appended, Commit, DeadDecision, DeadSelection, Error, EventLog as _, Rekey, Settled,
    Settlement, Waiting,
};
use crate::model::pipeline::errand::{Errand, Order};
use crate::model::pipeline::run::{Refusal, RunId, Status};
use crate::model::replay::{Replay, ReplaySpec, ReplayStep};
use crate::model::{ConsumerName, DeliveryId, Envelope, Seq, Timestamp};

/// Something that has become durable, for the model, in the order of the log. With the answer that is given.
pub(super) enum Change {
    Appended(Vec<Envelope>, Result<Vec<Appended>, Error>),
    Settled(Vec<Settlement>, Settled),
    Parked(Vec<Waiting>),
    Claimed(DeliveryId),
    Paused(ConsumerName, bool),
    Released(ConsumerName, Vec<String>),
    Rekeyed(Rekey, Option<(Seq, u32)>),
    Activated(Activation, Activated),
    Decided(DeadSelection, DeadDecision, Vec<DeliveryId>),
    /// A person wanted this of a run, and was answered so.
    Ordered(RunId, Order, Option<Result<Status, Refusal>>),
    /// Runs were told that their time has come.
    Rang,
    ReplayStarted(ReplaySpec, u64),
    Replayed(ReplayStep, Option<Replay>),
    ReplayCancelled(u64, bool),
    /// It is known which schedules there are.
    Planned,
    Fired(String, Timestamp, Box<Envelope>, bool),
    /// What is older than this, and may go, is gone.
    Pruned(Timestamp, Vec<Seq>),
    Advanced(Vec<(ConsumerName, Seq)>),
}

/// What one write changed, and what it told the world.
pub(super) struct Applied {
    pub(super) change: Change,
    pub(super) commits: Vec<Commit>,
    /// Runs as the log has them after it, those that it may have changed among them.
    pub(super) runs: Vec<RunStanding>,
    /// What deliveries that it made are for.
    pub(super) errands: Vec<(DeliveryId, Errand)>,
}

impl Change {
    /// Whether runs may be others after it.
    fn touches_runs(&self) -> bool {
        match self {
            Self::Settled(settlements, Settled::Committed) => settlements.iter().any(|one| one.run.is_some()),
            Self::Ordered(..) | Self::Rang => true,
            _ => false,
        }
    }
}

impl Applied {
    /// As the log is at once after it.
    pub(super) fn new(change: Change, commits: Vec<Commit>, log: &MemoryLog) -> Self {
        let made =
            commits.iter().filter_map(|commit| if let Commit::Redriven(made) = commit { Some(made) } else { None });
        let with_errand = made.flatten().filter(|waiting| waiting.errand).map(|waiting| waiting.id.clone());
        let errand = |id: DeliveryId| Some((id.clone(), log.errand(id).now_or_never()?.ok()??));
        let errands = with_errand.filter_map(errand).collect();
        let runs = if change.touches_runs() { log.runs() } else { Vec::new() };
        Self { change, commits, runs, errands }
    }
}

impl fmt::Display for Change {
    /// For the trace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Appended(events, Ok(answers)) => {
                for (event, Appended { seq, duplicate }) in events.iter().zip(answers) {
                    let again = if *duplicate { " again" } else { "" };
                    write!(f, "event {seq}{again} ({} {}) ", event.id, event.event_type)?;
                }
                Ok(())
            }
            Self::Appended(_, Err(error)) => write!(f, "{error}"),
            Self::Settled(settlements, answer) => {
                for Settlement { delivery, record, next, .. } in settlements {
                    write!(f, "{delivery} call {} {:?} -> {:?} ", record.call, record.outcome, next.state)?;
                }
                write!(f, "{answer:?}")
            }
            Self::Parked(waiting) => {
                let ids: Vec<String> = waiting.iter().map(|waiting| waiting.id.to_string()).collect();
                write!(f, "parked {}", ids.join(" "))
            }
            Self::Claimed(id) => write!(f, "claimed {id}"),
            Self::Paused(consumer, paused) => write!(f, "{consumer} paused: {paused}"),
            Self::Released(consumer, keys) => write!(f, "{consumer} released {keys:?}"),
            Self::Rekeyed(step, last) => write!(f, "{} keyed anew to {last:?}", step.consumer.name),
            Self::Activated(_, activated) => write!(f, "{activated:?}"),
            Self::ReplayStarted(spec, id) => write!(f, "replay {id} of {}..={}", spec.from, spec.to),
            Self::Replayed(step, after) => {
                write!(f, "replay {} to {:?}", step.id, after.as_ref().map(|after| (after.position, after.made)))
            }
            Self::ReplayCancelled(id, running) => write!(f, "replay {id} cancelled: {running}"),
            Self::Planned => write!(f, "schedules planned"),
            Self::Fired(name, slot, _, fired) => write!(f, "{name} at {slot}: {fired}"),
            Self::Pruned(limit, gone) => write!(f, "older than {limit}, gone: {gone:?}"),
            Self::Ordered(run, order, answer) => write!(f, "{run} {order:?}: {answer:?}"),
            Self::Rang => f.write_str("rang"),
            Self::Decided(_, decision, ids) => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                write!(f, "{decision:?} {}", ids.join(" "))
            }
            Self::Advanced(positions) => write!(f, "{positions:?}"),
        }
    }
}
