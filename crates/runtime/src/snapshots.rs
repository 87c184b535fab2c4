//! Plans, printed.

use std::path::PathBuf;

use oci_spec::runtime::{Capability, LinuxNamespaceType, Mount, Spec};

use crate::{Facts, Plan, docker_spec};

const FILES: [&str; 4] = ["/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/sysrq-trigger"];

fn spec() -> Spec {
    let mut spec = docker_spec();
    spec.process_mut().as_mut().unwrap().set_args(Some(vec!["redis-server".into(), "--save".into()]));
    spec
}

fn plan(spec: &Spec) -> Plan {
    Plan::container(spec, &Facts::assumed(&FILES)).unwrap()
}

/// The lines of the second that the first doesn't have, and the other way round, without their numbers.
fn difference(before: &Plan, after: &Plan) -> (Vec<String>, Vec<String>) {
    let lines = |plan: &Plan| plan.steps().iter().map(ToString::to_string).collect::<Vec<_>>();
    let (before, after) = (lines(before), lines(after));
    let only = |one: &[String], other: &[String]| {
        one.iter().filter(|line| !other.contains(line)).cloned().collect::<Vec<_>>()
    };
    (only(&after, &before), only(&before, &after))
}

#[test]
fn dockers_defaults() {
    let mut spec = spec();
    spec.set_hostname(Some("db".into()));
    assert_eq!(
        plan(&spec).to_string(),
        " 0  die with parent (SIGKILL)
 1  join network namespace
 2  loopback up
 3  make / private
 4  attach root
 5  no devices
 6  mount proc at ./proc nosuid,nodev,noexec
 7  attach tmpfs with devices nosuid,strictatime,mode=755,size=65536k at ./dev
 8  but ./dev/null
 9  but ./dev/zero
10  but ./dev/full
11  but ./dev/random
12  but ./dev/urandom
13  but ./dev/tty
14  no other devices in ./dev
15  attach devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5 at ./dev/pts
16  mount sysfs at ./sys nosuid,nodev,noexec,ro
17  mount mqueue at ./dev/mqueue nosuid,nodev,noexec
18  attach tmpfs nosuid,noexec,nodev,mode=1777,size=67108864 at ./dev/shm
19  enter root
20  mask directory ./proc/asound
21  mask directory ./proc/acpi
22  mask file ./proc/interrupts
23  mask file ./proc/kcore
24  mask file ./proc/keys
25  mask directory ./proc/latency_stats
26  mask directory ./proc/timer_list
27  mask directory ./proc/timer_stats
28  mask directory ./proc/sched_debug
29  mask directory ./proc/scsi
30  mask directory ./sys/firmware
31  mask directory ./sys/devices/virtual/powercap
32  make ./proc/bus read-only
33  make ./proc/fs read-only
34  make ./proc/irq read-only
35  make ./proc/sys read-only
36  make ./proc/sysrq-trigger read-only
37  hostname db
38  pivot here, detach old root
39  new session keyring
40  umask 0022
41  standard input, output, error
42  bound to 14 capabilities
43  ids 0:0
44  keep 14 capabilities
45  die with parent (SIGKILL)
46  close from 3
47  chdir /
48  go on in sealed memory
49  exec redis-server --save
"
    );
}

#[test]
fn what_else_can_be_asked_for() {
    let before = plan(&spec());
    let mut spec = spec();
    let mut root = oci_spec::runtime::Root::default();
    root.set_readonly(Some(true));
    spec.set_root(Some(root)).set_domainname(Some("nis".into()));
    let process = spec.process_mut().as_mut().unwrap();
    let mut user = process.user().clone();
    user.set_uid(999u32).set_gid(998u32).set_additional_gids(Some(vec![10, 20])).set_umask(Some(0o77));
    process.set_user(user).set_no_new_privileges(Some(true)).set_cwd(PathBuf::from("/srv"));
    let mut sets = process.capabilities().clone().unwrap();
    sets.set_inheritable(Some([Capability::Chown].into())).set_ambient(Some([Capability::Chown].into()));
    process.set_capabilities(Some(sets));
    let (more, less) = difference(&before, &plan(&spec));
    assert_eq!(
        more,
        [
            "domainname nis",
            "make / read-only",
            "umask 0077",
            "ids 999:998, groups 10,20",
            "keep 14 capabilities, 1 ambient",
            "no new privileges",
            "chdir /srv",
        ]
    );
    assert_eq!(less, ["umask 0022", "ids 0:0", "keep 14 capabilities", "chdir /"]);
    let words = plan(&spec).to_string();
    let at = |step: &str| words.find(step).unwrap_or_else(|| panic!("no {step}"));
    // The parent-death signal is set again after what clears it, and while proc still is the host's to look at.
    assert!(at("ids 999") < words.rfind("die with parent").unwrap());
    assert!(words.rfind("die with parent").unwrap() < at("close from"));
    assert!(at("close from") < at("chdir") && at("chdir") < at("go on") && at("go on") < at("  exec"));
    assert!(at("bound to") < at("ids 999") && at("ids 999") < at("keep 14"));
}

