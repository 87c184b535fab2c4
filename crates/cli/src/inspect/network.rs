//! Networks as docker's JSON.

use std::collections::BTreeMap;
use std::net::IpAddr;

use coracle::{Engine, Network, NetworkSpec};
use jiff::Timestamp;

use crate::fail::Fail;
use crate::template::Value;

/// The network that is made when it is first needed.
pub(crate) const DEFAULT: &str = "bridge";

/// What is always there without being a network of the engine: name, driver, and an id for it (the name's bytes).
pub(crate) const ALWAYS: [(&str, &str, &str); 2] = [
    ("host", "host", "686f737400000000000000000000000000000000000000000000000000000000"),
    ("none", "null", "6e6f6e6500000000000000000000000000000000000000000000000000000000"),
];

/// A network of the engine, or one of those that are always there.
pub(crate) enum Found {
    Own(Network),
    Always { name: &'static str, driver: &'static str, id: &'static str },
}

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

impl Found {
    pub(crate) fn name(&self) -> &str {
        match self {
            Found::Own(network) => network.name(),
            Found::Always { name, .. } => name,
        }
    }

    pub(crate) fn id(&self) -> &str {
        match self {
            Found::Own(network) => network.id(),
            Found::Always { id, .. } => id,
        }
    }

    pub(crate) fn driver(&self) -> &str {
        match self {
            Found::Own(network) => network.driver(),
            Found::Always { driver, .. } => driver,
        }
    }

    pub(crate) fn labels(&self) -> &BTreeMap<String, String> {
        match self {
            Found::Own(network) => network.labels(),
            Found::Always { .. } => &NO_LABELS,
        }
    }

    pub(crate) fn is_internal(&self) -> bool {
        matches!(self, Found::Own(network) if network.is_internal())
    }

    /// When it was made; those that are always there were never made.
    pub(crate) fn created(&self) -> Option<Timestamp> {
        match self {
            Found::Own(network) => Timestamp::try_from(network.created()).ok(),
            Found::Always { .. } => None,
        }
    }

    /// Whether it has IPv6.
    pub(crate) fn has_ipv6(&self) -> bool {
        match self {
            Found::Own(network) => network.has_ipv6(),
            Found::Always { .. } => false,
        }
    }

    /// Whether a container is on it now.
    pub(crate) fn is_used(&self) -> Result<bool, Fail> {
        match self {
            Found::Own(network) => Ok(!network.attached()?.is_empty()),
            Found::Always { .. } => Ok(false),
        }
    }
}

/// All of them; the default one is made for it.
pub(crate) fn all(engine: &Engine) -> Result<Vec<Found>, Fail> {
    engine.network(&NetworkSpec::new(DEFAULT))?;
    let always = ALWAYS.map(|(name, driver, id)| Found::Always { name, driver, id });
    Ok(engine.networks()?.into_iter().map(Found::Own).chain(always).collect())
}

/// The network of that name, id or unambiguous beginning of an id.
pub(crate) fn find(engine: &Engine, wanted: &str) -> Result<Option<Found>, Fail> {
    // Only this one is made by asking for it.
    if wanted == DEFAULT {
        return Ok(Some(Found::Own(engine.network(&NetworkSpec::new(DEFAULT))?)));
    }
    let always = ALWAYS.map(|(name, driver, id)| Found::Always { name, driver, id });
    let networks: Vec<Found> = engine.networks()?.into_iter().map(Found::Own).chain(always).collect();
    let by_name = networks.iter().position(|network| network.name() == wanted);
    let mut meant = match by_name {
        Some(index) => vec![index],
        None => (0..networks.len()).filter(|index| networks[*index].id().starts_with(wanted)).collect(),
    };
    if wanted.is_empty() {
        meant.clear();
    }
    match meant[..] {
        [] => Ok(None),
        [index] => Ok(networks.into_iter().nth(index)),
        _ => Err(Fail::new(1, format!("network {wanted} is ambiguous"))),
    }
}

/// What docker tells of a network, as far as there is such a thing here.
pub(crate) fn describe(found: &Found) -> Result<Value, Fail> {
    let no = || Value::Bool(false);
    let (config, containers, options) = match found {
        Found::Own(network) => (addresses(network), containers(network)?, network.options().into()),
        Found::Always { .. } => (Value::NoList, Value::map::<&str, Value>([]), Value::map::<&str, Value>([])),
    };
    let created = found.created().map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |time| time.to_string());
    Ok(Value::fields([
        ("Name", found.name().into()),
        ("Id", found.id().into()),
        ("Created", created.into()),
        ("Scope", "local".into()),
        ("Driver", found.driver().into()),
        ("EnableIPv4", true.into()),
        ("EnableIPv6", found.has_ipv6().into()),
        (
            "IPAM",
            Value::fields([
                ("Driver", "default".into()),
                ("Options", Value::map::<&str, Value>([])),
                ("Config", config),
            ]),
        ),
        ("Internal", found.is_internal().into()),
        ("Attachable", no()),
        ("Ingress", no()),
        ("ConfigFrom", Value::fields([("Network", "".into())])),
        ("ConfigOnly", no()),
        ("Containers", containers),
        ("Options", options),
        ("Labels", found.labels().into()),
    ]))
}

fn addresses(network: &Network) -> Value {
    Value::list(network.pools().iter().map(|pool| {
        let mut fields = vec![("Subnet", Value::from(pool.subnet.to_string()))];
        fields.extend(pool.range.map(|range| ("IPRange", range.to_string().into())));
        fields.push(("Gateway", pool.gateway.to_string().into()));
        if !pool.reserved.is_empty() {
            let reserved = pool.reserved.iter().map(|(name, address)| (name.clone(), address.to_string()));
            fields.push(("AuxiliaryAddresses", Value::map(reserved)));
        }
        Value::fields(fields)
    }))
}

fn containers(network: &Network) -> Result<Value, Fail> {
    let whole = |address: IpAddr| {
        let pool = network.pools().iter().find(|pool| pool.subnet.contains(address));
        pool.map(|pool| format!("{address}/{}", pool.subnet.prefix_len())).unwrap_or_default()
    };
    let attached = network.attached()?.into_iter().map(|one| {
        let name = one.names.first().cloned().unwrap_or_default();
        let fields = [
            ("Name", name.into()),
            ("MacAddress", one.mac.to_string().into()),
            ("IPv4Address", whole(one.address.into()).into()),
            ("IPv6Address", one.ipv6.map(|ipv6| whole(ipv6.into())).unwrap_or_default().into()),
        ];
        (one.container, Value::fields(fields))
    });
    Ok(Value::map(attached))
}
