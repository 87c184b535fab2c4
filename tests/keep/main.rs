//! Kept containers: they outlive their program. That needs a program whose `main` lets it serve as a supervisor, which
//! libtest's can't be; so this one is a `main` of its own, and a host of its own.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use coracle::{Capture, Container, ContainerSpec, Engine, ExecSpec, Exit, Kind, NetworkSpec, Ready, State};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

type Check = (&'static str, fn(&Path));

const CHECKS: &[Check] = &[
    ("it_outlives_the_program_that_started_it", it_outlives_the_program),
    ("it_is_found_by_name_and_has_a_network", it_is_found_by_name),
    ("a_failed_start_says_why_and_leaves_nothing", a_failed_start),
    ("it_goes_when_it_ends_if_that_is_wanted", it_goes_when_it_ends),
    ("it_dies_with_its_supervisor", it_dies_with_its_supervisor),
];

/// Where the host's own tmpfs is: a directory that is there on every machine, and hides nothing that is needed.
const PLACE: &str = "/mnt";

fn main() -> ExitCode {
    coracle::supervise();
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "--inside", name] => inside(name),
        [_, "--start", state, name] => {
            starter(Path::new(state), name);
            ExitCode::SUCCESS
        }
        // As libtest answers, so that other runners find them; none of them is ignored.
        [_, "--list", ..] if arguments.iter().any(|argument| argument == "--ignored") => ExitCode::SUCCESS,
        [_, "--list", ..] => {
            CHECKS.iter().for_each(|(name, _)| println!("{name}: test"));
            ExitCode::SUCCESS
        }
        _ => outside(&arguments),
    }
}

/// Runs the checks whose names contain the first argument, each in a host of its own.
fn outside(arguments: &[String]) -> ExitCode {
    let filter = arguments.iter().skip(1).find(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| filter.is_none_or(|filter| name.contains(filter.as_str()));
    let mut failed = 0;
    for (name, _) in CHECKS.iter().filter(|(name, _)| wanted(name)) {
        if !rustix::process::geteuid().is_root() {
            coracle_testhost::skip(name, "needs root");
            continue;
        }
        let status = Command::new("/proc/self/exe").args(["--inside", name]).status().unwrap();
        println!("test {name} ... {}", if status.success() { "ok" } else { "FAILED" });
        failed += usize::from(!status.success());
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A new host, and a process in it that is pid 1: orphans come to it, and its end is theirs.
fn inside(name: &str) -> ExitCode {
    if std::process::id() != 1 {
        let new = UnshareFlags::NEWNS
            | UnshareFlags::NEWPID
            | UnshareFlags::NEWNET
            | UnshareFlags::NEWIPC
            | UnshareFlags::NEWUTS;
        // SAFETY: CLONE_FILES is not among the flags, and this process has one thread.
        if let Err(errno) = unsafe { unshare_unsafe(new) } {
            coracle_testhost::skip(name, &format!("this machine refuses new namespaces: {errno}"));
            return ExitCode::SUCCESS;
        }
        // In the child the program is pid 1: it comes back here, and goes on below.
        let status = Command::new("/proc/self/exe").args(["--inside", name]).status().unwrap();
        return if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    mount("proc", "/proc", "proc", MountFlags::empty(), None).unwrap();
    mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None).unwrap();
    mount("tmpfs", PLACE, "tmpfs", MountFlags::empty(), c"mode=0755").unwrap();
    let state = Path::new(PLACE).join("state");
    let engine = Engine::open(&state).unwrap();
    let programs = ["sh", "sleep", "cat", "id", "getent"];
    engine.capture(&Capture::new().search_path(["/bin", "/usr/bin"]).programs(programs), "tools").unwrap();
    drop(engine);
    let (_, check) = CHECKS.iter().find(|(known, _)| *known == name).unwrap();
    check(&state);
    assert_eq!(processes(), Vec::<String>::new(), "processes are left");
    let links = fs::read_to_string("/proc/net/dev").unwrap();
    assert!(!links.contains("cor"), "links are left: {links}");
    let engine = Engine::open(&state).unwrap();
    assert!(engine.containers().unwrap().is_empty());
    for place in ["containers", "names"] {
        assert_eq!(fs::read_dir(state.join(place)).unwrap().count(), 0, "{place}");
    }
    ExitCode::SUCCESS
}

/// The living processes of this host but this one, by their command lines.
fn processes() -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().into_string().unwrap_or_default();
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let alive =
            !matches!(stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()), None | Some('Z'));
        if alive && pid != "1" && pid.bytes().all(|byte| byte.is_ascii_digit()) {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push(format!("{pid} {}", String::from_utf8_lossy(&line).replace('\0', " ").trim_end()));
        }
    }
    found
}

fn spec(text: &str) -> ContainerSpec {
    ContainerSpec::new("tools").command(["sh", "-c", text]).name("kept").network("bridge").keep()
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: {:?}", processes());
        thread::sleep(Duration::from_millis(2));
    }
}

fn wrote(container: &Container, text: &str) {
    wait_until(text, || container.output().unwrap().stdout.contains(text));
}

/// Another program: starts a kept container and ends, or is killed.
fn starter(state: &Path, text: &str) {
    let engine = Engine::open(state).unwrap();
    let container = engine.start(&spec(text)).unwrap();
    println!("{}", container.id());
    drop(container);
    if text.contains("linger") {
        thread::sleep(Duration::from_secs(100));
    }
}

fn started_by_another(state: &Path, text: &str) -> String {
    let program = Command::new("/proc/self/exe")
        .args(["--start".as_ref(), state.as_os_str(), text.as_ref()])
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    assert!(program.status.success(), "{program:?}");
    String::from_utf8(program.stdout).unwrap().trim().to_owned()
}

