//! Makes things happen at our own pace: one loop that only names what happened, one synchronous function that decides
//! ([`core::Core::handle`]), and small tasks that act.

pub mod attempt;
mod batch;
mod bell;
pub mod core;
#[cfg(test)]
mod cost_tests;
mod hand;
mod interest;
pub mod lane;
mod lanes;
pub mod pace;
pub mod replay;
#[cfg(test)]
pub(crate) mod scripted;
pub mod settle;
pub mod stream;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot, watch};

use self::attempt::Tools;
use self::core::{Action, Core, Ended, PAGE_EVENTS, PAGE_WAITING, Wake};
use self::hand::{Player, Seats};
use self::lane::{Fetched, Left, Parked, Standing};
use self::pace::{Pace, Polite};
use self::settle::{Claim, derived_id};
use crate::clock::Clock;
use crate::log::{Commit, EventLog, Feed, Rekey, Waiting};
use crate::model::breaker::Change;
use crate::model::event::{BREAKER_CLOSED, BREAKER_OPENED};
use crate::model::keys::KeyRules;
use crate::model::{ConsumerName, DeliveryId, Envelope, Seq};
use crate::registry::Snapshot;

/// Wakes taken in at once.
const WAKES_MAX: usize = 1_024;
/// The loop looks at the clock at least so often, so that a wall clock set forward is noticed.
const TICK_MAX: Duration = Duration::from_secs(30);
/// Pause after the log could not be read.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// What other parts may ask of the dispatcher.
#[derive(Clone)]
pub struct Handle {
    requests: mpsc::UnboundedSender<Request>,
    wakes: mpsc::UnboundedSender<Wake>,
    standings: Arc<RwLock<BTreeMap<ConsumerName, Standing>>>,
}

enum Request {
    /// Up to here; or all that there is. Answers how far it is settled.
    Settled(Option<Seq>, oneshot::Sender<Seq>),
    Drained(oneshot::Sender<()>),
}

impl Handle {
    /// The snapshot that the next activation of the log makes live.
    pub fn prepare(&self, snapshot: Snapshot) {
        self.wake(Wake::Prepared(Some(snapshot)));
    }

    /// What was prepared will not be activated.
    pub fn withdraw(&self) {
        self.wake(Wake::Prepared(None));
    }

    /// Claims nothing more; answers when no attempt is in hand.
    pub async fn drain(&self) {
        let (done, drained) = oneshot::channel();
        self.wake(Wake::Drain);
        self.ask(Request::Drained(done));
        // An error means that the loop has ended, and with it every attempt.
        let _ended = drained.await;
    }

    /// Ends when nothing is left to do about events up to `through`, or about any event, those included that come meanwhile;
    /// answers up to which event that is.
    pub async fn settled(&self, through: Option<Seq>) -> Seq {
        let (done, settled) = oneshot::channel();
        self.ask(Request::Settled(through, done));
        match settled.await {
            Ok(through) => through,
            // The loop has ended, and what it had left to do is not done: nobody may be told that it is.
            Err(_) => std::future::pending().await,
        }
    }

    /// How a consumer stands, if it is deployed or has work left.
    pub fn standing(&self, consumer: &ConsumerName) -> Option<Standing> {
        self.standings.read().ok()?.get(consumer).copied()
    }

    // The loop ends only with the host; a request after that has nobody to care for it.
    fn wake(&self, wake: Wake) {
        let _gone = self.wakes.send(wake).is_err();
    }

    fn ask(&self, request: Request) {
        let _gone = self.requests.send(request).is_err();
    }
}

pub struct Options {
    pub tools: Tools,
    /// The last event in the log.
    pub head: Seq,
    /// What becomes durable, from the first commit of this process on.
    pub commits: Feed,
    pub guests: Guests,
}

/// Where handlers run: not where the loop runs, and slow ones not where quick ones do.
#[derive(Clone)]
pub struct Guests {
    pub quick: tokio::runtime::Handle,
    /// Of the quick ones, how many run at once.
    pub threads: usize,
    /// On threads of lower priority.
    pub slow: tokio::runtime::Handle,
}

