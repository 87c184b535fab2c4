//! A further process in a running container.

use std::io::Write;
use std::os::fd::OwnedFd;

use coracle_host::{Exit, PidFd};
use coracle_runtime::{Facts, Plan, Pump, Running, Stdio, Stream, supervise};

use super::launch::set_user;
use super::output::Output;
use super::record::Record;
use crate::Kind;
use crate::error::{Error, Result};

/// A process to run in a container, as a value. What is not said is as the container's first process has it.
#[derive(Clone, Debug, Default)]
pub struct ExecSpec {
    command: Vec<String>,
    env: Vec<(String, String)>,
    workdir: Option<String>,
    user: Option<String>,
    interactive: bool,
    attach: bool,
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

    /// What it writes goes to this program's standard output and error instead of into the result.
    #[must_use]
    pub fn attach(mut self) -> ExecSpec {
        self.attach = true;
        self
    }
}

/// Starts it. The calling thread owns it: when that ends, it does.
pub(crate) fn begin(
    spec: &ExecSpec,
    record: &Record,
    container: &PidFd,
    root: &OwnedFd,
    stdio: [Stdio; 3],
) -> Result<Running> {
    let Some(mut process) = record.spec.process().clone() else {
        return Err(Error::new(Kind::Corrupt, "the container's record has no process"));
    };
    process.set_args(Some(spec.command.clone()));
    if let Some(dir) = &spec.workdir {
        process.set_cwd(dir.into());
    }
    let env = process.env_mut().get_or_insert_default();
    for (name, value) in &spec.env {
        let prefix = format!("{name}=");
        env.retain(|pair| !pair.starts_with(&prefix));
        env.push(format!("{prefix}{value}"));
    }
    set_user(&mut process, spec.user.as_deref().unwrap_or(&record.user), root)?;
    let plan = Plan::exec(&process, &Facts::of_this_host())?;
    Ok(plan.start_in(container, stdio)?)
}

/// Runs it to its end, on the calling thread.
pub(crate) fn run(
    spec: &ExecSpec,
    record: &Record,
    container: &PidFd,
    root: &OwnedFd,
) -> Result<(Exit, Output)> {
    let stdin = if spec.interactive { Stdio::Inherit } else { Stdio::Null };
    let (stdout, stderr) =
        if spec.attach { (Stdio::Inherit, Stdio::Inherit) } else { (Stdio::Pipe, Stdio::Pipe) };
    let mut running = begin(spec, record, container, root, [stdin, stdout, stderr])?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = {
        let mut pump = Pump::new(running.stdout.take(), running.stderr.take())?.to(|stream, bytes| {
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
