//! runc and crun give the same resources to the kernel in the same words.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use coracle_runtime::cgroup::{Cgroup, Extent, Hierarchies, Place, Plan};
use coracle_testhost::{Host, run, skip};

use super::{machine, resources};

/// What both versions have, and runc 1.1 and crun 1.8 don't do otherwise (their weight for `cpu.shares` was a line then).
const RESOURCES: &str = r#"{
    "cpu": {"quota": 30000, "period": 60000, "cpus": "0", "mems": "0"},
    "memory": {"limit": 67108864, "swap": 100663296, "reservation": 33554432},
    "pids": {"limit": 77},
    "devices": [{"allow": false, "type": "a", "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"}]
}"#;

/// What these resources are in the kernel's files, of either version.
const FILES: [&str; 13] = [
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "cpu.max",
    "cpuset.cpus",
    "cpuset.mems",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "memory.max",
    "memory.swap.max",
    "memory.low",
    "pids.max",
    "devices.list",
];

/// Each file that is there, with its lines in order, but the devices that one of them adds: tun, in runc before 1.2.
fn values(group: &Cgroup) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (_, dir) in group.directories() {
        for file in FILES {
            let Ok(text) = fs::read_to_string(dir.join(file)) else { continue };
            let lines = text.lines().filter(|line| !line.starts_with("c 10:200 "));
            let mut lines: Vec<String> = lines.map(str::to_owned).collect();
            lines.sort();
            found.push((file.to_owned(), lines));
        }
    }
    found.sort();
    found
}

fn theirs(runtime: &str, host: &Host, hierarchies: &Hierarchies) -> Vec<(String, Vec<String>)> {
    let bundle = host.dir().join(runtime);
    for dir in ["bin", "proc", "dev"] {
        fs::create_dir_all(bundle.join("rootfs").join(dir)).unwrap();
    }
    fs::copy("/usr/bin/busybox", bundle.join("rootfs/bin/true")).unwrap();
    let config = format!(
        r#"{{"ociVersion": "1.0.2", "root": {{"path": "rootfs"}},
        "process": {{"terminal": false, "user": {{"uid": 0, "gid": 0}}, "args": ["/bin/true"], "cwd": "/"}},
        "mounts": [{{"destination": "/proc", "type": "proc", "source": "proc"}}, {{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}}],
        "linux": {{"cgroupsPath": "/oracle/{runtime}", "namespaces": [{{"type": "mount"}}, {{"type": "pid"}}], "resources": {RESOURCES}}}}}"#
    );
    fs::write(bundle.join("config.json"), config).unwrap();
    call(runtime, &bundle, &["create", "--bundle", bundle.to_str().unwrap(), "one"]);
    let group = Cgroup::find(&Place::below("/oracle", runtime).unwrap(), hierarchies).unwrap();
    let found = values(&group);
    call(runtime, &bundle, &["delete", "--force", "one"]);
    // They leave the parent, and runc its places in what it doesn't know.
    let _ = group.kill();
    group.remove().unwrap();
    for hierarchy in hierarchies.iter() {
        let _ = fs::remove_dir(hierarchy.point().join("oracle"));
    }
    for entry in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = fs::remove_dir(entry.path().join("oracle").join(runtime));
        let _ = fs::remove_dir(entry.path().join("oracle"));
    }
    found
}

fn call(runtime: &str, bundle: &Path, args: &[&str]) {
    let said = bundle.join("said");
    let file = || fs::File::options().create(true).append(true).open(&said).unwrap();
    let root = bundle.join("state");
    let mut command = Command::new(runtime);
    command.arg("--root").arg(root).args(args).stdin(Stdio::null()).stdout(file()).stderr(file());
    let status = command.status().unwrap();
    assert!(status.success(), "{runtime} {args:?}: {}", fs::read_to_string(&said).unwrap());
}

fn compare(runtime: &str, host: &Host) {
    if Command::new(runtime).arg("--version").stdout(Stdio::null()).status().is_err() {
        return skip(host.test(), &format!("{runtime} is not installed"));
    }
    let (hierarchies, _room) = machine();
    let versions: BTreeSet<String> =
        hierarchies.iter().map(|hierarchy| hierarchy.version().to_string()).collect();
    if runtime == "crun" && versions.len() > 1 {
        return skip(host.test(), "crun knows no host with both versions of control groups");
    }
    let theirs = theirs(runtime, host, &hierarchies);
    let place = Place::new("ours").unwrap();
    let plan = Plan::new(&place, &resources(RESOURCES), &hierarchies, Extent::Standard).unwrap();
    let group = plan.make().unwrap();
    let ours = values(&group);
    group.remove().unwrap();
    assert!(ours.len() >= 7, "{ours:?}");
    assert_eq!(ours, theirs);
}

#[test]
fn runc() {
    run(|host| compare("runc", host));
}

#[test]
fn crun() {
    run(|host| compare("crun", host));
}
