//! A responder in the engine: each way to answer and not to, and handlers that ask.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::testing::{self, all_grants, sandbox};
use super::{Answered, Ask, Dependencies, Invoke, LoadError, LoadedComponent, QuestionCall, Sandbox, Ungranted};
use crate::model::question::{Asker, Question, Refusal, Unanswered};
use crate::model::spec::{Ceilings, ConsumerSpec};
use crate::model::{ConsumerName, Limits, Outcome, Payload, TypePattern};

fn limits() -> Limits {
    Limits { timeout: Duration::from_secs(60), fuel: 20_000_000, ..Limits::default() }
}

fn responding(limits: Limits) -> ConsumerSpec {
    ConsumerSpec { answers: vec!["stock.check".into()], ..testing::spec(limits, all_grants()) }
}

fn json(text: &str) -> Payload {
    Payload { content_type: "application/json".into(), data: text.to_owned().into() }
}

fn call(then: &str, until: Duration) -> QuestionCall {
    let question = Question {
        query_type: "stock.check".into(),
        payload: json(&format!("{{\"then\":\"{then}\"}}")),
        correlation_id: None,
        traceparent: None,
        asker: Asker::Client,
        depth: 1,
        until,
    };
    QuestionCall { id: "q-1".into(), correlation_id: "c-1".into(), question: Arc::new(question) }
}

async fn told(sandbox: &Sandbox, responder: &LoadedComponent, then: &str) -> Answered {
    responder.answer(call(then, sandbox.runtime.clock.monotonic() + Duration::from_secs(600))).await
}

