//! Pages of rows that are on their way from the log, and of which deliveries they may tell an old story.

use std::collections::BTreeMap;

use crate::model::DeliveryId;

#[derive(Debug, Default)]
pub(super) struct Pages {
    /// How many were asked for so far; each has its number.
    asked: u64,
    on_their_way: usize,
    /// What has left the hand while any was on its way, and how many had been asked for by then: those may have been read before.
    left: BTreeMap<DeliveryId, u64>,
}

impl Pages {
    /// One more is asked for: this one.
    pub(super) fn ask(&mut self) -> u64 {
        self.asked += 1;
        self.on_their_way += 1;
        self.asked
    }

    /// One is here, or could not be read.
    pub(super) fn end(&mut self) {
        self.on_their_way = self.on_their_way.saturating_sub(1);
        if self.on_their_way == 0 {
            self.left.clear();
        }
    }

    pub(super) fn are_on_their_way(&self) -> bool {
        self.on_their_way > 0
    }

    /// The delivery has left the hand, and its row is another one, or gone.
    pub(super) fn leave(&mut self, id: &DeliveryId) {
        if self.on_their_way > 0 {
            self.left.insert(id.clone(), self.asked);
        }
    }

    /// Whether this page may show the row as it was before the delivery left the hand. One that was asked for later shows how it
    /// stands, and may be the only one that does.
    pub(super) fn is_old(&self, page: u64, id: &DeliveryId) -> bool {
        self.left.get(id).is_some_and(|asked| *asked >= page)
    }

    /// Whether the delivery has left the hand of late.
    pub(super) fn has_left(&self, id: &DeliveryId) -> bool {
        self.left.contains_key(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ConsumerName;

    #[test]
    fn only_a_page_that_was_asked_for_before_a_delivery_left_is_old() {
        let id = DeliveryId { seq: 1, consumer: ConsumerName::new("greet").unwrap(), round: 0 };
        let mut pages = Pages::default();
        pages.leave(&id);
        assert!(!pages.has_left(&id), "nothing is on its way that could be old");
        let (first, second) = (pages.ask(), pages.ask());
        pages.leave(&id);
        pages.end();
        let third = pages.ask();
        let old = [first, second, third].map(|page| pages.is_old(page, &id));
        assert_eq!((old, pages.has_left(&id)), ([true, true, false], true));
        pages.end();
        pages.end();
        assert!(!pages.has_left(&id) && !pages.are_on_their_way());
    }
}
