//! Containers whose control groups systemd makes, in a machine whose first process is systemd: `.ci/machine` starts one for
//! these tests, which are in no private host.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coracle::{Engine, Exit, Kind, Limits, Restart};
use coracle_testhost::{run as host, skip};

use crate::support::{engine, fails, script, state, tools};

const SLICE: &str = "coracle-engine.slice";

fn directory(test: &str) -> String {
    test.replace(':', "-")
}

#[track_caller]
fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
    }
}

/// An engine in a machine of systemd's that is there for these tests.
fn machine(test: &str) -> Option<Engine> {
    if std::env::var_os("CORACLE_SYSTEMD").is_none() {
        skip(test, "needs a machine of its own that systemd runs");
        return None;
    }
    let dir = std::env::temp_dir().join(directory(test));
    std::fs::create_dir(&dir).unwrap();
    let engine = engine(&dir);
    tools(&engine);
    Some(engine)
}

/// Set for the process that is killed, to its engine's state directory.
const OWNER: &str = "CORACLE_SCOPES_OWNER";

/// What is killed; else nothing.
#[test]
fn owner() {
    let Some(state) = std::env::var_os(OWNER) else { return };
    let _container = Engine::open(state).unwrap().start(&script("sleep 1000").cgroup_parent(SLICE)).unwrap();
    std::fs::read("/proc/self/fd/0").unwrap(); // to its end, which does not come
}

/// The units in the slice.
fn units() -> Vec<String> {
    let list = ["list-units", "--all", "--plain", "--no-legend", "--type=scope", "coracle-*"];
    let output = Command::new("systemctl").args(list).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn a_container_is_a_unit_of_a_slice() {
    let test = "scopes::a_container_is_a_unit_of_a_slice";
    let Some(engine) = machine(test) else { return };
    let spec = script("while :; do sleep 1000; done").cgroup_parent(SLICE).limits(Limits::new().pids(100));
    let mut container = engine.start(&spec).unwrap();
    let unit = format!("coracle-{}.scope", container.id());
    assert_eq!(units(), [unit.as_str()]);
    let shown = |property: &str| {
        let output =
            Command::new("systemctl").args(["show", "--value", "-p", property, &unit]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    };
    assert_eq!((shown("Slice"), shown("TasksMax")), (SLICE.to_owned(), "100".to_owned()));
    container.update(&Limits::new().pids(50), None).unwrap();
    assert_eq!(
        (shown("TasksMax"), container.stats().unwrap().pids.unwrap().limit),
        ("50".to_owned(), Some(50))
    );
    container.pause().unwrap();
    container.unpause().unwrap();
    container.kill().unwrap();
    container.wait().unwrap();
    container.remove().unwrap();
    assert_eq!(units(), [""; 0]);
    // Started again and again under one name.
    let spec = script("exit 3").cgroup_parent(SLICE).restart(Restart::OnFailure { max: 2 });
    assert_eq!(engine.start(&spec).unwrap().wait().unwrap(), Exit::Code(3));
    soon("no unit is left", || units().is_empty());
    // With its owner.
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["scopes::owner", "--exact"])
        .env(OWNER, state(&std::env::temp_dir().join(directory(test))))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    soon("it has a unit", || !units().is_empty());
    owner.kill().unwrap();
    owner.wait().unwrap();
    soon("no unit is left", || units().is_empty());
    // Its counter is gone with the unit.
    let eater = script("head -c 20000000 /dev/zero | sort >/dev/null").cgroup_parent(SLICE);
    let container = engine.start(&eater.limits(Limits::new().memory(8 << 20)).retain()).unwrap();
    assert!(!container.wait().unwrap().success());
    assert!(container.status().unwrap().oom_killed);
    container.remove().unwrap();
}

#[test]
fn without_systemd_it_is_refused() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        // Here there is version 1, too; no systemd, or one that counts processes otherwise.
        let refused = engine.start(&script("true").cgroup_parent(SLICE));
        let said = fails(refused, Kind::Unsupported, &["systemd"]);
        let known = ["need cgroup v2 alone", "is not run by systemd", "in another pid namespace"];
        assert!(known.iter().any(|why| said.contains(why)), "{said}");
        assert!(engine.containers().unwrap().is_empty(), "nothing is left of it");
    });
}
