//! Terminals of containers (runtime-spec config.md, "Process": terminal, consoleSize).

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use coracle_host::{Exit, Kind};
use coracle_runtime::{Bundle, Facts, Plan, Running, Size, Stdio, Terminal};
use coracle_testhost::run;
use oci_spec::runtime::{BoxBuilder, Spec};

use crate::support::{self, bundle, end, idle, overlay, plan, process, script, user};

const NONE: fn() -> [Stdio; 3] = || [Stdio::Null, Stdio::Null, Stdio::Null];

fn with_terminal(text: &str, size: Option<(u64, u64)>) -> Spec {
    let mut spec = script(text);
    process(&mut spec).set_terminal(Some(true));
    if let Some((columns, rows)) = size {
        let size = BoxBuilder::default().width(columns).height(rows).build().unwrap();
        process(&mut spec).set_console_size(Some(size));
    }
    spec
}

/// Reads until nobody has the other side any more.
fn rest(terminal: &Terminal) -> String {
    let mut file = fs::File::from(OwnedFd::from(terminal.try_clone().unwrap()));
    let (mut text, mut bytes) = (String::new(), [0; 4096]);
    while let Ok(read) = file.read(&mut bytes) {
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    text.replace('\r', "")
}

fn until(terminal: &Terminal, end: &str) -> String {
    let mut file = fs::File::from(OwnedFd::from(terminal.try_clone().unwrap()));
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.ends_with(end) {
        assert_eq!(file.read(&mut byte).unwrap(), 1, "{text}");
        text.push(char::from(byte[0]));
    }
    text.replace('\r', "")
}

fn type_in(terminal: &Terminal, text: &str) {
    fs::File::from(OwnedFd::from(terminal.try_clone().unwrap())).write_all(text.as_bytes()).unwrap();
}

fn finish(running: Running) -> (String, Exit) {
    let terminal = running.terminal.unwrap();
    let text = rest(&terminal);
    (text, running.pidfd.reap().unwrap())
}

#[test]
fn a_container_with_a_terminal() {
    run(|host| {
        let text = "tty; stty size; test -t 0 -a -t 1 -a -t 2 && echo all three; stat -L -c '%F %u:%g %a' $(tty); \
                    echo at the console > /dev/console; echo controlling > /dev/tty; ps -o sid=,tpgid= -p $$; exit 3";
        let running = plan(&with_terminal(text, Some((101, 37)))).start(bundle(host.dir())).unwrap();
        let (text, exit) = finish(running);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let expected = [
            "/dev/pts/0",
            "37 101",
            "all three",
            "character special file 0:5 620",
            "at the console",
            "controlling",
        ];
        assert_eq!(lines[..6], expected, "{text}");
        assert_eq!(lines[6].split_whitespace().collect::<Vec<_>>(), ["1", "1"], "{text}");
        assert_eq!(exit, Exit::Code(3));
    });
}

#[test]
fn another_user_and_no_size() {
    run(|host| {
        let mut spec = with_terminal("tty; stty size; id -u > $(tty); stat -c %u $(tty)", None);
        user(&mut spec, 1000, 1000, &[]);
        let (text, exit) = finish(plan(&spec).start(bundle(host.dir())).unwrap());
        assert_eq!((text.as_str(), exit), ("/dev/pts/0\n0 0\n1000\n1000\n", Exit::Code(0)));
    });
}

#[test]
fn a_size_without_a_terminal_is_ignored() {
    run(|host| {
        let mut spec = with_terminal("test -t 1 || echo no terminal", Some((80, 25)));
        process(&mut spec).set_terminal(Some(false));
        assert_eq!(support::run(host.dir(), &spec).ok(), "no terminal\n");
    });
}

#[test]
fn it_is_typed_in_and_resized() {
    run(|host| {
        let text =
            "trap 'stty size' WINCH; echo ready; read line; echo got $line; while :; do read line; done";
        let running = plan(&with_terminal(text, Some((80, 25)))).start(bundle(host.dir())).unwrap();
        let terminal = running.terminal.as_ref().unwrap();
        assert_eq!(until(terminal, "ready\r\n"), "ready\n");
        type_in(terminal, "words\n");
        assert_eq!(until(terminal, "got words\r\n"), "words\ngot words\n");
        assert_eq!(terminal.size().unwrap(), Size { columns: 80, rows: 25 });
        terminal.resize(Size { columns: 132, rows: 50 }).unwrap();
        assert_eq!(terminal.size().unwrap(), Size { columns: 132, rows: 50 });
        type_in(terminal, "\n"); // dash runs traps when its read returns
        assert!(until(terminal, "50 132\r\n").ends_with("50 132\n"));
        type_in(terminal, "\x03"); // interrupt, from the line discipline to the foreground
        assert_eq!(running.pidfd.reap().unwrap(), Exit::Code(130));
    });
}

#[test]
fn a_further_process_with_a_terminal_of_its_own() {
    run(|host| {
        let running = idle(host.dir(), |_| {});
        let exec = |spec: &Spec| {
            let plan = Plan::exec(spec.process().as_ref().unwrap(), &Facts::of_this_host()).unwrap();
            plan.start_in(&running.pidfd, NONE()).unwrap()
        };
        let first =
            exec(&with_terminal("tty; read line; ps -o sid= -p $$ | grep -qw $$ && echo leads", None));
        assert_eq!(until(first.terminal.as_ref().unwrap(), "pts/0\r\n"), "/dev/pts/0\n");
        let mut spec = with_terminal("tty; stty size; stat -c %u $(tty); echo x > /dev/tty", Some((10, 20)));
        user(&mut spec, 1000, 1000, &[]);
        assert_eq!(finish(exec(&spec)), ("/dev/pts/1\n20 10\n1000\nx\n".into(), Exit::Code(0)));
        type_in(first.terminal.as_ref().unwrap(), "\n");
        assert_eq!(finish(first), ("\nleads\n".into(), Exit::Code(0)));
        end(running);
        assert_eq!(host.processes(), Vec::<String>::new());
    });
}

#[test]
fn a_container_cannot_have_something_else_opened_for_its_terminal() {
    run(|host| {
        for trap in [
            "ln -s /etc/passwd /dev/pts/ptmx",
            "mkfifo /dev/pts/ptmx",
            "mknod /dev/pts/ptmx c 1 3",
            "mknod /dev/pts/ptmx c 5 2",
        ] {
            let mut spec = script(&format!("{trap}; echo up; read line; exit 0"));
            // A container that may not mount gets a writable directory instead of its devpts.
            let mounts = spec.mounts_mut().as_mut().unwrap();
            mounts.retain(|mount| mount.destination() != std::path::Path::new("/dev/pts"));
            let (root, _) = overlay(host.dir());
            let stdio = [Stdio::Pipe, Stdio::Pipe, Stdio::Null];
            let running = plan(&spec).start(Bundle { stdio, ..Bundle::new(root) }).unwrap();
            assert_eq!(support::line(running.stdout.as_ref().unwrap()), "up");
            let spec = with_terminal("true", None);
            let exec = Plan::exec(spec.process().as_ref().unwrap(), &Facts::of_this_host()).unwrap();
            let error = exec.start_in(&running.pidfd, NONE()).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{trap}: {error}");
            end(running);
        }
    });
}

#[test]
fn what_does_not_go_with_a_terminal() {
    run(|host| {
        let plan = plan(&with_terminal("true", None));
        let stdio = [Stdio::Null, Stdio::Pipe, Stdio::Null];
        let error = plan.start(Bundle { stdio, ..bundle(host.dir()) }).unwrap_err();
        assert!(error.to_string().starts_with("process.terminal: the standard streams are"), "{error}");
        let mut spec = with_terminal("true", None);
        let mounts = spec.mounts_mut().as_mut().unwrap();
        mounts.retain(|mount| mount.destination() != std::path::Path::new("/dev/pts"));
        let error = support::start(host.dir(), &spec).unwrap_err();
        assert_eq!(error.to_string(), "process.terminal: the spec mounts no devpts");
    });
}

#[test]
fn it_goes_over_a_socket() {
    run(|host| {
        use rustix::net::{
            AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
        };
        let mut running =
            plan(&with_terminal("read line; echo got $line", None)).start(bundle(host.dir())).unwrap();
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        running.terminal.take().unwrap().send(theirs.as_fd()).unwrap();
        let (mut bytes, mut space) = ([0; 64], [std::mem::MaybeUninit::uninit(); 64]);
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut data = [rustix::io::IoSliceMut::new(&mut bytes)];
        let read =
            rustix::net::recvmsg(&ours, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
        let Some(RecvAncillaryMessage::ScmRights(mut fds)) = control.drain().next() else { panic!() };
        let terminal = Terminal::from_fd(fds.next().unwrap());
        assert_eq!(&bytes[..read], b"/dev/pts/0");
        type_in(&terminal, "it\n");
        assert_eq!(rest(&terminal), "it\ngot it\n");
        assert_eq!(running.pidfd.reap().unwrap(), Exit::Code(0));
    });
}
