//! A seeded workload, and what the log was told and answered while it ran.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tidegate_vfs::{Dice, Op};

use super::rig::{Feed, Rig};
use crate::log::conformance::{consumer, event, settlement, subscriptions};
use crate::log::sqlite::SqliteLog;
use crate::log::{
    Activated, Activation, Appended, Commit, DeadDecision, DeadSelection, Error, EventLog as _, Hold, Mark, Settled,
    Settlement, Waiting,
};
use crate::model::outcome::{StateChanges, StateWrite};
use crate::model::{
    ConsumerName, Delivery, DeliveryId, Digest, Envelope, Generation, Outcome, Payload, Priority, Seq, State, Timestamp,
};
use crate::planted::{self, Bug};
use crate::store::Reader;

/// Consumers, and what they are for.
pub(super) const CONSUMERS: [(&str, &str); 2] = [("mail", "a.*"), ("echo", "b.*")];

/// Everything that the log was told and that it answered.
#[derive(Clone, Default)]
pub(super) struct Told {
    /// By id: every event that was ever given to it, be it in vain.
    pub(super) events: BTreeMap<String, Envelope>,
    /// Those too that it did not take.
    pub(super) settlements: Vec<Settlement>,
    /// Which of them were given to it together: all or none.
    pub(super) batches: Vec<Vec<usize>>,
    pub(super) pauses: Vec<(ConsumerName, bool)>,
    /// Each with the place in the disk's record at which it was there.
    pub(super) answers: Vec<(usize, Answer)>,
    /// From which place on the clock stood where.
    pub(super) times: Vec<(usize, Timestamp)>,
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    Opened,
    Appended(String, Seq),
    /// By its place in `settlements`.
    Settled(usize),
    Decided(DeadDecision, DeliveryId),
    Activated(Generation),
    Parked(DeliveryId),
    /// By its place in `pauses`.
    Paused(usize),
}

impl Told {
    /// What had been answered at a place in the record.
    pub(super) fn answered(&self, at: usize) -> impl Iterator<Item = &Answer> {
        self.answers.iter().filter(move |(place, _)| *place <= at).map(|(_, answer)| answer)
    }

    /// Where the clock stood at the latest.
    pub(super) fn time(&self, at: usize) -> Timestamp {
        self.times.iter().filter(|(place, _)| *place <= at).map(|(_, now)| *now).max().unwrap_or(Timestamp(0))
    }
}

/// A story that is over.
pub(super) struct Story {
    pub(super) record: Vec<Op>,
    pub(super) told: Told,
}

/// A delivery that is not final, as the log knows it.
#[derive(Clone, Debug)]
struct Open {
    id: DeliveryId,
    delivery: Delivery,
    stored: bool,
}

enum Reply {
    Appended(Vec<String>, Result<Vec<Appended>, Error>),
    Settled(Vec<usize>, Result<Settled, Error>),
    Parked(DeliveryId, Result<(), Error>),
    Paused(usize, Result<bool, Error>),
    Claimed(Result<(), Error>),
    Decided(DeadDecision, Result<Vec<DeliveryId>, Error>),
    Activated(Result<Activated, Error>),
}

type Replies = FuturesUnordered<Pin<Box<dyn Future<Output = Reply>>>>;

/// Tells the story.
pub(super) struct Teller {
    pub(super) rig: Rig,
    /// Whether the log is closed and opened in between.
    pub(super) reopens: bool,
    /// Whether so much time passes that retention takes something away.
    ages: bool,
    told: Told,
    dice: Dice,
    log: Option<(SqliteLog, Feed)>,
    open: Vec<Open>,
    dead: Vec<DeliveryId>,
    /// Parked, or settled, in this step: a host does not do both at once.
    parked: Vec<DeliveryId>,
    given: Vec<DeliveryId>,
    head: Seq,
    count: usize,
}

/// A story of so many steps.
pub(super) fn story(seed: u64, steps: usize) -> Story {
    tell(seed, steps, true)
}

