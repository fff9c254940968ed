//! All lanes of a host, and what happened to which of them. A turn of the loop looks at those lanes only: what it costs depends on
//! what happened, not on how many consumers there are.
//!
//! A lane is *touched* by whoever asks for it to change it, by events that may concern it, and when its time comes. At the end of a turn it
//! is noted of each touched one what the next turns need to know without asking it ([`Entry`]). A lane that is *abreast* and that no event
//! concerns has looked at all of them: it is told of how far that is when it is touched next.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::interest::Interest;
use super::lane::Lane;
use crate::model::{ConsumerName, Event, Moment, Seq};

/// So far the wall clock may drift from the other one until what is due by it is looked at anew.
const DRIFT_MAX: i64 = 10_000;

/// A lane, and what was noted of it when it was last touched.
struct Entry {
    lane: Lane,
    touched: bool,
    /// It had looked at every event then: of those that came since, none concerned it.
    abreast: bool,
    /// When it has something to do that nobody will tell it of, by the monotonic clock.
    wake: Option<Duration>,
}

pub(super) struct Lanes {
    lanes: BTreeMap<ConsumerName, Entry>,
    /// The last event that commits told of.
    head: Seq,
    interest: Interest,
    touched: Vec<ConsumerName>,
    /// Those of which nobody was told how they stand since they were touched.
    untold: BTreeSet<ConsumerName>,
    /// Those that may start an attempt, as far as they know by themselves.
    ready: BTreeSet<ConsumerName>,
    wakes: BTreeSet<(Duration, ConsumerName)>,
    /// Those that want more of the log as soon as there is more, and are not abreast.
    ahead: BTreeSet<ConsumerName>,
    /// The last event when all of them were asked how far they have come.
    asked_at: Seq,
    /// Who was not settled when that was asked last.
    unsettled: Option<ConsumerName>,
    /// By how many microseconds the wall clock is before the monotonic one.
    offset: i64,
}

impl Lanes {
    /// `head` is the last event in the log.
    pub(super) fn new(head: Seq) -> Self {
        Self {
            lanes: BTreeMap::new(),
            head,
            interest: Interest::default(),
            touched: Vec::new(),
            untold: BTreeSet::new(),
            ready: BTreeSet::new(),
            wakes: BTreeSet::new(),
            ahead: BTreeSet::new(),
            asked_at: head,
            unsettled: None,
            offset: 0,
        }
    }

    pub(super) fn head(&self) -> Seq {
        self.head
    }

    pub(super) fn has(&self, name: &ConsumerName) -> bool {
        self.lanes.contains_key(name)
    }

    /// A lane as it is, for a look.
    pub(super) fn get(&self, name: &ConsumerName) -> Option<&Lane> {
        self.lanes.get(name).map(|entry| &entry.lane)
    }

    /// A lane to which something happens.
    pub(super) fn touch(&mut self, name: &ConsumerName) -> Option<&mut Lane> {
        let entry = self.lanes.get_mut(name)?;
        if !entry.touched {
            self.touched.push(name.clone());
        }
        Some(entry.touch(self.head))
    }

    /// Something happens to all of them, and what they subscribe to may be another.
    pub(super) fn deploy(&mut self, mut deploy: impl FnMut(&ConsumerName, &mut Lane)) {
        self.interest.forget();
        for (name, entry) in &mut self.lanes {
            if !entry.touched {
                self.touched.push(name.clone());
            }
            deploy(name, entry.touch(self.head));
        }
    }

    pub(super) fn insert(&mut self, name: ConsumerName, lane: Lane) {
        self.interest.forget();
        self.touched.push(name.clone());
        self.lanes.insert(name, Entry { lane, touched: true, abreast: false, wake: None });
    }

    fn remove(&mut self, name: &ConsumerName) -> Option<Lane> {
        let entry = self.lanes.remove(name)?;
        self.interest.forget();
        self.ready.remove(name);
        self.ahead.remove(name);
        if let Some(wake) = entry.wake {
            self.wakes.remove(&(wake, name.clone()));
        }
        Some(entry.lane)
    }

