//! `coracle kill`, `stop`, `restart` and `wait`.

use std::time::Duration;

use coracle::{Container, Engine, Exit, Kind};

use crate::each::{container, each, each_printing};
use crate::fail::{Done, Fail};

const KILL: u8 = 9;

/// Kill one or more running containers
#[derive(clap::Args)]
pub(crate) struct KillArgs {
    /// Signal to send to the container
    #[arg(short, long, default_value = "KILL", value_parser = signal)]
    signal: u8,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Stop one or more running containers
#[derive(clap::Args)]
pub(crate) struct StopArgs {
    /// Signal to send to the container
    #[arg(short, long, value_parser = signal)]
    signal: Option<u8>,
    /// Seconds to wait before killing the container; -1 to wait for ever
    #[arg(short, long, visible_alias = "time", value_name = "SECONDS")]
    timeout: Option<i64>,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Restart one or more containers
#[derive(clap::Args)]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    stop: StopArgs,
}

/// Block until one or more containers stop, then print their exit codes
#[derive(clap::Args)]
pub(crate) struct WaitArgs {
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

fn signal(text: &str) -> Result<u8, String> {
    coracle::signal_number(text).ok_or_else(|| format!("invalid signal: {text}"))
}

/// Sends the signal to each. A killed container has ended when this returns.
pub(crate) fn kill(args: &KillArgs) -> Done {
    let engine = Engine::open_default()?;
    each(&args.containers, |name| {
        let container = container(&engine, name)?;
        if args.signal != KILL {
            return Ok(container.signal(args.signal)?);
        }
        if !container.state()?.is_alive() {
            return Err(Fail::new(
                1,
                format!("cannot kill container: {name}: container {name} is not running"),
            ));
        }
        settled(container.kill())
    })
}

/// Asks each to end, and kills it where it doesn't in time. That it has ended already is fine.
pub(crate) fn stop(args: &StopArgs) -> Done {
    let engine = Engine::open_default()?;
    each(&args.containers, |name| settled(halt(&container(&engine, name)?, args)))
}

/// Stops each, where it runs, and starts it.
pub(crate) fn restart(args: &RestartArgs) -> Done {
    let engine = Engine::open_default()?;
    each(&args.stop.containers, |name| {
        let container = container(&engine, name)?;
        if container.state()?.is_alive() {
            settled(halt(&container, &args.stop))?;
        }
        // Nothing is left to stop: this waits for its supervisor to let go of it, and starts it.
        Ok(container.restart(None)?)
    })
}

fn halt(container: &Container, args: &StopArgs) -> coracle::Result<Exit> {
    let patience =
        args.timeout.map(|seconds| u64::try_from(seconds).map_or(Duration::MAX, Duration::from_secs));
    match args.signal {
        Some(signal) => container.stop_with(signal, patience),
        None => container.stop(patience),
    }
}

/// Waits for each in turn and prints its status.
pub(crate) fn wait(args: &WaitArgs) -> Done {
    let engine = Engine::open_default()?;
    each_printing(&args.containers, |name| {
        let exit = container(&engine, name)?.wait()?;
        Ok(exit.code().to_string())
    })
}

/// One that was to be removed at its end may be gone before we have seen it end.
fn settled<T>(waited: coracle::Result<T>) -> Result<(), Fail> {
    match waited {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}
