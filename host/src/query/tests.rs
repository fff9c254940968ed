//! The desk with functions for responders: who is asked, who waits, and that everything is given back and written down.

use tokio::sync::mpsc;

use super::*;
use crate::clock::SystemClock;
use crate::dispatch::scripted;
use crate::model::question::Asker;
use crate::model::spec::{Ceilings, Retention, ServerSpec};
use crate::model::{Deployment, Report};
use crate::registry::catalogue::Catalogue;
use crate::sandbox::{Call, Exports, Invoke};

type Answering = Pin<Box<dyn Future<Output = Result<Payload, Unanswered>> + Send>>;

/// A responder that is a function.
struct Responder(Box<dyn Fn(QuestionCall) -> Answering + Send + Sync>);

impl Invoke for Responder {
    fn exports(&self) -> Exports {
        Exports { responder: true, ..Exports::default() }
    }

    fn invoke(&self, _: Call) -> Pin<Box<dyn Future<Output = Report> + Send + '_>> {
        unreachable!()
    }

    fn invoke_batch(&self, _: Vec<Call>) -> Pin<Box<dyn Future<Output = Result<Vec<Report>, Report>> + Send + '_>> {
        unreachable!()
    }

    fn answer(&self, call: QuestionCall) -> Pin<Box<dyn Future<Output = Answered> + Send + '_>> {
        let answering = (self.0)(call);
        Box::pin(async move { Answered::bare(answering.await, Default::default()) })
    }
}

fn responder(
    name: &str,
    concurrency: u32,
    answer: impl Fn(QuestionCall) -> Answering + Send + Sync + 'static,
) -> Consumer {
    let mut consumer = scripted::consumer(name, "nothing.ever", |_| Outcome::Done);
    let spec = Arc::make_mut(&mut consumer.spec);
    spec.answers = vec!["stock.check".into()];
    spec.limits.concurrency = concurrency;
    consumer.handler = Arc::new(Responder(Box::new(answer)));
    consumer
}

fn text(text: &str) -> Payload {
    Payload { content_type: "text/plain".into(), data: text.to_owned().into() }
}

struct Rig {
    desk: Desk,
    notes: mpsc::UnboundedReceiver<QueryNote>,
    clock: Arc<SystemClock>,
}

fn desk(slots: usize, paused: &'static [&'static str]) -> Rig {
    let here = tokio::runtime::Handle::current();
    let (record, notes) = mpsc::unbounded_channel();
    let clock = Arc::new(SystemClock::new());
    let desk = Desk::new(Options {
        clock: clock.clone(),
        random: Arc::new(Random::seeded(1)),
        metrics: Arc::default(),
        guests: Guests { quick: here.clone(), slow: here, threads: 1 },
        slots,
        paused: Arc::new(|name| paused.contains(&name.as_str())),
        record: Arc::new(move |note| record.send(note).unwrap()),
    });
    Rig { desk, notes, clock }
}

impl Rig {
    fn serve(&self, responders: Vec<Consumer>) {
        let consumers = responders.into_iter().map(|consumer| (consumer.spec.name.clone(), consumer)).collect();
        self.desk.serve(Arc::new(Registry::new(Snapshot {
            generation: Generation(3),
            deployment: Arc::new(deployment()),
            consumers: Arc::new(consumers),
            catalogue: Arc::new(Catalogue::default()),
        })));
    }

    fn question(&self, wait: Duration) -> Question {
        Question {
            query_type: "stock.check".into(),
            payload: text("tea?"),
            correlation_id: None,
            traceparent: None,
            asker: Asker::Client,
            depth: 1,
            until: self.clock.monotonic() + wait,
        }
    }

    fn patient(&self) -> Question {
        self.question(Duration::from_secs(3_600))
    }

    fn words(&mut self) -> Vec<&'static str> {
        std::iter::from_fn(|| self.notes.try_recv().ok()).map(|note| note.outcome.as_str()).collect()
    }

    fn in_hand(&self) -> usize {
        self.desk.0.state().lines.in_hand()
    }
}

fn deployment() -> Deployment {
    let day = Duration::from_secs(86_400);
    Deployment {
        server: ServerSpec { listen: ([127, 0, 0, 1], 0).into(), hosts: vec![], tokens: vec![], grace: day },
        database: "x.db".into(),
        folder: None,
        retention: Retention { events: day, outcomes: day },
        ceilings: Ceilings::default(),
        events: BTreeMap::new(),
        consumers: BTreeMap::new(),
        pipelines: BTreeMap::new(),
        schedules: BTreeMap::new(),
    }
}

/// Who was asked, in order, and the permission to answer.
type Begun = mpsc::UnboundedReceiver<(String, oneshot::Sender<()>)>;

/// Responders that answer when they may.
fn held() -> (impl Fn(&str, u32) -> Consumer, Begun) {
    let (begin, begun) = mpsc::unbounded_channel();
    let make = move |name: &str, concurrency| {
        let (begin, own) = (begin.clone(), name.to_owned());
        responder(name, concurrency, move |_| {
            let (go, gone) = oneshot::channel();
            begin.send((own.clone(), go)).unwrap();
            let own = own.clone();
            Box::pin(async move {
                gone.await.map_err(|_| Unanswered::Failed(Outcome::Trapped, "let go".into()))?;
                Ok(text(&own))
            })
        })
    };
    (make, begun)
}

