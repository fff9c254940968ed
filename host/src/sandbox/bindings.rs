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

/// The same world but for its export: what it imports is the other's.
mod batch {
    use super::tidegate::consumer as own;

    wasmtime::component::bindgen!({
        path: "../wit",
        world: "batch-consumer",
        exports: { default: async },
        with: {
            "tidegate:consumer/attempt": own::attempt,
            "tidegate:consumer/config": own::config,
            "tidegate:consumer/http": own::http,
            "tidegate:consumer/jobs": own::jobs,
            "tidegate:consumer/log": own::log,
            "tidegate:consumer/publisher": own::publisher,
            "tidegate:consumer/queries": own::queries,
            "tidegate:consumer/secrets": own::secrets,
            "tidegate:consumer/state": own::state,
            "tidegate:consumer/streams": own::streams,
            "tidegate:consumer/types": own::types,
        },
    });
}

pub(super) use batch::BatchConsumerPre;
pub(super) use tidegate::consumer::{attempt, config, http, log, publisher, secrets, state, types};
