//! A host in a world that means it no good: the production dispatcher, attempts and settlements, with a clock, a disk and guests that
//! belong to the schedule.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::clock::SimulatedClock;
use super::dice::Dice;
use super::disk::Disk;
use super::guests::{Guests, Note};
use super::model::{Checked, Model, Violation, hold};
use super::plan::{Deployed, Plan};
use super::steps::{Coverage, Mood, Step};
use crate::clock::Clock;
use crate::dispatch::attempt::{Tools, Witness};
use crate::dispatch::replay::{self, Replayer};
use crate::dispatch::settle::Claim;
use crate::dispatch::{self, Dispatcher};
use crate::log::memory::MemoryLog;
use crate::log::{Activated, Appended, EventLog as _, Feed, Pending, Settlement};
use crate::model::pipeline::Definition;
use crate::model::pipeline::run::Status;
use crate::model::{ConsumerName, Envelope, Event, Seq};
use crate::random::Random;
use crate::registry::Registry;
use crate::registry::coordinator::Beginnings;
use crate::schedule::{self, Schedules};
use crate::telemetry::Metrics;

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) clock: SimulatedClock,
    pub(super) model: Model,
    pub(super) coverage: Coverage,
    pub(super) mood: Mood,
    /// What the operator wants to be deployed.
    pub(super) plan: Plan,
    pub(super) host: Option<Host>,
    kept: Option<(MemoryLog, Feed)>,
    pub(super) full: bool,
    /// What the ballast took is not used up yet.
    pub(super) ballast: bool,
    pub(super) stalled: bool,
    /// No more trouble: what is left must come to its end.
    pub(super) faultless: bool,
    /// What producers have sent, and how many ids they have used.
    pub(super) sent: Vec<Envelope>,
    pub(super) ids: u64,
    /// What happened, for people, if somebody wants to know.
    pub(super) trace: Option<Vec<String>>,
}

/// A process.
pub(super) struct Host {
    runtime: tokio::runtime::Runtime,
    pub(super) disk: Arc<Disk>,
    pub(super) guests: Arc<Guests>,
    pub(super) dispatch: dispatch::Handle,
    registry: Arc<Registry>,
    beginnings: Beginnings,
    pub(super) replays: replay::Handle,
    metrics: Arc<Metrics>,
    cancel: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    dispatcher: JoinHandle<()>,
    /// A deployment on its way.
    pub(super) activating: Option<Pending<Activated>>,
    /// One has been made.
    live: bool,
    /// Producers that wait for an answer.
    clients: Vec<Client>,
    /// Told to stop; over when nothing is in hand any more.
    pub(super) draining: Option<JoinHandle<()>>,
    /// Questions to the log are answered at once.
    prompt: bool,
    /// People who wait until all events up to one are settled.
    asked: Vec<(Seq, JoinHandle<Seq>)>,
}

struct Client {
    sent: Vec<Envelope>,
    answer: Pending<Vec<Appended>>,
}

/// Nobody looks on.
struct Nobody;

impl Witness for Nobody {
    fn appended(&self, _: &[Arc<Event>]) {}
    fn settled(&self, _: &Claim, _: &Settlement) {}
}

fn poll<T>(future: &mut Pending<T>) -> Poll<Result<T, crate::log::Error>> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// What `host/control.rs` has of the store, to load pipelines.
fn open_definitions(log: &MemoryLog) -> Vec<Definition> {
    let mut definitions: Vec<Definition> = Vec::new();
    for run in log.runs().iter().filter(|run| run.status.is_open() || run.status == Status::Stopped) {
        if !definitions.contains(&run.definition) {
            definitions.push(Definition::clone(&run.definition));
        }
    }
    definitions
}

impl World {
    pub(super) fn new(seed: u64, trace: bool) -> Self {
        let dice = Dice::new(seed);
        let clock = SimulatedClock::new();
        let (mood, plan) = (Mood::new(&dice), Plan::first(&dice));
        Self {
            kept: Some(MemoryLog::new(Arc::new(clock.clone()))),
            dice,
            clock,
            model: Model::default(),
            coverage: Coverage { schedules: 1, ..Coverage::default() },
            mood,
            plan,
            host: None,
            full: false,
            ballast: false,
            stalled: false,
            faultless: false,
            sent: Vec::new(),
            ids: 0,
            trace: trace.then(Vec::new),
        }
    }