    /// Takes those out that the test is true of. Only what happened to them in this turn can have made it so.
    pub(super) fn take_if(&mut self, test: impl Fn(&Lane) -> bool) -> Vec<(ConsumerName, Lane)> {
        let matches = |name: &&ConsumerName| self.lanes.get(*name).is_some_and(|entry| test(&entry.lane));
        let names: Vec<_> = self.touched.iter().filter(matches).cloned().collect();
        names.into_iter().filter_map(|name| self.remove(&name).map(|lane| (name, lane))).collect()
    }

    /// Events have become durable.
    pub(super) fn offer(&mut self, events: &[Arc<Event>], now: Moment) {
        let Some(last) = events.last().map(|event| event.seq) else { return };
        let lanes = &self.lanes;
        let concerned = self.interest.sort(events, |event_type| {
            let concerned = lanes.iter().filter(|(_, entry)| entry.lane.may_want(event_type));
            concerned.map(|(name, _)| name.clone()).collect()
        });
        let before = self.head;
        self.head = before.max(last);
        // As the others that nothing concerns; but what has been touched must know it at once.
        self.each_touched(|name, lane| {
            if lane.is_abreast(before) && !concerned.contains_key(name) {
                lane.passed(last);
            }
        });
        for (name, events) in concerned {
            let Some(entry) = self.lanes.get_mut(&name) else { continue };
            if !entry.touched {
                self.touched.push(name);
            }
            let lane = entry.touch(before);
            if lane.is_abreast(before) {
                lane.offer(&events, last, now);
            }
        }
        for name in std::mem::take(&mut self.ahead) {
            self.touch(&name);
        }
    }

    /// A turn begins: those whose time has come are touched.
    pub(super) fn begin(&mut self, now: Moment) {
        let monotonic = i64::try_from(now.monotonic.as_micros()).unwrap_or(i64::MAX);
        let offset = now.wall.0.saturating_sub(monotonic);
        // Somebody has set the wall clock: whatever waits for a time of it must be asked again.
        let set = offset.saturating_sub(self.offset).saturating_abs() > DRIFT_MAX;
        if set {
            self.offset = offset;
        }
        while let Some((at, name)) = self.wakes.pop_first() {
            if !set && at > now.monotonic {
                self.wakes.insert((at, name));
                break;
            }
            if let Some(entry) = self.lanes.get_mut(&name) {
                entry.wake = None;
            }
            self.touch(&name);
        }
    }

    /// Those that something has happened to in this turn.
    pub(super) fn each_touched(&mut self, mut act: impl FnMut(&ConsumerName, &mut Lane)) {
        for name in &self.touched {
            if let Some(entry) = self.lanes.get_mut(name) {
                act(name, &mut entry.lane);
            }
        }
    }

    /// Those that may start an attempt, beginning with the one after `served`.
    pub(super) fn ready_after(&mut self, served: Option<&ConsumerName>) -> Vec<ConsumerName> {
        for name in &self.touched {
            note(&mut self.ready, name, self.lanes.get(name).is_some_and(|entry| entry.lane.may_start()));
        }
        let after = served.map_or(Bound::Unbounded, Bound::Excluded);
        let first = self.ready.range::<ConsumerName, _>((after, Bound::Unbounded));
        let rest = served.map(|served| self.ready.range::<ConsumerName, _>(..=served));
        first.chain(rest.into_iter().flatten()).cloned().collect()
    }

    /// The turn is over: what the next ones need to know of those that were touched is noted.
    pub(super) fn end(&mut self, now: Moment) {
        for name in std::mem::take(&mut self.touched) {
            let Some(entry) = self.lanes.get_mut(&name) else {
                // It was taken out: somebody else knows how its consumer stands.
                self.untold.insert(name);
                continue;
            };
            entry.touched = false;
            entry.abreast = entry.lane.is_abreast(self.head);
            note(&mut self.ahead, &name, !entry.abreast && entry.lane.is_ahead(self.head));
            note(&mut self.ready, &name, entry.lane.may_start());
            let wake = entry.lane.next_wake(now).map(|wait| now.monotonic + wait);
            if wake != entry.wake {
                entry.wake.map(|wake| self.wakes.remove(&(wake, name.clone())));
                wake.map(|wake| self.wakes.insert((wake, name.clone())));
                entry.wake = wake;
            }
            self.untold.insert(name);
        }
    }

