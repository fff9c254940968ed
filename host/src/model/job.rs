//! A job: an event that is addressed to one consumer. No subscription matches it.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ConsumerName;
use super::retry::{Backoff, Jitter, RetryPolicy};

/// Who goes first, where more is due than may start: of seven starts four are high, two normal and one low, as far as there
/// are such. What is no job is normal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Priority {
    Low,
    #[default]
    Normal,
    High,
}

impl Priority {
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// The word used in JSON, on the command line and in prose.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.as_str() == word)
    }
}

/// What makes an event a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Job {
    pub to: ConsumerName,
    #[serde(default)]
    pub priority: Priority,
    /// Instead of the consumer's.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "write", deserialize_with = "read")]
    pub retry: Option<RetryPolicy>,
}

impl Job {
    /// Of normal priority, and tried again as its consumer says.
    pub fn to(consumer: ConsumerName) -> Self {
        Self { to: consumer, priority: Priority::Normal, retry: None }
    }

    /// Reads a consumer's name, or a JSON object with more than that.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.starts_with('{') {
            serde_json::from_str(text).map_err(|error| error.to_string())
        } else {
            ConsumerName::new(text).map(Self::to)
        }
    }

    /// Its own retry as text, if it has one.
    pub fn retry_text(&self) -> Option<String> {
        let written = Written::of(self.retry.as_ref()?);
        serde_json::to_string(&written).ok()
    }

    /// What [`Job::retry_text`] wrote.
    pub fn read_retry(text: &str) -> Result<RetryPolicy, String> {
        serde_json::from_str::<Written>(text).map_err(|error| error.to_string())?.policy()
    }
}

/// Attempts that a job's own retry may ask for; its delays, in milliseconds; and what a delay may be multiplied with. The
/// same as in a manifest.
pub const RETRY_ATTEMPTS_MAX: u32 = 1_000;
pub const RETRY_DELAY_MS_MAX: u64 = 30 * 24 * 3_600_000;
pub const RETRY_FACTOR_MAX: f64 = 100.0;

/// A retry as JSON has it. What it does not say is as in a manifest that does not say it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Written {
    attempts: u32,
    backoff: Backoff,
    initial_ms: u64,
    factor: f64,
    max_ms: u64,
    jitter: Jitter,
}

impl Default for Written {
    fn default() -> Self {
        Self::of(&RetryPolicy::default())
    }
}

impl Written {
    fn of(policy: &RetryPolicy) -> Self {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            attempts: policy.attempts,
            backoff: policy.backoff,
            initial_ms: millis(policy.initial),
            factor: policy.factor,
            max_ms: millis(policy.max),
            jitter: policy.jitter,
        }
    }

    fn policy(self) -> Result<RetryPolicy, String> {
        let outside = |what: &str, least: &str, most: String| Err(format!("{what} of a retry is {least} to {most}"));
        if !(1..=RETRY_ATTEMPTS_MAX).contains(&self.attempts) {
            return outside("attempts", "1", RETRY_ATTEMPTS_MAX.to_string());
        }
        for (what, delay) in [("initialMs", self.initial_ms), ("maxMs", self.max_ms)] {
            if !(1..=RETRY_DELAY_MS_MAX).contains(&delay) {
                return outside(what, "1", format!("{RETRY_DELAY_MS_MAX} (30 days)"));
            }
        }
        if !(1.0..=RETRY_FACTOR_MAX).contains(&self.factor) {
            return outside("factor", "1", RETRY_FACTOR_MAX.to_string());
        }
        Ok(RetryPolicy {
            attempts: self.attempts,
            backoff: self.backoff,
            initial: Duration::from_millis(self.initial_ms),
            factor: self.factor,
            max: Duration::from_millis(self.max_ms),
            jitter: self.jitter,
        })
    }
}

#[expect(clippy::ref_option, reason = "the signature that serde asks for")]
fn write<S: Serializer>(retry: &Option<RetryPolicy>, serializer: S) -> Result<S::Ok, S::Error> {
    retry.as_ref().map(Written::of).serialize(serializer)
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RetryPolicy>, D::Error> {
    let written = Option::<Written>::deserialize(deserializer)?;
    written.map(Written::policy).transpose().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailer() -> ConsumerName {
        ConsumerName::new("mailer").unwrap()
    }

    #[test]
    fn a_job_is_read_from_a_name_or_from_an_object() {
        assert_eq!(Job::parse("mailer"), Ok(Job::to(mailer())));
        assert_eq!(Job::parse(r#" {"to": "mailer"} "#), Ok(Job::to(mailer())));
        let full = r#"{"to":"mailer","priority":"high","retry":{"attempts":5,"backoff":"fixed","initialMs":250}}"#;
        let job = Job::parse(full).unwrap();
        assert_eq!(job.priority, Priority::High);
        let expected = RetryPolicy {
            attempts: 5,
            backoff: Backoff::Fixed,
            initial: Duration::from_millis(250),
            ..RetryPolicy::default()
        };
        assert_eq!(job.retry, Some(expected));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for retry in [None, Some(RetryPolicy::default()), Some(RetryPolicy { attempts: 1, ..RetryPolicy::default() })] {
            for priority in Priority::ALL {
                let job = Job { to: mailer(), priority, retry };
                assert_eq!(Job::parse(&serde_json::to_string(&job).unwrap()), Ok(job.clone()));
                assert_eq!(job.retry_text().map(|text| Job::read_retry(&text).unwrap()), retry);
            }
        }
    }

    #[test]
    fn what_is_no_job_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "a consumer's name"),
            ("Mailer", "a consumer's name"),
            ("{}", "missing field `to`"),
            (r#"{"to":"mailer","prio":"high"}"#, "unknown field `prio`"),
            (r#"{"to":"mailer","priority":"urgent"}"#, "unknown variant `urgent`"),
            (r#"{"to":"mailer","retry":{"attempts":0}}"#, "attempts of a retry is 1 to 1000"),
            (r#"{"to":"mailer","retry":{"initialMs":0}}"#, "initialMs of a retry is 1 to"),
            (r#"{"to":"mailer","retry":{"maxMs":2592000001}}"#, "maxMs of a retry is 1 to"),
            (r#"{"to":"mailer","retry":{"factor":0.5}}"#, "factor of a retry is 1 to 100"),
            (r#"{"to":"mailer","retry":{"delay":"1s"}}"#, "unknown field `delay`"),
        ] {
            let said = Job::parse(text).unwrap_err();
            assert!(said.contains(reason), "{text}: {said}");
        }
    }
}