#[test]
fn a_terminal() {
    let before = plan(&spec());
    let mut spec = spec();
    let process = spec.process_mut().as_mut().unwrap();
    let size = oci_spec::runtime::BoxBuilder::default().width(80u64).height(25u64).build().unwrap();
    process.set_terminal(Some(true)).set_console_size(Some(size));
    let (more, less) = difference(&before, &plan(&spec));
    let terminal = [
        "attach the terminal at ./dev/console",
        "terminal of 80x25 for input and output",
        "be controlled by the terminal",
    ];
    assert_eq!(
        (more, less),
        (terminal.map(str::to_owned).to_vec(), vec!["standard input, output, error".into()])
    );
    let words = Plan::exec(spec.process().as_ref().unwrap(), &Facts::assumed(&[])).unwrap().to_string();
    let at = |step: &str| words.find(step).unwrap_or_else(|| panic!("no {step}"));
    assert!(!words.contains("attach") && at("begin a session") < at("be controlled by"));
}

#[test]
fn limits_scores_parameters_and_groups() {
    let before = plan(&spec());
    let more = serde_json::json!({
        "process": {
            "oomScoreAdj": 500,
            "rlimits": [
                { "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096 },
                { "type": "RLIMIT_CORE", "soft": 0, "hard": u64::MAX },
            ],
        },
        "linux": { "sysctl": { "net.core.somaxconn": "64", "kernel.msgmax": "1" }, "cgroupsPath": "/x" },
    });
    let spec = crate::check::tests::merged(more);
    let after = plan(&spec);
    let (more, _) = difference(&before, &after);
    let expected = [
        "enter the control group",
        "out-of-memory score +500",
        "new cgroup namespace",
        "write 1 to /proc/sys/kernel/msgmax",
        "write 64 to /proc/sys/net/core/somaxconn",
        "limit RLIMIT_NOFILE to 1024, hard 4096",
        "limit RLIMIT_CORE to 0, hard unlimited",
        "exec true",
    ];
    assert_eq!(more, expected);
    let words = after.to_string();
    let at = |step: &str| words.find(step).unwrap_or_else(|| panic!("no {step}"));
    assert!(at("loopback up") < at("write 1") && at("write 64") < at("make / private"));
    assert!(at("go on in sealed") < at("limit RLIMIT_NOFILE"));
}

#[test]
fn a_group_that_filters_devices() {
    let before = plan(&spec());
    let rules = serde_json::json!({ "linux": { "resources": { "devices": [{ "allow": false }] } } });
    let (more, less) = difference(&before, &plan(&crate::check::tests::merged(rules)));
    assert_eq!(more, ["enter the control group", "new cgroup namespace", "exec true"]);
    assert_eq!(less.iter().filter(|line| line.contains("device") || line.starts_with("but ")).count(), 8);
}

#[test]
fn a_filter_and_the_capability_that_it_takes() {
    let before = plan(&spec());
    let docker = crate::seccomp::Profile::docker();
    let target = crate::seccomp::Target::new(crate::seccomp::Arch::X86_64, (6, 1), []);
    let program = docker.compile(&target).unwrap();
    let mut with = before.clone();
    with.filter(&program).unwrap();
    let (more, less) = difference(&before, &with);
    let seccomp = format!("seccomp {program}");
    let expected =
        ["keep CAP_SYS_ADMIN until the filter is installed", "keep 15 capabilities, 1 ambient", &seccomp];
    assert_eq!((more, less.len()), (expected.map(str::to_owned).to_vec(), 0));
    let lines: Vec<String> = with.steps().iter().map(ToString::to_string).collect();
    let tail: Vec<&str> = lines[lines.len() - 4..].iter().map(String::as_str).collect();
    let end = ["go on in sealed memory", &seccomp, "keep 14 capabilities", "exec redis-server --save"];
    assert_eq!(tail, end);
    // An init has no more rights than its child, whatever was said first.
    let (mut first, mut second) = (before.clone(), with.clone());
    first.init();
    first.filter(&program).unwrap();
    second.init();
    assert_eq!(first, second);
    let lines: Vec<String> = first.steps().iter().map(ToString::to_string).collect();
    assert_eq!(lines[lines.len() - 3..], ["keep 14 capabilities", "stay as init, go on in a child", end[3]]);
    first.hold();
    second = before.clone();
    second.hold();
    second.filter(&program).unwrap();
    second.init();
    assert_eq!(first, second);
    // Where exec never gives more rights it takes none.
    let mut strict = spec();
    strict.process_mut().as_mut().unwrap().set_no_new_privileges(Some(true));
    let before = plan(&strict);
    let mut with = before.clone();
    with.filter(&program).unwrap();
    assert_eq!(difference(&before, &with), (vec![seccomp], vec![]));
}

#[test]
fn the_hosts_network() {
    let before = plan(&spec());
    let mut spec = spec();
    let namespaces = spec.linux_mut().as_mut().unwrap().namespaces_mut().as_mut().unwrap();
    namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::Network);
    let (more, less) = difference(&before, &plan(&spec));
    assert_eq!((more, less), (vec![], vec!["join network namespace".to_owned(), "loopback up".to_owned()]));
}

