//! The dispatcher's decisions against a small model of a log: lists in memory, no runtime, no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::dispatch::lane::{READY_MAX, WAITING_MAX};
use crate::dispatch::scripted;
use crate::dispatch::settle::settlement;
use crate::log::Hold;
use crate::model::delivery::KeyStanding;
use crate::model::spec::{Ceilings, Deployment, Retention, ServerSpec};
use crate::model::{Delivery, Outcome, Report, State};

const START: Moment = Moment { wall: Timestamp(0), monotonic: Duration::ZERO };

fn deployment(attempts: u32) -> Deployment {
    let day = Duration::from_secs(86_400);
    Deployment {
        server: ServerSpec { listen: ([127, 0, 0, 1], 0).into(), hosts: vec![], tokens: vec![], grace: day },
        database: "x.db".into(),
        folder: None,
        retention: Retention { events: day, outcomes: day },
        ceilings: Ceilings { attempts, ..Ceilings::default() },
        events: BTreeMap::new(),
        consumers: BTreeMap::new(),
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
        Waiting { id: id.clone(), delivery: self.delivery, key: self.key.clone(), blocked: self.blocked }
    }
}

/// What a crash does not take.
#[derive(Clone, Default)]
struct Disk {
    events: Vec<Arc<Event>>,
    rows: BTreeMap<DeliveryId, Row>,
    settled: BTreeSet<DeliveryId>,
    held: BTreeSet<String>,
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
    running: Vec<Claim>,
    batches: Vec<usize>,
    streamed: Vec<Claim>,
    lost: u64,
    changes: Vec<Change>,
    /// How often each delivery was attempted.
    attempts: BTreeMap<DeliveryId, u32>,
    positions: BTreeMap<ConsumerName, Seq>,
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
            running: vec![],
            batches: vec![],
            streamed: vec![],
            lost: 0,
            changes: vec![],
            attempts: BTreeMap::new(),
            positions: BTreeMap::new(),
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
        let consumers = consumers.into_iter().map(|c| (c.spec.name.clone(), c)).collect();
        let deployment = Arc::new(deployment(attempts));
        let generation = Generation(self.generation);
        let from = if self.generation == 1 { self.position } else { self.disk.events.len() as Seq } + 1;
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
            Action::Read(name, after) => {
                let page = self.disk.events.iter().skip(after as usize).take(PAGE_EVENTS).cloned().collect();
                Wake::Page(name, Some(page))
            }
            Action::Load(name, after) => {
                let rows = self.disk.rows.iter().filter(|(id, row)| id.consumer == name && !row.blocked);
                let mut due: Vec<_> = rows.map(|(id, row)| (row.due(), id.clone())).collect();
                due.sort();
                due.retain(|key| after.as_ref().is_none_or(|after| key > after));
                due.truncate(PAGE_WAITING);
                let page = due.iter().map(|(_, id)| self.disk.rows[id].waiting(id)).collect();
                Wake::Loaded(name, Some(page))
            }
            Action::Fetch(id) => {
                let event = self.disk.events[id.seq as usize - 1].clone();
                Wake::Fetched(id, Some(event))
            }
            Action::Park(name, waiting) => {
                let ids = waiting.iter().map(|waiting| waiting.id.clone()).collect();
                for Waiting { id, delivery, key, blocked } in waiting {
                    self.disk.rows.insert(id, Row { delivery, key, blocked });
                }
                Wake::Parked(name, ids)
            }
            Action::Unpark(consumer, key, limit) => {
                let line = |(id, row): &(&DeliveryId, &Row)| {
                    id.consumer == consumer && row.blocked && row.key.as_ref() == Some(&key)
                };
                let page = self.disk.rows.iter().filter(line).take(limit);
                let page = page.map(|(id, row)| (row.waiting(id), self.disk.events[id.seq as usize - 1].clone()));
                Wake::Unparked { page: Some(page.collect()), consumer, key, limit }
            }
            Action::Advance(positions) => {
                self.positions.extend(positions);
                return None;
            }
        })
    }

    fn recovery(&self, name: &ConsumerName) -> Recovery {
        let mut keys: BTreeMap<String, KeyStanding> = BTreeMap::new();
        for (id, row) in self.disk.rows.iter().filter(|(id, _)| id.consumer == *name) {
            let Some(key) = row.key.clone() else { continue };
            let standing = keys.entry(key.clone()).or_insert(KeyStanding { key, taken: false, blocked_to: None });
            if row.blocked {
                standing.blocked_to = standing.blocked_to.max(Some(id.seq));
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
            held: self.disk.held.iter().cloned().collect(),
            careful_to: self.careful_to,
            crashes: self.crashes.clone(),
            ..Recovery::default()
        }
    }

    /// Ends the oldest running attempt so.
    fn end(&mut self, outcome: Outcome) -> DeliveryId {
        let claim = self.running.remove(0);
        let (id, left) = self.settle(&claim, outcome);
        let consumer = id.consumer.clone();
        if let Some(key) = claim.key.clone().filter(|_| claim.frees && outcome == Outcome::Done) {
            self.wake(Wake::Commit(Commit::Released(consumer.clone(), vec![key])));
        }
        self.wake(Wake::Ended { consumer, left: vec![(id.clone(), left)], took: Duration::from_micros(1) });
        id
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
            Some(Hold::Begin(key)) => drop(self.disk.held.insert(key.clone())),
            Some(Hold::End(key)) => drop(self.disk.held.remove(key)),
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
        self.wake(Wake::Ended { consumer, left, took: Duration::from_micros(1) });
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

#[test]
fn a_matching_event_is_attempted_once_and_others_are_not() {
    let mut world = World::new();
    world.deploy(vec![greet(4)], 8);
    world.emit(&["order.created", "stock.counted", "order.paid"]);
    assert_eq!(world.running(), ["1/greet", "3/greet"]);
    world.end_all(Outcome::Done);
    assert!(world.core.is_settled(3));
    assert_eq!(world.attempts.values().sum::<u32>(), 2);
}

#[test]
fn concurrency_and_slots_bound_what_runs() {
    let mut world = World::new();
    world.deploy(vec![greet(2), named("other", "order.*")], 4);
    world.emit(&["order.created"; 10]);
    assert_eq!(world.running.len(), 3, "of four slots, one is kept for the quick");
    assert!(world.running.iter().filter(|c| c.id.consumer.as_str() == "greet").count() <= 2);
    world.end_all(Outcome::Done);
    assert_eq!(world.disk.settled.len(), 20);
}

#[test]
fn a_busy_lane_does_not_starve_another() {
    let mut world = World::new();
    world.deploy(vec![named("a", "order.*"), named("b", "order.*"), named("c", "order.*")], 1);
    world.emit(&["order.created"; 30]);
    let mut served = BTreeMap::<String, u32>::new();
    for _ in 0..30 {
        *served.entry(world.end(Outcome::Done).consumer.to_string()).or_default() += 1;
    }
    assert_eq!(served.values().copied().collect::<Vec<_>>(), [10, 10, 10]);
}

#[test]
fn a_retry_waits_for_its_time_and_blocks_nobody() {
    let mut world = World::new();
    world.deploy(vec![greet(1)], 8);
    world.emit(&["order.created", "order.created"]);
    world.end(Outcome::Retry);
    assert_eq!(world.running(), ["2/greet"]);
    world.end(Outcome::Done);
    assert!(world.running.is_empty() && !world.core.is_settled(2));
    let wait = world.core.next_wake(world.moment()).unwrap();
    let due = world.now.plus(wait);
    world.now = Timestamp(due.0 - 1);
    world.wake(Wake::Tick);
    assert!(world.running.is_empty(), "too early");
    world.now = due;
    world.wake(Wake::Tick);
    assert_eq!(world.running(), ["1/greet"]);
    world.end(Outcome::Done);
    assert!(world.core.is_settled(2));
}

#[test]
fn a_lane_that_falls_behind_reads_the_log_and_keeps_memory_bounded() {
    let mut world = World::new();
    world.deploy(vec![greet(1)], 8);
    let many = READY_MAX * 3;
    for _ in 0..many / 256 {
        world.emit(&["order.created"; 256]);
    }
    world.end_all(Outcome::Done);
    assert_eq!(world.disk.settled.len(), many);
    assert!(world.attempts.values().all(|attempts| *attempts == 1));
}

#[test]
fn more_waiting_deliveries_than_memory_holds_are_all_attempted() {
    let mut world = World::new();
    world.deploy(vec![greet(64)], 64);
    let many = WAITING_MAX + 2_000;
    for _ in 0..many / 100 {
        world.emit(&["order.created"; 100]);
        world.end_all(Outcome::Retry);
        world.now = Timestamp(world.now.0 + 1);
    }
    assert_eq!(world.disk.rows.len(), many);
    world.now = world.now.plus(Duration::from_secs(3_600));
    world.wake(Wake::Tick);
    world.end_all(Outcome::Done);
    assert_eq!(world.disk.settled.len(), many);
    assert!(world.attempts.values().all(|attempts| *attempts == 2));
}

#[test]
fn a_lost_race_runs_again_and_at_last_alone() {
    let mut world = World::new();
    world.deploy(vec![greet(4)], 8);
    world.emit(&["order.created"; 4]);
    let contender = world.running[0].id.clone();
    for _ in 0..3 {
        let at = world.running.iter().position(|claim| claim.id == contender).unwrap();
        let claim = world.running.remove(at);
        let given_back = claim.delivery.step(Input::GiveBack, &claim.consumer.spec.retry, world.now, 0).unwrap();
        assert_eq!(given_back.attempts, 0, "a lost race costs no attempt");
        let (consumer, took) = (claim.id.consumer.clone(), Duration::from_micros(1));
        world.wake(Wake::Ended { consumer, left: vec![(claim.id, Left::Conflict(given_back))], took });
    }
    assert!(!world.running().contains(&contender.to_string()), "it waits until it can run alone");
    world.emit(&["order.created"; 4]);
    while !world.running().contains(&contender.to_string()) {
        world.end(Outcome::Done);
    }
    assert_eq!(world.running(), [contender.to_string()]);
    world.end_all(Outcome::Done);
    assert_eq!(world.disk.settled.len(), 8);
}

#[test]
fn a_reload_routes_by_the_generation_that_was_live_and_attempts_keep_their_version() {
    let mut world = World::new();
    world.deploy(vec![greet(1)], 8);
    world.emit(&["order.created", "order.created"]);
    let mut changed = named("greet", "stock.*");
    changed.digest = crate::model::Digest::of(b"new");
    world.deploy(vec![changed, named("late", "order.*")], 8);
    world.emit(&["order.created", "stock.counted"]);
    assert_ne!(world.running[0].consumer.digest, crate::model::Digest::of(b"new"), "in hand: the old version");
    world.end_all(Outcome::Done);
    let settled: Vec<_> = world.disk.settled.iter().map(ToString::to_string).collect();
    assert_eq!(settled, ["1/greet", "2/greet", "3/late", "4/greet"]);
}

#[test]
fn a_removed_consumer_keeps_its_work_and_goes_on_when_it_returns() {
    let mut world = World::new();
    world.deploy(vec![greet(1)], 8);
    world.emit(&["order.created"; 3]);
    world.deploy(vec![], 8);
    world.emit(&["order.created"]);
    world.end_all(Outcome::Done);
    assert_eq!(world.disk.settled.len(), 1, "what was in hand is finished, no more is started");
    world.deploy(vec![greet(1)], 8);
    world.emit(&["order.created"]);
    world.end_all(Outcome::Done);
    let settled: Vec<_> = world.disk.settled.iter().map(|id| id.seq).collect();
    assert_eq!(settled, [1, 2, 3, 5], "4 came while it was gone");
}

#[test]
fn draining_starts_nothing_more() {
    let mut world = World::new();
    world.deploy(vec![greet(1)], 8);
    world.emit(&["order.created"; 3]);
    world.wake(Wake::Drain);
    world.end_all(Outcome::Done);
    assert_eq!(world.disk.settled.len(), 1);
    assert_eq!(world.core.running(), 0);
}

#[test]
fn the_cursor_never_passes_what_is_unsettled() {
    let mut world = World::new();
    world.deploy(vec![greet(4)], 8);
    for _ in 0..30 {
        world.emit(&["order.created"; 100]);
    }
    let held = world.running.remove(0);
    world.end_all(Outcome::Done);
    let name = held.id.consumer.clone();
    assert_eq!(world.positions.get(&name).copied().unwrap_or(0), 0);
    world.running.push(held);
    world.end_all(Outcome::Done);
    assert_eq!(world.positions[&name], 3_000);
}

#[test]
fn the_hosts_own_chain_is_recorded_and_not_delivered_beyond_its_depth() {
    let mut world = World::new();
    world.deploy(vec![named("alert", "tidegate.**")], 8);
    let deep = crate::model::Limits::default().chain_depth + 1;
    let mut event = scripted::event(1, "tidegate.dead-lettered");
    event.envelope.source = crate::model::event::HOST_SOURCE.into();
    event.envelope.depth = deep;
    world.disk.events.push(Arc::new(event.clone()));
    world.wake(Wake::Commit(Commit::Events(vec![Arc::new(event)])));
    assert!(world.running.is_empty());
    world.emit(&["tidegate.dead-lettered"]);
    assert_eq!(world.running(), ["2/alert"]);
}

/// The same, for an event that a guest was allowed to publish: whoever subscribed gets it.
#[test]
fn a_guests_event_is_delivered_however_deep_its_chain() {
    let mut world = World::new();
    world.deploy(vec![greet(1)], 8);
    let mut event = scripted::event(1, "order.created");
    event.envelope.depth = crate::model::Limits::default().chain_depth + 1;
    world.disk.events.push(Arc::new(event.clone()));
    world.wake(Wake::Commit(Commit::Events(vec![Arc::new(event)])));
    assert_eq!(world.running(), ["1/greet"]);
}

#[test]
fn a_page_that_runs_ahead_of_the_commits_is_not_routed_by_the_old_generation() {
    let mut world = World::new();
    world.deploy(vec![greet(1)], 8);
    // The lane is full, so that it reads pages.
    for _ in 0..READY_MAX / 256 + 1 {
        world.emit(&["order.created"; 256]);
    }
    let known = world.disk.events.len();
    // In the log, and not told yet: another generation, and an event for it.
    let seq = known as Seq + 1;
    world.disk.events.push(Arc::new(scripted::event(seq, "stock.counted")));
    world.end_all(Outcome::Done);
    assert_eq!(world.disk.settled.len(), known);
    let ahead = world.disk.events.pop().unwrap();
    world.deploy(vec![named("greet", "stock.*")], 8);
    world.disk.events.push(ahead.clone());
    world.wake(Wake::Commit(Commit::Events(vec![ahead])));
    assert_eq!(world.running(), [format!("{seq}/greet")]);
}

#[test]
fn a_log_that_ends_in_a_gap_is_not_read_for_ever() {
    let mut core = Core::new(9);
    let deployed = |consumer: Consumer| BTreeMap::from([(consumer.spec.name.clone(), consumer)]);
    let deployment = Arc::new(deployment(8));
    let catalogue = Arc::new(crate::registry::catalogue::Catalogue::new(&deployment));
    let consumers = Arc::new(deployed(greet(1)));
    let snapshot = Snapshot { generation: Generation(1), deployment, consumers, catalogue };
    let activated = Commit::Activated(Activated { generation: Generation(1), from: 10 });
    core.handle([Wake::Prepared(Some(snapshot)), Wake::Commit(activated)], START);
    let name = ConsumerName::new("greet").unwrap();
    let recovery = Recovery { position: 4, ..Recovery::default() };
    let actions = core.handle([Wake::Recovered(name.clone(), recovery)], START);
    assert!(actions.iter().any(|action| matches!(action, Action::Read(_, 4))));
    let actions = core.handle([Wake::Page(name.clone(), Some(vec![])), Wake::Loaded(name, Some(vec![]))], START);
    assert!(!actions.iter().any(|action| matches!(action, Action::Read(..))), "there is nothing to read");
    assert!(core.is_settled(9));
}

#[test]
fn events_that_may_not_be_delivered_yet_are_never_forgotten_for_want_of_room() {
    let mut world = World::new();
    world.deploy(vec![greet(64)], 64);
    let far = world.now.plus(Duration::from_secs(7_200));
    let mut event = scripted::event(1, "order.created");
    event.envelope.not_before = Some(far);
    world.disk.events.push(Arc::new(event.clone()));
    world.wake(Wake::Commit(Commit::Events(vec![Arc::new(event)])));
    let many = WAITING_MAX + 200;
    for _ in 0..many / 100 {
        world.emit(&["order.created"; 100]);
        world.end_all(Outcome::Retry);
    }
    world.now = world.now.plus(Duration::from_secs(3_600));
    world.wake(Wake::Tick);
    world.end_all(Outcome::Done);
    assert_eq!(world.disk.settled.len(), many, "all but the one that is not due");
    world.now = far;
    world.wake(Wake::Tick);
    assert_eq!(world.running(), ["1/greet"]);
    world.end_all(Outcome::Done);
    assert!(world.core.is_settled(many as Seq + 1));
}

#[test]
fn an_attempt_that_could_not_be_settled_runs_again_while_the_log_lives() {
    let mut world = World::new();
    world.deploy(vec![greet(1)], 8);
    world.emit(&["order.created"]);
    let claim = world.running.remove(0);
    let consumer = claim.id.consumer.clone();
    world.wake(Wake::Ended { consumer, left: vec![(claim.id, Left::Unsettled)], took: Duration::ZERO });
    assert!(world.running.is_empty(), "not at once: the log has trouble");
    assert!(!world.core.is_settled(1));
    world.pass();
    assert_eq!(world.running(), ["1/greet"]);
    assert_eq!(world.running[0].delivery.attempts, 0);
    world.end_all(Outcome::Done);
    assert!(world.core.is_settled(1));
}

#[test]
fn an_activation_that_failed_leaves_nothing_unsettled() {
    let mut world = World::new();
    world.deploy(vec![greet(1)], 8);
    let snapshot = Snapshot {
        generation: Generation(2),
        deployment: Arc::new(deployment(8)),
        consumers: Arc::default(),
        catalogue: Arc::new(crate::registry::catalogue::Catalogue::new(&deployment(8))),
    };
    world.wake(Wake::Prepared(Some(snapshot)));
    assert!(!world.core.is_settled(0));
    world.wake(Wake::Prepared(None));
    assert!(world.core.is_settled(0));
}

#[test]
fn slow_consumers_leave_slots_to_quick_ones() {
    let mut world = World::new();
    let spinners: Vec<_> = (0..8).map(|n| named(&format!("spin-{n}"), "order.*")).collect();
    world.deploy(spinners.into_iter().chain([named("quick", "stock.*")]).collect(), 8);
    // The quick one shows that it is quick.
    world.emit(&["stock.counted"]);
    world.end(Outcome::Done);
    world.emit(&["order.created"; 20]);
    assert_eq!(world.running.len(), 6, "a quarter of the slots stays free");
    world.emit(&["stock.counted", "stock.counted", "stock.counted"]);
    let quick = world.running.iter().filter(|claim| claim.id.consumer.as_str() == "quick").count();
    assert_eq!(quick, 2, "and is there for the quick one");
    world.end_all(Outcome::Done);
    assert_eq!(world.disk.settled.len(), 1 + 8 * 20 + 3);
}

#[test]
fn large_events_are_left_to_the_log_before_there_are_many() {
    let mut lane = Lane::new(ConsumerName::new("greet").unwrap(), Recovery::default());
    lane.deploy(1, Some(greet(1)), START);
    let large = (1..=100).map(|seq| {
        let mut event = scripted::event(seq, "order.created");
        let data = bytes::Bytes::from(vec![b'1'; 1 << 20]);
        event.envelope.payload = Some(crate::model::Payload { content_type: "application/json".into(), data });
        Arc::new(event)
    });
    let events: Vec<_> = large.collect();
    lane.offer(&events, START);
    assert_eq!(lane.wants_page(100), None, "there is enough to do");
    let mut claimed = 0;
    let after = loop {
        let ready = lane.claim(START, true).unwrap().remove(0);
        claimed += 1;
        let next = Delivery { state: State::Succeeded, ..ready.delivery };
        lane.ended(vec![(ready.id, Left::Settled { next, outcome: Outcome::Done, hold: None })], START);
        if let Some(after) = lane.wants_page(100) {
            break after;
        }
    };
    assert_eq!((after, claimed), (16, 9), "sixteen were taken; more is wanted when less than eight are left");
}

#[test]
fn on_a_quiet_host_the_cursor_moves_with_time() {
    let mut world = World::new();
    world.now = Timestamp(0).plus(ADVANCE_EVERY);
    world.deploy(vec![greet(1)], 8);
    world.wake(Wake::Tick);
    world.emit(&["order.created", "stock.counted"]);
    world.end_all(Outcome::Done);
    world.wake(Wake::Tick);
    assert!(world.positions.is_empty(), "a hint is not written for each event");
    world.now = world.now.plus(ADVANCE_EVERY);
    world.wake(Wake::Tick);
    assert_eq!(world.positions.values().copied().collect::<Vec<_>>(), [2]);
}