/// Nothing is taken away in it.
pub(super) fn story_without_retention(seed: u64, steps: usize) -> Story {
    tell(seed, steps, false)
}

fn tell(seed: u64, steps: usize, ages: bool) -> Story {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut teller = Teller::new(Rig::recording(), seed);
        teller.ages = ages;
        teller.begin().unwrap();
        teller.rig.hold();
        teller.deploy().await.unwrap();
        for _ in 0..steps {
            teller.step().await.unwrap();
        }
        teller.end()
    })
}

impl Teller {
    pub(super) fn new(rig: Rig, seed: u64) -> Self {
        Self {
            rig,
            reopens: true,
            ages: true,
            told: Told::default(),
            dice: Dice::new(seed),
            log: None,
            open: Vec::new(),
            dead: Vec::new(),
            parked: Vec::new(),
            given: Vec::new(),
            head: 0,
            count: 0,
        }
    }

    /// Opens the log. Nothing is held up meanwhile.
    pub(super) fn begin(&mut self) -> Result<(), crate::store::OpenError> {
        self.log = Some(self.rig.open()?);
        self.answered(Answer::Opened);
        Ok(())
    }

    /// Waits until the log says that it has failed. False: it is gone without a word.
    pub(super) async fn failed(&mut self) -> bool {
        let mut failed = self.log().failed();
        self.rig.meanwhile(Box::pin(async move { failed.wait_for(Option::is_some).await.is_ok() })).await
    }

    fn log(&self) -> &SqliteLog {
        &self.log.as_ref().expect("the log is open").0
    }

    /// Lets go of the log, as a crash would.
    pub(super) fn crash(&mut self) {
        self.rig.let_go();
        self.log = None;
    }

    fn end(mut self) -> Story {
        self.crash();
        Story { record: self.rig.disk.record(), told: self.told() }
    }

    /// What was told so far.
    pub(super) fn told(&self) -> Told {
        Told { times: self.rig.times.clone(), ..self.told.clone() }
    }

    fn answered(&mut self, answer: Answer) {
        self.told.answers.push((self.rig.disk.position(), answer));
    }

    fn now(&self) -> Timestamp {
        self.rig.now()
    }

    /// One step of the story. An error is the log's.
    pub(super) async fn step(&mut self) -> Result<(), Error> {
        match self.dice.roll(40) {
            0 if self.reopens => self.reopen().await,
            1 if self.ages => self.rig.advance(Duration::from_secs(3_700)),
            2..=4 => self.rig.advance(Duration::from_secs(62)),
            5..=9 => self.rig.advance(Duration::from_millis(1_100)),
            10..=14 => self.advance_positions(),
            _ => {}
        }
        let replies = Replies::new();
        self.parked.clear();
        self.given.clear();
        for _ in 0..=self.dice.roll(4) {
            self.tell(&replies);
        }
        self.take_in(replies).await
    }

    /// Waits for every answer, and writes each down the moment that it is there. The first error is answered when all are in.
    async fn take_in(&mut self, mut replies: Replies) -> Result<(), Error> {
        let mut result = Ok(());
        while let Some(reply) = self.rig.meanwhile(replies.next()).await {
            let done = self.reply(reply);
            result = result.and(done);
        }
        self.listen();
        result
    }

    async fn reopen(&mut self) {
        self.rig.let_go();
        let (log, _feed) = self.log.take().unwrap();
        if self.dice.once_in(2) {
            log.close().await.unwrap();
        }
        drop(log);
        self.begin().unwrap();
        self.rig.hold();
    }

    /// Every delivery up to there is settled or waiting.
    fn advance_positions(&self) {
        let positions = CONSUMERS.map(|(name, _)| {
            let of = |open: &&Open| open.id.consumer.as_str() == name && !open.stored && open.id.round == 0;
            let first = self.open.iter().filter(of).map(|open| open.id.seq).min();
            (consumer(name), first.map_or(self.head, |seq| seq - 1))
        });
        self.log().advance(positions.to_vec());
    }

