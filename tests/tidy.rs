//! The house rules as tests: who may import whom, sizes, words. ARCHITECTURE.md holds the tables; this reads them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            walk(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

fn files(ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.sort();
    found
        .into_iter()
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .map(|path| (path.strip_prefix(root()).unwrap().to_string_lossy().into_owned(), text(&path)))
        .collect()
}

/// Some fixtures are deliberately no text.
fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
}

fn architecture() -> String {
    fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

/// Rows of the table under a heading: its cells, without the head.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = architecture();
    let section = text.split(&format!("## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no section '{heading}'"));
    let section = section.split("\n## ").next().unwrap();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let rows = section.lines().filter(|line| line.starts_with('|')).map(cells);
    let rows: Vec<_> = rows.filter(|row| !row[0].starts_with("--")).skip(1).collect();
    assert!(!rows.is_empty(), "the table under '{heading}' is empty");
    rows
}

/// Names in backquotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()
}

fn is_test(path: &str) -> bool {
    path.contains("tests") || path.contains("scripted") || path.contains("conformance")
}

/// Source without comments and without what follows the tests' mark.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn host_modules() -> BTreeMap<String, Vec<(String, String)>> {
    let mut modules = BTreeMap::<String, Vec<(String, String)>>::new();
    for (path, text) in files(".rs") {
        let Some(inside) = path.strip_prefix("host/src/") else { continue };
        if is_test(&path) {
            continue;
        }
        let module = inside.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        modules.entry(module).or_default().push((path, code(&text)));
    }
    modules
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let rows = table("Who may import whom");
    let allowed: BTreeMap<String, Vec<String>> =
        rows.iter().map(|row| (quoted(&row[0]).concat(), quoted(&row[1]))).collect();
    let mut wrong = Vec::new();
    for (module, sources) in host_modules() {
        if module == "lib" || module == "main" {
            continue;
        }
        let allowed = allowed.get(&module).unwrap_or_else(|| panic!("ARCHITECTURE.md does not list module `{module}`"));
        for (path, text) in sources {
            for part in text.split("crate::").skip(1) {
                let target: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if target != module && !allowed.contains(&target) && !target.is_empty() {
                    wrong.push(format!("{path} imports crate::{target}"));
                }
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "not allowed by ARCHITECTURE.md:\n{}", wrong.join("\n"));
}

#[test]
fn heavy_dependencies_have_one_door() {
    let mut wrong = Vec::new();
    for row in table("One door per dependency") {
        let doors = quoted(&row[1]);
        for name in quoted(&row[0]) {
            for (path, text) in host_modules().into_values().flatten() {
                let inside = path.trim_start_matches("host/src/");
                let used = text.contains(&format!("{name}::")) || text.contains(&format!("use {name}"));
                if used && !doors.iter().any(|door| inside.starts_with(door.as_str())) {
                    wrong.push(format!("{path} uses {name}, whose door is {doors:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_small() {
    const LINES_MAX: usize = 600;
    let long: Vec<_> = files(".rs")
        .into_iter()
        .filter(|(path, text)| !is_test(path) && code(text).lines().count() > LINES_MAX)
        .map(|(path, text)| format!("{path}: {} lines", code(&text).lines().count()))
        .collect();
    assert!(long.is_empty(), "over {LINES_MAX} lines:\n{}", long.join("\n"));
}

#[test]
fn unsafe_stands_in_two_places() {
    let mark = ["unsafe", " {"].concat();
    let found: Vec<_> = files(".rs")
        .into_iter()
        .filter(|(path, text)| !path.contains("guests/") && code(text).contains(&mark))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(found, ["host/src/sandbox/code_cache.rs", "tests/vfs/src/shim.rs"]);
}

#[test]
fn sql_stands_in_the_store() {
    let mut wrong = Vec::new();
    for (path, text) in host_modules().into_values().flatten() {
        let sql =
            ["SELECT ", "INSERT INTO", "UPDATE ", "DELETE FROM"].iter().any(|word| text.contains(&format!("\"{word}")));
        if sql && !path.starts_with("host/src/store/") {
            wrong.push(path);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn nothing_is_left_half_done() {
    let marks = ["TO", "FIX", "XX", "HA"].iter().zip(["DO", "ME", "X", "CK"]).map(|(a, b)| format!("{a}{b}"));
    let marks: Vec<String> = marks.collect();
    let mut wrong = Vec::new();
    for (path, text) in files(".rs").into_iter().chain(files(".md")).chain(files(".wit")) {
        for mark in &marks {
            if text.split(|c: char| !c.is_alphanumeric()).any(|word| word == mark) {
                wrong.push(format!("{path}: {mark}"));
            }
        }
        for (mark, what) in
            [(["#[ign", "ore]"], "a test is ignored"), (["#[al", "low("], "a lint is allowed, not expected")]
        {
            if text.contains(&mark.concat()) {
                wrong.push(format!("{path}: {what} without a reason"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_machine_is_named() {
    let words = ["/work", "/root/", "index.crates", "crates-io-proxy"];
    let mut wrong = Vec::new();
    for ending in [".rs", ".md", ".toml", ".lock", ".yaml", ".sh", "Makefile", "build", ".wit", ".json"] {
        for (path, text) in files(ending) {
            if path == "tests/tidy.rs" {
                continue;
            }
            for word in words {
                let named = text
                    .match_indices(word)
                    .any(|(at, _)| !text[at + word.len()..].starts_with(|c: char| c.is_alphanumeric()));
                if named {
                    wrong.push(format!("{path}: {word}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn links_in_documents_resolve() {
    let mut wrong = Vec::new();
    for (path, text) in files(".md") {
        let folder = root().join(&path).parent().unwrap().to_owned();
        for part in text.split("](").skip(1) {
            let target = part.split(')').next().unwrap();
            let target = target.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !folder.join(target).exists() {
                wrong.push(format!("{path} -> {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_test_file_is_declared() {
    let main = fs::read_to_string(root().join("tests/main.rs")).unwrap();
    for entry in fs::read_dir(root().join("tests")).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(module) = name.strip_suffix(".rs").filter(|name| *name != "main") {
            assert!(main.contains(&format!("mod {module};")), "tests/{name} is not declared in tests/main.rs");
        }
    }
}
