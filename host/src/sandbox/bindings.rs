//! Generated from `wit/`: the two ends of the contract as Rust types. Private to the sandbox; `convert.rs` is the
//! only place where they meet the model.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "consumer",
    imports: {
        // The one import that waits for the world.
        "tidegate:consumer/http.send": async | trappable,
        default: trappable,
    },
    exports: { default: async },
});

pub(super) use tidegate::consumer::{attempt, config, http, log, publisher, secrets, state, types};
