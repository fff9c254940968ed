//! What events and outcomes cost the log, 512 of them a commit, on a disk that remembers what was written to it.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tidegate_vfs::{Act, Disk};
use tokio::sync::oneshot;

use super::command::Settling;
use super::{apply, settle};
use crate::cost::{allocations, hold};
use crate::log::conformance::{NOW, done, event, subscriptions};
use crate::log::{Activation, Settled};
use crate::model::{Digest, Envelope, Payload};
use crate::store::{Opening, Writer};

/// Of a commit.
const EVENTS: u64 = 512;
/// Before anything is counted, and while it is: enough for checkpoints to be among what is counted.
const WARM: u64 = 2;
const ROUNDS: u64 = 96;

/// What was spent so far.
#[derive(Clone, Copy, Default)]
struct Spent {
    allocations: u64,
    steps: u64,
    bytes: u64,
    syncs: u64,
}

/// An order of some 450 bytes, with an id that grows.
fn order(seq: u64) -> Envelope {
    let id = format!("01939c2e-0000-7000-8000-{seq:012}");
    let payload = Payload { content_type: "application/json".into(), data: Bytes::from(vec![b'7'; 450]) };
    Envelope { payload: Some(payload), ..event(&id, "order.created") }
}

/// One transaction, and the checkpoint that may follow it.
fn spend(
    store: &mut Writer,
    steps: &std::sync::atomic::AtomicU64,
    disk: &Disk,
    spent: &mut Spent,
    work: impl FnOnce(&mut Writer),
) {
    let (steps_before, at) = (steps.load(Ordering::Relaxed), disk.position());
    let (count, ()) = allocations(|| {
        store.begin().unwrap();
        work(store);
        store.commit().unwrap();
        store.checkpoint_if_due().unwrap();
    });
    spent.allocations += count;
    spent.steps += steps.load(Ordering::Relaxed) - steps_before;
    for op in &disk.record()[at..] {
        match &op.act {
            Act::Write { bytes, .. } => spent.bytes += bytes.len() as u64,
            Act::Sync | Act::SyncFolder => spent.syncs += 1,
            _ => {}
        }
    }
}

#[test]
fn an_event_and_its_outcome_cost_the_log_no_more_than_their_budgets() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::attach(folder.path());
    let mut store = Writer::open(&Opening::new(folder.path().join("tidegate.db"), NOW)).unwrap();
    let steps = store.count_steps();
    let of = subscriptions(&[("measured", &["order.created"])]);
    let activation = Activation { digest: Digest::of(b"1"), subscriptions: of, from: Vec::new() };
    spend(&mut store, &steps, &disk, &mut Spent::default(), |store| {
        apply::activate(store, &activation, NOW, &mut Vec::new()).unwrap();
    });
    let (mut appended, mut settled) = (Spent::default(), Spent::default());
    for round in 0..WARM + ROUNDS {
        if round == WARM {
            (appended, settled) = Default::default();
        }
        let seqs = 1 + round * EVENTS..1 + (round + 1) * EVENTS;
        let events = seqs.clone().map(order).collect();
        spend(&mut store, &steps, &disk, &mut appended, |store| {
            let appended = apply::append(store, events, NOW, &mut Vec::new()).unwrap().unwrap();
            assert!(appended.iter().all(|one| !one.duplicate));
        });
        let settlements = seqs.map(|seq| done(seq, "measured")).collect();
        let settling = Settling { settlements, together: false, more: false, reply: oneshot::channel().0 };
        spend(&mut store, &steps, &disk, &mut settled, |store| {
            let answers = settle::settle(store, &settling, NOW, &mut Vec::new()).unwrap();
            assert!(answers.iter().all(|settled| *settled == Settled::Committed));
        });
    }
    let counts = [
        ("append.allocations", appended.allocations),
        ("append.steps", appended.steps),
        ("append.bytes", appended.bytes),
        ("settle.allocations", settled.allocations),
        ("settle.steps", settled.steps),
        ("settle.bytes", settled.bytes),
    ];
    hold(ROUNDS * EVENTS, &counts);
    hold(ROUNDS, &[("append.syncs", appended.syncs), ("settle.syncs", settled.syncs)]);
}
