//! `coracle network connect` and `disconnect`.

use std::net::{Ipv4Addr, Ipv6Addr};

use coracle::{ConnectSpec, Engine, Kind};

use crate::each::container;
use crate::env;
use crate::fail::{Done, Fail};

/// Connect a container to a network
#[derive(clap::Args)]
pub(crate) struct ConnectArgs {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// IPv6 address (e.g., "2001:db8::33")
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    /// driver options for the network
    #[arg(long, value_name = "KEY=VALUE")]
    driver_opt: Vec<String>,
    #[arg(value_name = "NETWORK")]
    network: String,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Disconnect a container from a network
#[derive(clap::Args)]
pub(crate) struct DisconnectArgs {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    force: bool,
    #[arg(value_name = "NETWORK")]
    network: String,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(crate) fn connect(args: &ConnectArgs) -> Done {
    let engine = Engine::open_default()?;
    let network = network(&engine, &args.network)?;
    let mut spec = args.alias.iter().fold(ConnectSpec::new(network), ConnectSpec::alias);
    if let Some(address) = args.ip {
        spec = spec.ip(address);
    }
    if let Some(address) = args.ip6 {
        spec = spec.ip6(address);
    }
    let options: Vec<_> = args.driver_opt.iter().map(|text| env::label(text)).collect();
    spec = crate::run::options(spec, &options, "network connect --driver-opt")?;
    container(&engine, &args.container)?.connect(&spec)?;
    Ok(0)
}

/// With `-f` it is fine that the container is gone, or not in that network.
pub(crate) fn disconnect(args: &DisconnectArgs) -> Done {
    let engine = Engine::open_default()?;
    let network = network(&engine, &args.network)?;
    let mut container = match container(&engine, &args.container) {
        Err(_) if args.force => return Ok(0),
        found => found?,
    };
    match container.disconnect(&network) {
        Err(error) if args.force && error.kind() == Kind::NotFound => Ok(0),
        done => Ok(done.map(|()| 0)?),
    }
}

/// A network goes by its name, or the beginning of its id.
fn network(engine: &Engine, name: &str) -> Result<String, Fail> {
    let found = crate::inspect::network::find(engine, name)?;
    found
        .map(|found| found.name().to_owned())
        .ok_or_else(|| Fail::new(1, format!("network {name} not found")))
}
