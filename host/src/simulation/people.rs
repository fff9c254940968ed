//! What people want of runs, and the jobs that they ask for.

use bytes::Bytes;

use super::model::Checked;
use super::plan::EPHEMERAL;
use super::steps::Step;
use super::world::World;
use crate::log::EventLog as _;
use crate::model::pipeline::errand::Order;
use crate::model::pipeline::run::RunId;
use crate::model::retry::RetryPolicy;
use crate::model::{ConsumerName, Job, Payload, Priority};

impl World {
    pub(super) fn order(&mut self, step: Step) -> Checked {
        let Some((run, order)) = (if step == Step::CancelRun { self.cancel() } else { self.take_up(step) }) else {
            return Ok(());
        };
        if let Some(host) = &self.host {
            drop(host.disk.order_run(run, order));
        }
        self.go_on()
    }

    fn cancel(&self) -> Option<(RunId, Order)> {
        // Now and then one that is over, which is refused, or one that was stopped.
        let anyone = self.dice.percent(15);
        let open: Vec<&RunId> = self.model.open_runs().collect();
        let all: Vec<&RunId> = self.model.every_run().collect();
        let run = (*self.dice.one(if anyone { &all } else { &open })).clone();
        Some((run, Order::Cancel { reason: "nobody wants it".into() }))
    }

    fn take_up(&self, step: Step) -> Option<(RunId, Order)> {
        let still: Vec<_> = self.model.runs_that_stand_still().collect();
        let (run, steps) = self.dice.one(&still);
        let steps: Vec<&str> = steps.iter().copied().collect();
        let name = if steps.is_empty() || self.dice.percent(5) { "none" } else { self.dice.pick(&steps) }.to_owned();
        let output = self.dice.percent(70).then(|| self.output(0));
        let order =
            if step == Step::TakeUp { Order::Retry { step: name } } else { Order::Resolve { step: name, output } };
        Some(((*run).clone(), order))
    }

    /// What a step returns.
    pub(super) fn output(&self, call: u64) -> Payload {
        let data = format!(r#"{{"ok":{},"call":{call}}}"#, self.dice.percent(80));
        Payload { content_type: "application/json".into(), data: Bytes::from(data) }
    }

    /// For one consumer alone; none if there is nobody who could be asked.
    pub(super) fn job(&self) -> Option<Job> {
        let names: Vec<&ConsumerName> = self.plan.consumers.keys().filter(|name| name.as_str() != EPHEMERAL).collect();
        if names.is_empty() {
            return None;
        }
        let to = (*self.dice.one(&names)).clone();
        let retry =
            self.dice.percent(40).then(|| RetryPolicy { attempts: self.dice.within(1..=3), ..RetryPolicy::default() });
        Some(Job { priority: self.dice.pick(&[Priority::Low, Priority::Normal, Priority::High]), retry, ..Job::to(to) })
    }
}
