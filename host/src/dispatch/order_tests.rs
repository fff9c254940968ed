//! Order by key: lines, dead letters that hold them, and keys found anew after a reload.

use super::promises::{SECOND, end_of, key, ordered, with, world};
use super::*;
use crate::model::Expression;
use crate::model::breaker::BreakerPolicy;
use crate::model::spec::{DeliverySpec, KeySpec, OnDead, OrderSpec, ShareSpec};

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
