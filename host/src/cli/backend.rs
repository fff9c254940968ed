//! What the reading commands read from: a running host through HTTP, or its database file when none runs. Both answer
//! with the same records, so a command never needs to know which it was.

use serde::Deserialize;

use super::Context;
use super::args::Reading;
use super::client::{Ask, Client, encode, with_query};
use super::error::Error;
use super::link::store_error;
use super::locate::{self, Found};
use super::text;
use crate::model::pipeline::run::RunId;
use crate::model::query::{DeadLetterQuery, EventQuery, OutcomeQuery, QuestionQuery, RunQuery, StateQuery};
use crate::model::record::{
    ConsumerRecord, DeadLetterRecord, EventRecord, EventTree, OutcomeRecord, QueryRecord, RunDetail, RunRecord,
    StateRecord, StatsRecord,
};
use crate::model::{ConsumerName, DeliveryId};
use crate::store::Reader;

/// Events that the tree of one event may have.
const TREE_NODES_MAX: usize = 1_000;

pub(super) enum Backend {
    Host(Client),
    File(Reader),
}

/// An event with everything it caused, and whether that was too much to show.
pub(super) struct Tree {
    pub(super) tree: EventTree,
    pub(super) cut: bool,
}

/// One dead letter with its whole story.
#[derive(Clone, Debug, serde::Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeadStory {
    pub(super) dead_letter: DeadLetterRecord,
    pub(super) outcomes: Vec<OutcomeRecord>,
    pub(super) event: EventRecord,
}

#[derive(Deserialize)]
struct Events {
    events: Vec<EventRecord>,
}
#[derive(Deserialize)]
struct Outcomes {
    outcomes: Vec<OutcomeRecord>,
}
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeadLetters {
    dead_letters: Vec<DeadLetterRecord>,
}
#[derive(Deserialize)]
struct Queries {
    queries: Vec<QueryRecord>,
}
#[derive(Deserialize)]
struct Runs {
    runs: Vec<RunRecord>,
}
#[derive(Deserialize)]
struct Consumers {
    consumers: Vec<ConsumerRecord>,
}
#[derive(Deserialize)]
struct States {
    state: Vec<StateRecord>,
}
/// What a host adds to a tree that it had to cut.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Cut {
    #[serde(alias = "truncated")]
    cut: bool,
}

impl Backend {
    /// Finds the host or the file.
    pub(super) fn find(context: &Context, reading: &Reading) -> Result<Self, Error> {
        match locate::record(context, reading)? {
            Found::Host(client) => Ok(Self::Host(client)),
            Found::Database(path) => Reader::open(&path)
                .map(Self::File)
                .map_err(|e| store_error(e, format!("cannot open the database {}", path.display()))),
        }
    }

    pub(super) fn events(&self, query: &EventQuery) -> Result<Vec<EventRecord>, Error> {
        match self {
            Self::Host(host) => Ok(host.json::<Events>(Ask::get(&with_query("/events", query)))?.events),
            Self::File(file) => file.events(query).map_err(unread),
        }
    }

    /// An event with everything that it caused. By sequence, by id alone, or by `source#id` where an id alone is not
    /// unique.
    pub(super) fn tree(&self, reference: &str) -> Result<Option<Tree>, Error> {
        match self {
            Self::Host(host) => {
                let path = format!("/events/{}?tree=true", encode(reference));
                let body = host.find::<Box<serde_json::value::RawValue>>(Ask::get(&path))?;
                let Some(body) = body else { return Ok(None) };
                let garbled = |e: serde_json::Error| {
                    Error::environment("the host answered something that is not understood").because(e)
                };
                let tree = serde_json::from_str(body.get()).map_err(garbled)?;
                let Cut { cut } = serde_json::from_str(body.get()).unwrap_or_default();
                Ok(Some(Tree { tree, cut }))
            }
            Self::File(file) => {
                let Some(event) = file.event(reference).map_err(unread)? else { return Ok(None) };
                let found = file.tree(event.sequence, TREE_NODES_MAX).map_err(unread)?;
                Ok(found.map(|(tree, cut)| Tree { tree, cut }))
            }
        }
    }

