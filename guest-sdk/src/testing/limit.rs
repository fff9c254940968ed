//! The host's bounds that a handler can meet.

/// A payload, in bytes.
pub(crate) const EVENT_BYTES: usize = 1 << 20;
/// Events one attempt may publish.
pub(crate) const PUBLISHED_MAX: u32 = 256;
/// A key in state, in bytes.
pub(crate) const STATE_KEY_BYTES_MAX: usize = 512;
/// A value in state, in bytes.
pub(crate) const STATE_VALUE_BYTES_MAX: usize = 256 << 10;
/// A question's data, in bytes.
pub(crate) const QUESTION_BYTES_MAX: usize = 256 << 10;
/// Questions one attempt may ask.
pub(crate) const QUESTIONS_MAX: u32 = 32;
/// Requests one attempt may make.
pub(crate) const HTTP_REQUESTS_MAX: u32 = 32;
