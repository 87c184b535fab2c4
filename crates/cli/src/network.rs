//! `coracle network`.

use std::net::IpAddr;

use coracle::{Engine, NetworkSpec};

use crate::connect::{self, ConnectArgs, DisconnectArgs};
use crate::dialect::switch;
use crate::each::each;
use crate::fail::{Done, Fail};
use crate::filter::{self, Filters};
use crate::inspect::network::{ALWAYS, DEFAULT, Found};
use crate::list::{self, Listing};
use crate::network_prune::{self, PruneArgs};
use crate::template::Value;
use crate::{env, inspect, units};

/// `docker network ls`.
const LISTING: Listing = Listing {
    kind: "*network.networkContext",
    headings: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv6", "IPV6"),
        ("IPv4", "IPV4"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    columns: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    quiet: "{{.ID}}",
    raw: "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Create(CreateArgs),
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
    Inspect(InspectArgs),
    Connect(ConnectArgs),
    Disconnect(DisconnectArgs),
    Prune(PruneArgs),
}

/// Create a network
#[derive(clap::Args)]
pub(crate) struct CreateArgs {
    /// Driver to manage the Network
    #[arg(short, long, default_value = "bridge")]
    driver: String,
    /// Auxiliary IPv4 or IPv6 addresses used by Network driver
    #[arg(long, value_name = "NAME=ADDRESS")]
    aux_address: Vec<String>,
    /// IPv4 or IPv6 Gateway for the subnet
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    gateway: Vec<IpAddr>,
    /// Allocate container ip from a sub-range
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// IP Address Management Driver
    #[arg(long, value_name = "DRIVER", default_value = "default")]
    ipam_driver: String,
    /// Enable IPv4 address assignment
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value = "true", action = clap::ArgAction::Set, value_parser = switch)]
    ipv4: bool,
    /// Enable IPv6 address assignment
    #[arg(long)]
    ipv6: bool,
    /// Set driver specific options
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Set metadata on a network
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Control the network's scope
    #[arg(long, value_name = "SCOPE", default_value = "local")]
    scope: String,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    subnet: Vec<String>,
    network: String,
}

/// List networks
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter::pair)]
    filter: Vec<(String, String)>,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    flags: list::Flags,
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
    #[command(flatten)]
    format: inspect::Format,
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
    /// Verbose output for diagnostics
    // docker's word for what only swarms have.
    #[arg(short, long)]
    verbose: bool,
}

pub(crate) fn run(command: &Command) -> Done {
    match command {
        Command::Create(args) => create(args),
        Command::Ls(args) => list(args),
        Command::Rm(args) => remove(args),
        Command::Inspect(args) => inspect(args),
        Command::Connect(args) => connect::connect(args),
        Command::Disconnect(args) => connect::disconnect(args),
        Command::Prune(args) => network_prune::prune(args),
    }
}

fn create(args: &CreateArgs) -> Done {
    let only = |flag: &str, value: &str, known: &str| match value == known {
        true => Ok(()),
        false => Err(Fail::new(1, format!("network create --{flag} {value}: only `{known}` is supported"))),
    };
    only("ipam-driver", &args.ipam_driver, "default")?;
    only("scope", &args.scope, "local")?;
    if !args.ipv4 {
        return Err(Fail::new(1, "network create --ipv4=false: a network without IPv4 is not supported yet"));
    }
    let mut spec = NetworkSpec::new(&args.network).driver(&args.driver);
    spec = spec.internal(args.internal).ipv6(args.ipv6);
    spec = args.subnet.iter().fold(spec, NetworkSpec::subnet);
    spec = args.ip_range.iter().fold(spec, NetworkSpec::range);
    spec = args.gateway.iter().fold(spec, |spec, gateway| spec.gateway(*gateway));
    for text in &args.aux_address {
        let read =
            text.split_once('=').and_then(|(name, address)| Some((name, address.parse::<IpAddr>().ok()?)));
        let Some((name, address)) = read else {
            let text = format!("network create --aux-address {text}: it must be name=address");
            return Err(Fail::new(1, text));
        };
        spec = spec.reserve(name, address);
    }
    for (key, value) in args.opt.iter().map(|text| env::label(text)) {
        spec = spec.option(key, value);
    }
    for (key, value) in args.label.iter().map(|text| env::label(text)) {
        spec = spec.label(key, value);
    }
    let network = Engine::open_default()?.create_network(&spec)?;
    crate::out::line(network.id())?;
    Ok(0)
}

fn list(args: &ListArgs) -> Done {
    let filters =
        Filters::new(&args.filter, &["driver", "id", "label", "name", "scope", "type", "dangling"])?;
    let engine = Engine::open_default()?;
    let mut networks = inspect::network::all(&engine)?;
    networks.sort_by(|a, b| a.name().cmp(b.name()));
    let mut rows = Vec::new();
    for network in &networks {
        let own = !matches!(network.name(), DEFAULT | "host" | "none");
        let kept = filters.names("name", network.name())?
            && filters.names("id", network.id())?
            && filters.exactly("driver", network.driver())
            && filters.exactly("scope", "local")
            && filters.exactly("type", if own { "custom" } else { "builtin" })
            && filters.labels(network.labels())
            && filters.flag("dangling", || Ok(own && !network.is_used()?))?;
        if kept {
            rows.push(row(network, args.no_trunc));
        }
    }
    crate::out::text(LISTING.render(&args.flags, &rows)?)?;
    Ok(0)
}

fn row(network: &Found, whole: bool) -> Value {
    let text = |yes: bool| Value::from(if yes { "true" } else { "false" });
    let real = matches!(network, Found::Own(_));
    let fields = [
        ("ID", units::id(network.id(), whole).into()),
        ("Name", network.name().into()),
        ("Driver", network.driver().into()),
        ("Scope", "local".into()),
        ("IPv4", text(real)),
        ("IPv6", text(network.has_ipv6())),
        ("Internal", text(network.is_internal())),
        ("CreatedAt", network.created().map_or_else(String::new, units::date).into()),
    ];
    list::row(&LISTING, fields, Some(network.labels()))
}

fn remove(args: &RemoveArgs) -> Done {
    let engine = Engine::open_default()?;
    each(&args.networks, |name| {
        if ALWAYS.iter().any(|(always, ..)| *always == name) {
            return Err(Fail::new(1, format!("{name} is a pre-defined network and cannot be removed")));
        }
        match inspect::network::find(&engine, name)? {
            Some(network) => Ok(engine.remove_network(network.name())?),
            None if args.force => Err(Fail::missing("network", name).with(0)),
            None => Err(Fail::missing("network", name)),
        }
    })
}

fn inspect(args: &InspectArgs) -> Done {
    let engine = Engine::open_default()?;
    inspect::each(&args.networks, &args.format, |name| match inspect::network::find(&engine, name)? {
        Some(network) => inspect::network::describe(&network),
        None => Err(Fail::missing("network", name)),
    })
}
