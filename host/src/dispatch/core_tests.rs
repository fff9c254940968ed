//! The dispatcher's decisions against a small model of a log: lists in memory, no runtime, no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::dispatch::lane::{READY_MAX, WAITING_MAX};
use crate::dispatch::scripted;
use crate::dispatch::settle::settlement;
use crate::log::Hold;
use crate::model::delivery::KeyStanding;
use crate::model::keys::{HeldKey, Place, held_key, place};
use crate::model::spec::{Ceilings, Deployment, Retention, ServerSpec, SubscriptionSpec};
use crate::model::{Delivery, Outcome, Report, State};

const START: Moment = Moment { wall: Timestamp(0), monotonic: Duration::ZERO };

pub(in crate::dispatch) fn deployment(attempts: u32) -> Deployment {
    let day = Duration::from_secs(86_400);
    Deployment {
        server: ServerSpec { listen: ([127, 0, 0, 1], 0).into(), hosts: vec![], tokens: vec![], grace: day },
        database: "x.db".into(),
        folder: None,
        retention: Retention { events: day, outcomes: day },
        ceilings: Ceilings { attempts, ..Ceilings::default() },
        events: BTreeMap::new(),
        consumers: BTreeMap::new(),
        pipelines: BTreeMap::new(),
        schedules: BTreeMap::new(),
    }
}

/// A row of a waiting delivery.
#[derive(Clone, Debug)]
struct Row {
    delivery: Delivery,
    key: Option<String>,
    blocked: bool,
}

impl Row {
    fn due(&self) -> Timestamp {
        match self.delivery.state {
            State::Pending { due_at } => due_at,
            _ => Timestamp::MIN,
        }
    }

    fn waiting(&self, id: &DeliveryId) -> Waiting {
        let (key, blocked, priority) = (self.key.clone(), self.blocked, Priority::Normal);
        Waiting { id: id.clone(), delivery: self.delivery, key, blocked, errand: false, priority }
    }
}

/// What a crash does not take.
#[derive(Clone, Default)]
struct Disk {
    events: Vec<Arc<Event>>,
    rows: BTreeMap<DeliveryId, Row>,
    settled: BTreeSet<DeliveryId>,
    /// Keys, and whose dead letters hold them.
    held: BTreeMap<(Seq, u32), HeldKey>,
    keyed_by: KeyRules,
    /// Final outcomes in the order in which they came.
    order: Vec<(DeliveryId, Outcome)>,
}

/// A log of a few lists, and a world that carries out actions at once, except that attempts end when the test says.
struct World {
    core: Core,
    now: Timestamp,
    generation: u64,
    disk: Disk,
    /// Where consumers were at the last start.
    position: Seq,
    crashes: Vec<(DeliveryId, u32)>,
    careful_to: Seq,
    paused: bool,
    running: Vec<Claim>,
    batches: Vec<usize>,
    streamed: Vec<Claim>,
    lost: u64,
    changes: Vec<Change>,
    /// How often each delivery was attempted.
    attempts: BTreeMap<DeliveryId, u32>,
    positions: BTreeMap<ConsumerName, Seq>,
    timelines: BTreeMap<ConsumerName, Vec<(Seq, Vec<SubscriptionSpec>)>>,
}

impl World {
    fn new() -> Self {
        Self::on(Disk::default())
    }

    /// A start on what is left on a disk.
    fn on(disk: Disk) -> Self {
        Self {
            core: Core::new(disk.events.len() as Seq),
            now: Timestamp(1_000_000),
            generation: 0,
            position: disk.events.len() as Seq,
            disk,
            crashes: vec![],
            careful_to: 0,
            paused: false,
            running: vec![],
            batches: vec![],
            streamed: vec![],
            lost: 0,
            changes: vec![],
            attempts: BTreeMap::new(),
            positions: BTreeMap::new(),
            timelines: BTreeMap::new(),
        }
    }

    /// The process dies, and another one begins where consumers had begun to read.
    fn crash(self, consumers: Vec<Consumer>, attempts: u32) -> Self {
        let mut next = Self::on(self.disk);
        next.position = 0;
        next.now = self.now;
        next.deploy(consumers, attempts);
        next
    }

