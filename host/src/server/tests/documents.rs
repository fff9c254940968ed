//! docs/http.md says what there is.

use crate::server::problem::KINDS;
use crate::server::route::ROUTES;

fn document() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/http.md");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn every_route_has_its_part() {
    let document = document();
    for route in &ROUTES {
        let heading = format!("`{} {}`", route.method, route.path);
        assert!(document.lines().any(|line| line.starts_with("### ") && line.contains(&heading)), "{heading}");
    }
}

#[test]
fn every_problem_is_explained() {
    let document = document();
    for (kind, _) in KINDS {
        assert!(document.contains(&format!("| `{kind}` |")), "{kind}");
    }
}
