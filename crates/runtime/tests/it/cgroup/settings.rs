//! Every setting of config-linux.md, "Control groups", as the kernel has it afterwards, in each version: the value in its
//! file, or the refusal that names it.

use std::fs;

use coracle_host::Kind;
use coracle_runtime::cgroup::{Cgroup, Extent, Hierarchies, Place, Plan, Version};
use coracle_testhost::run;

use super::{dir, end, heard, make, resources, spawn};

/// A version's file and the line that must be in it; or what it is refused with.
enum Is {
    Line(&'static str, String),
    Refused(&'static str),
}

use Is::{Line, Refused};

fn line(file: &'static str, text: &str) -> Is {
    Line(file, text.to_owned())
}

/// A disk of this machine, as `major:minor`.
fn disk() -> String {
    let disk = fs::read_dir("/sys/block").unwrap().flatten().next().expect("a machine has a disk");
    fs::read_to_string(disk.path().join("dev")).unwrap().trim().to_owned()
}

#[track_caller]
fn check(host: &Hierarchies, controllers: [&str; 2], json: &str, v1: &Is, v2: &Is) {
    let hierarchy = controllers.iter().find_map(|name| host.of(name));
    let plan = Plan::new(&Place::new("one").unwrap(), &resources(json), host, Extent::Asked);
    let expected = match hierarchy.map(|hierarchy| hierarchy.version()) {
        Some(Version::V1) => v1,
        Some(Version::V2) => v2,
        None => &Refused("this host has no control group controller"),
    };
    match expected {
        Line(file, line) => {
            let group = plan.unwrap().make().unwrap();
            let dir = controllers.iter().find_map(|name| dir(&group, name)).unwrap();
            let text = fs::read_to_string(dir.join(file)).unwrap();
            assert!(text.lines().any(|one| one == line), "{json}: {file}: {text}");
            group.remove().unwrap();
        }
        Refused(why) => {
            let error = plan.and_then(|plan| plan.make()).unwrap_err();
            assert!(matches!(error.kind(), Kind::Unsupported | Kind::Invalid), "{json}: {error}");
            assert!(error.to_string().contains(why), "{json}: {error}");
        }
    }
}

#[test]
fn memory() {
    run(|_| {
        super::kinds(|host| {
            let no = "cgroup v2 has no such setting";
            for (json, v1, v2) in [
                (
                    r#"{"limit": 67108864}"#,
                    line("memory.limit_in_bytes", "67108864"),
                    line("memory.max", "67108864"),
                ),
                (
                    r#"{"limit": 67108864, "swap": 100663296}"#,
                    line("memory.memsw.limit_in_bytes", "100663296"),
                    line("memory.swap.max", "33554432"),
                ),
                (
                    r#"{"limit": 67108864, "swap": -1}"#,
                    line("memory.memsw.limit_in_bytes", &(i64::MAX - 4095).to_string()),
                    line("memory.swap.max", "max"),
                ),
                (
                    r#"{"reservation": 33554432}"#,
                    line("memory.soft_limit_in_bytes", "33554432"),
                    line("memory.low", "33554432"),
                ),
                (r#"{"swappiness": 7}"#, line("memory.swappiness", "7"), Refused(no)),
                (
                    r#"{"disableOOMKiller": true}"#,
                    line("memory.oom_control", "oom_kill_disable 1"),
                    Refused(no),
                ),
                (r#"{"kernelTCP": 8388608}"#, line("memory.kmem.tcp.limit_in_bytes", "8388608"), Refused(no)),
                (r#"{"useHierarchy": true}"#, line("memory.use_hierarchy", "1"), line("memory.max", "max")),
            ] {
                check(host, ["memory"; 2], &format!(r#"{{"memory": {json}}}"#), &v1, &v2);
            }
        });
    });
}

#[test]
fn processors() {
    run(|_| {
        super::kinds(|host| {
            for (controller, json, v1, v2) in [
                ("cpu", r#"{"shares": 512}"#, line("cpu.shares", "512"), line("cpu.weight", "59")),
                (
                    "cpu",
                    r#"{"quota": 20000}"#,
                    line("cpu.cfs_quota_us", "20000"),
                    line("cpu.max", "20000 100000"),
                ),
                (
                    "cpu",
                    r#"{"period": 50000}"#,
                    line("cpu.cfs_period_us", "50000"),
                    line("cpu.max", "max 50000"),
                ),
                (
                    "cpu",
                    r#"{"quota": 20000, "burst": 10000}"#,
                    line("cpu.cfs_burst_us", "10000"),
                    line("cpu.max.burst", "10000"),
                ),
                ("cpu", r#"{"idle": 1}"#, line("cpu.idle", "1"), line("cpu.idle", "1")),
                ("cpuset", r#"{"cpus": "0"}"#, line("cpuset.cpus", "0"), line("cpuset.cpus", "0")),
                ("cpuset", r#"{"mems": "0"}"#, line("cpuset.mems", "0"), line("cpuset.mems", "0")),
                (
                    "cpu",
                    r#"{"realtimeRuntime": 1000}"#,
                    Refused("the kernel needs CONFIG_RT_GROUP_SCHED"),
                    Refused("cgroup v2 has no such setting"),
                ),
            ] {
                check(host, [controller; 2], &format!(r#"{{"cpu": {json}}}"#), &v1, &v2);
            }
        });
    });
}

#[test]
fn block_devices() {
    run(|_| {
        let disk = disk();
        let (major, minor) = disk.split_once(':').unwrap();
        let at = |rate: u32| format!(r#"[{{"major": {major}, "minor": {minor}, "rate": {rate}}}]"#);
        let both = |v1: &'static str, rate: u32, v2: String| {
            (Line(v1, format!("{disk} {rate}")), Line("io.max", format!("{disk} {v2}")))
        };
        super::kinds(|host| {
            for (name, (v1, v2)) in [
                (
                    "ReadBps",
                    both(
                        "blkio.throttle.read_bps_device",
                        1048576,
                        "rbps=1048576 wbps=max riops=max wiops=max".into(),
                    ),
                ),
                (
                    "WriteBps",
                    both(
                        "blkio.throttle.write_bps_device",
                        1048576,
                        "rbps=max wbps=1048576 riops=max wiops=max".into(),
                    ),
                ),
                (
                    "ReadIOPS",
                    both(
                        "blkio.throttle.read_iops_device",
                        1048576,
                        "rbps=max wbps=max riops=1048576 wiops=max".into(),
                    ),
                ),
                (
                    "WriteIOPS",
                    both(
                        "blkio.throttle.write_iops_device",
                        1048576,
                        "rbps=max wbps=max riops=max wiops=1048576".into(),
                    ),
                ),
            ] {
                let json = format!(r#"{{"blockIO": {{"throttle{name}Device": {}}}}}"#, at(1048576));
                check(host, ["blkio", "io"], &json, &v1, &v2);
            }
            let weight = r#"{"blockIO": {"weight": 500}}"#;
            check(
                host,
                ["blkio", "io"],
                weight,
                &line("blkio.bfq.weight", "500"),
                &line("io.bfq.weight", "default 500"),
            );
            let leaf = r#"{"blockIO": {"leafWeight": 500}}"#;
            let no = (Refused("went with the scheduler CFQ"), Refused("cgroup v2 has no such setting"));
            check(host, ["blkio", "io"], leaf, &no.0, &no.1);
        });
    });
}

#[test]
fn the_rest() {
    run(|_| {
        super::kinds(|host| {
            let huge = r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#;
            let v1 = line("hugetlb.2MB.limit_in_bytes", "4194304");
            check(host, ["hugetlb"; 2], huge, &v1, &line("hugetlb.2MB.max", "4194304"));
            check(host, ["hugetlb"; 2], huge, &v1, &line("hugetlb.2MB.rsvd.max", "4194304"));
            let few = r#"{"pids": {"limit": 7}}"#;
            check(host, ["pids"; 2], few, &line("pids.max", "7"), &line("pids.max", "7"));
            let v1 = "is mounted as cgroup v1 here";
            for (file, value) in
                [("memory.high", "33554432"), ("memory.oom.group", "1"), ("memory.min", "4096")]
            {
                let json = format!(r#"{{"unified": {{"{file}": "{value}"}}}}"#);
                check(host, ["memory"; 2], &json, &Refused(v1), &line(file, value));
            }
            // Of the controllers that these kernels don't have, by name.
            for (controller, json) in [
                ("net_cls", r#"{"network": {"classID": 7}}"#),
                ("net_prio", r#"{"network": {"priorities": [{"name": "lo", "priority": 1}]}}"#),
                ("rdma", r#"{"rdma": {"mlx5_1": {"hcaHandles": 3}}}"#),
            ] {
                if host.of(controller).is_none() {
                    let plan = Plan::new(&Place::new("one").unwrap(), &resources(json), host, Extent::Asked);
                    let error = plan.unwrap_err();
                    let text = format!("no control group controller `{controller}`");
                    assert!(
                        error.kind() == Kind::Unsupported && error.to_string().contains(&text),
                        "{error}"
                    );
                }
            }
        });
    });
}

/// `memory.oom.group`: all of them end, not only the one that took too much.
#[test]
fn all_are_killed_together() {
    run(|_| {
        super::kinds(|host| {
            if host.of("memory").is_none_or(|memory| memory.version() == Version::V1) {
                return; // refused there, as `the_rest` sees
            }
            let json =
                r#"{"memory": {"limit": 16777216, "swap": 16777216}, "unified": {"memory.oom.group": "1"}}"#;
            let group: Cgroup = make(host, "together", json);
            let mut child = spawn(
                &group,
                "sleep 1000 & echo up; dd if=/dev/zero of=/dev/null bs=256M count=1; sleep 1000",
            );
            assert_eq!(heard(&child), "up");
            child.wait().unwrap();
            crate::support::soon("nobody is left", || group.processes().unwrap().is_empty());
            end(group, child);
        });
    });
}