    /// How long from now until one has something to do that nobody will tell of.
    pub(super) fn next_wake(&self, now: Moment) -> Option<Duration> {
        self.wakes.first().map(|(at, _)| at.saturating_sub(now.monotonic))
    }

    /// How far those have come that have moved by `step` events since they were asked. Those that were not touched move with the
    /// log's end, so they are asked each time that it has moved so far.
    pub(super) fn advanced(&mut self, step: u64) -> Vec<(ConsumerName, Seq)> {
        let mut moved = Vec::new();
        if self.head >= self.asked_at.saturating_add(step) {
            return self.all_advanced(step);
        }
        self.each_touched(|name, lane| moved.extend(lane.advanced(step).map(|to| (name.clone(), to))));
        moved
    }

    /// The same of all of them.
    pub(super) fn all_advanced(&mut self, step: u64) -> Vec<(ConsumerName, Seq)> {
        let head = self.head;
        self.asked_at = head;
        let each = self.lanes.iter_mut();
        each.filter_map(|(name, entry)| Some((name.clone(), entry.up_to(head).advanced(step)?))).collect()
    }

    /// Whether nothing of the events up to `through` is left to do in any of them.
    pub(super) fn is_settled(&mut self, through: Seq) -> bool {
        let head = self.head;
        // Whoever was not settled a moment ago is asked first: as a rule it still is not.
        let before = self.unsettled.as_ref().and_then(|name| self.lanes.get_mut(name));
        if before.is_some_and(|entry| !entry.up_to(head).is_settled(through)) {
            return false;
        }
        let mut each = self.lanes.iter_mut();
        self.unsettled = each.find_map(|(name, entry)| (!entry.up_to(head).is_settled(through)).then(|| name.clone()));
        self.unsettled.is_none()
    }

    /// Those that may stand otherwise than when this was asked last.
    pub(super) fn take_untold(&mut self) -> BTreeSet<ConsumerName> {
        std::mem::take(&mut self.untold)
    }
}

impl Entry {
    /// Something happens to the lane, which must know of the events that did not concern it; `head` is the last of all.
    fn touch(&mut self, head: Seq) -> &mut Lane {
        self.touched = true;
        self.up_to(head);
        self.abreast = false;
        &mut self.lane
    }

    /// The lane, with what it need not be touched for.
    fn up_to(&mut self, head: Seq) -> &mut Lane {
        if self.abreast {
            self.lane.passed(head);
        }
        &mut self.lane
    }
}

