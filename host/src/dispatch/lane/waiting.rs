//! Deliveries of one priority that wait for a time: a window, the soonest, over those that the log has rows for, and what waits in memory only.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::pages::Pages;
use crate::log::Waiting;
use crate::model::{Delivery, DeliveryId, Moment, Priority, State, Timestamp};
use crate::planted::{self, Bug};

/// Waiting deliveries held in memory, the soonest.
pub(crate) const WAITING_MAX: usize = 10_000;

/// The order in which waiting deliveries come due.
pub type WaitKey = (Timestamp, DeliveryId);

/// A delivery that waits, without its event.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) delivery: Delivery,
    pub(super) key: Option<Arc<str>>,
    pub(super) stored: bool,
    pub(super) single: bool,
    /// It is for more than its event.
    pub(super) errand: bool,
    pub(super) priority: Priority,
}

/// Which waiting deliveries are in the store and not in memory.
#[derive(Debug)]
enum Stored {
    Nothing,
    /// Those after this one; all, if there is none.
    After(Option<WaitKey>),
}

impl Stored {
    fn has(&self, key: &WaitKey) -> bool {
        match self {
            Self::Nothing => false,
            Self::After(cut) => cut.as_ref().is_none_or(|cut| key > cut),
        }
    }
}

/// Where in a window a delivery waits.
#[derive(Clone, Copy, Debug)]
enum Place {
    Waiting(Timestamp),
    Delayed(Duration),
}

