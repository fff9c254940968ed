//! Deliveries that share a key and may not all run at once: a line for each key that is in use. Those whose turn it is have a
//! place; the others stand behind them, in log order: a few in memory, the rest in the log (*parked*), where they cost
//! nothing and other keys do not wait for them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::queue::Ready;
use crate::model::delivery::KeyStanding;
use crate::model::keys::HeldKey;
use crate::model::{DeliveryId, Seq};

/// Deliveries behind others of their keys that are held in memory, over all lines of a lane, and their payload bytes.
pub(super) const BLOCKED_MAX: usize = 1_024;
pub(super) const BLOCKED_BYTES_MAX: usize = 16 << 20;
/// Parked deliveries read back at once.
pub(super) const PAGE_BLOCKED: usize = 64;

/// The order within a line.
type Place = (Seq, u32);

#[derive(Debug, Default)]
struct Line {
    /// Whose turn it is.
    turn: BTreeSet<DeliveryId>,
    /// The turn of one that waits in the log for its due time since before the last start: which one, will be seen then.
    reserved: bool,
    /// Whoever has the turn waits for its due time: nobody behind it needs to be in memory.
    resting: bool,
    queue: BTreeMap<Place, Ready>,
    /// There are more in the log, behind those in memory.
    parked: bool,
    /// Of those, some are of later rounds.
    later: bool,
    /// Of those, the highest sequence at the last start, until the log has been read so far: what comes up to there may belong before
    /// them.
    recovering_to: Option<Seq>,
    /// On their way into the log: nobody behind them may be read back before they are there.
    parking: BTreeSet<Place>,
    /// What was read back stood behind those.
    stalled: bool,
    /// A page of parked ones is on its way; more were parked in the meantime.
    loading: bool,
    late: bool,
    /// So many dead letters hold it: only deliveries of later rounds pass, which somebody has asked for: redriven, replayed, steps of
    /// runs.
    holders: usize,
}

impl Line {
    fn is_idle(&self) -> bool {
        self.turn.is_empty()
            && !self.reserved
            && self.queue.is_empty()
            && !self.parked
            && self.parking.is_empty()
            && !self.loading
            && !self.is_held()
    }

    fn is_held(&self) -> bool {
        self.holders > 0
    }

    /// Whether others are in the log, or on their way, that may come before one that is new: read back with them, it finds its
    /// place.
    fn is_parked(&self) -> bool {
        !self.parking.is_empty() || self.loading || self.parked
    }

    /// The first in memory of those that may pass.
    fn first(&self) -> Option<Place> {
        self.queue.keys().copied().find(|place| self.lets_pass(*place))
    }

    fn lets_pass(&self, (_, round): Place) -> bool {
        !self.is_held() || round > 0
    }
}

/// What a delivery that enters its line is told.
#[derive(Debug)]
pub(super) enum Entered {
    /// It is its turn.
    Go(Ready),
    Waits,
    /// There is no room to wait in memory.
    Park(Ready),
}

/// Who is next in a line.
#[derive(Debug)]
pub(super) enum Next {
    Go(Ready),
    /// They must be read from the log.
    Load,
    Nobody,
}

#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: HashMap<Arc<str>, Line>,
    /// In memory behind others, whatever their lines, and their payload bytes.
    behind: HashSet<Place>,
    blocked_bytes: usize,
    /// Lines that go on when the log has been read so far.
    recovering: BTreeMap<Seq, Vec<Arc<str>>>,
    /// Dead letters that hold lines, and which.
    holders: BTreeMap<Place, Arc<str>>,
}

impl Lines {
    pub(super) fn new(keys: Vec<KeyStanding>, held: Vec<HeldKey>) -> Self {
        let mut lines = Self::default();
        for KeyStanding { key, taken, blocked_to, later } in keys {
            let key: Arc<str> = key.into();
            let line = lines.lines.entry(key.clone()).or_default();
            line.reserved = taken;
            line.resting = taken;
            line.parked = blocked_to.is_some();
            line.later = later;
            line.recovering_to = blocked_to;
            if let Some(seq) = blocked_to {
                lines.recovering.entry(seq).or_default().push(key);
            }
        }
        for HeldKey { key, seq, round } in held {
            lines.hold(&key.into(), (seq, round));
        }
        lines
    }

    /// Nobody keeps a turn while it waits for its due time.
    pub(super) fn share(&mut self) {
        for line in self.lines.values_mut() {
            line.reserved = false;
            line.resting = false;
        }
    }

