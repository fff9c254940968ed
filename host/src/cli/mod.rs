//! The command line: arguments, dispatch, and the one way out. A file a command; what they share is in `args`,
//! `locate` (which host or file), `backend` (what it answers) and `output` (the only place that prints).

mod args;
mod ask;
mod backend;
mod backup;
mod bench;
mod check;
mod client;
mod compile;
mod completions;
mod consumers;
mod dead;
mod emit;
pub mod error;
mod event;
mod events;
mod explain;
mod link;
mod locate;
mod new;
mod outcomes;
mod output;
mod queries;
mod reload;
mod replay;
mod restore;
mod run;
mod runs;
mod scaffold;
mod schema;
mod show;
mod sse;
mod state;
mod stats;
mod stream;
mod tail;
mod text;
mod timeline;
mod verify;
mod wait;

#[cfg(test)]
mod fake;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::BufRead;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, LazyLock};

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::clock::{Clock, SystemClock};
use crate::model::Timestamp;
use error::{EXIT_CODES, Error, exit};
use output::Output;

/// What `--version` says: with it, what a report of a fault needs. `-V` says the first line.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let sqlite = crate::store::sqlite_version();
    format!("{}\nwasmtime {}\nSQLite {sqlite}", env!("CARGO_PKG_VERSION"), crate::sandbox::WASMTIME)
});

/// Turns events into sandboxed work: a declarative consumer host that runs WebAssembly handlers.
///
/// Commands talk to the host that runs for the manifest. When none runs, those that only read open its database file.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, long_version = LONG_VERSION.as_str(), after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Emit(emit::Args),
    Ask(ask::Args),
    Wait(wait::Args),
    Events(events::Args),
    Event(event::Args),
    Outcomes(outcomes::Args),
    Queries(queries::Args),
    Dead(dead::Args),
    Runs(runs::Args),
    Consumers(consumers::Args),
    Stats(stats::Args),
    Tail(tail::Args),
    State(state::Args),
    Replay(replay::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Verify(verify::Args),
    Reload(reload::Args),
    Bench(bench::Args),
    New(scaffold::Args),
    Schema(schema::Args),
    Explain(explain::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    CompileComponent(compile::Args),
}

/// What a command is given besides its arguments.
struct Context {
    out: Output,
    clock: Arc<dyn Clock>,
    vars: BTreeMap<String, String>,
    input: Box<dyn BufRead>,
    /// Whether a person can answer a question.
    interactive: bool,
}

impl Context {
    #[cfg(test)]
    fn for_tests(vars: &[(&str, &str)]) -> Self {
        tests::context(vars).0
    }

    fn standard(clock: Arc<dyn Clock>) -> Self {
        use std::io::IsTerminal as _;
        let stdin = std::io::stdin();
        Self {
            out: Output::standard(),
            clock,
            // A variable that is not UTF-8 is none of ours.
            vars: std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
            interactive: stdin.is_terminal(),
            input: Box::new(std::io::BufReader::new(stdin)),
        }
    }

    /// A variable of the environment, if it is set to something.
    fn var(&self, name: &str) -> Option<String> {
        self.vars.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Asks before something that cannot be undone. `yes` is the answer given on the command line.
    fn confirm(&mut self, question: &str, yes: bool) -> Result<(), Error> {
        if yes {
            return Ok(());
        }
        if !self.interactive {
            return Err(Error::usage(format!("{question} Nobody is here to answer"))
                .hint("Give `--yes` if that is what you want."));
        }
        if self.out.ask(question, self.input.as_mut())? {
            return Ok(());
        }
        Err(Error::state("nothing was changed").hint("Answer `y` or give `--yes` to go on."))
    }
}

/// Runs the command and says with which code the process ends.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    main_by(Arc::new(SystemClock::new()), args)
}

/// As [`main`], by another clock.
pub fn main_by(clock: Arc<dyn Clock>, args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut context = Context::standard(clock);
    // A panic is our mistake: it has told the terminal where it happened, and here it gets its exit code.
    let code = catch_unwind(AssertUnwindSafe(|| run(args, &mut context))).unwrap_or(exit::BUG);
    ExitCode::from(code)
}

fn run(args: impl IntoIterator<Item = OsString>, context: &mut Context) -> u8 {
    let result = match Cli::try_parse_from(args) {
        Ok(Cli { command: Command::CompileComponent(args) }) => return compile::run(&args),
        Ok(cli) => dispatch(cli.command, context).and_then(|()| context.out.flush()),
        Err(e) => return refused(&e, context),
    };
    match result {
        Ok(()) => exit::OK,
        Err(error) => {
            context.out.error(&error);
            error.kind.exit_code()
        }
    }
}

/// Help, a version, or arguments that clap does not take.
fn refused(error: &clap::Error, context: &mut Context) -> u8 {
    let rendered = error.render();
    if error.use_stderr() {
        let text = if context.out.colour_err() { rendered.ansi().to_string() } else { rendered.to_string() };
        context.out.note(text.trim_end());
        return exit::USAGE;
    }
    let text = if context.out.is_terminal() && context.out.colour_err() {
        rendered.ansi().to_string()
    } else {
        rendered.to_string()
    };
    match context.out.raw(text.as_bytes()).and_then(|()| context.out.flush()) {
        Ok(()) => exit::OK,
        Err(error) => error.kind.exit_code(),
    }
}

fn dispatch(command: Command, context: &mut Context) -> Result<(), Error> {
    match command {
        Command::Run(args) => run::run(args, context),
        Command::Check(args) => check::run(&args, context),
        Command::Emit(args) => emit::run(args, context),
        Command::Ask(args) => ask::run(&args, context),
        Command::Wait(args) => wait::run(&args, context),
        Command::Events(args) => events::run(&args, context),
        Command::Event(args) => event::run(&args, context),
        Command::Outcomes(args) => outcomes::run(&args, context),
        Command::Queries(args) => queries::run(&args, context),
        Command::Dead(args) => dead::run(args, context),
        Command::Runs(args) => runs::run(&args, context),
        Command::Consumers(args) => consumers::run(&args, context),
        Command::Stats(args) => stats::run(&args, context),
        Command::Tail(args) => tail::run(&args, context),
        Command::State(args) => state::run(&args, context),
        Command::Replay(args) => replay::run(&args, context),
        Command::Backup(args) => backup::run(&args, context),
        Command::Restore(args) => restore::run(&args, context),
        Command::Verify(args) => verify::run(&args, context),
        Command::Reload(args) => reload::run(&args, context),
        Command::Bench(args) => bench::run(&args, context),
        Command::New(args) => scaffold::run(&args, context),
        Command::Schema(args) => schema::run(&args, context),
        Command::Explain(args) => explain::run(&args, context),
        // Ended before this, with a code of its own.
        Command::CompileComponent(_) => Ok(()),
        Command::Completions(args) => completions::run(&args, context),
    }
}

/// The command line as clap knows it.
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
