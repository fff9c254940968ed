//! Pipelines as a schedule makes them up.

use std::time::Duration;

use super::dice::Dice;
use super::plan::{TYPES, expression};
use crate::model::pipeline::{CallSpec, Definition, OnFailure, PipelineSpec, StepLimits, StepSpec, WaitSpec, Work};
use crate::model::retry::RetryPolicy;
use crate::model::spec::SubscriptionSpec;
use crate::model::{ConsumerName, Expression, TypePattern};

pub(super) const PIPELINES: [&str; 2] = ["fulfil", "onboard"];
pub(super) fn is_pipeline(name: &ConsumerName) -> bool {
    PIPELINES.contains(&name.as_str())
}

/// Names of steps, and what a condition on each says.
const STEPS: [(&str, &str); 8] = [
    ("a", "steps.a.ok"),
    ("b", "steps.b.ok"),
    ("c", "steps.c.ok"),
    ("d", "steps.d.ok"),
    ("e", "steps.e.ok"),
    ("f", "steps.f.ok"),
    ("g", "steps.g.ok"),
    ("h", "steps.h.ok"),
];

/// One whose steps are for these consumers, of which there is at least one.
pub(super) fn pipeline(name: &str, consumers: &[&ConsumerName], dice: &Dice) -> PipelineSpec {
    let mut draft = Draft { steps: Vec::new(), consumers, dice };
    let mut after = Vec::new();
    for _ in 0..dice.within(1..=3) {
        after = draft.block(&after);
    }
    let timeout = dice.percent(30).then(|| seconds(dice, 10..=7_200));
    let on_failure = dice.pick(&[OnFailure::Compensate, OnFailure::Compensate, OnFailure::Stop, OnFailure::Continue]);
    let pattern = TypePattern::new(dice.pick(&TYPES)).unwrap();
    let name = ConsumerName::new(name).unwrap();
    PipelineSpec {
        subscriptions: vec![SubscriptionSpec { pattern, version: None, condition: None }],
        key: dice.percent(60).then(|| expression(dice.pick(&["data.m", "data.m", "data.k"]))),
        definition: Definition { pipeline: name.clone(), steps: draft.steps, timeout, on_failure },
        name,
    }
}

fn seconds(dice: &Dice, range: std::ops::RangeInclusive<u32>) -> Duration {
    Duration::from_secs(u64::from(dice.within(range)))
}

struct Draft<'a> {
    steps: Vec<StepSpec>,
    consumers: &'a [&'a ConsumerName],
    dice: &'a Dice,
}

impl Draft<'_> {
    /// One step, or branches side by side. Answers what the next block comes after.
    fn block(&mut self, after: &[usize]) -> Vec<usize> {
        let branches = if self.dice.percent(65) { 1 } else { 2 };
        let mut last = Vec::new();
        for _ in 0..branches {
            let first = self.step(after);
            last.push(if branches > 1 && self.dice.percent(30) { self.step(&[first]) } else { first });
        }
        last
    }

    fn step(&mut self, after: &[usize]) -> usize {
        let at = self.steps.len();
        let earlier = after.iter().copied().find(|step| self.steps[*step].work.call().is_some());
        let when = earlier.filter(|_| self.dice.percent(25)).map(|step| expression(STEPS[step].1));
        let work = if self.dice.percent(25) { self.wait() } else { self.call() };
        // Three blocks are six steps at most, or with longer branches twelve: those beyond the names are left out.
        let Some((name, _)) = STEPS.get(at) else { return at - 1 };
        self.steps.push(StepSpec { name: (*name).into(), after: after.to_vec(), when, work });
        at
    }

    fn call(&self) -> Work {
        let dice = self.dice;
        let retry = dice.percent(40).then(|| RetryPolicy {
            attempts: dice.within(1..=3),
            initial: Duration::from_millis(u64::from(dice.within(0..=2_000))),
            ..RetryPolicy::default()
        });
        let timeout = dice.percent(20).then(|| seconds(dice, 1..=30));
        Work::Call(CallSpec {
            consumer: (*dice.one(self.consumers)).clone(),
            compensate: dice.percent(70).then(|| (*dice.one(self.consumers)).clone()),
            retry,
            limits: StepLimits { timeout, ..StepLimits::default() },
        })
    }

    fn wait(&self) -> Work {
        let dice = self.dice;
        // Some keys come again and again, others hardly ever.
        let key = |dice: &Dice| -> Expression { expression(dice.pick(&["data.k", "data.k", "data.g", "data.m"])) };
        Work::Wait(WaitSpec {
            pattern: TypePattern::new(dice.pick(&TYPES)).unwrap(),
            event: key(dice),
            run: key(dice),
            timeout: if dice.percent(70) { seconds(dice, 5..=300) } else { seconds(dice, 300..=7_200) },
        })
    }
}
