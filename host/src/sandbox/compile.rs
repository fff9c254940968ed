//! Compiling, away from the host. A component can be made to cost the compiler any amount of time and memory, so it
//! is compiled in a child process of the same program that limits itself first.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use wasmtime::{Engine, InstanceAllocationStrategy};

use super::code_cache::CODE_BYTES_MAX;
use super::load::LoadError;
use super::{engine, text};
use crate::clock::Clock;
use crate::model::limit::COMPONENT_BYTES_MAX;
use crate::model::spec::Ceilings;

/// Wall clock of one compilation, twice that for a large component.
const WALL: Duration = Duration::from_secs(30);
const LARGE_BYTES: usize = 8 << 20;
/// Address space and processor time of the child.
const ADDRESS_SPACE_BYTES: u64 = 1 << 30;
const CPU_SECONDS: u64 = 120;
/// What the child may say about a failure.
const ERRORS_BYTES_MAX: u64 = 16 << 10;

/// Exit codes of the child.
const COMPILED: u8 = 0;
const REFUSED: u8 = 1;
const FAILED: u8 = 2;

/// Where components are compiled.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// In this process, without limits. For tests.
    InProcess,
    /// In a child: a program and arguments that end up in [`compile_child`].
    Child { program: PathBuf, args: Vec<OsString> },
}

/// The compile child: a component on `input`, native code on `output`, or a sentence on `errors`. Gives the exit code.
/// Limits the process it runs in, so call it in a process of its own, first thing.
pub fn compile_child(input: impl Read, mut output: impl Write, mut errors: impl Write) -> u8 {
    let (code, text) = match limit_self().and_then(|()| read_component(input)) {
        Err(error) => (FAILED, error.to_string()),
        Ok(component) => match compiler().and_then(|engine| engine.precompile_component(&component)) {
            Err(error) => (REFUSED, format!("{error:#}")),
            Ok(native) => match output.write_all(&native).and_then(|()| output.flush()) {
                Ok(()) => return COMPILED,
                Err(error) => (FAILED, error.to_string()),
            },
        },
    };
    // If nobody listens to the sentence, the exit code still says enough.
    drop(errors.write_all(text::safe(&text, 8 << 10).as_bytes()));
    code
}

fn limit_self() -> io::Result<()> {
    let limit = |resource, maximum| setrlimit(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) });
    limit(Resource::As, ADDRESS_SPACE_BYTES)?;
    limit(Resource::Cpu, CPU_SECONDS)?;
    limit(Resource::Core, 0)?;
    // It writes to a pipe; files are none of its business.
    limit(Resource::Fsize, 0)?;
    limit(Resource::Nofile, 64)?;
    Ok(())
}

fn read_component(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(COMPONENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(io::Error::other("component too large"));
    }
    Ok(bytes)
}

/// The profile without the pool, which would not fit the address space; the code is the same.
fn compiler() -> wasmtime::Result<Engine> {
    let mut config = engine::config(&Ceilings::default());
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    Engine::new(&config)
}

impl Compiler {
    /// Native code for `component`, as bytes.
    pub(super) async fn compile(
        &self,
        engine: &Engine,
        component: &Bytes,
        clock: &dyn Clock,
    ) -> Result<Vec<u8>, LoadError> {
        match self {
            Self::InProcess => {
                let (engine, component) = (engine.clone(), component.clone());
                let compiled = tokio::task::spawn_blocking(move || engine.precompile_component(&component)).await;
                let compiled = compiled.map_err(|e| LoadError::Child(io::Error::other(e)))?;
                compiled.map_err(|error| LoadError::Malformed(text::reason(&format!("{error:#}"))))
            }
            Self::Child { program, args } => {
                let wall = if component.len() > LARGE_BYTES { 2 * WALL } else { WALL };
                let mut command = Command::new(program);
                command.args(args).env_clear().current_dir("/").kill_on_drop(true);
                let late = clock.sleep_until(clock.monotonic() + wall);
                tokio::select! {
                    done = converse(command, component) => done,
                    // Dropping the other branch kills the child.
                    () = late => Err(LoadError::CompileLimit(format!("still compiling after {wall:?}"))),
                }
            }
        }
    }
}

async fn converse(mut command: Command, component: &[u8]) -> Result<Vec<u8>, LoadError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(LoadError::Child)?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(LoadError::Child(io::Error::other("the compile child has no standard streams")));
    };
    let feed = async move {
        // A child that has seen enough closes its end: its exit code says more than this error.
        drop(stdin.write_all(component).await);
        drop(stdin);
    };
    let (mut native, mut errors) = (Vec::new(), Vec::new());
    let (mut stdout, mut stderr) = (stdout.take(CODE_BYTES_MAX + 1), stderr.take(ERRORS_BYTES_MAX));
    let ((), native_read, errors_read) =
        tokio::join!(feed, stdout.read_to_end(&mut native), stderr.read_to_end(&mut errors));
    native_read.and(errors_read).map_err(LoadError::Child)?;
    if native.len() as u64 > CODE_BYTES_MAX {
        return Err(LoadError::CompileLimit(format!("more than {CODE_BYTES_MAX} bytes of native code")));
    }
    drop((stdout, stderr));
    let status = child.wait().await.map_err(LoadError::Child)?;
    judge(status, native, text::reason(&String::from_utf8_lossy(&errors)))
}

fn judge(status: ExitStatus, native: Vec<u8>, errors: String) -> Result<Vec<u8>, LoadError> {
    match status.code().map(u8::try_from) {
        Some(Ok(COMPILED)) => Ok(native),
        Some(Ok(REFUSED)) => Err(LoadError::Malformed(errors)),
        Some(_) => Err(LoadError::Child(io::Error::other(format!("the compile child failed ({status}): {errors}")))),
        // Killed: out of memory aborts, too much processor time is a signal of its own.
        None => Err(LoadError::CompileLimit(format!("the compiler passed its limits ({status})"))),
    }
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
