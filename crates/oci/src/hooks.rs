//! Hooks (config.md, "POSIX-platform Hooks"): programs of the user's at points of a container's life.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio as Pipes};
use std::time::{Duration, Instant};

use coracle_host::{Exit, PidFd};
use coracle_runtime::cgroup::Cgroup;
use coracle_runtime::{Facts, Join, Plan, Stdio};
use oci_spec::runtime::{Capabilities, Hook, Hooks, LinuxCapabilities, Process, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cgroup;
use crate::error::{During, Error, Result};
use crate::record::Found;

/// Runs them in order, each with the state on its standard input. The first that fails ends it.
pub(crate) fn run(name: &str, hooks: Option<&[Hook]>, state: &serde_json::Value) -> Result<()> {
    for (index, hook) in hooks.unwrap_or_default().iter().enumerate() {
        one(hook, state).during(|| format!("hooks.{name}[{index}]"))?;
    }
    Ok(())
}

/// Whether there is anything to run before the container's root is entered.
pub(crate) fn before_pivot(hooks: &Hooks) -> bool {
    let lists = [hooks.prestart(), hooks.create_runtime(), hooks.create_container()];
    lists.into_iter().flatten().any(|list| !list.is_empty())
}

/// Whether there is anything to run in the container's namespaces before its root is entered.
pub(crate) fn inside_before_pivot(hooks: &Hooks) -> bool {
    hooks.create_container().as_ref().is_some_and(|list| !list.is_empty())
}

/// prestart and createRuntime; then createContainer, in the namespaces of the container's process, where the root is
/// still this host's (config.md, "CreateContainer Hooks").
pub(crate) fn run_before_pivot(
    hooks: &Hooks,
    config: &Spec,
    pid: u32,
    state: &serde_json::Value,
) -> Result<()> {
    run("prestart", hooks.prestart().as_deref(), state)?;
    run("createRuntime", hooks.create_runtime().as_deref(), state)?;
    if !inside_before_pivot(hooks) {
        return Ok(());
    }
    let container = PidFd::open(pid)?;
    let process = with_all_rights();
    let facts = crate::exec::facts(config);
    for (index, hook) in hooks.create_container().iter().flatten().enumerate() {
        let ran = plan_of(hook, process.clone(), &facts).and_then(|mut plan| {
            plan.enter_root();
            one_inside(hook, &plan, None, &container, state)
        });
        ran.during(|| format!("hooks.createContainer[{index}]"))?;
    }
    Ok(())
}

/// Root with everything that it can have where it is.
fn with_all_rights() -> Process {
    let known = |one: caps::Capability| one.to_string().trim_start_matches("CAP_").parse().ok();
    let every: Capabilities = caps::all().into_iter().filter_map(known).collect();
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(every.clone()))
        .set_permitted(Some(every.clone()))
        .set_effective(Some(every))
        .set_inheritable(None)
        .set_ambient(None);
    let mut process = Process::default();
    process.set_capabilities(Some(sets)).set_cwd("/".into());
    process
}

/// startContainer: as processes of the container, with its rights and its root (config.md, "StartContainer Hooks").
pub(crate) fn run_inside(
    found: &Found,
    config: &Spec,
    container: &PidFd,
    state: &serde_json::Value,
) -> Result<()> {
    let hooks = config.hooks().as_ref().and_then(|hooks| hooks.start_container().as_deref());
    if hooks.is_none_or(<[Hook]>::is_empty) {
        return Ok(());
    }
    let process = config.process().clone().ok_or_else(|| Error::new("process: missing"))?;
    let facts = crate::exec::facts(config);
    let group = cgroup::find(found.record()?)?;
    for (index, hook) in hooks.unwrap_or_default().iter().enumerate() {
        let ran = plan_of(hook, process.clone(), &facts).and_then(|mut plan| {
            crate::exec::enter(&mut plan, config);
            one_inside(hook, &plan, group.as_ref(), container, state)
        });
        ran.during(|| format!("hooks.startContainer[{index}]"))?;
    }
    Ok(())
}

/// Of a hook that runs in the container's namespaces, with the rights of this process.
fn plan_of(hook: &Hook, mut process: Process, facts: &Facts) -> Result<Plan> {
    let path = absolute(hook)?;
    let text = path.to_str().ok_or_else(|| Error::new(format!("{path:?} is not UTF-8")))?;
    let args = hook.args().clone().filter(|args| args.first().is_some_and(|name| !name.is_empty()));
    process
        .set_terminal(None)
        .set_args(Some(args.unwrap_or_else(|| vec![text.to_owned()])))
        .set_env(Some(hook.env().clone().unwrap_or_default()));
    let mut plan = Plan::exec(&process, facts)?;
    plan.program(text);
    Ok(plan)
}