#[derive(Debug)]
pub(super) struct Window {
    /// As the store has them, soonest first.
    waiting: BTreeMap<WaitKey, Held>,
    /// Those that the store does not have, or not with this due time: what is tried again after a failure to read or settle.
    /// Never by the wall clock: setting it back must not make a moment long.
    delayed: BTreeMap<(Duration, DeliveryId), Held>,
    /// Where each of the two has what: no delivery is in them twice.
    places: HashMap<DeliveryId, Place>,
    stored: Stored,
    /// The number of the page that is on its way.
    loading: Option<u64>,
    /// Began to wait while a page of waiting deliveries was on its way, which may not have seen them.
    late: BTreeMap<DeliveryId, Held>,
    /// Due, and their events on their way.
    fetching: BTreeMap<DeliveryId, Held>,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            delayed: BTreeMap::new(),
            places: HashMap::new(),
            stored: Stored::After(None),
            loading: None,
            late: BTreeMap::new(),
            fetching: BTreeMap::new(),
        }
    }

    /// After which waiting delivery to load more of them, if there are more and there is room.
    pub(super) fn wants(&mut self, pages: &mut Pages) -> Option<Option<WaitKey>> {
        let Stored::After(key) = &self.stored else { return None };
        if self.loading.is_some() || self.waiting.len() > WAITING_MAX / 2 {
            return None;
        }
        self.loading = Some(pages.ask());
        Some(key.clone())
    }

    /// The number of the page that is on its way.
    pub(super) fn loading(&self) -> Option<u64> {
        self.loading
    }

    /// Waiting deliveries that were asked for; fewer than `limit` if there are no more. With each, whether it is
    /// past waiting already.
    pub(super) fn loaded(&mut self, page: Vec<(bool, Waiting)>, limit: usize) {
        self.loading = None;
        let last = page.last().and_then(|(_, w)| Some((due(w.delivery)?, w.id.clone())));
        self.stored = if page.len() < limit { Stored::Nothing } else { Stored::After(last) };
        let forgotten = |waiting: &Waiting| waiting.errand && planted::is(Bug::StepForgottenOnRestart);
        for (_, waiting) in page.into_iter().filter(|(at_hand, waiting)| !at_hand && !forgotten(waiting)) {
            let key = waiting.key.map(Into::into);
            let mut delivery = waiting.delivery;
            if planted::is(Bug::RetriesResetOnRestart) {
                delivery.attempts = 0;
            }
            let Waiting { errand, priority, .. } = waiting;
            let held = Held { delivery, key, stored: true, single: false, errand, priority };
            self.keep(waiting.id, held);
        }
        let late = std::mem::take(&mut self.late);
        for (id, held) in late.into_iter().filter(|_| !planted::is(Bug::LateWaitingForgotten)) {
            self.wait(id, held);
        }
    }

    pub(super) fn load_failed(&mut self) {
        self.loading = None;
    }

    /// A delivery that the store has as waiting.
    pub(super) fn wait(&mut self, id: DeliveryId, held: Held) {
        let Some(due_at) = due(held.delivery) else { return };
        if self.loading.is_some() {
            self.late.insert(id, held);
            return;
        }
        if self.stored.has(&(due_at, id.clone())) {
            return;
        }
        self.keep(id, held);
        while self.waiting.len() > WAITING_MAX
            && let Some(((_, id), _)) = self.waiting.pop_last()
        {
            self.places.remove(&id);
            self.stored = Stored::After(self.waiting.last_key_value().map(|(key, _)| key.clone()));
        }
    }

    fn keep(&mut self, id: DeliveryId, held: Held) {
        if let (Some(due_at), false) = (due(held.delivery), self.fetching.contains_key(&id)) {
            self.take_out(&id);
            self.places.insert(id.clone(), Place::Waiting(due_at));
            self.waiting.insert((due_at, id), held);
        }
    }

    /// Waits until then in memory only.
    pub(super) fn delay(&mut self, until: Duration, id: DeliveryId, held: Held) {
        self.take_out(&id);
        self.places.insert(id.clone(), Place::Delayed(until));
        self.delayed.insert((until, id), held);
    }

    fn take_out(&mut self, id: &DeliveryId) -> Option<Held> {
        match self.places.remove(id)? {
            Place::Waiting(due_at) => self.waiting.remove(&(due_at, id.clone())),
            Place::Delayed(until) => self.delayed.remove(&(until, id.clone())),
        }
    }

    /// Makes one that waits due at once; false if it is not here.
    pub(super) fn hurry(&mut self, id: &DeliveryId, now: Moment) -> bool {
        let Some(held) = self.late.remove(id).or_else(|| self.take_out(id)) else { return false };
        self.delay(now.monotonic, id.clone(), held);
        true
    }

    /// How long until the next one is due.
    pub(super) fn next_due(&self, now: Moment) -> Option<Duration> {
        let waiting = self.waiting.first_key_value().map(|((due_at, _), _)| due_at.since(now.wall));
        let delayed = self.delayed.first_key_value().map(|((until, _), _)| until.saturating_sub(now.monotonic));
        waiting.into_iter().chain(delayed).min()
    }

    /// The next one that is due by `now`, and whether it is for more than its event; both are being fetched from here on.
    pub(super) fn fall_due(&mut self, now: Moment) -> Option<(DeliveryId, bool)> {
        let delayed = self.delayed.first_key_value().filter(|((until, _), _)| *until <= now.monotonic);
        let waiting = || self.waiting.first_key_value().filter(|((due_at, _), _)| *due_at <= now.wall);
        let id = match delayed {
            Some(((_, id), _)) => id.clone(),
            None => waiting().map(|((_, id), _)| id.clone())?,
        };
        let held = self.take_out(&id)?;
        let errand = held.errand;
        self.fetching.insert(id.clone(), held);
        Some((id, errand))
    }

    /// The event of a due delivery has come.
    pub(super) fn fetched(&mut self, id: &DeliveryId) -> Option<Held> {
        self.fetching.remove(id)
    }

    pub(super) fn fetching(&self) -> usize {
        self.fetching.len()
    }

    /// Whether it waits here, in memory.
    pub(super) fn has(&self, id: &DeliveryId) -> bool {
        self.fetching.contains_key(id) || self.places.contains_key(id) || self.late.contains_key(id)
    }

    /// Whether nothing of events up to `through` waits.
    pub(super) fn is_settled(&self, through: crate::model::Seq) -> bool {
        let within = |id: &DeliveryId| id.seq <= through;
        matches!(self.stored, Stored::Nothing)
            && self.late.is_empty()
            && !self.fetching.keys().any(within)
            && !self.waiting.keys().any(|(_, id)| within(id))
            && !self.delayed.keys().any(|(_, id)| within(id))
    }
}

pub(super) fn due(delivery: Delivery) -> Option<Timestamp> {
    match delivery.state {
        State::Pending { due_at } => Some(due_at),
        _ => None,
    }
}
