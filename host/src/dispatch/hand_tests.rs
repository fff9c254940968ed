use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::*;
use crate::clock::SystemClock;
use crate::dispatch::attempt::Witness;
use crate::dispatch::scripted;
use crate::log::memory::MemoryLog;
use crate::log::{Activation, EventLog as _};
use crate::model::outcome::StateWrite;
use crate::model::{Delivery, Digest, Event, Generation, Outcome, Report, Seq, State, Timestamp};
use crate::registry::Consumer;
use crate::sandbox::{Call, Exports, Invoke};

/// A handler that waits for those events that it has a gate for, panics about others, and is done with the rest.
#[derive(Default)]
struct Gated {
    gates: Mutex<BTreeMap<Seq, oneshot::Receiver<()>>>,
    panics_at: Option<Seq>,
    /// What it writes to its state at this event.
    writes: Option<(Seq, &'static [u8])>,
}

impl Invoke for Gated {
    fn exports(&self) -> Exports {
        Exports::ALL
    }

    fn invoke(&self, call: Call) -> Pin<Box<dyn Future<Output = Report> + Send + '_>> {
        Box::pin(async move {
            let seq = call.event.seq;
            assert_ne!(self.panics_at, Some(seq));
            let gate = self.gates.lock().unwrap().remove(&seq);
            if let Some(gate) = gate {
                gate.await.unwrap();
            }
            let mut report = Report::bare(Outcome::Done, None, Timestamp(0));
            if let Some((_, value)) = self.writes.filter(|(at, _)| *at == seq) {
                let write = StateWrite::Set { value: Bytes::from_static(value), expires_at: None };
                report.state.writes.insert("k".into(), write);
            }
            report
        })
    }

    fn invoke_batch(&self, _: Vec<Call>) -> Pin<Box<dyn Future<Output = Result<Vec<Report>, Report>> + Send + '_>> {
        unreachable!("nothing here is a batch")
    }
}

struct Nobody;

impl Witness for Nobody {
    fn appended(&self, _: &[Arc<Event>]) {}
    fn settled(&self, _: &Claim, _: &Settlement) {}
}

struct Table {
    log: Arc<MemoryLog>,
    player: Player,
    wakes: mpsc::UnboundedReceiver<Wake>,
    consumer: Consumer,
    _cancel: watch::Sender<bool>,
}

impl Table {
    /// With so many events in the log.
    async fn set(events: Seq, handler: Gated) -> Self {
        let clock = Arc::new(SystemClock::new());
        let log = Arc::new(MemoryLog::new(clock.clone()).0);
        let mut spec = scripted::spec("greet", "order.*");
        spec.grants.state = Some(8);
        let subscriptions = vec![(spec.name.clone(), spec.subscriptions.clone())];
        let activation = Activation { digest: Digest::of(b"one"), subscriptions, from: Vec::new() };
        log.activate(activation).await.unwrap();
        let envelopes = (1..=events).map(|seq| scripted::envelope(&format!("event-{seq}"), "order.created"));
        log.append(envelopes.collect()).await.unwrap();
        let (cancel, cancelled) = watch::channel(false);
        let tools = Tools {
            log: log.clone(),
            clock,
            random: Arc::new(crate::random::Random::seeded(1)),
            metrics: Arc::default(),
            witness: Arc::new(Nobody),
            cancelled,
        };
        let (back, wakes) = mpsc::unbounded_channel();
        let consumer = Consumer { spec: Arc::new(spec), digest: Digest::of(b"greet"), handler: Arc::new(handler) };
        Self { log, player: Player { tools, quick: Handle::current(), back }, wakes, consumer, _cancel: cancel }
    }

    fn claims(&self, seqs: impl IntoIterator<Item = Seq>) -> Vec<Claim> {
        let claim = |seq| Claim {
            id: DeliveryId { seq, consumer: self.consumer.spec.name.clone(), round: 0 },
            delivery: Delivery { state: State::Leased, attempts: 0, calls: 0 },
            event: Arc::new(scripted::event(seq, "order.created")),
            consumer: self.consumer.clone(),
            generation: Generation(1),
            stored: false,
            key: None,
            mark: None,
            frees: false,
            careful: false,
            instead: None,
            errand: None,
        };
        seqs.into_iter().map(claim).collect()
    }

    /// The next word to the loop: that calls are over, or what they were left as.
    async fn hear(&mut self) -> (Vec<Seq>, Vec<(Seq, Option<Outcome>)>) {
        match self.wakes.recv().await {
            Some(Wake::Called(ids)) => (ids.iter().map(|id| id.seq).collect(), vec![]),
            Some(Wake::Ended(ended)) => (vec![], ended.into_iter().flat_map(|ended| ended.left).map(left).collect()),
            _ => panic!("nothing else is told"),
        }
    }

