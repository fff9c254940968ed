//! The host's side of every capability, as the component imports it.

use std::time::Duration;

use crate::attempt::Budget;
use crate::jobs::Priority;
use crate::log::Level;
use crate::publisher::Draft;
use crate::wasm::imports::tidegate::consumer as wit;
use crate::wasm::{millis, payload, raw};
use crate::{Raw, Refusal, http, publisher, queries, secrets, state};

fn draft(draft: Draft) -> wit::publisher::Draft {
    wit::publisher::Draft {
        type_: draft.event_type,
        payload: wit::types::Payload { content_type: draft.data.content_type, data: draft.data.bytes },
        subject: draft.subject,
        key: draft.key,
        data_version: draft.data_version,
        not_before: draft
            .not_before
            .map(|time| wit::types::Instant { seconds: time.seconds, nanoseconds: time.nanoseconds }),
        attributes: draft.attributes,
    }
}

fn publish_error(error: wit::publisher::PublishError) -> publisher::Error {
    match error {
        wit::publisher::PublishError::NotGranted(what) => publisher::Error::NotGranted(what),
        wit::publisher::PublishError::Invalid(why) => publisher::Error::Invalid(why),
        wit::publisher::PublishError::TooLarge(max) => publisher::Error::TooLarge(max),
        wit::publisher::PublishError::TooMany(max) => publisher::Error::TooMany(max),
        wit::publisher::PublishError::ChainTooDeep(max) => publisher::Error::ChainTooDeep(max),
    }
}

pub(crate) fn publish(event: Draft) -> Result<String, publisher::Error> {
    wit::publisher::publish(&draft(event)).map_err(publish_error)
}

pub(crate) fn enqueue(consumer: &str, event: Draft, priority: Priority) -> Result<String, publisher::Error> {
    let priority = match priority {
        Priority::Low => wit::jobs::Priority::Low,
        Priority::Normal => wit::jobs::Priority::Normal,
        Priority::High => wit::jobs::Priority::High,
    };
    wit::jobs::enqueue(consumer, &draft(event), priority).map_err(publish_error)
}

fn state_error(error: wit::state::StateError) -> state::Error {
    match error {
        wit::state::StateError::Invalid(why) => state::Error::Invalid(why),
        wit::state::StateError::TooLarge(max) => state::Error::TooLarge(max),
        wit::state::StateError::QuotaExceeded(max) => state::Error::QuotaExceeded(max),
        wit::state::StateError::Unavailable(why) => state::Error::Unavailable(why),
    }
}

pub(crate) fn state_get(key: &str) -> Result<Option<Vec<u8>>, state::Error> {
    wit::state::get(key).map_err(state_error)
}

pub(crate) fn state_set(key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), state::Error> {
    wit::state::set(key, &value, ttl.map(millis)).map_err(state_error)
}

pub(crate) fn state_delete(key: &str) -> Result<(), state::Error> {
    wit::state::delete(key).map_err(state_error)
}

pub(crate) fn state_keys(
    prefix: &str,
    after: Option<String>,
    limit: u32,
) -> Result<(Vec<String>, Option<String>), state::Error> {
    wit::state::keys(prefix, after.as_deref(), limit).map(|page| (page.keys, page.next)).map_err(state_error)
}

pub(crate) fn state_compare_and_set(
    key: &str,
    expected: Option<Vec<u8>>,
    value: Vec<u8>,
) -> Result<bool, state::Error> {
    wit::state::compare_and_set(key, expected.as_deref(), &value).map_err(state_error)
}

pub(crate) fn state_increment(key: &str, delta: i64) -> Result<i64, state::Error> {
    wit::state::increment(key, delta).map_err(state_error)
}

