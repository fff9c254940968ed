//! Questions and answers: finds a responder for a question, holds it to its time, and writes down what came of it.
//!
//! Nothing here is durable: whoever asks waits, and a question without an answer leaves nothing to do. Who answers is said by the
//! live generation. Responders run on slots of their own ([`lines`]), beside the attempts of handlers, so that askers that wait
//! for an answer can never have the slot that it needs.

mod lines;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use self::lines::{Candidate, Lines, Ticket};
use crate::clock::Clock;
use crate::dispatch::Guests;
use crate::dispatch::pace::{Meter, Pace, Polite};
use crate::model::question::{QueryNote, Question, Refusal, Reply, Unanswered};
use crate::model::{ConsumerName, Generation, Outcome, Payload, QueryOutcome};
use crate::random::Random;
use crate::registry::{Consumer, Registry, Snapshot};
use crate::sandbox::{Answered, Ask, QuestionCall};
use crate::telemetry::Metrics;

/// A responder is given so long to be ended by the sandbox, which knows what it used, before it is let go of without that.
const GRACE: Duration = Duration::from_millis(100);

/// Which of these consumers are paused.
pub type Paused = Arc<dyn Fn(&ConsumerName) -> bool + Send + Sync>;
/// Takes down what came of a question. Must return at once.
pub type Record = Arc<dyn Fn(QueryNote) + Send + Sync>;

pub struct Options {
    pub clock: Arc<dyn Clock>,
    pub random: Arc<Random>,
    pub metrics: Arc<Metrics>,
    pub guests: Guests,
    /// Slots for questions that no responder asks.
    pub slots: usize,
    pub paused: Paused,
    pub record: Record,
}

/// Where questions are asked. Cheap to clone.
#[derive(Clone)]
pub struct Desk(Arc<Shared>);

struct Shared {
    options: Options,
    /// Consumers are loaded with a way to ask before anything is live.
    registry: OnceLock<Arc<Registry>>,
    state: Mutex<State>,
}

struct State {
    lines: Lines,
    /// Those that stand in line, and how they are told that it is their turn.
    waiting: BTreeMap<Ticket, oneshot::Sender<Place>>,
    meters: BTreeMap<ConsumerName, Meter>,
}

impl Desk {
    pub fn new(options: Options) -> Self {
        let lines = Lines::new(options.slots);
        let state = State { lines, waiting: BTreeMap::new(), meters: BTreeMap::new() };
        Self(Arc::new(Shared { options, registry: OnceLock::new(), state: Mutex::new(state) }))
    }

    /// From now on the registry says who answers.
    pub fn serve(&self, registry: Arc<Registry>) {
        // Said once, by whoever builds the host.
        let _known = self.0.registry.set(registry).is_err();
    }

    /// Has somebody answer. Whoever drops the future does not wait for the answer, and nobody works on it any more.
    pub async fn answer(&self, question: Question) -> Reply {
        let mut asked = Asked::new(&self.0, question);
        let answer = self.answered(&mut asked).await;
        asked.ended(answer)
    }

    async fn answered(&self, asked: &mut Asked) -> Result<Payload, Unanswered> {
        let Some(registry) = self.0.registry.get() else { return Err(Unanswered::NoResponder) };
        let live = registry.current();
        asked.note.generation = live.generation;
        let awake = self.awake(&live, &asked.question.query_type)?;
        let place = self.place(&asked.question, awake).await?;
        asked.note.responder = Some(place.responder.clone());
        let Some(consumer) = live.consumers.get(&place.responder).cloned() else {
            return Err(Unanswered::NoResponder);
        };
        let answered = self.called(asked, consumer, place).await;
        asked.note.fuel = answered.usage.fuel;
        asked.note.logs = answered.logs;
        answered.answer
    }

    /// Who could answer now.
    fn awake(&self, live: &Snapshot, query_type: &str) -> Result<Vec<Candidate>, Unanswered> {
        let answers = |consumer: &&Consumer| consumer.spec.answers.iter().any(|known| known == query_type);
        let (paused, awake): (Vec<&Consumer>, Vec<&Consumer>) =
            live.consumers.values().filter(answers).partition(|consumer| (self.0.options.paused)(&consumer.spec.name));
        if awake.is_empty() {
            let names: Vec<&str> = paused.iter().map(|consumer| consumer.spec.name.as_str()).collect();
            return Err(match names[..] {
                [] => Unanswered::NoResponder,
                _ => unavailable(format!("who answers '{query_type}' is paused: {}", names.join(", "))),
            });
        }
        let candidate = |consumer: &Consumer| Candidate {
            name: consumer.spec.name.clone(),
            places: usize::try_from(consumer.spec.limits.concurrency).unwrap_or(usize::MAX),
        };
        Ok(awake.into_iter().map(candidate).collect())
    }

    /// Waits for a slot and a responder that is free.
    async fn place(&self, question: &Question, awake: Vec<Candidate>) -> Result<Place, Unanswered> {
        let (told, turn) = oneshot::channel();
        let ticket = {
            let mut state = self.0.state();
            let Some(ticket) = state.lines.join(question.depth, awake) else {
                return Err(unavailable("too many questions wait for an answer; ask again after a moment".into()));
            };
            state.waiting.insert(ticket, told);
            ticket
        };
        let _line = Line { shared: &self.0, ticket };
        self.0.tell();
        let late = self.0.options.clock.sleep_until(question.until);
        tokio::select! {
            biased;
            Ok(place) = turn => Ok(place),
            () = late => Err(Unanswered::TimedOut("all who answer were busy until the time was over".into())),
        }
    }

