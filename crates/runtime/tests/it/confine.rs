//! AppArmor, where the host has it.

use coracle_runtime::{Facts, Plan};
use coracle_testhost::{run, skip};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::support::{end, idle, plan, process, script, start, watch};

/// What confines a process, as its supervisor sees it.
fn label(pidfd: &coracle_host::PidFd) -> String {
    let path = format!("/proc/{}/attr/apparmor/current", pidfd.pid().unwrap());
    std::fs::read_to_string(path).unwrap().trim_end().to_owned()
}

#[test]
fn programs_begin_under_their_profile() {
    run(|host| {
        let with = |profile: &str| {
            let mut spec = script("echo up; read line; exit 0");
            process(&mut spec).set_apparmor_profile(Some(profile.into()));
            spec
        };
        let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
        if !enabled.starts_with(b"Y") {
            let refused = Plan::container(&with("some"), &Facts::of_this_host()).unwrap_err();
            assert_eq!(refused.kind(), coracle_host::Kind::Unsupported);
            assert_eq!(refused.to_string(), "process.apparmorProfile: this host has no AppArmor");
            // Nothing confines anybody here, which is what this asks for.
            plan(&with("unconfined"));
            return skip(host.test(), "this host has no AppArmor");
        }
        // A namespace has a profile of its own, that needs no compiler of policies.
        let name = format!("coracle-{}", std::process::id());
        let security = host.dir().join("security");
        std::fs::create_dir(&security).unwrap();
        mount("securityfs", &security, "securityfs", MountFlags::empty(), c"").unwrap();
        let namespace = security.join("apparmor/policy/namespaces").join(&name);
        std::fs::create_dir(&namespace).unwrap();
        let profile = format!(":{name}:unconfined");
        let confined = |label: &str| label.contains(&name);
        for init in [false, true] {
            let mut plan = plan(&with(&profile));
            if init {
                plan.init();
            }
            let bundle = coracle_runtime::Bundle {
                stdio: [
                    coracle_runtime::Stdio::Pipe,
                    coracle_runtime::Stdio::Pipe,
                    coracle_runtime::Stdio::Null,
                ],
                ..crate::support::bundle(host.dir())
            };
            let running = plan.start(bundle).unwrap();
            assert_eq!(crate::support::line(running.stdout.as_ref().unwrap()), "up");
            if !init {
                assert!(confined(&label(&running.pidfd)), "{}", label(&running.pidfd));
            }
            // A further process has the one that it is given, and no other.
            for (profile, is) in [(Some(profile.as_str()), true), (None, false)] {
                let mut spec = script("echo up; read line");
                process(&mut spec).set_apparmor_profile(profile.map(str::to_owned));
                let exec = Plan::exec(spec.process().as_ref().unwrap(), &Facts::of_this_host()).unwrap();
                let stdio = [
                    coracle_runtime::Stdio::Pipe,
                    coracle_runtime::Stdio::Pipe,
                    coracle_runtime::Stdio::Null,
                ];
                let further = exec.start_in(&running.pidfd, stdio).unwrap();
                assert_eq!(crate::support::line(further.stdout.as_ref().unwrap()), "up");
                assert_eq!(confined(&label(&further.pidfd)), is);
                watch(further);
            }
            end(running);
        }
        // Without AppArmor's word in it nothing of the host's is open in the container.
        let mut spec = script("ls /proc/self/fd | wc -l");
        let before = crate::support::run(host.dir(), &spec).ok();
        process(&mut spec).set_apparmor_profile(Some(profile.clone()));
        assert_eq!(crate::support::run(host.dir(), &spec).ok(), before);
        let error = start(host.dir(), &with("no-such-profile")).unwrap_err().to_string();
        assert!(error.contains("AppArmor profile no-such-profile: No such file or directory"), "{error}");
        let running = idle(host.dir(), |_| {});
        assert_eq!(label(&running.pidfd), "unconfined");
        end(running);
        std::fs::remove_dir(&namespace).unwrap();
        unmount(&security, UnmountFlags::empty()).unwrap();
    });
}
