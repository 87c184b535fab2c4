//! `coracle attach`.

use coracle::{Engine, State};

use crate::each::container;
use crate::fail::{Done, Fail};
use crate::streams;

/// Attach local standard input, output, and error streams to a running container
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = streams::DETACH, value_parser = streams::keys)]
    detach_keys: streams::Keys,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    sig_proxy: bool,
    container: String,
}

/// Its streams are ours until it ends, or the keys to detach are typed.
pub(crate) fn run(args: &Args) -> Done {
    let session = streams::Session::begin(args.sig_proxy);
    let engine = Engine::open_default()?;
    let container = container(&engine, &args.container)?;
    match container.state()? {
        State::Running => {}
        State::Restarting => {
            return Err(Fail::new(
                1,
                "you cannot attach to a restarting container, wait until it is running",
            ));
        }
        _ => return Err(Fail::new(1, "you cannot attach to a stopped container, start it first")),
    }
    let streams = container.attach()?;
    session.run(container, streams, !args.no_stdin, &args.detach_keys)
}
