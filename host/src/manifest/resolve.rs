//! Authored values and defaults become a deployment.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::ConsumerSpans;
use super::authored::Manifest;
use super::check::Joined;
use super::elements::breaker::Breaker;
use super::elements::consumer::{Consumer, Named};
use super::elements::defaults::Defaults;
use super::elements::duration::Millis;
use super::elements::event::{self, EventType};
use super::elements::grants::Grants as AuthoredGrants;
use super::elements::limits::Limits as AuthoredLimits;
use super::elements::retry::Retry;
use super::elements::schedule::Schedule;
use super::elements::server;
use super::reader::{At, Reader, absolute};
use crate::model::breaker::BreakerPolicy;
use crate::model::retry::RetryPolicy;
use crate::model::spec::{
    BatchSpec, Ceilings, ConsumerSpec, DeliverySpec, EventSpec, IdempotencySpec, Mode, OrderSpec, Retention,
    ScheduleSpec, Secret, ServerSpec, ShareSpec, SubscriptionSpec, TokenSpec,
};
use crate::model::{ConsumerName, Deployment, Digest, Grants, Limits, TypePattern};

/// Where events are kept if the manifest does not say.
const DATABASE: &str = "data/tidegate.db";
pub(super) const RETENTION: Millis = Millis::days(30);
const GRACE: Duration = Duration::from_secs(20);
/// How long an idempotency key is remembered.
const WINDOW: Duration = Duration::from_secs(7 * 86_400);
/// How long a delivery waits for the rest of a batch.
const WAIT: Duration = Duration::from_millis(100);

type Resolved = (Deployment, BTreeMap<ConsumerName, ConsumerSpans>);

/// Total: of a manifest with problems it makes something, which is then thrown away.
pub(super) fn resolve(reader: &Reader, manifest: &Manifest, joined: Vec<Joined<'_>>) -> Resolved {
    let defaults = manifest.defaults.clone().unwrap_or_default();
    let folder_span = manifest.folder.as_ref().map_or(0..0, |folder| folder.span.clone());
    let mut spans = BTreeMap::new();
    let mut consumers = BTreeMap::new();
    for one in joined {
        let places = one.named.map_or_else(|| of_folder(folder_span.clone()), of_entry);
        spans.insert(one.name.clone(), places);
        consumers.insert(one.name.clone(), consumer(&defaults, one));
    }
    let database = manifest.log.as_ref().map(|log| log.value.clone());
    let deployment = Deployment {
        server: server_of(manifest),
        database: database.unwrap_or_else(|| absolute(&reader.base, Path::new(DATABASE))),
        folder: manifest.folder.as_ref().map(|folder| folder.value.clone()),
        retention: retention(manifest),
        ceilings: ceilings(manifest),
        events: manifest.events.iter().map(|(name, event)| (name.value.clone(), event_of(event))).collect(),
        consumers,
        pipelines: super::resolve_pipelines::resolve(manifest),
        schedules: manifest.schedules.iter().map(|(name, one)| (name.value.clone(), schedule(manifest, one))).collect(),
    };
    (deployment, spans)
}

fn of_folder(span: super::yaml::Span) -> ConsumerSpans {
    ConsumerSpans {
        described: false,
        entry: span.clone(),
        component: span,
        sha256: None,
        on: None,
        answers: None,
        grants: None,
        batch: None,
        from: None,
    }
}

fn of_entry(named: &Named) -> ConsumerSpans {
    ConsumerSpans {
        described: true,
        entry: named.name.span.clone(),
        component: named.component_span.clone(),
        sha256: named.consumer.sha256.as_ref().map(|digest| digest.span.clone()),
        on: named.consumer.on.as_ref().map(|on| on.span.clone()),
        answers: named.consumer.answers.first().map(|answers| answers.span.clone()),
        grants: named.grants_span.clone(),
        batch: named.batch_span.clone(),
        from: named.consumer.from.as_ref().map(|from| from.span.clone()),
    }
}

fn server_of(manifest: &Manifest) -> ServerSpec {
    let server = manifest.server.clone().unwrap_or_default();
    let token = |token: server::Token| TokenSpec {
        name: token.name.value,
        token: Secret::new(token.token.value),
        scopes: token.scopes,
    };
    ServerSpec {
        listen: server.listen.map_or(server::LISTEN, |listen| listen.value),
        hosts: server.hosts.into_iter().map(|host| host.value).collect(),
        tokens: server.tokens.into_iter().map(token).collect(),
        grace: server.grace.map_or(GRACE, |grace| grace.value.duration()),
    }
}

