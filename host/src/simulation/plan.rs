//! Deployments as a schedule makes them up.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::dice::Dice;
use super::guests::{Guest, Guests};
use super::pipelines::{PIPELINES, pipeline};
use crate::clock::Clock;
use crate::dispatch::scripted;
use crate::log::Activation;
use crate::model::breaker::BreakerPolicy;
use crate::model::flow::Rate;
use crate::model::pipeline::{Definition, PipelineSpec};
use crate::model::retry::{Backoff, Jitter, RetryPolicy};
use crate::model::schedule::Slots;
use crate::model::spec::{
    BatchSpec, Ceilings, DeliverySpec, Deployment, IdempotencySpec, KeySpec, Mode, OnDead, OrderSpec, Retention,
    ScheduleSpec, ServerSpec, ShareSpec, StartFrom,
};
use crate::model::{ConsumerName, ConsumerSpec, Digest, Expression, Generation, TypePattern};
use crate::registry::catalogue::Catalogue;
use crate::registry::coordinator::{self, Beginnings};
use crate::registry::{Consumer, Snapshot};
use crate::sandbox::Invoke;

const NAMES: [&str; 6] = ["audit", "billing", "mail", "search", "stock", EPHEMERAL];
pub(super) const TYPES: [&str; 4] = ["order.created", "order.paid", "stock.counted", "user.joined"];
/// How many events may cause one another, for every consumer.
pub(super) const CHAIN_DEPTH: u32 = 3;
/// How many of a hundred schedules begin with pipelines.
const PIPELINES_PERCENT: u32 = 30;
/// Those that take in events of the host's are few: such events have no keys, and what is refused causes others.
const PATTERNS: [&str; 10] = [
    "order.*",
    "order.*",
    "order.created",
    "order.created",
    "stock.*",
    "stock.*",
    "user.joined",
    "user.joined",
    "**",
    "tidegate.**",
];

/// It is ephemeral whenever it is deployed; the others never are.
pub(super) const EPHEMERAL: &str = "tail";

/// What a consumer is deployed as.
#[derive(Clone)]
pub(super) struct Deployed {
    pub(super) spec: Arc<ConsumerSpec>,
    pub(super) digest: Digest,
}

/// A manifest with its components.
#[derive(Clone)]
pub(super) struct Plan {
    /// How many came before it; what its digest is made of.
    number: u64,
    pub(super) slots: u32,
    pub(super) consumers: BTreeMap<ConsumerName, Deployed>,
    schedules: BTreeMap<String, ScheduleSpec>,
    pub(super) pipelines: BTreeMap<ConsumerName, PipelineSpec>,
    /// The pipelines as the consumers that they are, those that are there for their runs alone among them.
    coordinators: BTreeMap<ConsumerName, Deployed>,
    /// What handles their events, while it is deployed or about to be: whoever holds it may begin runs by its definition.
    handlers: BTreeMap<ConsumerName, Arc<dyn Invoke>>,
}

impl Plan {
    pub(super) fn first(dice: &Dice) -> Self {
        let (slots, schedules) = (dice.within(1..=8), schedules(dice));
        let mut plan = Self {
            number: 1,
            slots,
            consumers: BTreeMap::new(),
            schedules,
            pipelines: BTreeMap::new(),
            coordinators: BTreeMap::new(),
            handlers: BTreeMap::new(),
        };
        for name in NAMES.iter().take(dice.within(1..=4) as usize) {
            plan.add(name, dice);
        }
        if dice.percent(PIPELINES_PERCENT) {
            (0..dice.within(1..=2)).for_each(|_| plan.add_pipeline(dice));
        }
        plan
    }

