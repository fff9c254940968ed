//! The consumer's own durable keys and values.
//!
//! Reads see the attempt's own writes; writes take effect when the attempt is done, and not at all otherwise.
//! Values are JSON unless the function says *bytes*. Grant: `state: true`.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host;

/// The value of `key`, if there is one.
///
/// # Errors
/// See [`Error`]; [`Error::Value`] if the value does not read as `T`.
pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    let Some(bytes) = host::state_get(key)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::Value { key: key.into(), error })
}

/// The value of `key` as it was stored.
///
/// # Errors
/// See [`Error`].
pub fn get_bytes(key: &str) -> Result<Option<Vec<u8>>, Error> {
    host::state_get(key)
}

/// Keeps `value` under `key` until it is overwritten or deleted.
///
/// # Errors
/// See [`Error`].
pub fn set(key: &str, value: impl Serialize) -> Result<(), Error> {
    host::state_set(key, json(key, &value)?, None)
}

/// Keeps `value` under `key` for the time given.
///
/// # Errors
/// See [`Error`].
pub fn set_for(key: &str, value: impl Serialize, ttl: Duration) -> Result<(), Error> {
    host::state_set(key, json(key, &value)?, Some(ttl))
}

/// Keeps bytes as they are, for ever or for the time given.
///
/// # Errors
/// See [`Error`].
pub fn set_bytes(key: &str, value: impl Into<Vec<u8>>, ttl: Option<Duration>) -> Result<(), Error> {
    host::state_set(key, value.into(), ttl)
}

/// Forgets `key`. A key that is not there is no error.
///
/// # Errors
/// See [`Error`].
pub fn delete(key: &str) -> Result<(), Error> {
    host::state_delete(key)
}

/// All keys with the prefix, in byte order, fetched page by page as the iterator advances.
pub fn keys(prefix: &str) -> Keys {
    Keys { prefix: prefix.into(), page: Vec::new().into_iter(), next: Some(None) }
}

/// Writes `value` only if the present value is `expected` (none: there is no value); says whether it did.
///
/// # Errors
/// See [`Error`].
pub fn compare_and_set<T: Serialize>(key: &str, expected: Option<&T>, value: &T) -> Result<bool, Error> {
    let expected = expected.map(|expected| json(key, expected)).transpose()?;
    host::state_compare_and_set(key, expected, json(key, value)?)
}

/// Adds to a signed counter (absent counts as 0) and gives the new value.
///
/// # Errors
/// See [`Error`]; [`Error::Invalid`] on a value that is no counter.
pub fn increment(key: &str, delta: i64) -> Result<i64, Error> {
    host::state_increment(key, delta)
}

/// See [`keys`].
#[derive(Debug)]
pub struct Keys {
    prefix: String,
    page: std::vec::IntoIter<String>,
    /// Where the next page begins; none: there is none.
    next: Option<Option<String>>,
}

/// Keys fetched at once.
const PAGE: u32 = 128;

impl Iterator for Keys {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(key) = self.page.next() {
                return Some(Ok(key));
            }
            let after = self.next.take()?;
            match host::state_keys(&self.prefix, after, PAGE) {
                Ok((keys, next)) => {
                    self.page = keys.into_iter();
                    self.next = next.map(Some);
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn json(key: &str, value: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::Value { key: key.into(), error })
}

/// Why state cannot be read or written.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An empty or over-long key, or a counter operation on a value that is no counter.
    Invalid(String),
    /// The largest value allowed, in bytes.
    TooLarge(u64),
    /// What the consumer may keep in all, in bytes.
    QuotaExceeded(u64),
    /// The store cannot answer now.
    Unavailable(String),
    /// The value has no JSON form, or does not read as the type asked for.
    Value { key: String, error: serde_json::Error },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) => write!(f, "state: {why}"),
            Self::TooLarge(max) => write!(f, "state: value is larger than {max} bytes"),
            Self::QuotaExceeded(max) => write!(f, "state: more than the {max} bytes this consumer may keep"),
            Self::Unavailable(why) => write!(f, "state is not available now: {why}"),
            Self::Value { key, error } => write!(f, "state: value of {key:?} does not fit: {error}"),
        }
    }
}

impl std::error::Error for Error {}
