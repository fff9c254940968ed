//! Settings from the manifest. Grant: `config: { sender: "shop@example.com" }`.

use std::fmt;
use std::str::FromStr;

use crate::host;

/// The setting, if the manifest has it.
pub fn get(key: &str) -> Option<String> {
    host::config_get(key)
}

/// All settings, by name.
pub fn all() -> Vec<(String, String)> {
    host::config_all()
}

/// The setting as a number, a boolean or anything else that can be parsed; none if the manifest does not have it.
///
/// # Errors
/// If it is there and cannot be parsed.
pub fn parse<T: FromStr>(key: &str) -> Result<Option<T>, Error>
where
    T::Err: fmt::Display,
{
    let Some(value) = get(key) else { return Ok(None) };
    match value.parse() {
        Ok(parsed) => Ok(Some(parsed)),
        Err(why) => Err(Error { key: key.into(), value, why: why.to_string() }),
    }
}

/// A setting that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub key: String,
    pub value: String,
    pub why: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting {:?} is {:?}: {}", self.key, self.value, self.why)
    }
}

impl std::error::Error for Error {}
