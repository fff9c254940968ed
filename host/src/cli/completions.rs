use clap_complete::Shell;

use super::error::Error;
use super::{Context, command};

/// Print a completion script for a shell.
///
/// For bash: `tidegate completions bash > ~/.local/share/bash-completion/completions/tidegate`.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "tidegate", &mut script);
    context.out.raw(&script)
}