    pub(super) fn say(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let said = what(self);
            if let Some(trace) = &mut self.trace {
                trace.push(said);
            }
        }
    }

    /// Up to so many steps, then peace, in which everything must come to its end.
    pub(super) fn run(&mut self, steps: u32) -> Checked {
        self.start()?;
        let mut before = Step::Start;
        for _ in 0..steps {
            let step = self.choose(before);
            *self.coverage.steps.entry(step).or_default() += 1;
            if matches!(step, Step::Crash | Step::PowerLoss) {
                *self.coverage.crashed_after.entry(before).or_default() += 1;
            }
            before = step;
            self.say(|world| {
                let (at, wall) = (world.clock.monotonic(), world.clock.now());
                format!("{:>10.3} {wall} {step:?}", at.as_secs_f64())
            });
            self.take(step)?;
        }
        self.say(|_| "peace".into());
        self.come_to_rest()?;
        self.coverage.outcomes = self.model.outcomes.iter().map(|(o, n)| (format!("{o:?}"), *n)).collect();
        self.coverage.answers = self.model.answers.clone();
        self.coverage.runs = self.model.stand();
        Ok(())
    }

    /// The process starts on what is kept.
    pub(super) fn start(&mut self) -> Checked {
        let Some((log, made)) = self.kept.take() else { return Ok(()) };
        let (disk, commits) = Disk::open(log, made);
        let kept = disk.log();
        self.model.compare(&kept)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let guests = Guests::new(kept, self.clock.clone());
        let (cancel, cancelled) = watch::channel(false);
        let (stop, stopped) = watch::channel(false);
        let metrics = Arc::new(Metrics::default());
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let tools = Tools {
            log: disk.clone(),
            clock: clock.clone(),
            random: Arc::new(Random::seeded(self.dice.draw())),
            metrics: metrics.clone(),
            witness: Arc::new(Nobody),
            cancelled,
        };
        let both = dispatch::Guests { quick: runtime.handle().clone(), slow: runtime.handle().clone(), threads: 1 };
        let options = dispatch::Options { tools, head: self.model.head(), commits, guests: both };
        let (dispatcher, dispatch) = Dispatcher::new(options);
        let dispatcher = runtime.spawn(dispatcher.run(stopped.clone()));
        let beginnings = Beginnings::default();
        self.plan.resolve(&open_definitions(&disk.log()), &beginnings, &clock);
        let registry = Arc::new(Registry::new(self.plan.snapshot(&guests)));
        let (replayer, replays) = Replayer::new(disk.clone(), registry.clone(), clock.clone(), metrics.clone());
        runtime.spawn(replayer.run(stopped.clone()));
        let schedules = schedule::Options { log: disk.clone(), clock, deployments: registry.deployments() };
        runtime.spawn(Schedules::new(schedules).run(stopped));
        let prompt = self.dice.percent(60);
        let host = Host {
            runtime,
            disk,
            guests,
            dispatch,
            registry,
            beginnings,
            replays,
            metrics,
            cancel,
            stop,
            dispatcher,
            activating: None,
            live: false,
            clients: Vec::new(),
            draining: None,
            prompt,
            asked: Vec::new(),
        };
        self.host = Some(host);
        self.activate();
        self.go_on()
    }

    /// What `host/control.rs` does: first the dispatcher learns of it, then the log says from which sequence on.
    pub(super) fn deploy(&mut self) {
        let Some(host) = &self.host else { return };
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        // As the host's loader has them.
        let beginning = host.beginnings.definitions().into_iter();
        let earlier: Vec<Definition> = beginning.chain(open_definitions(&host.disk.log())).collect();
        self.plan.resolve(&earlier, &host.beginnings, &clock);
        self.activate();
    }

    fn activate(&mut self) {
        let Some(host) = &mut self.host else { return };
        self.model.plans.insert(self.plan.digest(), Arc::new(self.plan.told()));
        host.dispatch.prepare(self.plan.snapshot(&host.guests));
        host.activating = Some(host.disk.activate(self.plan.activation()));
    }

    /// Everything runs until it waits for the world again.
    pub(super) fn go_on(&mut self) -> Checked {
        const QUIET: u32 = 1;
        let Some(host) = &mut self.host else { return Ok(()) };
        let mut quiet = 0;
        let mut seen = (0, 0);
        while quiet < QUIET {
            host.runtime.block_on(tokio::task::yield_now());
            if host.prompt || self.faultless {
                host.disk.answer_all();
            }
            let now = (host.disk.asked(), host.guests.called());
            quiet = if now == seen { quiet + 1 } else { 0 };
            seen = now;
        }
        if let Some(activating) = &mut host.activating
            && let Poll::Ready(activated) = poll(activating)
        {
            host.activating = None;
            host.live |= activated.is_ok();
            match activated {
                Ok(_) => host.registry.replace(self.plan.snapshot(&host.guests)),
                Err(_) => host.dispatch.withdraw(),
            }
            if !host.live {
                self.say(|_| "    does not start".into());
                return self.crash(false);
            }
        }
        let Some(host) = &self.host else { return Ok(()) };
        hold!(!host.dispatcher.is_finished(), "the dispatcher's loop has ended");
        hold!(host.metrics.host_panics() == 0, "the host has panicked in an attempt");
        self.look()?;
        self.look_at_breakers()
    }

    fn look_at_breakers(&mut self) -> Checked {
        let Some(host) = self.host.as_ref().filter(|_| !self.model.failed) else { return Ok(()) };
        for name in self.model.guarded() {
            if let Some(standing) = host.dispatch.standing(&name) {
                self.model.stands_at(&name, standing.breaker, self.clock.monotonic())?;
            }
        }
        Ok(())
    }

    /// Shows the model what has happened.
    pub(super) fn look(&mut self) -> Checked {
        let Some(host) = &mut self.host else { return Ok(()) };
        self.model.time(self.clock.now());
        for note in host.guests.notes() {
            match note {
                Note::Begun(begun) => {
                    if let Some(trace) = &mut self.trace {
                        let ids: Vec<String> = begun.ids().map(|id| id.to_string()).collect();
                        trace.push(format!("    begins {} as call {}", ids.join(" "), begun.token));
                    }
                    self.model.began(&begun)?;
                }
                Note::Dropped(ids) => self.model.dropped(&ids),
            }
        }
        for applied in host.disk.applied() {
            if let Some(trace) = &mut self.trace {
                trace.push(format!("    durable: {}", applied.change));
            }
            self.model.apply(applied)?;
        }
        self.hear()?;
        self.hear_of_settled()
    }

    /// Somebody asks to be told when all that is in the log by now is settled.
    pub(super) fn ask_settled(&mut self) {
        let Some(host) = &mut self.host else { return };
        let (through, dispatch) = (self.model.head(), host.dispatch.clone());
        let asked = host.runtime.spawn(async move { dispatch.settled(Some(through)).await });
        host.asked.push((through, asked));
    }

    /// Whoever is told that all is settled can rely on it, as far as the dispatcher can know.
    fn hear_of_settled(&mut self) -> Checked {
        let Some(host) = self.host.as_mut().filter(|host| !host.disk.has_failed()) else { return Ok(()) };
        let told: Vec<(Seq, JoinHandle<Seq>)> = host.asked.extract_if(.., |(_, asked)| asked.is_finished()).collect();
        if !host.disk.has_writes() && !host.disk.has_untold() && host.activating.is_none() {
            for (through, _) in told {
                self.model.nothing_is_left(through)?;
            }
        }
        Ok(())
    }

    /// Producers read their answers.
    fn hear(&mut self) -> Checked {
        let Some(host) = &mut self.host else { return Ok(()) };
        let head = self.model.head();
        let mut waiting = Vec::new();
        for mut client in host.clients.drain(..) {
            match poll(&mut client.answer) {
                Poll::Pending => waiting.push(client),
                Poll::Ready(Ok(answers)) => {
                    hold!(!host.disk.has_failed(), "I19: an acknowledgement after the log has failed");
                    for (envelope, Appended { seq, .. }) in client.sent.iter().zip(answers) {
                        hold!(seq <= head, "I1: {seq} was acknowledged and is not in the log");
                        let kept = &self.model.event(seq).envelope;
                        hold!(
                            kept.id == envelope.id,
                            "I3: {} was acknowledged as {seq}, which is another",
                            envelope.id
                        );
                    }
                }
                Poll::Ready(Err(_)) => {}
            }
        }
        host.clients = waiting;
        Ok(())
    }

    pub(super) fn send(&mut self, events: Vec<Envelope>) {
        let Some(host) = &mut self.host else { return };
        host.clients.push(Client { answer: host.disk.append(events.clone()), sent: events });
    }

    /// The transaction in flight, if there is one, and what has gathered.
    pub(super) fn commit(&mut self) -> Checked {
        let Some(host) = &self.host else { return Ok(()) };
        host.disk.begin();
        if self.full && !self.ballast {
            host.disk.refuse_for_space();
        } else {
            if self.full {
                host.disk.refuse_new();
            }
            host.disk.sync();
        }
        self.look()
    }

    pub(super) fn tell(&mut self, limit: usize) -> Checked {
        self.tell_without_going_on(limit);
        self.go_on()
    }

    pub(super) fn tell_without_going_on(&mut self, limit: usize) {
        let Some(host) = &self.host else { return };
        let told = host.disk.tell(limit);
        host.replays.begun();
        self.model.told(&told, self.clock.monotonic());
    }

    /// The process is gone; so is what it had not made durable, and perhaps what it was about to.
    pub(super) fn crash(&mut self, survives: bool) -> Checked {
        let Some(host) = &self.host else { return Ok(()) };
        host.disk.crash(survives);
        self.look()?;
        self.end_process(false);
        Ok(())
    }

    fn end_process(&mut self, cleanly: bool) {
        let Some(host) = self.host.take() else { return };
        if cleanly {
            host.disk.log().close();
        }
        self.kept = Some(host.disk.log().reopen());
        self.model.ended_process(cleanly, self.clock.now());
    }

    /// Told to stop.
    pub(super) fn drain(&mut self) -> Checked {
        let Some(host) = &mut self.host else { return Ok(()) };
        let dispatch = host.dispatch.clone();
        let mut drained = Box::pin(async move { dispatch.drain().await });
        // The word is given before anything else goes on, so that nothing may begin from here on.
        let _pending = drained.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        host.draining = Some(host.runtime.spawn(drained));
        self.model.draining = true;
        self.go_on()
    }

    /// Attempts in hand must end now.
    pub(super) fn hurry(&mut self) -> Checked {
        if let Some(host) = &self.host {
            host.cancel.send_replace(true);
        }
        self.go_on()
    }

    pub(super) fn is_drained(&self) -> bool {
        self.host.as_ref().is_some_and(|host| host.draining.as_ref().is_some_and(JoinHandle::is_finished))
    }

    /// The end of a stop: everything is written, and the log is closed.
    pub(super) fn close(&mut self) -> Checked {
        let Some(host) = &self.host else { return Ok(()) };
        host.stop.send_replace(true);
        self.commit()?;
        self.end_process(true);
        Ok(())
    }

    /// Whether the dispatcher believes that nothing is left to do.
    pub(super) fn believes_settled(&mut self, through: Seq) -> Result<bool, Violation> {
        let Some(host) = &mut self.host else { return Ok(false) };
        let dispatch = host.dispatch.clone();
        let asked = host.runtime.spawn(async move { dispatch.settled(Some(through)).await });
        self.go_on()?;
        Ok(asked.is_finished())
    }

    /// How each consumer stands, for people.
    pub(super) fn standings(&self) -> String {
        let Some(host) = &self.host else { return "no host".into() };
        let standing = |(name, deployed): (&ConsumerName, &Deployed)| {
            format!("{name}: {:?} {:?}", host.dispatch.standing(name), deployed.spec.delivery)
        };
        self.plan.consumers.iter().map(standing).collect::<Vec<_>>().join("; ")
    }

    pub(super) fn advance(&mut self, by: Duration) -> Checked {
        self.clock.advance(by);
        self.go_on()
    }
}
