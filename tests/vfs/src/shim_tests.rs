//! The real SQLite on the shim.

use rusqlite::Connection;

use crate::{Act, Cut, Disk, Fault, Kind, Platter, code};

fn open(folder: &std::path::Path) -> Connection {
    let conn = Connection::open(folder.join("a.db")).unwrap();
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    conn.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0").unwrap();
    conn
}

#[test]
fn a_commit_is_writes_and_then_a_sync() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::attach(folder.path());
    let conn = open(folder.path());
    conn.execute_batch("CREATE TABLE t (n)").unwrap();
    let before = disk.position();
    conn.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    let record = disk.record();
    let new = &record[before..];
    assert!(new.iter().all(|op| &*op.file == "a.db-wal"), "{new:?}");
    assert!(matches!(new[0].act, Act::Write { .. }) && new.last().unwrap().act == Act::Sync, "{new:?}");
    for (name, act) in [("a.db", Act::Create), ("a.db-journal", Act::Create), ("a.db-journal", Act::Remove)] {
        assert!(record.iter().any(|op| &*op.file == name && op.act == act), "{name} {act:?}");
    }
    // The record, played from its start, is what the files hold.
    let mut platter = Platter::new(&record);
    platter.advance(record.len());
    let image = platter.image(&Cut { at: record.len(), sector: None, seed: 0 });
    assert_eq!(image.0["a.db-wal"], std::fs::read(folder.path().join("a.db-wal")).unwrap());
}

#[test]
fn the_nth_call_fails_and_the_next_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::forgetful(folder.path());
    let conn = open(folder.path());
    conn.execute_batch("CREATE TABLE t (n)").unwrap();
    disk.fail(Fault::once(Kind::Sync, 2, code::SYNC));
    let insert = || conn.execute_batch("INSERT INTO t VALUES (1)");
    insert().unwrap();
    let failed = insert().unwrap_err();
    assert_eq!(failed.sqlite_error().map(|e| e.extended_code), Some(code::SYNC));
    insert().unwrap();
    disk.fail(Fault::once(Kind::Write, 1, code::FULL).for_good());
    assert_eq!(insert().unwrap_err().sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull));
    insert().unwrap_err();
    disk.heal();
    insert().unwrap();
    assert!(disk.record().is_empty() && disk.failed().is_some());
}

#[test]
fn a_test_may_keep_a_sync_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::forgetful(folder.path());
    let conn = open(folder.path());
    conn.execute_batch("CREATE TABLE t (n)").unwrap();
    let (reached, wait) = std::sync::mpsc::channel();
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    disk.before(move |kind, _| {
        if kind == Kind::Sync {
            let _gone = reached.send(()).is_err();
            // Closing syncs too, when nobody is at the gate any more.
            let _gone = gate.lock().unwrap().recv().is_err();
        }
        None
    });
    let writer = std::thread::spawn(move || conn.execute_batch("INSERT INTO t VALUES (1)"));
    wait.recv().unwrap();
    assert!(!writer.is_finished());
    go.send(()).unwrap();
    drop(go);
    writer.join().unwrap().unwrap();
}

#[test]
fn other_folders_are_none_of_its_business() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = Disk::attach(folder.path());
    open(other.path()).execute_batch("CREATE TABLE t (n)").unwrap();
    assert_eq!(disk.position(), 0);
}
