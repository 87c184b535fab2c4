//! Groups below one that somebody else has given away: to a program with a namespace of its own, and to another user
//! (Documentation/admin-guide/cgroup-v2.rst, "Delegation").

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use coracle_host::Kind;
use coracle_runtime::cgroup::{Extent, Hierarchies, Hierarchy, Place, Plan, Version};
use coracle_testhost::{Role, run_with};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::thread::{UnshareFlags, set_thread_res_uid, unshare_unsafe};

use super::{end, heard, machine, resources, spawn};

/// The one that is given away.
const GIVEN: &str = "given";
/// The controllers that are, of version 2.
const DELEGATED: [&str; 2] = ["memory", "pids"];
/// One that is not, on any of these machines.
const OTHER: &str = r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}"#;
const USER: u32 = 1000;

/// Without those of version 1 that have a name and nothing to limit.
fn with_controllers(all: &Hierarchies) -> Hierarchies {
    let of_use =
        |hierarchy: &&Hierarchy| hierarchy.version() == Version::V2 || !hierarchy.controllers().is_empty();
    all.iter().filter(of_use).cloned().collect()
}

/// Makes the group in every hierarchy.
fn give(all: &Hierarchies) -> Vec<PathBuf> {
    let made = all.iter().map(|hierarchy| {
        let dir = hierarchy.point().join(GIVEN);
        fs::create_dir(&dir).unwrap();
        for name in hierarchy.controllers().iter().filter(|_| hierarchy.version() == Version::V2) {
            if DELEGATED.contains(&name.as_str()) {
                fs::write(hierarchy.point().join("cgroup.subtree_control"), format!("+{name}")).unwrap();
            }
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // Of version 1, whose new ones have none.
            if let (Ok(value), true) = (fs::read(hierarchy.point().join(file)), dir.join(file).exists()) {
                fs::write(dir.join(file), value).unwrap();
            }
        }
        dir
    });
    made.collect()
}

/// Takes it away, with what the delegate has made for itself.
fn take_back(given: Vec<PathBuf>) {
    for dir in given {
        for below in [dir.join("leaf"), dir] {
            crate::support::soon("nobody is in it", || fs::remove_dir(&below).is_ok() || !below.exists());
        }
    }
}

fn enter(dir: &Path) {
    fs::write(dir.join("cgroup.procs"), "0").unwrap();
}

