//! Bounds that are not the manifest's to choose. Everything is bounded; each bound has a name and a unit.

/// A payload's size in bytes, unless the manifest says otherwise.
pub const EVENT_BYTES: usize = 1 << 20;
/// An event's id, source, subject, key and each foreign attribute, in bytes.
pub const ATTRIBUTE_BYTES_MAX: usize = 1_024;
/// Foreign attributes of one event.
pub const ATTRIBUTES_MAX: usize = 64;
/// An event type, in bytes.
pub const TYPE_BYTES_MAX: usize = 256;

/// Log lines kept for one attempt, and their bytes in all.
pub const LOG_LINES_MAX: usize = 256;
pub const LOG_BYTES_MAX: usize = 64 << 10;
/// The reason or error text of an attempt, in bytes.
pub const REASON_BYTES_MAX: usize = 4 << 10;
/// A handler's output, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Events one attempt may publish, and their payloads' bytes in all.
pub const PUBLISHED_MAX: u32 = 256;
pub const PUBLISHED_BYTES_MAX: usize = 2 << 20;
/// State: a key and a value in bytes, and writes of one attempt.
pub const STATE_KEY_BYTES_MAX: usize = 512;
pub const STATE_VALUE_BYTES_MAX: usize = 256 << 10;
pub const STATE_WRITES_MAX: usize = 1_024;
/// Bytes of keys and values that one attempt may write to state. A settlement is one transaction of the one writer, so a
/// large one would keep everybody else's waiting.
pub const STATE_WRITES_BYTES_MAX: usize = 2 << 20;
/// What one consumer may keep in state, in bytes, unless the manifest says otherwise.
pub const STATE_QUOTA_BYTES: u64 = 64 << 20;
/// Calls from one attempt into the host.
pub const HOST_CALLS_MAX: u32 = 10_000;
/// Outbound requests of one attempt; bytes of one request and of one response.
pub const HTTP_REQUESTS_MAX: u32 = 32;
pub const HTTP_BODY_BYTES_MAX: usize = 1 << 20;
/// A question's and an answer's payload, in bytes.
pub const QUESTION_BYTES_MAX: usize = 256 << 10;
pub const ANSWER_PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Questions that one attempt may ask.
pub const QUESTIONS_MAX: u32 = 32;
/// How deep questions may cause one another, whatever `chain-depth` says: each level has a slot to itself.
pub const QUESTION_DEPTH_MAX: u32 = 8;
/// How long a question from outside waits for its answer unless it says otherwise, and at most, in milliseconds.
pub const QUESTION_MS: u64 = 5_000;
pub const QUESTION_MS_MAX: u64 = 300_000;

/// A guest's *defer* waits at least this long, so that it cannot spin, in milliseconds. It doubles with every ten calls that were
/// not charged, up to the other: who defers for ever writes few rows, and who does for minutes does not notice.
pub const DEFER_MS_MIN: u64 = 100;
pub const DEFER_MS_LEAST_MAX: u64 = 30_000;
/// Calls after which the least delay of a *defer* doubles.
pub const DEFERS_DOUBLE: u32 = 10;
/// A guest's own delay waits at most this long, in milliseconds (30 days).
pub const DELAY_MS_MAX: u64 = 30 * 24 * 3_600_000;
/// A component's file, in bytes.
pub const COMPONENT_BYTES_MAX: usize = 32 << 20;
/// A manifest, in bytes.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// Rows of one answer have about so many bytes, beyond the last one; further rows are for the next answer.
pub const ANSWER_BYTES: usize = 8 << 20;

/// Cuts `text` to at most `max` bytes on a character boundary; says whether anything was cut.
pub fn cut(text: &mut String, max: usize) -> bool {
    if text.len() <= max {
        return false;
    }
    text.truncate(text.floor_char_boundary(max));
    true
}
