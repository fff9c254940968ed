//! Jobs of three priorities in one lane: who goes first, and that none starves.

use std::collections::BTreeMap;

use super::waiting::due;
use super::*;
use crate::dispatch::core::PAGE_WAITING;
use crate::dispatch::scripted;
use crate::model::spec::{BatchSpec, DeliverySpec, KeySpec, OnDead, OrderSpec};
use crate::model::{Envelope, Job, Priority, State, Timestamp};

const NOW: Moment = Moment { wall: Timestamp(1_000_000), monotonic: Duration::from_secs(1) };

/// A lane, and what its log has.
struct Bench {
    lane: Lane,
    events: BTreeMap<Seq, Arc<Event>>,
    rows: BTreeMap<(Priority, WaitKey), Waiting>,
}

fn name() -> ConsumerName {
    ConsumerName::new("mailer").unwrap()
}

impl Bench {
    fn new(delivery: DeliverySpec) -> Self {
        let mut consumer = scripted::consumer("mailer", "order.created", |_| Outcome::Done);
        let mut spec = consumer.spec.as_ref().clone();
        spec.limits.concurrency = 1;
        spec.delivery = delivery;
        let keyed_by = Some(KeyRules::of(&spec.delivery));
        consumer.spec = Arc::new(spec);
        let mut lane = Lane::new(name(), Recovery { keyed_by, ..Recovery::default() });
        lane.deploy(1, Some(consumer));
        Self { lane, events: BTreeMap::new(), rows: BTreeMap::new() }
    }

    fn job(seq: Seq, priority: Priority) -> Event {
        let job = Job { priority, ..Job::to(name()) };
        let event = scripted::event(seq, "order.created");
        Event { envelope: Envelope { job: Some(job), ..event.envelope }, ..event }
    }

    /// Events become durable, with the rows of those that are jobs.
    fn append(&mut self, events: Vec<Event>) {
        for event in events {
            let event = Arc::new(event);
            let made = event.envelope.job.as_ref().map(|job| Waiting {
                id: DeliveryId { seq: event.seq, consumer: job.to.clone(), round: 0 },
                delivery: Delivery::new(event.envelope.not_before.unwrap_or(event.accepted_at)),
                key: None,
                blocked: false,
                errand: false,
                priority: job.priority,
            });
            self.events.insert(event.seq, event.clone());
            self.lane.offer(&[&event], event.seq, NOW);
            if let Some(waiting) = made {
                let due_at = due(waiting.delivery).unwrap();
                self.rows.insert((waiting.priority, (due_at, waiting.id.clone())), waiting.clone());
                self.lane.wait(waiting);
            }
        }
    }

    /// Gives the lane everything that it asks its log for, until it asks for nothing.
    fn feed(&mut self) {
        loop {
            let wanted = self.lane.wants_waiting();
            let due = self.lane.fall_due(NOW);
            if wanted.is_empty() && due.is_empty() {
                return;
            }
            for (priority, after) in wanted {
                let rows = self
                    .rows
                    .iter()
                    .filter(|((of, key), _)| *of == priority && after.as_ref().is_none_or(|after| key > after));
                let page: Vec<Waiting> = rows.take(PAGE_WAITING).map(|(_, waiting)| waiting.clone()).collect();
                self.lane.loaded(priority, page, PAGE_WAITING);
            }
            for (id, _) in due {
                let event = self.events[&id.seq].clone();
                self.lane.fetched(&id, Some(Fetched { event, errand: None }), NOW);
            }
        }
    }

    /// The next call, done at once.
    fn call(&mut self) -> Vec<Seq> {
        self.feed();
        let claimed = self.lane.claim(NOW, true).unwrap_or_default();
        let next = |ready: &Ready| Delivery { state: State::Succeeded, calls: ready.delivery.calls + 1, attempts: 1 };
        let left = claimed
            .iter()
            .map(|ready| (ready.id.clone(), Left::Settled { next: next(ready), outcome: Outcome::Done, hold: None }));
        let left: Vec<_> = left.collect();
        for ready in claimed.iter().filter(|ready| ready.stored) {
            let due_at = due(ready.delivery).unwrap();
            self.rows.remove(&(ready.priority, (due_at, ready.id.clone()))).unwrap();
        }
        self.lane.ended(left, NOW);
        claimed.into_iter().map(|ready| ready.id.seq).collect()
    }

