//! Replays, inside a transaction.

use crate::log::{Commit, Waiting};
use crate::model::replay::{Replay, ReplayStep};
use crate::model::{Delivery, Priority, Timestamp};
use crate::store::{self, Writer};

pub(super) fn step(
    store: &mut Writer,
    step: &ReplayStep,
    now: Timestamp,
    commits: &mut Vec<Commit>,
) -> Result<Option<Replay>, store::Error> {
    let Some((replay, made)) = store.step_replay(step, now)? else { return Ok(None) };
    if !made.is_empty() {
        let waiting = |id| Waiting {
            id,
            delivery: Delivery::new(now),
            key: None,
            blocked: false,
            errand: false,
            priority: Priority::Normal,
        };
        commits.push(Commit::Redriven(made.into_iter().map(waiting).collect()));
    }
    Ok(Some(replay))
}
