//! Small adapters between parts that do not know one another.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::broadcast;

use crate::clock::Clock;
use crate::dispatch;
use crate::dispatch::attempt::{Witness, shown};
use crate::dispatch::settle::{Claim, derived_id};
use crate::log::sqlite::SqliteLog;
use crate::log::{Activation, EventLog, Settlement};
use crate::manifest::Diagnostics;
use crate::model::delivery::DeathCause;
use crate::model::event::RELOADED;
use crate::model::pipeline::Definition;
use crate::model::question::{Question, Reply};
use crate::model::record::DeadLetterRecord;
use crate::model::spec::{ConsumerKind, ConsumerSpec, Mode, StartFrom};
use crate::model::{ConsumerName, Deployment, Envelope, Event, Generation, Seq, Timestamp};
use crate::query::{self, Desk};
use crate::registry::Registry;
use crate::registry::coordinator::OpenRuns;
use crate::registry::load::Loaded;
use crate::registry::reload::{self, Activate, NotReloaded, Reloaded};
use crate::sandbox;
use crate::server::{self, Live};
use crate::store::{self, KindNote, Reader};
use crate::telemetry::Metrics;

/// Makes a loaded deployment live: first the dispatcher learns of it, then the log says from which sequence on.
pub(super) struct Activator {
    log: Arc<SqliteLog>,
    dispatch: dispatch::Handle,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
}

impl Activator {
    pub(super) fn new(
        log: Arc<SqliteLog>,
        dispatch: dispatch::Handle,
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { log, dispatch, registry, metrics }
    }
}

impl Activate for Activator {
    fn activate(&self, loaded: Loaded) -> Pin<Box<dyn Future<Output = Result<Generation, String>> + Send + '_>> {
        Box::pin(async move {
            // The log keeps nothing about ephemeral consumers, and nothing for them.
            let durable = |spec: &ConsumerSpec| spec.delivery.mode == Mode::Durable;
            let subscriptions = loaded
                .consumers
                .iter()
                .filter(|(_, consumer)| durable(&consumer.spec))
                .map(|(name, consumer)| (name.clone(), consumer.spec.subscriptions.clone()))
                .collect();
            self.dispatch.prepare(super::snapshot(&loaded, Generation(0)));
            let notes = loaded.consumers.keys().map(|name| note(name, &loaded.deployment)).collect();
            let from = loaded.consumers.values().filter_map(|consumer| begins(&consumer.spec)).collect();
            let activation = Activation { digest: loaded.digest, subscriptions, from };
            let activated = self.log.activate(activation).await.map_err(|error| {
                self.dispatch.withdraw();
                error.to_string()
            })?;
            self.log.retain(loaded.deployment.retention);
            self.registry.replace(super::snapshot(&loaded, activated.generation));
            self.metrics.generation(activated.generation, loaded.consumers.keys());
            let responders = loaded.consumers.iter().filter(|(_, consumer)| !consumer.spec.answers.is_empty());
            self.metrics.responders(responders.map(|(name, _)| name));
            self.metrics.pipelines(loaded.deployment.pipelines.keys());
            // It is live; a log that does not take this either has failed as a whole.
            self.log.note_kinds(notes).await.map_err(|error| error.to_string())?;
            Ok(activated.generation)
        })
    }
}

/// Who is no consumer is a pipeline; one that the manifest does not have is there for its runs alone.
fn note(name: &ConsumerName, deployment: &Deployment) -> KindNote {
    let kind = match deployment.consumers.contains_key(name) {
        true => ConsumerKind::Consumer,
        false => ConsumerKind::Pipeline,
    };
    let deployed = kind == ConsumerKind::Consumer || deployment.pipelines.contains_key(name);
    KindNote { consumer: name.clone(), kind, deployed }
}

/// Where a consumer begins that does not begin at the end of the log.
fn begins(spec: &ConsumerSpec) -> Option<(ConsumerName, StartFrom)> {
    let from = spec.delivery.from;
    (from != StartFrom::End).then(|| (spec.name.clone(), from))
}

/// Runs that have not ended, for those who load pipelines.
pub(super) struct Runs(pub(super) Reader);

impl OpenRuns for Runs {
    fn definitions(&self) -> Vec<Definition> {
        self.0.open_definitions().unwrap_or_else(|error| {
            tracing::error!(%error, "what open runs go by cannot be read; those of an earlier deployment may wait in vain");
            Vec::new()
        })
    }
}

