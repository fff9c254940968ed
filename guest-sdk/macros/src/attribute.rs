//! One function in; the same function and, beside it, the glue of a component out.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::spanned::Spanned as _;
use syn::{Error, FnArg, Ident, ItemFn, ReturnType, Type};

/// Which attribute was written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Consumer,
    Batch,
    Responder,
    Compensator,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Batch => "batch_consumer",
            Self::Responder => "responder",
            Self::Compensator => "compensator",
        }
    }

    /// The form a function must have, as it is shown to the user.
    fn form(self, name: &Ident) -> String {
        match self {
            Self::Consumer => format!("fn {name}(event: Event<T>) -> Outcome"),
            Self::Batch => format!("fn {name}(events: Vec<Event<T>>) -> Vec<Outcome>"),
            Self::Responder => format!("fn {name}(question: Question<T>) -> Answer"),
            Self::Compensator => format!("fn {name}(event: Event<T>, output: Option<U>) -> Outcome"),
        }
    }

    fn arity(self) -> usize {
        if self == Self::Compensator { 2 } else { 1 }
    }
}

/// On an error, the function is kept beside it, so that the rest of the crate is still checked against it.
pub(crate) fn expand(kind: Kind, arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = match syn::parse2::<ItemFn>(item.clone()) {
        Ok(function) => function,
        Err(_) => {
            let message = format!("`#[{}]` stands on a function", kind.name());
            let error = Error::new_spanned(&item, message).to_compile_error();
            return quote!(#error #item);
        }
    };
    let glue = check(kind, &arguments, &function)
        .map_or_else(|error| error.to_compile_error(), |parts| glue(kind, &function.sig.ident, &parts));
    // A second attribute has been refused; left in place, it would complain once more.
    let mut function = function.clone();
    function.attrs.retain(|attribute| !is_ours(attribute));
    quote!(#function #glue)
}

/// The types of a function that has the right form.
struct Signature<'a> {
    parameters: Vec<&'a Type>,
    output: &'a Type,
}

/// Everything wrong with the function at once.
fn check<'a>(kind: Kind, arguments: &TokenStream, function: &'a ItemFn) -> Result<Signature<'a>, Error> {
    let mut problems: Option<Error> = None;
    let mut refuse = |error: Error| match &mut problems {
        Some(problems) => problems.combine(error),
        None => problems = Some(error),
    };
    let (attribute, signature) = (kind.name(), &function.sig);
    if !arguments.is_empty() {
        refuse(Error::new_spanned(
            arguments,
            format!("`#[{attribute}]` takes no arguments: the manifest says the rest"),
        ));
    }
    if let Some(second) = function.attrs.iter().find(|attribute| is_ours(attribute)) {
        refuse(Error::new_spanned(second, "a function has one of these attributes; remove this one"));
    }
    if let Some(token) = &signature.asyncness {
        let message = format!("`#[{attribute}]` functions are not async: calls to the host wait by themselves");
        refuse(Error::new_spanned(token, message));
    }
    if let Some(token) = &signature.unsafety {
        refuse(Error::new_spanned(token, format!("`#[{attribute}]` functions are not unsafe: the host calls them")));
    }
    if !signature.generics.params.is_empty() {
        let message = format!("`#[{attribute}]` functions are not generic: the host calls them with one type");
        refuse(Error::new_spanned(&signature.generics.params, message));
    }
    let parameters = parameters(kind, function).map_err(&mut refuse).unwrap_or_default();
    let output = match &signature.output {
        ReturnType::Type(_, output) => Some(output.as_ref()),
        ReturnType::Default => {
            let message = format!("missing return type: `{}`", kind.form(&signature.ident));
            refuse(Error::new(signature.paren_token.span.close(), message));
            None
        }
    };
    match (problems, output) {
        (None, Some(output)) => Ok(Signature { parameters, output }),
        (Some(problems), _) => Err(problems),
        (None, None) => Err(Error::new(signature.span(), "missing return type")),
    }
}

fn parameters(kind: Kind, function: &ItemFn) -> Result<Vec<&Type>, Error> {
    let (signature, inputs) = (&function.sig, &function.sig.inputs);
    let mut types = Vec::with_capacity(inputs.len());
    for input in inputs {
        match input {
            FnArg::Receiver(this) => {
                let message = format!("`#[{}]` stands on a free function, without `self`", kind.name());
                return Err(Error::new_spanned(this, message));
            }
            FnArg::Typed(parameter) => {
                if let Type::ImplTrait(opaque) = parameter.ty.as_ref() {
                    return Err(Error::new_spanned(opaque, "the host needs one type here, such as `Event<Value>`"));
                }
                types.push(parameter.ty.as_ref());
            }
        }
    }
    if types.len() == kind.arity() && signature.variadic.is_none() {
        return Ok(types);
    }
    let message = format!("wrong number of parameters: `{}`", kind.form(&signature.ident));
    match inputs.iter().nth(kind.arity()) {
        Some(extra) => Err(Error::new_spanned(extra, message)),
        None => Err(Error::new(signature.paren_token.span.join(), message)),
    }
}

