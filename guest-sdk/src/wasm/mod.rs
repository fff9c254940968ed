//! The two ends of the component contract, generated from `wit/`, and the conversions between its types and ours.
//!
//! Compiled for WebAssembly only. A consumer imports what it calls and exports what its attribute says. Every import
//! stands in the one world `imports`, of which the component encoder keeps what the code refers to; every export has a
//! world of its own, which is linked only where an attribute expands to its export macro. One crate may so be a handler
//! and a compensator.

mod convert;
pub(crate) use convert::{millis, payload, raw};
pub mod glue;

/// Imports, and the types that all interfaces share.
pub(crate) mod imports {
    wit_bindgen::generate!({
        path: "../wit",
        world: "tidegate:consumer/imports",
        runtime_path: "::tidegate_sdk::__private::wit_bindgen::rt",
        generate_all,
    });
}

pub mod handler {
    wit_bindgen::generate!({
        inline: "package tidegate:sdk-handler; world handler-exports { export tidegate:consumer/handler@0.1.0; }",
        path: "../wit",
        world: "tidegate:sdk-handler/handler-exports",
        runtime_path: "::tidegate_sdk::__private::wit_bindgen::rt",
        default_bindings_module: "::tidegate_sdk::__private::handler",
        pub_export_macro: true,
        with: { "tidegate:consumer/types@0.1.0": crate::wasm::imports::tidegate::consumer::types },
    });
}

pub mod batch_handler {
    wit_bindgen::generate!({
        inline: "package tidegate:sdk-batch-handler; world batch-handler-exports { export tidegate:consumer/batch-handler@0.1.0; }",
        path: "../wit",
        world: "tidegate:sdk-batch-handler/batch-handler-exports",
        runtime_path: "::tidegate_sdk::__private::wit_bindgen::rt",
        default_bindings_module: "::tidegate_sdk::__private::batch_handler",
        pub_export_macro: true,
        with: { "tidegate:consumer/types@0.1.0": crate::wasm::imports::tidegate::consumer::types },
    });
}

pub mod compensator {
    wit_bindgen::generate!({
        inline: "package tidegate:sdk-compensator; world compensator-exports { export tidegate:consumer/compensator@0.1.0; }",
        path: "../wit",
        world: "tidegate:sdk-compensator/compensator-exports",
        runtime_path: "::tidegate_sdk::__private::wit_bindgen::rt",
        default_bindings_module: "::tidegate_sdk::__private::compensator",
        pub_export_macro: true,
        with: { "tidegate:consumer/types@0.1.0": crate::wasm::imports::tidegate::consumer::types },
    });
}

pub mod responder {
    wit_bindgen::generate!({
        inline: "package tidegate:sdk-responder; world responder-exports { export tidegate:consumer/responder@0.1.0; }",
        path: "../wit",
        world: "tidegate:sdk-responder/responder-exports",
        runtime_path: "::tidegate_sdk::__private::wit_bindgen::rt",
        default_bindings_module: "::tidegate_sdk::__private::responder",
        pub_export_macro: true,
        with: { "tidegate:consumer/types@0.1.0": crate::wasm::imports::tidegate::consumer::types },
    });
}