/// Committed state, for guests.
pub(super) struct Committed(pub(super) Reader);

impl sandbox::StateRead for Committed {
    fn get(&self, consumer: &ConsumerName, key: &str, now: Timestamp) -> Result<Option<(Bytes, u64)>, String> {
        self.0.state_get(consumer, key, now).map_err(|error| error.to_string())
    }

    fn keys(
        &self,
        consumer: &ConsumerName,
        list: &sandbox::List<'_>,
        now: Timestamp,
    ) -> Result<(Vec<String>, u64), String> {
        let limit = usize::try_from(list.limit).unwrap_or(usize::MAX);
        self.0.state_keys(consumer, list.prefix, list.after, limit, now).map_err(|error| error.to_string())
    }

    fn bytes(&self, consumer: &ConsumerName) -> Result<u64, String> {
        self.0.state_bytes(consumer).map_err(|error| error.to_string())
    }
}

/// A payload kept for followers of the stream, in bytes; a slow one keeps as many as the stream has places.
const LIVE_BYTES_MAX: usize = 64 << 10;

/// Tells the live stream, if anybody listens.
pub(super) struct Stream(pub(super) broadcast::Sender<Live>);

impl Stream {
    fn tell(&self, what: impl FnOnce() -> Live) {
        if self.0.receiver_count() > 0 {
            // The last listener may have gone this moment.
            let _gone = self.0.send(what()).is_err();
        }
    }
}

impl Witness for Stream {
    fn appended(&self, events: &[Arc<Event>]) {
        events.iter().for_each(|event| {
            self.tell(|| match event.envelope.data_len() {
                ..=LIVE_BYTES_MAX => Live::Event(event.clone()),
                _ => Live::Large(event.seq),
            });
        });
    }

    fn settled(&self, claim: &Claim, settlement: &Settlement) {
        self.tell(|| Live::Outcome(shown(claim, settlement)));
        if let Some(cause) = settlement.death {
            self.tell(|| Live::DeadLetter(dead_letter(claim, settlement, cause)));
        }
    }
}

fn dead_letter(claim: &Claim, settlement: &Settlement, cause: DeathCause) -> DeadLetterRecord {
    let record = &settlement.record;
    DeadLetterRecord {
        id: claim.id.to_string(),
        sequence: claim.id.seq,
        event_id: claim.event.envelope.id.clone(),
        event_type: claim.event.envelope.event_type.clone(),
        consumer: claim.id.consumer.clone(),
        round: claim.id.round,
        cause: cause.as_str().into(),
        outcome: record.outcome,
        reason: record.reason.clone(),
        attempts: settlement.next.attempts,
        died_at: record.started_at.plus(record.usage.duration),
        status: "dead".into(),
    }
}

/// What the server may ask of the host.
pub(super) struct HostControl {
    dispatch: dispatch::Handle,
    reload: reload::Handle,
    log: Arc<SqliteLog>,
    replays: dispatch::replay::Handle,
    desk: Desk,
    stopping: AtomicBool,
}

