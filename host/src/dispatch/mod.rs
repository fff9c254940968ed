//! Makes things happen at our own pace: one loop that only names what happened, one synchronous function that decides
//! ([`core::Core::handle`]), and small tasks that act.

pub mod attempt;
pub mod core;
pub mod lane;
pub mod pace;
pub mod replay;
#[cfg(test)]
pub(crate) mod scripted;
pub mod settle;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot, watch};

use self::attempt::Tools;
use self::core::{Action, Core, Ended, PAGE_EVENTS, PAGE_WAITING, Wake};
use self::pace::{Pace, Polite};
use crate::clock::Clock;
use crate::log::{Commit, EventLog};
use crate::model::{ConsumerName, DeliveryId, Seq};
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
    running: Arc<RwLock<BTreeMap<ConsumerName, u64>>>,
}

enum Request {
    Settled(Seq, oneshot::Sender<()>),
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

    /// Ends when nothing is left to do about events up to `through`.
    pub async fn settled(&self, through: Seq) {
        let (done, settled) = oneshot::channel();
        self.ask(Request::Settled(through, done));
        if settled.await.is_err() {
            // The loop has ended, and what it had left to do is not done: nobody may be told that it is.
            std::future::pending::<()>().await;
        }
    }

    /// Attempts of a consumer in hand.
    pub fn running(&self, consumer: &ConsumerName) -> u64 {
        self.running.read().map_or(0, |running| running.get(consumer).copied().unwrap_or(0))
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
    pub commits: mpsc::UnboundedReceiver<Commit>,
    pub guests: Guests,
}

/// Where handlers run: not where the loop runs, and slow ones not where quick ones do.
#[derive(Clone)]
pub struct Guests {
    pub quick: tokio::runtime::Handle,
    /// On threads of lower priority.
    pub slow: tokio::runtime::Handle,
}

/// The dispatcher's loop.
pub struct Dispatcher {
    core: Core,
    tools: Tools,
    guests: Guests,
    commits: mpsc::UnboundedReceiver<Commit>,
    wakes: mpsc::UnboundedReceiver<Wake>,
    requests: mpsc::UnboundedReceiver<Request>,
    back: mpsc::UnboundedSender<Wake>,
    open: Vec<Request>,
    running: Arc<RwLock<BTreeMap<ConsumerName, u64>>>,
}

impl Dispatcher {
    pub fn new(options: Options) -> (Self, Handle) {
        let (back, wakes) = mpsc::unbounded_channel();
        let (ask, requests) = mpsc::unbounded_channel();
        let running = Arc::new(RwLock::new(BTreeMap::new()));
        let handle = Handle { requests: ask, wakes: back.clone(), running: running.clone() };
        let dispatcher = Self {
            core: Core::new(options.head),
            tools: options.tools,
            guests: options.guests,
            commits: options.commits,
            wakes,
            requests,
            back,
            open: Vec::new(),
            running,
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
                n = self.commits.recv_many(&mut commits, WAKES_MAX) => if n == 0 { return },
                () = due => wakes.push(Wake::Tick),
            }
            self.gather(&mut wakes, &mut commits);
            let actions = self.core.handle(wakes.drain(..), self.tools.clock.now());
            actions.into_iter().for_each(|action| self.act(action));
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
        for commit in commits.drain(..) {
            if let Commit::Events(events) = &commit {
                self.tools.witness.appended(events);
            }
            wakes.push(Wake::Commit(commit));
        }
    }

    fn sleep(&self) -> impl Future<Output = ()> + Send + use<> {
        let clock = &self.tools.clock;
        let wait = self.core.next_due().map_or(TICK_MAX, |due| due.since(clock.now()).min(TICK_MAX));
        clock.sleep_until(clock.monotonic() + wait)
    }

    fn act(&self, action: Action) {
        match action {
            Action::Attempt(claim, pace) => {
                let (tools, back) = (self.tools.clone(), self.back.clone());
                let attempt = Box::pin(async move {
                    let ended = AssertUnwindSafe(attempt::run(&tools, &claim)).catch_unwind().await;
                    let (ended, took) = ended.unwrap_or_else(|_| {
                        tools.metrics.host_panic();
                        tracing::error!(delivery = %claim.id, "the host panicked while it settled; please report this");
                        (Ended::Unsettled, Duration::ZERO)
                    });
                    let _gone = back.send(Wake::Ended(claim.id, ended, took)).is_err();
                });
                match pace {
                    Pace::Quick => self.guests.quick.spawn(attempt),
                    Pace::Slow => self.guests.slow.spawn(Polite::new(attempt)),
                };
            }
            Action::Recover(name) => self.ask_log(move |log, clock| {
                Box::pin(async move {
                    loop {
                        if let Some(recovery) = logged(log.recover(name.clone()).await, &clock).await {
                            return Wake::Recovered(name, recovery);
                        }
                    }
                })
            }),
            Action::Read(name, after) => self.ask_log(move |log, clock| {
                Box::pin(async move { Wake::Page(name, logged(log.read(after, PAGE_EVENTS).await, &clock).await) })
            }),
            Action::Load(name, after) => self.ask_log(move |log, clock| {
                Box::pin(async move {
                    let page = log.waiting(name.clone(), after, PAGE_WAITING).await;
                    Wake::Loaded(name, logged(page, &clock).await)
                })
            }),
            Action::Fetch(id) => self.fetch(id),
            Action::Advance(positions) => self.tools.log.advance(positions),
        }
    }

    fn fetch(&self, id: DeliveryId) {
        self.ask_log(move |log, clock| {
            Box::pin(async move {
                let events = logged(log.read(id.seq.saturating_sub(1), 1).await, &clock).await;
                let event = events.and_then(|events| events.into_iter().find(|event| event.seq == id.seq));
                Wake::Fetched(id, event)
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

    fn publish(&self) {
        if let Ok(mut running) = self.running.write() {
            for (name, count) in self.core.running_of() {
                let count = u64::try_from(count).unwrap_or(u64::MAX);
                match running.get_mut(name) {
                    Some(known) => *known = count,
                    None => drop(running.insert(name.clone(), count)),
                }
            }
        }
    }

    fn answer(&mut self) {
        let core = &self.core;
        let ready = |request: &mut Request| match request {
            Request::Settled(through, done) => done.is_closed() || core.is_settled(*through),
            Request::Drained(done) => done.is_closed() || (core.is_draining() && core.running() == 0),
        };
        for request in self.open.extract_if(.., ready) {
            let (Request::Settled(_, done) | Request::Drained(done)) = request;
            // Whoever asked may have gone.
            let _gone = done.send(()).is_err();
        }
    }
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
