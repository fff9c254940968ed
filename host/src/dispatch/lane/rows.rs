//! What of a lane has rows in the log: asked for in pages, parked and read back, due and fetched.

use std::sync::Arc;

use super::lines::PAGE_BLOCKED;
use super::queue::{Fetched, Ready};
use super::waiting::{Held, WaitKey, due};
use super::{AGAIN_AFTER, FETCHES_MAX, Lane};
use crate::log::Waiting;
use crate::model::{Delivery, DeliveryId, Moment, Priority, State};

/// Parked deliveries of a line.
#[derive(Clone, Debug)]
pub struct Parked {
    pub key: String,
    /// Only those of later rounds.
    pub later: bool,
    /// At most so many.
    pub limit: usize,
    /// The number of the page.
    pub page: u64,
}

impl Lane {
    /// Of which priorities to load more of what waits, and after which delivery, where there are more and there is room.
    pub fn wants_waiting(&mut self) -> Vec<(Priority, Option<WaitKey>)> {
        if self.served().is_none() {
            return Vec::new();
        }
        self.windows.wants(&mut self.pages)
    }

    /// Waiting deliveries that were asked for; fewer than `limit` if there are no more.
    pub fn loaded(&mut self, priority: Priority, page: Vec<Waiting>, limit: usize) {
        let number = self.windows.of(priority).loading();
        let known = |id: &DeliveryId| self.is_here(id) || number.is_some_and(|number| self.pages.is_old(number, id));
        let page = page.into_iter().map(|waiting| (known(&waiting.id), waiting)).collect();
        self.windows.loaded(priority, page, limit);
        self.pages.end();
    }

    pub fn load_failed(&mut self, priority: Priority) {
        self.windows.of(priority).load_failed();
        self.pages.end();
    }

    /// A delivery that the store has as waiting for its due time.
    pub fn wait(&mut self, waiting: Waiting) {
        // A page may have run ahead of the commit that tells of it.
        if self.knows(&waiting.id) {
            return;
        }
        let key = waiting.key.map(Into::into);
        let Waiting { id, delivery, errand, priority, .. } = waiting;
        self.windows.wait(id, Held { delivery, key, stored: true, single: false, errand, priority });
    }

    /// Deliveries to be given rows; they are on their way to them from now on.
    pub fn wants_parked(&mut self, now: Moment) -> Vec<Waiting> {
        if self.turning {
            return Vec::new();
        }
        let mut rows = Vec::with_capacity(self.to_park.len());
        for (ready, blocked) in self.to_park.drain(..) {
            let first = ready.delivery.calls == 0 && ready.id.round == 0 && !blocked;
            let not_before = ready.event.envelope.not_before.filter(|_| first);
            let due_at = not_before.or(due(ready.delivery)).unwrap_or(now.wall);
            let delivery = Delivery { state: State::Pending { due_at }, ..ready.delivery };
            let key = ready.key.as_ref().map(ToString::to_string);
            let (errand, priority) = (ready.errand.is_some(), ready.priority);
            let held = Held { delivery, key: ready.key, stored: true, single: ready.single, errand, priority };
            self.parking.insert(ready.id.clone(), (held, blocked));
            rows.push(Waiting { id: ready.id, delivery, key, blocked, errand, priority });
        }
        rows
    }

    /// Whether any of these is on its way to a row in which it waits for a time. What waits there for its key, its line knows.
    pub(super) fn is_parking(&self, of: impl Fn(&DeliveryId) -> bool) -> bool {
        let asked = self.to_park.iter().map(|(ready, blocked)| (&ready.id, *blocked));
        let parking = self.parking.iter().map(|(id, (_, blocked))| (id, *blocked));
        asked.chain(parking).any(|(id, blocked)| !blocked && of(id))
    }

    /// They have their rows.
    pub fn parked(&mut self, ids: &[DeliveryId], now: Moment) {
        for id in ids {
            let Some((held, blocked)) = self.parking.remove(id) else { continue };
            self.closed(id);
            match held.key.clone().filter(|_| blocked) {
                Some(key) => {
                    self.lines.parked(&key, id);
                    self.go_on(&key, now);
                }
                None => self.windows.wait(id.clone(), held),
            }
        }
    }

