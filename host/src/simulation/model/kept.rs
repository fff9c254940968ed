//! Whether the log has kept what it must.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{Checked, Model, Violation, hold};
use crate::log::EventLog as _;
use crate::log::memory::MemoryLog;
use crate::model::{Event, Seq};
use crate::simulation::guests::number;

impl Model {
    /// At a start, and in the end.
    pub(in crate::simulation) fn compare(&self, log: &MemoryLog) -> Checked {
        let Some(Ok(events)) = log.read(0, usize::MAX).now_or_never() else {
            return Err(Violation("I1: the log cannot be read".into()));
        };
        self.events(&events)?;
        let records = log.outcomes();
        let kept = records.iter().map(|(id, record)| (id.clone(), record.call, record.outcome));
        let known = self.records.iter().map(|((id, call), outcome)| (id.clone(), *call, *outcome));
        hold!(kept.eq(known), "I5: the outcomes in the log are not those that were settled");
        hold!(log.dead().iter().eq(&self.dead), "I9: the dead letters in the log are not those that died");
        for ((consumer, key), value) in &self.state {
            let kept = log.state_get(consumer, key).map_or(0, |(value, _)| number(&value));
            hold!(kept == *value, "I11: {key} of {consumer} is {kept}, and should be {value}");
        }
        let runs = log.runs();
        let kept = runs.iter().map(|run| (&run.id, run.journal.as_slice()));
        hold!(kept.eq(self.journals()), "I25: the journals in the log are not those that were followed");
        for consumer in self.everybody().into_keys() {
            let Some(Ok(recovery)) = log.recover(consumer.clone()).now_or_never() else {
                return Err(Violation(format!("I1: what is left for {consumer} cannot be read")));
            };
            hold!(recovery.paused == self.paused.contains(&consumer), "{consumer} is paused: {}", recovery.paused);
            let mine = self.held.iter().filter(|((name, _), _)| *name == consumer);
            let held: BTreeSet<(&str, Seq, u32)> = mine
                .flat_map(|((_, key), holders)| holders.iter().map(|(seq, round)| (key.as_str(), *seq, *round)))
                .collect();
            let kept: BTreeSet<(&str, Seq, u32)> =
                recovery.held.iter().map(|held| (held.key.as_str(), held.seq, held.round)).collect();
            hold!(kept == held, "I10: dead letters of {consumer} hold {held:?}, the log says {kept:?}");
        }
        Ok(())
    }

    fn events(&self, events: &[Arc<Event>]) -> Checked {
        let there = self.events.len() - self.gone.len();
        hold!(events.len() == there, "I1: {} events of {there} are there", events.len());
        for (kept, known) in events.iter().zip(self.events.iter().filter(|event| self.is_there(event.seq))) {
            hold!(**kept == **known, "I1: event {} is another one", known.seq);
        }
        Ok(())
    }
}