    /// Calls the responder where guests run, and lets go of it when nobody waits any more.
    async fn called(&self, asked: &Asked, consumer: Consumer, place: Place) -> Answered {
        let options = &self.0.options;
        let (name, started_at) = (place.responder.clone(), options.clock.now());
        let call = QuestionCall {
            id: asked.note.id.clone(),
            correlation_id: asked.note.correlation_id.clone(),
            question: asked.question.clone(),
        };
        let shared = Arc::clone(&self.0);
        let answer = async move {
            let answered = AssertUnwindSafe(consumer.handler.answer(call)).catch_unwind().await;
            let answered = answered.unwrap_or_else(|_| {
                shared.options.metrics.host_panic();
                tracing::error!(consumer = %place.responder, "the host panicked while it answered; please report this");
                let reason = "the host failed while it ran the responder; its log says more".to_owned();
                Answered::bare(Err(Unanswered::Failed(Outcome::Trapped, reason)), started_at)
            });
            shared.state().meters.entry(place.responder.clone()).or_default().note(answered.usage.duration);
            drop(place);
            answered
        };
        let pace = self.0.state().meters.get(&name).copied().unwrap_or_default().pace();
        let runtime = match pace {
            Pace::Quick => &options.guests.quick,
            Pace::Slow => &options.guests.slow,
        };
        let task = runtime.spawn(Polite::new(Box::pin(answer)));
        let _hand = Hand(task.abort_handle());
        let late = options.clock.sleep_until(asked.question.until.saturating_add(GRACE));
        tokio::select! {
            biased;
            answered = task => answered.unwrap_or_else(|_| {
                Answered::bare(Err(unavailable("the host is stopping".into())), started_at)
            }),
            () = late => Answered::bare(Err(Unanswered::TimedOut("the responder had no turn in time".into())), started_at),
        }
    }
}

impl Ask for Desk {
    fn ask(&self, question: Question) -> Pin<Box<dyn Future<Output = Result<Payload, Unanswered>> + Send + '_>> {
        Box::pin(async move { self.answer(question).await.answer })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody whose turn it is.
    fn tell(self: &Arc<Self>) {
        loop {
            let (told, place) = {
                let mut state = self.state();
                let Some((ticket, responder)) = state.lines.turn() else { return };
                (state.waiting.remove(&ticket), Place { shared: Arc::clone(self), responder })
            };
            // Whoever has gone meanwhile gives the place back, by dropping it: outside of the lock.
            drop(told.map(|told| told.send(place)));
        }
    }
}

/// A slot, and a place with a responder, until it is dropped.
struct Place {
    shared: Arc<Shared>,
    responder: ConsumerName,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.state().lines.release(&self.responder);
        self.shared.tell();
    }
}

/// Stands in line until it is dropped.
struct Line<'a> {
    shared: &'a Shared,
    ticket: Ticket,
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.lines.leave(self.ticket);
        drop(state.waiting.remove(&self.ticket));
    }
}

/// A responder at work, until it is dropped.
struct Hand(AbortHandle);

impl Drop for Hand {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A question until there is an answer, or nobody waits for one.
struct Asked {
    shared: Arc<Shared>,
    question: Arc<Question>,
    began: Duration,
    note: QueryNote,
    noted: bool,
}

impl Asked {
    fn new(shared: &Arc<Shared>, question: Question) -> Self {
        let options = &shared.options;
        let question = Arc::new(question);
        let id = uuid::Uuid::from_u64_pair(options.random.draw(), options.random.draw());
        let id = uuid::Builder::from_random_bytes(id.into_bytes()).into_uuid().to_string();
        let note = QueryNote {
            correlation_id: question.correlation_id.clone().unwrap_or_else(|| id.clone()),
            id,
            asked_at: options.clock.now(),
            responder: None,
            generation: Generation::default(),
            outcome: QueryOutcome::Abandoned,
            reason: None,
            duration: Duration::ZERO,
            fuel: 0,
            answer_bytes: 0,
            logs: Vec::new(),
            question: question.clone(),
        };
        Self { began: options.clock.monotonic(), shared: Arc::clone(shared), question, note, noted: false }
    }

    fn ended(mut self, answer: Result<Payload, Unanswered>) -> Reply {
        self.note.outcome = answer.as_ref().map_or_else(Unanswered::outcome, |_| QueryOutcome::Answered);
        self.note.reason = answer.as_ref().err().map(Unanswered::reason);
        self.note.answer_bytes = answer.as_ref().map_or(0, |payload| payload.data.len() as u64);
        self.take_down();
        let note = &self.note;
        Reply {
            id: note.id.clone(),
            correlation_id: note.correlation_id.clone(),
            responder: note.responder.clone(),
            duration: note.duration,
            answer,
        }
    }

    fn take_down(&mut self) {
        self.noted = true;
        let options = &self.shared.options;
        self.note.duration = options.clock.monotonic().saturating_sub(self.began);
        options.metrics.query(self.note.responder.as_ref(), self.note.outcome, self.note.duration);
        (options.record)(self.note.clone());
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.noted {
            self.take_down();
        }
    }
}

fn unavailable(why: String) -> Unanswered {
    Unanswered::Refused(Refusal::Unavailable(why))
}
