//! A hand of attempts: those of quick consumers that may begin at the same moment share a task, a message to the log and one to the
//! loop, so that what these cost is not paid for each event.
//!
//! Each call is begun in its turn. Most are over the first time that they are polled, in microseconds; one that waits for anything, or
//! has computed for as long as a guest may before it makes room, becomes a task of its own and holds up nobody.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::attempt::{self, Called, Tools};
use super::core::{Ended, Wake};
use super::lane::Left;
use super::pace::Polite;
use super::settle::Claim;
use crate::log::{Settled, Settlement};
use crate::model::DeliveryId;

/// Attempts of one hand: what the last of them waits for the others is a fraction of a millisecond.
const HAND_MAX: usize = 32;

/// What hands share.
#[derive(Clone)]
pub(super) struct Player {
    pub(super) tools: Tools,
    /// Where calls run that wait.
    pub(super) quick: Handle,
    pub(super) back: mpsc::UnboundedSender<Wake>,
}

/// Who is at the table: each hand that is dealt and not played yet has a seat.
#[derive(Default)]
pub(super) struct Seats(Arc<()>);

pub(super) struct Seat(Arc<()>);

impl Seat {
    /// Whether others are played, or about to be.
    fn has_company(&self) -> bool {
        // One is the table's own.
        Arc::strong_count(&self.0) > 2
    }
}

impl Seats {
    pub(super) fn take(&self) -> Seat {
        Seat(self.0.clone())
    }

    pub(super) fn taken(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// What the log wants to have settled otherwise.
struct Odd {
    claim: Claim,
    took: Duration,
    settlement: Settlement,
    settled: Settled,
}

/// A call that may have to be waited for; none if the host panicked.
type Calling = Pin<Box<dyn Future<Output = Option<Called>> + Send>>;

impl Player {
    /// Deals attempts out to so many threads that have nothing to do; if there are none, they make one hand for whichever is free first.
    /// Hands that were dealt to all threads whenever a few attempts were over would be half as large at each turn, and soon be one attempt each.
    pub(super) fn deal(claims: Vec<Claim>, idle: usize) -> impl Iterator<Item = Vec<Claim>> {
        let size = claims.len().div_ceil(idle.max(1)).clamp(1, HAND_MAX);
        let mut claims = claims.into_iter();
        std::iter::from_fn(move || Some(claims.by_ref().take(size).collect()).filter(|hand: &Vec<_>| !hand.is_empty()))
    }

    /// Plays a hand; the seat is free once nothing more is called.
    pub(super) async fn play(self, claims: Vec<Claim>, seat: Seat) {
        let mut over = Vec::with_capacity(claims.len());
        for claim in claims {
            let id = claim.id.clone();
            let mut calling = self.begin(claim);
            match calling.as_mut().now_or_never() {
                Some(called) => over.push((id, called)),
                None => drop(self.quick.spawn(Polite::new(Box::pin(self.clone().wait(id, calling))))),
            }
        }
        let more = seat.has_company();
        drop(seat);
        self.settle(over, more).await;
    }

    /// Plays one that is to be waited for.
    pub(super) async fn play_alone(self, claim: Claim) {
        let id = claim.id.clone();
        let calling = self.begin(claim);
        self.wait(id, calling).await;
    }

    fn begin(&self, claim: Claim) -> Calling {
        let tools = self.tools.clone();
        let call = async move { attempt::run(&tools, claim).await };
        Box::pin(AssertUnwindSafe(call).catch_unwind().map(Result::ok))
    }

    async fn wait(self, id: DeliveryId, calling: Calling) {
        let called = calling.await;
        self.settle(vec![(id, called)], false).await;
    }

    /// Makes durable what calls came to, and tells the loop how that leaves their deliveries. `more`: others will be over in a moment.
    async fn settle(self, over: Vec<(DeliveryId, Option<Called>)>, more: bool) {
        if over.is_empty() {
            return;
        }
        let ids: Vec<DeliveryId> = over.iter().map(|(id, _)| id.clone()).collect();
        self.tell(Wake::Called(ids.clone()));
        let Ok((ended, odd)) = AssertUnwindSafe(self.make_durable(over, more)).catch_unwind().await else {
            return self.tell(Wake::Ended(self.failed(ids)));
        };
        self.tell(Wake::Ended(ended));
        for Odd { claim, took, settlement, settled } in odd {
            let id = claim.id.clone();
            let follow = AssertUnwindSafe(attempt::follow(&self.tools, claim, settlement, settled)).catch_unwind();
            let ended = match follow.await {
                Ok(left) => vec![Ended::one(id, left, took)],
                Err(_) => self.failed(vec![id]),
            };
            self.tell(Wake::Ended(ended));
        }
    }

    async fn make_durable(&self, over: Vec<(DeliveryId, Option<Called>)>, more: bool) -> (Vec<Ended>, Vec<Odd>) {
        let (mut ended, mut claims, mut settlements) = (Vec::with_capacity(over.len()), Vec::new(), Vec::new());
        for (id, called) in over {
            let Some(Called { claim, report, took }) = called else {
                ended.extend(self.failed(vec![id]));
                continue;
            };
            match report.and_then(|report| attempt::caused(&self.tools, &claim, report)) {
                Some(settlement) => {
                    claims.push((claim, took));
                    settlements.push(settlement);
                }
                None => ended.push(Ended::one(id, Left::Unsettled, took)),
            }
        }
        let (settled, odd) = self.answered(claims, settlements, more).await;
        ended.extend(settled);
        (ended, odd)
    }

    /// Those that are settled, or cannot be; and those that the log wants to have settled otherwise.
    async fn answered(
        &self,
        claims: Vec<(Claim, Duration)>,
        settlements: Vec<Settlement>,
        more: bool,
    ) -> (Vec<Ended>, Vec<Odd>) {
        if settlements.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let answers = match self.tools.log.settle_each(settlements.clone(), more).await {
            Ok(answers) => answers,
            Err(error) => {
                tracing::warn!(attempts = claims.len(), %error, "attempts could not be settled; they will run again");
                let unsettled = |(claim, took): (Claim, _)| Ended::one(claim.id, Left::Unsettled, took);
                return (claims.into_iter().map(unsettled).collect(), Vec::new());
            }
        };
        let (mut ended, mut odd) = (Vec::with_capacity(claims.len()), Vec::new());
        for (((claim, took), settlement), settled) in claims.into_iter().zip(settlements).zip(answers) {
            match settled {
                Settled::Committed | Settled::Fenced => {
                    if settled == Settled::Committed {
                        attempt::report_settled(&self.tools, &claim, &settlement);
                    }
                    ended.push(Ended::one(claim.id, attempt::left(&settlement), took));
                }
                _ => odd.push(Odd { claim, took, settlement, settled }),
            }
        }
        (ended, odd)
    }

    fn failed(&self, ids: Vec<DeliveryId>) -> Vec<Ended> {
        self.tools.metrics.host_panic();
        tracing::error!(deliveries = ?ids, "the host panicked while it settled; please report this");
        ids.into_iter().map(|id| Ended::one(id, Left::Unsettled, Duration::ZERO)).collect()
    }

    // An error means that the loop has ended, and with the host every attempt.
    fn tell(&self, wake: Wake) {
        let _gone = self.back.send(wake).is_err();
    }
}

#[cfg(test)]
#[path = "hand_tests.rs"]
mod tests;