#[test]
fn the_bundles_mounts_come_last_in_their_order() {
    let mut plan = plan(&spec());
    plan.attach("volume data", "/srv/data").unwrap();
    plan.attach("file hosts", "/etc/hosts").unwrap();
    let words: Vec<String> = plan.steps().iter().map(ToString::to_string).collect();
    let shm = words.iter().position(|line| line.ends_with("at ./dev/shm")).unwrap();
    assert_eq!(
        words[shm + 1..shm + 4],
        ["attach volume data at ./srv/data", "attach file hosts at ./etc/hosts", "enter root"]
    );
    for at in ["relative", "/", "/a/../b", ""] {
        let error = plan.attach("volume v", at).unwrap_err();
        let text = format!("volume v: {at:?} is not an absolute path below /, without `..`");
        assert_eq!((error.to_string(), error.kind()), (text, coracle_host::Kind::Invalid));
    }
}

#[test]
fn mounts_of_the_spec() {
    let mut spec = spec();
    let mut mount = |typ: Option<&str>, source: &str, at: &str, options: &[&str]| {
        let mut mount = Mount::default();
        mount.set_typ(typ.map(str::to_owned)).set_destination(at.into()).set_source(Some(source.into()));
        mount.set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
        spec.mounts_mut().as_mut().unwrap().push(mount);
    };
    mount(Some("tmpfs"), "tmpfs", "/run", &["rw", "nodev", "noatime", "size=1m", "nr_inodes=7"]);
    mount(Some("tmpfs"), "tmpfs", "/plain", &[]);
    mount(None, "/host/a", "/a", &["bind", "ro", "rprivate"]);
    mount(Some("bind"), "/host/b", "/b", &["rbind"]);
    mount(Some("none"), "/host/c", "/c", &["bind"]);
    let words: Vec<String> = plan(&spec).steps().iter().map(ToString::to_string).collect();
    let shm = words.iter().position(|line| line.ends_with("at ./dev/shm")).unwrap();
    assert_eq!(
        words[shm + 1..shm + 7],
        [
            "attach tmpfs nodev,noatime,size=1m,nr_inodes=7 at ./run",
            "attach tmpfs at ./plain",
            "attach bind of /host/a (ro) at ./a",
            "attach rbind of /host/b at ./b",
            "attach bind of /host/c at ./c",
            "enter root",
        ]
    );
}

