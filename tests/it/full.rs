//! A disk that is full: said so, nothing left, and all well again when there is room.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use coracle::{BuildSpec, ContainerSpec, Engine, Error, Kind, VolumeSpec};
use coracle_testhost::run as host;

use crate::support::{fails, listing, nothing_but_engines, programs, run, says, script, state, unchanged};

/// Fills the disk but for so many bytes.
pub struct Ballast(PathBuf);

impl Ballast {
    pub fn leaving(disk: &Path, bytes: u64) -> Ballast {
        let path = disk.join("ballast");
        let mut file = File::create(&path).unwrap();
        let page = [1; 4096];
        let mut size = 0;
        while file.write_all(&page).is_ok() {
            size += page.len() as u64;
        }
        file.set_len(size.saturating_sub(bytes)).unwrap();
        Ballast(path)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// Fails for want of space with ever less of it missing, and each time leaves the state as it was, until it succeeds.
#[track_caller]
fn until_there_is_room<T>(disk: &Path, steps: &[u64], mut act: impl FnMut() -> Result<T, Error>) -> T {
    let before = kept(disk);
    let mut failures = 0;
    for bytes in steps {
        let ballast = Ballast::leaving(disk, *bytes);
        let done = act();
        drop(ballast);
        match done {
            Err(_) => {
                failures += 1;
                let text = fails(done, Kind::Exhausted, &["No space left on device"]);
                unchanged(&before, &kept(disk), &format!("with {bytes} bytes left: {text}"));
            }
            // There was room for it, or it needed none.
            Ok(_) => break,
        }
    }
    assert!(failures > 0, "there was room for it at once");
    act().unwrap()
}

/// What is there, but for what the next try takes up where this one stopped: blobs by their digests, cache by its keys.
fn kept(disk: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = listing(&state(disk));
    found.retain(|path, _| !path.starts_with("blobs/sha256") && !path.starts_with("cache"));
    found
}

const STEPS: [u64; 8] = [0, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 2 << 20, 4 << 20];

#[test]
fn full_at_every_stage() {
    host(|host| {
        let disk = host.small_disk(64 << 20);
        let engine = Engine::open(state(&disk)).unwrap();
        let image = until_there_is_room(&disk, &STEPS, || engine.capture(&programs(), "tools"));
        assert_eq!(image.names(), ["tools:latest"]);

        let mut tar = tar::Builder::new(Vec::new());
        let data = vec![7; 1 << 20];
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(0o644);
        tar.append_data(&mut header, "data", &*data).unwrap();
        let tar = tar.into_inner().unwrap();
        until_there_is_room(&disk, &STEPS, || engine.import(&*tar, "data"));

        // The network that steps run on is there before.
        engine.build(&BuildSpec::without_context("FROM tools\nRUN id\n"), |_| {}).unwrap();
        let copy = BuildSpec::without_context("FROM tools\nCOPY --from=data /data /data\n").tag("copied");
        until_there_is_room(&disk, &STEPS, || engine.build(&copy, |_| {}));
        let ls = ContainerSpec::new("copied").command(["stat", "-c", "%s", "/data"]).no_network();
        assert_eq!(says(&engine, &ls), "1048576\n");

        until_there_is_room(&disk, &STEPS, || engine.volume(&VolumeSpec::new("data")));
        let spec = script("cat /data/x; echo fine").name("x").volume("data", "/data");
        drop(until_there_is_room(&disk, &STEPS, || engine.start(&spec)));
        nothing_but_engines(&disk);
    });
}

#[test]
fn full_inside_a_container() {
    host(|host| {
        let disk = host.small_disk(64 << 20);
        let engine = Engine::open(state(&disk)).unwrap();
        engine.capture(&programs(), "tools").unwrap();
        let before = listing(&state(&disk).join("containers"));
        // A step of a build and a container that write until there is no more room.
        let fill = "i=0; while cat /bin/* > /fill$i; do i=$((i+1)); done; exit 3";
        let dockerfile = format!("FROM tools\nRUN {fill}\n");
        let build = engine.build(&BuildSpec::without_context(dockerfile), |_| {});
        fails(build, Kind::Failed, &["Dockerfile:2:", "3"]);
        nothing_but_engines(&disk);
        let (exit, output) = run(&engine, &script(fill));
        assert_eq!(exit.code(), 3, "{output:?}");
        // It can say how it ended, though it can't write it down.
        let ballast_first = engine.start(&script("while :; do sleep 0.01; done").name("x")).unwrap();
        let ballast = Ballast::leaving(&disk, 0);
        assert_eq!(ballast_first.kill().unwrap().code(), 137);
        drop(ballast_first);
        drop(ballast);
        unchanged(&before, &listing(&state(&disk).join("containers")), "containers");
        assert_eq!(says(&engine, &script("echo well").name("x")), "well\n");
        nothing_but_engines(&disk);
    });
}

#[test]
fn full_when_it_is_opened() {
    host(|host| {
        let disk = host.small_disk(1 << 20);
        let ballast = Ballast::leaving(&disk, 0);
        fails(Engine::open(state(&disk)), Kind::Exhausted, &["open state directory", "No space left"]);
        drop(ballast);
        assert!(Engine::open(state(&disk)).unwrap().images().unwrap().is_empty());
    });
}
