//! create: everything but the program.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use coracle_host::{Dir, Mount, PidFd};
use coracle_runtime::cgroup::Cgroup;
use coracle_runtime::{Bundle, Running, Stdio, Step};
use oci_spec::runtime::{Hooks, Spec};

use crate::cli::Create;
use crate::error::{During, Error, Result};
use crate::journal::Log;
use crate::mounted::{Among, Mounted};
use crate::prepare::{self, Prepared};
use crate::record::{self, Home, Record, Status};
use crate::{cgroup, hooks, list, listener, process};

/// Makes the container; its first process waits for the word to go. That process is a child of this program until the
/// program ends, and then of whoever takes orphans.
/// With `systemd` its control group is a scope that systemd makes.
pub(crate) fn create(home: &Home, options: &Create, systemd: bool, log: &Log) -> Result<PidFd> {
    // First, while everything that is open is the caller's.
    let extra = preserved(options.preserve_fds)?;
    let mut prepared = prepare::read(&options.bundle, log)?;
    prepared.no_pivot = options.no_pivot;
    let console = console(&prepared, options.console_socket.as_deref())?;
    prepared.among.have_no_other(home, &prepared.rootfs)?;
    let (dir, _lock) = home.claim(&options.id)?;
    let place = cgroup::path(prepared.cgroups_path(), &options.id, systemd);
    let made = place.and_then(|place| make(&dir, prepared, options, place, console, extra, log));
    if made.is_err()
        && let Err(error) = remove(home, &dir, &options.id)
    {
        log.warn(&format!("remove what was made of container `{}`: {error}", options.id));
    }
    made
}

fn remove(home: &Home, dir: &Dir, id: &str) -> Result<()> {
    Mounted::of(dir)?.map_or(Ok(()), |mounted| mounted.take_away())?;
    Ok(home.open()?.remove_tree(id)?)
}

fn make(
    dir: &Dir,
    prepared: Prepared,
    options: &Create,
    place: PathBuf,
    console: Option<UnixStream>,
    extra: Vec<OwnedFd>,
    log: &Log,
) -> Result<PidFd> {
    let asked =
        cgroup::is_scope(&place) || prepared.cgroups_path().is_some() || prepared.resources().is_some();
    let annotations = prepared.spec.annotations().as_ref();
    record::keep_config(dir, &prepared.text)?;
    let group = cgroup::make(&place, asked, prepared.resources(), annotations)?;
    let record = Record {
        oci_version: prepared.spec.version().clone(),
        id: options.id.clone(),
        pid: 0,
        born: 0,
        bundle: prepared.bundle.clone(),
        rootfs: prepared.rootfs.clone(),
        created: jiff::Timestamp::now().to_string(),
        cgroup: group.is_some().then_some(place),
        annotations: prepared.spec.annotations().clone().unwrap_or_default(),
    };
    let (stopped, poststop) = (record.clone(), prepared.hooks.poststop().clone());
    let mut hook_failed = false;
    let running = start(dir, prepared, &record, group.as_ref(), console.as_ref(), extra, &mut hook_failed);
    let finished = running.and_then(|(running, commands)| {
        finish(dir, record, &running, commands, options, console)
            .inspect_err(|_| {
                // It waits, and nobody will let it go.
                let _ = running.pidfd.signal(9).and_then(|_| running.pidfd.reap());
            })
            .map(|()| running.pidfd)
    });
    match (finished, group) {
        (Ok(pidfd), group) => {
            let _kept = group.map(Cgroup::leave);
            Ok(pidfd)
        }
        (Err(error), group) => {
            // What is wrong with it is less than what went wrong before.
            let _ = group.map(Cgroup::remove);
            // runtime.md, "Lifecycle" 3 to 5, 12 and 13: who saw it begin sees it end.
            let state = list::described(&stopped, Status::Stopped);
            let poststop = poststop.as_deref().filter(|_| hook_failed);
            if let Err(error) = hooks::run("poststop", poststop, &state) {
                log.warn(&error.to_string());
            }
            Err(error)
        }
    }
}

/// Where the program may be, and relative to what.
struct Commands {
    candidates: Vec<String>,
    cwd: std::path::PathBuf,
}