pub(crate) fn http_send(request: http::Request) -> Result<http::Response, http::Error> {
    let request = wit::http::Request {
        method: request.method,
        url: request.url,
        headers: request.headers,
        body: request.body,
        timeout_ms: request.timeout.map(millis),
    };
    match wit::http::send(&request) {
        Ok(response) => {
            let answer = http::Response::new(response.status).with_body(response.body);
            Ok(response.headers.into_iter().fold(answer, |answer, (name, value)| answer.with_header(name, value)))
        }
        Err(error) => Err(match error {
            wit::http::HttpError::NotGranted(what) => http::Error::NotGranted(what),
            wit::http::HttpError::Invalid(why) => http::Error::Invalid(why),
            wit::http::HttpError::TimedOut => http::Error::TimedOut,
            wit::http::HttpError::Unreachable(why) => http::Error::Unreachable(why),
            wit::http::HttpError::TooLarge(max) => http::Error::TooLarge(max),
            wit::http::HttpError::TooMany(max) => http::Error::TooMany(max),
        }),
    }
}

/// What goes over the boundary waits for whole milliseconds.
pub(crate) fn ask(query_type: &str, question: Raw, timeout: Duration) -> Result<Raw, queries::Error> {
    use wit::queries::AskError;
    match wit::queries::ask(query_type, &payload(question), millis(timeout)) {
        Ok(answer) => Ok(raw(answer)),
        Err(error) => Err(match error {
            AskError::NotGranted(what) => queries::Error::NotGranted(what),
            AskError::Invalid(why) => queries::Error::Invalid(why),
            AskError::TooLarge(max) => queries::Error::TooLarge(max),
            AskError::TooMany(max) => queries::Error::TooMany(max),
            AskError::ChainTooDeep(max) => queries::Error::ChainTooDeep(max),
            AskError::NoResponder => queries::Error::NoResponder,
            AskError::TimedOut => queries::Error::TimedOut,
            AskError::Refused(refused) => queries::Error::Refused(refusal(refused)),
            AskError::Failed(why) => queries::Error::Failed(why),
        }),
    }
}

fn refusal(refusal: wit::types::Refusal) -> Refusal {
    match refusal {
        wit::types::Refusal::Invalid(why) => Refusal::Invalid(why),
        wit::types::Refusal::NotFound(why) => Refusal::NotFound(why),
        wit::types::Refusal::Unavailable(why) => Refusal::Unavailable(why),
    }
}

pub(crate) fn config_get(key: &str) -> Option<String> {
    wit::config::get(key)
}

pub(crate) fn config_all() -> Vec<(String, String)> {
    wit::config::all()
}

fn secret_error(error: wit::secrets::SecretError) -> secrets::Error {
    match error {
        wit::secrets::SecretError::NotGranted(name) => secrets::Error::NotGranted(name),
        wit::secrets::SecretError::NotRevealable(name) => secrets::Error::NotRevealable(name),
    }
}

pub(crate) fn secret_hmac_sha256(name: &str, message: Vec<u8>) -> Result<Vec<u8>, secrets::Error> {
    wit::secrets::hmac_sha256(name, &message).map_err(secret_error)
}

pub(crate) fn secret_reveal(name: &str) -> Result<String, secrets::Error> {
    wit::secrets::reveal(name).map_err(secret_error)
}

fn log_level(level: Level) -> wit::log::Level {
    match level {
        Level::Trace => wit::log::Level::Trace,
        Level::Debug => wit::log::Level::Debug,
        Level::Info => wit::log::Level::Info,
        Level::Warn => wit::log::Level::Warn,
        Level::Error => wit::log::Level::Error,
    }
}

pub(crate) fn log_write(level: Level, message: String, fields: Vec<(String, String)>) {
    wit::log::write(log_level(level), &message, &fields);
}

pub(crate) fn log_enabled(level: Level) -> bool {
    wit::log::enabled(log_level(level))
}

pub(crate) fn attempt_remaining() -> Budget {
    let left = wit::attempt::remaining();
    Budget { time: Duration::from_millis(left.remaining_ms), fuel: left.remaining_fuel, memory: left.remaining_memory }
}

pub(crate) fn attempt_in_progress() -> Duration {
    Duration::from_millis(wit::attempt::in_progress())
}
