//! What a component offers to be called, and whether it is what the manifest wants of it.

use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre};

use super::bindings::{BatchConsumerPre, CompensatingPre, ConsumerPre, RespondingPre};
use super::instance::Host;
use super::load::LoadError;
use super::text;
use crate::model::spec::ConsumerSpec;

/// Interfaces of the contract that can be called.
pub(super) const HANDLER: &str = "tidegate:consumer/handler@0.1.0";
pub(super) const BATCH_HANDLER: &str = "tidegate:consumer/batch-handler@0.1.0";
const COMPENSATOR: &str = "tidegate:consumer/compensator@0.1.0";
pub(super) const RESPONDER: &str = "tidegate:consumer/responder@0.1.0";

/// What there is to be called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exports {
    /// Handles deliveries one at a time.
    pub handler: bool,
    /// Handles many at once; a component has one of the two.
    pub batch_handler: bool,
    /// Undoes a step that had finished.
    pub compensator: bool,
    /// Answers questions.
    pub responder: bool,
}

impl Exports {
    /// As of a function that stands for a component in tests.
    pub const ALL: Self = Self { handler: true, batch_handler: true, compensator: true, responder: true };

    pub(super) fn of(engine: &Engine, component: &Component) -> Self {
        let has = |name| component.component_type().get_export(engine, name).is_some();
        Self {
            handler: has(HANDLER),
            batch_handler: has(BATCH_HANDLER),
            compensator: has(COMPENSATOR),
            responder: has(RESPONDER),
        }
    }

    /// What it exports and how the manifest wants it called must agree: neither says alone which is meant.
    pub(super) fn check(self, engine: &Engine, component: &Component, spec: &ConsumerSpec) -> Result<(), LoadError> {
        match (self.handler, self.batch_handler, spec.delivery.batch.is_some()) {
            (true, true, _) => return Err(LoadError::BothHandlers),
            (false, true, false) => return Err(LoadError::NoBatches),
            (true, false, true) => return Err(LoadError::NoBatchHandler),
            _ => {}
        }
        match (self.responder, spec.answers.is_empty()) {
            (false, false) => return Err(LoadError::NoResponder),
            (true, true) => return Err(LoadError::NoAnswers),
            _ => {}
        }
        // A consumer without subscriptions may be there to undo steps or to answer questions only.
        let other =
            (self.compensator || self.responder) && spec.subscriptions.is_empty() && spec.delivery.batch.is_none();
        if self.handler || self.batch_handler || other {
            return Ok(());
        }
        let shape = component.component_type();
        let exports = shape.exports(engine).map(|(name, _)| text::safe(name, 256)).take(16).collect();
        Err(LoadError::NoHandler { exports })
    }
}

/// The exports, ready to be started.
pub(super) struct Entries {
    /// The component itself, whichever of them is meant.
    pub(super) instance: InstancePre<Host>,
    pub(super) handler: Option<ConsumerPre<Host>>,
    pub(super) batch_handler: Option<BatchConsumerPre<Host>>,
    pub(super) compensator: Option<CompensatingPre<Host>>,
    pub(super) responder: Option<RespondingPre<Host>>,
}

impl Entries {
    /// # Errors
    /// If an export has other functions or types than the contract's.
    pub(super) fn new(instance: InstancePre<Host>, exports: Exports) -> wasmtime::Result<Self> {
        let pre = || instance.clone();
        Ok(Self {
            handler: exports.handler.then(|| ConsumerPre::new(pre())).transpose()?,
            batch_handler: exports.batch_handler.then(|| BatchConsumerPre::new(pre())).transpose()?,
            compensator: exports.compensator.then(|| CompensatingPre::new(pre())).transpose()?,
            responder: exports.responder.then(|| RespondingPre::new(pre())).transpose()?,
            instance,
        })
    }

    pub(super) fn exports(&self) -> Exports {
        Exports {
            handler: self.handler.is_some(),
            batch_handler: self.batch_handler.is_some(),
            compensator: self.compensator.is_some(),
            responder: self.responder.is_some(),
        }
    }
}