    fn calls(&mut self, count: usize) -> Vec<Seq> {
        (0..count).flat_map(|_| self.call()).collect()
    }
}

/// How many of each priority these are, if the priority is the sequence's thousands.
fn shares(seqs: &[Seq]) -> [usize; 3] {
    [1, 2, 3].map(|of| seqs.iter().filter(|seq| **seq / 100_000 == of).count())
}

fn jobs(from: Seq, count: u64, priority: Priority) -> Vec<Event> {
    (from..from + count).map(|seq| Bench::job(seq, priority)).collect()
}

#[test]
fn a_high_job_overtakes_a_backlog_that_is_only_in_the_store() {
    let mut bench = Bench::new(DeliverySpec::default());
    let backlog = WAITING_MAX as u64 * 3;
    bench.append(jobs(1, backlog, Priority::Low));
    assert_eq!(bench.calls(20), (1..=20).collect::<Vec<_>>(), "in the order of their due times");
    bench.append(vec![Bench::job(backlog + 1, Priority::High)]);
    bench.append(vec![Bench::job(backlog + 2, Priority::Normal)]);
    let next = bench.calls(3);
    assert!(next.contains(&(backlog + 1)) && next.contains(&(backlog + 2)), "{next:?}");
    let rest = bench.calls(usize::try_from(backlog).unwrap());
    assert_eq!(rest.len() + next.len() + 20, usize::try_from(backlog).unwrap() + 2, "each of them once");
    assert_eq!(bench.calls(1), Vec::<Seq>::new());
    assert!(bench.lane.is_settled(backlog + 2));
}

#[test]
fn none_starves_and_shares_are_four_two_one() {
    let mut bench = Bench::new(DeliverySpec::default());
    bench.append(jobs(100_000, 1_000, Priority::Low));
    bench.append(jobs(200_000, 1_000, Priority::Normal));
    bench.append(jobs(300_000, 1_000, Priority::High));
    assert_eq!(shares(&bench.calls(700)), [100, 200, 400]);
    // Each in its own order.
    let next = bench.calls(7);
    let mut lows = next.iter().filter(|seq| **seq / 100_000 == 1);
    assert_eq!((lows.next(), lows.next()), (Some(&100_100), None), "{next:?}");
    // What has nothing to start leaves its turns to the others.
    let rest = bench.calls(1_100);
    assert_eq!(shares(&rest)[2], 596);
    let last = bench.calls(5_000);
    assert_eq!(shares(&last).iter().sum::<usize>() + rest.len() + 707, 3_000);
}

#[test]
fn a_subscriptions_deliveries_are_normal() {
    let mut bench = Bench::new(DeliverySpec::default());
    bench.append((1..=700).map(|seq| scripted::event(seq, "order.created")).collect());
    bench.append(jobs(100_000, 700, Priority::Low));
    // The gap between sequences is none that the log has: what is offered is offered in order.
    let mut high = jobs(300_000, 700, Priority::High);
    bench.append(std::mem::take(&mut high));
    let called = bench.calls(70);
    let first = called.iter().filter(|seq| **seq <= 700).count();
    assert_eq!((first, shares(&called)), (20, [10, 0, 40]));
}

#[test]
fn no_subscription_takes_a_job() {
    let mut bench = Bench::new(DeliverySpec::default());
    // Not for this consumer, and of a type that it subscribes to.
    let mut foreign = Bench::job(1, Priority::Normal);
    foreign.envelope.job = Some(Job::to(ConsumerName::new("other").unwrap()));
    let foreign = Arc::new(foreign);
    bench.lane.offer(&[&foreign], 1, NOW);
    bench.append(vec![scripted::event(2, "order.created")]);
    assert_eq!(bench.calls(2), [2]);
    assert_eq!(bench.lane.position(), 2);
}