fn one_inside(
    hook: &Hook,
    plan: &Plan,
    group: Option<&Cgroup>,
    container: &PidFd,
    state: &serde_json::Value,
) -> Result<()> {
    let mut plan = plan.clone();
    if group.is_some() {
        plan.enter_group();
    }
    let group = group.map(Cgroup::entrance).transpose()?;
    let stdio = [Stdio::Pipe, Stdio::Null, Stdio::Pipe];
    let running = plan.join(container, Join { stdio, group, ..Join::default() })?;
    let stdin = running.stdin.map(std::fs::File::from);
    let stderr = running.stderr.map(std::fs::File::from);
    let told = Told { hook, path: absolute(hook)?, stdin, stderr };
    told.outcome(&running.pidfd, state, || Ok(running.pidfd.reap()?))
}

/// config.md, "POSIX-platform Hooks": the path MUST be absolute, and a timeout greater than zero.
fn absolute(hook: &Hook) -> Result<&Path> {
    if !hook.path().is_absolute() {
        return Err(Error::new(format!("{:?} is not an absolute path", hook.path())));
    }
    match hook.timeout() {
        Some(seconds) if seconds <= 0 => {
            Err(Error::new(format!("timeout {seconds}: it must be more than zero")))
        }
        _ => Ok(hook.path()),
    }
}

/// What is wrong with hooks is said before any runs.
pub(crate) fn check(hooks: &Hooks) -> Result<()> {
    let lists = [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    for (name, list) in lists {
        for (index, hook) in list.iter().flatten().enumerate() {
            absolute(hook).during(|| format!("hooks.{name}[{index}]"))?;
        }
    }
    Ok(())
}

fn one(hook: &Hook, state: &serde_json::Value) -> Result<()> {
    let path = absolute(hook)?;
    let mut command = Command::new(path);
    let mut args = hook.args().iter().flatten();
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    command.args(args).env_clear();
    for variable in hook.env().iter().flatten() {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        command.env(name, value);
    }
    command.stdin(Pipes::piped()).stdout(Pipes::null()).stderr(Pipes::piped());
    let mut child = command.spawn().during(|| format!("execute {path:?}"))?;
    let pidfd = PidFd::open(child.id())?;
    let stdin = child.stdin.take().map(|pipe| OwnedFd::from(pipe).into());
    let stderr = child.stderr.take().map(|pipe| OwnedFd::from(pipe).into());
    Told { hook, path, stdin, stderr }.outcome(&pidfd, state, || {
        let status = child.wait().during(|| "reap it".to_owned())?;
        let code = status.code().and_then(|code| u8::try_from(code).ok()).map(Exit::Code);
        let signal = status.signal().and_then(|signal| u8::try_from(signal).ok()).map(Exit::Signal);
        Ok(code.or(signal).unwrap_or(Exit::Unknown))
    })
}

/// A hook that runs, and the ends of its streams.
struct Told<'a> {
    hook: &'a Hook,
    path: &'a Path,
    stdin: Option<File>,
    stderr: Option<File>,
}

impl Told<'_> {
    /// Tells it the state and waits for its end, in time.
    fn outcome(
        self,
        pidfd: &PidFd,
        state: &serde_json::Value,
        reap: impl FnOnce() -> Result<Exit>,
    ) -> Result<()> {
        let Told { hook, path, stdin, stderr } = self;
        let timeout = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
        if let Some(mut stdin) = stdin {
            // Less than a pipe holds, so it does not block; who does not read it closes it, which is fine.
            let _ = stdin.write_all(state.to_string().as_bytes());
        }
        let mut said = Vec::new();
        if !ended(pidfd, timeout, stderr.as_ref(), &mut said)? {
            pidfd.signal(9)?;
            reap()?;
            return Err(Error::new(format!("{path:?} takes longer than {} s", hook.timeout().unwrap_or(0))));
        }
        let exit = reap()?;
        if exit.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&said);
        Err(Error::new(format!("{path:?}: {exit}: {}", said.trim_end())))
    }
}

/// Waits for the end of a process, with what it says meanwhile; whether it came in time. What it left running may hold its
/// standard error open: what that says is nobody's.
fn ended(
    pidfd: &PidFd,
    timeout: Option<Duration>,
    stderr: Option<&File>,
    said: &mut Vec<u8>,
) -> Result<bool> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    if let Some(stderr) = stderr {
        rustix::io::ioctl_fionbio(stderr, true)
            .during(|| "ioctl(hook's standard error, FIONBIO)".to_owned())?;
    }
    let mut open = stderr;
    loop {
        let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
        fds.extend(open.map(|stderr| PollFd::new(stderr, PollFlags::IN)));
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let ready = rustix::io::retry_on_intr(|| poll(&mut fds, left.as_ref()));
        let timed_out = ready.during(|| "poll(hook)".to_owned())? == 0;
        let over = !fds[0].revents().is_empty();
        let mut bytes = [0; 4096];
        // Who never stops talking has its time, too.
        for _ in 0..16 {
            let Some(mut stderr) = open else { break };
            match stderr.read(&mut bytes) {
                Ok(count) if count > 0 => {
                    said.extend(&bytes[..count.min(SAID.saturating_sub(said.len()))]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                _ => open = None,
            }
        }
        if over || timed_out {
            return Ok(over);
        }
    }
}

/// How much of what a hook says is passed on, in bytes.
const SAID: usize = 4096;
