//! Order, idempotency, rates, breakers, batches, time, pauses and crash loops, as the dispatcher decides them.

use super::*;
use crate::model::breaker::BreakerPolicy;
use crate::model::flow::Rate;
use crate::model::spec::{BatchSpec, DeliverySpec, IdempotencySpec, KeySpec, OnDead, OrderSpec, ShareSpec};
use crate::model::{Envelope, Expression};

const SECOND: Duration = Duration::from_secs(1);

fn with(change: impl FnOnce(&mut DeliverySpec)) -> Consumer {
    let mut consumer = greet(16);
    change(&mut Arc::make_mut(&mut consumer.spec).delivery);
    consumer
}

fn key() -> Expression {
    Expression::parse("data.key").unwrap()
}

fn ordered(on_dead: OnDead) -> Consumer {
    with(|spec| spec.order = Some(OrderSpec { by: KeySpec::Of(key()), on_dead }))
}

fn idempotent() -> Consumer {
    with(|spec| spec.idempotency = Some(IdempotencySpec { key: key(), window: SECOND * 3_600 }))
}

fn world(consumer: Consumer) -> World {
    let mut world = World::new();
    world.deploy(vec![consumer], 64);
    world
}

/// Ends the attempt of this event so.
fn end_of(world: &mut World, seq: Seq, outcome: Outcome) {
    let at = world.running.iter().position(|claim| claim.id.seq == seq).unwrap();
    let claim = world.running.remove(at);
    world.running.insert(0, claim);
    world.end(outcome);
}

#[test]
fn deliveries_of_one_key_run_one_after_another_and_other_keys_go_on() {
    let mut world = world(ordered(OnDead::Continue));
    world.emit_keyed(&["a", "a", "b", "a", "b"]);
    assert_eq!(world.running_seqs(), [1, 3]);
    end_of(&mut world, 3, Outcome::Done);
    assert_eq!(world.running_seqs(), [1, 5]);
    end_of(&mut world, 1, Outcome::Done);
    assert_eq!(world.running_seqs(), [5, 2]);
    world.end_all(Outcome::Done);
    assert_eq!(world.finished(), [3, 1, 5, 2, 4]);
    assert!(world.core.is_settled(5));
}

#[test]
fn a_key_waits_for_its_retry_and_other_keys_do_not() {
    let mut world = world(ordered(OnDead::Continue));
    world.emit_keyed(&["a", "a", "b"]);
    end_of(&mut world, 1, Outcome::Retry);
    world.end_all(Outcome::Done);
    assert_eq!(world.finished(), [3]);
    assert!(
        world.disk.rows.values().any(|row| row.blocked),
        "what waits behind it has a row, and holds no cursor back"
    );
    world.emit_keyed(&["a", "b"]);
    assert_eq!(world.running_seqs(), [5]);
    world.end_all(Outcome::Done);
    world.pass();
    assert_eq!(world.running_seqs(), [1]);
    world.end_all(Outcome::Done);
    assert_eq!(world.finished(), [3, 5, 1, 2, 4]);
    assert!(world.core.is_settled(5) && world.disk.rows.is_empty());
}

#[test]
fn a_dead_letter_lets_its_key_go_on_or_holds_it_until_somebody_says_so() {
    for on_dead in [OnDead::Continue, OnDead::Hold] {
        let mut world = world(ordered(on_dead));
        world.emit_keyed(&["a", "a", "b"]);
        end_of(&mut world, 1, Outcome::Reject);
        end_of(&mut world, 3, Outcome::Done);
        world.emit_keyed(&["a"]);
        if on_dead == OnDead::Hold {
            assert!(world.running.is_empty());
            assert!(world.core.is_settled(4), "what waits for a person is not waited for");
            world.disk.held.clear();
            let_go(&mut world, vec![(1, 0)]);
        }
        world.end_all(Outcome::Done);
        assert_eq!(world.finished(), [1, 3, 2, 4], "{on_dead:?}");
    }
}