#[test]
fn jobs_fill_batches() {
    let batch = Some(BatchSpec { size: 100, wait: Duration::from_secs(60) });
    let mut bench = Bench::new(DeliverySpec { batch, ..DeliverySpec::default() });
    bench.append(jobs(1, 250, Priority::Low));
    assert_eq!(bench.call().len(), 100);
    assert_eq!(bench.call().len(), 100);
    assert_eq!(bench.call(), Vec::<Seq>::new(), "the rest waits for others");
}

/// A job has a row from the start, which does not mean that it had the turn of its key before.
#[test]
fn a_job_does_not_take_the_turn_of_one_that_waits_for_its_retry() {
    let by = KeySpec::One;
    let order = Some(OrderSpec { by, on_dead: OnDead::Continue });
    let standing = crate::model::delivery::KeyStanding { key: "*".into(), taken: true, blocked_to: None, later: false };
    let mut bench = Bench::new(DeliverySpec { order, ..DeliverySpec::default() });
    let consumer = bench.lane.consumer().cloned();
    let keyed_by = consumer.as_ref().map(|consumer| KeyRules::of(&consumer.spec.delivery));
    bench.lane = Lane::new(name(), Recovery { keys: vec![standing], keyed_by, ..Recovery::default() });
    bench.lane.deploy(1, consumer);
    bench.append(vec![Bench::job(1, Priority::High)]);
    assert_eq!(bench.call(), Vec::<Seq>::new(), "another one has the turn");
    let parked = bench.lane.wants_parked(NOW);
    assert_eq!(parked.len(), 1, "so it waits in the log");
    assert_eq!((parked[0].blocked, parked[0].priority), (true, Priority::High));
}

/// What is told of a row after a page has read it says nothing new, wherever the delivery has come to in the meantime.
#[test]
fn a_row_that_is_told_of_late_is_delivered_once() {
    let order = Some(OrderSpec { by: KeySpec::One, on_dead: OnDead::Continue });
    let mut bench = Bench::new(DeliverySpec { order, ..DeliverySpec::default() });
    bench.append(vec![Bench::job(1, Priority::Normal), Bench::job(2, Priority::Normal), Bench::job(3, Priority::High)]);
    let rows: Vec<Waiting> = bench.rows.values().cloned().collect();
    let tell_again = |bench: &mut Bench| rows.iter().for_each(|row| bench.lane.wait(row.clone()));
    // Waiting; then one of them ready and the others behind it; then one in hand.
    bench.feed();
    tell_again(&mut bench);
    bench.feed();
    let claimed = bench.lane.claim(NOW, true).unwrap();
    tell_again(&mut bench);
    bench.feed();
    // Nothing of it could be settled: it waits for a moment.
    bench.lane.ended(vec![(claimed[0].id.clone(), Left::Unsettled)], NOW);
    tell_again(&mut bench);
    bench.feed();
    assert_eq!(bench.lane.claim(NOW, true).map(|claimed| claimed.len()), None, "the first of its line waits");
    let later = Moment { monotonic: NOW.monotonic + AGAIN_AFTER, ..NOW };
    for id in bench.lane.fall_due(later).into_iter().map(|(id, _)| id) {
        let event = bench.events[&id.seq].clone();
        bench.lane.fetched(&id, Some(Fetched { event, errand: None }), NOW);
    }
    let mut called = bench.calls(5);
    called.sort_unstable();
    assert_eq!(called, [1, 2, 3]);
    assert!(bench.lane.is_settled(3));
}