/// The dispatcher's loop.
pub struct Dispatcher {
    core: Core,
    tools: Tools,
    guests: Guests,
    commits: Feed,
    wakes: mpsc::UnboundedReceiver<Wake>,
    requests: mpsc::UnboundedReceiver<Request>,
    back: mpsc::UnboundedSender<Wake>,
    open: Vec<Request>,
    /// Nothing had become durable that the core did not know when it last knew of attempts that are over.
    abreast: bool,
    standings: Arc<RwLock<BTreeMap<ConsumerName, Standing>>>,
    seats: Seats,
}

impl Dispatcher {
    pub fn new(options: Options) -> (Self, Handle) {
        let (back, wakes) = mpsc::unbounded_channel();
        let (ask, requests) = mpsc::unbounded_channel();
        let standings = Arc::new(RwLock::new(BTreeMap::new()));
        let handle = Handle { requests: ask, wakes: back.clone(), standings: standings.clone() };
        let dispatcher = Self {
            core: Core::new(options.head),
            tools: options.tools,
            guests: options.guests,
            commits: options.commits,
            wakes,
            requests,
            back,
            open: Vec::new(),
            abreast: false,
            standings,
            seats: Seats::default(),
        };
        (dispatcher, handle)
    }

    /// Runs until `stop` says so. Attempts in hand go on by themselves: drain first.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut wakes = Vec::new();
        let mut commits = Vec::new();
        loop {
            let due = self.sleep();
            let stopped = async { stop.wait_for(|yes| *yes).await.is_ok() };
            tokio::select! {
                biased;
                _ = stopped => return,
                Some(request) = self.requests.recv() => self.open.push(request),
                _ = self.wakes.recv_many(&mut wakes, WAKES_MAX) => {}
                commit = self.commits.recv() => match commit {
                    Some(commit) => commits.push(commit),
                    None => return,
                },
                () = due => wakes.push(Wake::Tick),
            }
            self.gather(&mut wakes, &mut commits);
            let actions = self.core.handle(wakes.drain(..), self.tools.clock.moment());
            self.act_all(actions);
            self.publish();
            self.answer();
        }
    }

    /// Takes what else there is, so that neither kind keeps the other waiting.
    fn gather(&mut self, wakes: &mut Vec<Wake>, commits: &mut Vec<Commit>) {
        while commits.len() < WAKES_MAX
            && let Ok(commit) = self.commits.try_recv()
        {
            commits.push(commit);
        }
        // What was prepared before a commit must be known when it is looked at: so wakes are taken after commits, and
        // come before them.
        while let Ok(wake) = self.wakes.try_recv() {
            wakes.push(wake);
        }
        // An attempt that ended just now may have made something to do, as a step of a run does, and that is among the commits
        // that are still to be taken.
        self.abreast = self.commits.is_empty();
        for commit in commits.drain(..) {
            if let Commit::Events(events) = &commit {
                self.tools.witness.appended(events);
            }
            wakes.push(Wake::Commit(commit));
        }
    }

    fn sleep(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let clock = &self.tools.clock;
        let wait = self.core.next_wake(clock.moment()).map_or(TICK_MAX, |wait| wait.min(TICK_MAX));
        clock.sleep_until(clock.monotonic() + wait)
    }

    fn act_all(&self, actions: Vec<Action>) {
        let mut quick = Vec::new();
        for action in actions {
            match action {
                Action::Attempt(claim, Pace::Quick) => quick.push(*claim),
                action => self.act(action),
            }
        }
        for hand in Player::deal(quick, self.guests.threads.saturating_sub(self.seats.taken())) {
            self.spawn(Box::pin(self.player().play(hand, self.seats.take())), Pace::Quick);
        }
    }

    fn player(&self) -> Player {
        Player { tools: self.tools.clone(), quick: self.guests.quick.clone(), back: self.back.clone() }
    }

    fn act(&self, action: Action) {
        match action {
            Action::Attempt(claim, pace) => self.spawn(Box::pin(self.player().play_alone(*claim)), pace),
            Action::Batch(claims, pace) => self.batch(claims, pace),
            Action::Stream(claim, pace) => self.stream(*claim, pace),
            Action::Recover(name) => self.ask_log(move |log, clock| {
                Box::pin(async move {
                    loop {
                        if let Some(recovery) = logged(log.recover(name.clone()).await, &clock).await {
                            return Wake::Recovered(name, recovery);
                        }
                    }
                })
            }),
            Action::Rekey(consumer) => self.ask_log(move |log, clock| {
                Box::pin(async move {
                    let rules = KeyRules::of(&consumer.delivery);
                    let mut after = None;
                    loop {
                        let step = Rekey { consumer: consumer.clone(), after };
                        match logged(log.rekey(step).await, &clock).await {
                            Some(None) => return Wake::Rekeyed(consumer.name.clone(), rules),
                            Some(next) => after = next,
                            None => {}
                        }
                    }
                })
            }),
            Action::Read(name, after) => self.ask_log(move |log, clock| {
                Box::pin(async move { Wake::Page(name, logged(log.read(after, PAGE_EVENTS).await, &clock).await) })
            }),
            Action::Load(name, priority, after) => self.ask_log(move |log, clock| {
                Box::pin(async move {
                    let page = log.waiting(name.clone(), priority, after, PAGE_WAITING).await;
                    Wake::Loaded(name, priority, logged(page, &clock).await)
                })
            }),
            Action::Fetch(id, errand) => self.fetch(id, errand),
            Action::Ring => self
                .ask_log(move |log, clock| Box::pin(async move { Wake::Rang(logged(log.ring().await, &clock).await) })),
            Action::Park(name, waiting) => self.ask_log(move |log, clock| {
                Box::pin(async move {
                    loop {
                        if logged(log.park(waiting.clone()).await, &clock).await.is_some() {
                            return Wake::Parked(name, waiting.into_iter().map(|waiting| waiting.id).collect());
                        }
                    }
                })
            }),
            Action::Unpark(consumer, wanted) => self.ask_log(move |log, clock| {
                Box::pin(async move {
                    let page = unparked(&log, &consumer, &wanted).await;
                    Wake::Unparked { consumer, wanted, page: logged(page, &clock).await }
                })
            }),
            Action::Advance(positions) => self.tools.log.advance(positions),
            Action::Tell(name, change) => self.tell(&name, change),
            Action::Lost(name, lost) => self.tools.metrics.ephemeral_lost(&name, lost),
        }
    }

    /// Starts a task that makes one call for all of these and tells how it left them.
    fn batch(&self, claims: Vec<Claim>, pace: Pace) {
        let (tools, back) = (self.tools.clone(), self.back.clone());
        let ids: Vec<DeliveryId> = claims.iter().map(|claim| claim.id.clone()).collect();
        let Some(consumer) = ids.first().map(|id| id.consumer.clone()) else { return };
        let attempt = async move {
            let ended = AssertUnwindSafe(batch::run(&tools, claims)).catch_unwind().await;
            let (left, took) = ended.unwrap_or_else(|_| {
                tools.metrics.host_panic();
                tracing::error!(%consumer, "the host panicked while it settled; please report this");
                (ids.into_iter().map(|id| (id, Left::Unsettled)).collect(), Duration::ZERO)
            });
            let _gone = back.send(Wake::Ended(vec![Ended { consumer, left, took }])).is_err();
        };
        self.spawn(Box::pin(attempt), pace);
    }

    fn stream(&self, claim: Claim, pace: Pace) {
        let (tools, back) = (self.tools.clone(), self.back.clone());
        let attempt = async move {
            let consumer = claim.id.consumer.clone();
            let took = AssertUnwindSafe(attempt::stream(&tools, claim)).catch_unwind().await;
            let took = took.unwrap_or_else(|_| {
                tools.metrics.host_panic();
                tracing::error!(%consumer, "the host panicked in an attempt; please report this");
                Duration::ZERO
            });
            let _gone = back.send(Wake::Streamed { consumer, took }).is_err();
        };
        self.spawn(Box::pin(attempt), pace);
    }

    fn spawn(&self, attempt: Pin<Box<dyn Future<Output = ()> + Send>>, pace: Pace) {
        let runtime = match pace {
            Pace::Quick => &self.guests.quick,
            Pace::Slow => &self.guests.slow,
        };
        drop(runtime.spawn(Polite::new(attempt)));
    }

    /// Appends the event that says what became of a breaker.
    fn tell(&self, consumer: &ConsumerName, change: Change) {
        let (event_type, word) = match change {
            Change::Opened => (BREAKER_OPENED, "opened"),
            Change::Closed => (BREAKER_CLOSED, "closed"),
        };
        tracing::warn!(%consumer, "its breaker has {word}");
        let now = self.tools.clock.now();
        let id =
            derived_id(&[event_type, consumer.as_str(), &now.0.to_string(), &self.tools.random.draw().to_string()]);
        let event = Envelope::of_host(event_type, id, now, &serde_json::json!({ "consumer": consumer }));
        let event = Envelope { subject: Some(consumer.to_string()), ..event };
        let (log, consumer) = (self.tools.log.clone(), consumer.clone());
        tokio::spawn(async move {
            if let Err(error) = log.append(vec![event]).await {
                tracing::warn!(%consumer, %error, "that its breaker has {word} could not be recorded");
            }
        });
    }

    fn fetch(&self, id: DeliveryId, errand: bool) {
        self.ask_log(move |log, clock| {
            Box::pin(async move {
                let found = fetched(&log, &id, errand).await;
                Wake::Fetched(id, logged(found, &clock).await.flatten())
            })
        });
    }

    fn ask_log<F>(&self, ask: F)
    where
        F: FnOnce(Arc<dyn EventLog>, Arc<dyn Clock>) -> Pin<Box<dyn Future<Output = Wake> + Send>>,
    {
        let answer = ask(self.tools.log.clone(), self.tools.clock.clone());
        let back = self.back.clone();
        tokio::spawn(async move {
            let _gone = back.send(answer.await).is_err();
        });
    }

    fn publish(&mut self) {
        let changed = self.core.standings();
        if let Ok(mut standings) = self.standings.write() {
            standings.extend(changed);
        }
    }

    fn answer(&mut self) {
        let (head, abreast, core) = (self.core.head(), self.abreast, &mut self.core);
        let mut ready = |request: &mut Request| match request {
            Request::Settled(through, done) => {
                done.is_closed() || (abreast && core.is_settled(through.unwrap_or(head)))
            }
            Request::Drained(done) => done.is_closed() || (core.is_draining() && core.running() == 0),
        };
        for request in self.open.extract_if(.., &mut ready) {
            // Whoever asked may have gone.
            let _gone = match request {
                Request::Settled(through, done) => done.send(through.unwrap_or(head)).is_err(),
                Request::Drained(done) => done.send(()).is_err(),
            };
        }
    }
}