fn start(
    dir: &Dir,
    prepared: Prepared,
    record: &Record,
    group: Option<&Cgroup>,
    console: Option<&UnixStream>,
    extra: Vec<OwnedFd>,
    hook_failed: &mut bool,
) -> Result<(Running, Commands)> {
    let mut plan = prepared.plan(group.is_some())?;
    let listener = listener::connect(prepared.filter(), list::described(record, Status::Creating))?;
    let Prepared { rootfs, net, hooks, view, among, .. } = prepared;
    let mut mounts = Vec::new();
    if let (Some((at, read_only)), Some(group)) = (view, group) {
        for (below, mount) in group.view_of_host(read_only)? {
            let place: std::path::PathBuf = at.join(&below).components().collect();
            plan.attach(format!("control group {}", below.display()).trim_end(), place)?;
            mounts.push(mount);
        }
    }
    let candidates = plan.steps().iter().find_map(|step| match step {
        Step::Exec { candidates, .. } => Some(candidates.clone()),
        _ => None,
    });
    let cwd = prepared.spec.process().as_ref().map(|process| process.cwd().clone()).unwrap_or_default();
    let commands = Commands { candidates: candidates.unwrap_or_default(), cwd };
    let go = record::make_gate(dir)?;
    let stdio = match console {
        Some(_) => [Stdio::Null, Stdio::Null, Stdio::Null],
        None => [Stdio::Inherit, Stdio::Inherit, Stdio::Inherit],
    };
    let root = Mount::bind_path(&rootfs, true)?;
    if let Among::Others(namespace) = &among {
        Mounted::note(dir, &root, &rootfs, namespace)?;
    }
    let group = group.map(Cgroup::entrance).transpose()?;
    let mut bundle = Bundle { mounts, net, stdio, extra, group, listener, go: Some(go), ..Bundle::new(root) };
    let failed = Arc::new(Mutex::new(None));
    if hooks::inside_before_pivot(&hooks) || among != Among::Own {
        // Where those hooks look for it, or the others have no root of theirs.
        bundle.root_at = Some(rootfs);
    }
    if hooks::before_pivot(&hooks) {
        let (sink, record, config) = (failed.clone(), record.clone(), prepared.spec);
        let thread = rustix::thread::gettid().as_raw_nonzero();
        bundle.before_pivot = Some(Box::new(move || {
            if let Err(error) = at_pivot(&hooks, &config, record, thread.get()) {
                *sink.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
            }
        }));
    }
    let running = plan.start(bundle).map_err(Error::from);
    match failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take() {
        None => Ok((running?, commands)),
        Some(error) => {
            *hook_failed = true;
            if let Ok(running) = running {
                let _ = running.pidfd.signal(9).and_then(|_| running.pidfd.reap());
            }
            Err(error)
        }
    }
}

/// The hooks that come when the container's namespaces and mounts are there and its root is not yet entered.
fn at_pivot(hooks: &Hooks, config: &Spec, record: Record, thread: i32) -> Result<()> {
    let path = format!("/proc/self/task/{thread}/children");
    let children = std::fs::read_to_string(&path).during(|| format!("read {path:?}"))?;
    // The one before it, where there is one, only made it, in the container's user namespace.
    let pid = children.split_whitespace().next_back().and_then(|pid| pid.parse().ok());
    let pid = pid.ok_or_else(|| Error::new("hooks: the container's process can't be found"))?;
    let record = Record { pid, ..record };
    let ran = hooks::run_before_pivot(hooks, config, pid, &list::described(&record, Status::Creating));
    if ran.is_err() {
        // It goes no further; the launch sees that it has ended.
        let _ = PidFd::open(pid).and_then(|pidfd| pidfd.signal(9));
    }
    ran
}

fn finish(
    dir: &Dir,
    record: Record,
    running: &Running,
    commands: Commands,
    options: &Create,
    console: Option<UnixStream>,
) -> Result<()> {
    let pid = running.pidfd.pid()?;
    there(pid, &commands)?;
    if let (Some(terminal), Some(console)) = (&running.terminal, &console) {
        terminal.send(console.as_fd())?;
    }
    let born = process::born(pid).ok_or_else(|| Error::new("the container's process has ended"))?;
    Record { pid, born, ..record }.write(dir)?;
    if let Some(path) = &options.pid_file {
        record::replace(path, pid.to_string().as_bytes())?;
    }
    Ok(())
}

/// That there is something to execute is seen now rather than when nobody listens any more. What it is shows then.
fn there(pid: u32, commands: &Commands) -> Result<()> {
    let path = format!("/proc/{pid}/root");
    let root = Dir::open(&path)?;
    let root = coracle_host::Root::new(root.as_fd(), "container's root");
    let found = commands
        .candidates
        .iter()
        .any(|candidate| root.open(commands.cwd.join(candidate), rustix::fs::OFlags::PATH).is_ok());
    if found {
        return Ok(());
    }
    let name = commands.candidates.first().and_then(|path| Path::new(path).file_name());
    let name = name.unwrap_or_default().to_string_lossy();
    Err(Error::new(format!("exec {name:?}: executable file not found in $PATH: no such file or directory")))
}

/// The connection that the terminal goes to.
fn console(prepared: &Prepared, path: Option<&Path>) -> Result<Option<UnixStream>> {
    match (prepared.terminal, path) {
        (false, None) => Ok(None),
        (true, Some(path)) => {
            let stream = UnixStream::connect(path).during(|| format!("connect({path:?})"))?;
            Ok(Some(stream))
        }
        (true, None) => Err(Error::new("process.terminal: --console-socket is needed for it")),
        (false, Some(_)) => Err(Error::new("--console-socket: process.terminal is not set")),
    }
}

/// The descriptors 3 and on that the caller has opened for the container.
pub(crate) fn preserved(count: u32) -> Result<Vec<OwnedFd>> {
    let own = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())
        .and_then(|own| rustix::io::fcntl_dupfd_cloexec(&own, 3 + count as i32))
        .during(|| "pidfd_open()".to_owned())?;
    let duplicate = |number: u32| {
        let flags = rustix::process::PidfdGetfdFlags::empty();
        rustix::process::pidfd_getfd(&own, number as i32, flags)
            .during(|| format!("--preserve-fds {count}: descriptor {number}"))
    };
    (3..3 + count).map(duplicate).collect()
}
