//! Whether what takes long keeps its promises: replays, schedules, retention.

use std::collections::BTreeSet;

use super::{Checked, Known, Model, hold};
use crate::log::{Commit, Waiting};
use crate::model::replay::{Replay, ReplaySpec, ReplayStatus, ReplayStep};
use crate::model::{ConsumerName, Envelope, Seq, State, Timestamp};

/// A replay, and what it has made.
pub(super) struct Replayed {
    spec: ReplaySpec,
    position: Seq,
    made: BTreeSet<(Seq, ConsumerName)>,
    cancelled: bool,
}

impl Model {
    pub(super) fn replay_started(&mut self, spec: ReplaySpec, id: u64) -> Checked {
        let replayed = Replayed { position: spec.from - 1, spec, made: BTreeSet::new(), cancelled: false };
        hold!(self.replays.insert(id, replayed).is_none(), "replay {id} was there already");
        Ok(())
    }

    pub(super) fn replay_cancelled(&mut self, id: u64, running: bool) {
        if let Some(replay) = self.replays.get_mut(&id).filter(|_| running) {
            replay.cancelled = true;
        }
    }

    /// A replay makes what it was asked for, once, and only where nothing of the event is under way to the consumer.
    pub(super) fn replayed(&mut self, step: &ReplayStep, after: Option<Replay>, commits: &[Commit]) -> Checked {
        let made: Vec<&Waiting> = commits
            .iter()
            .filter_map(|c| if let Commit::Redriven(made) = c { Some(made) } else { None })
            .flatten()
            .collect();
        let Some(after) = after else {
            hold!(made.is_empty(), "replay {} made something that it did not say", step.id);
            return Ok(());
        };
        for Waiting { id, delivery, .. } in made {
            let name = &step.id;
            let event = self.event(id.seq).clone();
            let first = self.alive.iter().find(|other| other.seq == id.seq && other.consumer == id.consumer);
            hold!(first.is_none(), "replay {name} made {id}, and {first:?} is not over");
            hold!(!self.deliveries.contains_key(id), "replay {name} made {id}, which was there already");
            let Some(replay) = self.replays.get_mut(name) else {
                return Err(super::Violation("no such replay".into()));
            };
            hold!(!replay.cancelled, "replay {name} made {id}, and was cancelled");
            let fits = replay.spec.wants(&event) && replay.spec.consumer.as_ref().is_none_or(|of| *of == id.consumer);
            hold!(fits, "replay {name} made {id}, which nobody asked for");
            hold!(replay.made.insert((id.seq, id.consumer.clone())), "replay {name} made {} again, as {id}", id.seq);
            let due = if let State::Pending { due_at } = delivery.state { due_at } else { Timestamp::MIN };
            self.alive.insert(id.clone());
            self.deliveries.insert(id.clone(), Known { due, stored: true, ..Known::default() });
        }
        let Some(replay) = self.replays.get_mut(&step.id) else { return Ok(()) };
        hold!(after.position >= replay.position, "replay {} went back to {}", step.id, after.position);
        hold!(after.made == replay.made.len() as u64, "replay {} says that it made {}", step.id, after.made);
        replay.position = after.position;
        Ok(())
    }

    /// In the end, replays are over, but for what they have made for those who are not there any more, as a pipeline that was there
    /// for its runs alone.
    pub(in crate::simulation) fn replays_are_over(
        &self,
        replays: &[Replay],
        is_deployed: impl Fn(&ConsumerName) -> bool,
    ) -> Checked {
        for replay in replays {
            let Some(known) = self.replays.get(&replay.id).filter(|known| !known.cancelled) else { continue };
            let made = replay.status != ReplayStatus::Made || replay.position == replay.spec.to;
            let gone = known.made.iter().filter(|(_, name)| !is_deployed(name)).count() as u64;
            let waits = replay.status == ReplayStatus::Made && replay.open <= gone;
            hold!(made && (waits || replay.is_over()), "I21: in the end, {replay:?}, which has made {:?}", known.made);
        }
        Ok(())
    }

    /// A slot fires once, as long as its event is remembered, and with its event.
    pub(super) fn fired(&mut self, name: &str, slot: Timestamp, event: &Envelope, commits: &[Commit]) -> Checked {
        let before = self.head();
        let again = self.slots.insert((name.to_owned(), slot), before + 1).filter(|seq| self.is_there(*seq));
        hold!(again.is_none(), "schedule {name} fires {slot} again: event {again:?}");
        self.announced(commits)?;
        let is = self.head() == before + 1 && self.event(self.head()).envelope == *event;
        hold!(is, "schedule {name} fired {slot}, and its event is not there");
        Ok(())
    }

    /// I18: what is taken away is old, and nobody will ask for it.
    pub(super) fn pruned(&mut self, limit: Timestamp, gone: &[Seq]) -> Checked {
        for seq in gone {
            let unfinished = self.alive.iter().find(|id| id.seq == *seq);
            hold!(unfinished.is_none(), "I18: event {seq} is gone, and {unfinished:?} is not over");
            let dead = self.dead.iter().find(|id| id.seq == *seq);
            hold!(dead.is_none(), "I18: event {seq} is gone, and {dead:?} may be redriven");
            let held =
                self.held.iter().find(|(_, holders)| holders.iter().any(|(of, _)| of == seq)).map(|((_, key), _)| key);
            hold!(held.is_none(), "I18: event {seq} is gone, and its dead letter holds {held:?}");
            let run = self.needs(*seq);
            hold!(run.is_none(), "I18: event {seq} is gone, and run {run:?} needs it");
            let accepted_at = self.event(*seq).accepted_at;
            hold!(accepted_at < limit, "I18: event {seq} is gone, and was accepted at {accepted_at}");
            self.gone.insert(*seq);
        }
        Ok(())
    }

    /// An id is taken for as long as its event is there.
    pub(super) fn is_there(&self, seq: Seq) -> bool {
        !self.gone.contains(&seq)
    }
}
