use std::os::unix::fs::symlink;

use super::*;
use crate::model::spec::Ceilings;
use crate::sandbox::engine;

/// A cache in a directory of its own, with one small entry that is no code at all: it must never be run.
struct Fixture {
    _root: tempfile::TempDir,
    engine: Engine,
    options: CacheOptions,
    cache: CodeCache,
    path: PathBuf,
}

const COMPONENT: Digest = Digest([7; 32]);

fn fixture() -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let options = CacheOptions { directory: root.path().join("compiled"), key_file: root.path().join("compiled.key") };
    let mut config = engine::config(&Ceilings::default());
    config.allocation_strategy(wasmtime::InstanceAllocationStrategy::OnDemand);
    let engine = Engine::new(&config).unwrap();
    let cache = CodeCache::open(&engine, Some(&options)).unwrap();
    let path = entry(&options.directory, &COMPONENT);
    let fixture = Fixture { _root: root, engine, options, cache, path };
    fixture.write();
    fixture
}

impl Fixture {
    fn write(&self) {
        self.cache.put(&COMPONENT, &Code::compiled(b"machine code".to_vec())).unwrap();
    }

    fn is_refused(&self, why: &str) {
        let before = self.cache.rejected();
        assert!(self.cache.get(&COMPONENT).is_none(), "{why}");
        assert_eq!(self.cache.rejected(), before + 1, "{why}: not counted");
        assert!(std::fs::symlink_metadata(&self.path).is_err(), "{why}: still there");
        assert_eq!(self.cache.deserialised(), 0, "{why}");
        self.write();
    }
}

#[test]
fn what_was_put_is_got() {
    let fixture = fixture();
    assert_eq!(fixture.cache.get(&COMPONENT).unwrap().0, b"machine code");
    assert!(fixture.cache.get(&Digest([8; 32])).is_none());
    let again = CodeCache::open(&fixture.engine, Some(&fixture.options)).unwrap();
    assert!(again.get(&COMPONENT).is_some(), "the key stays");
    assert_eq!((fixture.cache.rejected(), again.rejected()), (0, 0));
    let names = std::fs::read_dir(&fixture.options.directory).unwrap().count();
    assert_eq!(names, 1, "no temporary file stays");
}

#[test]
fn files_are_private() {
    let fixture = fixture();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&fixture.options.directory), 0o700);
    assert_eq!(mode(&fixture.options.key_file), 0o600);
    assert_eq!(mode(&fixture.path), 0o600);
    std::fs::set_permissions(&fixture.options.directory, std::fs::Permissions::from_mode(0o777)).unwrap();
    CodeCache::open(&fixture.engine, Some(&fixture.options)).unwrap();
    assert_eq!(mode(&fixture.options.directory), 0o700, "made private again");
    std::fs::set_permissions(&fixture.options.key_file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(CodeCache::open(&fixture.engine, Some(&fixture.options)).is_err(), "a key that others can read");
}

#[test]
fn any_changed_byte_is_noticed() {
    let fixture = fixture();
    let sound = std::fs::read(&fixture.path).unwrap();
    for at in 0..sound.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = sound.clone();
            bytes[at] ^= change;
            std::fs::write(&fixture.path, &bytes).unwrap();
            fixture.is_refused(&format!("byte {at}"));
        }
    }
}

/// The check is what does it.
#[test]
fn a_planted_bug_is_found() {
    let _planted = planted::plant(Bug::CacheWithoutMac);
    let fixture = fixture();
    let mut bytes = std::fs::read(&fixture.path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&fixture.path, &bytes).unwrap();
    assert!(fixture.cache.get(&COMPONENT).is_some());
}

#[test]
fn other_lengths_are_noticed() {
    let fixture = fixture();
    let sound = std::fs::read(&fixture.path).unwrap();
    for length in 0..sound.len() {
        std::fs::write(&fixture.path, &sound[..length]).unwrap();
        fixture.is_refused(&format!("{length} bytes"));
    }
    std::fs::write(&fixture.path, [&sound[..], b"x"].concat()).unwrap();
    fixture.is_refused("a byte more");
}

#[test]
fn entries_cannot_be_swapped_linked_or_brought_from_elsewhere() {
    let fixture = fixture();
    let other = Digest([9; 32]);
    fixture.cache.put(&other, &Code::compiled(b"other".to_vec())).unwrap();
    std::fs::rename(entry(&fixture.options.directory, &other), &fixture.path).unwrap();
    fixture.is_refused("another component's");

    let moved = fixture.options.key_file.with_extension("moved");
    std::fs::rename(&fixture.path, &moved).unwrap();
    symlink(&moved, &fixture.path).unwrap();
    fixture.is_refused("a link, even to sound bytes");
    assert!(moved.exists(), "what it points to is not touched");

    std::fs::remove_file(&fixture.options.key_file).unwrap();
    let stranger = CodeCache::open(&fixture.engine, Some(&fixture.options)).unwrap();
    assert!(stranger.get(&COMPONENT).is_none(), "under another key");
    assert_eq!(stranger.rejected(), 1);

    fixture.write();
    let mut newer = CodeCache::open(&fixture.engine, None).unwrap();
    newer.place = fixture.cache.place.clone();
    newer.profile[0] ^= 1;
    assert!(newer.get(&COMPONENT).is_none(), "of another version or engine");
    assert_eq!((newer.rejected(), newer.deserialised()), (1, 0));
}

#[test]
fn without_a_place_nothing_is_kept() {
    let engine = fixture().engine;
    let cache = CodeCache::open(&engine, None).unwrap();
    cache.put(&COMPONENT, &Code::compiled(b"machine code".to_vec())).unwrap();
    assert!(cache.get(&COMPONENT).is_none());
}
