//! A deployment: what a manifest means once everything in it is checked and resolved.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::breaker::BreakerPolicy;
use super::flow::Rate;
use super::pipeline::{PipelineSpec, StepLimits};
use super::retry::RetryPolicy;
use super::schedule::Slots;
use super::{ConsumerName, Digest, Event, Expression, Seq, Timestamp, TypePattern, limit};

/// A resolved manifest. Paths are absolute. Two deployments with the same digest behave the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    pub server: ServerSpec,
    /// The SQLite file.
    pub database: PathBuf,
    /// The drop folder, if there is one.
    pub folder: Option<PathBuf>,
    pub retention: Retention,
    pub ceilings: Ceilings,
    pub events: BTreeMap<String, EventSpec>,
    pub consumers: BTreeMap<ConsumerName, ConsumerSpec>,
    /// No name is a consumer's as well.
    pub pipelines: BTreeMap<ConsumerName, PipelineSpec>,
    pub schedules: BTreeMap<String, ScheduleSpec>,
}

impl Deployment {
    /// What there is of what, as in `5 consumers, 1 pipeline`.
    pub fn parts(&self) -> String {
        let count = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
        let mut parts = vec![count(self.consumers.len(), "consumer")];
        let others = [(self.pipelines.len(), "pipeline"), (self.schedules.len(), "schedule")];
        parts.extend(others.into_iter().filter(|(n, _)| *n > 0).map(|(n, noun)| count(n, noun)));
        parts.join(", ")
    }
}

/// Emits an event at the times that a cron expression names.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleSpec {
    pub slots: Slots,
    pub event_type: String,
    /// Semver of the payload's schema: what the catalogue says.
    pub data_version: String,
    pub subject: Option<String>,
    pub key: Option<String>,
    pub data: Option<serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ServerSpec {
    pub listen: SocketAddr,
    /// Names other than loopback that a request's `Host` may carry.
    pub hosts: Vec<String>,
    pub tokens: Vec<TokenSpec>,
    /// How long a stop lets attempts in hand finish.
    pub grace: Duration,
}

#[derive(Clone, PartialEq)]
pub struct TokenSpec {
    pub name: String,
    pub token: Secret,
    pub scopes: Vec<Scope>,
}

impl std::fmt::Debug for TokenSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSpec").field("name", &self.name).field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Append events.
    Publish,
    /// Look at everything.
    Read,
    /// Redrive, discard, reload.
    Operate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub events: Duration,
    pub outcomes: Duration,
}

/// Bounds of the whole host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceilings {
    /// A payload, in bytes.
    pub event_bytes: usize,
    /// Attempts running at once, over all consumers.
    pub attempts: u32,
    /// Linear memory of all running attempts together, in bytes.
    pub memory: u64,
    /// Room on the disk that is kept for when it is full, in bytes.
    pub ballast: u64,
}

impl Ceilings {
    /// Questions that are answered at once. Their slots are their own: an attempt that waits for an answer never has the slot
    /// that the answer needs.
    pub fn answers(&self) -> u32 {
        self.answers_from_outside() + limit::QUESTION_DEPTH_MAX - 1
    }

    /// Of these, slots for questions that no responder asks. Each level below has one more to itself.
    pub fn answers_from_outside(&self) -> u32 {
        self.attempts.div_ceil(4).max(1)
    }
}

impl Default for Ceilings {
    fn default() -> Self {
        Self { event_bytes: limit::EVENT_BYTES, attempts: 64, memory: 1 << 30, ballast: 64 << 20 }
    }
}

/// An entry of the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct EventSpec {
    /// Semver; what an event without a `dataVersion` gets.
    pub version: String,
    /// The JSON Schema (2020-12), read and checked.
    pub schema: Option<SchemaSpec>,
    pub owner: Option<String>,
    pub description: Option<String>,
    pub examples: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SchemaSpec {
    pub path: PathBuf,
    pub document: serde_json::Value,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerSpec {
    pub name: ConsumerName,
    pub component: PathBuf,
    /// If given, the only file that is accepted.
    pub digest: Option<Digest>,
    pub subscriptions: Vec<SubscriptionSpec>,
    /// Question types that it answers.
    pub answers: Vec<String>,
    pub delivery: DeliverySpec,
    pub limits: Limits,
    pub retry: RetryPolicy,
    pub grants: Grants,
}

/// How deliveries reach a consumer: when, in which order, how fast, how many at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeliverySpec {
    pub mode: Mode,
    /// Where a consumer that is new begins.
    pub from: StartFrom,
    /// A delivery that is not settled so long after it could first have been made is a dead letter.
    pub expires_after: Option<Duration>,
    pub order: Option<OrderSpec>,
    pub idempotency: Option<IdempotencySpec>,
    /// Attempts started per time.
    pub rate: Option<Rate>,
    pub share: Option<ShareSpec>,
    pub breaker: Option<BreakerPolicy>,
    pub batch: Option<BatchSpec>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum Mode {
    /// At least once, from the log.
    #[default]
    Durable,
    /// At most once, straight from accept to handler; nothing about it is kept.
    Ephemeral,
}

/// Who consumes: a component, or the host itself on behalf of a pipeline's runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsumerKind {
    #[default]
    Consumer,
    Pipeline,
}

