//! Control groups on a real kernel: on what the machine has, and where that is of both versions also on version 2 alone.

mod delegated;
mod devices;
mod figures;
mod life;
mod limits;
mod oracle;
mod settings;

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use coracle_runtime::cgroup::{Cgroup, Extent, Hierarchies, Place, Plan, Version};
use coracle_testhost::Room;
use oci_spec::runtime::LinuxResources;

/// All of this machine. The test's own process makes room where version 2 wants it.
pub fn machine() -> (Hierarchies, Option<Room>) {
    let all = Hierarchies::of_this_host().unwrap();
    let room = unified(&all).iter().next().map(|hierarchy| Room::below(hierarchy.point()));
    (all, room)
}

fn unified(all: &Hierarchies) -> Hierarchies {
    all.iter().filter(|hierarchy| hierarchy.version() == Version::V2).cloned().collect()
}

/// What this machine has, and what it has of version 2 by itself.
fn kinds(test: impl Fn(&Hierarchies)) {
    let (all, _room) = machine();
    test(&all);
    let unified = unified(&all);
    if unified.iter().count() > 0 && unified != all {
        test(&unified);
    }
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

#[track_caller]
fn make(host: &Hierarchies, name: &str, json: &str) -> Cgroup {
    let place = Place::new(name).unwrap();
    Plan::new(&place, &resources(json), host, Extent::Standard).unwrap().make().unwrap()
}

/// A shell script that enters the group before it begins.
fn spawn(group: &Cgroup, script: &str) -> Child {
    let entrance = group.entrance().unwrap();
    let doors = entrance.joins().chain(entrance.late_join());
    let doors: Vec<OwnedFd> = doors.map(|door| door.try_clone_to_owned().unwrap()).collect();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let enter = move || {
        let mut doors = doors.iter();
        doors.try_for_each(|door| rustix::io::write(door, b"0").map(drop)).map_err(std::io::Error::from)
    };
    // SAFETY: between fork and exec there are only write(2)s to descriptors that the closure owns.
    unsafe { command.pre_exec(enter) };
    command.spawn().unwrap()
}

/// One line of what it says.
fn heard(child: &Child) -> String {
    let stdout = rustix::io::fcntl_dupfd_cloexec(child.stdout.as_ref().unwrap(), 3).unwrap();
    crate::support::line(&stdout)
}

/// Kills what is in the group, reaps the child, and removes the group.
fn end(group: Cgroup, mut child: Child) {
    group.kill().unwrap();
    child.wait().unwrap();
    group.remove().unwrap();
}

fn dir(group: &Cgroup, controller: &str) -> Option<PathBuf> {
    let all = group.directories();
    let mut of = all.filter(|(hierarchy, _)| hierarchy.controllers().iter().any(|name| name == controller));
    of.next().map(|(_, dir)| dir.to_owned())
}
