//! Deployments as a schedule makes them up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::dice::Dice;
use super::guests::{Guest, Guests};
use crate::dispatch::scripted;
use crate::log::Activation;
use crate::model::retry::{Backoff, Jitter, RetryPolicy};
use crate::model::spec::{Ceilings, Deployment, Retention, ServerSpec};
use crate::model::{ConsumerName, ConsumerSpec, Digest, Generation, TypePattern};
use crate::registry::catalogue::Catalogue;
use crate::registry::{Consumer, Snapshot};

const NAMES: [&str; 5] = ["audit", "billing", "mail", "search", "stock"];
pub(super) const TYPES: [&str; 4] = ["order.created", "order.paid", "stock.counted", "user.joined"];
const PATTERNS: [&str; 6] = ["order.*", "order.created", "stock.*", "**", "user.joined", "tidegate.**"];

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
}

impl Plan {
    pub(super) fn first(dice: &Dice) -> Self {
        let mut plan = Self { number: 1, slots: dice.within(1..=8), consumers: BTreeMap::new() };
        for name in NAMES.iter().take(dice.within(1..=4) as usize) {
            plan.add(name, dice);
        }
        plan
    }

    /// The next manifest: something in it is new.
    pub(super) fn changed(&self, dice: &Dice) -> Self {
        let mut plan = Self { number: self.number + 1, ..self.clone() };
        for _ in 0..dice.within(1..=2) {
            let name = dice.pick(&NAMES);
            match dice.within(0..=9) {
                0..=2 => drop(plan.consumers.remove(&ConsumerName::new(name).unwrap())),
                3..=7 => plan.add(name, dice),
                _ => plan.slots = dice.within(1..=8),
            }
        }
        plan
    }

    /// With these consumers as well, as they were deployed last.
    pub(super) fn with(&self, others: &BTreeMap<ConsumerName, Deployed>) -> Self {
        let mut plan = Self { number: self.number + 1, ..self.clone() };
        for (name, deployed) in others {
            plan.consumers.entry(name.clone()).or_insert_with(|| deployed.clone());
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
        spec.grants.state = Some(64);
        let digest = Digest::of(format!("{name} {}", dice.draw()).as_bytes());
        self.consumers.insert(spec.name.clone(), Deployed { spec: Arc::new(spec), digest });
    }

    pub(super) fn activation(&self) -> Activation {
        let subscribed =
            |(name, deployed): (&ConsumerName, &Deployed)| (name.clone(), deployed.spec.subscriptions.clone());
        Activation {
            digest: self.digest(),
            subscriptions: self.consumers.iter().map(subscribed).collect(),
            from: Vec::new(),
        }
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
        Snapshot {
            generation: Generation(0),
            catalogue: Arc::new(Catalogue::new(&deployment)),
            deployment,
            consumers: Arc::new(self.consumers.iter().map(loaded).collect()),
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
            schedules: BTreeMap::new(),
        }
    }
}
