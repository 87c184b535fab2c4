//! exec: a further process.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use coracle_runtime::cgroup::Cgroup;
use coracle_runtime::seccomp::Program;
use coracle_runtime::{Facts, Join, Plan, Stdio};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Process, Spec, User};

use crate::cli::Exec;
use crate::error::{During, Error, Result};
use crate::mounted::Among;
use crate::record::{Found, Home, Status};
use crate::{cgroup, create, list, listener, prepare, record};

/// What the program is to exit with.
pub(crate) fn exec(home: &Home, options: &Exec) -> Result<u8> {
    // First, while everything that is open is the caller's.
    let extra = create::preserved(options.preserve_fds)?;
    let found = home.find(&options.id)?;
    let status = found.status()?;
    match status {
        Status::Created | Status::Running => {}
        Status::Paused if options.ignore_paused => {}
        _ => return Err(Error::new(format!("container `{}` is {}", options.id, status.word()))),
    }
    let container = found.process()?;
    let container = container.ok_or_else(|| Error::new(format!("container `{}` is stopped", options.id)))?;
    let mut process = process(&found, options)?;
    prepare::own_umask(&mut process)?;
    let terminal = process.terminal() == Some(true);
    let console = match (terminal, &options.console_socket) {
        (true, Some(path)) => Some(UnixStream::connect(path).during(|| format!("connect({path:?})"))?),
        (true, None) => return Err(Error::new("exec with a terminal: --console-socket is needed for it")),
        (false, Some(_)) => return Err(Error::new("--console-socket: the process has no terminal")),
        (false, None) => None,
    };
    let config = found.config()?;
    let mut plan = Plan::exec(&process, &facts(&config))?;
    enter(&mut plan, &config);
    // The thread that starts it ends at once.
    plan.outlive();
    let stdio = match terminal {
        true => [Stdio::Null, Stdio::Null, Stdio::Null],
        false => [Stdio::Inherit, Stdio::Inherit, Stdio::Inherit],
    };
    let filter = Program::of(&config)?;
    if let Some(filter) = &filter {
        plan.filter(filter)?;
    }
    let listener = listener::connect(filter.as_ref(), list::described(found.record()?, status))?;
    let group = cgroup::find(found.record()?)?;
    if group.is_some() {
        plan.enter_group();
    }
    let entrance = group.as_ref().map(Cgroup::entrance).transpose()?;
    let running = plan.join(&container, Join { stdio, group: entrance, extra, listener })?;
    if let (Some(terminal), Some(console)) = (&running.terminal, &console) {
        terminal.send(console.as_fd())?;
    }
    if let Some(path) = &options.pid_file {
        let pid = running.pidfd.pid().unwrap_or_default();
        record::replace(path, pid.to_string().as_bytes())?;
    }
    if options.detach {
        return Ok(0);
    }
    Ok(running.pidfd.reap()?.code())
}

/// Has a further process be where the container is, in mounts that are others', too.
pub(crate) fn enter(plan: &mut Plan, config: &Spec) {
    if Among::of(config) != Among::Own {
        plan.enter_root();
    }
}

/// What a further process of this container can have.
pub(crate) fn facts(config: &Spec) -> Facts {
    let namespaces = config.linux().iter().flat_map(|linux| linux.namespaces()).flatten();
    match namespaces.map(LinuxNamespace::typ).any(|typ| typ == LinuxNamespaceType::User) {
        true => Facts::of_this_host().in_user_namespace(),
        false => Facts::of_this_host(),
    }
}

/// The process of the file, or the container's own with what the command line changes.
fn process(found: &Found, options: &Exec) -> Result<Process> {
    if let Some(path) = &options.process {
        let text = std::fs::read(path).during(|| format!("read {path:?}"))?;
        return serde_json::from_slice(&text).during(|| format!("read {path:?}"));
    }
    let config = found.config()?;
    let mut process = config.process().clone().ok_or_else(|| Error::new("process: missing"))?;
    if options.command.is_empty() {
        return Err(Error::new("exec: neither a command nor --process is given"));
    }
    process.set_args(Some(options.command.clone())).set_terminal(Some(options.tty));
    if let Some(cwd) = &options.cwd {
        process.set_cwd(cwd.clone());
    }
    if !options.env.is_empty() {
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(options.env.iter().cloned());
        process.set_env(Some(env));
    }
    if let Some(text) = &options.user {
        process.set_user(user(text)?);
    }
    if !options.additional_gids.is_empty() {
        let mut user = process.user().clone();
        user.set_additional_gids(Some(options.additional_gids.clone()));
        process.set_user(user);
    }
    if options.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    Ok(process)
}

fn user(text: &str) -> Result<User> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    let id = |part: &str| part.parse::<u32>().during(|| format!("--user {text:?}"));
    let mut user = User::default();
    user.set_uid(id(uid)?).set_gid(id(gid)?);
    Ok(user)
}
