//! A build cache on its way, and what may happen to it: two at once, a kill at any moment, a disk that is full.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use coracle::{BuildSpec, Built, CacheMode, CacheOptions, Compression, Engine, Kind};
use coracle_testhost::{Host, Role, run as host, run_with};

use crate::full::Ballast;
use crate::support::{context, fails};

const TEXT: &str =
    "FROM scratch AS one\nCOPY a /a\nFROM scratch\nCOPY b /b\nCOPY --from=one /a /c\nCOPY d /d\n";

/// A build whose results differ by the file `d` alone.
fn spec(dir: &Path) -> BuildSpec {
    BuildSpec::new(dir.join("context")).dockerfile_text(TEXT).source_date_epoch(1)
}

fn open(dir: &Path, name: &str) -> Engine {
    Engine::open(dir.join(name)).unwrap()
}

/// The lines that are built with the cache of this tag, in a state directory of that name.
fn ran(dir: &Path, state: &str, tag: &str) -> (Vec<usize>, String) {
    let engine = open(dir, state);
    let cache = engine.import_build_cache(dir.join("cache"), tag).unwrap();
    let built = engine.build_from(&spec(dir), &[cache], |_| {}).unwrap();
    let lines = built.steps.iter().filter(|step| step.built()).map(|step| step.at.line);
    (lines.collect(), built.image.id())
}

fn export(dir: &Path, tag: &str) -> Built {
    let engine = open(dir, "warm");
    let built = engine.build(&spec(dir), |_| {}).unwrap();
    let how = CacheOptions::new().mode(CacheMode::Max).compression(Compression::Gzip);
    engine.export_build_cache(&built, dir.join("cache"), tag, how).unwrap();
    built
}

fn prepare(host: &Host) {
    context(host.dir(), &[("a", "text"), ("b", &"more ".repeat(100_000)), ("d", "0")]);
}

/// Builds with the cache in a state directory that others have, too.
fn cold(role: &mut Role) {
    role.hear();
    let (lines, id) = ran(role.dir(), "cold", "latest");
    role.say(&format!("{lines:?} {id}"));
}

#[test]
fn several_processes_with_one_cold_state_directory() {
    run_with(&[("cold", cold)], |host| {
        prepare(host);
        let id = export(host.dir(), "latest").image.id();
        let mut all: Vec<_> = (0..6).map(|_| host.play("cold")).collect();
        all.iter_mut().for_each(|one| one.say("go"));
        for mut one in all {
            assert_eq!(one.hear().unwrap(), format!("[] {id}"));
            one.join();
        }
    });
}

/// Exports under a tag.
fn exporter(role: &mut Role) {
    let tag = role.hear().unwrap();
    export(role.dir(), &tag);
    role.say("done");
}

#[test]
fn several_processes_export_to_one_directory() {
    run_with(&[("exporter", exporter)], |host| {
        prepare(host);
        // Somebody else's.
        fs::create_dir_all(host.dir().join("cache/tmp/theirs")).unwrap();
        let mut all: Vec<_> = (0..6).map(|_| host.play("exporter")).collect();
        for (nth, one) in all.iter_mut().enumerate() {
            one.say(&nth.to_string());
        }
        for mut one in all {
            assert_eq!(one.hear().as_deref(), Some("done"));
            one.join();
        }
        for tag in 0..6 {
            assert_eq!(ran(host.dir(), &format!("cold{tag}"), &tag.to_string()).0, [0; 0]);
        }
        assert!(host.dir().join("cache/tmp/theirs").exists());
        assert_eq!(fs::read_dir(host.dir().join("cache")).unwrap().count(), 4, "a layout and nothing else");
    });
}

/// Builds something new, and exports it.
fn killed_exporter(role: &mut Role) {
    let number = role.hear().unwrap();
    fs::write(role.dir().join("context/d"), number).unwrap();
    export(role.dir(), "latest");
}

#[test]
fn killed_at_any_system_call_of_an_export() {
    run_with(&[("killed", killed_exporter)], |host| {
        const STRIDE: usize = 37;
        prepare(host);
        export(host.dir(), "latest");
        let (mut points, mut calls) = (0, 0);
        while host.play("killed").kill_after(calls, &calls.to_string()) {
            // The old one or the new one, and whole: what is built at most is the last line.
            let (lines, _) = ran(host.dir(), &format!("cold{calls}"), "latest");
            assert!(lines.is_empty() || lines == [6], "{lines:?} after {calls} calls");
            points += 1;
            calls += STRIDE;
        }
        assert!(points >= 5, "{points} points");
        assert_eq!(ran(host.dir(), "last", "latest").0, [0; 0]);
        assert_eq!(fs::read_dir(host.dir().join("cache")).unwrap().count(), 3, "a layout and nothing else");
    });
}

/// Learns of a cache, and fetches of it.
fn importer(role: &mut Role) {
    role.hear();
    ran(role.dir(), "cold", "latest");
}

#[test]
fn killed_at_any_system_call_of_an_import() {
    run_with(&[("importer", importer)], |host| {
        const STRIDE: usize = 29;
        prepare(host);
        let id = export(host.dir(), "latest").image.id();
        let (mut points, mut calls) = (0, 0);
        while host.play("importer").kill_after(calls, "go") {
            assert_eq!(ran(host.dir(), "cold", "latest"), (vec![], id.clone()), "after {calls} calls");
            fs::remove_dir_all(host.dir().join("cold")).unwrap();
            points += 1;
            calls += STRIDE;
        }
        assert!(points >= 5, "{points} points");
    });
}

#[test]
fn a_full_disk_leaves_the_cache_that_was_there() {
    host(|host| {
        prepare(host);
        let disk = host.small_disk(16 << 20);
        fs::create_dir(disk.join("cache")).unwrap();
        symlink(disk.join("cache"), host.dir().join("cache")).unwrap();
        let old = export(host.dir(), "latest");
        fs::write(host.dir().join("context/b"), vec![7; 1 << 20]).unwrap();
        let engine = open(host.dir(), "warm");
        let new = engine.build(&spec(host.dir()), |_| {}).unwrap();
        for room in [0, 8 << 10, 64 << 10, 256 << 10] {
            let ballast = Ballast::leaving(&disk, room);
            let exported = engine.export_build_cache(&new, disk.join("cache"), "latest", CacheMode::Max);
            drop(ballast);
            fails(exported, Kind::Exhausted, &["export the build cache to", "No space left on device"]);
            let cache = engine.import_build_cache(disk.join("cache"), "latest").unwrap();
            assert_eq!(cache.layers(), 4, "with {room} bytes left");
        }
        fs::write(host.dir().join("context/b"), "more ".repeat(100_000)).unwrap();
        assert_eq!(ran(host.dir(), "cold", "latest"), (vec![], old.image.id()), "the old one is whole");
        engine.export_build_cache(&new, disk.join("cache"), "latest", CacheMode::Max).unwrap();
    });
}