    /// The next manifest: something in it is new.
    pub(super) fn changed(&self, dice: &Dice) -> Self {
        let mut plan = Self { number: self.number + 1, ..self.clone() };
        // Once there are pipelines, they change as well.
        for _ in 0..if self.pipelines.is_empty() { 0 } else { dice.within(0..=1) } {
            match dice.within(0..=3) {
                0 => drop(plan.pipelines.remove(&ConsumerName::new(dice.pick(&PIPELINES)).unwrap())),
                _ => plan.add_pipeline(dice),
            }
        }
        for _ in 0..dice.within(1..=2) {
            let name = dice.pick(&NAMES);
            match dice.within(0..=9) {
                0..=2 => drop(plan.consumers.remove(&ConsumerName::new(name).unwrap())),
                3..=7 => plan.add(name, dice),
                8 => plan.slots = dice.within(1..=8),
                _ => plan.schedules = schedules(dice),
            }
        }
        plan.drop_broken_pipelines();
        plan
    }

    fn add_pipeline(&mut self, dice: &Dice) {
        let names: Vec<&ConsumerName> = self.durable().map(|(name, _)| name).collect();
        if !names.is_empty() {
            let spec = pipeline(dice.pick(&PIPELINES), &names, dice);
            self.pipelines.insert(spec.name.clone(), spec);
        }
    }

    /// A manifest that names consumers which are not there is refused.
    fn drop_broken_pipelines(&mut self) {
        let consumers = &self.consumers;
        self.pipelines.retain(|_, spec| {
            let mut calls = spec.definition.steps.iter().filter_map(|step| step.work.call());
            calls.all(|call| {
                consumers.contains_key(&call.consumer)
                    && call.compensate.as_ref().is_none_or(|name| consumers.contains_key(name))
            })
        });
    }

    /// Makes consumers of pipelines. `earlier`: definitions that runs may still go by. What differs from what was deployed as
    /// this manifest is deployed as another: its subscriptions are others.
    pub(super) fn resolve(&mut self, earlier: &[Definition], beginnings: &Beginnings, clock: &Arc<dyn Clock>) {
        if self.pipelines.is_empty() && self.coordinators.is_empty() && earlier.is_empty() {
            return;
        }
        let made = coordinator::consumers(&self.deployment(), earlier, beginnings, clock);
        let same = |(one, other): ((&ConsumerName, &Deployed), (&ConsumerName, &Consumer))| {
            one.0 == other.0 && one.1.digest == other.1.digest && one.1.spec.subscriptions == other.1.spec.subscriptions
        };
        let is_known = self.coordinators.len() == made.len() && self.coordinators.iter().zip(&made).all(same);
        self.number += u64::from(!is_known);
        let deployed = |of: &Consumer| Deployed { spec: of.spec.clone(), digest: of.digest };
        self.coordinators = made.iter().map(|(name, of)| (name.clone(), deployed(of))).collect();
        self.handlers = made.into_iter().map(|(name, of)| (name, of.handler)).collect();
    }

    /// What is told of it to whoever only looks on, and must not keep what began by it.
    pub(super) fn told(&self) -> Self {
        Self { handlers: BTreeMap::new(), ..self.clone() }
    }

    /// What a consumer, or a pipeline as one, is deployed as.
    pub(super) fn deployed(&self, name: &ConsumerName) -> Option<Deployed> {
        self.consumers.get(name).or_else(|| self.coordinators.get(name)).cloned()
    }

    pub(super) fn is_deployed(&self, name: &ConsumerName) -> bool {
        self.consumers.contains_key(name) || self.coordinators.contains_key(name)
    }

    pub(super) fn is_coordinator(&self, name: &ConsumerName) -> bool {
        self.coordinators.contains_key(name)
    }

    /// Of everything that is given deliveries.
    pub(super) fn specs(&self) -> impl Iterator<Item = &Arc<ConsumerSpec>> {
        self.consumers.values().chain(self.coordinators.values()).map(|deployed| &deployed.spec)
    }

    /// The next manifest: one consumer finds its keys in another way, and all else is as it was.
    pub(super) fn rekeyed(&self, dice: &Dice) -> Self {
        let mut plan = Self { number: self.number + 1, ..self.clone() };
        let names: Vec<&ConsumerName> = self.durable().map(|(name, _)| name).collect();
        if names.is_empty() {
            return plan;
        }
        let name = (*dice.one(&names)).clone();
        if let Some(deployed) = plan.consumers.get_mut(&name) {
            let mut spec = ConsumerSpec::clone(&deployed.spec);
            spec.delivery = DeliverySpec { order: None, share: None, idempotency: None, ..spec.delivery };
            find_keys(&mut spec.delivery, dice, 30);
            let digest = Digest::of(format!("{name} {}", dice.draw()).as_bytes());
            *deployed = Deployed { spec: Arc::new(spec), digest };
        }
        plan
    }