fn retention(manifest: &Manifest) -> Retention {
    let retention = manifest.retention.clone().unwrap_or_default();
    let or_usual = |at: Option<At<Millis>>| at.map_or(RETENTION, |at| at.value).duration();
    Retention { events: or_usual(retention.events), outcomes: or_usual(retention.outcomes) }
}

fn ceilings(manifest: &Manifest) -> Ceilings {
    let limits = manifest.limits.clone().unwrap_or_default();
    let usual = Ceilings::default();
    let event_bytes = limits.event_size.and_then(|at| usize::try_from(at.value.0).ok());
    Ceilings {
        event_bytes: event_bytes.unwrap_or(usual.event_bytes),
        attempts: limits.attempts.map_or(usual.attempts, |at| at.value.small()),
        memory: limits.memory.map_or(usual.memory, |at| at.value.0),
        ballast: limits.ballast.map_or(usual.ballast, |at| at.value.0),
    }
}

fn event_of(event: &EventType) -> EventSpec {
    EventSpec {
        version: event.version.as_ref().map_or_else(|| event::VERSION.to_owned(), |version| version.value.clone()),
        schema: event.schema.clone(),
        owner: event.owner.as_ref().map(|owner| owner.value.clone()),
        description: event.description.as_ref().map(|description| description.value.clone()),
        examples: event.examples.iter().map(|path| path.value.clone()).collect(),
    }
}

fn consumer(defaults: &Defaults, joined: Joined<'_>) -> ConsumerSpec {
    let authored = joined.named.map(|named| named.consumer.clone()).unwrap_or_default();
    let timeout_max = authored.timeout_max.as_ref().map(|at| at.value.duration());
    let limits = Limits { timeout_max, ..limits(&authored.limits(), &defaults.limits()) };
    let own_retry = authored.retry.clone().map(|at| at.value).unwrap_or_default();
    let retry = retry(&own_retry, &defaults.retry.clone().unwrap_or_default());
    let delivery = delivery(&authored, defaults);
    let Consumer { sha256, on, answers, grants, .. } = authored;
    let subscriptions = match (on, joined.folder_type) {
        (Some(on), _) => on.value.into_iter().map(subscription).collect(),
        (None, Some(event_type)) => {
            let pattern = TypePattern::new(&event_type).ok();
            pattern.map(|pattern| SubscriptionSpec { pattern, version: None, condition: None }).into_iter().collect()
        }
        (None, None) => Vec::new(),
    };
    ConsumerSpec {
        name: joined.name,
        component: joined.component,
        digest: sha256.map(|digest| digest.value),
        subscriptions,
        answers: answers.into_iter().map(|at| at.value).collect(),
        delivery,
        limits,
        retry,
        grants: grants.map(|grants| grants_of(grants.value)).unwrap_or_default(),
    }
}

pub(super) fn subscription(authored: super::elements::subscription::Subscription) -> SubscriptionSpec {
    SubscriptionSpec {
        pattern: authored.pattern.value,
        version: authored.version.map(|version| version.value),
        condition: authored.condition.map(|condition| condition.value),
    }
}

fn limits(own: &AuthoredLimits, defaults: &AuthoredLimits) -> Limits {
    let usual = Limits::default();
    Limits {
        timeout: first(&own.timeout, &defaults.timeout).map_or(usual.timeout, Millis::duration),
        timeout_max: None,
        fuel: first(&own.fuel, &defaults.fuel).map_or(usual.fuel, |fuel| fuel.0),
        memory: first(&own.memory, &defaults.memory).map_or(usual.memory, |memory| memory.0),
        concurrency: first(&own.concurrency, &defaults.concurrency).map_or(usual.concurrency, |count| count.small()),
        chain_depth: first(&own.chain_depth, &defaults.chain_depth).map_or(usual.chain_depth, |count| count.small()),
    }
}