#[tokio::test]
async fn a_question_finds_its_responder_and_is_written_down() {
    let mut rig = desk(4, &["asleep"]);
    let reply = rig.desk.answer(rig.patient()).await;
    assert_eq!(reply.answer, Err(Unanswered::NoResponder), "nothing is live yet");
    let echo = |call: QuestionCall| -> Answering { Box::pin(async move { Ok(call.question.payload.clone()) }) };
    rig.serve(vec![responder("awake", 1, echo), responder("asleep", 1, echo)]);
    let question = Question { correlation_id: Some("c-1".into()), ..rig.patient() };
    let reply = rig.desk.answer(question).await;
    assert_eq!((reply.answer, reply.correlation_id.as_str()), (Ok(text("tea?")), "c-1"));
    assert_eq!(reply.responder.as_ref().map(ConsumerName::as_str), Some("awake"));
    let other = Question { query_type: "stock.count".into(), ..rig.patient() };
    assert_eq!(rig.desk.answer(other).await.answer, Err(Unanswered::NoResponder));
    assert_eq!(rig.words(), ["no-responder", "answered", "no-responder"]);
    let mut asked = rig.patient();
    asked.correlation_id = None;
    let reply = rig.desk.answer(asked).await;
    let note = rig.notes.try_recv().unwrap();
    assert_eq!((&note.id, &note.correlation_id), (&reply.id, &reply.id), "its own id");
    assert_eq!((note.generation, note.answer_bytes), (Generation(3), 4));
    assert_eq!(rig.in_hand(), 0);
}

#[tokio::test]
async fn who_is_paused_does_not_answer() {
    let mut rig = desk(4, &["one", "two"]);
    let echo = |call: QuestionCall| -> Answering { Box::pin(async move { Ok(call.question.payload.clone()) }) };
    rig.serve(vec![responder("one", 1, echo), responder("two", 1, echo)]);
    let reply = rig.desk.answer(rig.patient()).await;
    let why = "who answers 'stock.check' is paused: one, two".to_owned();
    assert_eq!(reply.answer, Err(unavailable(why)));
    assert_eq!(rig.words(), ["unavailable"]);
}

#[tokio::test]
async fn a_question_waits_for_a_place_until_its_time_is_over() {
    let mut rig = desk(4, &[]);
    let (make, mut begun) = held();
    rig.serve(vec![make("one", 1)]);
    let first = tokio::spawn({
        let (desk, question) = (rig.desk.clone(), rig.patient());
        async move { desk.answer(question).await }
    });
    let (_, go) = begun.recv().await.unwrap();
    let late = rig.desk.answer(rig.question(Duration::ZERO)).await;
    assert!(matches!(late.answer, Err(Unanswered::TimedOut(_))), "{late:?}");
    assert_eq!(late.responder, None);
    let second = tokio::spawn({
        let (desk, question) = (rig.desk.clone(), rig.patient());
        async move { desk.answer(question).await }
    });
    go.send(()).unwrap();
    assert_eq!(first.await.unwrap().answer, Ok(text("one")));
    let (_, go) = begun.recv().await.unwrap();
    go.send(()).unwrap();
    assert_eq!(second.await.unwrap().answer, Ok(text("one")), "the place was given back");
    assert_eq!(rig.words(), ["timed-out", "answered", "answered"]);
    assert_eq!(rig.in_hand(), 0);
}

#[tokio::test]
async fn who_does_not_wait_any_longer_ends_the_work_and_is_written_down() {
    let mut rig = desk(1, &[]);
    let (make, mut begun) = held();
    rig.serve(vec![make("one", 1)]);
    let asking = |rig: &Rig| {
        let (desk, question) = (rig.desk.clone(), rig.patient());
        tokio::spawn(async move { desk.answer(question).await })
    };
    let (working, waiting) = (asking(&rig), asking(&rig));
    let (_, mut go) = begun.recv().await.unwrap();
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    working.abort();
    assert!(working.await.unwrap_err().is_cancelled());
    go.closed().await;
    assert_eq!(rig.words(), ["abandoned", "abandoned"]);
    let next = asking(&rig);
    let (_, go) = begun.recv().await.unwrap();
    go.send(()).unwrap();
    assert!(next.await.unwrap().answer.is_ok());
}

#[tokio::test]
async fn a_responder_that_brings_the_host_down_is_caught() {
    let mut rig = desk(1, &[]);
    rig.serve(vec![responder("one", 1, |_| Box::pin(async { panic!("a mistake in the host") }))]);
    for _ in 0..2 {
        let reply = rig.desk.answer(rig.patient()).await;
        assert!(matches!(reply.answer, Err(Unanswered::Failed(Outcome::Trapped, _))), "{reply:?}");
    }
    assert_eq!(rig.words(), ["failed", "failed"]);
    assert_eq!(rig.in_hand(), 0, "its slot was given back");
}

/// One slot, and responders that each ask the next before they answer.
#[tokio::test]
async fn questions_nest_without_waiting_for_one_another() {
    let mut rig = desk(1, &[]);
    let desk = rig.desk.clone();
    let nesting = responder("nest", 100, move |call| {
        let (desk, question) = (desk.clone(), (*call.question).clone());
        Box::pin(async move {
            if question.depth == crate::model::limit::QUESTION_DEPTH_MAX {
                return Ok(text("bottom"));
            }
            let asker = Asker::Responder { query: call.id, consumer: ConsumerName::new("nest").unwrap() };
            desk.answer(Question { depth: question.depth + 1, asker, ..question }).await.answer
        })
    });
    rig.serve(vec![nesting]);
    let all = futures_util::future::join_all((0..20).map(|_| rig.desk.answer(rig.patient()))).await;
    assert!(all.iter().all(|reply| reply.answer == Ok(text("bottom"))));
    assert_eq!(rig.words().len(), 20 * 8);
    assert_eq!(rig.in_hand(), 0);
}