    fn tell(&mut self, replies: &Replies) {
        match self.dice.roll(20) {
            0 => self.activate(replies),
            1 | 2 => self.decide(replies),
            3 => self.pause(replies),
            4 => self.park(replies),
            5 => self.settle_batch(replies),
            6..=11 => self.append(replies),
            _ => self.settle(replies),
        }
    }

    /// The first deployment, so that every event has its consumers.
    pub(super) async fn deploy(&mut self) -> Result<(), Error> {
        let replies = Replies::new();
        self.activate(&replies);
        self.take_in(replies).await
    }

    /// Events and nothing else.
    pub(super) async fn feed(&mut self) -> Result<(), Error> {
        let replies = Replies::new();
        self.append(&replies);
        self.take_in(replies).await
    }

    fn activate(&mut self, replies: &Replies) {
        let digest = Digest::of(&[u8::try_from(self.dice.roll(4)).unwrap()]);
        let on: Vec<(&str, &[&str])> = CONSUMERS.iter().map(|(name, on)| (*name, std::slice::from_ref(on))).collect();
        let activation = Activation { digest, subscriptions: subscriptions(&on), from: Vec::new() };
        let answer = self.log().activate(activation);
        replies.push(Box::pin(async move { Reply::Activated(answer.await) }));
    }

    fn append(&mut self, replies: &Replies) {
        let mut events = Vec::new();
        for _ in 0..=self.dice.roll(3) {
            self.count += 1;
            let mut new = event(&format!("e{}", self.count), self.dice.choose::<&str>(&["a.one", "a.two", "other"]));
            let size = *self.dice.choose(&[0, 30, 300, 1_500, 9_000]);
            let data = (0..size).map(|_| u8::try_from(self.dice.roll(256)).unwrap()).collect::<Vec<u8>>();
            new.payload = Some(Payload { content_type: "application/octet-stream".into(), data: data.into() });
            self.told.events.insert(new.id.clone(), new.clone());
            events.push(new);
        }
        let accepted: Vec<_> = self.told.events.values().filter(|event| event.source == "/test").cloned().collect();
        if self.dice.once_in(4) {
            // The same statement again.
            events.push(self.dice.choose(&accepted).clone());
        }
        let ids = events.iter().map(|event| event.id.clone()).collect();
        let answer = self.log().append(events);
        replies.push(Box::pin(async move { Reply::Appended(ids, answer.await) }));
    }

    fn settle(&mut self, replies: &Replies) {
        let free: Vec<&Open> = self.open.iter().filter(|open| !self.parked.contains(&open.id)).collect();
        if free.is_empty() {
            return;
        }
        let open = (*self.dice.choose(&free)).clone();
        let claimed = self.dice.once_in(8);
        if claimed {
            let answer = self.log().claim(open.id.clone());
            replies.push(Box::pin(async move { Reply::Claimed(answer.await) }));
        }
        // Twice at times, as after an attempt that was believed lost.
        for _ in 0..=usize::from(self.dice.once_in(6)) {
            let made = Settlement { claimed, ..self.settlement(&open) };
            self.give(vec![made], replies);
        }
    }

    /// Two deliveries together.
    fn settle_batch(&mut self, replies: &Replies) {
        let name = self.open.first().map(|open| open.id.consumer.clone());
        let fits = |open: &&Open| Some(&open.id.consumer) == name.as_ref() && !self.parked.contains(&open.id);
        let two: Vec<Open> = self.open.iter().filter(fits).take(2).cloned().collect();
        // The mistake can be made with single settlements only.
        if two.len() < 2 || planted::is(Bug::EffectsOutsideTransaction) {
            return;
        }
        let mut made: Vec<Settlement> = two.iter().map(|open| self.settlement(open)).collect();
        // Only one of them can count.
        made[1].state = StateChanges::default();
        self.give(made, replies);
    }