fn is_ours(attribute: &syn::Attribute) -> bool {
    let last = attribute.path().segments.last();
    last.is_some_and(|segment| {
        ["consumer", "batch_consumer", "responder", "compensator"].iter().any(|name| segment.ident == name)
    })
}

/// The glue stands in a block of its own and sees what the function sees. Its types are checked on every target; the
/// component's exports exist on WebAssembly only. Beside it stands a module whose name says what is wrong if there are
/// two of it.
fn glue(kind: Kind, name: &Ident, signature: &Signature<'_>) -> TokenStream {
    let only = format_ident!("a_crate_has_only_one_{}", kind.name(), span = name.span());
    let check = check_types(kind, name, signature);
    let export = export(kind, name);
    quote! {
        #[doc(hidden)]
        mod #only {}

        const _: () = {
            #check

            #[cfg(target_family = "wasm")]
            struct Component;
            #export
        };
    }
}

/// Calls the function as the host will. The types are named, so that a type that does not fit is pointed at.
fn check_types(kind: Kind, name: &Ident, signature: &Signature<'_>) -> TokenStream {
    let sdk = quote!(::tidegate_sdk);
    let private = quote!(#sdk::__private);
    let output = signature.output;
    let first = signature.parameters.first();
    match kind {
        Kind::Consumer => quote! {
            const _: fn(#sdk::RawEvent) -> #sdk::Outcome =
                |event| #private::handle::<#first, #output>(event, #name);
        },
        Kind::Batch => quote! {
            const _: fn(::std::vec::Vec<#sdk::RawEvent>) -> ::std::vec::Vec<::std::result::Result<(), #sdk::Failure>> =
                |events| #private::batch::<#first, #output>(events, #name);
        },
        Kind::Responder => quote! {
            const _: fn(#sdk::Question) -> #sdk::Answer =
                |question| #private::answered::<#first, #output>(question, #name);
        },
        Kind::Compensator => {
            let second = signature.parameters.get(1);
            quote! {
                const _: fn(#sdk::RawEvent, ::std::option::Option<#sdk::Raw>) -> #sdk::Outcome =
                    |event, output| #private::compensate::<#first, #second, #output>(event, output, #name);
            }
        }
    }
}

fn export(kind: Kind, name: &Ident) -> TokenStream {
    let sdk = quote!(::tidegate_sdk::__private);
    let glue = quote!(#sdk::glue);
    let (module, function) = match kind {
        Kind::Consumer => (
            quote!(handler),
            quote! {
                impl #glue::HandlerGuest for Component {
                    fn handle(
                        delivery: #glue::Delivery,
                    ) -> ::std::result::Result<::std::option::Option<#glue::Payload>, #glue::Failure> {
                        #glue::handle(delivery, #name)
                    }
                }
            },
        ),
        Kind::Batch => (
            quote!(batch_handler),
            quote! {
                impl #glue::BatchGuest for Component {
                    fn handle_batch(
                        deliveries: ::std::vec::Vec<#glue::Delivery>,
                    ) -> ::std::vec::Vec<::std::result::Result<(), #glue::Failure>> {
                        #glue::batch(deliveries, #name)
                    }
                }
            },
        ),
        Kind::Responder => (
            quote!(responder),
            quote! {
                impl #glue::ResponderGuest for Component {
                    fn answer(
                        question: #glue::AskedQuestion,
                    ) -> ::std::result::Result<#glue::Payload, #glue::Refusal> {
                        #glue::answered(question, #name)
                    }
                }
            },
        ),
        Kind::Compensator => (
            quote!(compensator),
            quote! {
                impl #glue::CompensatorGuest for Component {
                    fn compensate(
                        delivery: #glue::Delivery,
                        output: ::std::option::Option<#glue::Payload>,
                    ) -> ::std::result::Result<(), #glue::Failure> {
                        #glue::compensate(delivery, output, #name)
                    }
                }
            },
        ),
    };
    quote! {
        #[cfg(target_family = "wasm")]
        #function
        #[cfg(target_family = "wasm")]
        #sdk::#module::export!(Component with_types_in #sdk::#module);
    }
}
