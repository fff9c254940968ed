use std::fs;

use super::*;
use crate::model::Timestamp;

fn project(host_file: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("tidegate.yaml");
    fs::create_dir(Announcement::path(&manifest).parent().unwrap()).unwrap();
    fs::write(Announcement::path(&manifest), host_file).unwrap();
    (folder, manifest)
}

#[test]
fn the_hosts_own_file_is_understood() {
    let (_folder, manifest) = project(
        r#"{"pid":7,"url":"http://127.0.0.1:9","token":"t","database":"/d/t.db","startedAt":"2026-01-31T08:00:00Z"}"#,
    );
    let expected = Announcement {
        pid: 7,
        url: "http://127.0.0.1:9".into(),
        token: "t".into(),
        database: "/d/t.db".into(),
        started_at: Timestamp::parse("2026-01-31T08:00:00Z").unwrap(),
    };
    assert_eq!(Announcement::read(&manifest), Some(expected));
}

#[test]
fn a_manifest_without_a_folder_is_in_the_current_one() {
    assert_eq!(Announcement::path(Path::new("tidegate.yaml")), Path::new("./.tidegate/tidegate.yaml.host.json"));
    assert_eq!(Announcement::path(Path::new("/a/b.yaml")), Path::new("/a/.tidegate/b.yaml.host.json"));
}

#[test]
fn rubbish_is_no_host_file() {
    let (_folder, manifest) = project("{\"pid\": 1");
    assert_eq!(Announcement::read(&manifest), None);
    assert_eq!(Announcement::read(Path::new("/nowhere/tidegate.yaml")), None);
}
