//! Which lanes an event may concern, by its type: what nobody subscribes to costs nobody a look.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::{ConsumerName, Event};

/// Types that are remembered. A producer may send any number of them.
const TYPES_MAX: usize = 1_024;

/// Which lanes each type may concern, as far as it was asked since the last change of what is deployed.
#[derive(Default)]
pub(super) struct Interest {
    known: HashMap<String, Arc<[ConsumerName]>>,
}

impl Interest {
    /// What is deployed has changed.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// The events of a commit by the lanes that they may concern, in log order. `all`: names of the lanes that a type may
    /// concern.
    pub(super) fn sort<'a>(
        &mut self,
        events: &'a [Arc<Event>],
        all: impl Fn(&str) -> Arc<[ConsumerName]>,
    ) -> BTreeMap<ConsumerName, Vec<&'a Arc<Event>>> {
        let mut sorted = BTreeMap::<ConsumerName, Vec<_>>::new();
        // A stream of events is mostly of one type: it is looked up once for each run of them.
        for alike in events.chunk_by(|one, next| one.envelope.event_type == next.envelope.event_type) {
            let Some(event_type) = alike.first().map(|event| event.envelope.event_type.as_str()) else { continue };
            let names = match self.known.get(event_type) {
                Some(names) => names.clone(),
                None => self.remember(event_type, all(event_type)),
            };
            for name in names.iter() {
                match sorted.get_mut(name) {
                    Some(some) => some.extend(alike),
                    None => drop(sorted.insert(name.clone(), alike.iter().collect())),
                }
            }
        }
        sorted
    }

    fn remember(&mut self, event_type: &str, names: Arc<[ConsumerName]>) -> Arc<[ConsumerName]> {
        if self.known.len() >= TYPES_MAX {
            self.known.clear();
        }
        self.known.insert(event_type.to_owned(), names.clone());
        names
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::dispatch::scripted;

    fn named(names: &[&str]) -> Arc<[ConsumerName]> {
        names.iter().map(|name| ConsumerName::new(name).unwrap()).collect()
    }

    #[test]
    fn each_lane_gets_its_events_in_log_order_and_a_type_is_asked_for_once() {
        let types = ["order.created", "order.created", "order.paid", "order.created", "nothing"];
        let events: Vec<_> = (1..).zip(types).map(|(seq, t)| Arc::new(scripted::event(seq, t))).collect();
        let asked = Cell::new(0);
        let all = |event_type: &str| {
            asked.set(asked.get() + 1);
            match event_type {
                "order.created" => named(&["greet", "audit"]),
                "order.paid" => named(&["audit"]),
                _ => named(&[]),
            }
        };
        let mut interest = Interest::default();
        let sorted = interest.sort(&events, all);
        let seqs = |name: &str| sorted[&ConsumerName::new(name).unwrap()].iter().map(|e| e.seq).collect::<Vec<_>>();
        assert_eq!((seqs("greet"), seqs("audit"), sorted.len()), (vec![1, 2, 4], vec![1, 2, 3, 4], 2));
        interest.sort(&events, all);
        assert_eq!(asked.get(), 3);
        interest.forget();
        interest.sort(&events, all);
        assert_eq!(asked.get(), 6);
    }

    #[test]
    fn types_without_end_are_not_all_remembered() {
        let mut interest = Interest::default();
        for seq in 0..3 * TYPES_MAX as u64 {
            interest.sort(&[Arc::new(scripted::event(seq, &format!("t{seq}")))], |_| named(&["greet"]));
        }
        assert!(interest.known.len() <= TYPES_MAX);
    }
}