    /// With these consumers as well, as they were deployed last.
    /// And nothing happens by the clock alone any more: runs that wait for hours would begin others for ever.
    pub(super) fn with(
        &self,
        others: &BTreeMap<ConsumerName, Deployed>,
        pipelines: &BTreeMap<ConsumerName, PipelineSpec>,
    ) -> Self {
        let mut plan = Self { number: self.number + 1, schedules: BTreeMap::new(), ..self.clone() };
        for (name, deployed) in others {
            plan.consumers.entry(name.clone()).or_insert_with(|| deployed.clone());
        }
        for (name, spec) in pipelines {
            plan.pipelines.entry(name.clone()).or_insert_with(|| spec.clone());
        }
        plan
    }

    fn add(&mut self, name: &str, dice: &Dice) {
        let mut spec = scripted::spec(name, dice.pick(&PATTERNS));
        if dice.percent(30) {
            let mut second = spec.subscriptions[0].clone();
            second.pattern = TypePattern::new(dice.pick(&PATTERNS)).unwrap();
            spec.subscriptions.push(second);
        }
        spec.limits.concurrency = dice.within(1..=4);
        spec.limits.timeout = Duration::from_secs(u64::from(dice.within(1..=30)));
        spec.retry = RetryPolicy {
            attempts: dice.within(1..=5),
            backoff: *dice.one(&[Backoff::Exponential, Backoff::Linear, Backoff::Fixed]),
            initial: Duration::from_millis(u64::from(dice.within(0..=2_000))),
            jitter: *dice.one(&[Jitter::Full, Jitter::Equal, Jitter::None]),
            ..RetryPolicy::default()
        };
        spec.limits.chain_depth = CHAIN_DEPTH;
        spec.grants.state = Some(64);
        spec.delivery = delivery(dice);
        if name == EPHEMERAL {
            spec.delivery = DeliverySpec { mode: Mode::Ephemeral, ..DeliverySpec::default() };
        }
        let digest = Digest::of(format!("{name} {}", dice.draw()).as_bytes());
        self.consumers.insert(spec.name.clone(), Deployed { spec: Arc::new(spec), digest });
    }

    pub(super) fn activation(&self) -> Activation {
        let durable = self.specs().filter(|spec| spec.delivery.mode == Mode::Durable);
        let subscribed = |spec: &Arc<ConsumerSpec>| (spec.name.clone(), spec.subscriptions.clone());
        Activation {
            digest: self.digest(),
            subscriptions: durable.map(subscribed).collect(),
            from: self.durable().map(|(name, deployed)| (name.clone(), deployed.spec.delivery.from)).collect(),
        }
    }

    /// The log keeps nothing about ephemeral consumers.
    fn durable(&self) -> impl Iterator<Item = (&ConsumerName, &Deployed)> {
        self.consumers.iter().filter(|(_, deployed)| deployed.spec.delivery.mode == Mode::Durable)
    }

    pub(super) fn digest(&self) -> Digest {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.number.to_be_bytes());
        Digest(bytes)
    }

    pub(super) fn snapshot(&self, guests: &Arc<Guests>) -> Snapshot {
        let deployment = Arc::new(self.deployment());
        let loaded = |(name, deployed): (&ConsumerName, &Deployed)| {
            let Deployed { spec, digest } = deployed.clone();
            let handler = Arc::new(Guest { spec: spec.clone(), digest, guests: guests.clone() });
            (name.clone(), Consumer { spec, digest, handler })
        };
        let coordinator = |(name, handler): (&ConsumerName, &Arc<dyn Invoke>)| {
            let Deployed { spec, digest } = self.coordinators.get(name)?.clone();
            Some((name.clone(), Consumer { spec, digest, handler: handler.clone() }))
        };
        let coordinators = self.handlers.iter().filter_map(coordinator);
        Snapshot {
            generation: Generation(0),
            catalogue: Arc::new(Catalogue::new(&deployment)),
            deployment,
            consumers: Arc::new(self.consumers.iter().map(loaded).chain(coordinators).collect()),
        }
    }

    fn deployment(&self) -> Deployment {
        let day = Duration::from_secs(86_400);
        Deployment {
            server: ServerSpec { listen: ([127, 0, 0, 1], 0).into(), hosts: vec![], tokens: vec![], grace: day },
            database: "simulated.db".into(),
            folder: None,
            retention: Retention { events: day, outcomes: day },
            ceilings: Ceilings { attempts: self.slots, ..Ceilings::default() },
            events: BTreeMap::new(),
            consumers: BTreeMap::new(),
            pipelines: self.pipelines.clone(),
            schedules: self.schedules.clone(),
        }
    }
}

