//! `coracle pause` and `unpause`.

use coracle::{Engine, State};

use crate::each::{container, each};
use crate::fail::{Done, Fail};

/// Pause all processes within one or more containers
#[derive(clap::Args)]
pub(crate) struct PauseArgs {
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Unpause all processes within one or more containers
#[derive(clap::Args)]
pub(crate) struct UnpauseArgs {
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) fn pause(args: &PauseArgs) -> Done {
    let engine = Engine::open_default()?;
    each(&args.containers, |name| {
        let container = container(&engine, name)?;
        match container.state()? {
            State::Running | State::Starting => Ok(container.pause()?),
            State::Paused => {
                Err(Fail::new(1, format!("cannot pause container {name}: it is already paused")))
            }
            _ => Err(Fail::new(1, format!("cannot pause container {name}: container {name} is not running"))),
        }
    })
}

pub(crate) fn unpause(args: &UnpauseArgs) -> Done {
    let engine = Engine::open_default()?;
    each(&args.containers, |name| {
        let container = container(&engine, name)?;
        match container.state()? {
            State::Paused => Ok(container.unpause()?),
            _ => {
                Err(Fail::new(1, format!("cannot unpause container {name}: container {name} is not paused")))
            }
        }
    })
}
