//! `coracle exec`.

use coracle::{Engine, ExecSpec, Kind};

use crate::each::container;
use crate::env;
use crate::fail::{Done, Fail};
use crate::{streams, terminal};

/// Execute a command in a running container
#[derive(clap::Args)]
#[command(override_usage = "coracle exec [OPTIONS] CONTAINER COMMAND [ARG...]")]
pub(crate) struct Args {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = streams::DETACH, value_parser = streams::keys)]
    pub(crate) detach_keys: streams::Keys,
    /// Set environment variables
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<String>,
    /// Keep STDIN open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// The container, and the command with its arguments
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_name = "CONTAINER COMMAND [ARG...]", hide = true)]
    pub(crate) words: Vec<String>,
}

/// Runs it to its end, whose status becomes ours.
pub(crate) fn run(args: &Args) -> Done {
    let Some((name, command)) = args.words.split_first() else { return Ok(1) };
    let mut spec = ExecSpec::new(command).attach();
    for (name, value) in env::variables(&args.env_file, &args.env, &env::own)? {
        spec = spec.env(name, value);
    }
    if let Some(user) = &args.user {
        spec = spec.user(user);
    }
    if let Some(workdir) = &args.workdir {
        spec = spec.workdir(workdir);
    }
    if args.interactive {
        spec = spec.interactive();
    }
    if args.privileged {
        spec = spec.privileged();
    }
    if args.tty && args.interactive && !args.detach {
        terminal::required()?;
    }
    let session = args.tty.then(|| streams::Session::begin(true));
    let engine = Engine::open_default()?;
    let container = container(&engine, name)?;
    let done = match session {
        _ if args.detach => container.exec_detached(&spec).map(|()| 0),
        Some(session) => match container.exec_attached(&spec.terminal()) {
            Ok((exec, streams)) => return session.exec(exec, streams, args.interactive, &args.detach_keys),
            Err(error) => Err(error),
        },
        None => container.exec(&spec).map(|(exit, _)| exit.code()),
    };
    match done {
        Ok(status) => Ok(status),
        // docker's status where the container is at fault, not the command.
        Err(error) if matches!(error.kind(), Kind::InUse) => Err(Fail::from(error)),
        Err(error) => Err(Fail::new(error.command_status().unwrap_or(126), error)),
    }
}