    /// A delivery comes to its line, which lets `limit` run at once. `keeps` says that whoever has the turn keeps it while
    /// it waits for another attempt.
    pub(super) fn enter(&mut self, key: &Arc<str>, ready: Ready, limit: usize, keeps: bool) -> Entered {
        let line = self.lines.entry(key.clone()).or_default();
        if line.turn.contains(&ready.id) {
            line.resting = false;
            return Entered::Go(ready);
        }
        // A job has a row from the start, and its key in it only if it has come to its line before.
        let waited = ready.id.round == 0 && (ready.keyed || ready.event.envelope.job.is_none());
        let had_turn = ready.stored && (ready.delivery.calls > 0 || waited);
        if line.reserved && (had_turn || !keeps) {
            line.reserved = false;
            line.resting = false;
            if had_turn && keeps {
                line.turn.insert(ready.id.clone());
                return Entered::Go(ready);
            }
        }
        let free = line.turn.len() + usize::from(line.reserved) < limit;
        let passes = line.lets_pass(place(&ready));
        let before = line.first().is_none_or(|first| place(&ready) < first);
        let parked = line.is_parked() && ready.id.round == 0;
        if free && passes && before && !parked {
            line.turn.insert(ready.id.clone());
            return Entered::Go(ready);
        }
        let long = !passes || line.resting;
        if line.queue.contains_key(&place(&ready)) {
            // A page ran ahead of the commit that tells of it.
            return Entered::Waits;
        }
        if parked || long || self.behind.len() >= BLOCKED_MAX || self.blocked_bytes >= BLOCKED_BYTES_MAX {
            line.parking.insert(place(&ready));
            return Entered::Park(ready);
        }
        self.behind.insert(place(&ready));
        self.blocked_bytes += ready.event.envelope.data_len();
        line.queue.insert(place(&ready), ready);
        Entered::Waits
    }

    /// The delivery gives its turn back.
    pub(super) fn leave(&mut self, key: &Arc<str>, id: &DeliveryId) {
        if let Some(line) = self.lines.get_mut(key) {
            line.turn.remove(id);
            line.resting = false;
        }
    }

    /// Whoever has the turn keeps it and waits, or a dead letter holds the line: those behind need not be in memory. Answers
    /// which of them have to be parked.
    pub(super) fn rest(&mut self, key: &Arc<str>) -> Vec<Ready> {
        let Some(line) = self.lines.get_mut(key) else { return Vec::new() };
        line.resting = !line.turn.is_empty();
        let queue = std::mem::take(&mut line.queue);
        for place in queue.keys() {
            self.behind.remove(place);
        }
        let bytes: usize = queue.values().map(|ready| ready.event.envelope.data_len()).sum();
        self.blocked_bytes = self.blocked_bytes.saturating_sub(bytes);
        let (parked, new): (Vec<_>, Vec<_>) = queue.into_values().partition(|ready| ready.parked);
        line.parked |= !parked.is_empty();
        line.later |= parked.iter().any(|ready| ready.id.round > 0);
        line.parking.extend(new.iter().map(place));
        new
    }

    /// How many of its deliveries have the turn.
    pub(super) fn turns(&self, key: &str) -> usize {
        self.lines.get(key).map_or(0, |line| line.turn.len())
    }

    /// Who may go now that something has changed. To be asked until nobody may.
    pub(super) fn next(&mut self, key: &Arc<str>, limit: usize, keeps: bool) -> Next {
        let Some(line) = self.lines.get_mut(key) else { return Next::Nobody };
        if !keeps {
            (line.reserved, line.resting) = (false, false);
        }
        if line.is_idle() {
            self.lines.remove(key);
            return Next::Nobody;
        }
        if line.turn.len() + usize::from(line.reserved) >= limit {
            return Next::Nobody;
        }
        if let Some(ready) = line.first().and_then(|first| line.queue.remove(&first)) {
            self.behind.remove(&place(&ready));
            self.blocked_bytes = self.blocked_bytes.saturating_sub(ready.event.envelope.data_len());
            line.turn.insert(ready.id.clone());
            return Next::Go(ready);
        }
        let may = !line.loading && !line.stalled && line.recovering_to.is_none();
        let load = may && if line.is_held() { line.later } else { line.parked };
        if load {
            line.loading = true;
            return Next::Load;
        }
        Next::Nobody
    }

    /// One that was told to park has its row.
    pub(super) fn parked(&mut self, key: &Arc<str>, id: &DeliveryId) {
        if let Some(line) = self.lines.get_mut(key) {
            line.parking.remove(&(id.seq, id.round));
            line.stalled = false;
            line.parked = true;
            line.later |= id.round > 0;
            line.late |= line.loading;
        }
    }