    fn outcomes(&self) -> Vec<(Seq, Outcome)> {
        self.log.outcomes().into_iter().map(|(id, record)| (id.seq, record.outcome)).collect()
    }
}

fn left((id, left): (DeliveryId, Left)) -> (Seq, Option<Outcome>) {
    (id.seq, if let Left::Settled { outcome, .. } = left { Some(outcome) } else { None })
}

const DONE: Option<Outcome> = Some(Outcome::Done);

#[tokio::test]
async fn one_that_waits_holds_up_nobody_of_its_hand() {
    let (open, gate) = oneshot::channel();
    let handler = Gated { gates: Mutex::new([(2, gate)].into()), ..Gated::default() };
    let mut table = Table::set(3, handler).await;
    table.player.clone().play(table.claims(1..=3), Seats::default().take()).await;
    assert_eq!(table.hear().await, (vec![1, 3], vec![]));
    assert_eq!(table.hear().await, (vec![], vec![(1, DONE), (3, DONE)]));
    assert_eq!(table.outcomes(), [(1, Outcome::Done), (3, Outcome::Done)]);
    open.send(()).unwrap();
    assert_eq!(table.hear().await, (vec![2], vec![]));
    assert_eq!(table.hear().await, (vec![], vec![(2, DONE)]));
    assert_eq!(table.outcomes().len(), 3);
}

#[tokio::test]
async fn what_cannot_stand_does_not_take_its_neighbours_with_it() {
    let handler = Gated { writes: Some((2, b"more than eight bytes")), panics_at: Some(4), ..Gated::default() };
    let mut table = Table::set(4, handler).await;
    // The third is settled already, as by a host that was faster.
    let mut third = table.claims([3]);
    table.player.clone().play(third.clone(), Seats::default().take()).await;
    assert_eq!((table.hear().await.0, table.hear().await.1), (vec![3], vec![(3, DONE)]));
    let mut claims = table.claims([1, 2]);
    claims.append(&mut third);
    claims.extend(table.claims([4]));
    table.player.clone().play(claims, Seats::default().take()).await;
    assert_eq!(table.hear().await.0, [1, 2, 3, 4]);
    assert_eq!(table.hear().await.1, [(1, DONE), (3, DONE), (4, Some(Outcome::Trapped))]);
    assert_eq!(table.hear().await.1, [(2, Some(Outcome::OverLimit))], "it is settled once more, as over its quota");
    let outcomes = [Outcome::Done, Outcome::OverLimit, Outcome::Done, Outcome::Trapped];
    assert_eq!(table.outcomes(), (1..).zip(outcomes).collect::<Vec<_>>());
}

#[tokio::test]
async fn hands_are_dealt_to_every_thread_and_stay_small() {
    let table = Table::set(0, Gated::default()).await;
    let sizes = |claims, threads| -> Vec<usize> {
        Player::deal(table.claims(1..=claims), threads).map(|hand| hand.len()).collect()
    };
    assert_eq!(sizes(0, 2), [0; 0]);
    assert_eq!(sizes(1, 2), [1]);
    assert_eq!(sizes(5, 2), [3, 2]);
    assert_eq!(sizes(100, 2), [32, 32, 32, 4]);
    assert_eq!((sizes(8, 1), sizes(8, 0)), (vec![8], vec![8]), "nobody is idle: it stays one hand");
}

#[test]
fn whoever_plays_while_another_hand_is_dealt_has_company() {
    let seats = Seats::default();
    let first = seats.take();
    assert!(!first.has_company());
    let second = seats.take();
    assert!(first.has_company() && second.has_company());
    drop(first);
    assert!(!second.has_company());
}

#[tokio::test]
async fn hands_are_as_large_after_a_thousand_turns_as_at_first() {
    const THREADS: usize = 2;
    let table = Table::set(0, Gated::default()).await;
    let seats = Seats::default();
    let mut next = 1;
    let mut deal = |attempts: usize| -> Vec<(usize, Seat)> {
        let claims = table.claims(next..next + attempts as Seq);
        next += attempts as Seq;
        let idle = THREADS.saturating_sub(seats.taken());
        Player::deal(claims, idle).map(|hand| (hand.len(), seats.take())).collect()
    };
    let mut played = VecDeque::from(deal(16));
    for _ in 0..1_000 {
        // The slots of a hand that is over are there for the next one.
        let (attempts, seat) = played.pop_front().unwrap();
        drop(seat);
        played.extend(deal(attempts));
    }
    assert_eq!(played.iter().map(|(attempts, _)| *attempts).collect::<Vec<_>>(), [8, 8]);
}
