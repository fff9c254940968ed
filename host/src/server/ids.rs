//! Ids for events that come without one: UUIDs of version 7 (RFC 9562), each greater than the last one of this host. That keeps the
//! log's index of ids growing at its end, where a page takes many of them, whatever comes in one millisecond.

use std::sync::{Mutex, PoisonError};

use crate::model::Timestamp;
use crate::random::Random;

/// Bits of a UUIDv7 that are neither its time nor its version and variant.
const RANDOM_BITS: u32 = 74;
/// Of those, the ones below the first twelve.
const LOW_BITS: u32 = 62;
/// What comes after another of the same millisecond is greater by up to 2 to the power of so many: nobody guesses it.
const STEP_BITS: u32 = 32;

#[derive(Debug)]
pub(super) struct Ids {
    random: Random,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    millis: u64,
    random: u128,
}

impl Ids {
    pub(super) fn new(random: Random) -> Self {
        Self { random, last: Mutex::default() }
    }

    /// The next id (RFC 9562, section 6.2, method 2: monotonic random).
    pub(super) fn next(&self, now: Timestamp) -> String {
        let millis = u64::try_from(now.as_millis()).unwrap_or(0);
        // Nobody panics while holding it.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if millis > last.millis {
            *last = Last { millis, random: self.fresh() };
        } else {
            last.random += 1 + u128::from(self.random.draw() >> (u64::BITS - STEP_BITS));
            if last.random >> RANDOM_BITS != 0 {
                *last = Last { millis: last.millis + 1, random: self.fresh() };
            }
        }
        let Last { millis, random } = *last;
        let high = u16::try_from(random >> LOW_BITS).unwrap_or(u16::MAX);
        let low = u64::try_from(random & ((1 << LOW_BITS) - 1)).unwrap_or(u64::MAX);
        let mut bytes = [0; 10];
        bytes.iter_mut().zip(high.to_be_bytes().into_iter().chain(low.to_be_bytes())).for_each(|(to, from)| *to = from);
        uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid().to_string()
    }

    /// With room above it for what comes in the same millisecond.
    fn fresh(&self) -> u128 {
        let drawn = (u128::from(self.random.draw()) << u64::BITS) | u128::from(self.random.draw());
        drawn >> (u128::BITS - RANDOM_BITS + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_is_greater_than_the_one_before_whatever_the_clock_does() {
        let ids = Ids::new(Random::seeded(1));
        let times = [7, 7, 7, 8, 3, 8, 9, 9].map(|millis| Timestamp::from_millis(1_767_225_600_000 + millis));
        let made: Vec<String> = times.into_iter().cycle().take(10_000).map(|now| ids.next(now)).collect();
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
        let parsed: Vec<_> = made.iter().map(|id| uuid::Uuid::parse_str(id).unwrap()).collect();
        assert!(parsed.iter().all(|id| id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122));
        assert!(made[0].starts_with("019b76da-a807-7"), "{}", made[0]);
    }

    #[test]
    fn a_millisecond_that_is_used_up_borrows_from_the_next() {
        let ids = Ids::new(Random::seeded(1));
        let now = Timestamp::from_millis(5);
        let first = ids.next(now);
        ids.last.lock().unwrap().random = (1 << RANDOM_BITS) - 1;
        let next = ids.next(now);
        assert!(next > first && next.starts_with("00000000-0006-7"), "{next}");
    }
}
