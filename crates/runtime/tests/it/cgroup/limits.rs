//! What resources do to processes.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;

use coracle_host::Kind;
use coracle_runtime::cgroup::{Extent, Hierarchies, Place, Plan, Version};
use coracle_testhost::{run, skip};
use oci_spec::runtime::LinuxResources;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{dir, end, heard, machine, make, resources, spawn};

#[track_caller]
fn value(group: &coracle_runtime::cgroup::Cgroup, controller: &str, v1: &str, v2: &str) -> String {
    let dir = dir(group, controller).unwrap();
    let file = if dir.join(v1).exists() { v1 } else { v2 };
    fs::read_to_string(dir.join(file)).unwrap().trim().to_owned()
}

#[test]
fn the_kernel_has_what_was_asked() {
    run(|_| {
        let (host, _room) = machine();
        let group = make(
            &host,
            "asked",
            r#"{"cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0", "mems": "0"},
            "memory": {"limit": 67108864, "reservation": 33554432}, "pids": {"limit": 64}}"#,
        );
        assert_eq!(value(&group, "memory", "memory.limit_in_bytes", "memory.max"), "67108864");
        assert_eq!(value(&group, "memory", "memory.soft_limit_in_bytes", "memory.low"), "33554432");
        assert_eq!(value(&group, "pids", "pids.max", "pids.max"), "64");
        assert!(["1024", "100"].contains(&&*value(&group, "cpu", "cpu.shares", "cpu.weight")));
        assert!(["50000", "50000 100000"].contains(&&*value(&group, "cpu", "cpu.cfs_quota_us", "cpu.max")));
        assert_eq!(value(&group, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
        let child = spawn(&group, "grep Cpus_allowed_list /proc/self/status; read x </dev/zero");
        assert_eq!(heard(&child).split_whitespace().last(), Some("0"));
        end(group, child);
    });
}

#[test]
fn each_controller_that_is_there_takes_its_settings() {
    run(|_| {
        let (host, _room) = machine();
        let disk = fs::read_dir("/sys/block").unwrap().flatten().next();
        let disk = disk.map(|disk| fs::read_to_string(disk.path().join("dev")).unwrap());
        let throttle = disk.as_deref().and_then(|disk| disk.trim().split_once(':')).map(|(major, minor)| {
            format!(
                r#"{{"blockIO": {{"throttleReadBpsDevice": [{{"major": {major}, "minor": {minor}, "rate": 1048576}}]}}}}"#
            )
        });
        let io = if host.of("blkio").is_some() { "blkio" } else { "io" };
        let weight = r#"{"blockIO": {"weight": 500}}"#.to_owned();
        let mut asked = vec![
            ("cpu", r#"{"cpu": {"idle": 1}}"#.to_owned()),
            ("hugetlb", r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#.to_owned()),
            (io, weight),
        ];
        asked.extend(throttle.map(|throttle| (io, throttle)));
        for (controller, json) in asked {
            let place = Place::new("each").unwrap();
            let plan = Plan::new(&place, &resources(&json), &host, Extent::Asked);
            match host.of(controller) {
                Some(_) => plan.unwrap().make().unwrap().remove().unwrap(),
                None => assert_eq!(plan.unwrap_err().kind(), Kind::Unsupported, "{json}"),
            }
        }
    });
}

#[test]
fn a_limit_of_processes_holds() {
    run(|_| {
        let (host, _room) = machine();
        let group = make(&host, "few", r#"{"pids": {"limit": 3}}"#);
        let mut child = spawn(
            &group,
            "exec 3>&1 >/dev/null; sleep 99 3>&- & sleep 99 3>&- & sleep 99 3>&- & sleep 99 3>&- & echo no >&3; wait",
        );
        // The shell gives up on a fork that fails.
        assert_eq!(heard(&child), "");
        assert_eq!(group.stats().unwrap().pids.unwrap().limit, Some(3));
        assert_ne!(child.wait().unwrap().code(), Some(0));
        group.kill().unwrap();
        group.remove().unwrap();
    });
}

#[test]
fn who_takes_too_much_memory_is_killed_and_that_is_told() {
    run(|_| {
        let (host, _room) = machine();
        let limit = r#"{"memory": {"limit": 16777216, "swap": 16777216}}"#;
        let group = make(&host, "small", limit);
        let mut events = group.oom_events().unwrap();
        assert_eq!(events.take().unwrap(), 0);
        let mut child = spawn(&group, "exec dd if=/dev/zero of=/dev/null bs=256M count=1");
        let mut fds = [PollFd::from_borrowed_fd(events.as_fd(), PollFlags::IN)];
        let patience = Timespec { tv_sec: 60, tv_nsec: 0 };
        assert_eq!(poll(&mut fds, Some(&patience)).unwrap(), 1);
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert_eq!(group.oom_kills().unwrap(), 1);
        assert_eq!(events.take().unwrap(), 1);
        assert_eq!(events.take().unwrap(), 0);
        let memory = group.stats().unwrap().memory.unwrap();
        assert_eq!((memory.limit, memory.oom_kills), (Some(16 << 20), 1));
        assert!(memory.max_usage.is_none_or(|most| most > 8 << 20), "{memory:?}");
        group.remove().unwrap();
        assert_eq!(events.take().unwrap(), 0); // of a group that is gone
    });
}

#[test]
fn a_living_group_is_updated() {
    run(|_| {
        let (host, _room) = machine();
        let mut group = make(&host, "live", r#"{"memory": {"limit": 33554432, "swap": 33554432}}"#);
        let child = spawn(&group, "echo up; read x </dev/zero");
        heard(&child);
        // Up and down: whichever of limit and swap goes first, one order is refused by version 1.
        for limit in [67108864, 16777216u64] {
            let asked =
                resources(&format!(r#"{{"memory": {{"limit": {limit}, "swap": {}}}}}"#, limit + 4096));
            group.update(&asked, &host).unwrap();
            assert_eq!(value(&group, "memory", "memory.limit_in_bytes", "memory.max"), limit.to_string());
        }
        // Further controllers, with the process.
        group
            .update(&resources(r#"{"cpu": {"quota": 40000, "period": 80000, "burst": 1000}}"#), &host)
            .unwrap();
        let cpu = dir(&group, "cpu").unwrap();
        assert_eq!(fs::read_to_string(cpu.join("cgroup.procs")).unwrap().trim(), child.id().to_string());
        group.update(&resources(r#"{"cpu": {"period": 50000}}"#), &host).unwrap();
        let quota = value(&group, "cpu", "cpu.cfs_quota_us", "cpu.max");
        assert!(["40000", "40000 50000"].contains(&&*quota), "{quota}");
        group.update(&resources(r#"{"cpu": {"quota": -1, "burst": 0}}"#), &host).unwrap();
        let quota = value(&group, "cpu", "cpu.cfs_quota_us", "cpu.max");
        assert!(["-1", "max 50000"].contains(&&*quota), "{quota}");
        // Too little, asked about first.
        let less = resources(r#"{"memory": {"limit": 4096, "checkBeforeUpdate": true}}"#);
        let refused = group.update(&less, &host).unwrap_err();
        assert_eq!(refused.kind(), Kind::InUse, "{refused}");
        assert_eq!(value(&group, "memory", "memory.limit_in_bytes", "memory.max"), "16777216");
        end(group, child);
    });
}

#[test]
fn what_the_kernel_refuses_is_named_and_nothing_is_left() {
    run(|_| {
        let (host, _room) = machine();
        for (json, name) in [
            (r#"{"cpu": {"quota": 1, "period": 100000}}"#, "cpu.quota"),
            (r#"{"cpu": {"cpus": "4000"}}"#, "cpu.cpus"),
            (r#"{"hugepageLimits": [{"pageSize": "3MB", "limit": 0}]}"#, "hugepageLimits"),
        ] {
            let place = Place::new("refused").unwrap();
            let plan = Plan::new(&place, &resources(json), &host, Extent::Standard);
            let refused = plan.and_then(|plan| plan.make()).unwrap_err();
            assert!(refused.to_string().contains(&format!("linux.resources.{name}")), "{refused}");
        }
    });
}

#[test]
fn a_group_with_processes_gives_nothing_on_in_version_2() {
    run(|test| {
        let host = Hierarchies::of_this_host().unwrap();
        let Some(memory) = host.of("memory").filter(|memory| memory.version() == Version::V2) else {
            return skip(test.test(), "the memory controller is not in cgroup v2 here");
        };
        assert!(memory.own().is_some());
        let plan =
            Plan::new(&Place::new("below").unwrap(), &LinuxResources::default(), &host, Extent::Standard)
                .unwrap();
        let refused = plan.make().unwrap_err();
        assert_eq!(refused.kind(), Kind::InUse);
        assert!(refused.to_string().contains("without processes"), "{refused}");
        // Its directories are not there: the controllers could not be given on.
    });
}
