//! SELinux, where the host has it: the emulated machine does, with the policy of `.ci/selinux.cil`.

use std::path::Path;

use coracle_host::{Kind, PidFd};
use coracle_runtime::{Bundle, Facts, Plan, Stdio};
use coracle_testhost::{Host, run, skip};
use oci_spec::runtime::Spec;
use rustix::fs::XattrFlags;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::support::{bundle, end, idle, line, overlay, plan, process, script, start, watch};

/// Of the machine's policy: it may not read what is [`SECRET`], and any other may begin in it.
const CONTAINER: &str = "system_u:system_r:container_t:s0:c1,c2";
const OTHER: &str = "system_u:system_r:other_t:s0:c3";
const FILES: &str = "system_u:object_r:container_file_t:s0:c1,c2";
const SECRET: &str = "system_u:object_r:secret_t:s0";

/// What a process is, as its supervisor sees it.
fn label(pidfd: &PidFd) -> String {
    let path = format!("/proc/{}/attr/current", pidfd.pid().unwrap());
    std::fs::read_to_string(path).unwrap().trim_end_matches(['\0', '\n']).to_owned()
}

fn label_of(path: &Path) -> String {
    let mut value = vec![0; 256];
    let length = rustix::fs::getxattr(path, "security.selinux", &mut value).unwrap();
    value.truncate(length);
    String::from_utf8(value).unwrap().trim_end_matches('\0').to_owned()
}

fn labelled(spec: &mut Spec, label: &str) {
    process(spec).set_selinux_label(Some(label.into()));
}

/// Runs a test where there is SELinux; a host without it refuses labels by name, and takes what asks for none.
fn where_it_is(host: &Host, test: impl FnOnce()) {
    let place = "/sys/fs/selinux";
    if !Path::new(place).exists() {
        return nowhere(host);
    }
    // This host's own sysfs came without what is mounted in it.
    mount("selinuxfs", place, "selinuxfs", MountFlags::empty(), c"").unwrap();
    test();
    unmount(place, UnmountFlags::empty()).unwrap();
}

fn nowhere(host: &Host) {
    let mut spec = script("true");
    plan(&spec).start(bundle(host.dir())).map(watch).unwrap();
    labelled(&mut spec, "");
    plan(&spec);
    labelled(&mut spec, CONTAINER);
    let refused = Plan::container(&spec, &Facts::of_this_host()).unwrap_err();
    assert_eq!(refused.to_string(), "process.selinuxLabel: this host has no SELinux");
    assert_eq!(refused.kind(), Kind::Unsupported);
    skip(host.test(), "this host has no SELinux");
}

#[test]
fn programs_begin_in_their_context() {
    run(|host| {
        where_it_is(host, || {
            let running = idle(host.dir(), |spec| labelled(spec, CONTAINER));
            assert_eq!(label(&running.pidfd), CONTAINER);
            // A further process has the one that it is given, and no other.
            for (asked, is) in [(Some(OTHER), OTHER), (None, "system_u:system_r:kernel_t:s0")] {
                let mut spec = script("echo up; read line");
                process(&mut spec).set_selinux_label(asked.map(str::to_owned));
                let exec = Plan::exec(spec.process().as_ref().unwrap(), &Facts::of_this_host()).unwrap();
                let stdio = [Stdio::Pipe, Stdio::Pipe, Stdio::Null];
                let further = exec.start_in(&running.pidfd, stdio).unwrap();
                assert_eq!(line(further.stdout.as_ref().unwrap()), "up");
                assert_eq!(label(&further.pidfd), is);
                watch(further);
            }
            end(running);
            // Behind an init, too, and as another user.
            let mut spec = script("cat /proc/self/attr/current");
            labelled(&mut spec, CONTAINER);
            crate::support::user(&mut spec, 7, 7, &[]);
            let mut with_init = plan(&spec);
            with_init.init();
            let bundle = Bundle { stdio: crate::support::PIPES(), ..bundle(host.dir()) };
            let said = watch(with_init.start(bundle).unwrap()).ok();
            assert_eq!(said.trim_end_matches(['\0', '\n']), CONTAINER);
            // Without SELinux's word in it nothing of the host's is open in the container.
            let mut spec = script("ls /proc/self/fd | wc -l");
            let before = crate::support::run(host.dir(), &spec).ok();
            labelled(&mut spec, CONTAINER);
            assert_eq!(crate::support::run(host.dir(), &spec).ok(), before);
            labelled(&mut spec, "system_u:system_r:no_such_t:s0");
            let error = start(host.dir(), &spec).unwrap_err().to_string();
            assert!(
                error.contains("SELinux label") && error.contains("no_such_t:s0: Invalid argument"),
                "{error}"
            );
        })
    });
}

/// What the policy keeps from a container it keeps from it, as root with all that docker gives.
#[test]
fn the_policy_holds_in_a_container() {
    run(|host| {
        where_it_is(host, || {
            for (label, says) in [(CONTAINER, "cat: /opt/secret: Permission denied\n"), (OTHER, "secret\n")] {
                let (root, upper) = overlay(host.dir());
                std::fs::create_dir(upper.join("opt")).unwrap();
                let secret = upper.join("opt/secret");
                std::fs::write(&secret, "secret\n").unwrap();
                rustix::fs::setxattr(&secret, "security.selinux", SECRET.as_bytes(), XattrFlags::empty())
                    .unwrap();
                let mut spec = script("cat /opt/secret 2>&1; exit 0");
                labelled(&mut spec, label);
                let bundle = Bundle { stdio: crate::support::PIPES(), ..Bundle::new(root) };
                assert_eq!(watch(plan(&spec).start(bundle).unwrap()).ok(), says);
            }
        })
    });
}

/// config-linux.md, "Mount Label": what the container has of its own, and nothing that is the host's.
#[test]
fn mounts_have_their_label() {
    run(|host| {
        where_it_is(host, || {
            let shared = host.dir().join("shared");
            std::fs::create_dir(&shared).unwrap();
            let before = label_of(&shared);
            let running = idle(host.dir(), |spec| {
                spec.linux_mut().as_mut().unwrap().set_mount_label(Some(FILES.into()));
                let mut mounts = spec.mounts().clone().unwrap();
                let more = serde_json::json!([
                    { "destination": "/opt/t", "type": "tmpfs", "options": ["tmpcopyup"] },
                    { "destination": "/opt/b", "source": shared, "options": ["bind"] },
                    { "destination": "/opt/own", "type": "tmpfs", "options": [format!("context={SECRET}")] },
                ]);
                mounts.extend(serde_json::from_value::<Vec<_>>(more).unwrap());
                spec.set_mounts(Some(mounts));
                labelled(spec, CONTAINER);
            });
            let root = format!("/proc/{}/root", running.pidfd.pid().unwrap());
            let at = |path: &str| label_of(Path::new(&(root.clone() + path)));
            for path in
                ["/dev", "/dev/null", "/dev/pts", "/dev/pts/ptmx", "/dev/shm", "/dev/mqueue", "/opt/t"]
            {
                assert_eq!(at(path), FILES, "{path}");
            }
            assert_eq!((at("/opt/b"), at("/opt/own")), (before.clone(), SECRET.to_owned()));
            for path in ["/proc", "/sys", "/"] {
                assert_ne!(at(path), FILES, "{path}");
            }
            assert_eq!(label_of(&shared), before);
            end(running);
        })
    });
}
