//! Idempotency, rates, breakers, batches, time, pauses and crash loops, as the dispatcher decides them.

use super::*;
use crate::model::breaker::BreakerPolicy;
use crate::model::flow::Rate;
use crate::model::spec::{BatchSpec, DeliverySpec, IdempotencySpec, KeySpec, OnDead, OrderSpec, ShareSpec};
use crate::model::{Envelope, Expression};

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn with(change: impl FnOnce(&mut DeliverySpec)) -> Consumer {
    let mut consumer = greet(16);
    change(&mut Arc::make_mut(&mut consumer.spec).delivery);
    consumer
}

pub(super) fn key() -> Expression {
    Expression::parse("data.key").unwrap()
}

pub(super) fn ordered(on_dead: OnDead) -> Consumer {
    with(|spec| spec.order = Some(OrderSpec { by: KeySpec::Of(key()), on_dead }))
}

fn idempotent() -> Consumer {
    with(|spec| spec.idempotency = Some(IdempotencySpec { key: key(), window: SECOND * 3_600 }))
}

pub(super) fn world(consumer: Consumer) -> World {
    let mut world = World::new();
    world.deploy(vec![consumer], 64);
    world
}

/// Ends the attempt of this event so.
pub(super) fn end_of(world: &mut World, seq: Seq, outcome: Outcome) {
    let at = world.running.iter().position(|claim| claim.id.seq == seq).unwrap();
    let claim = world.running.remove(at);
    world.running.insert(0, claim);
    world.end(outcome);
}

#[test]
fn so_many_of_one_key_run_at_once_and_a_retry_gives_its_place_to_others() {
    let mut world = world(with(|spec| spec.share = Some(ShareSpec { key: key(), limit: 2 })));
    world.emit_keyed(&["a", "a", "a", "b"]);
    assert_eq!(world.running_seqs(), [1, 2, 4]);
    end_of(&mut world, 1, Outcome::Retry);
    assert_eq!(world.running_seqs(), [2, 4, 3]);
    world.pass();
    assert_eq!(world.running_seqs(), [2, 4, 3], "it is due, and has no place");
    end_of(&mut world, 2, Outcome::Done);
    assert_eq!(world.running_seqs(), [4, 3, 1]);
    world.end_all(Outcome::Done);
    assert!(world.core.is_settled(4));
}

#[test]
fn deliveries_with_one_idempotency_key_are_never_in_hand_together() {
    let mut world = world(idempotent());
    world.emit_keyed(&["a", "a", "b", "a"]);
    assert_eq!(world.running_seqs(), [1, 3]);
    end_of(&mut world, 1, Outcome::Retry);
    assert_eq!(world.running_seqs(), [3, 2], "the first one has not settled the key");
    end_of(&mut world, 2, Outcome::Done);
    assert_eq!(world.running_seqs(), [3, 4]);
    world.end_all(Outcome::Done);
    world.pass();
    assert_eq!(world.running_seqs(), [1]);
    world.end_all(Outcome::Done);
    assert!(world.core.is_settled(4));
}

#[test]
fn a_rate_is_a_wait_and_never_an_error() {
    let mut world = world(with(|spec| spec.rate = Some(Rate { count: 10, per: SECOND })));
    world.emit_keyed(&["a"; 21]);
    let begun = world.now;
    assert_eq!(world.running.len(), 1);
    while world.running.len() < 21 {
        if world.running.len() == 16 {
            world.end_all(Outcome::Done);
            world.disk.order.clear();
            break;
        }
        world.pass();
    }
    assert_eq!(world.now.since(begun), SECOND * 3 / 2, "fifteen more, a tenth of a second apart");
}

#[test]
fn an_open_breaker_waits_probes_and_closes_without_charging_anybody() {
    let policy = BreakerPolicy { failures: 3, window: SECOND * 60, recovery: SECOND * 30 };
    let mut consumer = with(|spec| spec.breaker = Some(policy));
    Arc::make_mut(&mut consumer.spec).limits.concurrency = 1;
    let mut world = world(consumer);
    world.emit_keyed(&["a"; 10]);
    (0..3).for_each(|_| drop(world.end(Outcome::Retry)));
    assert_eq!(world.changes, [Change::Opened]);
    assert!(world.running.is_empty(), "it is open");
    world.now = world.now.plus(SECOND * 29);
    world.wake(Wake::Tick);
    assert!(world.running.is_empty());
    world.pass();
    assert_eq!(world.running.len(), 1, "one probe");
    world.end(Outcome::Trapped);
    assert!(world.running.is_empty());
    let mut waited = Duration::ZERO;
    while world.running.is_empty() {
        waited += world.pass();
    }
    assert!(waited >= SECOND * 30);
    world.end(Outcome::Done);
    assert_eq!(world.changes, [Change::Opened, Change::Closed]);
    world.end_all(Outcome::Done);
    while !world.core.is_settled(10) {
        world.pass();
        world.end_all(Outcome::Done);
    }
    assert_eq!(world.attempts.values().sum::<u32>(), 10 + 4);
}

