//! What is read, started, put back and passed over: the dispatcher's decisions about deliveries without keys.

use super::*;

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
        world.wake(Wake::Ended(vec![Ended { consumer, left: vec![(claim.id, Left::Conflict(given_back))], took }]));
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
    let loaded = |priority| Wake::Loaded(name.clone(), priority, Some(vec![]));
    let wakes = Priority::ALL.map(loaded).into_iter().chain([Wake::Page(name.clone(), Some(vec![]))]);
    let actions = core.handle(wakes, START);
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
    world.wake(Wake::Ended(vec![Ended::one(claim.id, Left::Unsettled, Duration::ZERO)]));
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
    lane.deploy(1, Some(greet(1)));
    let large = (1..=100).map(|seq| {
        let mut event = scripted::event(seq, "order.created");
        let data = bytes::Bytes::from(vec![b'1'; 1 << 20]);
        event.envelope.payload = Some(crate::model::Payload { content_type: "application/json".into(), data });
        Arc::new(event)
    });
    let events: Vec<_> = large.collect();
    lane.offer(&events.iter().collect::<Vec<_>>(), 100, START);
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

/// `concurrency` bounds handlers: how fast the disk is, is not theirs to wait for.
#[test]
fn a_call_that_is_over_makes_room_before_it_is_settled() {
    let mut world = World::new();
    world.deploy(vec![greet(1)], 1);
    world.emit(&["order.created"; 3]);
    assert_eq!(world.running(), ["1/greet"]);
    world.called(0);
    world.called(0);
    assert_eq!(world.running(), ["1/greet", "2/greet"], "one, and told twice it is still one");
    world.end(Outcome::Done);
    assert_eq!(world.running(), ["2/greet"], "its room was taken already");
    world.called(0);
    assert_eq!(world.running(), ["2/greet", "3/greet"]);
    assert!(!world.core.is_settled(2), "what is on its way is not there yet");
    world.wake(Wake::Drain);
    assert_eq!(world.core.running(), 2, "a stop waits for what is on its way");
    world.end_all(Outcome::Done);
    assert_eq!((world.core.running(), world.core.is_settled(3)), (0, true));
}

/// The next one would read what this one is about to write, and lose its race.
#[test]
fn a_consumer_with_state_and_a_suspect_keep_their_places_until_they_are_settled() {
    let mut world = World::new();
    let mut consumer = greet(1);
    Arc::make_mut(&mut consumer.spec).grants.state = Some(1 << 20);
    world.deploy(vec![consumer], 8);
    world.emit(&["order.created"; 2]);
    world.called(0);
    assert_eq!(world.running(), ["1/greet"]);
    world.end(Outcome::Done);
    assert_eq!(world.running(), ["2/greet"]);

    let mut world = World::new();
    world.crashes = vec![(DeliveryId { seq: 1, consumer: ConsumerName::new("greet").unwrap(), round: 0 }, 2)];
    world.careful_to = 1;
    world.deploy(vec![greet(1)], 8);
    world.emit(&["order.created"; 2]);
    let suspect = world.running().iter().position(|id| id == "1/greet").unwrap();
    world.called(suspect);
    assert_eq!(world.running.len(), 1, "nothing runs beside what may take the host down");
}

#[test]
fn calls_that_are_over_and_not_settled_are_bounded() {
    let mut world = World::new();
    world.deploy(vec![greet(1)], 8);
    world.emit(&["order.created"; 400]);
    for n in 0..300 {
        world.called(n.min(world.running.len() - 1));
    }
    assert_eq!(world.running.len(), 257, "256 on their way, and one that runs");
    world.end_all(Outcome::Done);
    assert_eq!(world.disk.settled.len(), 400);
}