/// Some have none; the others fire now and then.
fn schedules(dice: &Dice) -> BTreeMap<String, ScheduleSpec> {
    let one = |name: &&str| {
        let spec = ScheduleSpec {
            slots: Slots::new(dice.pick(&["* * * * *", "*/5 * * * *", "0 * * * *"]), "UTC").unwrap(),
            event_type: dice.pick(&TYPES).to_owned(),
            data_version: "1.0.0".into(),
            subject: None,
            key: None,
            data: Some(serde_json::json!({ "k": "a", "g": "b", "m": "m1", "n": "m2" })),
        };
        ((*name).to_owned(), spec)
    };
    ["daily", "hourly"].iter().filter(|_| dice.percent(15)).map(one).collect()
}

/// How deliveries reach a consumer: mostly simple, sometimes with everything.
fn delivery(dice: &Dice) -> DeliverySpec {
    let rich = if dice.percent(30) { 40 } else { 8 };
    let some = || dice.percent(rich);
    let seconds = |range| Duration::from_secs(u64::from(dice.within(range)));
    let mut spec = DeliverySpec::default();
    find_keys(&mut spec, dice, rich);
    if some() {
        spec.rate = Some(Rate { count: dice.within(1..=20), per: seconds(1..=10) });
    }
    if some() {
        spec.breaker =
            Some(BreakerPolicy { failures: dice.within(1..=4), window: seconds(5..=60), recovery: seconds(1..=30) });
    }
    if some() {
        spec.batch = Some(BatchSpec {
            size: dice.within(2..=5),
            wait: Duration::from_millis(u64::from(dice.within(0..=3_000))),
        });
    }
    if some() {
        spec.expires_after = Some(seconds(30..=7_200));
    }
    if some() {
        spec.from = dice.pick(&[StartFrom::Start, StartFrom::Sequence(5), StartFrom::End]);
    }
    spec
}

/// The same texts are keys of either kind, so that keys found in one way and not in the other are seen.
fn find_keys(spec: &mut DeliverySpec, dice: &Dice, chance: u32) {
    if dice.percent(40) {
        let path = dice.pick(&["data.k", "data.k", "data.g"]);
        let by = if dice.percent(20) { KeySpec::One } else { KeySpec::Of(expression(path)) };
        spec.order = Some(OrderSpec { by, on_dead: dice.pick(&[OnDead::Continue, OnDead::Hold]) });
    } else if dice.percent(chance) {
        let key = expression(dice.pick(&["data.k", "data.g"]));
        spec.share = Some(ShareSpec { key, limit: dice.within(1..=3) });
    }
    if dice.percent(chance) {
        let key = expression(dice.pick(&["data.m", "data.m", "data.n"]));
        let window = Duration::from_secs(u64::from(dice.within(10..=7_200)));
        spec.idempotency = Some(IdempotencySpec { key, window });
    }
}

/// Read once: what is read is the same every time.
pub(super) fn expression(source: &'static str) -> Expression {
    thread_local! {
        static READ: RefCell<BTreeMap<&'static str, Expression>> = const { RefCell::new(BTreeMap::new()) };
    }
    READ.with_borrow_mut(|read| read.entry(source).or_insert_with(|| Expression::parse(source).unwrap()).clone())
}
