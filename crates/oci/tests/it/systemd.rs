//! Scopes that systemd makes, in a machine whose first process is systemd: `.ci/machine` starts one for these tests, which
//! are the only ones that are in no private host. systemctl(1) is the witness.

use std::path::{Path, PathBuf};
use std::process::Command;

use coracle_runtime::cgroup::{Cgroup, Extent, Hierarchies, Place, Plan};
use coracle_testhost::{run, skip};
use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

use crate::podman::Podman;
use crate::support::{Oci, soon};

/// Where tests have their files, in a machine of systemd's that is there for these tests.
fn place(test: &str) -> Option<PathBuf> {
    if std::env::var_os("CORACLE_SYSTEMD").is_none() {
        skip(test, "needs a machine of its own that systemd runs");
        return None;
    }
    Some(std::env::temp_dir())
}

/// A bundle there.
fn machine(test: &str, script: &str) -> Option<Oci> {
    place(test).map(|dir| Oci::at(dir.join(test.replace(':', "-")), script))
}

impl Oci {
    #[track_caller]
    fn create_scope(&self) {
        self.create_with_all(&["--systemd-cgroup"], &[]);
    }
}

/// What systemd says of a unit, as `name=value`, by name.
fn shown(unit: &str, properties: &[&str]) -> Vec<String> {
    let output =
        Command::new("systemctl").args(["show", "-p", &properties.join(","), unit]).output().unwrap();
    let mut lines: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Whether systemd has it loaded.
fn is_there(unit: &str) -> bool {
    let list = ["list-units", "--all", "--plain", "--no-legend", unit];
    let output = Command::new("systemctl").args(list).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    !output.stdout.is_empty()
}

fn group(of: &str, file: &str) -> String {
    std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(of).join(file)).unwrap().trim_end().to_owned()
}