    /// Parked deliveries that are to be read.
    pub fn wants_blocked(&mut self) -> Vec<Parked> {
        if self.served().is_none() {
            return Vec::new();
        }
        let Self { loads, lines, pages, .. } = self;
        let wanted = |key: Arc<str>| {
            // Of a line that is held, all others wait for a person.
            let (later, limit) = (lines.is_held(&key), PAGE_BLOCKED + lines.turns(&key));
            Parked { key: key.to_string(), later, limit, page: pages.ask() }
        };
        loads.drain(..).map(wanted).collect()
    }

    /// Parked deliveries that were asked for, with their events; as many as the limit says if there may be more; none if they could
    /// not be read.
    pub fn unparked(&mut self, wanted: &Parked, page: Option<Vec<(Waiting, Fetched)>>, now: Moment) {
        let key: Arc<str> = wanted.key.as_str().into();
        match page.filter(|_| self.served().is_some()) {
            None => self.lines.load_failed(&key),
            Some(page) => {
                let more = page.len() >= wanted.limit;
                let known = |id: &DeliveryId| self.is_here(id) || self.pages.is_old(wanted.page, id);
                let page = page.into_iter().filter(|(waiting, _)| !known(&waiting.id)).map(
                    |(waiting, Fetched { event, errand })| {
                        let ready = Ready::new(waiting.id, waiting.delivery, event);
                        let ready = Ready { errand, priority: waiting.priority, ..ready };
                        self.known_as(Ready { stored: true, parked: true, key: Some(key.clone()), ..ready })
                    },
                );
                let page = page.collect();
                self.lines.loaded(&key, page, more, wanted.later);
            }
        }
        self.pages.end();
        self.go_on(&key, now);
    }

    /// Whether it is in memory, or was until a moment ago, so that what is told of its row late says nothing new.
    pub(super) fn knows(&self, id: &DeliveryId) -> bool {
        self.is_here(id) || self.pages.has_left(id)
    }

    /// Whether it is in memory. Those that have no rows are not looked at, unless they may have got one since.
    fn is_here(&self, id: &DeliveryId) -> bool {
        let aside = self.marks.values().flat_map(|line| &line.aside);
        let mut ready = self.queues.later().chain(&self.alone).chain(&self.suspects).chain(aside);
        self.in_hand.contains_key(id)
            || self.parking.contains_key(id)
            || self.windows.has(id)
            || self.lines.wait_for(id)
            || ready.any(|ready| ready.id == *id)
            || self.to_park.iter().any(|(ready, _)| ready.id == *id)
    }

    /// Each priority has room of its own, so that none waits behind another's.
    pub(super) fn has_fetch_room(&mut self, priority: Priority) -> bool {
        let batch = self.consumer.as_ref().and_then(|consumer| consumer.spec.delivery.batch);
        let most = batch.map_or(0, |batch| usize::try_from(batch.size).unwrap_or(usize::MAX)).max(FETCHES_MAX);
        self.windows.of(priority).fetching() + self.queues.held_back(priority) < most
    }

    /// Deliveries that have become due, whose events must be fetched; and whether they are for more than that.
    pub fn fall_due(&mut self, now: Moment) -> Vec<(DeliveryId, bool)> {
        let mut due = Vec::new();
        for priority in Priority::ALL.into_iter().rev() {
            while self.served().is_some() && self.has_fetch_room(priority) {
                let Some(id) = self.windows.of(priority).fall_due(now) else { break };
                due.push(id);
            }
        }
        due
    }

    /// The event of a delivery that has become due.
    pub fn fetched(&mut self, id: &DeliveryId, fetched: Option<Fetched>, now: Moment) {
        let Some(held) = self.windows.fetched(id) else { return };
        // The log could not be read: it is due again in a moment.
        let Some(Fetched { event, errand }) = fetched.filter(|_| self.served().is_some()) else {
            return self.windows.delay(now.monotonic + AGAIN_AFTER, id.clone(), held);
        };
        if held.errand && errand.is_none() {
            // It is over: somebody was faster.
            return;
        }
        let Held { delivery, key, stored, single, priority, .. } = held;
        let keyed = key.is_some();
        let ready = Ready { stored, key, keyed, single, errand, priority, ..Ready::new(id.clone(), delivery, event) };
        let ready = self.known_as(ready);
        self.admit(ready, false, now);
    }
}
