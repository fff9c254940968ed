//! What a handler compiles to: a component that exports its handler and imports what it calls.

use std::path::{Path, PathBuf};
use std::process::Command;

use wasmparser::{Parser, Payload};

/// Imports and exports of a component, by name, sorted.
fn interface(component: &Path) -> (Vec<String>, Vec<String>) {
    let bytes = std::fs::read(component).unwrap();
    wasmparser::Validator::new().validate_all(&bytes).expect("a valid component");
    let (mut imports, mut exports, mut depth) = (Vec::new(), Vec::new(), 0);
    for payload in Parser::new(0).parse_all(&bytes) {
        match payload.unwrap() {
            Payload::ComponentSection { .. } | Payload::ModuleSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                imports.extend(section.into_iter().map(|import| import.unwrap().name.name.to_owned()));
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                exports.extend(section.into_iter().map(|export| export.unwrap().name.name.to_owned()));
            }
            _ => {}
        }
    }
    imports.sort();
    exports.sort();
    (imports, exports)
}

/// Compiles crates of one file each, as a user would, into one target folder.
fn compile(crates: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let sdk = env!("CARGO_MANIFEST_DIR");
    let members: Vec<_> = crates.iter().map(|(name, _)| format!("{name:?}")).collect();
    let write = |path: &str, text: String| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    // The examples' profile and target folder, so that what they have compiled is not compiled again.
    let examples = std::fs::read_to_string(Path::new(sdk).join("../examples/Cargo.toml")).unwrap();
    let profile = examples.split_once("[profile.release]").expect("the examples have a profile").1;
    let members = members.join(", ");
    let workspace = format!("[workspace]\nresolver = \"3\"\nmembers = [{members}]\n[profile.release]{profile}");
    write("Cargo.toml", workspace);
    for (name, source) in crates {
        let manifest = format!(
            "[package]\nname = \"sdk-test-{name}\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n\
             [dependencies]\ntidegate-sdk = {{ path = {sdk:?} }}\n"
        );
        write(&format!("{name}/Cargo.toml"), manifest);
        write(&format!("{name}/src/lib.rs"), format!("use tidegate_sdk::prelude::*;\n{source}"));
    }
    // The versions that the project has tested, and nothing fetched beyond them.
    std::fs::copy(Path::new(sdk).join("../examples/Cargo.lock"), folder.path().join("Cargo.lock")).unwrap();
    let target = Path::new(sdk).join("../target/guests");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--target", "wasm32-wasip2", "--target-dir"])
        .arg(&target)
        .current_dir(folder.path())
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    (folder, target.join("wasm32-wasip2/release"))
}

fn ours(names: &[String]) -> Vec<&str> {
    names.iter().filter_map(|name| name.strip_prefix("tidegate:consumer/")?.strip_suffix("@0.1.0")).collect()
}

#[test]
fn a_component_imports_what_it_calls_and_nothing_else() {
    let (_sources, built) = compile(&[
        ("nothing", "#[consumer]\nfn handle(event: Event<Value>) -> Outcome { done_with(event.data) }"),
        (
            "publishes",
            "#[consumer]\nfn handle(event: Event<Value>) -> Outcome { publish(\"a.b\", event.data)?; done() }",
        ),
        (
            "everything",
            "#[consumer]
            fn handle(event: Event<Value>) -> Outcome {
                log::info!(id = event.id, \"{:?}\", attempt::remaining());
                state::increment(\"n\", 1)?;
                let key = secrets::reveal(\"key\")?;
                http::get(config::get(\"url\").unwrap_or_default()).header(\"key\", key).send()?;
                publish(\"a.b\", ())?;
                done_with(queries::ask::<_, u32>(\"stock.check\", &1)?)
            }",
        ),
        (
            "step",
            "#[consumer]
            fn reserve(_: Event<Value>) -> Outcome { done_with(7) }
            #[compensator]
            fn release(_: Event<Value>, _: Option<u32>) -> Outcome { done() }",
        ),
        ("undo", "#[compensator]\nfn release(_: Event<Value>, _: Option<u32>) -> Outcome { done() }"),
        (
            "batch",
            "#[batch_consumer]\nfn index(events: Vec<Event<Value>>) -> Vec<Outcome> { events.iter().map(|_| done()).collect() }",
        ),
        ("answers", "#[responder]\nfn reply(question: Question<Value>) -> Answer { answer(question.data) }"),
    ]);
    for (name, imports, exports) in [
        ("nothing", &["types"][..], &["handler"][..]),
        ("publishes", &["publisher", "types"], &["handler"]),
        (
            "everything",
            &["attempt", "config", "http", "log", "publisher", "queries", "secrets", "state", "types"],
            &["handler"],
        ),
        ("step", &["types"], &["compensator", "handler"]),
        ("undo", &["types"], &["compensator"]),
        ("batch", &["types"], &["batch-handler"]),
        ("answers", &["types"], &["responder"]),
    ] {
        let (imported, exported) = interface(&built.join(format!("sdk_test_{name}.wasm")));
        assert_eq!(ours(&imported), imports, "imports of `{name}`");
        assert_eq!(ours(&exported), exports, "exports of `{name}`");
        let foreign: Vec<_> = imported
            .iter()
            .filter(|import| !import.starts_with("tidegate:"))
            .filter(|import| {
                !["wasi:cli/", "wasi:io/", "wasi:clocks/", "wasi:random/"].iter().any(|known| import.starts_with(known))
            })
            .collect();
        assert!(foreign.is_empty(), "`{name}` imports {foreign:?}");
    }
}
