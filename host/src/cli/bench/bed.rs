//! Where a measure takes place: a folder of its own, with a manifest, the component and the host's database in it.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::error::Error;
use crate::model::{TypePattern, spec};

/// The consumer that is measured, and the pipeline of three steps that are all this consumer's.
pub(super) const CONSUMER: &str = "measured";
pub(super) const PIPELINE: &str = "three-steps";
/// What begins a run of it.
pub(super) const RUN_TYPE: &str = "tidegate-bench.run";
/// What nobody sends: the type of the consumers that only are there.
const IDLE_TYPE: &str = "tidegate-bench.nothing";

/// What is deployed.
#[derive(Clone, Debug)]
pub(super) struct Deployed {
    pub(super) event_type: String,
    /// Consumers in all.
    pub(super) consumers: u32,
    /// Attempts at once of each.
    pub(super) concurrency: u32,
    /// How many of them get each event.
    pub(super) fan_out: u32,
    /// What the component asks for, and what can be given without harm.
    pub(super) grants: Grants,
    /// Each measure has a database of its own; what is compiled is kept beside them.
    pub(super) database: u32,
}

/// State is kept and events are published in the database that goes away; nobody else is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Grants {
    state: bool,
    publish: bool,
}

impl Grants {
    /// By the names of its imports, which stand in a component as text.
    pub(super) fn of(component: &[u8]) -> Self {
        let imports = |name: &str| component.windows(name.len()).any(|bytes| bytes == name.as_bytes());
        Self { state: imports("tidegate:consumer/state@"), publish: imports("tidegate:consumer/publisher@") }
    }

    /// As a consumer's specification has them.
    pub(super) fn spec(self) -> spec::Grants {
        let all = || TypePattern::new("**").ok();
        let publish = if self.publish { all().into_iter().collect() } else { Vec::new() };
        spec::Grants { state: self.state.then_some(u64::MAX), publish, ..spec::Grants::default() }
    }

    fn written(self) -> serde_json::Value {
        let mut grants = serde_json::Map::new();
        if self.state {
            grants.insert("state".into(), true.into());
        }
        if self.publish {
            grants.insert("publish".into(), serde_json::json!(["**"]));
        }
        grants.into()
    }
}

/// A folder that goes away.
pub(super) struct Bed {
    folder: PathBuf,
    /// It was not there before.
    made: bool,
}

impl Bed {
    /// Takes a folder that does not exist or is empty: what is there already is somebody's.
    pub(super) fn make(folder: &Path, component: &[u8]) -> Result<Self, Error> {
        let made = !folder.exists();
        let environment = |doing: &str, e| {
            Error::environment(format!("cannot {doing} {}", folder.display()))
                .because(e)
                .hint("Name a folder that you may write to with `--folder`.")
        };
        fs::create_dir_all(folder).map_err(|e| environment("make the folder", e))?;
        let folder = fs::canonicalize(folder).map_err(|e| environment("find", e))?;
        let mut inside = fs::read_dir(&folder).map_err(|e| environment("look into", e))?;
        if let Some(first) = inside.next().transpose().map_err(|e| environment("look into", e))? {
            let name = first.file_name();
            return Err(Error::usage(format!(
                "{} is not empty: there is '{}' in it",
                folder.display(),
                name.to_string_lossy()
            ))
            .hint(
                "A measure writes a database of its own and takes it away afterwards. Name a folder that is empty or does not \
                 exist with `--folder`, on the disk that you want to measure.",
            ));
        }
        let bed = Self { folder, made };
        bed.write("component.wasm", component)?;
        Ok(bed)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path(name);
        fs::write(&path, bytes).map_err(|e| Error::environment(format!("cannot write {}", path.display())).because(e))
    }

    pub(super) fn deploy(&self, deployed: &Deployed) -> Result<(), Error> {
        self.write("tidegate.yaml", manifest(deployed).as_bytes())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // What cannot be removed stays, and the next measure says that it is there.
        if self.made {
            drop(fs::remove_dir_all(&self.folder));
            return;
        }
        for name in ["data", "tidegate.yaml", "component.wasm"] {
            let path = self.path(name);
            drop(if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) });
        }
    }
}

/// JSON is YAML too, and quotes what must be quoted.
fn manifest(deployed: &Deployed) -> String {
    let grants = deployed.grants.written();
    let consumer = |on: &str| {
        let concurrency = deployed.concurrency;
        serde_json::json!({ "component": "component.wasm", "on": on, "grants": grants, "concurrency": concurrency })
    };
    let mut consumers = serde_json::Map::new();
    for index in 0..deployed.consumers.max(deployed.fan_out).max(1) {
        let name = if index == 0 { CONSUMER.to_owned() } else { format!("{CONSUMER}-{index}") };
        let on = if index < deployed.fan_out.max(1) { deployed.event_type.as_str() } else { IDLE_TYPE };
        consumers.insert(name, consumer(on));
    }
    let step = |name: &str| serde_json::json!({ "name": name, "consumer": CONSUMER });
    let pipeline = serde_json::json!({ "on": RUN_TYPE, "steps": [step("first"), step("second"), step("third")] });
    let manifest = serde_json::json!({
        "tidegate": 1,
        "server": { "listen": "127.0.0.1:0" },
        "log": format!("sqlite:data/{}.db", deployed.database),
        "consumers": consumers,
        "pipelines": { PIPELINE: pipeline },
    });
    manifest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("tidegate.db");
        fs::write(&kept, "real").unwrap();
        let refused = Bed::make(folder.path(), b"").err().unwrap();
        assert!(refused.message.contains("'tidegate.db'"), "{}", refused.message);
        assert_eq!(fs::read_to_string(&kept).unwrap(), "real");
    }

    #[test]
    fn a_component_is_granted_what_it_imports() {
        let grants = Grants::of(b"..tidegate:consumer/state@0.1.0..");
        assert_eq!(grants, Grants { state: true, publish: false });
        assert_eq!(grants.written(), serde_json::json!({ "state": true }));
        assert_eq!(Grants::of(super::super::NOTHING), Grants::default());
    }

    #[test]
    fn what_was_made_is_taken_away_and_a_folder_that_was_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        drop(Bed::make(folder.path(), b"x").unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let inside = folder.path().join("bench");
        let bed = Bed::make(&inside, b"x").unwrap();
        bed.deploy(&Deployed {
            event_type: "a.b".into(),
            consumers: 3,
            concurrency: 16,
            fan_out: 2,
            grants: Grants::default(),
            database: 1,
        })
        .unwrap();
        let text = fs::read_to_string(bed.path("tidegate.yaml")).unwrap();
        assert_eq!((text.matches("\"a.b\"").count(), text.matches(IDLE_TYPE).count()), (2, 1), "{text}");
        drop(bed);
        assert!(!inside.exists());
    }
}