#[test]
fn a_consumer_is_not_told_of_its_own_breaker() {
    let mut world = World::new();
    world.deploy(vec![named("one", "tidegate.**"), named("other", "tidegate.**")], 64);
    let mut event = scripted::event(1, crate::model::event::BREAKER_OPENED);
    event.envelope.source = crate::model::event::HOST_SOURCE.into();
    event.envelope.subject = Some("one".into());
    world.append(vec![event.clone()]);
    assert_eq!(world.running(), ["1/other"]);
    // Whoever says the same of itself from outside is no host.
    event = Event { seq: 2, envelope: Envelope { source: "/shop".into(), ..event.envelope }, ..event };
    world.append(vec![event]);
    assert_eq!(world.running(), ["1/other", "2/one", "2/other"]);
}

#[test]
fn a_batch_is_full_or_has_waited_long_enough() {
    let mut world = world(with(|spec| spec.batch = Some(BatchSpec { size: 3, wait: SECOND })));
    world.emit_keyed(&["a", "b"]);
    assert!(world.running.is_empty());
    assert_eq!(world.pass(), SECOND);
    assert_eq!(world.batches, [2]);
    world.emit_keyed(&["c"; 7]);
    assert_eq!(world.batches, [2, 3, 3]);
    world.pass();
    assert_eq!(world.batches, [2, 3, 3, 1]);
    world.end_batch(&[Outcome::Done, Outcome::Retry]);
    world.end_batch(&[Outcome::Done, Outcome::Reject, Outcome::Done]);
    world.end_all(Outcome::Done);
    world.pass();
    world.pass();
    assert_eq!(world.running_seqs(), [2]);
    world.end_all(Outcome::Done);
    assert!(world.core.is_settled(9));
}

#[test]
fn a_batch_that_fails_as_a_whole_is_taken_apart_and_charges_nobody() {
    let mut world = world(with(|spec| spec.batch = Some(BatchSpec { size: 3, wait: SECOND })));
    world.emit_keyed(&["a", "b", "c"]);
    assert_eq!(world.batches, [3]);
    let claims: Vec<_> = world.running.drain(..).collect();
    let back = |claim: &Claim| claim.delivery.step(Input::GiveBack, &claim.consumer.spec.retry, world.now, 0).unwrap();
    let left = claims.iter().map(|claim| (claim.id.clone(), Left::Apart(back(claim), Outcome::Trapped))).collect();
    let consumer = claims[0].id.consumer.clone();
    world.wake(Wake::Ended(vec![Ended { consumer, left, took: Duration::from_micros(1) }]));
    assert_eq!(world.batches, [3, 1, 1, 1]);
    assert!(world.running.iter().all(|claim| claim.delivery.attempts == 0));
    world.end(Outcome::Trapped);
    world.end_all(Outcome::Done);
    assert_eq!(world.finished(), [2, 3]);
}

#[test]
fn what_may_not_be_delivered_yet_waits_in_the_log() {
    let mut world = world(greet(4));
    let mut event = scripted::event(1, "order.created");
    event.envelope.not_before = Some(world.now.plus(SECOND * 60));
    world.append(vec![event]);
    assert!(world.running.is_empty() && world.disk.rows.len() == 1);
    let mut world = world.crash(vec![greet(4)], 64);
    assert!(world.running.is_empty());
    assert_eq!(world.pass(), SECOND * 60);
    assert_eq!(world.running(), ["1/greet"]);
    world.end_all(Outcome::Done);
    assert!(world.core.is_settled(1) && world.disk.rows.is_empty());
}

#[test]
fn a_delivery_that_was_not_settled_in_time_expires_unless_somebody_asked_for_it_again() {
    let mut world = world(with(|spec| spec.expires_after = Some(SECOND * 60)));
    world.emit_keyed(&["a", "b"]);
    world.end(Outcome::Defer);
    world.end(Outcome::Done);
    world.now = world.now.plus(SECOND * 60);
    world.wake(Wake::Tick);
    let instead = &world.running[0].instead;
    let expired = |after| matches!(instead, Some(crate::dispatch::settle::Instead::Expired { after: found, .. }) if *found == after);
    assert!(expired(SECOND * 60), "{instead:?}");
    let id = world.end(Outcome::Done);
    assert_eq!(world.disk.order.last().unwrap().1, Outcome::Expired);
    world.redrive(&id);
    assert_eq!(world.running[0].instead, None);
}

