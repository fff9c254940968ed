//! The consumer's own keys and values. Reads see the attempt's own writes; writes commit with the outcome. What was
//! read is remembered with its version, so that the settlement notices if another attempt was faster.
//!
//! A counter is a decimal 64-bit integer as text, so that it can be read in the database and by `get`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;

use super::super::bindings::state::{self, Page, StateError};
use super::super::instance::Host;
use super::super::limits::Stop;
use crate::model::limit::{
    DELAY_MS_MAX, STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX, STATE_WRITES_BYTES_MAX, STATE_WRITES_MAX,
};
use crate::model::outcome::{StateChanges, StateWrite};
use crate::model::{ConsumerName, Timestamp};

/// Keys of one page.
const PAGE_MAX: u32 = 1_000;

/// Committed state, read. `now` is the attempt's time: what has expired by then is absent. Errors are sentences.
pub trait StateRead: Send + Sync {
    /// The value and its version, which is greater than 0.
    fn get(&self, consumer: &ConsumerName, key: &str, now: Timestamp) -> Result<Option<(Bytes, u64)>, String>;

    /// Keys that begin with `prefix` and come after `after` in byte order, at most `limit`, and the consumer's state
    /// revision under which they were read.
    fn keys(&self, consumer: &ConsumerName, list: &List<'_>, now: Timestamp) -> Result<(Vec<String>, u64), String>;

    /// Bytes of keys and values that the consumer keeps.
    fn bytes(&self, consumer: &ConsumerName) -> Result<u64, String>;
}

/// Which keys.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    pub prefix: &'a str,
    pub after: Option<&'a str>,
    pub limit: u32,
}

/// No state at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoState;

impl StateRead for NoState {
    fn get(&self, _: &ConsumerName, _: &str, _: Timestamp) -> Result<Option<(Bytes, u64)>, String> {
        Ok(None)
    }

    fn keys(&self, _: &ConsumerName, _: &List<'_>, _: Timestamp) -> Result<(Vec<String>, u64), String> {
        Ok((Vec::new(), 0))
    }

    fn bytes(&self, _: &ConsumerName) -> Result<u64, String> {
        Ok(0)
    }
}

/// The attempt's own writes on top of what is committed.
#[derive(Default)]
pub(in crate::sandbox) struct Overlay {
    changes: StateChanges,
    /// Bytes of keys and values written.
    written: u64,
    /// What the consumer kept before, once asked.
    kept: Option<u64>,
}

impl Overlay {
    pub(in crate::sandbox) fn into_changes(self) -> StateChanges {
        self.changes
    }
}

impl Host {
    /// The value as the attempt sees it.
    fn read(&mut self, key: &str) -> Result<Option<Bytes>, StateError> {
        check_key(key)?;
        match self.state.changes.writes.get(key) {
            Some(StateWrite::Set { value, .. }) => return Ok(Some(value.clone())),
            Some(StateWrite::Delete) => return Ok(None),
            None => {}
        }
        let read = self.consumer.dependencies.state.get(&self.consumer.name, key, self.started_at);
        let found = read.map_err(StateError::Unavailable)?;
        let version = found.as_ref().map_or(0, |(_, version)| *version);
        // The first read counts: if the key has changed since, the settlement is a conflict, as it should be.
        self.state.changes.reads.entry(key.to_owned()).or_insert(version);
        Ok(found.map(|(value, _)| value))
    }

    fn write(&mut self, key: String, write: StateWrite) -> wasmtime::Result<Result<(), StateError>> {
        if let Err(error) = check_key(&key) {
            return Ok(Err(error));
        }
        if self.cause.is_question() {
            return Ok(Err(StateError::Invalid("an answer writes nothing: it is a look at things".into())));
        }
        if let StateWrite::Set { value, .. } = &write {
            if value.len() > STATE_VALUE_BYTES_MAX {
                return Ok(Err(StateError::TooLarge(STATE_VALUE_BYTES_MAX as u64)));
            }
            if let Err(error) = self.within_quota(&key, value.len()) {
                return Ok(Err(error));
            }
        }
        if self.state.written > STATE_WRITES_BYTES_MAX as u64 {
            let asked = usize::try_from(self.state.written).unwrap_or(usize::MAX);
            return Err(Stop::Cap { what: "bytes written to state", asked, max: STATE_WRITES_BYTES_MAX }.into());
        }
        let writes = &mut self.state.changes.writes;
        if writes.len() >= STATE_WRITES_MAX && !writes.contains_key(&key) {
            let cap = Stop::Cap { what: "keys written", asked: writes.len() + 1, max: STATE_WRITES_MAX };
            return Err(cap.into());
        }
        writes.insert(key, write);
        Ok(Ok(()))
    }

