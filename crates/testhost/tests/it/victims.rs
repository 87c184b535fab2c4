//! Tests that fail on purpose, each by leaving one thing behind. Run by `each_leak_is_found`.

use std::process::Command;

use crate::kernel::{make_table, make_veth};
use coracle_testhost::run;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_process() {
    run(|_| drop(Command::new("sleep").arg("1000").spawn().unwrap()));
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_an_orphan() {
    run(|_| {
        let status = Command::new("sh").args(["-c", "sleep 1000 & exit 0"]).status().unwrap();
        assert!(status.success());
    });
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_mount() {
    run(|host| {
        let here = host.dir().join("here");
        std::fs::create_dir(&here).unwrap();
        mount("tmpfs", &here, "tmpfs", MountFlags::empty(), None).unwrap();
    });
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_mount_less() {
    run(|host| unmount(host.dir(), UnmountFlags::DETACH).unwrap());
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_link() {
    run(|_| make_veth("vt0", "vt1"));
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_table() {
    run(|_| make_table("tt0"));
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_group() {
    run(|_| {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let fresh = mounts.lines().find(|line| line.contains(" / /sys/fs/cgroup/pids "));
        let point = fresh.map_or("/sys/fs/cgroup", |_| "/sys/fs/cgroup/pids");
        std::fs::create_dir(std::path::Path::new(point).join("cg0")).expect("a control group");
    });
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_descriptor() {
    run(|_| std::mem::forget(std::fs::File::open("/proc/1/status").unwrap()));
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_lock() {
    run(|host| {
        let file = std::fs::File::create(host.dir().join("f")).unwrap();
        let whole = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        use std::os::fd::AsRawFd;
        // SAFETY: the file is open, and `whole` is a live `flock`, as F_OFD_SETLK takes.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const whole) };
        assert_eq!(result, 0);
        std::mem::forget(file);
    });
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_thread() {
    run(|_| {
        std::thread::spawn(std::thread::park);
    });
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_directory_changed() {
    run(|_| std::env::set_current_dir("/proc").unwrap());
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_handler() {
    extern "C" fn nothing(_signal: libc::c_int) {}
    run(|_| {
        // SAFETY: the handler does nothing, which is always allowed.
        unsafe { libc::signal(libc::SIGUSR1, nothing as *const () as libc::sighandler_t) };
    });
}

#[test]
#[ignore = "fails on purpose"]
fn panics() {
    run(|_| panic!("the words of the panic"));
}

#[test]
#[ignore = "fails on purpose"]
fn aborts() {
    run(|_| std::process::abort());
}

#[test]
#[ignore = "fails on purpose"]
fn hangs() {
    run(|_| {
        loop {
            std::thread::park();
        }
    });
}

fn elsewhere() {
    run(|_| {});
}

#[test]
#[ignore = "fails on purpose"]
fn is_not_called_by_a_test() {
    elsewhere();
}

#[test]
#[ignore = "run by skips_are_counted"]
fn skips() {
    coracle_testhost::skip("victims::skips", "for a reason");
}
