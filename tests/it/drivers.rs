//! Volumes whose data an embedding program provides.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use coracle::volume_driver::{Dir, Driver, Mount as Made, Place, Result};
use coracle::{Engine, EngineOptions, Kind, Mount, VolumeSpec};
use coracle_testhost::run as host;

use crate::support::{engine, fails, nothing_but_engines, says, script, state, tools};

/// Directories of a disk of its own.
#[derive(Debug)]
struct Disk(PathBuf);

impl Driver for Disk {
    fn name(&self) -> &str {
        "disk"
    }

    fn problems(&self, options: &BTreeMap<String, String>) -> Vec<String> {
        options.keys().map(|key| format!("option `{key}` is unknown")).collect()
    }

    fn mount(&self, volume: &Place<'_>) -> Result<Made> {
        let disk = Dir::create(&self.0, 0o700)?;
        Made::bind(disk.make(volume.name(), 0o755)?, true, volume.name())
    }

    fn remove(&self, volume: &Place<'_>) -> Result<()> {
        Dir::create(&self.0, 0o700)?.remove_tree(volume.name())
    }
}

#[test]
fn a_programs_own_driver() {
    host(|host| {
        let plain = engine(host.dir());
        tools(&plain);
        let disk = host.dir().join("disk");
        let options = EngineOptions::new().volume_driver(Arc::new(Disk(disk.clone())));
        let engine = Engine::open_with(state(host.dir()), &options).unwrap();
        engine.volume(&VolumeSpec::new("db").driver("disk")).unwrap();
        says(&engine, &script("echo row > /d/row").volume("db", "/d"));
        assert_eq!(std::fs::read_to_string(disk.join("db/row")).unwrap(), "row\n");
        assert_eq!(
            says(&engine, &script("cat /d/row").mount(Mount::volume("db", "/d").read_only())),
            "row\n"
        );
        // Made by the mount that wants it, and gone with the container.
        let nameless = Mount::anonymous("/d").driver("disk");
        assert_eq!(says(&engine, &script("echo x > /d/x; ls /d").mount(nameless)), "x\n");
        assert_eq!(std::fs::read_dir(&disk).unwrap().count(), 1);
        let wrong = Mount::volume("new", "/d").driver("disk").volume_option("speed", "high");
        fails(engine.start(&script("true").mount(wrong)), Kind::Invalid, &["option `speed` is unknown"]);

        // A program without it.
        assert_eq!(plain.find_volume("db").unwrap().unwrap().driver(), "disk");
        let refused = plain.start(&script("true").volume("db", "/d"));
        fails(refused, Kind::Unsupported, &["volume \"db\": driver `disk`: there is only `local`"]);
        let other = Mount::volume("other", "/d").driver("rexray");
        fails(engine.start(&script("true").mount(other)), Kind::Invalid, &["there are `local`, `disk`"]);
        engine.remove_volume("db").unwrap();
        assert_eq!(std::fs::read_dir(&disk).unwrap().count(), 0);
        drop((plain, engine));
        nothing_but_engines(host.dir());
    });
}