    /// An early answer for the guest; the settlement decides. What is overwritten is counted as if it stayed.
    fn within_quota(&mut self, key: &str, bytes: usize) -> Result<(), StateError> {
        let quota = self.consumer.grants.state.unwrap_or(0);
        let kept = match self.state.kept {
            Some(kept) => kept,
            None => {
                let kept = self.consumer.dependencies.state.bytes(&self.consumer.name);
                *self.state.kept.insert(kept.map_err(StateError::Unavailable)?)
            }
        };
        let before = match self.state.changes.writes.get(key) {
            Some(StateWrite::Set { value, .. }) => (key.len() + value.len()) as u64,
            _ => 0,
        };
        let written = self.state.written - before + (key.len() + bytes) as u64;
        if kept + written > quota {
            return Err(StateError::QuotaExceeded(quota));
        }
        self.state.written = written;
        Ok(())
    }

    fn list(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Page, StateError> {
        let limit = limit.clamp(1, PAGE_MAX);
        // Own deletions may hide as many committed keys, and one more says whether there is a next page.
        let deleted = self.state.changes.writes.values().filter(|write| matches!(write, StateWrite::Delete)).count();
        let list = List { prefix, after, limit: limit.saturating_add(u32::try_from(deleted).unwrap_or(0) + 1) };
        let read = self.consumer.dependencies.state.keys(&self.consumer.name, &list, self.started_at);
        let (committed, revision) = read.map_err(StateError::Unavailable)?;
        self.state.changes.listed_at.get_or_insert(revision);
        let mut keys: BTreeMap<String, ()> = committed.into_iter().map(|key| (key, ())).collect();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (key, write) in self.state.changes.writes.range::<str, _>((from, Bound::Unbounded)) {
            match write {
                StateWrite::Set { .. } if key.starts_with(prefix) => _ = keys.insert(key.clone(), ()),
                StateWrite::Set { .. } => {}
                StateWrite::Delete => _ = keys.remove(key),
            }
        }
        let more = keys.len() > limit as usize;
        let keys: Vec<String> = keys.into_keys().take(limit as usize).collect();
        let next = if more { keys.last().cloned() } else { None };
        Ok(Page { keys, next })
    }
}

fn check_key(key: &str) -> Result<(), StateError> {
    if key.is_empty() || key.len() > STATE_KEY_BYTES_MAX {
        return Err(StateError::Invalid(format!("a key has 1 to {STATE_KEY_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn counter(value: Option<Bytes>) -> Result<i64, StateError> {
    let Some(value) = value else { return Ok(0) };
    let number = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| StateError::Invalid("the value is no counter: counters are decimal text".into()))
}

impl state::Host for Host {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, StateError>> {
        self.account.enter(key.len())?;
        let value = self.read(&key);
        if let Ok(Some(value)) = &value {
            self.account.charge(value.len());
        }
        Ok(value.map(|value| value.map(Vec::from)))
    }

    fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u64>) -> wasmtime::Result<Result<(), StateError>> {
        self.account.enter(key.len() + value.len())?;
        if ttl_ms == Some(0) {
            return Ok(Err(StateError::Invalid("a time to live is at least 1 ms".into())));
        }
        let expires = |ms: u64| self.started_at.plus(Duration::from_millis(ms.min(DELAY_MS_MAX)));
        let expires_at = ttl_ms.map(expires);
        self.write(key, StateWrite::Set { value: value.into(), expires_at })
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), StateError>> {
        self.account.enter(key.len())?;
        self.write(key, StateWrite::Delete)
    }

    fn keys(
        &mut self,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<Page, StateError>> {
        self.account.enter(prefix.len())?;
        let page = self.list(&prefix, after.as_deref(), limit);
        if let Ok(page) = &page {
            self.account.charge(page.keys.iter().map(String::len).sum());
        }
        Ok(page)
    }

    fn compare_and_set(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<bool, StateError>> {
        self.account.enter(key.len() + value.len() + expected.as_ref().map_or(0, Vec::len))?;
        let present = match self.read(&key) {
            Ok(present) => present,
            Err(error) => return Ok(Err(error)),
        };
        if present.as_deref() != expected.as_deref() {
            return Ok(Ok(false));
        }
        let written = self.write(key, StateWrite::Set { value: value.into(), expires_at: None })?;
        Ok(written.map(|()| true))
    }

    fn increment(&mut self, key: String, delta: i64) -> wasmtime::Result<Result<i64, StateError>> {
        self.account.enter(key.len())?;
        let sum = self.read(&key).and_then(counter).and_then(|n| {
            n.checked_add(delta).ok_or_else(|| StateError::Invalid("the counter would pass 64 bits".into()))
        });
        let sum = match sum {
            Ok(sum) => sum,
            Err(error) => return Ok(Err(error)),
        };
        let written = self.write(key, StateWrite::Set { value: sum.to_string().into(), expires_at: None })?;
        Ok(written.map(|()| sum))
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
