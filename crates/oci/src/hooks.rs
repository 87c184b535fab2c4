//! Hooks (config.md, "POSIX-platform Hooks"): programs of the user's at points of a container's life.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coracle_host::PidFd;
use oci_spec::runtime::{Hook, Hooks};

use crate::error::{During, Error, Result};

/// Those that have to run inside the container's namespaces.
pub(crate) fn refuse(hooks: &Hooks) -> Result<()> {
    let there = |list: &Option<Vec<Hook>>| list.as_ref().is_some_and(|list| !list.is_empty());
    for (list, name) in
        [(hooks.create_container(), "createContainer"), (hooks.start_container(), "startContainer")]
    {
        if there(list) {
            return Err(Error::new(format!("hooks.{name}: not supported yet")));
        }
    }
    Ok(())
}

/// Runs them in order, each with the state on its standard input. The first that fails ends it.
pub(crate) fn run(name: &str, hooks: Option<&[Hook]>, state: &serde_json::Value) -> Result<()> {
    for (index, hook) in hooks.unwrap_or_default().iter().enumerate() {
        one(hook, state).during(|| format!("hooks.{name}[{index}]"))?;
    }
    Ok(())
}

/// Whether there is anything to run before the container's root is entered.
pub(crate) fn before_pivot(hooks: &Hooks) -> bool {
    let lists = [hooks.prestart(), hooks.create_runtime()];
    lists.into_iter().flatten().any(|list| !list.is_empty())
}

/// prestart and createRuntime.
pub(crate) fn run_before_pivot(hooks: &Hooks, state: &serde_json::Value) -> Result<()> {
    run("prestart", hooks.prestart().as_deref(), state)?;
    run("createRuntime", hooks.create_runtime().as_deref(), state)
}

fn one(hook: &Hook, state: &serde_json::Value) -> Result<()> {
    let path = hook.path();
    if !path.is_absolute() {
        return Err(Error::new(format!("{path:?} is not an absolute path")));
    }
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
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().during(|| format!("execute {path:?}"))?;
    let text = state.to_string();
    let deadline = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok());
    let deadline = deadline.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    if let Some(mut stdin) = child.stdin.take() {
        // Less than a pipe holds, so it does not block; who does not read it closes it, which is fine.
        let _ = stdin.write_all(text.as_bytes());
    }
    let pidfd = PidFd::open(child.id())?;
    let mut stderr = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(stderr) = &mut stderr {
            let _ = stderr.take(4096).read_to_string(&mut text);
        }
        text
    });
    let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
    if !pidfd.ended_within(left)? {
        child.kill().during(|| "kill it".to_owned())?;
        child.wait().during(|| "reap it".to_owned())?;
        return Err(Error::new(format!("{path:?} takes longer than {} s", hook.timeout().unwrap_or(0))));
    }
    let status = child.wait().during(|| "reap it".to_owned())?;
    if status.success() {
        return Ok(());
    }
    // What it left running may hold its standard error open: only what is there already counts.
    let said = if reader.is_finished() { reader.join().unwrap_or_default() } else { String::new() };
    Err(Error::new(format!("{path:?}: {status}: {}", said.trim_end())))
}
