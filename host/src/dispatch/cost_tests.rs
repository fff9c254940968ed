//! What the dispatcher's own part of a delivery costs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::attempt::left;
use super::core::tests::deployment;
use super::core::{Action, Core, Ended, Wake};
use super::scripted;
use super::settle::{Claim, settlement};
use crate::cost::{allocations, hold};
use crate::log::{Activated, Commit, Recovery, Settled, Settlement};
use crate::model::{Event, Generation, Moment, Outcome, Report, Timestamp};
use crate::registry::Snapshot;
use crate::registry::catalogue::Catalogue;

const NOW: Moment = Moment { wall: Timestamp(0), monotonic: Duration::ZERO };
/// Events of one commit.
const EVENTS: u64 = 512;
/// Before anything is counted, and while it is.
const WARM: u64 = 4;
const ROUNDS: u64 = 8;

/// A core with one consumer of `order.created` and others of what nobody sends, which have nothing left to do.
fn core(others: usize) -> Core {
    let named = |(name, on): (String, &str)| {
        let consumer = scripted::consumer(&name, on, |_| Outcome::Done);
        (consumer.spec.name.clone(), consumer)
    };
    let idle = (0..others).map(|n| (format!("idle-{n}"), "nothing"));
    let consumers: BTreeMap<_, _> = idle.chain([("measured".to_owned(), "order.created")]).map(named).collect();
    let deployment = Arc::new(deployment(16));
    let catalogue = Arc::new(Catalogue::new(&deployment));
    let snapshot = Snapshot { generation: Generation(1), deployment, consumers: Arc::new(consumers), catalogue };
    let activated = Commit::Activated(Activated { generation: Generation(1), from: 1 });
    let mut core = Core::new(0);
    let mut wakes = vec![Wake::Prepared(Some(snapshot)), Wake::Commit(activated)];
    while !wakes.is_empty() {
        let answer = |action| match action {
            Action::Recover(name) => Some(Wake::Recovered(name, Recovery::default())),
            Action::Load(name, priority, _) => Some(Wake::Loaded(name, priority, Some(vec![]))),
            Action::Ring => Some(Wake::Rang(Some(None))),
            _ => None,
        };
        wakes = core.handle(wakes, NOW).into_iter().filter_map(answer).collect();
    }
    core
}

/// What the core allocates and what the settlements do, for events of so many commits from `first` on.
fn deliver(core: &mut Core, rounds: u64, first: u64) -> (u64, u64) {
    let (mut of_core, mut of_settlements) = (0, 0);
    for round in 0..rounds {
        let seqs = first + round * EVENTS..first + (round + 1) * EVENTS;
        let events: Vec<Arc<Event>> = seqs.map(|seq| Arc::new(scripted::event(seq, "order.created"))).collect();
        let mut wakes = vec![Wake::Commit(Commit::Events(events))];
        while !wakes.is_empty() {
            let (count, actions) = allocations(|| core.handle(wakes.drain(..), NOW));
            of_core += count;
            for action in actions {
                let Action::Attempt(claim, _) = action else { continue };
                let (count, settlement) = allocations(|| done(&claim));
                of_settlements += count;
                wakes.extend(ended(&claim, &settlement));
            }
        }
    }
    (of_core, of_settlements)
}

/// What an attempt causes that is done.
fn done(claim: &Claim) -> Settlement {
    settlement(claim, Report::bare(Outcome::Done, None, NOW.wall), NOW.wall, 7).unwrap()
}

fn ended(claim: &Claim, settlement: &Settlement) -> [Wake; 3] {
    let id = claim.id.clone();
    let ended = Ended::one(id.clone(), left(settlement), Duration::from_micros(10));
    [Wake::Called(vec![id.clone()]), Wake::Commit(Commit::Settled(id, Settled::Committed)), Wake::Ended(vec![ended])]
}

#[test]
fn a_delivery_costs_the_dispatcher_no_more_than_its_budget() {
    let mut core = core(9);
    deliver(&mut core, WARM, 1);
    let (of_core, of_settlements) = deliver(&mut core, ROUNDS, 1 + WARM * EVENTS);
    assert!(core.is_settled((WARM + ROUNDS) * EVENTS));
    let counts = [("core.allocations", of_core), ("settlement.allocations", of_settlements)];
    hold(ROUNDS * EVENTS, &counts);
}
