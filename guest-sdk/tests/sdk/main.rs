//! What a user of the SDK sees: handlers in the harness, the attributes' messages, the component that comes out.

mod attributes;
mod capabilities;
mod component;
mod delivery;
mod serde_derives;
