//! The attributes that turn one function into a Tidegate consumer, and serde's derives without a dependency on serde.
//!
//! See `tidegate-sdk`, which re-exports everything here; this crate is not used alone.

mod attribute;
mod derive;

use proc_macro::TokenStream;

use attribute::Kind;

/// Makes a function the handler of a consumer: `fn name(event: Event<T>) -> Outcome`.
///
/// The function itself stays as it is and can be called, tested and documented like any other. A crate has one handler.
#[proc_macro_attribute]
pub fn consumer(arguments: TokenStream, item: TokenStream) -> TokenStream {
    attribute::expand(Kind::Consumer, arguments.into(), item.into()).into()
}

/// Makes a function the handler of many deliveries at once: `fn name(events: Vec<Event<T>>) -> Vec<Outcome>`, with one
/// outcome for each event, in the same order. Events whose data does not fit `T` are rejected and not passed on.
///
/// The consumer's entry in the manifest says `batch: { size: 100, wait: 200ms }`. An output given with `done_with` is dropped.
#[proc_macro_attribute]
pub fn batch_consumer(arguments: TokenStream, item: TokenStream) -> TokenStream {
    attribute::expand(Kind::Batch, arguments.into(), item.into()).into()
}

/// Makes a function the answer to questions: `fn name(question: Question<T>) -> Answer`.
#[proc_macro_attribute]
pub fn responder(arguments: TokenStream, item: TokenStream) -> TokenStream {
    attribute::expand(Kind::Responder, arguments.into(), item.into()).into()
}

/// Makes a function undo what the crate's `#[consumer]` did: `fn name(event: Event<T>, output: Option<U>) -> Outcome`,
/// where `output` is what the handler returned with `done_with`.
#[proc_macro_attribute]
pub fn compensator(arguments: TokenStream, item: TokenStream) -> TokenStream {
    attribute::expand(Kind::Compensator, arguments.into(), item.into()).into()
}

/// serde's `Deserialize`, without a dependency on serde of your own.
#[proc_macro_derive(Deserialize, attributes(serde))]
pub fn deserialize(item: TokenStream) -> TokenStream {
    derive::expand(derive::Direction::Read, item.into()).into()
}

/// serde's `Serialize`, without a dependency on serde of your own.
#[proc_macro_derive(Serialize, attributes(serde))]
pub fn serialize(item: TokenStream) -> TokenStream {
    derive::expand(derive::Direction::Write, item.into()).into()
}