/// Whether the name is in the set from now on.
fn note(set: &mut BTreeSet<ConsumerName>, name: &ConsumerName, is_in: bool) {
    if !is_in {
        set.remove(name);
    } else if !set.contains(name) {
        set.insert(name.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::scripted;
    use crate::log::{Recovery, Waiting};
    use crate::model::{Delivery, DeliveryId, Outcome, Priority, Timestamp};

    fn name(name: &str) -> ConsumerName {
        ConsumerName::new(name).unwrap()
    }

    fn at(second: u64) -> Moment {
        let wall = Timestamp(0).plus(Duration::from_secs(second));
        Moment { wall, monotonic: Duration::from_secs(second) }
    }

    /// Lanes of consumers of these, which have nothing in the log.
    fn lanes(consumers: &[(&str, &str)]) -> Lanes {
        let mut lanes = Lanes::new(0);
        for (consumer, on) in consumers {
            let mut lane = Lane::new(name(consumer), Recovery::default());
            lane.deploy(1, Some(scripted::consumer(consumer, on, |_| Outcome::Done)));
            lane.wants_waiting();
            Priority::ALL.into_iter().for_each(|priority| lane.loaded(priority, vec![], 1));
            lanes.insert(name(consumer), lane);
        }
        lanes.end(at(0));
        lanes.take_untold();
        lanes
    }

    fn events(seqs: std::ops::RangeInclusive<u64>, event_type: &str) -> Vec<Arc<Event>> {
        seqs.map(|seq| Arc::new(scripted::event(seq, event_type))).collect()
    }

    #[test]
    fn whom_no_event_concerns_is_not_looked_at_and_knows_of_it_all_the_same() {
        let mut lanes = lanes(&[("greet", "order.created"), ("idle-1", "nothing"), ("idle-2", "nothing.**")]);
        lanes.begin(at(1));
        lanes.offer(&events(1..=3, "order.created"), at(1));
        assert_eq!(lanes.touched, [name("greet")]);
        assert_eq!(lanes.ready_after(None), [name("greet")]);
        lanes.end(at(1));
        assert_eq!(lanes.take_untold().into_iter().collect::<Vec<_>>(), [name("greet")]);
        assert!(!lanes.is_settled(3), "the greeting is not said");
        let moved = lanes.all_advanced(1);
        assert_eq!(moved, [(name("idle-1"), 3), (name("idle-2"), 3)]);
        // What comes after it follows on what was passed over.
        lanes.offer(&events(4..=4, "nothing"), at(2));
        assert_eq!(lanes.ready_after(None), [name("greet"), name("idle-1"), name("idle-2")]);
    }

    #[test]
    fn those_that_wait_for_nobody_to_look_are_told_of_every_so_many_events() {
        let mut lanes = lanes(&[("idle", "nothing")]);
        lanes.offer(&events(1..=9, "order.created"), at(1));
        lanes.end(at(1));
        assert_eq!(lanes.advanced(10), []);
        lanes.offer(&events(10..=10, "order.created"), at(1));
        lanes.end(at(1));
        assert_eq!(lanes.advanced(10), [(name("idle"), 10)]);
    }

    #[test]
    fn a_lane_that_has_no_room_stays_behind_what_it_wants() {
        let mut lanes = lanes(&[("greet", "order.created")]);
        let most = crate::dispatch::lane::READY_MAX as u64;
        lanes.offer(&events(1..=most + 1, "order.created"), at(1));
        lanes.offer(&events(most + 2..=most + 2, "nothing"), at(1));
        lanes.end(at(1));
        assert_eq!(lanes.touch(&name("greet")).unwrap().wants_page(most + 2), None, "it is full");
        assert!(!lanes.touch(&name("greet")).unwrap().is_abreast(most + 2));
    }

    #[test]
    fn a_lane_is_touched_when_its_time_has_come_and_when_the_clock_is_set() {
        let waiting = |consumer: &str| {
            let delivery = Delivery::new(Timestamp(0).plus(Duration::from_secs(100)));
            let id = DeliveryId { seq: 1, consumer: name(consumer), round: 0 };
            Waiting { id, delivery, key: None, blocked: false, errand: false, priority: Priority::Normal }
        };
        let mut lanes = lanes(&[("greet", "order.created"), ("idle", "nothing")]);
        lanes.touch(&name("greet")).unwrap().wait(waiting("greet"));
        lanes.end(at(1));
        assert_eq!(lanes.next_wake(at(2)), Some(Duration::from_secs(98)));
        lanes.begin(at(99));
        assert!(lanes.touched.is_empty());
        lanes.begin(at(100));
        assert_eq!(lanes.touched, [name("greet")]);
        lanes.end(at(3));
        lanes.begin(Moment { wall: at(100).wall, monotonic: Duration::from_secs(4) });
        assert_eq!(lanes.touched, [name("greet")], "somebody has set the wall clock forward");
    }

    /// As one that was recovered while events became durable that nobody has told of yet.
    #[test]
    fn a_lane_that_is_ahead_of_what_was_told_is_asked_when_the_rest_is() {
        let mut lanes = Lanes::new(0);
        let mut lane = Lane::new(name("greet"), Recovery { position: 2, ..Recovery::default() });
        lane.deploy(1, Some(scripted::consumer("greet", "order.created", |_| Outcome::Done)));
        lanes.insert(name("greet"), lane);
        lanes.end(at(0));
        lanes.offer(&events(1..=3, "order.created"), at(1));
        let mut wanted = Vec::new();
        lanes.each_touched(|_, lane| wanted.extend(lane.wants_page(3)));
        assert_eq!(wanted, [2]);
    }
}
