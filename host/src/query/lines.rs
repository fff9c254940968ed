//! Who answers next. Pure.
//!
//! A question takes a slot of the host's and a place of one of its responders. Questions that responders ask in the middle of
//! answering need slots, too, while the ones above them keep theirs: so each level of depth may fill one slot more than the
//! level above it. When everything else waits, the deepest can still be answered, and after it the one above.

use std::collections::{BTreeMap, VecDeque};

use crate::model::ConsumerName;
use crate::model::limit::QUESTION_DEPTH_MAX;

/// Questions that may wait for a slot.
pub(super) const WAITING_MAX: usize = 1_024;

/// Names a question that waits.
pub(super) type Ticket = u64;

/// Somebody who could answer, and how many questions they answer at once.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) name: ConsumerName,
    pub(super) places: usize,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    depth: u32,
    candidates: Vec<Candidate>,
}

#[derive(Debug)]
pub(super) struct Lines {
    /// Slots for questions of the first level.
    slots: usize,
    running: usize,
    /// Answers in hand.
    busy: BTreeMap<ConsumerName, usize>,
    /// When each was last chosen, counted.
    chosen: BTreeMap<ConsumerName, u64>,
    waiting: VecDeque<Waiting>,
    next: Ticket,
}

impl Lines {
    pub(super) fn new(slots: usize) -> Self {
        Self { slots, running: 0, busy: BTreeMap::new(), chosen: BTreeMap::new(), waiting: VecDeque::new(), next: 1 }
    }

    /// Answers in hand.
    #[cfg(test)]
    pub(super) fn in_hand(&self) -> usize {
        self.running
    }

    /// Stands in line; none if the line is too long.
    pub(super) fn join(&mut self, depth: u32, candidates: Vec<Candidate>) -> Option<Ticket> {
        if self.waiting.len() >= WAITING_MAX {
            return None;
        }
        let ticket = self.next;
        self.next += 1;
        self.waiting.push_back(Waiting { ticket, depth, candidates });
        Some(ticket)
    }