    fn give(&mut self, made: Vec<Settlement>, replies: &Replies) {
        let first = self.told.settlements.len();
        let places: Vec<usize> = (first..first + made.len()).collect();
        self.told.settlements.extend(made.iter().cloned());
        self.told.batches.push(places.clone());
        self.given.extend(made.iter().map(|made| made.delivery.clone()));
        let answer = self.log().settle(made);
        replies.push(Box::pin(async move { Reply::Settled(places, answer.await) }));
    }

    fn park(&mut self, replies: &Replies) {
        let fits = |open: &&Open| !open.stored && !self.given.contains(&open.id);
        let Some(open) = self.open.iter().find(fits).cloned() else { return };
        let id = open.id.clone();
        self.parked.push(id.clone());
        let key = Some(format!("k{}", self.dice.roll(3)));
        let waiting = Waiting {
            id: open.id,
            delivery: open.delivery,
            key,
            blocked: self.dice.once_in(2),
            errand: false,
            priority: Priority::Normal,
        };
        let answer = self.log().park(vec![waiting]);
        replies.push(Box::pin(async move { Reply::Parked(id, answer.await) }));
    }

    fn pause(&mut self, replies: &Replies) {
        let (name, paused) = (consumer(self.dice.choose(&CONSUMERS).0), self.dice.once_in(2));
        let index = self.told.pauses.len();
        self.told.pauses.push((name.clone(), paused));
        let answer = self.log().pause(name, paused);
        replies.push(Box::pin(async move { Reply::Paused(index, answer.await) }));
    }

    /// An attempt of this delivery with all that it may cause, each settlement with names of its own.
    fn settlement(&mut self, open: &Open) -> Settlement {
        let now = self.now();
        let due_at = now.plus(Duration::from_millis(500));
        let (outcome, state) = *self.dice.choose(&[
            (Outcome::Done, State::Succeeded),
            (Outcome::Done, State::Succeeded),
            (Outcome::Done, State::Succeeded),
            (Outcome::Retry, State::Pending { due_at }),
            (Outcome::Interrupted, State::Pending { due_at }),
            (Outcome::Reject, State::Dead),
        ]);
        self.count += 1;
        let name = format!("s{}", self.count);
        let charged = u32::from(outcome != Outcome::Interrupted);
        let mut made = settlement(open.id.clone(), outcome, state);
        made.record.call = open.delivery.calls + 1;
        made.record.attempt = open.delivery.attempts + 1;
        made.record.started_at = now;
        made.next.calls = open.delivery.calls + 1;
        made.next.attempts = open.delivery.attempts + charged;
        made.stored = open.stored;
        let mut publish = |id: String, event_type: &str| {
            let source = format!("/consumers/{}", open.id.consumer.as_str());
            let new = Envelope { source, depth: 1, ..event(&id, event_type) };
            self.told.events.insert(id, new.clone());
            made.events.push(new);
        };
        if outcome == Outcome::Done {
            (0..self.dice.roll(3)).for_each(|n| publish(format!("{name}/p{n}"), "b.one"));
            self.count_up(&mut made, &name);
            let key = format!("k{}", self.dice.roll(6));
            made.mark = self.dice.once_in(4).then(|| Mark { key, until: now.plus(Duration::from_secs(1_800)) });
        } else if state == State::Dead {
            publish(format!("{name}/dead"), "dead");
            made.hold = self.dice.once_in(2).then(|| Hold::Begin(format!("h{name}")));
        }
        made
    }

    /// Counts in the consumer's state, and leaves a key of its own there.
    fn count_up(&self, made: &mut Settlement, name: &str) {
        let reader = Reader::open(&self.rig.path());
        let found = reader.and_then(|reader| reader.state_get(&made.delivery.consumer, TOTAL, self.now()));
        // On a disk that fails it does without.
        let Ok(found) = found else { return };
        let (total, version) = found
            .map_or((0, 0), |(value, version)| (std::str::from_utf8(&value).unwrap().parse::<u64>().unwrap(), version));
        let set = |value: String| StateWrite::Set { value: Bytes::from(value), expires_at: None };
        made.state.reads.insert(TOTAL.into(), version);
        made.state.writes.insert(TOTAL.into(), set((total + 1).to_string()));
        made.state.writes.insert(format!("by/{name}"), set(name.to_owned()));
    }