#[test]
fn only_what_is_there_is_hidden() {
    // Nothing is known of this made-up host: every path is looked up, and none of these is there.
    let mut spec = spec();
    let linux = spec.linux_mut().as_mut().unwrap();
    linux.set_masked_paths(Some(vec!["/proc/none".into(), "/proc/self/stat".into(), "/proc/self".into()]));
    linux.set_readonly_paths(Some(vec!["/sys/none".into(), "/sys/kernel".into()]));
    let plan = Plan::container(&spec, &Facts::of_this_host()).unwrap().to_string();
    let walls: Vec<&str> = plan.lines().map(|line| &line[4..]).filter(|line| line.contains("ma")).collect();
    let walls: Vec<&&str> =
        walls.iter().filter(|line| line.starts_with("mask") || line.ends_with("read-only")).collect();
    assert_eq!(
        walls,
        [&"mask file ./proc/self/stat", &"mask directory ./proc/self", &"make ./sys/kernel read-only"]
    );
}

#[test]
fn a_user_namespace() {
    let more = serde_json::json!({
        "process": { "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 9, "hard": 9 }], "oomScoreAdj": 5 },
        "linux": {
            "uidMappings": [{ "containerID": 0, "hostID": 100_000, "size": 65_536 }],
            "gidMappings": [{ "containerID": 0, "hostID": 200_000, "size": 65_536 }],
            "sysctl": { "net.core.somaxconn": "64", "kernel.msgmax": "1" }, "cgroupsPath": "/x",
            "namespaces": [
                { "type": "mount" }, { "type": "user" }, { "type": "network" }, { "type": "cgroup" },
                { "type": "ipc" }, { "type": "uts", "path": "/u" }, { "type": "pid", "path": "/p" },
            ],
        },
    });
    let plan = plan(&crate::check::tests::merged(more)).to_string();
    let begin = " 0  die with parent (SIGKILL)
 1  enter the control group
 2  out-of-memory score +5
 3  join uts namespace /u
 4  join network namespace
 5  loopback up
 6  write 64 to /proc/sys/net/core/somaxconn
 7  undumpable
 8  join the user namespace
 9  be root there
10  go on in a second process, in new mount, ipc, cgroup namespaces
11  die with parent (SIGKILL)
12  join pid namespace /p
13  write 1 to /proc/sys/kernel/msgmax
14  make / private
15  attach root
";
    assert!(plan.starts_with(begin), "{plan}");
}

#[test]
fn a_user_namespace_is_asked_for_whole() {
    let refusal = |more: serde_json::Value| {
        let spec = crate::check::tests::merged(more);
        Plan::container(&spec, &Facts::assumed(&[])).unwrap_err().to_string()
    };
    let user = serde_json::json!([{ "type": "mount" }, { "type": "user" }]);
    let ids = |id: u32| serde_json::json!([{ "containerID": id, "hostID": 1000, "size": 10 }]);
    assert_eq!(
        refusal(serde_json::json!({ "linux": { "namespaces": user, "uidMappings": ids(0) } })),
        "linux.gidMappings: 0 ranges, and 1 to 340 are allowed"
    );
    assert_eq!(
        refusal(serde_json::json!({ "linux": { "gidMappings": ids(0) } })),
        "linux.uidMappings, linux.gidMappings: without a user namespace they map nothing"
    );
    let process = serde_json::json!({ "user": { "uid": 7, "gid": 10, "additionalGids": [3, 11] } });
    let more = serde_json::json!({
        "process": process,
        "linux": { "namespaces": user, "uidMappings": ids(5), "gidMappings": ids(0) },
    });
    let expected = "linux.uidMappings, linux.gidMappings: 0 is not mapped; \
                    process.user: the group 11 is not mapped; process.user: the group 10 is not mapped";
    assert_eq!(refusal(more), expected);
}

#[test]
fn a_further_process() {
    let plan = Plan::exec(spec().process().as_ref().unwrap(), &Facts::assumed(&[])).unwrap();
    assert_eq!(
        plan.to_string(),
        " 0  die with parent (SIGKILL)
 1  undumpable
 2  join the container's namespaces
 3  new session keyring
 4  umask 0022
 5  standard input, output, error
 6  bound to 14 capabilities
 7  ids 0:0
 8  keep 14 capabilities
 9  die with parent (SIGKILL)
10  close from 3
11  chdir /
12  go on in sealed memory
13  undumpable
14  go on in a second process
15  begin a session
16  die with parent (SIGKILL)
17  exec redis-server --save
"
    );
}