#[test]
fn a_paused_consumer_finishes_what_is_in_hand_and_starts_nothing() {
    let mut world = world(greet(1));
    let name = ConsumerName::new("greet").unwrap();
    world.emit(&["order.created"; 3]);
    world.wake(Wake::Commit(Commit::Paused(name.clone(), true)));
    world.end(Outcome::Done);
    assert!(world.running.is_empty());
    world.wake(Wake::Commit(Commit::Paused(name, false)));
    world.end_all(Outcome::Done);
    assert_eq!(world.finished(), [1, 2, 3]);
}

#[test]
fn what_was_in_hand_at_crashes_runs_carefully_then_alone_then_not_at_all() {
    let events = (1..=5).map(|seq| Arc::new(scripted::event(seq, "order.created"))).collect();
    let disk = Disk { events, ..Disk::default() };
    let id = |seq| DeliveryId { seq, consumer: ConsumerName::new("greet").unwrap(), round: 0 };
    let mut world = World::on(disk);
    (world.position, world.careful_to) = (0, 4);
    world.crashes = vec![(id(1), 2), (id(2), 2), (id(3), 3)];
    world.deploy(vec![greet(16)], 64);
    let careful: Vec<_> = world.running.iter().map(|claim| (claim.id.seq, claim.careful)).collect();
    assert_eq!(careful, [(1, true), (3, false), (4, true), (5, false)]);
    assert_eq!(world.running[1].instead, Some(crate::dispatch::settle::Instead::Crashed));
    assert!(!world.running_seqs().contains(&2), "one suspect at a time");
    end_of(&mut world, 1, Outcome::Done);
    assert!(world.running_seqs().contains(&2));
    world.end_all(Outcome::Done);
    assert!(world.core.is_settled(5));
}

#[test]
fn retries_that_keep_failing_are_held_to_a_budget_and_first_attempts_are_not() {
    let mut consumer = greet(64);
    let spec = Arc::make_mut(&mut consumer.spec);
    spec.retry.attempts = 1_000_000;
    (spec.retry.initial, spec.retry.max) = (Duration::from_millis(1), Duration::from_millis(1));
    let mut world = world(consumer);
    world.emit(&["order.created"; 64]);
    let begun = world.now;
    while world.now.since(begun) < SECOND * 60 {
        world.end_all(Outcome::Retry);
        world.pass();
    }
    let attempts = world.attempts.values().sum::<u32>();
    let bound = 64 + 100 + 60 * 10 + 64 / 5;
    assert!((bound - 20..bound + 40).contains(&attempts), "{attempts} attempts in a minute, wanted about {bound}");
    world.emit(&["order.created"]);
    assert!(world.running_seqs().contains(&65));
}

#[test]
fn an_ephemeral_consumer_gets_what_it_can_take_and_loses_the_rest() {
    let mut consumer = with(|spec| spec.mode = Mode::Ephemeral);
    Arc::make_mut(&mut consumer.spec).limits.concurrency = 2;
    let mut world = World::new();
    world.deploy(vec![consumer, named("durable", "order.*")], 16);
    world.emit(&["order.created"; 100]);
    assert_eq!(world.streamed.len(), 2);
    for _ in 0..20 {
        world.emit(&["order.created"; 100]);
    }
    assert_eq!(world.lost, 2_100 - 2 - crate::dispatch::stream::QUEUE_MAX as u64);
    let consumer = world.streamed[0].id.consumer.clone();
    world.wake(Wake::Streamed { consumer, took: Duration::from_micros(1) });
    assert_eq!(world.streamed.len(), 3);
    world.end_all(Outcome::Done);
    assert!(world.core.is_settled(2_100), "nobody waits for it");
}

#[test]
fn a_paused_ephemeral_consumer_is_not_called_and_what_comes_meanwhile_is_lost() {
    let mut consumer = with(|spec| spec.mode = Mode::Ephemeral);
    Arc::make_mut(&mut consumer.spec).limits.concurrency = 1;
    let mut world = World::new();
    world.deploy(vec![consumer.clone()], 16);
    let name = consumer.spec.name.clone();
    world.emit(&["order.created"; 3]);
    world.wake(Wake::Commit(Commit::Paused(name.clone(), true)));
    world.emit(&["order.created"; 2]);
    world.wake(Wake::Streamed { consumer: name.clone(), took: Duration::from_micros(1) });
    assert_eq!((world.streamed.len(), world.lost), (1, 4), "what was in hand finishes");
    // It outlives a start.
    let mut world = World::on(world.disk);
    world.paused = true;
    world.deploy(vec![consumer], 16);
    world.emit(&["order.created"]);
    assert_eq!((world.streamed.len(), world.lost), (0, 1));
    world.wake(Wake::Commit(Commit::Paused(name, false)));
    world.emit(&["order.created"]);
    assert_eq!((world.streamed.len(), world.lost), (1, 1));
}