    fn decide(&mut self, replies: &Replies) {
        if self.dead.is_empty() {
            return;
        }
        let dead = self.dead.swap_remove(self.dice.roll(self.dead.len()));
        let decision = *self.dice.choose(&[DeadDecision::Redrive, DeadDecision::Redrive, DeadDecision::Discard]);
        let selection = DeadSelection { ids: vec![dead.clone()], ..DeadSelection::default() };
        let answer = self.log().decide_dead(selection, decision);
        replies.push(Box::pin(async move { Reply::Decided(decision, answer.await.map(|_| vec![dead])) }));
    }

    fn reply(&mut self, reply: Reply) -> Result<(), Error> {
        match reply {
            Reply::Appended(ids, answer) => {
                for (id, appended) in ids.into_iter().zip(answer?) {
                    self.answered(Answer::Appended(id, appended.seq));
                }
            }
            Reply::Settled(places, answer) => {
                if answer? == Settled::Committed {
                    for index in places {
                        self.answered(Answer::Settled(index));
                        self.settled(index);
                    }
                }
            }
            Reply::Parked(id, answer) => {
                answer?;
                if let Some(open) = self.open.iter_mut().find(|open| open.id == id) {
                    open.stored = true;
                }
                self.answered(Answer::Parked(id));
            }
            Reply::Paused(index, answer) => {
                answer?;
                self.answered(Answer::Paused(index));
            }
            Reply::Claimed(answer) => answer?,
            Reply::Decided(decision, answer) => {
                answer?.into_iter().for_each(|id| self.answered(Answer::Decided(decision, id)));
            }
            Reply::Activated(answer) => {
                let generation = answer?.generation;
                self.answered(Answer::Activated(generation));
            }
        }
        Ok(())
    }

    fn settled(&mut self, index: usize) {
        let Settlement { delivery, next, .. } = self.told.settlements[index].clone();
        match next.state {
            State::Pending { .. } => {
                let open = self.open.iter_mut().find(|open| open.id == delivery).expect("it was open");
                (open.delivery, open.stored) = (next, true);
            }
            state => {
                self.open.retain(|open| open.id != delivery);
                self.dead.extend((state == State::Dead).then_some(delivery));
            }
        }
    }

    /// Learns of new deliveries from the feed.
    fn listen(&mut self) {
        let Some((_, feed)) = &mut self.log else { return };
        while let Ok(commit) = feed.try_recv() {
            match commit {
                Commit::Events(events) => {
                    for event in events {
                        self.head = event.seq;
                        let new = CONSUMERS.iter().filter(|(_, on)| is_for(on, &event.envelope.event_type));
                        self.open.extend(new.map(|(name, _)| Open {
                            id: DeliveryId { seq: event.seq, consumer: consumer(name), round: 0 },
                            delivery: Delivery::new(event.accepted_at),
                            stored: false,
                        }));
                    }
                }
                Commit::Redriven(waiting) => {
                    let open = |waiting: Waiting| Open { id: waiting.id, delivery: waiting.delivery, stored: true };
                    self.open.extend(waiting.into_iter().map(open));
                }
                _ => {}
            }
        }
    }
}

/// The key under which a consumer counts what is done.
pub(super) const TOTAL: &str = "total";

/// Whether events of this type are for who listens to `on`.
pub(super) fn is_for(on: &str, event_type: &str) -> bool {
    event_type.starts_with(on.trim_end_matches('*'))
}

/// The consumer's pattern.
pub(super) fn on(name: &ConsumerName) -> &'static str {
    CONSUMERS.iter().find(|(consumer, _)| *consumer == name.as_str()).expect("a consumer of the story").1
}
