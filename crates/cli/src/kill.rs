//! `coracle kill`, `stop` and `wait`.

use std::time::{Duration, Instant};

use coracle::{Container, Engine, Kind, State};

use crate::each::{container, each, each_printing};
use crate::fail::{Done, Fail};

/// How often is looked whether a container has stopped.
const PAUSE: Duration = Duration::from_millis(10);
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
    #[arg(short, long, default_value = "TERM", value_parser = signal)]
    signal: u8,
    /// Seconds to wait before killing the container; -1 to wait for ever
    #[arg(short, long, visible_alias = "time", default_value_t = 10, value_name = "SECONDS")]
    timeout: i64,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
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
        container.signal(args.signal)?;
        if args.signal == KILL {
            settled(container.wait())?;
        }
        Ok(())
    })
}

/// Asks each to end, and kills it where it doesn't in time. That it has ended already is fine.
pub(crate) fn stop(args: &StopArgs) -> Done {
    let engine = Engine::open_default()?;
    each(&args.containers, |name| {
        let container = container(&engine, name)?;
        match container.signal(args.signal) {
            Ok(()) => {}
            Err(error) if error.kind() == Kind::InUse => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let patience = u64::try_from(args.timeout).ok().map(Duration::from_secs);
        if !ended_within(&container, patience)? {
            settled(container.kill())?;
        }
        Ok(())
    })
}

/// Waits for each in turn and prints its status.
pub(crate) fn wait(args: &WaitArgs) -> Done {
    let engine = Engine::open_default()?;
    each_printing(&args.containers, |name| {
        let exit = container(&engine, name)?.wait()?;
        Ok(exit.code().to_string())
    })
}

fn ended_within(container: &Container, patience: Option<Duration>) -> Result<bool, Fail> {
    let Some(patience) = patience else {
        settled(container.wait())?;
        return Ok(true);
    };
    let deadline = Instant::now() + patience;
    loop {
        match container.state() {
            Ok(State::Starting | State::Running) => {}
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == Kind::NotFound => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(PAUSE);
    }
}

/// One that was to be removed at its end may be gone before we have seen it end.
fn settled<T>(waited: coracle::Result<T>) -> Result<(), Fail> {
    match waited {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}