impl ConsumerKind {
    /// The word used in JSON, SQL and prose.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Pipeline => "pipeline",
        }
    }
}

/// Where in the log a new consumer begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartFrom {
    /// With the events appended after it was deployed.
    #[default]
    End,
    /// With the oldest event that the log has.
    Start,
    Sequence(Seq),
    /// With the first event accepted at or after.
    Time(Timestamp),
}

/// `order-by`: deliveries of one key run one after another, in log order.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderSpec {
    pub by: KeySpec,
    pub on_dead: OnDead,
}

/// How a delivery's key is found.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySpec {
    /// `"*"`: all have the same.
    One,
    Of(Expression),
}

impl KeySpec {
    /// The key of an event's delivery; or why it has none, as a sentence for the dead letter.
    pub fn of(&self, event: &Event) -> Result<String, String> {
        match self {
            Self::One => Ok("*".into()),
            Self::Of(expression) => expression.key(event),
        }
    }
}

/// What a dead letter does to the deliveries behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum OnDead {
    /// They go on.
    #[default]
    Continue,
    /// They wait until somebody releases the key.
    Hold,
}

/// `idempotency-key`: of all deliveries with one key, one is done.
#[derive(Clone, Debug, PartialEq)]
pub struct IdempotencySpec {
    pub key: Expression,
    /// How long a key is remembered after it was settled.
    pub window: Duration,
}

/// `concurrency-per-key`: attempts at once of deliveries with one key.
#[derive(Clone, Debug, PartialEq)]
pub struct ShareSpec {
    pub key: Expression,
    pub limit: u32,
}

/// Deliveries that the handler gets together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSpec {
    pub size: u32,
    /// How long a delivery may wait for others.
    pub wait: Duration,
}

/// The rule that ties events to a consumer.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionSpec {
    pub pattern: TypePattern,
    /// Versions of the payload's schema that the consumer understands; none: all.
    pub version: Option<semver::VersionReq>,
    /// `where`: which of those events; none: all.
    pub condition: Option<Expression>,
}

impl SubscriptionSpec {
    pub fn matches(&self, event: &Event) -> bool {
        event.envelope.job.is_none()
            && self.matches_type(&event.envelope.event_type, &event.envelope.data_version)
            && self.condition.as_ref().is_none_or(|condition| condition.holds(event))
    }

    /// Whether every event of this type and schema version is meant, unless it is a job.
    pub fn matches_type(&self, event_type: &str, data_version: &str) -> bool {
        self.pattern.matches(event_type)
            && self
                .version
                .as_ref()
                .is_none_or(|wanted| semver::Version::parse(data_version).is_ok_and(|version| wanted.matches(&version)))
    }
}

impl std::fmt::Display for SubscriptionSpec {
    /// The pattern, and the versions and the condition where there are any.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.pattern)?;
        self.version.as_ref().map_or(Ok(()), |version| write!(f, " {version}"))?;
        self.condition.as_ref().map_or(Ok(()), |condition| write!(f, " where {}", condition.source()))
    }
}

/// Limits of one consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall clock of an attempt.
    pub timeout: Duration,
    /// How far *in progress* may extend it; none: not at all.
    pub timeout_max: Option<Duration>,
    /// Guest instructions of an attempt.
    pub fuel: u64,
    /// Linear memory of an attempt, in bytes.
    pub memory: u64,
    /// Attempts at once.
    pub concurrency: u32,
    /// How many events may cause one another before one is refused.
    pub chain_depth: u32,
}

impl Limits {
    /// The same with what one attempt is allowed instead.
    pub fn with(self, own: StepLimits) -> Self {
        Self {
            timeout: own.timeout.unwrap_or(self.timeout),
            fuel: own.fuel.unwrap_or(self.fuel),
            memory: own.memory.unwrap_or(self.memory),
            ..self
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            timeout_max: None,
            fuel: 1_000_000_000,
            memory: 64 << 20,
            concurrency: 16,
            chain_depth: 8,
        }
    }
}

/// What a consumer may do besides computing. Nothing, unless it is said here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grants {
    /// Types it may publish.
    pub publish: Vec<TypePattern>,
    /// Consumers it may give jobs to.
    pub jobs: Vec<ConsumerName>,
    /// Question types that it may ask.
    pub queries: Vec<TypePattern>,
    pub http: Vec<OriginSpec>,
    /// Bytes it may keep in state.
    pub state: Option<u64>,
    /// Some, even if empty: the interface may be imported.
    pub config: Option<BTreeMap<String, String>>,
    pub secrets: Option<BTreeMap<String, SecretSpec>>,
}

/// An origin that may be called: scheme, host and port, exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginSpec {
    pub https: bool,
    /// Lower case; an IPv6 address without brackets.
    pub host: String,
    pub port: u16,
    /// Whether the host may resolve to a loopback, private or otherwise not public address. An origin that is
    /// written as an address is granted as such.
    pub private: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SecretSpec {
    pub value: Secret,
    /// Whether the guest may see the value.
    pub reveal: bool,
}

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: String) -> Self {
        Self(value)
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\"***\"")
    }
}
