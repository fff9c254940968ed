//! The host's side of every capability in a native test: a value on this thread that the calls read and change.
//!
//! It refuses what the host refuses, with the same errors.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use hmac::Mac as _;

use crate::attempt::Budget;
use crate::jobs::Priority;
use crate::log::Level;
use crate::publisher::Draft;
use crate::testing::{Line, limit, pattern};
use crate::{Question, Raw, http, publisher, queries, secrets, state};

/// A stub's answer to a request.
pub(crate) type Answer = Rc<dyn Fn(&http::Request) -> Result<http::Response, http::Error>>;

/// A stub's answer to a question.
pub(crate) type Answering = Rc<dyn Fn(&Question) -> Result<Raw, queries::Error>>;

/// A stubbed address.
#[derive(Clone)]
pub(crate) struct Stub {
    pub(crate) method: String,
    /// The whole address, or its beginning and a `*`.
    pub(crate) url: String,
    pub(crate) answer: Answer,
}

/// A secret as the manifest would grant it.
#[derive(Clone)]
pub(crate) struct Secret {
    pub(crate) value: String,
    pub(crate) reveal: bool,
}

/// What was published, with its id; and for whom it is, if it is a job.
pub(crate) type Held = (String, Draft, Option<(String, Priority)>);

/// A value in state and how long it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) value: Vec<u8>,
    pub(crate) ttl: Option<Duration>,
}

/// What a test has set up. One attempt works on a copy, which is kept only if the attempt is done.
#[derive(Clone)]
pub(crate) struct Harness {
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// None: every type may be published.
    pub(crate) publish: Option<Vec<String>>,
    /// None: every consumer may be given jobs.
    pub(crate) jobs: Option<Vec<String>>,
    /// None: every type may be asked.
    pub(crate) queries: Option<Vec<String>>,
    /// Who answers, by type.
    pub(crate) responders: BTreeMap<String, Answering>,
    /// What is tested is a responder, which leaves nothing behind.
    pub(crate) answering: bool,
    pub(crate) stubs: Vec<Stub>,
    pub(crate) budget: Budget,
    pub(crate) state: BTreeMap<String, Kept>,
    pub(crate) published: Vec<Held>,
    pub(crate) logs: Vec<Line>,
    pub(crate) requests: Vec<http::Request>,
    pub(crate) questions: Vec<Question>,
    pub(crate) in_progress: u32,
}

thread_local! {
    static CURRENT: RefCell<Option<Harness>> = const { RefCell::new(None) };
}

/// Puts the harness in place, runs `attempt`, and gives both back. A panic in `attempt` takes the harness away, too.
pub(crate) fn during<T>(harness: Harness, attempt: impl FnOnce() -> T) -> (Harness, T) {
    struct Clear;
    impl Drop for Clear {
        fn drop(&mut self) {
            CURRENT.with_borrow_mut(|current| *current = None);
        }
    }
    let _clear = Clear;
    CURRENT.with_borrow_mut(|current| *current = Some(harness));
    let result = attempt();
    (with(|harness| harness.clone()), result)
}

fn with<T>(call: impl FnOnce(&mut Harness) -> T) -> T {
    CURRENT.with_borrow_mut(|current| call(current.as_mut().unwrap_or_else(|| nobody_answers())))
}

#[expect(clippy::panic, reason = "a test that forgot its harness must fail, and say how to mend it")]
fn nobody_answers() -> ! {
    panic!(
        "a capability was called natively, where there is no host to answer: run the handler through \
         `tidegate_sdk::testing::Test::new(handler).event(\"order.created\", json!({{ … }})).run()`, on the test's own thread"
    )
}

pub(crate) fn publish(draft: Draft) -> Result<String, publisher::Error> {
    with(|harness| {
        if harness.answering {
            return Err(publisher::Error::Invalid("an answer publishes nothing: it is a look at things".into()));
        }
        if let Err(why) = pattern::check_type(&draft.event_type) {
            return Err(publisher::Error::Invalid(why));
        }
        let granted = harness.publish.as_ref();
        let granted = granted.is_none_or(|granted| granted.iter().any(|one| pattern::matches(one, &draft.event_type)));
        if !granted || pattern::is_host_type(&draft.event_type) {
            return Err(publisher::Error::NotGranted(draft.event_type));
        }
        hold(harness, draft, None)
    })
}

