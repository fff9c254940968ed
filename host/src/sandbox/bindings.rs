//! Generated from `wit/`: the two ends of the contract as Rust types. Private to the sandbox; `convert.rs` is the
//! only place where they meet the model.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "consumer",
    imports: {
        // What waits for the world, and for others.
        "tidegate:consumer/http.send": async | trappable,
        "tidegate:consumer/queries.ask": async | trappable,
        default: trappable,
    },
    exports: { default: async },
});

/// The same world but for what it exports: what it imports is the other's.
macro_rules! exporting {
    ($module:ident, $world:literal) => {
        mod $module {
            use super::tidegate::consumer as own;

            wasmtime::component::bindgen!({
                path: "../wit",
                world: $world,
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
    };
}

exporting!(batch, "batch-consumer");
exporting!(compensating, "compensating");
exporting!(responding, "responding");

pub(super) use batch::BatchConsumerPre;
pub(super) use compensating::CompensatingPre;
pub(super) use responding::RespondingPre;
pub(super) use responding::exports::tidegate::consumer::responder::Question as AskedQuestion;
pub(super) use tidegate::consumer::{attempt, config, http, jobs, log, publisher, queries, secrets, state, types};
