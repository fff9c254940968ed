//! A deployment: what a manifest means once everything in it is checked and resolved.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::retry::RetryPolicy;
use super::{ConsumerName, Digest, Event, TypePattern, limit};

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
}

impl Default for Ceilings {
    fn default() -> Self {
        Self { event_bytes: limit::EVENT_BYTES, attempts: 64, memory: 1 << 30 }
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
    pub limits: Limits,
    pub retry: RetryPolicy,
    pub grants: Grants,
}

/// The rule that ties events to a consumer.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionSpec {
    pub pattern: TypePattern,
    /// Versions of the payload's schema that the consumer understands; none: all.
    pub version: Option<semver::VersionReq>,
}

impl SubscriptionSpec {
    pub fn matches(&self, event: &Event) -> bool {
        self.matches_type(&event.envelope.event_type, &event.envelope.data_version)
    }

    /// Whether every event of this type and schema version is meant.
    pub fn matches_type(&self, event_type: &str, data_version: &str) -> bool {
        self.pattern.matches(event_type)
            && self
                .version
                .as_ref()
                .is_none_or(|wanted| semver::Version::parse(data_version).is_ok_and(|version| wanted.matches(&version)))
    }
}

/// Limits of one consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall clock of an attempt.
    pub timeout: Duration,
    /// Guest instructions of an attempt.
    pub fuel: u64,
    /// Linear memory of an attempt, in bytes.
    pub memory: u64,
    /// Attempts at once.
    pub concurrency: u32,
    /// How many events may cause one another before one is refused.
    pub chain_depth: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
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