    fn moment(&self) -> Moment {
        Moment { wall: self.now, monotonic: Duration::from_micros(u64::try_from(self.now.0).unwrap()) }
    }

    fn deploy(&mut self, consumers: Vec<Consumer>, attempts: u32) {
        self.generation += 1;
        let consumers: BTreeMap<_, _> = consumers.into_iter().map(|c| (c.spec.name.clone(), c)).collect();
        let deployment = Arc::new(deployment(attempts));
        let generation = Generation(self.generation);
        let from = if self.generation == 1 { self.position } else { self.disk.events.len() as Seq } + 1;
        for (name, consumer) in &consumers {
            let held = (from, consumer.spec.subscriptions.clone());
            self.timelines.entry(name.clone()).or_default().push(held);
        }
        let catalogue = Arc::new(crate::registry::catalogue::Catalogue::new(&deployment));
        let consumers = Arc::new(consumers);
        self.wake(Wake::Prepared(Some(Snapshot { generation, deployment, consumers, catalogue })));
        self.wake(Wake::Commit(Commit::Activated(Activated { generation, from })));
    }

    fn emit(&mut self, types: &[&str]) {
        let first = self.disk.events.len() as Seq + 1;
        self.append((first..).zip(types).map(|(seq, t)| scripted::event(seq, t)).collect());
    }

    /// An event of `order.created` for each of these keys.
    fn emit_keyed(&mut self, keys: &[&str]) {
        let first = self.disk.events.len() as Seq + 1;
        let events = (first..).zip(keys).map(|(seq, key)| {
            let mut event = scripted::event(seq, "order.created");
            event.accepted_at = self.now;
            let data = bytes::Bytes::from(format!("{{\"key\":\"{key}\"}}"));
            event.envelope.payload = Some(crate::model::Payload { content_type: "application/json".into(), data });
            event
        });
        let events = events.collect();
        self.append(events);
    }

    fn append(&mut self, events: Vec<Event>) {
        let events: Vec<_> = events.into_iter().map(Arc::new).collect();
        self.disk.events.extend(events.clone());
        self.wake(Wake::Commit(Commit::Events(events)));
    }

    fn wake(&mut self, wake: Wake) {
        let mut actions = VecDeque::from(self.core.handle([wake], self.moment()));
        while let Some(action) = actions.pop_front() {
            let Some(wake) = self.act(action) else { continue };
            actions.extend(self.core.handle([wake], self.moment()));
        }
    }

    /// Time passes until the core has something to do by itself.
    fn pass(&mut self) -> Duration {
        let wait = self.core.next_wake(self.moment()).unwrap();
        self.now = self.now.plus(wait);
        self.wake(Wake::Tick);
        wait
    }

    fn start(&mut self, claim: Claim) {
        *self.attempts.entry(claim.id.clone()).or_default() += 1;
        assert!(!self.running.iter().any(|c| c.id == claim.id), "{} runs twice at once", claim.id);
        assert!(!self.disk.settled.contains(&claim.id), "{} runs after its end", claim.id);
        assert_eq!(claim.stored, self.disk.rows.contains_key(&claim.id), "{}", claim.id);
        self.running.push(claim);
    }

