use std::sync::Arc;

use super::super::testing::*;
use super::super::{CacheOptions, Dependencies, Options, Sandbox};
use super::*;
use crate::clock::SystemClock;
use crate::model::{Grants, Limits, Outcome};

/// Not a test: what the child runs. The test binary's own words go to /dev/null, the answer to descriptor 3.
#[test]
#[ignore = "run by the other tests, as a child"]
fn as_child() {
    let output = std::fs::File::options().write(true).open("/proc/self/fd/3").unwrap();
    let code = compile_child(io::stdin(), output, io::stderr());
    #[expect(clippy::disallowed_methods, reason = "this is a process's end")]
    std::process::exit(i32::from(code));
}

fn shell(script: &str) -> Compiler {
    Compiler::Child { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()] }
}

fn child() -> Compiler {
    let this = std::env::current_exe().unwrap();
    let name = "sandbox::compile::tests::as_child";
    shell(&format!("exec 3>&1 >/dev/null; exec {} --ignored --exact {name} --nocapture", this.display()))
}

fn sandbox(compiler: Compiler, cache: Option<CacheOptions>) -> Sandbox {
    let ceilings = Ceilings { attempts: 4, memory: 256 << 20, ..Ceilings::default() };
    Sandbox::new(Options { ceilings, cache, compiler, clock: Arc::new(SystemClock::new()) }).unwrap()
}

async fn load(sandbox: &Sandbox, bytes: Bytes) -> Result<super::super::LoadedComponent, LoadError> {
    let grants = Grants {
        publish: vec![crate::model::TypePattern::new("**").unwrap()],
        state: Some(1 << 20),
        ..Grants::default()
    };
    sandbox.load(bytes, &spec(Limits::default(), grants), Dependencies::none()).await
}

#[tokio::test]
async fn consumers_of_the_same_bytes_share_their_code_for_as_long_as_one_of_them_is_there() {
    let sandbox = sandbox(child(), None);
    let (one, two) = (load(&sandbox, guest("ledger")).await.unwrap(), load(&sandbox, guest("ledger")).await.unwrap());
    assert_eq!(sandbox.counters().deserialised, 1);
    let other = load(&sandbox, guest("step")).await.unwrap();
    drop(one);
    assert_eq!(run(&two, "{}").await.outcome, Outcome::Done);
    drop(two);
    let again = load(&sandbox, guest("ledger")).await.unwrap();
    assert_eq!(sandbox.counters().deserialised, 3, "nobody used it any more");
    assert_eq!(run(&again, "{}").await.outcome, Outcome::Done);
    drop(other);
}

#[tokio::test]
async fn what_the_child_compiles_runs_in_the_host_and_is_cached() {
    let root = tempfile::tempdir().unwrap();
    let cache = CacheOptions { directory: root.path().join("compiled"), key_file: root.path().join("key") };
    let first = sandbox(child(), Some(cache.clone()));
    let component = load(&first, guest("ledger")).await.unwrap();
    let data = "{}";
    assert_eq!(run(&component, data).await.outcome, Outcome::Done);

    // No compiler at all: only the cache can have it.
    let second = sandbox(shell("exit 7"), Some(cache.clone()));
    let component = load(&second, guest("ledger")).await.unwrap();
    assert_eq!(run(&component, data).await.outcome, Outcome::Done);

    let entry = std::fs::read_dir(&cache.directory).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&entry).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&entry, bytes).unwrap();
    let third = sandbox(child(), Some(cache));
    let component = load(&third, guest("ledger")).await.unwrap();
    assert_eq!(run(&component, data).await.outcome, Outcome::Done);
    let counters = third.counters();
    assert_eq!((counters.cache_rejected, counters.deserialised), (1, 1), "only what was compiled anew was run");
}

#[tokio::test]
async fn the_childs_refusal_is_a_sentence() {
    let sandbox = sandbox(child(), None);
    let refused = load(&sandbox, Bytes::from_static(b"\0asm\x0d\0\x01\0\x01")).await.unwrap_err();
    assert!(matches!(&refused, LoadError::Malformed(why) if !why.is_empty()), "{refused}");
}

#[tokio::test]
async fn a_child_that_fails_or_is_killed_is_told_apart() {
    let component = Bytes::from_static(b"\0asm\x0d\0\x01\0");
    let killed = load(&sandbox(shell("kill -9 $$"), None), component.clone()).await.unwrap_err();
    assert!(matches!(killed, LoadError::CompileLimit(_)), "{killed}");
    let failed = load(&sandbox(shell("echo out of luck >&2; exit 2"), None), component.clone()).await.unwrap_err();
    assert!(matches!(&failed, LoadError::Child(e) if e.to_string().contains("out of luck")), "{failed}");
    let missing = Compiler::Child { program: "/nonexistent".into(), args: Vec::new() };
    let missing = load(&sandbox(missing, None), component).await.unwrap_err();
    assert!(matches!(missing, LoadError::Child(_)), "{missing}");
}

#[tokio::test]
async fn the_child_sees_no_environment() {
    let seen = load(&sandbox(shell("env >&2; exit 2"), None), Bytes::from_static(b"\0asm\x0d\0\x01\0")).await;
    let seen = seen.unwrap_err().to_string();
    assert!(!seen.contains("HOME=") && !seen.contains("CARGO"), "{seen}");
}