#[test]
fn a_redriven_dead_letter_frees_the_key_that_it_held_once_it_is_done() {
    let mut world = world(ordered(OnDead::Hold));
    world.emit_keyed(&["a", "a"]);
    world.end(Outcome::Reject);
    let dead = world.disk.order[0].0.clone();
    world.redrive(&dead);
    assert_eq!(world.running(), ["1/greet/1"]);
    world.end(Outcome::Reject);
    assert!(world.running.is_empty(), "it has died again");
    world.redrive(&DeliveryId { round: 1, ..dead });
    assert_eq!(world.running(), ["1/greet/2"]);
    world.end(Outcome::Done);
    assert_eq!(world.running(), ["2/greet"]);
    assert!(world.disk.held.is_empty());
    world.end_all(Outcome::Done);
    assert!(world.core.is_settled(2));
}

fn let_go(world: &mut World, holders: Vec<(Seq, u32)>) {
    let consumer = ConsumerName::new("greet").unwrap();
    world.wake(Wake::Commit(Commit::Released(consumer, holders)));
}

#[test]
fn a_release_that_is_told_late_frees_no_key_that_a_later_round_holds() {
    let mut world = world(ordered(OnDead::Hold));
    world.emit_keyed(&["a", "a"]);
    world.end(Outcome::Reject);
    world.redrive(&DeliveryId { seq: 1, consumer: ConsumerName::new("greet").unwrap(), round: 0 });
    // Released, then it dies again, and the lane hears of that first.
    world.disk.held.clear();
    world.end(Outcome::Reject);
    let_go(&mut world, vec![(1, 0)]);
    assert!(world.running.is_empty(), "the log says that it is held");
    world.disk.held.clear();
    let_go(&mut world, vec![(1, 1)]);
    assert_eq!(world.running(), ["2/greet"]);
}

#[test]
fn a_release_that_is_told_before_its_dead_letter_has_said_that_it_holds_a_key_counts() {
    let mut world = world(ordered(OnDead::Hold));
    world.emit_keyed(&["a", "a"]);
    let_go(&mut world, vec![(1, 0)]);
    world.end(Outcome::Reject);
    assert_eq!(world.running(), ["2/greet"]);
}

#[test]
fn a_release_that_is_told_after_keys_were_found_anew_frees_what_it_meant() {
    let mut world = world(ordered(OnDead::Hold));
    world.emit_keyed(&["a", "b", "b"]);
    end_of(&mut world, 1, Outcome::Reject);
    end_of(&mut world, 2, Outcome::Reject);
    world.disk.held.remove(&(1, 0));
    // What 'a' was is another key now, and 'b' is 'a'.
    let by = Expression::parse("data.key == 'b' ? 'a' : 'c'").unwrap();
    let anew = with(|spec| spec.order = Some(OrderSpec { by: KeySpec::Of(by), on_dead: OnDead::Hold }));
    world.deploy(vec![anew], 64);
    let_go(&mut world, vec![(1, 0)]);
    assert!(world.running.is_empty(), "the other dead letter holds it");
    world.disk.held.clear();
    let_go(&mut world, vec![(2, 0)]);
    assert_eq!(world.running(), ["3/greet"]);
}

/// Two dead letters hold what became one key by a reload, one event waits behind them, and both are redriven.
fn two_holders_redriven() -> World {
    let mut world = world(ordered(OnDead::Hold));
    world.emit_keyed(&["a", "b", "a"]);
    end_of(&mut world, 1, Outcome::Reject);
    end_of(&mut world, 2, Outcome::Reject);
    world.deploy(vec![one_line()], 64);
    assert!(world.running.is_empty() && world.core.is_settled(3), "all of it waits for a person");
    for (dead, _) in world.disk.order.clone() {
        world.redrive(&dead);
    }
    world
}

fn one_line() -> Consumer {
    with(|spec| spec.order = Some(OrderSpec { by: KeySpec::One, on_dead: OnDead::Hold }))
}

#[test]
fn redriven_dead_letters_that_hold_one_key_run_one_after_another_and_free_it_together() {
    let mut world = two_holders_redriven();
    assert_eq!(world.running(), ["1/greet/1"]);
    assert!(!world.core.is_settled(3), "the other one goes on by itself");
    world.end(Outcome::Done);
    assert_eq!(world.running(), ["2/greet/1"], "it waits for no person, and the key is held by it");
    world.end(Outcome::Done);
    assert_eq!(world.running(), ["3/greet"]);
    world.end(Outcome::Done);
    assert!(world.core.is_settled(3) && world.disk.rows.is_empty() && world.disk.held.is_empty());
}

