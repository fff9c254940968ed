//! A small compiler: text in, a deployment out.
