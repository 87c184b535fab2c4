//! `coracle start`.

use coracle::{Engine, Kind, State};

use crate::each::{container, each};
use crate::fail::{Done, Fail};
use crate::streams;

/// Start one or more stopped containers
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    attach: bool,
    /// Attach container's STDIN
    #[arg(short, long)]
    interactive: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = streams::DETACH, value_parser = streams::keys)]
    detach_keys: streams::Keys,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Starts each; with one and `-a`, its streams are ours until it ends. That it runs already is fine.
pub(crate) fn run(args: &Args) -> Done {
    if !args.attach && !args.interactive {
        let engine = Engine::open_default()?;
        return each(&args.containers, |name| {
            let container = container(&engine, name)?;
            match container.start() {
                Err(error) if error.kind() == Kind::InUse => match container.state()? {
                    State::Paused => {
                        Err(Fail::new(1, "cannot start a paused container, try unpause instead"))
                    }
                    state if state.is_alive() => Ok(()),
                    _ => Err(error.into()),
                },
                started => Ok(started?),
            }
        });
    }
    let [name] = args.containers.as_slice() else {
        return Err(Fail::new(1, "you cannot start and attach multiple containers at once"));
    };
    let session = streams::Session::begin(true);
    let engine = Engine::open_default()?;
    let container = container(&engine, name)?;
    let streams =
        if container.state()?.is_alive() { container.attach()? } else { container.start_attached()? };
    session.run(container, streams, args.interactive, &args.detach_keys)
}