/// The first parked deliveries of a line, with their events.
async fn unparked(
    log: &Arc<dyn EventLog>,
    consumer: &ConsumerName,
    Parked { key, later, limit, .. }: &Parked,
) -> Result<Vec<(Waiting, Fetched)>, crate::log::Error> {
    let rows = log.blocked(consumer.clone(), key.clone(), *later, *limit).await?;
    let mut page = Vec::with_capacity(rows.len());
    for waiting in rows {
        if let Some(found) = fetched(log, &waiting.id, waiting.errand).await? {
            page.push((waiting, found));
        }
    }
    Ok(page)
}

/// A delivery's event, and what it is for if it is for more; none if the log does not have the event.
async fn fetched(log: &Arc<dyn EventLog>, id: &DeliveryId, errand: bool) -> Result<Option<Fetched>, crate::log::Error> {
    let events = log.read(id.seq.saturating_sub(1), 1).await?;
    let Some(event) = events.into_iter().find(|event| event.seq == id.seq) else { return Ok(None) };
    let errand = if errand { log.errand(id.clone()).await?.map(Arc::new) } else { None };
    Ok(Some(Fetched { event, errand }))
}

/// What the log answered; or nothing, after a pause, and the core asks again.
async fn logged<T>(answer: Result<T, crate::log::Error>, clock: &Arc<dyn Clock>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error) => {
            tracing::warn!(%error, "the log could not be read; trying again");
            clock.sleep_until(clock.monotonic() + READ_AGAIN).await;
            None
        }
    }
}
