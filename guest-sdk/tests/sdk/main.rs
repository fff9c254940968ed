//! What a user of the SDK sees: handlers in the harness, the attributes' messages, the component that comes out.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should fail")]

mod attributes;
mod capabilities;
mod component;
mod delivery;
mod serde_derives;
