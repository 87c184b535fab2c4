//! Every field of the specification (runtime-spec 1.2, config.md and config-linux.md) does something or is refused by name.

use serde_json::{Value, json};

use crate::check::tests::merged;
use crate::{Facts, Plan};

/// What becomes of a field.
enum Fate {
    /// The plan has this.
    Acts(&'static str),
    /// It is refused by this name.
    Refused(&'static str),
    /// The plan is the same, for a reason.
    Nothing,
}
use Fate::{Acts, Nothing, Refused};

fn fields() -> Vec<(Value, Fate)> {
    let mount = |mount: Value| json!({ "mounts": [mount] });
    let linux = |linux: Value| json!({ "linux": linux });
    let process = |process: Value| json!({ "process": process });
    let id = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
    let hook = json!([{ "path": "/bin/true" }]);
    let namespaces = |more: Value| {
        let mut all = json!([{ "type": "mount" }, { "type": "pid" }]);
        all.as_array_mut().unwrap().push(more);
        linux(json!({ "namespaces": all }))
    };
    vec![
        (json!({ "ociVersion": "1.2.0" }), Nothing), // whoever reads the file checks it
        (json!({ "annotations": { "a": "b" } }), Nothing), // for others
        (json!({ "root": { "path": "x" } }), Nothing), // the bundle brings the root
        (json!({ "root": { "path": "x", "readonly": true } }), Acts("make / read-only")),
        (json!({ "hostname": "h" }), Acts("hostname h")),
        (json!({ "domainname": "d" }), Acts("domainname d")),
        (json!({ "hooks": { "prestart": hook } }), Refused("hooks")),
        (json!({ "solaris": {} }), Refused("solaris")),
        (json!({ "windows": { "layerFolders": [] } }), Refused("windows")),
        (json!({ "vm": { "kernel": { "path": "/k" } } }), Refused("vm")),
        (json!({ "zos": {} }), Refused("zos")),
        (mount(json!({ "destination": "/m", "type": "tmpfs" })), Acts("attach tmpfs at ./m")),
        (
            mount(json!({ "destination": "/m", "type": "bind", "source": "/s" })),
            Acts("attach bind of /s at ./m"),
        ),
        (
            mount(json!({ "destination": "/m", "type": "tmpfs", "options": ["size=1"] })),
            Acts("attach tmpfs size=1 at ./m"),
        ),
        (
            mount(json!({ "destination": "/m", "type": "tmpfs", "uidMappings": id })),
            Refused("mounts[/m]: only a bind mount can have its owners mapped"),
        ),
        (
            mount(json!({ "destination": "/m", "type": "tmpfs", "gidMappings": id })),
            Refused("mounts[/m]: only a bind mount can have its owners mapped"),
        ),
        (process(json!({ "terminal": true })), Acts("be controlled by the terminal")),
        (
            process(json!({ "terminal": true, "consoleSize": { "height": 2, "width": 3 } })),
            Acts("terminal of 3x2 for input and output"),
        ),
        (process(json!({ "cwd": "/c" })), Acts("chdir /c")),
        (process(json!({ "env": ["PATH=/p"] })), Nothing), // the environment is not printed; a test looks at it
        (process(json!({ "args": ["other"] })), Acts("exec other")),
        (process(json!({ "commandLine": "windows" })), Refused("process.commandLine")),
        (
            process(json!({ "rlimits": [{ "type": "RLIMIT_CORE", "soft": 0, "hard": 1 }] })),
            Acts("limit RLIMIT_CORE to 0, hard 1"),
        ),
        (process(json!({ "apparmorProfile": "p" })), Acts("AppArmor profile p")),
        (process(json!({ "capabilities": { "bounding": [] } })), Acts("bound to 0 capabilities")),
        (
            process(json!({ "capabilities": { "permitted": [], "effective": [] } })),
            Acts("keep 0 capabilities"),
        ),
        (
            process(json!({ "capabilities": { "ambient": ["CAP_CHOWN"], "inheritable": ["CAP_CHOWN"] } })),
            Acts("keep 14 capabilities, 1 ambient"),
        ),
        (process(json!({ "noNewPrivileges": true })), Acts("no new privileges")),
        (process(json!({ "oomScoreAdj": 5 })), Acts("out-of-memory score +5")),
        (process(json!({ "selinuxLabel": "l" })), Acts("SELinux label l")),
        (
            process(json!({ "ioPriority": { "class": "IOPRIO_CLASS_IDLE", "priority": 0 } })),
            Acts("i/o priority class 3, level 0"),
        ),
        (
            process(json!({ "scheduler": { "policy": "SCHED_FIFO", "priority": 4 } })),
            Acts("scheduling policy 1, nice 0, priority 4"),
        ),
        (process(json!({ "execCPUAffinity": { "initial": "0" } })), Nothing), // for processes that join
        (process(json!({ "user": { "uid": 4, "gid": 5 } })), Acts("ids 4:5")),
        (process(json!({ "user": { "uid": 0, "gid": 0, "umask": 7 } })), Acts("umask 0007")),
        (
            process(json!({ "user": { "uid": 0, "gid": 0, "additionalGids": [8] } })),
            Acts("ids 0:0, groups 8"),
        ),
        (
            process(json!({ "user": { "uid": 0, "gid": 0, "username": "windows" } })),
            Refused("process.user.username"),
        ),
        (linux(json!({ "uidMappings": id })), Refused("linux.uidMappings")), // without a namespace
        (linux(json!({ "gidMappings": id })), Refused("linux.uidMappings")),
        (
            mount(json!({
                "destination": "/m", "type": "bind", "source": "/s", "uidMappings": id, "gidMappings": id,
            })),
            Acts("attach bind of /s, mapped (uids 0:0:1, gids 0:0:1) at ./m"),
        ),
        (
            linux(json!({ "sysctl": { "net.core.somaxconn": "9" } })),
            Acts("write 9 to /proc/sys/net/core/somaxconn"),
        ),
        (linux(json!({ "resources": {} })), Acts("enter the control group")),
        (linux(json!({ "cgroupsPath": "/c" })), Acts("enter the control group")),
        (namespaces(json!({ "type": "uts", "path": "/p" })), Acts("join uts namespace /p")),
        (
            linux(json!({ "namespaces": [{ "type": "mount" }, { "type": "pid", "path": "/p" }] })),
            Acts("join pid namespace /p"),
        ),
        (linux(json!({ "namespaces": [{ "type": "uts" }] })), Acts("change root here")),
        (
            linux(json!({ "namespaces": [{ "type": "uts" }, { "type": "mount", "path": "/m" }] })),
            Acts("join mount namespace /m"),
        ),
        (namespaces(json!({ "type": "user" })), Refused("linux.uidMappings: 0 ranges")),
        (namespaces(json!({ "type": "user", "path": "/u" })), Acts("join the user namespace")),
        (namespaces(json!({ "type": "time" })), Acts("new time namespace")),
        (namespaces(json!({ "type": "time", "path": "/t" })), Acts("join time namespace /t")),
        (
            linux(json!({ "devices": [{ "path": "/dev/d", "type": "c", "major": 1, "minor": 2 }] })),
            Acts("but ./dev/d"),
        ),
        (linux(json!({ "seccomp": { "defaultAction": "SCMP_ACT_ALLOW" } })), Acts("seccomp profile (")),
        (linux(json!({ "rootfsPropagation": "rshared" })), Acts("make / and all below shared")),
        (linux(json!({ "rootfsPropagation": "private" })), Nothing), // it is anyway
        (linux(json!({ "rootfsPropagation": "sideways" })), Refused("linux.rootfsPropagation")),
        (linux(json!({ "maskedPaths": ["/proc/kcore"] })), Acts("mask directory ./proc/kcore")),
        (linux(json!({ "readonlyPaths": ["/proc/fs"] })), Acts("make ./proc/fs read-only")),
        (linux(json!({ "mountLabel": "l" })), Acts("SELinux label of ./dev/mqueue l")),
        (linux(json!({ "intelRdt": {} })), Refused("linux.intelRdt")),
        (
            linux(json!({ "memoryPolicy": { "mode": "MPOL_LOCAL", "nodes": "" } })),
            Acts("memory policy 0x4 of nodes "),
        ),
        (linux(json!({ "personality": { "domain": "LINUX32" } })), Acts("personality 0x8")),
        (
            linux(json!({
                "namespaces": [{ "type": "mount" }, { "type": "time" }],
                "timeOffsets": { "boottime": { "secs": 1 }, "monotonic": { "secs": -2, "nanosecs": 3 } },
            })),
            Acts("clocks boottime 1 0, monotonic -2 3"),
        ),
        (linux(json!({ "timeOffsets": { "boottime": { "secs": 1 } } })), Refused("linux.timeOffsets")),
        (linux(json!({ "netDevices": { "eth0": {} } })), Refused("linux.netDevices")),
    ]
}

#[test]
fn each_acts_or_is_refused_by_name() {
    let base = Plan::container(&merged(json!({})), &Facts::assumed(&[])).unwrap();
    let lines = |plan: &Plan| plan.steps().iter().map(ToString::to_string).collect::<Vec<_>>();
    for (field, fate) in fields() {
        let mut spec = merged(field.clone());
        if field.get("mounts").is_some() {
            // Not instead of the others.
            let mut all = merged(json!({})).mounts().clone().unwrap();
            all.extend(spec.mounts().clone().unwrap());
            spec.set_mounts(Some(all));
        }
        let plan = Plan::container(&spec, &Facts::assumed(&[]));
        match (fate, plan) {
            (Acts(words), Ok(plan)) => {
                assert!(lines(&plan).iter().any(|line| line.starts_with(words)), "{field}: {plan}");
            }
            (Refused(name), Err(error)) => {
                assert!(error.to_string().split("; ").any(|one| one.starts_with(name)), "{field}: {error}");
            }
            (Nothing, Ok(plan)) => assert_eq!(lines(&plan), lines(&base), "{field}"),
            (_, Ok(_)) => panic!("not refused: {field}"),
            (_, Err(error)) => panic!("{field}: {error}"),
        }
    }
}