pub(crate) fn enqueue(consumer: &str, draft: Draft, priority: Priority) -> Result<String, publisher::Error> {
    with(|harness| {
        if let Err(why) = pattern::check_type(&draft.event_type) {
            return Err(publisher::Error::Invalid(why));
        }
        let granted = harness.jobs.as_ref().is_none_or(|granted| granted.iter().any(|one| one == consumer));
        if !granted || pattern::is_host_type(&draft.event_type) {
            return Err(publisher::Error::NotGranted(consumer.to_owned()));
        }
        hold(harness, draft, Some((consumer.to_owned(), priority)))
    })
}

fn hold(harness: &mut Harness, draft: Draft, job: Option<(String, Priority)>) -> Result<String, publisher::Error> {
    if draft.data.bytes.len() > limit::EVENT_BYTES {
        return Err(publisher::Error::TooLarge(limit::EVENT_BYTES as u64));
    }
    if harness.published.len() >= limit::PUBLISHED_MAX as usize {
        return Err(publisher::Error::TooMany(limit::PUBLISHED_MAX));
    }
    let id = format!("published-{}", harness.published.len() + 1);
    harness.published.push((id.clone(), draft, job));
    Ok(id)
}

fn check_key(key: &str) -> Result<(), state::Error> {
    if key.is_empty() || key.len() > limit::STATE_KEY_BYTES_MAX {
        return Err(state::Error::Invalid(format!("a key has 1 to {} bytes", limit::STATE_KEY_BYTES_MAX)));
    }
    Ok(())
}

fn writes() -> Result<(), state::Error> {
    if with(|harness| harness.answering) {
        return Err(state::Error::Invalid("an answer writes nothing: it is a look at things".into()));
    }
    Ok(())
}

pub(crate) fn state_get(key: &str) -> Result<Option<Vec<u8>>, state::Error> {
    check_key(key)?;
    Ok(with(|harness| harness.state.get(key).map(|kept| kept.value.clone())))
}

pub(crate) fn state_set(key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), state::Error> {
    check_key(key)?;
    if value.len() > limit::STATE_VALUE_BYTES_MAX {
        return Err(state::Error::TooLarge(limit::STATE_VALUE_BYTES_MAX as u64));
    }
    writes()?;
    with(|harness| harness.state.insert(key.to_owned(), Kept { value, ttl }));
    Ok(())
}

pub(crate) fn state_delete(key: &str) -> Result<(), state::Error> {
    check_key(key)?;
    writes()?;
    with(|harness| harness.state.remove(key));
    Ok(())
}

pub(crate) fn state_keys(
    prefix: &str,
    after: Option<String>,
    limit: u32,
) -> Result<(Vec<String>, Option<String>), state::Error> {
    let limit = limit as usize;
    let mut keys: Vec<String> = with(|harness| {
        let from = after.map_or(Bound::Included(prefix.to_owned()), Bound::Excluded);
        let keys = harness.state.range((from, Bound::Unbounded)).map(|(key, _)| key);
        keys.filter(|key| key.starts_with(prefix)).take(limit + 1).cloned().collect()
    });
    let more = keys.len() > limit;
    keys.truncate(limit);
    let next = if more { keys.last().cloned() } else { None };
    Ok((keys, next))
}

pub(crate) fn state_compare_and_set(
    key: &str,
    expected: Option<Vec<u8>>,
    value: Vec<u8>,
) -> Result<bool, state::Error> {
    if state_get(key)? != expected {
        return Ok(false);
    }
    state_set(key, value, None).map(|()| true)
}

pub(crate) fn state_increment(key: &str, delta: i64) -> Result<i64, state::Error> {
    let no_counter = |why: &str| state::Error::Invalid(format!("{key:?} {why}"));
    let present = match state_get(key)? {
        Some(value) => String::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok()),
        None => Some(0),
    };
    let present = present.ok_or_else(|| no_counter("is no counter"))?;
    let next = present.checked_add(delta).ok_or_else(|| no_counter("would overflow"))?;
    state_set(key, next.to_string().into_bytes(), None).map(|()| next)
}

