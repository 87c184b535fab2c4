//! A further process in a running container.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use coracle_host::{Call, Exit, PidFd};
use coracle_runtime::cgroup::Cgroup;
use coracle_runtime::{Facts, Join, Plan, Pump, Running, Stdio, Stream, Terminal, supervise};
use serde::{Deserialize, Serialize};

use super::attach::{self, Streams};
use super::group;
use super::launch::set_user;
use super::output::Output;
use super::record::Record;
use super::supervisor::Live;
use super::{rights, spaces};
use crate::engine::Inner;
use crate::error::{Error, Result};
use crate::{Engine, Kind};

/// A process to run in a container, as a value. What is not said is as the container's first process has it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ExecSpec {
    command: Vec<String>,
    env: Vec<(String, String)>,
    workdir: Option<String>,
    user: Option<String>,
    interactive: bool,
    attach: bool,
    terminal: bool,
    privileged: bool,
}

impl ExecSpec {
    /// Program and arguments.
    pub fn new<S: Into<String>>(command: impl IntoIterator<Item = S>) -> ExecSpec {
        ExecSpec { command: command.into_iter().map(Into::into).collect(), ..ExecSpec::default() }
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> ExecSpec {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The working directory, an absolute path.
    #[must_use]
    pub fn workdir(mut self, path: impl Into<String>) -> ExecSpec {
        self.workdir = Some(path.into());
        self
    }

    /// Who runs it, as in [`ContainerSpec::user`](crate::ContainerSpec::user).
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> ExecSpec {
        self.user = Some(user.into());
        self
    }

    /// Its standard input is this program's.
    #[must_use]
    pub fn interactive(mut self) -> ExecSpec {
        self.interactive = true;
        self
    }

    /// Its standard streams are a terminal of its own; see [`Container::exec_attached`](crate::Container::exec_attached).
    #[must_use]
    pub fn terminal(mut self) -> ExecSpec {
        self.terminal = true;
        self
    }

    /// It has all capabilities that the engine has, whatever the container's are (capabilities(7)). System calls and
    /// devices are those of the container.
    #[must_use]
    pub fn privileged(mut self) -> ExecSpec {
        self.privileged = true;
        self
    }

    /// What it writes goes to this program's standard output and error instead of into the result.
    #[must_use]
    pub fn attach(mut self) -> ExecSpec {
        self.attach = true;
        self
    }
}

/// Starts it. The calling thread owns it: when that ends, it does.
pub(crate) fn begin(
    engine: &Inner,
    spec: &ExecSpec,
    record: &Record,
    container: &PidFd,
    root: &OwnedFd,
    stdio: [Stdio; 3],
) -> Result<Running> {
    let group = group::find(engine, record)?;
    if group.as_ref().is_some_and(|group| group.is_frozen().unwrap_or(false)) {
        return Err(Error::new(Kind::InUse, "it is paused; unpause it first"));
    }
    let Some(mut process) = record.spec.process().clone() else {
        return Err(Error::new(Kind::Corrupt, "the container's record has no process"));
    };
    process.set_args(Some(spec.command.clone()));
    if let Some(dir) = &spec.workdir {
        process.set_cwd(dir.into());
    }
    process.set_terminal(spec.terminal.then_some(true));
    let env = process.env_mut().get_or_insert_default();
    for (name, value) in &spec.env {
        let prefix = format!("{name}=");
        env.retain(|pair| !pair.starts_with(&prefix));
        env.push(format!("{prefix}{value}"));
    }
    if spec.terminal && !env.iter().any(|pair| pair.starts_with("TERM=")) {
        env.push("TERM=xterm".into());
    }
    if spec.privileged {
        rights::bound(&mut process, &rights::all());
    }
    let user = spec.user.as_deref().unwrap_or(&record.config.user);
    set_user(&mut process, user, root, |user, file| spaces::groups(user, &record.groups, file))?;
    let facts = Facts::of_this_host();
    let facts = if record.spaces.users.is_some() { facts.in_user_namespace() } else { facts };
    let mut plan = Plan::exec(&process, &facts)?;
    if let Some(program) = engine.filters.of(record)? {
        plan.filter(&program)?;
    }
    let group = group.as_ref().map(Cgroup::entrance).transpose()?;
    if group.is_some() {
        plan.enter_group();
    }
    Ok(plan.join(container, Join { stdio, group, ..Join::default() })?)
}

/// Runs it to its end, on the calling thread.
pub(crate) fn run(
    engine: &Inner,
    spec: &ExecSpec,
    record: &Record,
    container: &PidFd,
    root: &OwnedFd,
) -> Result<(Exit, Output)> {
    let stdin = if spec.interactive { Stdio::Inherit } else { Stdio::Null };
    // Never this program's own output: what the process leaves behind in the container would hold it open.
    let mut running = begin(engine, spec, record, container, root, [stdin, Stdio::Pipe, Stdio::Pipe])?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = {
        let pidfd = &running.pidfd;
        let mut pump = Pump::new(running.stdout.take(), running.stderr.take())?.to(|stream, bytes| {
            if spec.attach {
                return attach::show(stream, bytes, pidfd);
            }
            let all = match stream {
                Stream::Stdout => &mut out,
                Stream::Stderr => &mut err,
            };
            // Memory never fails to be written to.
            let _ = all.write_all(bytes);
        });
        supervise(&running.pidfd, &mut [&mut pump])?
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((exit, Output { stdout: text(out), stderr: text(err) }))
}

/// A further process in a container, with its standard streams in the hands of who started it. Dropped, it is killed.
#[must_use = "dropping it ends the process"]
pub struct Exec {
    pidfd: PidFd,
    thread: Option<JoinHandle<Exit>>,
}

impl Exec {
    /// Starts it on a thread of its own, with which it would die.
    pub(crate) fn start(
        engine: Engine,
        spec: ExecSpec,
        record: Arc<Record>,
        live: Arc<Live>,
    ) -> Result<(Exec, Streams)> {
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("coracle-exec".into()).spawn(move || {
            let input = if spec.interactive { Stdio::Pipe } else { Stdio::Null };
            let stdio = if spec.terminal { Default::default() } else { [input, Stdio::Pipe, Stdio::Pipe] };
            let begun =
                begin(&engine.0, &spec, &record, &live.pidfd, &live.root, stdio).and_then(|running| {
                    let streams = streams(&running.terminal)?;
                    Ok((running.pidfd.try_clone()?, running, streams))
                });
            let (pidfd, running, terminal) = match begun {
                Ok(begun) => begun,
                Err(error) => {
                    let _ = tell.send(Err(error));
                    return Exit::Unknown;
                }
            };
            let streams = terminal.unwrap_or(Streams {
                stdin: running.stdin.map(Into::into),
                stdout: running.stdout.map(Into::into),
                stderr: running.stderr.map(Into::into),
            });
            let _ = tell.send(Ok((pidfd, streams)));
            // Only its own failure could make this one fail, and then there is nobody to wait for.
            let _ = running.pidfd.ended_within(None);
            running.pidfd.reap().unwrap_or(Exit::Unknown)
        });
        let thread = thread.call(|| "clone(thread)")?;
        match told.recv() {
            Ok(Ok((pidfd, streams))) => Ok((Exec { pidfd, thread: Some(thread) }, streams)),
            Ok(Err(error)) => {
                let _ = thread.join();
                Err(error)
            }
            Err(_) => Err(Error::new(Kind::Other, "the thread of the process ended")),
        }
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Exit {
        let thread = self.thread.take();
        thread.and_then(|thread| thread.join().ok()).unwrap_or(Exit::Unknown)
    }

    /// Sends it a signal (1 to 64). Whether it was there to get it.
    ///
    /// # Errors
    /// As of pidfd_send_signal(2).
    pub fn signal(&self, signal: u8) -> Result<bool> {
        Ok(self.pidfd.signal(signal)?)
    }
}

/// Both directions of a terminal.
fn streams(terminal: &Option<Terminal>) -> Result<Option<Streams>> {
    let Some(terminal) = terminal else { return Ok(None) };
    let end = || -> Result<_> { Ok(Some(OwnedFd::from(terminal.try_clone()?).into())) };
    Ok(Some(Streams { stdin: end()?, stdout: end()?, stderr: None }))
}

impl Drop for Exec {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // It may have ended.
            let _ = self.pidfd.signal(9);
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Exec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exec").field("pidfd", &self.pidfd).finish_non_exhaustive()
    }
}
