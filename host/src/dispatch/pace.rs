//! Who is quick and who is slow. Slow consumers, whether they compute, wait or spin until their limit, must not delay quick
//! ones: they may not take every slot, and their guests run on threads of lower priority.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// An attempt that takes longer than this is slow: about what a kernel lets a thread run before others of the same priority get their turn.
const SLOW: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    Quick,
    Slow,
}

/// What a consumer's attempts take: a mean in which every attempt counts a quarter and the past three.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    mean: Option<Duration>,
}

impl Meter {
    pub fn note(&mut self, took: Duration) {
        self.mean = Some(self.mean.map_or(took, |mean| (mean * 3 + took) / 4));
    }

    /// Of whom nothing is known, nothing good is expected.
    pub fn pace(self) -> Pace {
        if self.mean.is_some_and(|mean| mean <= SLOW) { Pace::Quick } else { Pace::Slow }
    }
}

/// How many of the slots slow attempts may take: all but a quarter, and always one.
pub fn slots_for_slow(slots: usize) -> usize {
    (slots - slots.div_ceil(4).min(slots)).max(1)
}

/// An attempt that makes room at each of its pauses: a guest pauses every fraction of a millisecond of computing, and
/// the kernel would let it finish a slice of several, whoever has become ready in the meantime.
pub struct Polite<F>(F);

impl<F> Polite<F> {
    pub fn new(attempt: F) -> Self {
        Self(attempt)
    }
}

impl<F: Future + Unpin> Future for Polite<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let polled = Pin::new(&mut self.0).poll(context);
        // A simulation has one thread: there is nobody to make room for.
        if polled.is_pending() && !cfg!(test) {
            std::thread::yield_now();
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_is_slow_until_it_has_shown_to_be_quick_and_again_when_it_dawdles() {
        let mut meter = Meter::default();
        assert_eq!(meter.pace(), Pace::Slow);
        meter.note(Duration::from_millis(1));
        assert_eq!(meter.pace(), Pace::Quick);
        meter.note(Duration::from_millis(300));
        assert_eq!(meter.pace(), Pace::Slow);
        (0..20).for_each(|_| meter.note(Duration::from_millis(1)));
        assert_eq!(meter.pace(), Pace::Quick);
    }

    #[test]
    fn slow_attempts_leave_slots_to_quick_ones() {
        for (slots, slow) in [(1, 1), (2, 1), (3, 2), (4, 3), (16, 12), (64, 48)] {
            assert_eq!(slots_for_slow(slots), slow, "{slots}");
        }
    }
}