#[tokio::test]
async fn each_word_of_a_responder_is_told_apart() {
    let sandbox = sandbox();
    let stock = testing::load(&sandbox, "stock", &responding(limits())).await.unwrap();
    let refused = |refusal: fn(String) -> Refusal, why: &str| Err(Unanswered::Refused(refusal(why.to_owned())));
    for (then, answer) in [
        ("echo", Ok(json(r#"{"n":0,"told":"echo"}"#))),
        ("count", Ok(json("0"))),
        ("correlation", Ok(json(r#""c-1""#))),
        ("empty", Ok(Payload::nothing())),
        ("invalid", refused(Refusal::Invalid, "no such sku")),
        ("not-found", refused(Refusal::NotFound, "none in stock")),
        ("unavailable", refused(Refusal::Unavailable, "being counted")),
    ] {
        assert_eq!(told(&sandbox, &stock, then).await.answer, answer, "{then}");
    }
    for (then, outcome, why) in [
        ("panic", Outcome::Trapped, "out of shelves"),
        ("spin", Outcome::OutOfFuel, "20000000 units"),
        ("huge", Outcome::OverLimit, "an answer of 1048577 bytes; the limit is 1048576"),
    ] {
        match told(&sandbox, &stock, then).await.answer {
            Err(Unanswered::Failed(failed, reason)) => {
                assert!(failed == outcome && reason.contains(why), "{then}: {failed:?} {reason}");
            }
            other => panic!("{then}: {other:?}"),
        }
    }
    let logged = told(&sandbox, &stock, "log").await;
    assert_eq!(logged.logs[0].message, "asked stock.check");
    assert!(logged.usage.fuel > 0);
    let unfit = QuestionCall {
        question: Arc::new(Question { payload: json("7"), ..(*call("", Duration::MAX).question).clone() }),
        ..call("", Duration::ZERO)
    };
    assert!(matches!(stock.answer(unfit).await.answer, Err(Unanswered::Refused(Refusal::Invalid(_)))));
    assert_eq!(sandbox.counters().memory_bytes, 0);
}

#[tokio::test]
async fn an_answer_leaves_nothing_behind() {
    let sandbox = sandbox();
    let stock = testing::load(&sandbox, "stock", &responding(limits())).await.unwrap();
    for (then, why) in [("write", "writes nothing"), ("publish", "publishes nothing")] {
        let answer = told(&sandbox, &stock, then).await.answer.unwrap();
        assert!(String::from_utf8_lossy(&answer.data).contains(why), "{answer:?}");
    }
}

#[tokio::test]
async fn a_responder_has_the_time_that_its_asker_has_and_no_more_than_its_own() {
    let sandbox = sandbox();
    let now = || sandbox.runtime.clock.monotonic();
    let stock = testing::load(&sandbox, "stock", &responding(limits())).await.unwrap();
    let left = stock.answer(call("deadline", now() + Duration::from_secs(600))).await.answer.unwrap();
    assert_eq!(left.data, "60000", "its own limit");
    let late = stock.answer(call("sleep", now() + Duration::from_millis(50))).await.answer;
    let Err(Unanswered::TimedOut(why)) = late else { panic!("{late:?}") };
    assert!(why.starts_with("the responder was still running after "), "{why}");
    assert!(
        matches!(stock.answer(call("echo", Duration::ZERO)).await.answer, Err(Unanswered::TimedOut(_))),
        "too late"
    );
    let short = Limits { timeout: Duration::from_millis(50), ..limits() };
    let short = testing::load(&sandbox, "stock", &responding(short)).await.unwrap();
    assert!(matches!(told(&sandbox, &short, "sleep").await.answer, Err(Unanswered::TimedOut(_))));
}

#[tokio::test]
async fn answers_have_slots_beside_those_of_attempts() {
    let sandbox = testing::sandbox_with(Ceilings { attempts: 1, ..Ceilings::default() });
    let stock = testing::load(&sandbox, "stock", &responding(limits())).await.unwrap();
    let _all = sandbox.runtime.permits.acquire_many(1).await.unwrap();
    assert!(told(&sandbox, &stock, "echo").await.answer.is_ok(), "no attempt could begin now");
}

#[tokio::test]
async fn what_answers_and_what_the_manifest_says_must_agree() {
    let sandbox = sandbox();
    let unsaid = testing::load(&sandbox, "stock", &testing::spec(limits(), all_grants())).await.unwrap_err();
    assert!(matches!(unsaid, LoadError::NoAnswers), "{unsaid}");
    let mute = testing::load(&sandbox, "ledger", &responding(limits())).await.unwrap_err();
    assert!(matches!(mute, LoadError::NoResponder), "{mute}");
    let spec =
        ConsumerSpec { grants: crate::model::Grants { queries: Vec::new(), ..all_grants() }, ..responding(limits()) };
    match testing::load(&sandbox, "asker", &spec).await.unwrap_err() {
        LoadError::Imports { not_granted, .. } => {
            assert_eq!(not_granted, [Ungranted { import: "tidegate:consumer/queries@0.1.0".into(), grant: "queries" }]);
        }
        other => panic!("{other}"),
    }
    let ledger = testing::load(&sandbox, "ledger", &testing::spec(limits(), all_grants())).await.unwrap();
    let answer = told(&sandbox, &ledger, "echo").await.answer;
    let why = "the component of `guest` exports no responder".to_owned();
    assert_eq!(answer, Err(Unanswered::Failed(Outcome::Refused, why)));
}

/// Remembers what it was asked, and answers as it is told to.
#[derive(Default)]
struct Oracle {
    asked: Mutex<Vec<Question>>,
    answers: Mutex<Vec<Result<Payload, Unanswered>>>,
}

impl Ask for Oracle {
    fn ask(&self, question: Question) -> Pin<Box<dyn Future<Output = Result<Payload, Unanswered>> + Send + '_>> {
        self.asked.lock().unwrap().push(question);
        let answer = self.answers.lock().unwrap().pop().unwrap_or(Ok(json("7")));
        Box::pin(std::future::ready(answer))
    }
}

async fn asker(sandbox: &Sandbox, oracle: &Arc<Oracle>) -> LoadedComponent {
    let dependencies = Dependencies { asker: oracle.clone(), ..Dependencies::none() };
    sandbox.load(testing::guest("asker"), &testing::spec(limits(), all_grants()), dependencies).await.unwrap()
}

async fn said(asker: &LoadedComponent, ask: &str) -> String {
    let report = testing::run(asker, ask).await;
    let output = report.output.unwrap_or_else(|| panic!("{:?} {:?}", report.outcome, report.reason));
    String::from_utf8(output.data.to_vec()).unwrap()
}

#[tokio::test]
async fn a_handler_asks_and_is_told_each_way_apart() {
    let sandbox = sandbox();
    let oracle = Arc::new(Oracle::default());
    let asker = asker(&sandbox, &oracle).await;
    let refused = |refusal: fn(String) -> Refusal| Err(Unanswered::Refused(refusal("why".to_owned())));
    let ask = r#"{"type":"stock.check","question":{"sku":"tea"}}"#;
    assert_eq!(said(&asker, ask).await, r#"{"answer":7}"#);
    for (answer, word) in [
        (Err(Unanswered::NoResponder), "no-responder"),
        (Err(Unanswered::TimedOut("why".into())), "timed-out"),
        (refused(Refusal::Invalid), "invalid"),
        (refused(Refusal::NotFound), "not-found"),
        (refused(Refusal::Unavailable), "unavailable"),
        (Err(Unanswered::Failed(Outcome::Trapped, "why".into())), "failed"),
    ] {
        oracle.answers.lock().unwrap().push(answer);
        let said = said(&asker, ask).await;
        assert!(said.contains(&format!("\"error\":\"{word}\"")), "{said}");
    }
    let asked = oracle.asked.lock().unwrap().remove(0);
    assert_eq!((asked.query_type.as_str(), &asked.payload), ("stock.check", &json(r#"{"sku":"tea"}"#)));
    assert_eq!((asked.correlation_id.as_deref(), asked.depth), (Some("correlation-1"), 1));
    let Asker::Delivery { id, call } = asked.asker else { panic!("{:?}", asked.asker) };
    assert_eq!((id.to_string().as_str(), call), ("7/guest", 1));
}

#[tokio::test]
async fn questions_are_bounded_in_number_bytes_time_and_by_grants() {
    let sandbox = sandbox();
    let oracle = Arc::new(Oracle::default());
    let asker = asker(&sandbox, &oracle).await;
    let ask = |more: &str| format!(r#"{{"type":"stock.check","question":1{more}}}"#);
    let many = said(&asker, &ask(r#","times":33"#)).await;
    assert!(many.contains("too-many") && oracle.asked.lock().unwrap().len() == 32, "{many}");
    let large = format!(r#"{{"type":"stock.check","question":"{}"}}"#, "x".repeat(256 << 10));
    assert!(said(&asker, &large).await.contains("too-large"));
    let invalid = said(&asker, r#"{"type":"stock check","question":1}"#).await;
    assert!(invalid.contains("not-valid"), "{invalid}");
    let foreign = said(&asker, r#"{"type":"price.check","question":1}"#).await;
    assert!(foreign.contains("not-granted"), "{foreign}");
    oracle.asked.lock().unwrap().clear();
    let before = sandbox.runtime.clock.monotonic();
    said(&asker, &ask("")).await;
    said(&asker, &ask(r#","timeoutMs":100"#)).await;
    let after = sandbox.runtime.clock.monotonic();
    let until: Vec<Duration> = oracle.asked.lock().unwrap().iter().map(|question| question.until).collect();
    assert!(until[0] >= before + limits().timeout && until[0] <= after + limits().timeout, "the attempt's own limit");
    assert!(until[1] <= after + Duration::from_millis(100));
}

/// Has the same responder answer what it asks, a level further down.
struct Mirror(Mutex<Option<Arc<LoadedComponent>>>, Mutex<Vec<(u32, Asker)>>);

impl Ask for Mirror {
    fn ask(&self, question: Question) -> Pin<Box<dyn Future<Output = Result<Payload, Unanswered>> + Send + '_>> {
        self.1.lock().unwrap().push((question.depth, question.asker.clone()));
        let responder = self.0.lock().unwrap().clone().unwrap();
        let id = format!("q-{}", question.depth);
        let call = QuestionCall { id, correlation_id: "c".into(), question: Arc::new(question) };
        Box::pin(async move { responder.answer(call).await.answer })
    }
}

#[tokio::test]
async fn questions_nest_as_deep_as_the_chain_may_be_and_no_deeper() {
    let sandbox = sandbox();
    for (chain_depth, deepest) in [(1, 1), (3, 3), (100, 8)] {
        let mirror = Arc::new(Mirror(Mutex::default(), Mutex::default()));
        let dependencies = Dependencies { asker: mirror.clone(), ..Dependencies::none() };
        let spec = responding(Limits { chain_depth, ..limits() });
        let stock = Arc::new(sandbox.load(testing::guest("stock"), &spec, dependencies).await.unwrap());
        *mirror.0.lock().unwrap() = Some(stock.clone());
        let answer = told(&sandbox, &stock, "nest").await.answer;
        assert_eq!(answer, Ok(json(&deepest.to_string())), "chain-depth {chain_depth}");
        let asked = mirror.1.lock().unwrap();
        let depths: Vec<u32> = asked.iter().map(|(depth, _)| *depth).collect();
        assert_eq!(depths, (2..=deepest).collect::<Vec<u32>>());
        if let Some((_, asker)) = asked.first() {
            let consumer = ConsumerName::new("guest").unwrap();
            assert_eq!(*asker, Asker::Responder { query: "q-1".into(), consumer });
        }
    }
    assert!(all_grants().queries.contains(&TypePattern::new("stock.*").unwrap()));
}