    pub(super) fn outcomes(&self, query: &OutcomeQuery) -> Result<Vec<OutcomeRecord>, Error> {
        match self {
            Self::Host(host) => Ok(host.json::<Outcomes>(Ask::get(&with_query("/outcomes", query)))?.outcomes),
            Self::File(file) => file.outcomes(query).map_err(unread),
        }
    }

    pub(super) fn queries(&self, query: &QuestionQuery) -> Result<Vec<QueryRecord>, Error> {
        match self {
            Self::Host(host) => Ok(host.json::<Queries>(Ask::get(&with_query("/queries", query)))?.queries),
            Self::File(file) => file.queries(query).map_err(unread),
        }
    }

    pub(super) fn dead_letters(&self, query: &DeadLetterQuery) -> Result<Vec<DeadLetterRecord>, Error> {
        match self {
            Self::Host(host) => dead_letters(host, query),
            Self::File(file) => file.dead_letters(query).map_err(unread),
        }
    }

    pub(super) fn dead_letter(&self, id: &DeliveryId) -> Result<Option<DeadStory>, Error> {
        match self {
            Self::Host(host) => Ok(host.find(Ask::get(&format!("/dead-letters/{id}")))?),
            Self::File(file) => {
                let found = file.dead_letter(id).map_err(unread)?;
                Ok(found.map(|(dead_letter, outcomes, event)| DeadStory { dead_letter, outcomes, event }))
            }
        }
    }

    pub(super) fn runs(&self, query: &RunQuery) -> Result<Vec<RunRecord>, Error> {
        match self {
            Self::Host(host) => Ok(host.json::<Runs>(Ask::get(&with_query("/runs", query)))?.runs),
            Self::File(file) => file.runs(query).map_err(unread),
        }
    }

    pub(super) fn run(&self, run: &RunId) -> Result<Option<RunDetail>, Error> {
        match self {
            Self::Host(host) => Ok(host.find(Ask::get(&format!("/runs/{run}")))?),
            Self::File(file) => file.run_detail(run).map_err(unread),
        }
    }

    /// Where nothing fits a consumer's name: whether there is such a consumer. Who has mistyped it is not to take nothing for the answer.
    pub(super) fn expect(&self, name: &ConsumerName) -> Result<(), Error> {
        let consumers = self.consumers()?;
        if consumers.iter().any(|consumer| consumer.name == *name) {
            return Ok(());
        }
        let error = Error::state(format!("there is no consumer '{name}'"));
        let names = consumers.iter().map(|consumer| consumer.name.as_str());
        Err(match text::nearest(name.as_str(), names) {
            Some(name) => error.hint(format!("Did you mean '{name}'?")),
            None => error.hint("List them with `tidegate consumers`."),
        })
    }

    pub(super) fn consumers(&self) -> Result<Vec<ConsumerRecord>, Error> {
        match self {
            Self::Host(host) => consumers(host),
            Self::File(file) => file.consumers().map_err(unread),
        }
    }

    /// None if the database has never been used.
    pub(super) fn stats(&self) -> Result<Option<StatsRecord>, Error> {
        match self {
            Self::Host(host) => Ok(host.find(Ask::get("/stats"))?),
            Self::File(file) => file.stats().map_err(unread),
        }
    }

    pub(super) fn state(&self, consumer: &ConsumerName, query: &StateQuery) -> Result<Vec<StateRecord>, Error> {
        match self {
            Self::Host(host) => {
                let path = with_query(&format!("/state/{consumer}"), query);
                Ok(host.find::<States>(Ask::get(&path))?.map(|answer| answer.state).unwrap_or_default())
            }
            Self::File(file) => file.state(consumer, query).map_err(unread),
        }
    }
}

/// The consumers of a running host.
pub(super) fn consumers(host: &Client) -> Result<Vec<ConsumerRecord>, Error> {
    Ok(host.json::<Consumers>(Ask::get("/consumers"))?.consumers)
}

/// The dead letters of a running host.
pub(super) fn dead_letters(host: &Client, query: &DeadLetterQuery) -> Result<Vec<DeadLetterRecord>, Error> {
    Ok(host.json::<DeadLetters>(Ask::get(&with_query("/dead-letters", query)))?.dead_letters)
}

pub(super) fn unread(e: crate::store::Error) -> Error {
    store_error(e, "cannot read the database".into())
}