impl HostControl {
    pub(super) fn new(
        dispatch: dispatch::Handle,
        reload: reload::Handle,
        log: Arc<SqliteLog>,
        replays: dispatch::replay::Handle,
        desk: Desk,
    ) -> Self {
        Self { dispatch, reload, log, replays, desk, stopping: AtomicBool::new(false) }
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

impl server::Control for HostControl {
    fn ready(&self) -> Vec<(&'static str, Result<(), String>)> {
        let stopping = self.stopping.load(Ordering::Relaxed);
        let accepting = if stopping { Err("the host is stopping".to_owned()) } else { Ok(()) };
        let log = self.log.failed().borrow().clone().map_or(Ok(()), Err);
        vec![("accepting", accepting), ("log", log)]
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn ask(&self, question: Question) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        Box::pin(self.desk.answer(question))
    }

    fn replay_begun(&self) {
        self.replays.begun();
    }

    fn running(&self, consumer: &ConsumerName) -> u64 {
        self.standing(consumer).running
    }

    fn standing(&self, consumer: &ConsumerName) -> server::Standing {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        self.dispatch.standing(consumer).map_or_else(server::Standing::default, |standing| server::Standing {
            running: count(standing.running),
            breaker: standing.breaker.as_str(),
            ready: count(standing.ready),
            blocked: count(standing.blocked),
        })
    }

    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<server::Reloaded, server::Diagnostics>> + Send>> {
        let reload = self.reload.clone();
        Box::pin(async move {
            reload.reload().await.map(|reloaded| shown_reload(&reloaded)).map_err(|refused| match refused {
                NotReloaded::Refused(diagnostics) => diagnostics.iter().map(|d| serde_json::json!(d)).collect(),
                NotReloaded::Failed(why) => vec![serde_json::json!({ "severity": "error", "message": why })],
            })
        })
    }

    fn wait_settled(&self, through: Option<Seq>) -> Pin<Box<dyn Future<Output = Seq> + Send>> {
        let dispatch = self.dispatch.clone();
        Box::pin(async move { dispatch.settled(through).await })
    }
}

fn shown_reload(reloaded: &Reloaded) -> server::Reloaded {
    let mut changes: Vec<String> = reloaded.changes.iter().map(in_words).collect();
    if reloaded.changed && changes.is_empty() {
        changes.push("settings only".into());
    }
    server::Reloaded { generation: reloaded.generation, changes }
}

fn in_words(change: &reload::Change) -> String {
    let words = format!("{} {}", change.change, change.consumer);
    match (change.runs, change.waiting) {
        (Some(1), _) => format!("{words} (its open run goes on as it began)"),
        (Some(runs), _) => format!("{words} (its {runs} open runs go on as they began)"),
        (None, Some(waiting)) => format!("{words} ({waiting} of its deliveries wait, paused until it is back)"),
        (None, None) => words,
    }
}

/// Counts what a consumer or a pipeline that is gone has left.
pub(super) fn depth(reader: Reader) -> reload::Depth {
    let left = move |consumer: &ConsumerName| -> Result<reload::Left, store::Error> {
        let known = reader.consumer(consumer)?;
        let open = reader.open_runs()?;
        let runs = open.into_iter().filter(|(name, ..)| name == consumer).map(|(.., runs)| runs).sum();
        Ok(reload::Left { deliveries: known.map_or(0, |detail| detail.consumer.depth), runs })
    };
    Arc::new(move |consumer| {
        left(consumer).inspect_err(|error| tracing::warn!(%error, "what waits is not counted")).ok()
    })
}

/// Says which consumers are no longer deployed and have work left.
pub(super) fn say_removed(reader: &Reader) {
    let removed = reader.removed_consumers();
    let removed = removed.inspect_err(|error| tracing::warn!(%error, "what waits for who was removed is not counted"));
    for (name, depth) in removed.unwrap_or_default().into_iter().filter(|(_, depth)| *depth > 0) {
        tracing::warn!("{depth} deliveries of {name} wait: the manifest no longer has it; they go on when it is back");
    }
}

/// Which consumers are paused, as the log has it. Who cannot be looked up is taken to be awake.
pub(super) fn paused(reader: Reader) -> query::Paused {
    Arc::new(move |consumer| {
        let paused = reader.is_paused(consumer);
        paused
            .inspect_err(|error| tracing::warn!(%error, %consumer, "whether it is paused is not known"))
            .unwrap_or(false)
    })
}

/// Tells the log, the metrics and the live stream what a reload came to.
pub(super) fn witness(
    log: Arc<SqliteLog>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    live: broadcast::Sender<Live>,
) -> reload::Witness {
    Arc::new(move |result: &Result<Reloaded, Diagnostics>| {
        metrics.reload(result.is_ok());
        match result {
            Err(diagnostics) => {
                tracing::error!("the change was refused; what was live goes on:\n{}", diagnostics.render(false));
            }
            Ok(reloaded) => {
                let shown = shown_reload(reloaded);
                tracing::info!("generation {} is live: {}", reloaded.generation, shown.changes.join(", "));
                let _nobody = live.send(Live::Reloaded(shown)).is_err();
                let (log, envelope) = (log.clone(), reloaded_event(reloaded, clock.now()));
                tokio::spawn(async move {
                    if let Err(error) = log.append(vec![envelope]).await {
                        tracing::warn!(%error, "the reload could not be written to the log");
                    }
                });
            }
        }
    })
}

fn reloaded_event(reloaded: &Reloaded, now: Timestamp) -> Envelope {
    let id = derived_id(&[RELOADED, &reloaded.generation.to_string()]);
    let data = serde_json::json!({ "generation": reloaded.generation, "changes": reloaded.changes });
    let subject = Some(format!("generation-{}", reloaded.generation));
    Envelope { subject, ..Envelope::of_host(RELOADED, id, now, &data) }
}
