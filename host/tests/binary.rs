//! Having this test makes cargo build the binary whenever tests are built; other tests run it.

use std::process::Command;

#[test]
fn the_binary_says_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate")).arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with(&format!("tidegate {}", env!("CARGO_PKG_VERSION"))), "{text}");
}
