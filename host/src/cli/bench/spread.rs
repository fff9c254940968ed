//! How long each of many things took.

use std::time::Duration;

/// Every time that was taken: few enough to keep them all, so that no percentile is a guess.
#[derive(Clone, Debug, Default)]
pub(super) struct Spread {
    taken: Vec<Duration>,
}

impl Spread {
    pub(super) fn add(&mut self, took: Duration) {
        self.taken.push(took);
    }

    pub(super) fn join(&mut self, other: Self) {
        self.taken.extend(other.taken);
    }

    pub(super) fn len(&self) -> usize {
        self.taken.len()
    }

    /// The shortest time that so many of a thousand did not exceed (nearest rank); none of nothing.
    pub(super) fn per_mille(&mut self, share: usize) -> Option<Duration> {
        self.taken.sort_unstable();
        let rank = (self.taken.len() * share).div_ceil(1_000).max(1);
        self.taken.get(rank - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_taken() {
        let mut spread = Spread::default();
        assert_eq!(spread.per_mille(500), None);
        (1..=200).rev().for_each(|ms| spread.add(Duration::from_millis(ms)));
        let at = |spread: &mut Spread, share| spread.per_mille(share).unwrap().as_millis();
        assert_eq!([500, 990, 995, 1_000, 0].map(|share| at(&mut spread, share)), [100, 198, 199, 200, 1]);
    }
}