    fn act(&mut self, action: Action) -> Option<Wake> {
        Some(match action {
            Action::Attempt(claim, _) => {
                self.start(*claim);
                return None;
            }
            Action::Batch(claims, _) => {
                self.batches.push(claims.len());
                claims.into_iter().for_each(|claim| self.start(claim));
                return None;
            }
            Action::Stream(claim, _) => {
                self.streamed.push(*claim);
                return None;
            }
            Action::Lost(_, lost) => {
                self.lost += lost;
                return None;
            }
            Action::Tell(_, change) => {
                self.changes.push(change);
                return None;
            }
            Action::Recover(name) => Wake::Recovered(name.clone(), self.recovery(&name)),
            Action::Rekey(spec) => self.rekey(&spec),
            Action::Read(name, after) => {
                let page = self.disk.events.iter().skip(after as usize).take(PAGE_EVENTS).cloned().collect();
                Wake::Page(name, Some(page))
            }
            Action::Load(name, priority, after) => {
                let rows = self.disk.rows.iter().filter(|_| priority == Priority::Normal);
                let rows = rows.filter(|(id, row)| id.consumer == name && !row.blocked);
                let mut due: Vec<_> = rows.map(|(id, row)| (row.due(), id.clone())).collect();
                due.sort();
                due.retain(|key| after.as_ref().is_none_or(|after| key > after));
                due.truncate(PAGE_WAITING);
                let page = due.iter().map(|(_, id)| self.disk.rows[id].waiting(id)).collect();
                Wake::Loaded(name, priority, Some(page))
            }
            Action::Ring => Wake::Rang(Some(None)),
            Action::Fetch(id, _) => {
                let event = self.disk.events[id.seq as usize - 1].clone();
                Wake::Fetched(id, Some(Fetched { event, errand: None }))
            }
            Action::Park(name, waiting) => {
                let ids = waiting.iter().map(|waiting| waiting.id.clone()).collect();
                for Waiting { id, delivery, key, blocked, .. } in waiting {
                    self.disk.rows.insert(id, Row { delivery, key, blocked });
                }
                Wake::Parked(name, ids)
            }
            Action::Unpark(consumer, wanted) => {
                let line = |(id, row): &(&DeliveryId, &Row)| {
                    let meant = !wanted.later || id.round > 0;
                    meant && id.consumer == consumer && row.blocked && row.key.as_ref() == Some(&wanted.key)
                };
                let page = self.disk.rows.iter().filter(line).take(wanted.limit);
                let event = |id: &DeliveryId| self.disk.events[id.seq as usize - 1].clone();
                let page = page.map(|(id, row)| (row.waiting(id), Fetched { event: event(id), errand: None }));
                Wake::Unparked { page: Some(page.collect()), consumer, wanted }
            }
            Action::Advance(positions) => {
                self.positions.extend(positions);
                return None;
            }
        })
    }

    fn rekey(&mut self, spec: &ConsumerSpec) -> Wake {
        for (id, row) in self.disk.rows.iter_mut().filter(|(id, _)| id.consumer == spec.name) {
            let event = &self.disk.events[id.seq as usize - 1];
            let before = Place { key: row.key.take(), blocked: row.blocked, due_at: row.due() };
            let called = (id.round, row.delivery.calls);
            let Place { key, blocked, due_at } = place(&spec.delivery, event, called, &before);
            (row.key, row.blocked, row.delivery.state) = (key, blocked, State::Pending { due_at });
        }
        let key = |seq: Seq| held_key(&spec.delivery, &self.disk.events[seq as usize - 1]);
        let anew = |held: &HeldKey| Some(((held.seq, held.round), HeldKey { key: key(held.seq)?, ..*held }));
        self.disk.held = self.disk.held.values().filter_map(anew).collect();
        self.disk.keyed_by = KeyRules::of(&spec.delivery);
        Wake::Rekeyed(spec.name.clone(), self.disk.keyed_by.clone())
    }

    fn recovery(&self, name: &ConsumerName) -> Recovery {
        let mut keys: BTreeMap<String, KeyStanding> = BTreeMap::new();
        for (id, row) in self.disk.rows.iter().filter(|(id, _)| id.consumer == *name) {
            let Some(key) = row.key.clone() else { continue };
            let standing =
                keys.entry(key.clone()).or_insert(KeyStanding { key, taken: false, blocked_to: None, later: false });
            if row.blocked {
                standing.blocked_to = standing.blocked_to.max(Some(id.seq));
                standing.later |= id.round > 0;
            } else {
                standing.taken |= row.delivery.calls > 0 || id.round == 0;
            }
        }
        let known = self.disk.settled.iter().chain(self.disk.rows.keys());
        let settled: BTreeSet<Seq> =
            known.filter(|id| id.consumer == *name && id.round == 0).map(|id| id.seq).collect();
        Recovery {
            position: self.position,
            settled: settled.into_iter().filter(|seq| *seq > self.position).collect(),
            keys: keys.into_values().collect(),
            held: self.disk.held.values().cloned().collect(),
            keyed_by: Some(self.disk.keyed_by.clone()),
            careful_to: self.careful_to,
            paused: self.paused,
            crashes: self.crashes.clone(),
            timeline: self.timelines.get(name).cloned().unwrap_or_default(),
        }
    }

