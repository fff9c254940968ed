//! serde's derives, told where serde is.
//!
//! serde's own derive names the crate `serde`, which a consumer does not depend on, unless the type says
//! `#[serde(crate = "…")]`; and a derive cannot add an attribute to the type that it stands on. So the type is copied, the copy
//! derives *remotely* for the original, and the original's implementation calls the copy's. Nothing of this is visible
//! outside the block it stands in, and every other serde attribute works as it does with serde.

use proc_macro2::TokenStream;
use quote::{ToTokens as _, format_ident, quote};
use syn::punctuated::Punctuated;
use syn::{Attribute, Data, DeriveInput, GenericParam, Ident, Meta, Token, parse_quote};

/// Which of the two traits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

pub(crate) fn expand(direction: Direction, item: TokenStream) -> TokenStream {
    match syn::parse2::<DeriveInput>(item) {
        Ok(input) => derive(direction, input),
        Err(error) => error.to_compile_error(),
    }
}

fn derive(direction: Direction, input: DeriveInput) -> TokenStream {
    let derived = match direction {
        Direction::Read => quote!(Deserialize),
        Direction::Write => quote!(Serialize),
    };
    let original = input.ident.clone();
    let remote = original.to_string();
    let copy = copy(&input);
    let implementation = implementation(direction, &input, &copy.ident);
    quote! {
        #[doc(hidden)]
        const _: () = {
            #[derive(::tidegate_sdk::serde::#derived)]
            #[serde(crate = "::tidegate_sdk::serde", remote = #remote)]
            #copy
            #implementation
        };
    }
}

/// The type under another name, with its serde attributes and no others.
fn copy(input: &DeriveInput) -> DeriveInput {
    let mut copy = input.clone();
    copy.ident = format_ident!("__Tidegate{}", input.ident);
    keep_serde(&mut copy.attrs);
    for attribute in &mut copy.attrs {
        point_at_original(attribute, input);
    }
    match &mut copy.data {
        Data::Struct(data) => data.fields.iter_mut().for_each(|field| keep_serde(&mut field.attrs)),
        Data::Enum(data) => {
            for variant in &mut data.variants {
                keep_serde(&mut variant.attrs);
                variant.fields.iter_mut().for_each(|field| keep_serde(&mut field.attrs));
            }
        }
        Data::Union(_) => {}
    }
    copy
}

fn keep_serde(attributes: &mut Vec<Attribute>) {
    attributes.retain(|attribute| attribute.path().is_ident("serde"));
}

/// `#[serde(default)]` on a type means the *original's* default; `#[serde(crate = "…")]` is ours to say. What does not
/// parse is left for serde to refuse.
fn point_at_original(attribute: &mut Attribute, input: &DeriveInput) {
    let Ok(settings) = attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated) else { return };
    let original = &input.ident;
    let (_, arguments, _) = input.generics.split_for_impl();
    let default = quote!(<#original #arguments as ::std::default::Default>::default).to_string();
    let settings =
        settings.into_iter().filter(|setting| !setting.path().is_ident("crate")).map(|setting| match setting {
            Meta::Path(path) if path.is_ident("default") => quote!(#path = #default),
            setting => setting.to_token_stream(),
        });
    *attribute = parse_quote!(#[serde(#(#settings),*)]);
}

/// The trait for the original, by way of the copy.
fn implementation(direction: Direction, input: &DeriveInput, copy: &Ident) -> TokenStream {
    let serde = quote!(::tidegate_sdk::serde);
    let original = &input.ident;
    let (_, arguments, _) = input.generics.split_for_impl();
    let turbofish = arguments.as_turbofish();
    let mut generics = input.generics.clone();
    if direction == Direction::Write {
        for parameter in generics.type_params_mut() {
            parameter.bounds.push(parse_quote!(#serde::Serialize));
        }
        let (parameters, _, bounds) = generics.split_for_impl();
        return quote! {
            impl #parameters #serde::Serialize for #original #arguments #bounds {
                fn serialize<S: #serde::Serializer>(&self, serializer: S) -> ::std::result::Result<S::Ok, S::Error> {
                    #copy #turbofish::serialize(self, serializer)
                }
            }
        };
    }
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(parse_quote!(#serde::Deserialize<'de>));
    }
    let borrowed: Vec<_> = generics.lifetimes().map(|parameter| parameter.lifetime.clone()).collect();
    let source: GenericParam = if borrowed.is_empty() { parse_quote!('de) } else { parse_quote!('de: #(#borrowed)+*) };
    generics.params.insert(0, source);
    let (parameters, _, bounds) = generics.split_for_impl();
    quote! {
        impl #parameters #serde::Deserialize<'de> for #original #arguments #bounds {
            fn deserialize<D: #serde::Deserializer<'de>>(deserializer: D) -> ::std::result::Result<Self, D::Error> {
                #copy #turbofish::deserialize(deserializer)
            }
        }
    }
}
