//! Directories that turn into links while containers start: whoever can write in a volume or a shared directory swaps what
//! others mount, or mount onto, and never gets them a path of the host's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use coracle::{Engine, Kind, Mount, VolumeSpec};
use coracle_host::Dir;
use coracle_testhost::run as host;
use rustix::fs::{RenameFlags, renameat_with};

use crate::support::{engine, nothing_but_engines, run, script, tools};

const ROUNDS: usize = 120;

/// Swaps `sub` in `dir` for links out of it and back, as fast as it can, while `victim` does its rounds.
fn under_attack(dir: &Path, outside: &Path, victim: impl FnOnce()) {
    fs::create_dir(dir.join("sub")).unwrap();
    fs::write(dir.join("sub/mine"), "mine").unwrap();
    symlink(outside, dir.join("absolute")).unwrap();
    symlink(format!("../../../../../../../..{}", outside.display()), dir.join("up")).unwrap();
    symlink("/proc/1/root", dir.join("magic")).unwrap();
    let dir = Dir::open(dir).unwrap();
    let done = AtomicBool::new(false);
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for link in ["absolute", "up", "magic"] {
                    renameat_with(&dir, "sub", &dir, link, RenameFlags::EXCHANGE).unwrap();
                    std::thread::yield_now();
                    renameat_with(&dir, "sub", &dir, link, RenameFlags::EXCHANGE).unwrap();
                }
            }
        });
        let _done = Done(&done);
        victim();
    });
}

/// Starts one container after the other; what `mounts` gives has to stay inside. How many started and were refused.
fn starts(engine: &Engine, outside: &Path, mounts: impl Fn() -> Vec<Mount>) -> (usize, usize) {
    let look = "cat /m/secret /v/sub/secret /v/sub/deep/secret 2>/dev/null; echo mark > /m/mark; \
                echo mark > /v/sub/deep/mark; cut -d ' ' -f 5 /proc/self/mountinfo";
    let (mut started, mut refused) = (0, 0);
    let deadline = Instant::now() + Duration::from_secs(60);
    while (started + refused < ROUNDS || started == 0) && Instant::now() < deadline {
        let spec = mounts()
            .into_iter()
            .fold(script(&format!("({look}) 2>/dev/null; true")), |spec, mount| spec.mount(mount));
        match engine.start(&spec) {
            Ok(container) => {
                container.wait().unwrap();
                let said = container.output().unwrap().stdout;
                assert!(!said.contains("the host's"), "a path of the host's was got: {said}");
                started += 1;
            }
            Err(error) => {
                let kinds = [Kind::Invalid, Kind::NotFound, Kind::AlreadyExists, Kind::Denied];
                assert!(kinds.contains(&error.kind()), "{:?}: {error}", error.kind());
                refused += 1;
            }
        }
        let left: Vec<_> = fs::read_dir(outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["secret"], "something was made on the host");
        assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "the host's");
    }
    assert!(started > 0, "{refused} refused, none started");
    (started, refused)
}

fn outside(dir: &Path) -> std::path::PathBuf {
    let outside = dir.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "the host's").unwrap();
    outside
}

#[test]
fn a_subpath_that_turns_into_a_link() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let outside = outside(host.dir());
        let path = engine.volume(&VolumeSpec::new("shared")).unwrap().path();
        under_attack(&path, &outside, || {
            let (_, refused) =
                starts(&engine, &outside, || vec![Mount::volume("shared", "/m").subpath("sub")]);
            assert!(refused > 0, "it was never swapped at the right moment");
        });
        drop(engine);
        nothing_but_engines(host.dir());
    });
}

#[test]
fn a_place_that_turns_into_a_link() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let outside = outside(host.dir());
        let gift = host.dir().join("gift");
        fs::create_dir(&gift).unwrap();
        fs::write(host.dir().join("gift-file"), "gift").unwrap();
        let shared = host.dir().join("shared");
        let volume = engine.volume(&VolumeSpec::new("shared")).unwrap().path();
        fs::create_dir(&shared).unwrap();
        let file = host.dir().join("gift-file");
        under_attack(&volume, &outside, || {
            let mounts = || {
                let place = Mount::volume("shared", "/v");
                vec![place, Mount::bind(&gift, "/v/sub/deep"), Mount::bind(&file, "/v/sub/made/file")]
            };
            starts(&engine, &outside, mounts);
        });
        under_attack(&shared, &outside, || {
            starts(&engine, &outside, || vec![Mount::bind(&shared, "/v"), Mount::tmpfs("/v/sub/deep")]);
        });
        assert!(!Path::new("/v").exists() && !Path::new("/m").exists());
        drop(engine);
        nothing_but_engines(host.dir());
    });
}

/// The same done by a container to itself: what it turned into a link is nothing to those that start from its image, its
/// volumes or beside it.
#[test]
fn a_container_that_swaps_its_own_place() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let outside = outside(host.dir());
        let out = outside.display();
        let attack = format!(
            "mkdir -p /v/sub; ln -s {out} /v/away; ln -s /proc/1/root /v/magic; echo ready; \
             while true; do mv -T /v/sub /v/x && mv -T /v/away /v/sub && mv -T /v/sub /v/away && mv -T /v/x /v/sub; done"
        );
        let programs = crate::support::programs().programs(["mv", "ln"]);
        engine.capture(&programs, "tools").unwrap();
        let attacker = engine.start(&script(&attack).volume("shared", "/v").name("attacker")).unwrap();
        crate::support::wrote(&attacker, "ready");
        starts(&engine, &outside, || vec![Mount::volume("shared", "/m").subpath("sub")]);
        starts(&engine, &outside, || vec![Mount::volume("shared", "/v"), Mount::tmpfs("/v/sub/deep")]);
        // And those who take over its mounts.
        let spec = script("cat /v/sub/secret 2>/dev/null; true").volumes_from("attacker");
        for _ in 0..20 {
            let (_, output) = run(&engine, &spec.clone().tmpfs("/v/sub/deep"));
            assert!(!output.stdout.contains("the host's"));
        }
        drop(attacker);
        drop(engine);
        nothing_but_engines(host.dir());
    });
}
