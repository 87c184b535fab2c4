//! What a start leaves of the embedding program, and what it takes of it into a container.

use std::fs::{self, File};
use std::os::fd::AsRawFd;

use coracle_host::{Exit, Mount};
use coracle_runtime::{Bundle, Plan};
use coracle_testhost::run;

use crate::support::{
    self, PIPES, bundle, command, fds, field, line, mountinfo, plan, process, script, start, user, watch,
};

/// What was there before: whoever runs the tests may ignore signals, too.
fn ignore(signal: i32, how: libc::sighandler_t) -> libc::sighandler_t {
    // SAFETY: SIG_IGN and SIG_DFL run no code, and no other handler is set here.
    unsafe { libc::signal(signal, how) }
}

/// rt_sigprocmask(2) with the kernel's own set: all 64 signals.
fn mask(how: i32, set: u64) -> u64 {
    let mut old = 0u64;
    // SAFETY: both sets are live, and of the size that is given.
    let result =
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const set, &raw mut old, 8usize) };
    assert_eq!(result, 0);
    old
}

#[test]
fn signals_start_afresh() {
    run(|host| {
        let ignored = [libc::SIGPIPE, libc::SIGHUP, libc::SIGUSR1, libc::SIGRTMIN() + 3];
        let before = ignored.map(|signal| ignore(signal, libc::SIG_IGN));
        let old = mask(libc::SIG_BLOCK, !0);
        let status = support::run(host.dir(), &command(&["/bin/cat", "/proc/self/status"])).ok();
        mask(libc::SIG_SETMASK, old);
        for (signal, before) in ignored.into_iter().zip(before) {
            ignore(signal, before);
        }
        for set in ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"] {
            assert_eq!(field(&status, set), "0000000000000000", "{set}");
        }
    });
}

#[test]
fn descriptors_stay_outside() {
    run(|host| {
        // Neither a file that the program forgot to mark, nor a directory of the host.
        let path = host.dir().join("secret");
        fs::write(&path, "secret").unwrap();
        let file = File::open(&path).unwrap();
        let dir = File::open(host.dir()).unwrap();
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
        rustix::io::fcntl_setfd(&dir, rustix::io::FdFlags::empty()).unwrap();
        assert_eq!(support::sh(host.dir(), "ls /proc/self/fd"), "0\n1\n2\n3\n");
        // Not as the working directory either, nor as the program (CVE-2024-21626).
        let number = dir.as_raw_fd();
        for cwd in [
            format!("/proc/self/fd/{number}"),
            format!("/proc/1/fd/{number}/.."),
            format!("/dev/fd/{number}"),
        ] {
            let mut spec = script("pwd");
            process(&mut spec).set_cwd(cwd.clone().into());
            let error = start(host.dir(), &spec).unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("chdir {cwd}: No such file or directory (os error 2)")),
                "{error}"
            );
        }
        fs::copy("/bin/true", host.dir().join("program")).unwrap();
        let program = format!("/proc/self/fd/{number}/program");
        let error = start(host.dir(), &command(&[&program])).unwrap_err();
        assert_eq!(error.command_status(), Some(127), "{error}");
        // As the interpreter of a script of the image.
        let (root, upper) = support::overlay(host.dir());
        fs::write(upper.join("script"), format!("#!{program}\n")).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(upper.join("script"), executable).unwrap();
        let bundle = Bundle { stdio: PIPES(), ..Bundle::new(root) };
        let error = plan(&command(&["/script"])).start(bundle).unwrap_err();
        assert_eq!(error.command_status(), Some(127), "{error}");
        // And all of it is still here.
        assert_eq!(fs::read_to_string(&path).unwrap(), "secret");
        assert!(file.metadata().unwrap().is_file() && dir.metadata().unwrap().is_dir());
    });
}

#[test]
fn a_hundred_failures_cost_no_descriptor() {
    run(|host| {
        use std::io::{Read, Seek};
        let mut files: Vec<File> = (0..50)
            .map(|number| {
                let path = host.dir().join(number.to_string());
                fs::write(&path, format!("file {number}")).unwrap();
                File::open(path).unwrap()
            })
            .collect();
        let plan = plan(&command(&["/none"]));
        // The first start opens what stays (none so far); from then on nothing may change.
        plan.start(bundle(host.dir())).unwrap_err();
        let before = fds();
        for _ in 0..100 {
            let error = plan.start(Bundle { stdio: PIPES(), ..bundle(host.dir()) }).unwrap_err();
            assert_eq!(error.command_status(), Some(127));
        }
        assert_eq!(fds(), before);
        for (number, file) in files.iter_mut().enumerate() {
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, format!("file {number}"));
        }
        assert_eq!(host.processes(), Vec::<String>::new());
    });
}

