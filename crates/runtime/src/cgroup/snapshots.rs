//! What is planned on hosts of each kind, printed.

use coracle_host::Kind;
use oci_spec::runtime::LinuxResources;

use super::hierarchy::parse;
use super::settings::Live;
use super::{Extent, Hierarchies, Place, Plan, docker_devices};

fn mounts(lines: &[(&str, &str, &str)]) -> String {
    let line = |(index, (point, fstype, options)): (usize, &(&str, &str, &str))| {
        format!("{index} 1 0:{index} / /cg{point} rw - {fstype} cgroup rw,{options}\n")
    };
    lines.iter().enumerate().map(line).collect()
}

/// As a distribution with systemd before it went to version 2.
fn v1() -> Hierarchies {
    let controllers = [
        "cpu,cpuacct",
        "cpuset",
        "memory",
        "pids",
        "freezer",
        "devices",
        "blkio",
        "hugetlb",
        "net_cls,net_prio",
        "rdma",
    ];
    let points: Vec<String> = controllers.iter().map(|name| format!("/{name}")).collect();
    let lines: Vec<_> =
        points.iter().zip(controllers).map(|(point, name)| (&**point, "cgroup", name)).collect();
    parse(mounts(&lines).as_bytes(), "1:cpu,cpuacct:/own\n", |_, _| true, |_| String::new())
}

/// Some controllers here, some there.
fn hybrid() -> Hierarchies {
    let lines = [
        ("/memory", "cgroup", "memory"),
        ("/freezer", "cgroup", "freezer"),
        ("/unified", "cgroup2", "nsdelegate"),
    ];
    parse(mounts(&lines).as_bytes(), "", |_, _| true, |_| "hugetlb pids".into())
}

fn v2() -> Hierarchies {
    let all = "cpuset cpu io memory hugetlb pids rdma";
    parse(mounts(&[("", "cgroup2", "nsdelegate")]).as_bytes(), "0::/own/group\n", |_, _| true, |_| all.into())
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

/// Everything that both versions have.
fn common() -> LinuxResources {
    resources(
        r#"{"cpu": {"shares": 512, "quota": 50000, "period": 100000, "burst": 10000, "cpus": "0-1", "mems": "0", "idle": 0},
        "memory": {"limit": 67108864, "swap": 100663296, "reservation": 33554432, "useHierarchy": true, "disableOOMKiller": false},
        "pids": {"limit": 64},
        "blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1048576}], "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
        "devices": [{"allow": false, "type": "a", "access": "rwm"}, {"allow": true, "type": "b", "major": 8, "minor": 0, "access": "r"}]}"#,
    )
}

#[track_caller]
fn planned(resources: &LinuxResources, host: &Hierarchies, extent: Extent) -> String {
    Plan::new(&Place::new("db").unwrap(), resources, host, extent).unwrap().to_string()
}

