//! Which devices can be opened: exceptions in version 1, a program in version 2.

use coracle_runtime::cgroup::{Cgroup, Hierarchies, docker_devices};
use coracle_testhost::run;
use oci_spec::runtime::{LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxResources};

use super::{kinds, make, spawn};

/// Whether a process in the group can read this.
fn readable(group: &Cgroup, device: &str) -> bool {
    let mut child = spawn(group, &format!("exec 9<{device}"));
    child.wait().unwrap().success()
}

fn docker() -> LinuxResources {
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(docker_devices()));
    resources
}

fn update(group: &mut Cgroup, host: &Hierarchies, resources: &LinuxResources) {
    group.update(resources, host).unwrap();
}

#[test]
fn only_what_is_allowed_opens() {
    run(|_| {
        kinds(|host| {
            // In version 1 the group comes into the hierarchy of devices by the first update.
            let mut group = make(host, "devices", "{}");
            assert!(readable(&group, "/dev/kmsg"));
            update(&mut group, host, &docker());
            assert!(readable(&group, "/dev/zero"));
            assert!(!readable(&group, "/dev/kmsg"));
            let mut more = docker_devices();
            let kmsg = LinuxDeviceCgroupBuilder::default().allow(true).typ(LinuxDeviceType::C);
            more.push(kmsg.major(1).minor(11).access("r").build().unwrap());
            let mut resources = docker();
            resources.set_devices(Some(more));
            update(&mut group, host, &resources);
            assert!(readable(&group, "/dev/kmsg"));
            assert!(readable(&group, "/dev/zero"));
            update(&mut group, host, &docker());
            assert!(!readable(&group, "/dev/kmsg"));
            group.remove().unwrap();
        });
    });
}

#[test]
fn from_the_start() {
    run(|_| {
        kinds(|host| {
            let json = serde_json::to_string(&docker()).unwrap();
            let group = make(host, "devices", &json);
            assert!(readable(&group, "/dev/zero"));
            assert!(!readable(&group, "/dev/kmsg"));
            group.remove().unwrap();
        });
    });
}
