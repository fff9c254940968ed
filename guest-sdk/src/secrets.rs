//! Secrets from the manifest, used without being seen where possible. Grant: `secrets: { api-key: "${API_KEY}" }`.

use std::fmt;

use crate::host;

/// Stands for a secret inside a header value; the host puts the secret in on the way out.
///
/// ```
/// use tidegate_sdk::prelude::*;
///
/// let request = http::post("https://mail.example.com/send")
///     .header("authorization", format!("Bearer {}", secrets::placeholder("api-key")));
/// # drop(request);
/// ```
pub fn placeholder(name: &str) -> String {
    format!("{{secret:{name}}}")
}

/// HMAC-SHA-256 of `message` under the secret, which stays with the host: 32 bytes.
///
/// # Errors
/// If the manifest grants no such secret.
pub fn hmac_sha256(name: &str, message: impl Into<Vec<u8>>) -> Result<Vec<u8>, Error> {
    host::secret_hmac_sha256(name, message.into())
}

/// The secret itself.
///
/// # Errors
/// If the manifest grants no such secret, or does not say `reveal: true`.
pub fn reveal(name: &str) -> Result<String, Error> {
    host::secret_reveal(name)
}

/// Why a secret cannot be used so.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    NotGranted(String),
    NotRevealable(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted(name) => write!(f, "secret is not granted: {name}"),
            Self::NotRevealable(name) => write!(f, "secret may be used but not seen (no `reveal: true`): {name}"),
        }
    }
}

impl std::error::Error for Error {}
