//! Taking events away.

use super::kept::Kept;
use crate::model::{Seq, Timestamp};
use crate::planted::{self, Bug};

impl Kept {
    pub(super) fn prune(&mut self, limit: Timestamp) -> Vec<Seq> {
        let last = self.positions.values().copied().chain(self.replays.positions()).min().unwrap_or(Seq::MAX);
        let last = last.min(self.end().saturating_sub(1));
        let waits = |seq: Seq| !planted::is(Bug::RetentionTakesWaiting) && self.waiting.keys().any(|id| id.seq == seq);
        let dead = |seq: Seq| self.dead.iter().any(|(id, dead)| id.seq == seq && !dead.decided);
        let held =
            |seq: Seq| self.held.values().any(|holders| holders.range((seq, 0)..=(seq, u32::MAX)).next().is_some());
        let old = self.events.iter().take_while(|event| event.seq <= last && event.accepted_at < limit);
        let there = old.map(|event| event.seq).filter(|seq| !self.gone.contains(seq));
        let needed = |seq: &Seq| waits(*seq) || dead(*seq) || held(*seq) || self.runs.need(*seq);
        let gone: Vec<Seq> = there.filter(|seq| !needed(seq)).collect();
        self.gone.extend(&gone);
        gone
    }
}
