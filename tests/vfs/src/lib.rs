//! A disk that remembers, forgets and fails, under the real SQLite: for tests.
//!
//! [`register`] makes a shim over SQLite's own file system the default one, so that production code runs on it
//! unchanged. It lets everything pass, except for files in a folder that a [`Disk`] is attached to. There it
//!
//! - records every write, truncation, sync, creation and removal, in order and with its bytes ([`Disk::record`]);
//! - fails the k-th of a kind, once or for good ([`Disk::fail`]);
//! - tells a test before anything happens, which may keep it waiting ([`Disk::before`]).
//!
//! Files that are written without SQLite come through the same disk by [`plain`]. From a record, [`Platter`] makes what a power
//! cut could have left: what was synced, and any part of the rest.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on must say so and end"
)]

mod dice;
mod disk;
pub mod plain;
mod platter;
mod shim;

pub use dice::Dice;
pub use disk::{Act, Disk, Failed, Fault, Kind, Op, code};
pub use platter::{Cut, Image, Platter};
pub use shim::register;