    /// Ends the oldest running attempt so.
    fn end(&mut self, outcome: Outcome) -> DeliveryId {
        let claim = self.running.remove(0);
        let mut held = self.disk.held.clone();
        let (id, left) = self.settle(&claim, outcome);
        if claim.frees && outcome == Outcome::Done {
            held.retain(|dead, _| !self.disk.held.contains_key(dead));
            self.wake(Wake::Commit(Commit::Released(id.consumer.clone(), held.into_keys().collect())));
        }
        self.wake(Wake::Ended(vec![Ended::one(id.clone(), left, Duration::from_micros(1))]));
        id
    }

    /// The handler of the n-th running attempt has returned; its settlement is on its way.
    fn called(&mut self, n: usize) {
        self.wake(Wake::Called(vec![self.running[n].id.clone()]));
    }

    fn settle(&mut self, claim: &Claim, outcome: Outcome) -> (DeliveryId, Left) {
        let report = match &claim.instead {
            Some(instead) => instead.report(self.now),
            None => Report::bare(outcome, None, self.now),
        };
        let settlement = settlement(claim, report, self.now, u64::MAX).unwrap();
        let key = settlement.key.clone();
        match settlement.next.state {
            State::Pending { .. } => {
                let row = Row { delivery: settlement.next, key, blocked: false };
                self.disk.rows.insert(claim.id.clone(), row);
            }
            _ => {
                self.disk.rows.remove(&claim.id);
                self.disk.settled.insert(claim.id.clone());
                self.disk.order.push((claim.id.clone(), settlement.record.outcome));
            }
        }
        match &settlement.hold {
            Some(Hold::Begin(key)) => {
                let DeliveryId { seq, round, .. } = claim.id;
                self.disk.held.retain(|dead, _| dead.0 != seq || dead.1 > round);
                self.disk.held.insert((seq, round), HeldKey { key: key.clone(), seq, round });
            }
            Some(Hold::End(_)) => self.disk.held.retain(|dead, _| dead.0 != claim.id.seq || dead.1 > claim.id.round),
            None => {}
        }
        (claim.id.clone(), crate::dispatch::attempt::left(&settlement))
    }

    /// Ends the batch that has run longest, each of its items so.
    fn end_batch(&mut self, outcomes: &[Outcome]) {
        let claims: Vec<_> = self.running.drain(..outcomes.len()).collect();
        self.batches.remove(0);
        let left = claims.iter().zip(outcomes).map(|(claim, outcome)| self.settle(claim, *outcome)).collect();
        let consumer = claims[0].id.consumer.clone();
        self.wake(Wake::Ended(vec![Ended { consumer, left, took: Duration::from_micros(1) }]));
    }

    fn end_all(&mut self, outcome: Outcome) {
        while !self.running.is_empty() {
            self.end(outcome);
        }
    }

    fn redrive(&mut self, id: &DeliveryId) {
        let id = DeliveryId { round: id.round + 1, ..id.clone() };
        let row = Row { delivery: Delivery::new(self.now), key: None, blocked: false };
        self.disk.rows.insert(id.clone(), row.clone());
        self.wake(Wake::Commit(Commit::Redriven(vec![row.waiting(&id)])));
    }

    fn running(&self) -> Vec<String> {
        self.running.iter().map(|claim| claim.id.to_string()).collect()
    }

    fn running_seqs(&self) -> Vec<Seq> {
        self.running.iter().map(|claim| claim.id.seq).collect()
    }

    /// Events whose deliveries are final, in the order in which they became so.
    fn finished(&self) -> Vec<Seq> {
        self.disk.order.iter().map(|(id, _)| id.seq).collect()
    }
}

#[path = "decision_tests.rs"]
mod decisions;
#[path = "order_tests.rs"]
mod order;
#[path = "promise_tests.rs"]
mod promises;

fn greet(concurrency: u32) -> Consumer {
    let mut consumer = scripted::consumer("greet", "order.*", |_| Outcome::Done);
    Arc::make_mut(&mut consumer.spec).limits.concurrency = concurrency;
    consumer
}

fn named(name: &str, pattern: &str) -> Consumer {
    scripted::consumer(name, pattern, |_| Outcome::Done)
}
