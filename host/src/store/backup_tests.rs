use std::os::unix::fs::FileExt as _;

use super::*;
use crate::log::conformance::{NOW, event};
use crate::store::{Opening, Writer};

fn opening(path: &Path) -> Opening {
    Opening::new(path, NOW)
}

fn append(writer: &mut Writer, from: u64, count: u64) {
    writer.begin().unwrap();
    for n in from..from + count {
        writer.append(&event(&format!("e-{n}"), "order.created"), NOW).unwrap();
    }
    writer.commit().unwrap();
}

fn go(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_copy_is_of_one_moment_while_the_writer_goes_on() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("tidegate.db");
    let mut writer = Writer::open(&opening(&path)).unwrap();
    append(&mut writer, 0, 5_000);
    let (mut stages, mut more) = (Vec::new(), 5_000);
    // A name that a URI would read otherwise.
    let target = elsewhere.path().join("copy %41?x#y.db");
    let mut tell = |progress| {
        stages.push(progress);
        append(&mut writer, more, 10);
        more += 10;
        ControlFlow::Continue(())
    };
    let content = copy(&path, &target, false, &mut tell).unwrap();
    assert_eq!((content.events, content.last_sequence), (5_000, 5_000), "nothing of what came meanwhile");
    assert!(more > 5_020, "the writer was not held up");
    assert!(stages.contains(&Progress::CheckingPages));
    assert!(stages.contains(&Progress::CheckingEvents { seq: 4_096, of: 5_000 }), "{stages:?}");
    assert_eq!(files(elsewhere.path()), ["copy %41?x#y.db", "copy %41?x#y.db.watermark"]);
    // A host goes on from there.
    let mut restored = Writer::open(&opening(&target)).unwrap();
    assert_eq!(restored.head().seq, 5_000);
    append(&mut restored, 9_000_000, 1);
    restored.close().unwrap();
    assert_eq!(verify::whole(&target, &mut go).unwrap().last_sequence, 5_001);
}

#[test]
fn nothing_is_overwritten_by_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tidegate.db");
    let mut writer = Writer::open(&opening(&path)).unwrap();
    append(&mut writer, 0, 3);
    let target = folder.path().join("copy.db");
    let copied = |target: &Path, replace| copy(&path, target, replace, &mut go);
    copied(&target, false).unwrap();
    assert!(matches!(copied(&target, false), Err(CopyError::Exists { .. })));
    append(&mut writer, 3, 4);
    assert_eq!(copied(&target, true).unwrap().events, 7);
    let notes = folder.path().join("notes.txt");
    fs::write(&notes, "no database").unwrap();
    for replace in [false, true] {
        assert!(matches!(copied(&notes, replace), Err(CopyError::NotACopy { .. })));
        for name in ["tidegate.db", "tidegate.db-wal", "tidegate.db.lock", "tidegate.db.watermark", "./tidegate.db"] {
            assert!(matches!(copied(&folder.path().join(name), replace), Err(CopyError::Itself { .. })), "{name}");
        }
        let nowhere = folder.path().join("none/copy.db");
        assert!(matches!(copied(&nowhere, replace), Err(CopyError::NoFolder { .. })));
        assert!(matches!(copied(folder.path(), replace), Err(CopyError::NotACopy { .. })));
        assert!(matches!(copied(&folder.path().join(".."), replace), Err(CopyError::NotAName { .. })));
    }
    let other = Writer::open(&opening(&target)).unwrap();
    assert!(matches!(copied(&target, true), Err(CopyError::InUse { .. })));
    drop(other);
    assert_eq!(fs::read(&notes).unwrap(), b"no database");
}

#[test]
fn a_copy_that_is_stopped_leaves_nothing() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("tidegate.db");
    let mut writer = Writer::open(&opening(&path)).unwrap();
    append(&mut writer, 0, 5_000);
    for wanted in 0..4 {
        let mut told = 0;
        let mut tell = |_| {
            told += 1;
            if told > wanted { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let stopped = copy(&path, &elsewhere.path().join("copy.db"), false, &mut tell);
        assert!(matches!(stopped, Err(CopyError::Cancelled)), "{wanted}: {stopped:?}");
        assert!(files(elsewhere.path()).is_empty());
    }
}

#[test]
fn a_copy_that_differs_is_not_kept() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("tidegate.db");
    let mut writer = Writer::open(&opening(&path)).unwrap();
    append(&mut writer, 0, 2_000);
    let partial = elsewhere.path().join(format!("copy.db.partial-{}", std::process::id()));
    // The disk gives back another payload than was written.
    let mut tell = |progress| {
        if progress == Progress::CheckingPages {
            let bytes = fs::read(&partial).unwrap();
            let at = bytes.windows(8).rposition(|window| window == b"{\"a\": 1}").unwrap();
            let file = OpenOptions::new().write(true).open(&partial).unwrap();
            file.write_all_at(b"{\"a\": 2}", at as u64).unwrap();
        }
        ControlFlow::Continue(())
    };
    let refused = copy(&path, &elsewhere.path().join("copy.db"), false, &mut tell);
    assert!(matches!(refused, Err(CopyError::NotWhole(OpenError::Damaged { .. }))), "{refused:?}");
    assert!(files(elsewhere.path()).is_empty());
}
