use std::path::Path;
use std::process::Command;

use super::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn name(text: &str) -> ConsumerName {
    ConsumerName::new(text).unwrap()
}

fn files(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path.strip_prefix(root()).unwrap().to_string_lossy().into_owned());
        }
    }
}

#[test]
fn the_whole_sdk_is_carried() {
    let mut found = vec!["guest-sdk/Cargo.toml".to_owned(), "guest-sdk/macros/Cargo.toml".to_owned()];
    for folder in ["guest-sdk/src", "guest-sdk/macros/src", "wit"] {
        files(&root().join(folder), &mut found);
    }
    found.sort();
    let carried: Vec<_> = sdk::FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(carried, found, "the table in cli/new/sdk.rs is out of date");
}

#[test]
fn the_sdk_gets_a_workspace_of_its_own() {
    let workspace = sdk::workspace();
    assert!(workspace.contains("\nmembers = [\"guest-sdk\", \"guest-sdk/macros\"]\n"), "{workspace}");
    assert!(!workspace.contains("\"host\"") && !workspace.contains("exclude"), "{workspace}");
    assert!(workspace.contains("[workspace.package]") && workspace.contains("[workspace.lints.rust]"), "{workspace}");
}

#[test]
fn a_crate_is_made_and_nothing_is_left_to_fill_in() {
    let project = tempfile::tempdir().unwrap();
    let made = consumer(&project.path().join("send-mail"), &name("send-mail"), "order.created", None).unwrap();
    let made: Vec<_> = made.iter().map(|path| path.strip_prefix(project.path()).unwrap().to_str().unwrap()).collect();
    let crate_files = ["send-mail/Cargo.toml", "send-mail/src/lib.rs", "send-mail/README.md", "send-mail/.gitignore"];
    assert_eq!(made[0], ".tidegate/sdk");
    assert_eq!(made[1..], crate_files);
    for file in crate_files {
        let text = std::fs::read_to_string(project.path().join(file)).unwrap();
        assert!(!text.contains("{{"), "{file}: {text}");
    }
    assert!(!project.path().join(".tidegate/sdk.new").exists());

    let second = consumer(&project.path().join("second"), &name("second"), "order.created", None).unwrap();
    assert_eq!(second.len(), crate_files.len(), "the SDK is unpacked once");
}

#[test]
fn the_sdk_of_another_version_is_replaced() {
    let project = tempfile::tempdir().unwrap();
    assert_eq!(sdk::unpack(project.path()).unwrap().len(), 1);
    let folder = project.path().join(sdk::FOLDER);
    let stamp = std::fs::read_to_string(folder.join(sdk::STAMP)).unwrap();
    assert!(stamp.starts_with(&format!("tidegate-sdk {}\n", env!("CARGO_PKG_VERSION"))), "{stamp}");
    let kept = folder.join("guest-sdk/src/lib.rs");
    std::fs::write(&kept, "of another version").unwrap();
    assert!(sdk::unpack(project.path()).unwrap().is_empty(), "the same version is left alone");
    std::fs::write(folder.join(sdk::STAMP), "tidegate-sdk 0.0.1\n").unwrap();
    assert_eq!(sdk::unpack(project.path()).unwrap(), vec![folder.clone()]);
    assert_ne!(std::fs::read_to_string(&kept).unwrap(), "of another version");
    assert_eq!(std::fs::read_to_string(folder.join(sdk::STAMP)).unwrap(), stamp);
    let left: Vec<_> = std::fs::read_dir(project.path().join(".tidegate")).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing else stays: {left:?}");
}

#[test]
fn what_is_there_is_not_overwritten() {
    let project = tempfile::tempdir().unwrap();
    std::fs::write(project.path().join("mail"), "mine").unwrap();
    let error = consumer(&project.path().join("mail"), &name("mail"), "order.created", None).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("choose another name"), "{error}");
    assert_eq!(std::fs::read_to_string(project.path().join("mail")).unwrap(), "mine");
}

#[test]
fn the_sdk_goes_where_the_manifest_is() {
    let project = tempfile::tempdir().unwrap();
    std::fs::write(project.path().join(MANIFEST), "tidegate: 1\n").unwrap();
    let folder = project.path().join("sources/consumers/mail");
    consumer(&folder, &name("mail"), "order.created", None).unwrap();
    assert!(project.path().join(".tidegate/sdk/guest-sdk/src/lib.rs").is_file());
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    assert!(manifest.contains(r#"{ path = "../../../.tidegate/sdk/guest-sdk" }"#), "{manifest}");
}

#[test]
fn a_named_sdk_is_used_where_it_is() {
    let project = tempfile::tempdir().unwrap();
    let sdk = root().join("guest-sdk");
    consumer(&project.path().join("mail"), &name("mail"), "order.created", Some(&sdk)).unwrap();
    assert!(!project.path().join(".tidegate").exists());
    let manifest = std::fs::read_to_string(project.path().join("mail/Cargo.toml")).unwrap();
    assert!(manifest.contains(&format!("{{ path = {:?} }}", sdk.canonicalize().unwrap())), "{manifest}");

    let error =
        consumer(&project.path().join("other"), &name("other"), "order.created", Some(&project.path().join("no")))
            .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(!project.path().join("other").exists());
}

#[test]
fn every_consumer_has_a_crate_that_may_be_called_so() {
    for (consumer, expected) in [
        ("mail", "mail"),
        ("send_mail", "send_mail"),
        ("2fa", "consumer-2fa"),
        ("fn", "consumer-fn"),
        ("proc_macro", "consumer-proc_macro"),
    ] {
        assert_eq!(package(&name(consumer)), expected);
    }
}

/// Slow: it compiles the SDK twice. What the examples have compiled of its dependencies is used again.
#[test]
fn a_new_consumer_builds_and_passes_its_test() {
    let project = tempfile::tempdir().unwrap();
    let folder = project.path().join("2fa");
    consumer(&folder, &name("2fa"), "user.signed-in", None).unwrap();
    // The versions that the project has tested, and nothing fetched beyond them.
    std::fs::copy(root().join("examples/Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let cargo = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO"))
            .args(arguments)
            .arg("--target-dir")
            .arg(root().join("target/guests"))
            .current_dir(&folder)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && !text.contains("warning"), "cargo {arguments:?}\n{text}");
        text
    };
    assert!(cargo(&["test"]).contains("2 passed"));
    cargo(&["build", "--release", "--target", "wasm32-wasip2"]);
    assert!(root().join("target/guests/wasm32-wasip2/release/consumer_2fa.wasm").exists());
}
