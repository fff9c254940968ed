//! What a standard library expects of WASI 0.2, answered by us: no environment, no arguments, no files, no sockets,
//! coarse clocks, bounded output. The interfaces are those of `wasmtime-wasi`, for their types; the answers are our
//! own, so that nothing of the machine stands behind them. Streams and polling are `wasmtime-wasi-io`'s, which
//! touch nothing but the attempt's own table.

mod cli;
mod clocks;
mod filesystem;
mod output;
mod random;

use wasmtime::component::{HasData, HasSelf, Linker, ResourceTable};
use wasmtime_wasi::p2::bindings as wasi;
use wasmtime_wasi_io::bindings::wasi::io;

use super::instance::Host;

struct Streams;

impl HasData for Streams {
    type Data<'a> = &'a mut ResourceTable;
}

/// Streams and polls are charged, not counted: output never fails a guest.
fn streams(host: &mut Host) -> &mut ResourceTable {
    host.account.charge(0);
    &mut host.table
}

/// The interfaces that [`link`] provides, without package and version.
pub(super) const LINKED: [&str; 20] = [
    "cli/environment",
    "cli/exit",
    "cli/stderr",
    "cli/stdin",
    "cli/stdout",
    "cli/terminal-input",
    "cli/terminal-output",
    "cli/terminal-stderr",
    "cli/terminal-stdin",
    "cli/terminal-stdout",
    "clocks/monotonic-clock",
    "clocks/wall-clock",
    "filesystem/preopens",
    "filesystem/types",
    "io/error",
    "io/poll",
    "io/streams",
    "random/insecure",
    "random/insecure-seed",
    "random/random",
];

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    type Own = HasSelf<Host>;
    wasi::cli::environment::add_to_linker::<Host, Own>(linker, |host| host)?;
    wasi::cli::exit::add_to_linker::<Host, Own>(linker, |host| host)?;
    wasi::cli::stdin::add_to_linker::<Host, Own>(linker, |host| host)?;
    wasi::cli::stdout::add_to_linker::<Host, Own>(linker, |host| host)?;
    wasi::cli::stderr::add_to_linker::<Host, Own>(linker, |host| host)?;
    wasi::cli::terminal_input::add_to_linker::<Host, Own>(linker, |host| host)?;
    wasi::cli::terminal_output::add_to_linker::<Host, Own>(linker, |host| host)?;
    wasi::cli::terminal_stdin::add_to_linker::<Host, Own>(linker, |host| host)?;
    wasi::cli::terminal_stdout::add_to_linker::<Host, Own>(linker, |host| host)?;
    wasi::cli::terminal_stderr::add_to_linker::<Host, Own>(linker, |host| host)?;
    wasi::clocks::monotonic_clock::add_to_linker::<Host, Own>(linker, |host| host)?;
    wasi::clocks::wall_clock::add_to_linker::<Host, Own>(linker, |host| host)?;
    wasi::filesystem::preopens::add_to_linker::<Host, Own>(linker, |host| host)?;
    wasi::filesystem::types::add_to_linker::<Host, Own>(linker, |host| host)?;
    wasi::random::random::add_to_linker::<Host, Own>(linker, |host| host)?;
    wasi::random::insecure::add_to_linker::<Host, Own>(linker, |host| host)?;
    wasi::random::insecure_seed::add_to_linker::<Host, Own>(linker, |host| host)?;
    io::error::add_to_linker::<Host, Streams>(linker, streams)?;
    io::poll::add_to_linker::<Host, Streams>(linker, streams)?;
    io::streams::add_to_linker::<Host, Streams>(linker, streams)
}