fn delivery(authored: &Consumer, defaults: &Defaults) -> DeliverySpec {
    let mode = authored.delivery.as_ref().map(|at| at.value).unwrap_or_default();
    let idempotency = authored.idempotency_key.as_ref().map(|key| IdempotencySpec {
        key: key.value.clone(),
        window: authored.idempotency_window.as_ref().map_or(WINDOW, |at| at.value.duration()),
    });
    let on_dead = authored.on_dead.as_ref().map(|at| at.value).unwrap_or_default();
    let breaker = match (&authored.breaker, &defaults.breaker) {
        // What is at most once is not tried again, so there is nothing to hold back.
        _ if mode == Mode::Ephemeral => None,
        (None, None) => None,
        (own, default) => {
            let own = own.as_ref().map(|at| at.value.clone()).unwrap_or_default();
            Some(breaker(&own, &default.clone().unwrap_or_default()))
        }
    };
    DeliverySpec {
        mode,
        from: authored.from.as_ref().map(|at| at.value).unwrap_or_default(),
        expires_after: authored.expires_after.as_ref().map(|at| at.value.duration()),
        order: authored.order_by.as_ref().map(|by| OrderSpec { by: by.value.clone(), on_dead }),
        idempotency,
        rate: authored.rate.as_ref().map(|at| at.value.resolved()),
        share: authored.concurrency_per_key.as_ref().map(|at| ShareSpec {
            key: at.value.key.value.clone(),
            limit: at.value.limit.as_ref().map_or(1, |limit| limit.value.small()),
        }),
        breaker,
        batch: authored.batch.as_ref().map(|at| BatchSpec {
            size: at.value.size.value.small(),
            wait: at.value.wait.as_ref().map_or(WAIT, |wait| wait.value.duration()),
        }),
    }
}

fn breaker(own: &Breaker, defaults: &Breaker) -> BreakerPolicy {
    let usual = BreakerPolicy::default();
    BreakerPolicy {
        failures: first(&own.failures, &defaults.failures).map_or(usual.failures, |count| count.small()),
        window: first(&own.window, &defaults.window).map_or(usual.window, Millis::duration),
        recovery: first(&own.recovery, &defaults.recovery).map_or(usual.recovery, Millis::duration),
    }
}

fn schedule(manifest: &Manifest, authored: &Schedule) -> ScheduleSpec {
    let emit = authored.emit.clone();
    let declared = manifest.events.iter().find(|(name, _)| name.value == emit.event_type.value);
    let version = declared.and_then(|(_, event)| event.version.as_ref()).map(|version| version.value.clone());
    ScheduleSpec {
        slots: authored.cron.value.clone(),
        data_version: version.unwrap_or_else(|| event::VERSION.to_owned()),
        event_type: emit.event_type.value,
        subject: emit.subject.map(|at| at.value),
        key: emit.key.map(|at| at.value),
        data: emit.data.map(|at| at.value),
    }
}

/// Key by key: a consumer that only sets `attempts` keeps the rest of the defaults.
pub(super) fn retry(own: &Retry, defaults: &Retry) -> RetryPolicy {
    let usual = RetryPolicy::default();
    RetryPolicy {
        attempts: first(&own.attempts, &defaults.attempts).map_or(usual.attempts, |count| count.small()),
        backoff: first(&own.backoff, &defaults.backoff).unwrap_or(usual.backoff),
        initial: first(&own.initial, &defaults.initial).map_or(usual.initial, Millis::duration),
        factor: first(&own.factor, &defaults.factor).unwrap_or(usual.factor),
        max: first(&own.max, &defaults.max).map_or(usual.max, Millis::duration),
        jitter: first(&own.jitter, &defaults.jitter).unwrap_or(usual.jitter),
    }
}

fn first<T: Copy>(own: &Option<At<T>>, default: &Option<At<T>>) -> Option<T> {
    own.as_ref().or(default.as_ref()).map(|at| at.value)
}

fn grants_of(grants: AuthoredGrants) -> Grants {
    Grants {
        publish: grants.publish.into_iter().map(|publish| publish.value).collect(),
        jobs: grants.jobs.into_iter().map(|target| target.value).collect(),
        queries: grants.queries.into_iter().map(|query| query.value).collect(),
        http: grants.http.into_iter().map(|origin| origin.value).collect(),
        state: grants.state.map(|state| state.value),
        config: grants.config.map(|config| config.into_iter().map(|(key, text)| (key, text.0)).collect()),
        secrets: grants.secrets,
    }
}

/// What is hashed is the whole value as `Debug` shows it, so that no field can be forgotten, and the secrets that
/// `Debug` hides.
pub(super) fn digest(deployment: &Deployment) -> Digest {
    let mut text = format!("{deployment:?}");
    for token in &deployment.server.tokens {
        // Writing to a string cannot fail.
        let _ = write!(text, "\0{:?}", token.token.expose());
    }
    let secrets = deployment.consumers.values().flat_map(|consumer| &consumer.grants.secrets).flatten();
    for (_, secret) in secrets {
        let _ = write!(text, "\0{:?}", secret.value.expose());
    }
    Digest::of(text.as_bytes())
}