#[test]
fn a_redriven_dead_letter_comes_out_of_the_log_again_although_its_key_is_held() {
    let mut world = two_holders_redriven();
    world.end(Outcome::Retry);
    let blocked = |world: &World| world.disk.rows.values().filter(|row| row.blocked).count();
    assert_eq!(blocked(&world), 2, "behind one that waits for its retry they are in the log");
    let mut world = world.crash(vec![one_line()], 64);
    assert!(world.running.is_empty());
    world.pass();
    assert_eq!(world.running(), ["1/greet/1"]);
    world.end(Outcome::Reject);
    assert_eq!(world.running(), ["2/greet/1"], "the first holds the key again, and the second may pass");
    world.end(Outcome::Done);
    assert!(world.running.is_empty() && blocked(&world) == 1, "the first is dead, and holds up what was never dead");
    world.redrive(&DeliveryId { seq: 1, consumer: ConsumerName::new("greet").unwrap(), round: 1 });
    world.end(Outcome::Done);
    world.end(Outcome::Done);
    assert!(world.core.is_settled(3) && world.disk.held.is_empty());
}

#[test]
fn order_survives_crashes_wherever_they_fall() {
    // Six deliveries of one key, of which the second fails once: the process dies after every number of steps.
    for steps in 0..12 {
        let mut world = world(ordered(OnDead::Continue));
        world.emit_keyed(&["a", "a", "b", "a", "b", "a"]);
        let mut crashed = false;
        for step in 0.. {
            if step == steps {
                world = world.crash(vec![ordered(OnDead::Continue)], 64);
                crashed = true;
            }
            let Some(claim) = world.running.first() else {
                if world.core.is_settled(6) {
                    break;
                }
                world.pass();
                continue;
            };
            let fails = claim.id.seq == 2 && claim.delivery.calls == 0;
            world.end(if fails { Outcome::Retry } else { Outcome::Done });
        }
        let of = |key: &[Seq]| world.finished().into_iter().filter(|seq| key.contains(seq)).collect::<Vec<_>>();
        assert!(crashed || steps > 7);
        assert_eq!(of(&[1, 2, 4, 6]), [1, 2, 4, 6], "crash after {steps}");
        assert_eq!(of(&[3, 5]), [3, 5], "crash after {steps}");
        assert!(world.disk.rows.is_empty());
    }
}

#[test]
fn a_crowd_behind_one_key_waits_in_the_log_and_holds_up_nobody() {
    let mut world = world(ordered(OnDead::Continue));
    world.emit_keyed(&["hot"]);
    world.end(Outcome::Retry);
    let crowd = 5_000;
    for _ in 0..crowd / 100 {
        world.emit_keyed(&["hot"; 100]);
    }
    world.emit_keyed(&["cold"]);
    assert_eq!(world.running_seqs(), [crowd + 2]);
    world.end(Outcome::Done);
    assert_eq!(world.disk.rows.len(), crowd as usize + 1);
    world.wake(Wake::Drain);
    assert_eq!(world.positions.values().copied().collect::<Vec<_>>(), [crowd + 2], "the cursor is free");
    let mut world = world.crash(vec![ordered(OnDead::Continue)], 64);
    world.now = world.now.plus(SECOND * 10);
    world.wake(Wake::Tick);
    world.end_all(Outcome::Done);
    let hot: Vec<_> = (1..=crowd + 1).collect();
    assert_eq!(world.finished().into_iter().filter(|seq| *seq <= crowd + 1).collect::<Vec<_>>(), hot);
    assert!(world.core.is_settled(crowd + 2));
}

