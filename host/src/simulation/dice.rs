//! All the chance of a schedule, from its seed.

use std::ops::RangeInclusive;

use crate::random::Random;

pub(super) struct Dice(Random);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(Random::seeded(seed))
    }

    pub(super) fn draw(&self) -> u64 {
        self.0.draw()
    }

    /// Less than `n`, which is not 0.
    pub(super) fn below(&self, n: usize) -> usize {
        usize::try_from(self.draw() % u64::try_from(n).unwrap()).unwrap()
    }

    pub(super) fn within(&self, range: RangeInclusive<u32>) -> u32 {
        let (low, high) = (*range.start(), *range.end());
        low + u32::try_from(self.draw() % u64::from(high - low + 1)).unwrap()
    }

    pub(super) fn percent(&self, chance: u32) -> bool {
        self.within(0..=99) < chance
    }

    pub(super) fn one<'a, T>(&self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    pub(super) fn pick<T: Copy>(&self, of: &[T]) -> T {
        *self.one(of)
    }

    /// One of these, as often as their weights say.
    pub(super) fn weighted<T: Copy>(&self, of: &[(u32, T)]) -> T {
        let mut at = self.within(1..=of.iter().map(|(weight, _)| weight).sum());
        for (weight, item) in of {
            if at <= *weight {
                return *item;
            }
            at -= weight;
        }
        unreachable!("the weights add up")
    }
}