/// The stub runs without the harness being held, so that it may use it.
pub(crate) fn ask(query_type: &str, question: Raw, timeout: Duration) -> Result<Raw, queries::Error> {
    let (stub, question) = with(|harness| {
        pattern::check_type(query_type).map_err(queries::Error::Invalid)?;
        let granted = harness.queries.as_ref();
        if !granted.is_none_or(|granted| granted.iter().any(|one| pattern::matches(one, query_type))) {
            return Err(queries::Error::NotGranted(query_type.to_owned()));
        }
        if harness.questions.len() >= limit::QUESTIONS_MAX as usize {
            return Err(queries::Error::TooMany(limit::QUESTIONS_MAX));
        }
        if question.bytes.len() > limit::QUESTION_BYTES_MAX {
            return Err(queries::Error::TooLarge(limit::QUESTION_BYTES_MAX as u64));
        }
        let stub = harness.responders.get(query_type).map(Rc::clone).ok_or(queries::Error::NoResponder)?;
        let question = Question {
            data: question,
            id: format!("question-{}", harness.questions.len() + 1),
            question_type: query_type.to_owned(),
            correlation_id: "correlation-1".into(),
            deadline: timeout.min(harness.budget.time),
        };
        harness.questions.push(question.clone());
        Ok((stub, question))
    })?;
    stub(&question)
}

/// The stub runs without the harness being held, so that it may use it.
pub(crate) fn http_send(request: http::Request) -> Result<http::Response, http::Error> {
    let answer = with(|harness| {
        let Some((scheme, rest)) = request.url.split_once("://") else {
            return Err(http::Error::Invalid(format!("{:?} is not an absolute address", request.url)));
        };
        if harness.requests.len() >= limit::HTTP_REQUESTS_MAX as usize {
            return Err(http::Error::TooMany(limit::HTTP_REQUESTS_MAX));
        }
        let fits = |stub: &&Stub| {
            stub.method.eq_ignore_ascii_case(&request.method) && pattern::address(&stub.url, &request.url)
        };
        let stub = harness.stubs.iter().find(fits).map(|stub| Rc::clone(&stub.answer));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let answer = stub.ok_or_else(|| http::Error::NotGranted(format!("{scheme}://{authority}")))?;
        harness.requests.push(request.clone());
        Ok(answer)
    })?;
    answer(&request)
}

pub(crate) fn config_get(key: &str) -> Option<String> {
    with(|harness| harness.config.get(key).cloned())
}

pub(crate) fn config_all() -> Vec<(String, String)> {
    with(|harness| harness.config.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
}

fn secret(name: &str) -> Result<Secret, secrets::Error> {
    with(|harness| harness.secrets.get(name).cloned()).ok_or_else(|| secrets::Error::NotGranted(name.to_owned()))
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
pub(crate) fn secret_hmac_sha256(name: &str, message: Vec<u8>) -> Result<Vec<u8>, secrets::Error> {
    let secret = secret(name)?;
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret.value.as_bytes()).expect("any key length");
    mac.update(&message);
    Ok(mac.finalize().into_bytes().to_vec())
}

pub(crate) fn secret_reveal(name: &str) -> Result<String, secrets::Error> {
    let secret = secret(name)?;
    if secret.reveal { Ok(secret.value) } else { Err(secrets::Error::NotRevealable(name.to_owned())) }
}

pub(crate) fn log_write(level: Level, message: String, fields: Vec<(String, String)>) {
    with(|harness| harness.logs.push(Line { level, message, fields }));
}

pub(crate) fn log_enabled(_level: Level) -> bool {
    true
}

pub(crate) fn attempt_remaining() -> Budget {
    with(|harness| harness.budget)
}

pub(crate) fn attempt_in_progress() -> Duration {
    with(|harness| {
        harness.in_progress += 1;
        harness.budget.time
    })
}
