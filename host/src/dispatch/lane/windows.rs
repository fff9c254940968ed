//! What waits for a time, by priority: a window for each, so that a long backlog of one never hides the others.

use std::time::Duration;

use super::pages::Pages;
use super::waiting::{Held, WaitKey, Window};
use crate::log::Waiting;
use crate::model::{DeliveryId, Moment, Priority, Seq};

#[derive(Debug)]
pub(super) struct Windows {
    low: Window,
    normal: Window,
    high: Window,
}

impl Windows {
    pub(super) fn new() -> Self {
        Self { low: Window::new(), normal: Window::new(), high: Window::new() }
    }

    pub(super) fn of(&mut self, priority: Priority) -> &mut Window {
        match priority {
            Priority::Low => &mut self.low,
            Priority::Normal => &mut self.normal,
            Priority::High => &mut self.high,
        }
    }

    fn all(&self) -> [&Window; 3] {
        [&self.low, &self.normal, &self.high]
    }

    fn each(&mut self) -> [&mut Window; 3] {
        [&mut self.low, &mut self.normal, &mut self.high]
    }

    /// Of which priorities to load more of what waits, and after which.
    pub(super) fn wants(&mut self, pages: &mut Pages) -> Vec<(Priority, Option<WaitKey>)> {
        let wants = |priority| Some((priority, self.of(priority).wants(pages)?));
        Priority::ALL.into_iter().rev().filter_map(wants).collect()
    }

    /// Waiting deliveries that were asked for; see [`Window::loaded`].
    pub(super) fn loaded(&mut self, priority: Priority, page: Vec<(bool, Waiting)>, limit: usize) {
        self.of(priority).loaded(page, limit);
    }

    /// A delivery that the store has as waiting.
    pub(super) fn wait(&mut self, id: DeliveryId, held: Held) {
        self.of(held.priority).wait(id, held);
    }

    /// Waits until then in memory only.
    pub(super) fn delay(&mut self, until: Duration, id: DeliveryId, held: Held) {
        self.of(held.priority).delay(until, id, held);
    }

    /// Makes one that waits due at once; false if it is not here.
    pub(super) fn hurry(&mut self, id: &DeliveryId, now: Moment) -> bool {
        self.each().into_iter().any(|window| window.hurry(id, now))
    }

    /// The event of a due delivery has come.
    pub(super) fn fetched(&mut self, id: &DeliveryId) -> Option<Held> {
        self.each().into_iter().find_map(|window| window.fetched(id))
    }

    pub(super) fn is_fetching(&self) -> bool {
        self.all().into_iter().any(|window| window.fetching() > 0)
    }

    /// Whether it waits here, in memory.
    pub(super) fn has(&self, id: &DeliveryId) -> bool {
        self.all().into_iter().any(|window| window.has(id))
    }

    pub(super) fn is_settled(&self, through: Seq) -> bool {
        self.all().into_iter().all(|window| window.is_settled(through))
    }
}