#[test]
fn mounts_do_not_travel_to_the_host() {
    run(|host| {
        // As under systemd: everything is shared with everything.
        let (tree, data) = (host.dir().join("tree"), host.dir().join("data"));
        fs::create_dir_all(data.join("inner")).unwrap();
        fs::create_dir(&tree).unwrap();
        rustix::mount::mount_change(host.dir(), rustix::mount::MountPropagationFlags::SHARED).unwrap();
        let before = mountinfo();
        let mut plan = plan(&script("echo up; read line; exit 0"));
        plan.attach("data", "/mnt").unwrap();
        plan.attach("more", "/mnt/inner").unwrap();
        let mounts = vec![Mount::bind_path(&data, true).unwrap(), Mount::tmpfs(&[]).unwrap()];
        let stdio =
            [coracle_runtime::Stdio::Pipe, coracle_runtime::Stdio::Pipe, coracle_runtime::Stdio::Null];
        let running = plan.start(Bundle { stdio, mounts, ..bundle(host.dir()) }).unwrap();
        assert_eq!(line(running.stdout.as_ref().unwrap()), "up");
        assert_eq!(mountinfo(), before);
        support::end(running);
        // A root that is a plain bind mount is no different; the program is not there, but all mounts were made.
        let root = Mount::bind_path(&tree, false).unwrap();
        let bare = support::plan(&command(&["/none"]));
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let (sink, expected) = (seen.clone(), before.clone());
        let stepper = Box::new(move |index| {
            if mountinfo() != expected {
                sink.lock().unwrap().push(index);
            }
        });
        bare.start(Bundle { stepper: Some(stepper), ..Bundle::new(root) }).unwrap_err();
        assert_eq!(*seen.lock().unwrap(), Vec::<usize>::new());
        assert_eq!(mountinfo(), before);
        rustix::mount::mount_change(host.dir(), rustix::mount::MountPropagationFlags::PRIVATE).unwrap();
    });
}

#[test]
fn a_stolen_status_is_known_or_said_to_be_unknown() {
    run(|host| {
        // An embedding program that reaps whatever it finds.
        let stop = std::sync::atomic::AtomicBool::new(false);
        let plan = plan(&script("exit 7"));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = rustix::process::wait(rustix::process::WaitOptions::NOHANG);
                    std::thread::yield_now();
                }
            });
            for _ in 0..30 {
                let output = watch(plan.start(Bundle { stdio: PIPES(), ..bundle(host.dir()) }).unwrap());
                assert!(matches!(output.exit, Exit::Code(7) | Exit::Unknown), "{output:?}");
            }
            let failed = start(host.dir(), &command(&["/none"])).unwrap_err();
            assert_eq!(failed.command_status(), Some(127));
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    });
}

#[test]
fn children_that_the_program_ignores() {
    run(|host| {
        ignore(libc::SIGCHLD, libc::SIG_IGN); // the kernel reaps at once
        let running = support::idle(host.dir(), |_| {});
        let exec = support::command(&["/bin/sh", "-c", "exit 7"]);
        let exec =
            Plan::exec(exec.process().as_ref().unwrap(), &coracle_runtime::Facts::of_this_host()).unwrap();
        for _ in 0..30 {
            let output = watch(exec.start_in(&running.pidfd, PIPES()).unwrap());
            assert!(matches!(output.exit, Exit::Code(7) | Exit::Unknown), "{output:?}");
        }
        let exit = watch(running).exit;
        assert!(matches!(exit, Exit::Code(0) | Exit::Unknown), "{exit}");
        ignore(libc::SIGCHLD, libc::SIG_DFL);
    });
}

#[test]
fn a_program_in_a_pid_namespace_that_has_no_proc() {
    fn starter(role: &mut coracle_testhost::Role) {
        assert_eq!(std::process::id(), 1);
        let shown = fs::read_link("/proc/self").unwrap();
        assert_ne!(shown.to_str(), Some("1"));
        role.say(&format!("{:?}", start(role.dir(), &script("echo $$")).map(watch)));
    }
    coracle_testhost::run_with(&[("starter", starter)], |host| {
        // SAFETY: no CLONE_FILES; it concerns this thread's later children only.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWPID) }.unwrap();
        let mut role = host.play("starter");
        assert_eq!(role.hear().unwrap(), "Ok(Output { exit: Code(0), stdout: \"1\\n\", stderr: \"\" })");
        role.join();
    });
}

#[test]
fn the_signal_mask_and_handlers_stay() {
    run(|host| {
        let mut spec = script("true");
        user(&mut spec, 1000, 1000, &[]);
        // The first one makes room for descriptors with high numbers.
        support::run(host.dir(), &spec).ok();
        let before = fs::read_to_string("/proc/thread-self/status").unwrap();
        support::run(host.dir(), &spec).ok();
        start(host.dir(), &command(&["/none"])).unwrap_err();
        let after = fs::read_to_string("/proc/thread-self/status").unwrap();
        let same = [
            "Uid",
            "Gid",
            "Groups",
            "Umask",
            "SigBlk",
            "SigIgn",
            "SigCgt",
            "CapInh",
            "CapPrm",
            "CapEff",
            "CapBnd",
            "CapAmb",
            "NoNewPrivs",
            "Seccomp",
            "Threads",
            "FDSize",
        ];
        for name in same {
            assert_eq!(field(&before, name), field(&after, name), "{name}");
        }
    });
}
