//! The attempt itself: what it may still use, and how to ask for more time.
//!
//! Work that takes longer than the manifest's `timeout`, but not so long that it must be cut into pieces, says now and then
//! that it goes on. The manifest's `timeout-max` says how long that can help.
//!
//! ```
//! use tidegate_sdk::prelude::*;
//!
//! #[consumer]
//! fn import(catalogue: Event<Vec<String>>) -> Outcome {
//!     for page in &catalogue.data {
//!         http::get(page).send()?;
//!         attempt::in_progress();
//!     }
//!     done()
//! }
//! # fn main() {
//! # use tidegate_sdk::testing::Test;
//! # let page = "https://catalogue.example.com/1";
//! # let attempt = Test::new(import).http("GET", page, |_| http::Response::new(200)).event("a.b", [page, page]).run();
//! # assert_eq!((attempt.outcome(), attempt.in_progress()), (&done(), 2));
//! # }
//! ```

use std::time::Duration;

use crate::host;

/// What is left of the attempt's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Budget {
    pub time: Duration,
    /// Guest instructions.
    pub fuel: u64,
    /// Linear memory, in bytes.
    pub memory: u64,
}

pub fn remaining() -> Budget {
    host::attempt_remaining()
}

/// Still working: from now on the attempt has its `timeout` anew, but never more than `timeout-max` in all; without a
/// `timeout-max` nothing is extended. Gives the time that remains. Fuel, memory and the number of calls to the host stay
/// bounded as they are. It is too late once the time is over: the attempt has ended then.
pub fn in_progress() -> Duration {
    host::attempt_in_progress()
}