/// It sits in the group, which is the root of all that it sees.
fn program(role: &mut Role) {
    let outside = with_controllers(&Hierarchies::of_this_host().unwrap());
    outside.iter().for_each(|hierarchy| enter(&hierarchy.point().join(GIVEN)));
    // SAFETY: no descriptor changes its meaning, and what this thread looks up from here on is of its own mounts.
    unsafe { unshare_unsafe(UnshareFlags::NEWCGROUP | UnshareFlags::NEWNS) }.unwrap();
    for hierarchy in outside.iter() {
        let (fstype, names) = match hierarchy.version() {
            Version::V1 => ("cgroup", hierarchy.controllers().join(",")),
            Version::V2 => ("cgroup2", String::new()),
        };
        let names = std::ffi::CString::new(names).unwrap();
        unmount(hierarchy.point(), UnmountFlags::DETACH).unwrap();
        mount("cgroup", hierarchy.point(), fstype, MountFlags::empty(), names.as_c_str()).unwrap();
    }
    let host = with_controllers(&Hierarchies::of_this_host().unwrap());
    assert!(host.iter().all(|hierarchy| hierarchy.own() == Some(hierarchy.point())), "{host:?}");
    let plan = |json: &str| Plan::new(&Place::new("x").unwrap(), &resources(json), &host, Extent::Asked);
    let unified = host.iter().find(|hierarchy| hierarchy.version() == Version::V2);
    let limit = plan(r#"{"pids": {"limit": 9}, "memory": {"limit": 99999999}}"#).unwrap();
    if let Some(unified) = unified {
        assert!(unified.controllers().iter().all(|name| DELEGATED.contains(&name.as_str())), "{unified:?}");
        if !unified.controllers().is_empty() {
            // Who gives controllers on holds no processes; this one does.
            let error = limit.make().unwrap_err();
            assert_eq!(error.kind(), Kind::InUse);
            assert!(error.to_string().contains("move them to a group of their own"), "{error}");
        }
        let error = plan(OTHER).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        let text = "no control group controller `hugetlb`";
        assert!(
            error.to_string().contains(text) && error.to_string().contains("whoever delegates"),
            "{error}"
        );
        fs::create_dir(unified.point().join("leaf")).unwrap();
        enter(&unified.point().join("leaf"));
    }
    let group = limit.make().unwrap();
    let child = spawn(&group, "echo up; read x </dev/zero");
    assert_eq!(heard(&child), "up");
    role.say("made");
    role.hear();
    end(group, child);
    role.say("removed");
    role.hear();
}

#[test]
fn a_program_makes_groups_below_its_own() {
    run_with(&[("program", program)], |host| {
        let (all, _room) = machine();
        let given = give(&with_controllers(&all));
        let mut program = host.play("program");
        assert_eq!(program.hear().as_deref(), Some("made"));
        let pids = all.of("pids").unwrap().point().join(GIVEN).join("coracle-x");
        assert_eq!(fs::read_to_string(pids.join("pids.max")).unwrap(), "9\n");
        program.say("seen");
        assert_eq!(program.hear().as_deref(), Some("removed"));
        assert!(!pids.exists());
        program.kill();
        take_back(given);
    });
}

/// It is not root, and has a part of one hierarchy: that with the controller of processes.
fn owner(role: &mut Role) {
    let host = Hierarchies::of_this_host().unwrap();
    let pids = host.of("pids").unwrap();
    enter(&pids.point().join(GIVEN).join("leaf"));
    let user = rustix::process::Uid::from_raw(USER);
    set_thread_res_uid(user, user, user).unwrap();
    let place = |name: &str| Place::below(format!("/{GIVEN}"), name).unwrap();
    let plan = |name: &str, json: &str| Plan::new(&place(name), &resources(json), &host, Extent::Asked);
    let group = plan("x", r#"{"pids": {"limit": 3}}"#).unwrap().make().unwrap();
    let mut child = spawn(&group, "sleep 1000 & sleep 1000 & sleep 1000 & wait");
    assert!(!child.wait().unwrap().success(), "it has no third one");
    assert_eq!(group.processes().unwrap().len(), 2);
    assert_eq!(group.stats().unwrap().pids.unwrap().limit, Some(3));
    end(group, child);
    // What is not delegated is somebody else's to give.
    let error = plan("y", OTHER).unwrap().make().unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    assert!(error.to_string().contains("`hugetlb` is not delegated"), "{error}");
    let above =
        Plan::new(&Place::new("x").unwrap(), &resources(r#"{"pids": {"limit": 3}}"#), &host, Extent::Asked);
    assert_eq!(above.unwrap().make().unwrap_err().kind(), Kind::Denied);
    role.say("done");
    role.hear();
}

#[test]
fn another_user_makes_groups_in_what_it_was_given() {
    run_with(&[("owner", owner)], |host| {
        let (all, _room) = machine();
        let given = give(&with_controllers(&all));
        let dir = all.of("pids").unwrap().point().join(GIVEN);
        fs::create_dir(dir.join("leaf")).unwrap();
        for at in [dir.clone(), dir.join("leaf")] {
            chown(&at, Some(USER), Some(USER)).unwrap();
            for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "tasks"] {
                if at.join(file).exists() {
                    chown(at.join(file), Some(USER), Some(USER)).unwrap();
                }
            }
        }
        let mut owner = host.play("owner");
        assert_eq!(owner.hear().as_deref(), Some("done"));
        owner.kill();
        take_back(given);
    });
}

/// What a container sees of the groups: its own, or with the host's namespace what the host sees.
#[test]
fn what_is_shown() {
    coracle_testhost::run(|_| {
        super::kinds(|host| {
            let group = super::make(host, "shown", "{}");
            let sees = |mounts: &[(PathBuf, coracle_host::Mount)], name: &str| {
                mounts.iter().any(|(_, mount)| {
                    rustix::fs::accessat(
                        mount,
                        name,
                        rustix::fs::Access::EXISTS,
                        rustix::fs::AtFlags::empty(),
                    )
                    .is_ok()
                })
            };
            let (own, whole) = (group.view(true).unwrap(), group.view_of_host(true).unwrap());
            let alone = host.iter().all(|hierarchy| hierarchy.version() == Version::V2);
            assert!(sees(&own, "cgroup.procs") && !sees(&own, "coracle-shown"));
            assert_eq!(sees(&whole, "coracle-shown"), alone);
            drop((own, whole));
            group.remove().unwrap();
        });
    });
}