#[track_caller]
fn is(plan: &str, expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(plan.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn everything_in_version_1() {
    let plan = planned(&common(), &v1(), Extent::Asked);
    let (directories, writes): (Vec<_>, Vec<_>) = plan.lines().partition(|line| !line.starts_with("write"));
    is(
        &directories.join("\n"),
        "mkdir /cg/cpu,cpuacct/coracle-db
        mkdir /cg/cpuset/coracle-db
        take over cpuset of the parent in /cg/cpuset/coracle-db
        mkdir /cg/memory/coracle-db
        mkdir /cg/pids/coracle-db
        mkdir /cg/devices/coracle-db
        mkdir /cg/blkio/coracle-db
        mkdir /cg/hugetlb/coracle-db
        mkdir /cg/rdma/coracle-db",
    );
    is(
        &writes.join("\n").replace("/coracle-db", ""),
        r#"write "512" to /cg/cpu,cpuacct/cpu.shares (cpu.shares)
        write "100000" to /cg/cpu,cpuacct/cpu.cfs_period_us (cpu.period)
        write "50000" to /cg/cpu,cpuacct/cpu.cfs_quota_us (cpu.quota)
        write "10000" to /cg/cpu,cpuacct/cpu.cfs_burst_us (cpu.burst)
        write "0" to /cg/cpu,cpuacct/cpu.idle (cpu.idle)
        write "0-1" to /cg/cpuset/cpuset.cpus (cpu.cpus)
        write "0" to /cg/cpuset/cpuset.mems (cpu.mems)
        write "67108864" to /cg/memory/memory.limit_in_bytes (memory.limit)
        write "100663296" to /cg/memory/memory.memsw.limit_in_bytes (memory.swap)
        write "33554432" to /cg/memory/memory.soft_limit_in_bytes (memory.reservation)
        write "0" to /cg/memory/memory.oom_control (memory.disableOOMKiller)
        write "1" to /cg/memory/memory.use_hierarchy (memory.useHierarchy)
        write "500" to /cg/blkio/blkio.weight, or else write "500" to /cg/blkio/blkio.bfq.weight (blockIO.weight)
        write "8:0 10" to /cg/blkio/blkio.weight_device, or else write "8:0 10" to /cg/blkio/blkio.bfq.weight_device (blockIO.weightDevice)
        write "8:0 1048576" to /cg/blkio/blkio.throttle.read_bps_device (blockIO.throttleReadBpsDevice)
        write "8:0 0" to /cg/blkio/blkio.throttle.write_iops_device (blockIO.throttleWriteIOPSDevice)
        write "64" to /cg/pids/pids.max (pids.limit)
        write "4194304" to /cg/hugetlb/hugetlb.2MB.limit_in_bytes (hugepageLimits)
        write "4194304" to /cg/hugetlb/hugetlb.2MB.rsvd.limit_in_bytes (hugepageLimits, where it is there)
        write "mlx5_1 hca_handle=3 hca_object=10000" to /cg/rdma/rdma.max (rdma)
        write "a" to /cg/devices/devices.deny (devices)
        write "b *:* m" to /cg/devices/devices.allow (devices)
        write "b 8:0 rm" to /cg/devices/devices.allow (devices)
        write "c *:* m" to /cg/devices/devices.allow (devices)
        write "c 1:3 rwm" to /cg/devices/devices.allow (devices)
        write "c 1:5 rwm" to /cg/devices/devices.allow (devices)
        write "c 1:7 rwm" to /cg/devices/devices.allow (devices)
        write "c 1:8 rwm" to /cg/devices/devices.allow (devices)
        write "c 1:9 rwm" to /cg/devices/devices.allow (devices)
        write "c 5:0 rwm" to /cg/devices/devices.allow (devices)
        write "c 5:2 rwm" to /cg/devices/devices.allow (devices)
        write "c 136:* rwm" to /cg/devices/devices.allow (devices)"#,
    );
}

#[test]
fn everything_in_version_2() {
    let plan = planned(&common(), &v2(), Extent::Asked);
    is(
        &plan.replace("/coracle-db", "/…"),
        r#"give on cpu cpuset hugetlb io memory pids rdma below /cg
        mkdir /cg/…
        write "59" to /cg/…/cpu.weight (cpu.shares)
        write "50000 100000" to /cg/…/cpu.max (cpu.quota)
        write "10000" to /cg/…/cpu.max.burst (cpu.burst)
        write "0" to /cg/…/cpu.idle (cpu.idle)
        write "0-1" to /cg/…/cpuset.cpus (cpu.cpus)
        write "0" to /cg/…/cpuset.mems (cpu.mems)
        write "67108864" to /cg/…/memory.max (memory.limit)
        write "33554432" to /cg/…/memory.swap.max (memory.swap)
        write "33554432" to /cg/…/memory.low (memory.reservation)
        write "500" to /cg/…/io.bfq.weight, or else write "4950" to /cg/…/io.weight (blockIO.weight)
        write "8:0 10" to /cg/…/io.bfq.weight, or else write "8:0 1" to /cg/…/io.weight (blockIO.weightDevice)
        write "8:0 rbps=1048576" to /cg/…/io.max (blockIO.throttleReadBpsDevice)
        write "8:0 wiops=max" to /cg/…/io.max (blockIO.throttleWriteIOPSDevice)
        write "64" to /cg/…/pids.max (pids.limit)
        write "4194304" to /cg/…/hugetlb.2MB.max (hugepageLimits)
        write "4194304" to /cg/…/hugetlb.2MB.rsvd.max (hugepageLimits, where it is there)
        write "mlx5_1 hca_handle=3 hca_object=10000" to /cg/…/rdma.max (rdma)
        filter devices of /cg/… by 12 rules in 87 instructions"#,
    );
}

#[test]
fn only_version_1_has_these() {
    let old = resources(
        r#"{"cpu": {"realtimePeriod": 1000000, "realtimeRuntime": 950000},
        "memory": {"kernel": 1048576, "kernelTCP": 1048576, "swappiness": 0, "disableOOMKiller": true, "useHierarchy": false},
        "blockIO": {"leafWeight": 10, "weightDevice": [{"major": 8, "minor": 0, "leafWeight": 10}]},
        "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]}}"#,
    );
    let plan = planned(&old, &v1(), Extent::Asked).replace("/coracle-db", "");
    let writes: Vec<_> = plan.lines().filter(|line| line.starts_with("write")).collect();
    is(
        &writes.join("\n"),
        r#"write "1000000" to /cg/cpu,cpuacct/cpu.rt_period_us (cpu.realtimePeriod)
        write "950000" to /cg/cpu,cpuacct/cpu.rt_runtime_us (cpu.realtimeRuntime)
        write "1048576" to /cg/memory/memory.kmem.limit_in_bytes (memory.kernel)
        write "1048576" to /cg/memory/memory.kmem.tcp.limit_in_bytes (memory.kernelTCP)
        write "0" to /cg/memory/memory.swappiness (memory.swappiness)
        write "1" to /cg/memory/memory.oom_control (memory.disableOOMKiller)
        write "0" to /cg/memory/memory.use_hierarchy (memory.useHierarchy)
        write "10" to /cg/blkio/blkio.leaf_weight (blockIO.leafWeight)
        write "8:0 10" to /cg/blkio/blkio.leaf_weight_device (blockIO.weightDevice.leafWeight)
        write "1048577" to /cg/net_cls,net_prio/net_cls.classid (network.classID)
        write "eth0 500" to /cg/net_cls,net_prio/net_prio.ifpriomap (network.priorities)"#,
    );
    // Each is refused by its name in version 2, all together.
    let refused = Plan::new(&Place::new("db").unwrap(), &old, &v2(), Extent::Standard).unwrap_err();
    assert_eq!(refused.kind(), Kind::Unsupported);
    for name in [
        "cpu.realtimePeriod",
        "cpu.realtimeRuntime",
        "memory.kernel",
        "memory.kernelTCP",
        "memory.swappiness",
        "memory.disableOOMKiller",
        "memory.useHierarchy",
        "blockIO.leafWeight",
        "blockIO.weightDevice.leafWeight",
        "network.classID",
        "network.priorities",
    ] {
        assert!(refused.to_string().contains(&format!("linux.resources.{name}: ")), "{name}: {refused}");
    }
}

#[test]
fn a_hybrid_host_has_each_controller_where_it_is() {
    let asked =
        resources(r#"{"pids": {"limit": -1}, "unified": {"hugetlb.2MB.max": "0", "memory.oom.group": "1"}}"#);
    let refused = Plan::new(&Place::new("db").unwrap(), &asked, &hybrid(), Extent::Standard).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "linux.resources.unified[\"memory.oom.group\"]: the controller `memory` is mounted as cgroup v1 here"
    );
    let asked = resources(r#"{"pids": {"limit": -1}, "unified": {"hugetlb.2MB.max": "0"}}"#);
    is(
        &planned(&asked, &hybrid(), Extent::Standard),
        r#"mkdir /cg/memory/coracle-db
        mkdir /cg/freezer/coracle-db
        give on hugetlb pids below /cg/unified
        mkdir /cg/unified/coracle-db
        write "max" to /cg/unified/coracle-db/pids.max (pids.limit)
        write "0" to /cg/unified/coracle-db/hugetlb.2MB.max (unified["hugetlb.2MB.max"])"#,
    );
}

#[test]
fn the_usual_without_any_resources() {
    let nothing = LinuxResources::default();
    assert_eq!(planned(&nothing, &v1(), Extent::Asked), "");
    let names = |plan: String| {
        let leaves = plan.lines().filter_map(|line| {
            line.strip_prefix("mkdir /cg")?.strip_suffix("/coracle-db").map(str::to_owned)
        });
        leaves.collect::<Vec<_>>()
    };
    assert_eq!(
        names(planned(&nothing, &v1(), Extent::Standard)),
        ["/cpu,cpuacct", "/memory", "/pids", "/freezer"]
    );
    assert_eq!(names(planned(&nothing, &v1(), Extent::All)).len(), 10);
    is(
        &planned(&nothing, &v2(), Extent::Standard),
        "give on memory pids below /cg
        mkdir /cg/coracle-db",
    );
    let none = Plan::new(&Place::new("db").unwrap(), &nothing, &Hierarchies::default(), Extent::Standard);
    assert_eq!(none.unwrap_err().kind(), Kind::Unsupported);
}

#[test]
fn relative_places_are_below_our_own_group() {
    let place = Place::below("pods/7", "db").unwrap();
    let plan = Plan::new(&place, &LinuxResources::default(), &v2(), Extent::Standard).unwrap();
    is(
        &plan.to_string(),
        "give on memory pids below /cg/own/group
        mkdir /cg/own/group/pods
        give on memory pids below /cg/own/group/pods
        mkdir /cg/own/group/pods/7
        give on memory pids below /cg/own/group/pods/7
        mkdir /cg/own/group/pods/7/db",
    );
    let outside = Plan::new(&place, &LinuxResources::default(), &hybrid(), Extent::Standard).unwrap_err();
    assert!(outside.to_string().contains("name an absolute place"), "{outside}");
}

#[test]
fn swap_is_what_is_left_of_both() {
    let swap = |json: &str, host: &Hierarchies| {
        let resources = resources(&format!(r#"{{"memory": {json}}}"#));
        let plan = Plan::new(&Place::new("db").unwrap(), &resources, host, Extent::Asked);
        plan.map(|plan| {
            let writes = plan.to_string();
            let values = writes.lines().filter_map(|line| line.split('"').nth(1).map(str::to_owned));
            values.collect::<Vec<_>>().join(" ")
        })
        .map_err(|error| error.kind())
    };
    assert_eq!(swap(r#"{"limit": 100, "swap": 100}"#, &v2()).unwrap(), "100 0");
    assert_eq!(swap(r#"{"limit": 100, "swap": -1}"#, &v2()).unwrap(), "100 max");
    assert_eq!(swap(r#"{"limit": -1}"#, &v2()).unwrap(), "max max");
    assert_eq!(swap(r#"{"limit": -1}"#, &v1()).unwrap(), "-1 -1");
    assert_eq!(swap(r#"{"limit": 0, "swap": 0}"#, &v2()).unwrap(), "");
    for host in [&v1(), &v2()] {
        assert_eq!(swap(r#"{"limit": 100, "swap": 99}"#, host), Err(Kind::Invalid));
    }
    assert_eq!(swap(r#"{"swap": 99}"#, &v2()), Err(Kind::Invalid));
    assert_eq!(swap(r#"{"limit": -1, "swap": 99}"#, &v2()), Err(Kind::Invalid));
}

#[test]
fn an_update_starts_from_what_is_there() {
    let live = Live { memory_limit: Some(100), quota: Some("2000".into()), devices: None };
    let new = resources(r#"{"memory": {"swap": 150, "checkBeforeUpdate": true}, "cpu": {"period": 50000}}"#);
    let place = Place::new("db").unwrap();
    let whole = Plan::new(&place, &LinuxResources::default(), &v2(), Extent::All).unwrap();
    let plan = Plan::update(&place, &new, &v2(), &whole.groups, &live).unwrap().to_string();
    let writes: Vec<_> = plan.lines().filter(|line| line.starts_with("write")).collect();
    assert_eq!(
        writes,
        [
            r#"write "2000 50000" to /cg/coracle-db/cpu.max (cpu.period)"#,
            r#"write "50" to /cg/coracle-db/memory.swap.max (memory.swap)"#
        ]
    );
    assert!(!plan.contains("mkdir"), "{plan}");
    // In version 1 a controller that the group is not in yet comes with a group there.
    let one = Plan::new(&place, &resources(r#"{"pids": {"limit": 3}}"#), &v1(), Extent::Asked).unwrap();
    let less = resources(r#"{"memory": {"limit": 4096, "checkBeforeUpdate": true}}"#);
    let plan = Plan::update(&place, &less, &v1(), &one.groups, &Live::default()).unwrap();
    is(
        &plan.to_string(),
        r#"mkdir /cg/memory/coracle-db
        check that /cg/memory/coracle-db/memory.usage_in_bytes is below 4096
        write "4096" to /cg/memory/coracle-db/memory.limit_in_bytes (memory.limit)"#,
    );
}

#[test]
fn what_is_missing_is_named_with_how_to_get_it() {
    let asked = resources(
        r#"{"cpu": {"shares": 2, "idle": 2, "cpus": "all"}, "memory": {"limit": 1, "swappiness": 101},
        "blockIO": {"weight": 9}, "hugepageLimits": [{"pageSize": "big", "limit": 1}],
        "network": {"classID": 1}, "unified": {"../x": "1", "cgroup.freeze": "1", "misc.max": "1"}}"#,
    );
    let memory = parse(
        b"1 0 0:1 / /ro ro - cgroup c rw,memory\n2 0 0:2 / /cg rw - cgroup2 c rw\n",
        "",
        |_, _| true,
        |_| String::new(),
    );
    let refused =
        Plan::new(&Place::new("db").unwrap(), &asked, &memory, Extent::Standard).unwrap_err().to_string();
    for part in [
        "cpu.shares: this host has no control group controller `cpu`; it must be in /cg/cgroup.controllers",
        "cpu.cpus: \"all\" is no list",
        "memory.limit: the controller `memory` is mounted read-only at /ro",
        "memory.swappiness: must be from 0 to 100",
        "blockIO.weight: this host has no control group controller `io`",
        "hugepageLimits: \"big\" is no page size",
        "network.classID: this host has no control group controller `net_cls`; mount it:",
        "unified[\"../x\"]: is no file of a control group",
        "unified[\"cgroup.freeze\"]: is no resource",
        "unified[\"misc.max\"]: this host has no control group controller `misc`",
    ] {
        assert!(refused.contains(part), "{part}\n{refused}");
    }
}

#[test]
fn dockers_devices_in_both_versions() {
    let mut asked = LinuxResources::default();
    asked.set_devices(Some(docker_devices()));
    let v1 = planned(&asked, &v1(), Extent::Asked);
    assert!(v1.contains("write \"c 136:* rwm\""), "{v1}");
    let v2 = planned(&asked, &v2(), Extent::Asked);
    assert!(v2.ends_with("filter devices of /cg/coracle-db by 12 rules in 87 instructions"), "{v2}");
}

#[test]
fn a_scope_of_systemds() {
    let place = Place::from_oci(std::path::Path::new("a-b.slice:docker:7")).unwrap();
    let place = place.property("TimeoutStopUSec", "uint64 7").unwrap();
    let plan = Plan::new(&place, &common(), &v2(), Extent::Standard).unwrap().to_string();
    let group = "/cg/a.slice/a-b.slice/docker-7.scope";
    let (writes, rest): (Vec<_>, Vec<_>) = plan.lines().partition(|line| line.starts_with("write"));
    is(
        &rest.join("\n"),
        &format!(
            "have systemd start docker-7.scope in a-b.slice (CPUWeight=59, CPUQuotaPerSecUSec=500000, \
             CPUQuotaPeriodUSec=100000, AllowedCPUs=0x03, AllowedMemoryNodes=0x01, MemoryMax=67108864, MemorySwapMax=33554432, \
             MemoryLow=33554432, IOWeight=4950, TasksMax=64, TimeoutStopUSec=7)
            give on hugetlb rdma below /cg
            give on hugetlb rdma below /cg/a.slice
            give on hugetlb rdma below /cg/a.slice/a-b.slice
            filter devices of {group} by 12 rules in 87 instructions"
        ),
    );
    // What systemd was told is rounded, or not all there is.
    assert!(writes.contains(&&*format!("write \"50000 100000\" to {group}/cpu.max (cpu.quota)")), "{plan}");
    let bare = Plan::new(&place, &resources("{}"), &v2(), Extent::Asked).unwrap().to_string();
    assert_eq!(bare, "have systemd start docker-7.scope in a-b.slice (TimeoutStopUSec=7)");
}

#[test]
fn scopes_need_version_2_alone() {
    let place = Place::scope("", "db").unwrap();
    for (host, why) in [
        (hybrid(), "this host has `memory` in cgroup v1"),
        (parse(b"", "", |_, _| true, |_| String::new()), "this host has none"),
    ] {
        let error = Plan::new(&place, &resources("{}"), &host, Extent::Standard).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        let text = format!(
            "cgroup /system.slice/coracle-db.scope: scopes of systemd need cgroup v2 alone, and {why}"
        );
        assert!(error.to_string().starts_with(&text), "{error}");
    }
}

#[test]
fn an_update_tells_systemd_what_it_knows() {
    let place = Place::scope("", "db").unwrap();
    let there = Plan::new(&place, &resources("{}"), &v2(), Extent::Standard).unwrap();
    let update = |json: &str| {
        let plan = Plan::update(&place, &resources(json), &v2(), &there.groups, &Live::default());
        plan.unwrap().to_string()
    };
    is(
        &update(r#"{"pids": {"limit": 9}}"#),
        r#"have systemd change coracle-db.scope in system.slice (TasksMax=9)
        write "9" to /cg/system.slice/coracle-db.scope/pids.max (pids.limit)"#,
    );
    let devices = update(r#"{"devices": [{"allow": false, "access": "rwm"}]}"#);
    assert!(devices.starts_with("filter devices") && devices.lines().count() == 1, "{devices}");
}
