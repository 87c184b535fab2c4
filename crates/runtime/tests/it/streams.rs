//! Standard input, output and error.

use std::fs::{self, File};
use std::os::fd::OwnedFd;

use coracle_host::Exit;
use coracle_runtime::{Bundle, Running, Stdio};
use coracle_testhost::{Role, run, run_with};

use crate::support::{bundle, command, line, plan, script, start, watch};

#[test]
fn pipes_go_both_ways() {
    run(|host| {
        let stdio = [Stdio::Pipe, Stdio::Pipe, Stdio::Pipe];
        let text = "while read line; do echo got $line; done; echo end >&2";
        let mut running = plan(&script(text)).start(Bundle { stdio, ..bundle(host.dir()) }).unwrap();
        let (stdin, stdout) = (running.stdin.take().unwrap(), running.stdout.take().unwrap());
        for word in ["one", "two"] {
            rustix::io::write(&stdin, format!("{word}\n").as_bytes()).unwrap();
            assert_eq!(line(&stdout), format!("got {word}"));
        }
        drop(stdin);
        assert_eq!(line(&stdout), "");
        let output = watch(running);
        assert_eq!((output.exit, output.stderr.as_str()), (Exit::Code(0), "end\n"));
    });
}

#[test]
fn null_is_empty_and_takes_everything() {
    run(|host| {
        let Running { stdin, stdout, stderr, pidfd, .. } =
            plan(&script("cat; echo x; echo x >&2; [ -z \"$(cat)\" ] && exit 5"))
                .start(bundle(host.dir()))
                .unwrap();
        assert!(stdin.is_none() && stdout.is_none() && stderr.is_none());
        assert_eq!(pidfd.reap().unwrap(), Exit::Code(5));
    });
}

#[test]
fn descriptors_that_are_given() {
    run(|host| {
        let path = host.dir().join("both");
        let file = File::create(&path).unwrap();
        let copy = || Stdio::Fd(OwnedFd::from(file.try_clone().unwrap()));
        fs::write(host.dir().join("in"), "in\n").unwrap();
        let input = Stdio::Fd(File::open(host.dir().join("in")).unwrap().into());
        let bundle = Bundle { stdio: [input, copy(), copy()], ..bundle(host.dir()) };
        watch(plan(&script("cat; echo err >&2; echo out; ls /proc/self/fd")).start(bundle).unwrap());
        // ls has one more: the directory that it reads.
        assert_eq!(fs::read_to_string(path).unwrap(), "in\nerr\nout\n0\n1\n2\n3\n");
    });
}

fn inherits(role: &mut Role) {
    let (read, write) = std::io::pipe().unwrap();
    rustix::stdio::dup2_stdout(&write).unwrap();
    rustix::stdio::dup2_stdin(File::open("/etc/hostname").unwrap()).unwrap();
    drop(write);
    let stdio = [Stdio::Inherit, Stdio::Inherit, Stdio::Inherit];
    let running = plan(&command(&["/bin/cat"])).start(Bundle { stdio, ..bundle(role.dir()) }).unwrap();
    assert_eq!(watch(running).exit, Exit::Code(0));
    role.say(&line(&read.into()));
}

#[test]
fn inherited_ones_are_the_programs() {
    run_with(&[("inherits", inherits)], |host| {
        let mut role = host.play("inherits");
        let name = fs::read_to_string("/etc/hostname").unwrap();
        assert_eq!(role.hear().as_deref(), Some(name.trim_end()));
        role.join();
    });
}

/// A program that has closed its standard streams: every descriptor that is made next gets one of their numbers.
fn streamless(role: &mut Role) {
    let good = plan(&script("echo out; echo err >&2; exit 3"));
    // Without mounts it is the launch's own descriptors that come first.
    let mut bare = command(&["/none"]);
    bare.set_mounts(None);
    let pipes = || [Stdio::Null, Stdio::Pipe, Stdio::Pipe];
    for (plan, stdio) in
        [(good, pipes()), (plan(&command(&["/none"])), pipes()), (plan(&bare), Default::default())]
    {
        let bundle = bundle(role.dir());
        let kept: Vec<OwnedFd> = (0..3).map(close).collect();
        let result = plan.start(Bundle { stdio, ..bundle }).map(watch);
        // Later failures of this very test want to be seen.
        rustix::stdio::dup2_stdin(&kept[0]).unwrap();
        rustix::stdio::dup2_stdout(&kept[1]).unwrap();
        rustix::stdio::dup2_stderr(&kept[2]).unwrap();
        match result {
            Ok(output) => role.say(&format!("{output:?}")),
            Err(error) => role.say(&format!("{error}")),
        }
    }
}

/// Closes a number; what was there goes on under another.
fn close(fd: i32) -> OwnedFd {
    // SAFETY: 0 to 2 are open in a test's process.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    let kept = rustix::io::fcntl_dupfd_cloexec(borrowed, 100).unwrap();
    // SAFETY: nothing of the standard library minds; the streams' descriptors belong to nobody.
    unsafe { rustix::io::close(fd) };
    kept
}

#[test]
fn a_program_without_streams_may_start_containers() {
    run_with(&[("streamless", streamless)], |host| {
        let mut role = host.play("streamless");
        let good = "Output { exit: Code(3), stdout: \"out\\n\", stderr: \"err\\n\" }";
        assert_eq!(role.hear().as_deref(), Some(good));
        for _ in 0..2 {
            let bad = role.hear().unwrap();
            assert!(bad.ends_with("exec /none: No such file or directory (os error 2)"), "{bad}");
        }
        role.join();
    });
}

#[test]
fn a_reader_that_went_away_is_the_writers_problem() {
    run(|host| {
        let mut running = start(host.dir(), &script("echo x; exec yes")).unwrap();
        let stdout = running.stdout.take().unwrap();
        assert_eq!(line(&stdout), "x");
        drop(stdout);
        // SIGPIPE kills the first process of a namespace only if it has no handler and comes from the kernel: here it
        // is pid 1's own write, and `yes` sees EPIPE or dies; either way it ends.
        assert!(!watch(running).exit.success());
    });
}
