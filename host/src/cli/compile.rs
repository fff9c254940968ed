//! The compile child: the host starts its own binary with this command, and gives it a component to compile. Hidden,
//! because it is no part of what a person types.

use std::io::{stderr, stdin, stdout};

use crate::sandbox;

#[derive(clap::Args, Debug)]
pub(super) struct Args {}

/// Gives the exit code that the host understands.
pub(super) fn run(_: &Args) -> u8 {
    sandbox::compile_child(stdin().lock(), stdout().lock(), stderr().lock())
}
