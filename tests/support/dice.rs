//! Chance that repeats itself: `TIDEGATE_SEED` gives the same rolls again.

pub struct Dice(u64);

impl Default for Dice {
    #[expect(clippy::print_stdout, reason = "a test that failed is repeated with it")]
    fn default() -> Self {
        let seed = std::env::var("TIDEGATE_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0x5eed);
        println!("seed {seed} (TIDEGATE_SEED repeats it)");
        Self(seed)
    }
}

impl Dice {
    pub fn new() -> Self {
        Self::default()
    }

    /// A number from 0, smaller than `below`, which must not be 0.
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}
