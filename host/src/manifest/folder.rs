//! The drop folder: `<folder>/<event type>/<name>.wasm`. Only names are looked at here, not contents.

use std::path::{Path, PathBuf};

use super::codes;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::yaml::quoted;
use crate::model::{ConsumerName, route};

/// A component in the drop folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    pub event_type: String,
    pub name: String,
    pub path: PathBuf,
}

/// Components that one drop folder may hold.
const FILES_MAX: usize = 10_000;

/// Lists the drop folder, sorted. Hidden files and folders, other kinds of files, and files beside the folders of
/// event types are passed over. Problems have no position: the caller knows where the folder is named.
pub fn scan_folder(folder: &Path) -> Result<Vec<Found>, Diagnostics> {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    for (name, path) in list(folder)? {
        if !path.is_dir() {
            continue;
        }
        match list(&path) {
            Ok(files) => scan_type(&name, files, &mut found, &mut problems),
            Err(unreadable) => problems.extend(unreadable),
        }
        if found.len() > FILES_MAX {
            let message = format!("the drop folder holds more than {FILES_MAX} components");
            problems.push(Diagnostic::error(codes::FOLDER, message).in_file(folder).help("split the deployment"));
            break;
        }
    }
    found.sort();
    if problems.is_empty() { Ok(found) } else { Err(Diagnostics::new(problems)) }
}

fn scan_type(event_type: &str, files: Vec<(String, PathBuf)>, found: &mut Vec<Found>, problems: &mut Vec<Diagnostic>) {
    let components: Vec<_> = files
        .into_iter()
        .filter_map(|(file, path)| Some((file.strip_suffix(".wasm")?.to_owned(), path)))
        .filter(|(_, path)| !path.is_dir())
        .collect();
    if components.is_empty() {
        return;
    }
    if let Err(reason) = route::check_type(event_type) {
        let message =
            format!("the drop folder holds components under {}, which is not an event type", quoted(event_type));
        problems.push(Diagnostic::error(codes::FOLDER_NAME, message).help(reason));
        return;
    }
    for (name, path) in components {
        match ConsumerName::new(&name) {
            Ok(_) => found.push(Found { event_type: event_type.to_owned(), name, path }),
            Err(reason) => {
                let message =
                    format!("the file {} in the drop folder cannot name a consumer", quoted(&format!("{name}.wasm")));
                problems.push(Diagnostic::error(codes::FOLDER_NAME, message).in_file(&path).help(reason));
            }
        }
    }
}

/// Names and paths of a folder's visible entries, sorted.
fn list(folder: &Path) -> Result<Vec<(String, PathBuf)>, Diagnostics> {
    let failed = |error: std::io::Error| {
        let message = format!("the drop folder {} cannot be read: {error}", quoted(&folder.to_string_lossy()));
        let problem = Diagnostic::error(codes::FOLDER, message).in_file(folder);
        Diagnostics::from(problem.help("create it, or leave out `folder`"))
    };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_name() else { continue };
        let name = name.to_string_lossy().into_owned();
        if !name.starts_with('.') {
            entries.push((name, path));
        }
    }
    entries.sort();
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        root
    }

    #[test]
    fn components_are_found_by_type_and_name() {
        let root = folder(&[
            "order.created/b.wasm",
            "order.created/a.wasm",
            "order.created/readme.md",
            "order.created/.c.wasm.swp",
            "order.created/.d.wasm",
            "shop:order.created/e.wasm",
            "loose.wasm",
            ".git/x.wasm",
            "notes here/readme.md",
        ]);
        let found = scan_folder(root.path()).unwrap();
        let names: Vec<_> = found.iter().map(|f| (f.event_type.as_str(), f.name.as_str())).collect();
        assert_eq!(names, [("order.created", "a"), ("order.created", "b"), ("shop:order.created", "e")]);
        assert_eq!(found[0].path, root.path().join("order.created/a.wasm"));
    }

    #[test]
    fn names_that_cannot_be_are_all_reported() {
        let root =
            folder(&["order created/a.wasm", "order.created/Not Good.wasm", "order.created/fine.wasm", "x.**/y.wasm"]);
        let problems = scan_folder(root.path()).unwrap_err();
        assert_eq!(problems.iter().map(|p| p.code).collect::<Vec<_>>(), [codes::FOLDER_NAME; 3]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_problem() {
        let root = folder(&[]);
        let problems = scan_folder(&root.path().join("gone")).unwrap_err();
        assert_eq!(problems.iter().map(|p| p.code).collect::<Vec<_>>(), [codes::FOLDER]);
    }
}
