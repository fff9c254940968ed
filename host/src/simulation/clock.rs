//! Time as the schedule has it: the wall clock can be set, the other goes on.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::clock::Clock;
use crate::model::Timestamp;

#[derive(Clone)]
pub(super) struct SimulatedClock(Arc<Mutex<Times>>);

struct Times {
    wall: Timestamp,
    monotonic: Duration,
    sleepers: Vec<Waker>,
}

/// 2026-01-01.
const START: Timestamp = Timestamp(1_767_225_600_000_000);

impl SimulatedClock {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Times { wall: START, monotonic: Duration::from_secs(1), sleepers: Vec::new() })))
    }

    pub(super) fn advance(&self, by: Duration) {
        let mut times = self.0.lock().unwrap();
        times.wall = times.wall.plus(by);
        times.monotonic += by;
        times.sleepers.drain(..).for_each(Waker::wake);
    }

    /// Somebody sets the wall clock. Nobody is told, as on a real machine. Before 1970 there is no time, as for the host's own clock.
    pub(super) fn set(&self, wall: Timestamp) {
        self.0.lock().unwrap().wall = wall.max(Timestamp(0));
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        self.0.lock().unwrap().wall
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().unwrap().monotonic
    }

    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(Sleep { times: self.0.clone(), at })
    }
}

struct Sleep {
    times: Arc<Mutex<Times>>,
    at: Duration,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut times = self.times.lock().unwrap();
        if times.monotonic >= self.at {
            return Poll::Ready(());
        }
        if !times.sleepers.iter().any(|waker| waker.will_wake(context.waker())) {
            times.sleepers.push(context.waker().clone());
        }
        Poll::Pending
    }
}