#[test]
fn a_container_is_a_unit() {
    let Some(mut oci) = machine("systemd::a_container_is_a_unit", "while :; do sleep 1000; done") else {
        return;
    };
    oci.config["linux"]["cgroupsPath"] = json!("coracle-tests.slice:oci:life");
    oci.config["linux"]["resources"] = json!({
        "cpu": { "shares": 512, "quota": 50000, "period": 100000 },
        "memory": { "limit": 64 << 20, "reservation": 32 << 20 },
        "pids": { "limit": 30 },
        "devices": [{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw" }],
    });
    oci.config["annotations"] =
        json!({ "org.systemd.property.TimeoutStopUSec": "uint64 7000000", "other": "x" });
    oci.write();
    oci.create_scope();
    let (unit, at) = ("oci-life.scope", "coracle.slice/coracle-tests.slice/oci-life.scope");
    let made = [
        "ActiveState=active",
        "CPUQuotaPerSecUSec=500ms",
        "CPUWeight=59",
        "CollectMode=inactive-or-failed",
        "DefaultDependencies=no",
        "Delegate=yes",
        "MemoryLow=33554432",
        "MemoryMax=67108864",
        "Slice=coracle-tests.slice",
        "TasksMax=30",
        "TimeoutStopUSec=7s",
    ];
    let names = made.map(|line| line.split('=').next().unwrap());
    assert_eq!(shown(unit, &names), made);
    let pid = oci.state()["pid"].as_u64().unwrap();
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap(), format!("0::/{at}\n"));
    // What it was made with is gone.
    let pids = || serde_json::from_str::<Vec<u64>>(&oci.ok(&["ps", "--format", "json", "c"])).unwrap();
    assert_eq!(pids(), [pid]);
    oci.ok(&["start", "c"]);
    soon("it runs", || pids().len() == 2);
    oci.ok(&[
        "--systemd-cgroup",
        "update",
        "--pids-limit",
        "40",
        "--memory",
        "33554432",
        "--cpu-quota",
        "20000",
        "c",
    ]);
    let limits =
        || [group(at, "pids.max"), group(at, "memory.max"), group(at, "cpu.max"), group(at, "cpu.weight")];
    let updated = ["40", "33554432", "20000 100000", "59"];
    assert_eq!(limits(), updated);
    assert_eq!(shown(unit, &["TasksMax", "MemoryMax"]), ["MemoryMax=33554432", "TasksMax=40"]);
    let device =
        "[ -e /tmp/kmsg ] || mknod /tmp/kmsg c 1 11; head -c1 /tmp/kmsg 2>&1; : >/dev/null && echo null";
    let walled = || oci.ok(&["exec", "c", "sh", "-c", device]);
    let before = walled();
    assert!(before.contains("Operation not permitted") && before.ends_with("null\n"), "{before}");
    // systemd writes what it knows once more, and no more than that.
    assert!(Command::new("systemctl").arg("daemon-reload").status().unwrap().success());
    assert_eq!(limits(), updated);
    assert_eq!(walled(), before);
    oci.ok(&["pause", "c"]);
    assert_eq!(oci.status(), "paused");
    oci.ok(&["resume", "c"]);
    let event: Value = serde_json::from_str(&oci.ok(&["events", "--stats", "c"])).unwrap();
    assert_eq!(event["data"]["pids"]["limit"], 40);
    assert_eq!(event["data"]["memory"]["usage"]["limit"], 32 << 20);
    oci.ok(&["kill", "c", "KILL"]);
    oci.until("stopped");
    // Nobody has to ask for that.
    soon("the unit is collected", || !is_there(unit));
    assert!(!Path::new("/sys/fs/cgroup").join(at).exists());
    oci.ok(&["--systemd-cgroup", "delete", "c"]);
    oci.end();
}

#[test]
fn delete_waits_until_the_unit_is_gone() {
    let Some(oci) = machine("systemd::delete_waits_until_the_unit_is_gone", "exec sleep 1000") else {
        return;
    };
    for _ in 0..2 {
        oci.create_scope();
        let seen = shown("coracle-c.scope", &["ActiveState", "TasksMax"]);
        assert_eq!(seen, ["ActiveState=active", "TasksMax=infinity"]);
        oci.ok(&["start", "c"]);
        oci.ok(&["--systemd-cgroup", "delete", "--force", "c"]);
        assert!(!is_there("coracle-c.scope"));
    }
    oci.end();
}

#[test]
fn one_process_is_enough() {
    let Some(mut oci) = machine("systemd::one_process_is_enough", "echo $$; true & wait") else { return };
    oci.config["linux"]["resources"] = json!({ "pids": { "limit": 1 } });
    oci.write();
    oci.create_scope();
    assert_eq!(group("system.slice/coracle-c.scope", "pids.max"), "1");
    oci.ok(&["start", "c"]);
    oci.until("stopped");
    assert_eq!(oci.out(), "1\n");
    oci.ok(&["delete", "c"]);
    soon("the unit is collected", || !is_there("coracle-c.scope"));
    oci.end();
}

#[test]
fn others_units_are_left_alone() {
    let Some(oci) = machine("systemd::others_units_are_left_alone", "true") else { return };
    let mut theirs = Command::new("systemd-run")
        .args(["--scope", "--quiet", "--unit=coracle-c", "sleep", "1000"])
        .spawn()
        .unwrap();
    soon("it is there", || shown("coracle-c.scope", &["ActiveState"]) == ["ActiveState=active"]);
    let refused = oci.refused(&["--systemd-cgroup", "create", "--bundle", oci.bundle(), "c"]);
    assert!(
        refused
            .contains("make the control group /system.slice/coracle-c.scope: systemd: StartTransientUnit()"),
        "{refused}"
    );
    assert!(refused.contains("UnitExists"), "{refused}");
    assert_eq!(shown("coracle-c.scope", &["ActiveState"]), ["ActiveState=active"]);
    theirs.kill().unwrap();
    theirs.wait().unwrap();
    soon("the unit is collected", || !is_there("coracle-c.scope"));
    oci.end();
}

#[test]
fn a_group_whose_maker_is_gone_is_gone() {
    let Some(oci) = machine("systemd::a_group_whose_maker_is_gone_is_gone", "true") else { return };
    let make = || {
        let place = Place::scope("", "lost").unwrap();
        let host = Hierarchies::of_this_host().unwrap();
        Plan::new(&place, &LinuxResources::default(), &host, Extent::Standard).unwrap().make().unwrap()
    };
    let group = make();
    assert_eq!(group.processes().unwrap().len(), 1);
    drop(group);
    soon("the unit is collected", || !is_there("coracle-lost.scope"));
    // With the thread that made it, as with the program.
    std::thread::spawn(move || std::mem::forget(make())).join().unwrap();
    soon("the unit is collected", || !is_there("coracle-lost.scope"));
    // One on its way out is no hindrance.
    for _ in 0..5 {
        drop(make());
    }
    make().remove().unwrap();
    assert!(!is_there("coracle-lost.scope"));
    let found = Cgroup::find(&Place::scope("", "lost").unwrap(), &Hierarchies::of_this_host().unwrap());
    assert!(found.is_none());
    oci.end();
}

/// podman's usual way on such a host.
#[test]
fn podman_has_its_containers_in_scopes() {
    let test = "systemd::podman_has_its_containers_in_scopes";
    let Some(dir) = place(test).map(|dir| dir.join("podman")) else { return };
    std::fs::create_dir(&dir).unwrap();
    let Some(podman) = Podman::at(test, &dir, Vec::new(), "systemd") else { return };
    let run = ["run", "-d", "--name", "a", "--network", "none", "--pids-limit", "50", "img", "sleep", "1000"];
    let id = podman.ok(&run);
    let unit = format!("libpod-{}.scope", id.trim());
    let seen = shown(&unit, &["ActiveState", "Slice", "TasksMax"]);
    assert_eq!(seen, ["ActiveState=active", "Slice=machine.slice", "TasksMax=50"]);
    assert_eq!(podman.ok(&["inspect", "--format", "{{.State.Status}}", "a"]), "running\n");
    podman.ok(&["rm", "--force", "--time", "0", "a"]);
    soon("the unit is collected", || !is_there(&unit));
    podman.end();
}

#[test]
fn the_flag_and_the_path_belong_together() {
    run(|host| {
        let mut oci = Oci::new(host, "true");
        let create = ["create", "--bundle", oci.bundle(), "c"].map(str::to_owned);
        let create = create.each_ref().map(String::as_str);
        let with: Vec<&str> = ["--systemd-cgroup"].into_iter().chain(create).collect();
        oci.config["linux"]["cgroupsPath"] = json!("/a/path");
        oci.write();
        let refused = oci.refused(&with);
        assert!(
            refused.ends_with("\"/a/path\": a path; --systemd-cgroup needs `slice:prefix:name`"),
            "{refused}"
        );
        oci.config["linux"]["cgroupsPath"] = json!("system.slice:docker:7");
        oci.write();
        let refused = oci.refused(&create);
        assert!(refused.contains("a scope, which systemd makes with --systemd-cgroup"), "{refused}");
        oci.config["linux"]["cgroupsPath"] = json!("no-slice:docker:7");
        oci.write();
        assert!(oci.refused(&with).contains("slice \"no-slice\": not the name of one"));
        oci.config["linux"]["cgroupsPath"] = json!(":docker:7");
        oci.write();
        // Here no systemd runs, or one that counts processes otherwise; or there is version 1.
        let refused = oci.refused(&with);
        let known = [
            "scopes of systemd need cgroup v2 alone",
            "this host is not run by systemd",
            "in another pid namespace",
        ];
        assert!(known.iter().any(|why| refused.contains(why)), "{refused}");
        oci.end();
    });
}