#[test]
fn a_delivery_without_its_key_is_refused_and_not_run() {
    let mut world = world(ordered(OnDead::Hold));
    world.emit(&["order.created", "order.created"]);
    assert!(matches!(world.running[0].instead, Some(crate::dispatch::settle::Instead::Refused(_))));
    world.end_all(Outcome::Done);
    let outcomes: Vec<_> = world.disk.order.iter().map(|(_, outcome)| *outcome).collect();
    assert_eq!(outcomes, [Outcome::Refused, Outcome::Refused]);
    assert!(world.disk.held.is_empty(), "there is no key to hold");
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

#[test]
fn an_order_that_a_reload_asks_for_holds_for_what_was_there_already() {
    let mut world = world(greet(1));
    world.emit_keyed(&["a", "a", "b", "a"]);
    assert_eq!(world.running_seqs(), [1]);
    world.deploy(vec![ordered(OnDead::Continue)], 64);
    assert_eq!(world.running_seqs(), [1], "what is in hand knows no key: first it ends");
    assert!(!world.core.is_settled(4));
    world.end(Outcome::Retry);
    assert_eq!(world.running_seqs(), [3], "the first one keeps its key while it waits");
    world.end(Outcome::Done);
    assert!(world.running.is_empty());
    world.pass();
    assert_eq!(world.running_seqs(), [1]);
    world.end_all(Outcome::Done);
    assert_eq!(world.finished(), [3, 1, 2, 4]);
    assert!(world.core.is_settled(4) && world.disk.rows.is_empty());
}

#[test]
fn what_waits_for_retries_stands_in_one_line_once_a_reload_says_so() {
    let mut world = world(ordered(OnDead::Continue));
    world.emit_keyed(&["a", "a", "b", "c"]);
    end_of(&mut world, 3, Outcome::Retry);
    end_of(&mut world, 1, Outcome::Retry);
    world.emit_keyed(&["b"]);
    world.deploy(vec![with(|spec| spec.order = Some(OrderSpec { by: KeySpec::One, on_dead: OnDead::Continue }))], 64);
    assert_eq!(world.running_seqs(), [4], "the last one in hand");
    world.end(Outcome::Done);
    assert!(world.running.is_empty(), "the first in the line waits for its retry, and all others behind it");
    while !world.core.is_settled(5) {
        world.pass();
        assert!(world.running.len() <= 1);
        world.end_all(Outcome::Done);
    }
    assert_eq!(world.finished(), [4, 1, 2, 3, 5]);
}

#[test]
fn a_reload_that_takes_the_order_away_frees_what_waited_for_it() {
    let mut world = world(ordered(OnDead::Continue));
    world.emit_keyed(&["a", "a", "a"]);
    world.end(Outcome::Retry);
    world.deploy(vec![greet(16)], 64);
    assert_eq!(world.running_seqs(), [2, 3]);
    world.end_all(Outcome::Done);
    world.pass();
    assert_eq!(world.running_seqs(), [1]);
    world.end_all(Outcome::Done);
    assert!(world.core.is_settled(3) && world.disk.rows.is_empty());
}

#[test]
fn a_reload_of_keys_is_no_way_around_a_rate_or_a_breaker() {
    let policy = BreakerPolicy { failures: 1, window: SECOND * 60, recovery: SECOND * 30 };
    let flow = |spec: &mut DeliverySpec| spec.breaker = Some(policy);
    let mut world = world(with(flow));
    world.emit_keyed(&["a", "b"]);
    world.end_all(Outcome::Trapped);
    assert_eq!(world.changes, [Change::Opened]);
    world.deploy(
        vec![with(|spec| (flow(spec), spec.order = ordered(OnDead::Continue).spec.delivery.order.clone()).1)],
        64,
    );
    world.now = world.now.plus(SECOND * 29);
    world.wake(Wake::Tick);
    assert!(world.running.is_empty(), "it is open still");
}

/// Two reloads, and between them an attempt ends while the lane stands by the keys of the first.
#[test]
fn keys_that_a_reload_asks_for_and_the_next_one_does_not_loosen_no_order() {
    let mut world = world(ordered(OnDead::Continue));
    world.emit_keyed(&["a", "a", "a", "b"]);
    assert_eq!(world.running_seqs(), [1, 4]);
    world.deploy(vec![with(|spec| spec.share = Some(ShareSpec { key: key(), limit: 3 }))], 64);
    end_of(&mut world, 1, Outcome::Done);
    assert_eq!(world.running_seqs(), [4], "nothing begins before the last one in hand has ended");
    world.deploy(vec![ordered(OnDead::Continue)], 64);
    assert_eq!(world.running_seqs(), [4, 2], "one after another, as before");
    world.end_all(Outcome::Done);
    assert_eq!(world.finished(), [1, 4, 2, 3]);
    assert!(world.core.is_settled(4));
}
