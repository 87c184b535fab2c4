//! `coracle network`.

use std::net::Ipv4Addr;

use coracle::{Engine, Network, NetworkSpec};
use serde_json::{Value, json};

use crate::each::each;
use crate::env;
use crate::fail::{Done, Fail};
use crate::table::Table;
use crate::{units, volume};

/// The network that is made when it is first needed.
const DEFAULT: &str = "bridge";

/// What is always there without being a network of the engine: name, driver, and an id for it (the name's bytes).
const ALWAYS: [(&str, &str, &str); 2] = [
    ("host", "host", "686f737400000000000000000000000000000000000000000000000000000000"),
    ("none", "null", "6e6f6e6500000000000000000000000000000000000000000000000000000000"),
];

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Create(CreateArgs),
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
    Inspect(InspectArgs),
}

/// Create a network
#[derive(clap::Args)]
pub(crate) struct CreateArgs {
    /// Driver to manage the Network
    #[arg(short, long, default_value = "bridge")]
    driver: String,
    /// IPv4 Gateway for the subnet
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<Ipv4Addr>,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Set metadata on a network
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "CIDR")]
    subnet: Vec<String>,
    network: String,
}

/// List networks
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
}

/// Remove one or more networks
#[derive(clap::Args)]
pub(crate) struct RemoveArgs {
    /// Do not error if the network does not exist
    #[arg(short, long)]
    force: bool,
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

/// Display detailed information on one or more networks
#[derive(clap::Args)]
pub(crate) struct InspectArgs {
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

pub(crate) fn run(command: &Command) -> Done {
    match command {
        Command::Create(args) => create(args),
        Command::Ls(args) => list(args),
        Command::Rm(args) => remove(args),
        Command::Inspect(args) => inspect(args),
    }
}

fn create(args: &CreateArgs) -> Done {
    if args.driver != "bridge" {
        let text = format!("network create --driver {}: only bridge is supported yet", args.driver);
        return Err(Fail::new(1, text));
    }
    let mut spec = NetworkSpec::new(&args.network).internal(args.internal);
    match &args.subnet[..] {
        [] => {}
        [subnet] => spec = spec.subnet(subnet),
        _ => return Err(Fail::new(1, "network create --subnet: more than one is not supported yet")),
    }
    if let Some(gateway) = args.gateway {
        spec = spec.gateway(gateway);
    }
    for (key, value) in args.label.iter().map(|text| env::label(text)) {
        spec = spec.label(key, value);
    }
    let network = Engine::open_default()?.create_network(&spec)?;
    crate::out::line(network.id())?;
    Ok(0)
}

fn list(args: &ListArgs) -> Done {
    let engine = Engine::open_default()?;
    engine.network(&NetworkSpec::new(DEFAULT))?;
    let networks = engine.networks()?;
    let of = |network: &Network| (network.name().to_owned(), network.driver(), network.id().to_owned());
    let mut rows: Vec<(String, &str, String)> = networks.iter().map(of).collect();
    rows.extend(ALWAYS.map(|(name, driver, id)| (name.to_owned(), driver, id.to_owned())));
    rows.sort();
    let mut table = Table::new(&["NETWORK ID", "NAME", "DRIVER", "SCOPE"]);
    let mut ids = String::new();
    for (name, driver, id) in rows {
        let id = units::id(&id, args.no_trunc);
        ids += &format!("{id}\n");
        table.row([id.to_owned(), name, driver.to_owned(), "local".to_owned()]);
    }
    if args.quiet {
        crate::out::text(ids)?
    } else {
        crate::out::text(table)?
    }
    Ok(0)
}

/// The network of that name, id or unambiguous beginning of an id.
fn find(engine: &Engine, wanted: &str) -> Result<Option<Network>, Fail> {
    if wanted == DEFAULT {
        return Ok(Some(engine.network(&NetworkSpec::new(DEFAULT))?));
    }
    let networks = engine.networks()?;
    if let Some(network) = networks.iter().find(|network| network.name() == wanted) {
        return Ok(Some(network.clone()));
    }
    let mut meant = networks.into_iter().filter(|network| network.id().starts_with(wanted));
    match (meant.next(), meant.next()) {
        (Some(_), Some(_)) => Err(Fail::new(1, format!("network {wanted} is ambiguous"))),
        (found, _) => Ok(found.filter(|_| !wanted.is_empty())),
    }
}

fn remove(args: &RemoveArgs) -> Done {
    let engine = Engine::open_default()?;
    each(&args.networks, |name| {
        if ALWAYS.iter().any(|(always, ..)| *always == name) {
            return Err(Fail::new(1, format!("{name} is a pre-defined network and cannot be removed")));
        }
        match find(&engine, name)? {
            Some(network) => Ok(engine.remove_network(network.name())?),
            None if args.force => Err(Fail::missing("network", name).with(0)),
            None => Err(Fail::missing("network", name)),
        }
    })
}

fn inspect(args: &InspectArgs) -> Done {
    let engine = Engine::open_default()?;
    volume::inspect_each(&args.networks, |name| {
        if let Some((name, driver, id)) = ALWAYS.iter().find(|(always, ..)| *always == name) {
            return Ok(json!({ "Name": name, "Id": id, "Scope": "local", "Driver": driver }));
        }
        let network = find(&engine, name)?.ok_or_else(|| Fail::missing("network", name))?;
        describe(&network)
    })
}

/// What docker tells of a network, as far as there is such a thing here.
fn describe(network: &Network) -> Result<Value, Fail> {
    let subnet = network.subnet();
    let bits = subnet.split_once('/').map_or("32", |(_, bits)| bits);
    let mut containers = serde_json::Map::new();
    for one in network.attached()? {
        let name = one.names.first().cloned().unwrap_or_default();
        let address = format!("{}/{bits}", one.address);
        containers.insert(one.container, json!({ "Name": name, "IPv4Address": address }));
    }
    Ok(json!({
        "Name": network.name(),
        "Id": network.id(),
        "Created": volume::rfc3339(network.created()),
        "Scope": "local",
        "Driver": network.driver(),
        "EnableIPv4": true,
        "EnableIPv6": false,
        "IPAM": {
            "Driver": "default",
            "Options": {},
            "Config": [{ "Subnet": subnet, "Gateway": network.gateway().to_string() }],
        },
        "Internal": network.is_internal(),
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": containers,
        "Options": {},
        "Labels": network.labels(),
    }))
}
