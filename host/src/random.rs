//! Randomness, given to whoever needs it, so that a run can be repeated from its seed.

use std::sync::atomic::{AtomicU64, Ordering};

/// A stream of uniformly drawn numbers (SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014). For jitter, ids and seeds; never for secrets.
#[derive(Debug)]
pub struct Random {
    state: AtomicU64,
}

impl Random {
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }

    /// Seeded by the operating system.
    pub fn from_system() -> Result<Self, getrandom::Error> {
        Ok(Self::seeded(getrandom::u64()?))
    }

    pub fn draw(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_stream() {
        let (one, two) = (Random::seeded(7), Random::seeded(7));
        let drawn: Vec<u64> = (0..100).map(|_| one.draw()).collect();
        assert_eq!(drawn, (0..100).map(|_| two.draw()).collect::<Vec<_>>());
        assert_eq!(drawn.iter().collect::<std::collections::BTreeSet<_>>().len(), 100);
    }
}
