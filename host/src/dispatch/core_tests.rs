//! The dispatcher's decisions against a small model of a log: lists in memory, no runtime, no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::dispatch::lane::{READY_MAX, WAITING_MAX};
use crate::dispatch::scripted;
use crate::model::spec::{Ceilings, Deployment, Retention, ServerSpec};
use crate::model::{Outcome, State};

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

/// A log of a few lists, and a world that carries out actions at once, except that attempts end when the test says.
struct World {
    core: Core,
    now: Timestamp,
    generation: u64,
    events: Vec<Arc<Event>>,
    waiting: BTreeMap<(Timestamp, DeliveryId), Delivery>,
    due: BTreeMap<DeliveryId, State>,
    settled: BTreeSet<DeliveryId>,
    running: Vec<Claim>,
    /// How often each delivery was attempted.
    attempts: BTreeMap<DeliveryId, u32>,
    positions: BTreeMap<ConsumerName, Seq>,
}

impl World {
    fn new() -> Self {
        Self {
            core: Core::new(0),
            now: Timestamp(1_000_000),
            generation: 0,
            events: vec![],
            waiting: BTreeMap::new(),
            due: BTreeMap::new(),
            settled: BTreeSet::new(),
            running: vec![],
            attempts: BTreeMap::new(),
            positions: BTreeMap::new(),
        }
    }

    fn deploy(&mut self, consumers: Vec<Consumer>, attempts: u32) {
        self.generation += 1;
        let consumers = consumers.into_iter().map(|c| (c.spec.name.clone(), c)).collect();
        let deployment = Arc::new(deployment(attempts));
        let generation = Generation(self.generation);
        let from = self.events.len() as Seq + 1;
        let catalogue = Arc::new(crate::registry::catalogue::Catalogue::new(&deployment));
        let consumers = Arc::new(consumers);
        self.wake(Wake::Prepared(Some(Snapshot { generation, deployment, consumers, catalogue })));
        self.wake(Wake::Commit(Commit::Activated(Activated { generation, from })));
    }

    fn emit(&mut self, types: &[&str]) {
        let first = self.events.len() as Seq + 1;
        let events: Vec<_> = (first..).zip(types).map(|(seq, t)| Arc::new(scripted::event(seq, t))).collect();
        self.events.extend(events.clone());
        self.wake(Wake::Commit(Commit::Events(events)));
    }

    fn wake(&mut self, wake: Wake) {
        let mut actions = VecDeque::from(self.core.handle([wake], self.now));
        while let Some(action) = actions.pop_front() {
            let Some(wake) = self.act(action) else { continue };
            actions.extend(self.core.handle([wake], self.now));
        }
    }

    fn act(&mut self, action: Action) -> Option<Wake> {
        Some(match action {
            Action::Attempt(claim, _) => {
                *self.attempts.entry(claim.id.clone()).or_default() += 1;
                assert!(!self.running.iter().any(|c| c.id == claim.id), "{} runs twice at once", claim.id);
                assert!(!self.settled.contains(&claim.id), "{} runs after its end", claim.id);
                self.running.push(*claim);
                return None;
            }
            Action::Recover(name) => {
                let position = self.events.len() as Seq;
                Wake::Recovered(name, Recovery { position, ..Recovery::default() })
            }
            Action::Read(name, after) => {
                let page = self.events.iter().skip(after as usize).take(PAGE_EVENTS).cloned().collect();
                Wake::Page(name, Some(page))
            }
            Action::Load(name, after) => {
                let later = |key: &&(Timestamp, DeliveryId)| after.as_ref().is_none_or(|after| *key > after);
                let mine = self.waiting.keys().filter(|key| key.1.consumer == name).filter(later).take(PAGE_WAITING);
                let page = mine
                    .map(|key| Waiting { id: key.1.clone(), delivery: self.waiting[key], key: None, blocked: false })
                    .collect();
                Wake::Loaded(name, Some(page))
            }
            Action::Fetch(id) => {
                let event = self.events[id.seq as usize - 1].clone();
                Wake::Fetched(id, Some(event))
            }
            Action::Advance(positions) => {
                self.positions.extend(positions);
                return None;
            }
        })
    }

    /// Ends the oldest running attempt so.
    fn end(&mut self, outcome: Outcome) -> DeliveryId {
        let claim = self.running.remove(0);
        let spec = &claim.consumer.spec;
        let next = claim.delivery.step(Input::Ended { outcome, after: None }, &spec.retry, self.now, u64::MAX).unwrap();
        if let State::Pending { due_at } = self.due.remove(&claim.id).unwrap_or(next.state) {
            self.waiting.remove(&(due_at, claim.id.clone()));
        }
        match next.state {
            State::Pending { due_at } => {
                self.due.insert(claim.id.clone(), next.state);
                self.waiting.insert((due_at, claim.id.clone()), next);
            }
            _ => drop(self.settled.insert(claim.id.clone())),
        }
        self.wake(Wake::Ended(claim.id.clone(), Ended::Settled(next), Duration::ZERO));
        claim.id
    }

