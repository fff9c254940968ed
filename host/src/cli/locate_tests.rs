use super::*;

fn note() -> HostFile {
    HostFile {
        pid: 7,
        url: "http://127.0.0.1:9".into(),
        token: "secret".into(),
        database: "/data/tidegate.db".into(),
        started_at: Timestamp::from_millis(0),
    }
}

#[test]
fn a_host_file_is_private_and_read_back() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("tidegate.yaml");
    assert_eq!(HostFile::read(&manifest), None);
    note().write(&manifest).unwrap();
    note().write(&manifest).unwrap();
    assert_eq!(HostFile::read(&manifest), Some(note()));
    let mode = fs::metadata(HostFile::path(&manifest)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(HostFile::path(&manifest)).unwrap();
    for field in ["\"pid\"", "\"url\"", "\"token\"", "\"database\"", "\"startedAt\""] {
        assert!(text.contains(field), "{field} is missing: {text}");
    }
}

#[test]
fn a_host_removes_only_its_own_file() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("tidegate.yaml");
    HostFile { pid: 8, ..note() }.write(&manifest).unwrap();
    note().remove(&manifest);
    assert!(HostFile::path(&manifest).exists());
    HostFile { pid: 8, ..note() }.remove(&manifest);
    assert!(!HostFile::path(&manifest).exists());
}

#[test]
fn a_manifest_without_a_folder_is_in_the_current_one() {
    assert_eq!(HostFile::path(Path::new("tidegate.yaml")), Path::new("./.tidegate/host.json"));
    assert_eq!(HostFile::path(Path::new("/a/b.yaml")), Path::new("/a/.tidegate/host.json"));
}

#[test]
fn rubbish_is_no_host_file() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("tidegate.yaml");
    fs::create_dir(folder.path().join(".tidegate")).unwrap();
    fs::write(HostFile::path(&manifest), "{\"pid\": 1").unwrap();
    assert_eq!(HostFile::read(&manifest), None);
}