/// A run may give up a step before the page that reads its row is here.
#[test]
fn one_that_is_given_up_while_a_page_is_on_its_way_waits_once() {
    let mut bench = Bench::new(DeliverySpec::default());
    let wanted = bench.lane.wants_waiting();
    assert_eq!(wanted.len(), 3, "a page of each priority is on its way");
    bench.append(vec![Bench::job(1, Priority::Normal)]);
    let row = bench.rows.values().next().unwrap().clone();
    let sooner = Delivery::new(Timestamp(due(row.delivery).unwrap().0 - 1));
    bench.lane.withdraw(vec![Waiting { delivery: sooner, ..row.clone() }], NOW);
    for (priority, _) in wanted {
        let page = if priority == Priority::Normal { vec![row.clone()] } else { Vec::new() };
        bench.lane.loaded(priority, page, PAGE_WAITING);
    }
    assert_eq!(bench.calls(3), [1]);
}

/// A page that could not be read leaves the rows to the next one, which must not be taken for as old as those that are still on
/// their way.
#[test]
fn what_waits_again_while_a_page_fails_comes_with_the_next_one() {
    let mut bench = Bench::new(DeliverySpec::default());
    let wanted = bench.lane.wants_waiting();
    assert_eq!(wanted.len(), 3);
    bench.append(vec![scripted::event(1, "order.created")]);
    let claimed = bench.lane.claim(NOW, true).unwrap();
    bench.lane.load_failed(Priority::Normal);
    let next = Delivery { state: State::Pending { due_at: Timestamp(1) }, calls: 1, attempts: 1 };
    let id = claimed[0].id.clone();
    bench.lane.ended(vec![(id.clone(), Left::Settled { next, outcome: Outcome::Retry, hold: None })], NOW);
    let row = Waiting { id, delivery: next, key: None, blocked: false, errand: false, priority: Priority::Normal };
    bench.rows.insert((Priority::Normal, (Timestamp(1), row.id.clone())), row);
    // It is asked for again before the others are here.
    assert_eq!(bench.calls(2), [1]);
    for priority in [Priority::Low, Priority::High] {
        bench.lane.loaded(priority, Vec::new(), PAGE_WAITING);
    }
    assert!(bench.lane.is_settled(1));
}

/// Its turn has come, its time has not: until it has its row again, only the lane knows of it.
#[test]
fn what_waits_for_its_time_after_its_turn_is_not_settled_on_its_way_to_its_row() {
    let order = Some(OrderSpec { by: KeySpec::One, on_dead: OnDead::Continue });
    let mut bench = Bench::new(DeliverySpec { order, ..DeliverySpec::default() });
    let mut later = scripted::event(2, "order.created");
    later.envelope.not_before = Some(Timestamp(NOW.wall.0 + 60_000_000));
    bench.append(vec![scripted::event(1, "order.created"), later]);
    bench.feed();
    let first = bench.lane.claim(NOW, true).unwrap().remove(0).id;
    let next = Delivery { state: State::Pending { due_at: NOW.wall }, calls: 1, attempts: 1 };
    bench.lane.ended(vec![(first.clone(), Left::Settled { next, outcome: Outcome::Retry, hold: None })], NOW);
    let parked = bench.lane.wants_parked(NOW).remove(0);
    bench.lane.parked(std::slice::from_ref(&parked.id), NOW);
    bench.feed();
    bench.lane.claim(NOW, true).unwrap();
    let next = Delivery { state: State::Succeeded, calls: 2, attempts: 2 };
    bench.lane.ended(vec![(first, Left::Settled { next, outcome: Outcome::Done, hold: None })], NOW);
    let wanted = bench.lane.wants_blocked().remove(0);
    let fetched = Fetched { event: bench.events[&2].clone(), errand: None };
    bench.lane.unparked(&wanted, Some(vec![(parked, fetched)]), NOW);
    assert!(!bench.lane.is_settled(2));
    let row = bench.lane.wants_parked(NOW).remove(0);
    assert!(!row.blocked && !bench.lane.is_settled(2));
    bench.lane.parked(&[row.id], NOW);
    assert!(!bench.lane.is_settled(2), "it waits for its time");
}
