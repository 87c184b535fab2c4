//! From mkdir to rmdir.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use coracle_host::Kind;
use coracle_runtime::cgroup::{Cgroup, Extent, Hierarchies, Place, Plan, Version};
use coracle_testhost::{Role, run, run_with};
use oci_spec::runtime::LinuxResources;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{end, heard, kinds, machine, make, spawn};

#[test]
fn a_process_is_in_and_nothing_stays() {
    run(|_| {
        kinds(|host| {
            let group = make(host, "in", "{}");
            let child = spawn(&group, "echo up; read x </dev/zero");
            assert_eq!(heard(&child), "up");
            assert_eq!(group.processes().unwrap(), [child.id()]);
            let groups = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
            for (hierarchy, dir) in group.directories() {
                let path = format!("/{}", dir.strip_prefix(hierarchy.point()).unwrap().display());
                let entered = groups.lines().any(|line| {
                    let names = line.split(':').nth(1).unwrap();
                    line.ends_with(&path)
                        && hierarchy
                            .controllers()
                            .first()
                            .is_none_or(|name| names.is_empty() || names.contains(&**name))
                });
                assert!(entered, "{path}: {groups}");
            }
            end(group, child);
        });
    });
}

#[test]
fn entering_is_each_threads_own_in_version_1() {
    run(|host_| {
        let all = Hierarchies::of_this_host().unwrap();
        if all.iter().all(|hierarchy| hierarchy.version() == Version::V2) {
            return coracle_testhost::skip(host_.test(), "no cgroup v1 here");
        }
        let group = make(&all, "thread", "{}");
        let entrance = group.entrance().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for door in entrance.joins() {
                    assert_eq!(rustix::io::write(door, b"0").unwrap(), 1);
                }
                let ours = fs::read_to_string("/proc/thread-self/cgroup").unwrap();
                assert!(ours.contains(":/coracle-thread\n"), "{ours}");
            });
        });
        let mine = fs::read_to_string("/proc/thread-self/cgroup").unwrap();
        assert!(!mine.contains("coracle"), "{mine}");
        drop(entrance);
        group.remove().unwrap();
    });
}

#[test]
fn a_name_is_taken_once() {
    run(|_| {
        kinds(|host| {
            let place = Place::new("taken").unwrap();
            let plan = Plan::new(&place, &LinuxResources::default(), host, Extent::Standard).unwrap();
            let first = plan.make().unwrap();
            assert_eq!(plan.make().unwrap_err().kind(), Kind::AlreadyExists);
            drop(plan.open().unwrap()); // which doesn't remove what was there
            assert!(Cgroup::find(&place, host).is_some());
            drop(first);
            assert!(Cgroup::find(&place, host).is_none());
            let left = plan.open().unwrap().leave();
            drop(left);
            Cgroup::find(&place, host).unwrap().remove().unwrap();
        });
    });
}

#[test]
fn what_is_in_use_is_not_removed() {
    run(|_| {
        kinds(|host| {
            let group = make(host, "used", "{}");
            let child = spawn(&group, "echo up; read x </dev/zero");
            heard(&child);
            let again = Cgroup::find(group.place(), host).unwrap();
            let refused = again.remove_within(Duration::from_millis(20)).unwrap_err();
            assert_eq!(refused.kind(), Kind::InUse);
            assert!(refused.to_string().contains(&format!("holds processes [{}]", child.id())), "{refused}");
            end(group, child);
        });
    });
}

#[test]
fn groups_below_go_first() {
    run(|_| {
        kinds(|host| {
            let group = make(host, "nest", "{}");
            for (_, dir) in group.directories() {
                fs::create_dir_all(dir.join("a/b/c")).unwrap();
                fs::create_dir_all(dir.join("d")).unwrap();
            }
            group.remove().unwrap();
        });
    });
}

#[test]
fn a_parent_that_others_chose_stays() {
    run(|_| {
        kinds(|host| {
            let place = Place::below("/pods/7", "db").unwrap();
            let plan = Plan::new(&place, &LinuxResources::default(), host, Extent::Standard).unwrap();
            let group = plan.make().unwrap();
            let dirs: Vec<_> = group.directories().map(|(_, dir)| dir.to_owned()).collect();
            group.remove().unwrap();
            for dir in dirs {
                let pod = dir.parent().unwrap();
                fs::remove_dir(pod).unwrap();
                fs::remove_dir(pod.parent().unwrap()).unwrap();
            }
        });
    });
}

