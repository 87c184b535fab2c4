//! Processes that wait before their program, outlive who started them, and bring descriptors along.

use std::io::Write;
use std::os::fd::OwnedFd;

use coracle_host::{Exit, PidFd};
use coracle_runtime::{Bundle, Running};
use coracle_testhost::{Role, run, run_with};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};

use crate::support::{PIPES, bundle, plan, script, soon, watch};

/// A FIFO that never ends, since it is open for both.
fn fifo(host_dir: &std::path::Path) -> (std::path::PathBuf, OwnedFd) {
    let path = host_dir.join("go");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let fd = open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
    (path, fd)
}

#[test]
fn a_held_process_is_ready_but_for_its_program() {
    run(|host| {
        let mut plan = plan(&script("exec cat /proc/self/status"));
        plan.hold();
        let (path, go) = fifo(host.dir());
        let bundle = Bundle { stdio: PIPES(), go: Some(go), ..bundle(host.dir()) };
        let running = plan.start(bundle).unwrap();
        let pid = running.pidfd.pid().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("CapBnd:\t00000000a80425fb"), "{status}");
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
        assert!(program.to_string_lossy().contains("memfd:coracle"), "{program:?}");
        assert!(!running.pidfd.ended_within(Some(std::time::Duration::from_millis(20))).unwrap());
        std::fs::File::options().write(true).open(&path).unwrap().write_all(b"!").unwrap();
        assert!(watch(running).ok().contains("Name:\tcat"));
    });
}

#[test]
fn a_held_process_can_be_killed_and_its_program_may_be_missing() {
    run(|host| {
        let (path, go) = fifo(host.dir());
        let mut killed = plan(&script("exit 0"));
        killed.hold();
        let bundle_with = |go| Bundle { go: Some(go), ..bundle(host.dir()) };
        let running = killed.start(bundle_with(go.try_clone().unwrap())).unwrap();
        running.pidfd.signal(9).unwrap();
        assert_eq!(running.pidfd.reap().unwrap(), Exit::Signal(9));
        let mut missing = plan(&crate::support::command(&["/none"]));
        missing.hold();
        let running = missing.start(bundle_with(go)).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().write_all(b"!").unwrap();
        assert_eq!(running.pidfd.reap().unwrap(), Exit::Code(127));
        let mut alone = plan(&script("exit 0"));
        alone.hold();
        let error = alone.start(bundle(host.dir())).unwrap_err().to_string();
        assert_eq!(error, "a plan that holds its process, and what lets it go, need each other");
    });
}

fn owner(role: &mut Role) {
    let mut plan = plan(&script("read line"));
    plan.outlive();
    let (input, _ours) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let stdio = [coracle_runtime::Stdio::Fd(input), Default::default(), Default::default()];
    let running = plan.start(Bundle { stdio, ..bundle(role.dir()) }).unwrap();
    role.say(&running.pidfd.pid().unwrap().to_string());
    role.hear();
}

#[test]
fn a_plan_can_outlive_its_owner() {
    run_with(&[("owner", owner)], |host| {
        let mut owner = host.play("owner");
        let pid: u32 = owner.hear().unwrap().parse().unwrap();
        let pidfd = PidFd::open(pid).unwrap();
        owner.kill();
        // Its standard input has ended with its owner, and so it ends by itself: it was not killed.
        assert!(pidfd.ended_within(Some(crate::support::SOON)).unwrap());
        assert_eq!(pidfd.reap().unwrap(), Exit::Code(1));
        soon("it is reaped", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    });
}

#[test]
fn further_descriptors_are_passed_on_and_nothing_else() {
    run(|host| {
        let file = |name: &str| {
            let path = host.dir().join(name);
            std::fs::write(&path, name).unwrap();
            OwnedFd::from(std::fs::File::open(path).unwrap())
        };
        for held in [false, true] {
            let mut plan = plan(&script("cat <&3; cat <&4; ls /proc/self/fd | tr '\\n' ' '"));
            let extra = vec![file("three "), file("four ")];
            let mut go = None;
            if held {
                plan.hold();
                let (path, fd) = fifo(host.dir());
                std::fs::File::options().write(true).open(&path).unwrap().write_all(b"!").unwrap();
                std::fs::remove_file(path).unwrap();
                go = Some(fd);
            }
            let running: Running =
                plan.start(Bundle { stdio: PIPES(), extra, go, ..bundle(host.dir()) }).unwrap();
            // The last is of `ls` itself.
            assert_eq!(watch(running).ok(), "three four 0 1 2 3 4 5 ");
        }
    });
}