    /// Parked deliveries that were asked for, only `later` rounds or all, as far as they are not in memory; all that there are if
    /// not `more`.
    pub(super) fn loaded(&mut self, key: &Arc<str>, page: Vec<Ready>, more: bool, later: bool) {
        let Some(line) = self.lines.get_mut(key) else { return };
        line.loading = false;
        let more = std::mem::take(&mut line.late) || more;
        line.parked = more || later;
        line.later &= more;
        let first_parking = line.parking.first().copied();
        let (page, behind): (Vec<_>, Vec<_>) =
            page.into_iter().partition(|ready| first_parking.is_none_or(|first| place(ready) < first));
        line.parked |= !behind.is_empty();
        line.later |= behind.iter().any(|ready| ready.id.round > 0);
        line.stalled = page.is_empty() && !behind.is_empty();
        for ready in page {
            if !line.turn.contains(&ready.id) && !line.queue.contains_key(&place(&ready)) {
                self.behind.insert(place(&ready));
                self.blocked_bytes += ready.event.envelope.data_len();
                line.queue.insert(place(&ready), ready);
            }
        }
    }

    /// They could not be read; they are asked for again.
    pub(super) fn load_failed(&mut self, key: &Arc<str>) {
        if let Some(line) = self.lines.get_mut(key) {
            line.loading = false;
        }
    }

    /// The dead letter at this place holds the line from now on, instead of those of earlier rounds of its event.
    pub(super) fn hold(&mut self, key: &Arc<str>, dead: Place) {
        let before: Vec<Place> = self.holders.range((dead.0, 0)..dead).map(|(place, _)| *place).collect();
        for place in before {
            self.let_go(place);
        }
        if self.holders.insert(dead, key.clone()).is_none() {
            self.lines.entry(key.clone()).or_default().holders += 1;
        }
    }

    /// The dead letter at this place holds nothing any more. Answers the line that nobody holds for that.
    pub(super) fn let_go(&mut self, dead: Place) -> Option<Arc<str>> {
        let key = self.holders.remove(&dead)?;
        let line = self.lines.get_mut(&key)?;
        line.holders = line.holders.saturating_sub(1);
        (!line.is_held()).then_some(key)
    }

    pub(super) fn is_held(&self, key: &str) -> bool {
        self.lines.get(key).is_some_and(Line::is_held)
    }

    /// Lines that waited for the log to be read up to here.
    pub(super) fn recovered(&mut self, read_at: Seq) -> Vec<Arc<str>> {
        if self.recovering.is_empty() {
            return Vec::new();
        }
        let later = self.recovering.split_off(&(read_at + 1));
        let now = std::mem::replace(&mut self.recovering, later);
        let keys: Vec<_> = now.into_values().flatten().collect();
        for key in &keys {
            if let Some(line) = self.lines.get_mut(key) {
                line.recovering_to = None;
            }
        }
        keys
    }

    /// Whether some wait for the log to be read further.
    pub(super) fn are_recovering(&self) -> bool {
        !self.recovering.is_empty()
    }

    /// How many wait in memory behind others, and the lines that somebody stands in.
    pub(super) fn blocked(&self) -> usize {
        self.behind.len()
    }

    /// Whether the delivery stands in its line in memory, behind others.
    pub(super) fn wait_for(&self, id: &DeliveryId) -> bool {
        self.behind.contains(&(id.seq, id.round))
    }

    /// Whether nothing of what may go on by itself waits, of events up to `through`.
    pub(super) fn is_settled(&self, through: Seq) -> bool {
        self.lines.values().all(|line| {
            let parked = if line.is_held() { line.later } else { line.parked || !line.parking.is_empty() };
            let mut waiting = line.queue.keys().chain(&line.parking).filter(|place| line.lets_pass(**place));
            !parked && !line.loading && waiting.all(|(seq, _)| *seq > through)
        })
    }
}

fn place(ready: &Ready) -> Place {
    (ready.id.seq, ready.id.round)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_free_once_every_dead_letter_that_holds_it_has_let_go() {
        let (key, mut lines): (Arc<str>, _) = ("a".into(), Lines::default());
        for dead in [(1, 2), (1, 1), (2, 0), (2, 0)] {
            lines.hold(&key, dead);
        }
        lines.hold(&key, (2, 1));
        assert_eq!((lines.let_go((2, 1)), lines.let_go((1, 2))), (None, None));
        assert!(lines.is_held(&key));
        assert_eq!(lines.let_go((1, 1)), Some(key.clone()), "(2, 0) holds nothing since a later round does");
        assert_eq!(lines.let_go((2, 0)), None);
        assert_eq!((lines.let_go((1, 1)), lines.is_held(&key)), (None, false));
    }
}