/// Makes and removes a group over and over: the parent comes and goes under everybody's feet.
fn churn(role: &mut Role) {
    let host = Hierarchies::of_this_host().unwrap();
    role.say("ready");
    role.hear();
    for round in 0..100 {
        make(&host, &format!("churn-{}-{round}", std::process::id()), "{}").remove().unwrap();
    }
    role.say("done");
}

#[test]
fn many_make_and_remove_at_once() {
    run_with(&[("churn", churn)], |host| {
        let (_, _room) = machine();
        let mut players: Vec<_> = (0..4).map(|_| host.play("churn")).collect();
        players.iter_mut().for_each(|player| assert_eq!(player.hear().as_deref(), Some("ready")));
        players.iter_mut().for_each(|player| player.say("go"));
        players.iter_mut().for_each(|player| assert_eq!(player.hear().as_deref(), Some("done")));
    });
}

/// Makes a group with a process in it, and waits to be killed.
#[expect(clippy::zombie_processes, reason = "it is killed before")]
fn owner(role: &mut Role) {
    let group = make(&Hierarchies::of_this_host().unwrap(), "orphan", "{}");
    let child = spawn(&group, "echo up; read x </dev/zero");
    heard(&child);
    role.say(&child.id().to_string());
    role.hear();
}

#[test]
fn a_dead_owners_group_is_found_and_removed() {
    run_with(&[("owner", owner)], |host| {
        let (hierarchies, _room) = machine();
        let mut owner = host.play("owner");
        let pid: u32 = owner.hear().unwrap().parse().unwrap();
        owner.kill();
        let place = Place::new("orphan").unwrap();
        let group = Cgroup::find(&place, &hierarchies).unwrap();
        assert_eq!(group.processes().unwrap(), [pid]);
        group.kill().unwrap();
        group.remove().unwrap();
    });
}

#[test]
fn a_half_made_group_is_found_and_removed() {
    run(|_| {
        kinds(|host| {
            let place = Place::new("half").unwrap();
            let plan = Plan::new(&place, &LinuxResources::default(), host, Extent::Standard).unwrap();
            let whole = plan.make().unwrap();
            let dirs: Vec<_> = whole.directories().map(|(_, dir)| dir.to_owned()).collect();
            whole.remove().unwrap();
            for dir in &dirs {
                // Who makes one is killed when it is in this hierarchy, and in no other.
                fs::create_dir_all(dir).unwrap();
                assert_eq!(plan.make().unwrap_err().kind(), Kind::AlreadyExists);
                let found = Cgroup::find(&place, host).unwrap();
                assert_eq!(found.directories().map(|(_, dir)| dir).collect::<Vec<_>>(), [dir]);
                found.remove().unwrap();
                plan.make().unwrap().remove().unwrap();
            }
        });
    });
}

#[test]
fn what_is_frozen_stands_still() {
    run(|_| {
        kinds(|host| {
            let group = make(host, "cold", "{}");
            let mut child = spawn(&group, "while echo x; do :; done");
            heard(&child);
            group.freeze().unwrap();
            assert!(group.is_frozen().unwrap());
            let stdout = child.stdout.take().unwrap();
            let says = |timeout: Duration| {
                let timeout = Timespec::try_from(timeout).unwrap();
                let mut fds = [PollFd::new(&stdout, PollFlags::IN)];
                poll(&mut fds, Some(&timeout)).unwrap() > 0
            };
            let mut buffer = vec![0; 1 << 20];
            while says(Duration::ZERO) {
                rustix::io::read(stdout.as_fd(), &mut buffer).unwrap();
            }
            assert!(!says(Duration::from_millis(50)));
            group.thaw().unwrap();
            assert!(!group.is_frozen().unwrap());
            assert!(says(Duration::from_secs(10)));
            // And a frozen one can be killed.
            group.freeze().unwrap();
            group.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(9), "fd {}", stdout.as_raw_fd());
            group.remove().unwrap();
        });
    });
}

#[test]
fn nobody_escapes_a_kill() {
    run(|_| {
        kinds(|host| {
            let group = make(host, "doomed", "{}");
            for (_, dir) in group.directories() {
                fs::create_dir(dir.join("below")).unwrap();
            }
            // Processes that breed, in a session of their own, ignoring what can be ignored.
            let breed = "trap '' TERM HUP INT; echo up; while :; do (sleep 100 & exec sleep 100) & wait -n 2>/dev/null; read x </dev/null; \
                         i=$((i+1)); [ $i -lt 200 ] || exec sleep 100; done";
            let mut child = spawn(&group, breed);
            heard(&child);
            group.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(9));
            group.remove().unwrap(); // which says who is left
        });
    });
}