    fn end_all(&mut self, outcome: Outcome) {
        while !self.running.is_empty() {
            self.end(outcome);
        }
    }

    fn running(&self) -> Vec<String> {
        self.running.iter().map(|claim| claim.id.to_string()).collect()
    }
}

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
    assert_eq!(world.settled.len(), 20);
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
    let due = world.core.next_due().unwrap();
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
    assert_eq!(world.settled.len(), many);
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
    assert_eq!(world.waiting.len(), many);
    world.now = world.now.plus(Duration::from_secs(3_600));
    world.wake(Wake::Tick);
    world.end_all(Outcome::Done);
    assert_eq!(world.settled.len(), many);
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
        world.wake(Wake::Ended(claim.id, Ended::Conflict(given_back), Duration::ZERO));
    }
    assert!(!world.running().contains(&contender.to_string()), "it waits until it can run alone");
    world.emit(&["order.created"; 4]);
    while !world.running().contains(&contender.to_string()) {
        world.end(Outcome::Done);
    }
    assert_eq!(world.running(), [contender.to_string()]);
    world.end_all(Outcome::Done);
    assert_eq!(world.settled.len(), 8);
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
    let settled: Vec<_> = world.settled.iter().map(ToString::to_string).collect();
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
    assert_eq!(world.settled.len(), 1, "what was in hand is finished, no more is started");
    world.deploy(vec![greet(1)], 8);
    world.emit(&["order.created"]);
    world.end_all(Outcome::Done);
    let settled: Vec<_> = world.settled.iter().map(|id| id.seq).collect();
    assert_eq!(settled, [1, 2, 3, 5], "4 came while it was gone");
}

#[test]
fn draining_starts_nothing_more() {
    let mut world = World::new();
    world.deploy(vec![greet(1)], 8);
    world.emit(&["order.created"; 3]);
    world.wake(Wake::Drain);
    world.end_all(Outcome::Done);
    assert_eq!(world.settled.len(), 1);
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
    world.events.push(Arc::new(event.clone()));
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
    world.events.push(Arc::new(event.clone()));
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
    let known = world.events.len();
    // In the log, and not told yet: another generation, and an event for it.
    let seq = known as Seq + 1;
    world.events.push(Arc::new(scripted::event(seq, "stock.counted")));
    world.end_all(Outcome::Done);
    assert_eq!(world.settled.len(), known);
    let ahead = world.events.pop().unwrap();
    world.deploy(vec![named("greet", "stock.*")], 8);
    world.events.push(ahead.clone());
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
    core.handle([Wake::Prepared(Some(snapshot)), Wake::Commit(activated)], Timestamp(0));
    let name = ConsumerName::new("greet").unwrap();
    let recovery = Recovery { position: 4, ..Recovery::default() };
    let actions = core.handle([Wake::Recovered(name.clone(), recovery)], Timestamp(0));
    assert!(actions.iter().any(|action| matches!(action, Action::Read(_, 4))));
    let actions = core.handle([Wake::Page(name.clone(), Some(vec![])), Wake::Loaded(name, Some(vec![]))], Timestamp(0));
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
    world.events.push(Arc::new(event.clone()));
    world.wake(Wake::Commit(Commit::Events(vec![Arc::new(event)])));
    let many = WAITING_MAX + 200;
    for _ in 0..many / 100 {
        world.emit(&["order.created"; 100]);
        world.end_all(Outcome::Retry);
    }
    world.now = world.now.plus(Duration::from_secs(3_600));
    world.wake(Wake::Tick);
    world.end_all(Outcome::Done);
    assert_eq!(world.settled.len(), many, "all but the one that is not due");
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
    world.wake(Wake::Ended(claim.id, Ended::Unsettled, Duration::ZERO));
    assert!(world.running.is_empty(), "not at once: the log has trouble");
    assert!(!world.core.is_settled(1));
    world.now = world.core.next_due().unwrap();
    world.wake(Wake::Tick);
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
    assert_eq!(world.settled.len(), 1 + 8 * 20 + 3);
}

#[test]
fn large_events_are_left_to_the_log_before_there_are_many() {
    let mut lane = Lane::new(ConsumerName::new("greet").unwrap(), Recovery::default());
    lane.deploy(1, Some(greet(1)));
    let large = (1..=100).map(|seq| {
        let mut event = scripted::event(seq, "order.created");
        let data = bytes::Bytes::from(vec![b'1'; 1 << 20]);
        event.envelope.payload = Some(crate::model::Payload { content_type: "application/json".into(), data });
        Arc::new(event)
    });
    let events: Vec<_> = large.collect();
    lane.offer(&events, Timestamp(0));
    assert_eq!(lane.wants_page(100), None, "there is enough to do");
    let mut claimed = 0;
    let after = loop {
        let ready = lane.claim().unwrap();
        claimed += 1;
        lane.settled(&ready.id, Delivery { state: State::Succeeded, ..ready.delivery });
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