fn it_outlives_the_program(state: &Path) {
    let id = started_by_another(state, "echo up; sleep 100 & wait; exit 7");
    let engine = Engine::open(state).unwrap();
    let found = engine.find("kept").unwrap().unwrap();
    assert_eq!((found.id(), found.state().unwrap()), (&*id, State::Running));
    wrote(&found, "up");
    let (exit, output) = found.exec(&ExecSpec::new(["id", "-u"])).unwrap();
    assert_eq!((exit, &*output.stdout), (Exit::Code(0), "0\n"));
    let supervisor: Vec<String> =
        processes().into_iter().filter(|line| line.contains("coracle-supervisor")).collect();
    assert_eq!(supervisor.len(), 1, "{:?}", processes());
    // Its end is waited for by somebody who did not start it, and told.
    let sleep = processes().into_iter().find(|line| line.ends_with("sleep 100")).unwrap();
    let pid = sleep.split(' ').next().unwrap().parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    assert_eq!(found.wait().unwrap(), Exit::Code(7));
    wait_until("the supervisor ends", || processes().is_empty());
    assert_eq!(found.state().unwrap(), State::Exited(Exit::Code(7)));
    assert_eq!(found.output().unwrap().stdout, "up\n");
    drop(found);
    engine.find(&id[..12]).unwrap().unwrap().remove().unwrap();
}

fn it_is_found_by_name(state: &Path) {
    let engine = Engine::open(state).unwrap();
    let sea = engine.network(&NetworkSpec::new("sea")).unwrap();
    let ready = Ready::log("up").within(Duration::from_secs(10));
    let kept = spec("echo up; exec sleep 100").network(&sea).ready(ready);
    let kept = engine.start(&kept.name("kept")).unwrap();
    let ask = ContainerSpec::new("tools").command(["getent", "hosts", "kept"]).network("bridge");
    let ask = engine.start(&ask).unwrap();
    assert!(ask.wait().unwrap().success(), "the kept one's supervisor serves it: {:?}", ask.output());
    let answer = ask.output().unwrap().stdout;
    assert!(answer.starts_with(&kept.address().unwrap().unwrap().to_string()), "{answer}");
    drop(ask);
    // A value that is dropped does not end it; opening again does not take it for a dead one's.
    drop(kept);
    drop(engine);
    let engine = Engine::open(state).unwrap();
    let found = engine.find("kept").unwrap().unwrap();
    assert_eq!(found.state().unwrap(), State::Running);
    found.force_remove().unwrap();
    engine.remove_network("sea").unwrap();
    wait_until("the supervisor ends", || processes().is_empty());
}

fn a_failed_start(state: &Path) {
    let engine = Engine::open(state).unwrap();
    let error = engine.start(&spec("").command(["no-such-program"])).unwrap_err();
    assert_eq!((error.kind(), error.command_status()), (Kind::NotFound, Some(127)), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("start container `kept` (tools): launch step "), "{text}");
    assert_eq!(text.matches("start container").count(), 1, "{text}");
    let ready = Ready::log("never").within(Duration::from_millis(200));
    let error = engine.start(&spec("sleep 100").ready(ready)).unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout, "{error}");
    let error = engine.start(&spec("echo oops; exit 3").ready(Ready::log("never"))).unwrap_err();
    assert!(error.kind() == Kind::Failed && error.to_string().contains("| oops"), "{error}");
    wait_until("no supervisor is left", || processes().is_empty());
}

fn it_goes_when_it_ends(state: &Path) {
    let engine = Engine::open(state).unwrap();
    let kept = engine.start(&spec("exec sleep 100").remove_when_ended()).unwrap();
    kept.signal(9).unwrap();
    // Whoever comes to wait only when it is gone is told that.
    match kept.wait() {
        Ok(exit) => assert_eq!(exit, Exit::Signal(9)),
        Err(error) => assert_eq!(error.kind(), Kind::NotFound, "{error}"),
    }
    wait_until("it is removed", || engine.containers().unwrap().is_empty());
    wait_until("the supervisor ends", || processes().is_empty());
}

fn it_dies_with_its_supervisor(state: &Path) {
    // Its program is killed, which is nothing to it; then its supervisor, which is the end.
    let mut program = Command::new("/proc/self/exe")
        .args(["--start".as_ref(), state.as_os_str(), "echo up; sleep 100 # linger".as_ref()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let engine = Engine::open(state).unwrap();
    wait_until("it runs", || {
        engine
            .find("kept")
            .unwrap()
            .is_some_and(|kept| kept.state().is_ok_and(|state| state == State::Running))
    });
    program.kill().unwrap();
    program.wait().unwrap();
    let kept = engine.find("kept").unwrap().unwrap();
    wrote(&kept, "up");
    assert_eq!(kept.state().unwrap(), State::Running);
    let supervisor = processes().into_iter().find(|line| line.contains("coracle-supervisor")).unwrap();
    let pid = supervisor.split(' ').next().unwrap().parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    wait_until("all of it is dead", || processes().is_empty());
    assert_eq!(kept.state().unwrap(), State::Dead);
    assert_eq!(kept.wait().unwrap(), Exit::Unknown);
    assert_eq!(kept.output().unwrap().stdout, "up\n", "what it wrote is kept");
    drop(kept);
    let engine = Engine::open(PathBuf::from(state)).unwrap();
    engine.find("kept").unwrap().unwrap().remove().unwrap();
    drop(engine);
    drop(Engine::open(state).unwrap());
}