    /// Does not wait any longer.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.waiting.retain(|waiting| waiting.ticket != ticket);
    }

    /// An answer is over.
    pub(super) fn release(&mut self, responder: &ConsumerName) {
        self.running = self.running.saturating_sub(1);
        if let Some(busy) = self.busy.get_mut(responder) {
            *busy = busy.saturating_sub(1);
        }
    }

    /// The first in line for whom there is a slot and a place, and who answers: the least busy of those who can, and of these
    /// the one whose last turn is longest ago.
    pub(super) fn turn(&mut self) -> Option<(Ticket, ConsumerName)> {
        let (at, name) = self
            .waiting
            .iter()
            .enumerate()
            .filter(|(_, waiting)| self.running < self.room(waiting.depth))
            .find_map(|(at, waiting)| Some((at, self.choose(&waiting.candidates)?)))?;
        let waiting = self.waiting.remove(at)?;
        self.running += 1;
        *self.busy.entry(name.clone()).or_default() += 1;
        self.chosen.insert(name.clone(), waiting.ticket.max(self.chosen.values().max().map_or(0, |last| last + 1)));
        Some((waiting.ticket, name))
    }

    fn choose(&self, candidates: &[Candidate]) -> Option<ConsumerName> {
        let busy = |name: &ConsumerName| self.busy.get(name).copied().unwrap_or(0);
        let free = candidates.iter().filter(|candidate| busy(&candidate.name) < candidate.places);
        let order =
            |candidate: &&Candidate| (busy(&candidate.name), self.chosen.get(&candidate.name).copied().unwrap_or(0));
        free.min_by_key(order).map(|candidate| candidate.name.clone())
    }

    fn room(&self, depth: u32) -> usize {
        self.slots + depth.clamp(1, QUESTION_DEPTH_MAX) as usize - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ConsumerName {
        ConsumerName::new(name).unwrap()
    }

    fn can(names: &[(&str, usize)]) -> Vec<Candidate> {
        names.iter().map(|(of, places)| Candidate { name: name(of), places: *places }).collect()
    }

    fn turns(lines: &mut Lines) -> Vec<(Ticket, String)> {
        std::iter::from_fn(|| lines.turn()).map(|(ticket, name)| (ticket, name.to_string())).collect()
    }

    fn said(turns: &[(Ticket, &str)]) -> Vec<(Ticket, String)> {
        turns.iter().map(|(ticket, name)| (*ticket, (*name).to_owned())).collect()
    }

    #[test]
    fn the_least_busy_answers_and_then_they_take_turns() {
        let mut lines = Lines::new(10);
        let all = can(&[("a", 9), ("b", 9), ("c", 9)]);
        for _ in 0..4 {
            lines.join(1, all.clone());
        }
        assert_eq!(turns(&mut lines), said(&[(1, "a"), (2, "b"), (3, "c"), (4, "a")]));
        lines.release(&name("c"));
        for _ in 0..2 {
            lines.join(1, all.clone());
        }
        assert_eq!(turns(&mut lines), said(&[(5, "c"), (6, "b")]), "the idle one, then who was not chosen for longest");
        // One after the other, when nobody is busy.
        let mut lines = Lines::new(10);
        let mut seen = Vec::new();
        for _ in 0..6 {
            lines.join(1, all.clone());
            let (_, chosen) = lines.turn().unwrap();
            lines.release(&chosen);
            seen.push(chosen.to_string());
        }
        assert_eq!(seen, ["a", "b", "c", "a", "b", "c"]);
    }

    #[test]
    fn places_and_slots_are_kept_and_the_line_keeps_its_order() {
        let mut lines = Lines::new(2);
        for of in [&[("a", 1)][..], &[("a", 1)], &[("b", 5)], &[("b", 5)]] {
            lines.join(1, can(of));
        }
        assert_eq!(turns(&mut lines), said(&[(1, "a"), (3, "b")]), "who waits for a place holds nobody up");
        lines.release(&name("b"));
        assert_eq!(turns(&mut lines), said(&[(4, "b")]));
        lines.release(&name("a"));
        lines.leave(2);
        lines.join(1, can(&[("a", 1)]));
        assert_eq!(turns(&mut lines), said(&[(5, "a")]), "who has left does not get a turn");
        assert_eq!(lines.in_hand(), 2);
    }

    #[test]
    fn a_line_has_an_end() {
        let mut lines = Lines::new(1);
        let joined = (0..WAITING_MAX + 5).filter(|_| lines.join(1, can(&[("a", 1)])).is_some()).count();
        assert_eq!(joined, WAITING_MAX);
    }

    /// Every answer in hand asks the next question before it ends: with slots of one kind this would stand still.
    #[test]
    fn askers_that_wait_never_take_the_slot_that_their_answer_needs() {
        proptest::proptest!(|(slots in 1_usize..4, arrivals in proptest::collection::vec(1_u32..=QUESTION_DEPTH_MAX, 1..60))| {
            let mut lines = Lines::new(slots);
            let everybody = can(&[("a", 100), ("b", 100)]);
            // Of each question how many it still asks, and who answers it.
            let mut to_ask: BTreeMap<Ticket, (u32, u32)> = BTreeMap::new();
            let mut parents: BTreeMap<Ticket, (Ticket, ConsumerName)> = BTreeMap::new();
            for depth in &arrivals {
                let ticket = lines.join(1, everybody.clone()).unwrap();
                to_ask.insert(ticket, (1, *depth));
            }
            let mut answered = 0;
            while let Some((ticket, who)) = lines.turn() {
                let (depth, deepest) = to_ask[&ticket];
                if depth < deepest {
                    let child = lines.join(depth + 1, everybody.clone()).unwrap();
                    to_ask.insert(child, (depth + 1, deepest));
                    parents.insert(child, (ticket, who));
                    continue;
                }
                lines.release(&who);
                let mut ended = ticket;
                while let Some((parent, who)) = parents.remove(&ended) {
                    lines.release(&who);
                    ended = parent;
                }
                answered += 1;
            }
            proptest::prop_assert_eq!(answered, arrivals.len());
            proptest::prop_assert_eq!(lines.in_hand(), 0);
        });
    }
}
