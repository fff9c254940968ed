//! Metrics.

use crate::model::{ConsumerName, Outcome, Usage};

#[derive(Default)]
pub struct Metrics {}

impl Metrics {
    pub fn attempt(&self, _consumer: &ConsumerName, _outcome: Outcome, _usage: Usage) {}
    pub fn dead_letter(&self, _consumer: &ConsumerName) {}
    pub fn conflict(&self, _consumer: &ConsumerName) {}
    pub fn host_panic(&self) {}
}
