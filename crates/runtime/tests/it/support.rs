//! Containers over this machine's own root file system, which is the lower layer of an overlay in the test host.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use coracle_host::{Dir, Exit, Mount, Overlay};
use coracle_runtime::{Bundle, Facts, Plan, Pump, Result, Running, Stdio, Stream, docker_spec, supervise};
use oci_spec::runtime::{Process, Spec};

/// How long the kernel may take to kill and clean up. Milliseconds on an idle machine; what is left for good is found
/// on a busy one, too.
pub const SOON: Duration = Duration::from_secs(5);

/// Docker's defaults and a shell script.
pub fn script(text: &str) -> Spec {
    command(&["/bin/sh", "-c", text])
}

/// Docker's defaults and a command.
pub fn command(args: &[&str]) -> Spec {
    let mut spec = docker_spec();
    process(&mut spec).set_args(Some(args.iter().map(|arg| (*arg).to_owned()).collect()));
    spec
}

pub fn process(spec: &mut Spec) -> &mut Process {
    spec.process_mut().as_mut().unwrap()
}

/// Makes the command run as this user, with the groups.
pub fn user(spec: &mut Spec, uid: u32, gid: u32, groups: &[u32]) {
    let mut user = process(spec).user().clone();
    user.set_uid(uid).set_gid(gid).set_additional_gids(Some(groups.to_vec()));
    process(spec).set_user(user);
}

pub fn plan(spec: &Spec) -> Plan {
    Plan::container(spec, &Facts::of_this_host()).unwrap()
}

/// A root file system whose changes go to a fresh place below `dir`; and that place.
pub fn overlay(dir: &Path) -> (Mount, std::path::PathBuf) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let top = Dir::create(dir.join(format!("root-{}-{number}", std::process::id())), 0o755).unwrap();
    let (upper, work) = (top.make("upper", 0o755).unwrap(), top.make("work", 0o755).unwrap());
    let lower = [Dir::open("/").unwrap()];
    let parts = Overlay { lower: &lower, upper: Some((&upper, &work)), volatile: true, context: None };
    (Mount::overlay(&parts).unwrap(), upper.path().to_owned())
}

pub fn bundle(dir: &Path) -> Bundle {
    Bundle::new(overlay(dir).0)
}

/// What a process wrote, and how it ended.
#[derive(Debug, PartialEq)]
pub struct Output {
    pub exit: Exit,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// The output of a process that must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!((self.exit, self.stderr.as_str()), (Exit::Code(0), ""), "stdout: {}", self.stdout);
        self.stdout
    }
}

pub const PIPES: fn() -> [Stdio; 3] = || [Stdio::Null, Stdio::Pipe, Stdio::Pipe];

/// Waits for the end, and takes all output.
pub fn watch(running: Running) -> Output {
    let Running { pidfd, stdin, stdout, stderr, .. } = running;
    drop(stdin);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut pump = Pump::new(stdout, stderr).unwrap().to(|stream, bytes: &[u8]| match stream {
        Stream::Stdout => out.extend_from_slice(bytes),
        Stream::Stderr => err.extend_from_slice(bytes),
    });
    let exit = supervise(&pidfd, &mut [&mut pump]).unwrap();
    drop(pump);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Output { exit, stdout: text(out), stderr: text(err) }
}

/// Starts a container with a fresh root, and waits for its end.
pub fn run(dir: &Path, spec: &Spec) -> Output {
    start(dir, spec).map(watch).unwrap()
}

pub fn start(dir: &Path, spec: &Spec) -> Result<Running> {
    Plan::container(spec, &Facts::of_this_host())?.start(Bundle { stdio: PIPES(), ..bundle(dir) })
}

/// The output of a script in a container with docker's defaults.
#[track_caller]
pub fn sh(dir: &Path, text: &str) -> String {
    run(dir, &script(text)).ok()
}

/// A container that waits until its standard input ends, and has done its first steps when this returns.
pub fn idle(dir: &Path, prepare: impl FnOnce(&mut Spec)) -> Running {
    let mut spec = script("echo up; read line; exit 0");
    prepare(&mut spec);
    let bundle = Bundle { stdio: [Stdio::Pipe, Stdio::Pipe, Stdio::Null], ..bundle(dir) };
    let running = plan(&spec).start(bundle).unwrap();
    assert_eq!(line(running.stdout.as_ref().unwrap()), "up");
    running
}

/// Ends an [`idle`] container.
pub fn end(running: Running) {
    assert_eq!(watch(running).exit, Exit::Code(0));
}

/// Reads one line, byte by byte, so that nothing of the next is lost.
pub fn line(from: &OwnedFd) -> String {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while rustix::io::read(from, &mut byte).unwrap() == 1 && byte != *b"\n" {
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

/// `Name:` of a status file of proc.
pub fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
}

/// Waits until something is true.
#[track_caller]
pub fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        std::thread::yield_now();
    }
}

pub fn mountinfo() -> String {
    fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
}

/// What the descriptors of this process are open at.
pub fn fds() -> Vec<String> {
    let entries: Vec<_> = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut targets: Vec<String> = entries
        .iter()
        .filter_map(|path| Some(format!("{} {}", path.display(), fs::read_link(path).ok()?.display())))
        .collect();
    targets.sort();
    targets
}
