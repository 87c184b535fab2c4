//! The flags of `run` and `create` about networks, names and ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use coracle::{ConnectSpec, ContainerSpec, Mac, Port, Publish};

use super::not_yet;
use crate::fail::Fail;

#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Flags {
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "HOST:IP", value_parser = host)]
    add_host: Vec<(String, Address)>,
    /// Set custom DNS servers
    #[arg(long, value_name = "ADDRESS", value_parser = server)]
    dns: Vec<IpAddr>,
    /// Set DNS options
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Set custom DNS search domains
    #[arg(long, value_name = "DOMAIN", value_parser = domain)]
    dns_search: Vec<String>,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "PORT[-PORT][/PROTOCOL]", value_parser = Exposed::parse)]
    expose: Vec<Exposed>,
    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// IPv6 address (e.g., 2001:db8::33)
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    /// Add link to another container
    #[arg(long, value_name = "NAME[:ALIAS]", value_parser = link)]
    link: Vec<(String, String)>,
    /// Container IPv4/IPv6 link-local addresses
    #[arg(long, value_name = "ADDRESS", value_parser = server)]
    link_local_ip: Vec<IpAddr>,
    /// Container MAC address (e.g., 92:d0:c6:0a:29:33)
    #[arg(long, value_name = "ADDRESS", value_parser = mac)]
    mac_address: Option<[u8; 6]>,
    /// Connect a container to a network
    #[arg(long, alias = "net", value_name = "NETWORK", value_parser = Attachment::parse)]
    network: Vec<Attachment>,
    /// Add network-scoped alias for the container
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// Publish a container's port(s) to the host
    #[arg(short = 'p', long, value_name = "[[ADDRESS:]PORT:]PORT[/PROTOCOL]", value_parser = publish)]
    publish: Vec<Published>,
    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long)]
    publish_all: bool,
}

/// What they make of the spec.
pub(super) fn apply(flags: &Flags, spec: ContainerSpec) -> Result<ContainerSpec, Fail> {
    if !flags.link.is_empty() {
        let text = "run --link: not supported; on one network containers find each other by name, and --network-alias \
                    gives them more";
        return Err(Fail::new(125, text));
    }
    not_yet(&[("--link-local-ip", !flags.link_local_ip.is_empty())])?;
    let (mut spec, mode) = networks(spec, flags)?;
    conflicts(flags, mode)?;
    for (name, address) in &flags.add_host {
        spec = match address {
            Address::Is(address) => spec.add_host(name, *address),
            Address::Gateway => spec.add_host_gateway(name),
        };
    }
    spec = flags.dns.iter().fold(spec, |spec, server| spec.dns(*server));
    spec = flags.dns_search.iter().fold(spec, ContainerSpec::dns_search);
    spec = flags.dns_option.iter().fold(spec, ContainerSpec::dns_option);
    spec = flags.expose.iter().flat_map(Exposed::ports).fold(spec, ContainerSpec::expose);
    if flags.publish_all {
        spec = spec.publish_exposed();
    }
    match mode {
        Mode::Host | Mode::None => {
            if mode == Mode::Host && !flags.publish.is_empty() {
                crate::out::say("WARNING: Published ports are discarded when using host network mode");
            }
            Ok(spec)
        }
        Mode::Own | Mode::Shared => {
            let ports = flags.publish.iter().flat_map(|published| published.0.iter().cloned());
            Ok(ports.fold(spec, ContainerSpec::publish))
        }
    }
}

/// What kind of network it has.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Host,
    None,
    Shared,
    Own,
}

fn refuse<T>(text: impl std::fmt::Display) -> Result<T, Fail> {
    Err(Fail::new(125, format!("conflicting options: {text}")))
}

/// What docker refuses with a network that is somebody else's.
fn conflicts(flags: &Flags, mode: Mode) -> Result<(), Fail> {
    if matches!(mode, Mode::Shared | Mode::Host) && flags.mac_address.is_some() {
        return refuse("mac-address and the network mode");
    }
    if mode != Mode::Shared {
        return Ok(());
    }
    let asked = [
        (!flags.dns.is_empty(), "dns and the network mode"),
        (!flags.add_host.is_empty(), "custom host-to-IP mapping and the network mode"),
        (
            !flags.publish.is_empty() || flags.publish_all,
            "port publishing and the container type network mode",
        ),
        (!flags.expose.is_empty(), "port exposing and the container type network mode"),
    ];
    asked.iter().find(|(asked, _)| *asked).map_or(Ok(()), |(_, text)| refuse(text))
}

fn networks(mut spec: ContainerSpec, flags: &Flags) -> Result<(ContainerSpec, Mode), Fail> {
    let mut wanted = flags.network.clone();
    let usual = Attachment { network: "bridge".into(), ..Attachment::default() };
    if wanted.is_empty() {
        wanted.push(usual.clone());
    }
    // docker's other flags are about the first network.
    flags.complete(&mut wanted[0])?;
    if wanted == [usual] {
        return Ok((spec, Mode::Own)); // what a spec that says nothing means
    }
    let alone = wanted.len() == 1;
    let mut names: Vec<&str> = Vec::new();
    for one in &wanted {
        let name = match one.network.as_str() {
            "default" => "bridge",
            name => name,
        };
        if names.contains(&name) {
            return Err(Fail::new(125, format!("network {name:?} is specified multiple times")));
        }
        names.push(name);
        let (special, mode) = match name.strip_prefix("container:") {
            Some(container) => (spec.clone().network_of(container), Mode::Shared),
            None if name == "host" => (spec.clone().host_network(), Mode::Host),
            None if name == "none" => (spec.clone().no_network(), Mode::None),
            None => {
                spec = spec.connect(one.place(name)?);
                continue;
            }
        };
        if !alone {
            return refuse("cannot attach both user-defined and non-user-defined network-modes");
        }
        if one.has_addresses() {
            let text = "user specified IP address is supported on user defined networks only";
            return Err(Fail::new(125, text));
        }
        if !one.aliases.is_empty() {
            let text = "network-scoped aliases are only supported for user-defined networks";
            return Err(Fail::new(125, text));
        }
        return Ok((special, mode));
    }
    Ok((spec, Mode::Own))
}

impl Flags {
    /// What is said beside a network, which must not be said twice.
    fn complete(&self, first: &mut Attachment) -> Result<(), Fail> {
        let twice =
            |flag: &str, what: &str| refuse(format!("cannot specify both {flag} and per-network {what}"));
        if !self.network_alias.is_empty() {
            if !first.aliases.is_empty() {
                return twice("--network-alias", "alias");
            }
            first.aliases.clone_from(&self.network_alias);
        }
        if self.ip.is_some() {
            if first.ip.is_some() {
                return twice("--ip", "IPv4 address");
            }
            first.ip = self.ip;
        }
        if self.ip6.is_some() {
            if first.ip6.is_some() {
                return twice("--ip6", "IPv6 address");
            }
            first.ip6 = self.ip6;
        }
        if self.mac_address.is_some() {
            if first.mac.is_some() {
                return twice("--mac-address", "MAC address");
            }
            first.mac = self.mac_address;
        }
        Ok(())
    }
}

/// A place in a network, in the short form (a name) or in the long one (`name=…,alias=…,ip=…`).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Attachment {
    pub(crate) network: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) ip: Option<Ipv4Addr>,
    pub(crate) ip6: Option<Ipv6Addr>,
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) driver_options: Vec<(String, String)>,
    pub(crate) link_local: Vec<IpAddr>,
    /// The network with the highest one has the way out.
    pub(crate) priority: i64,
}

impl Attachment {
    fn parse(text: &str) -> Result<Attachment, String> {
        let mut one = Attachment::default();
        if !text.contains('=') {
            one.network = text.to_owned();
            return Ok(one);
        }
        for field in text.split(',') {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| format!("invalid field {field}"))
                .map(|(key, value)| (key.trim().to_lowercase(), value.trim()))?;
            let address = |kind: &str| format!("invalid {kind} address {value:?}");
            match key.as_str() {
                "name" => one.network = value.to_owned(),
                "alias" => one.aliases.push(value.to_owned()),
                "ip" => one.ip = Some(value.parse().map_err(|_| address("IPv4"))?),
                "ip6" => one.ip6 = Some(value.parse().map_err(|_| address("IPv6"))?),
                "mac-address" => one.mac = Some(mac(value)?),
                "link-local-ip" => one.link_local.push(server(value)?),
                "driver-opt" => {
                    let pair =
                        value.split_once('=').ok_or("invalid key value pair format in driver options")?;
                    one.driver_options.push((pair.0.trim().to_lowercase(), pair.1.trim().to_owned()));
                }
                "gw-priority" => {
                    one.priority = value
                        .parse()
                        .map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
                }
                _ => return Err(format!("invalid field key {key}")),
            }
        }
        if one.network.is_empty() {
            return Err("network name/id is not specified".into());
        }
        Ok(one)
    }

    fn has_addresses(&self) -> bool {
        self.ip.is_some() || self.ip6.is_some()
    }

    /// The place in this network that it asks for.
    fn place(&self, network: &str) -> Result<ConnectSpec, Fail> {
        let mut place = self.aliases.iter().fold(ConnectSpec::new(network), ConnectSpec::alias);
        if let Some(address) = self.ip {
            place = place.ip(address);
        }
        if let Some(address) = self.ip6 {
            place = place.ip6(address);
        }
        if let Some(bytes) = self.mac {
            place = place.mac(Mac(bytes));
        }
        if !self.link_local.is_empty() {
            return Err(Fail::new(125, format!("run --network {network}: link-local-ip: not supported yet")));
        }
        Ok(options(place, &self.driver_options, "run --network")?.priority(self.priority))
    }
}

/// The name of the interface, of all that docker has for one endpoint.
const INTERFACE: &str = "com.docker.network.endpoint.ifname";

/// A place with docker's driver options for endpoints.
pub(crate) fn options(
    place: ConnectSpec,
    options: &[(String, String)],
    verb: &str,
) -> Result<ConnectSpec, Fail> {
    options.iter().try_fold(place, |place, (key, value)| match key.as_str() {
        INTERFACE => Ok(place.interface(value)),
        other => Err(Fail::new(125, format!("{verb}: driver option {other}: not supported yet"))),
    })
}

/// An address for a name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Address {
    Is(IpAddr),
    /// The host's, as the container sees it.
    Gateway,
}

/// `name:address`, or `name=address`.
fn host(text: &str) -> Result<(String, Address), String> {
    let split = text.split_once(['=', ':']).filter(|(name, _)| !name.is_empty());
    let (name, address) = split.ok_or_else(|| format!("bad format for add-host: {text:?}"))?;
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    match bare.parse() {
        Ok(address) => Ok((name.to_owned(), Address::Is(address))),
        Err(_) if bare == "host-gateway" => Ok((name.to_owned(), Address::Gateway)),
        Err(_) => Err(format!("invalid IP address in add-host: {address:?}")),
    }
}

fn server(text: &str) -> Result<IpAddr, String> {
    text.trim().parse().map_err(|_| format!("IP address is not correctly formatted: {text}"))
}

/// `.` alone is none at all.
fn domain(text: &str) -> Result<String, String> {
    let text = text.trim();
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let valid = text == "." || (text.len() < 255 && text.trim_end_matches('.').split('.').all(label));
    if valid { Ok(text.to_owned()) } else { Err(format!("{text} is not a valid domain")) }
}

fn link(text: &str) -> Result<(String, String), String> {
    match text.split(':').collect::<Vec<_>>()[..] {
        [""] => Err("empty string specified for links".into()),
        [name] => Ok((name.to_owned(), name.to_owned())),
        [name, alias] => Ok((name.to_owned(), alias.to_owned())),
        _ => Err(format!("bad format for links: {text}")),
    }
}

fn mac(text: &str) -> Result<[u8; 6], String> {
    let invalid = || format!("{text} is not a valid mac address");
    let mut bytes = [0; 6];
    let parts: Vec<&str> = text.split([':', '-']).collect();
    if parts.len() != bytes.len() {
        return Err(invalid());
    }
    for (byte, part) in bytes.iter_mut().zip(parts) {
        let fits = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        *byte = u8::from_str_radix(part, 16).ok().filter(|_| fits).ok_or_else(invalid)?;
    }
    Ok(bytes)
}

/// What one `-p` asks for.
#[derive(Clone, Debug)]
struct Published(Vec<Publish>);

fn publish(text: &str) -> Result<Published, String> {
    Publish::parse(&short(text)?).map(Published).map_err(|error| error.to_string())
}

/// `published=8080,target=80,protocol=tcp` in the short form, as docker reads it.
fn short(text: &str) -> Result<String, String> {
    if !text.contains('=') {
        return Ok(text.to_owned());
    }
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("published", value)) => published = value,
            Some(("target", value)) => target = value,
            Some(("protocol", value)) => protocol = value,
            Some(("mode", "host")) => {}
            _ => return Err(format!("invalid publish opts format (should be name=value but got '{field}')")),
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// Ports that a container says that it serves.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Exposed {
    pub(crate) first: u16,
    pub(crate) last: u16,
    /// `tcp`, `udp`, `sctp`.
    pub(crate) protocol: String,
}

impl Exposed {
    fn ports(&self) -> impl Iterator<Item = Port> {
        let port = match self.protocol.as_str() {
            "udp" => coracle::udp,
            "sctp" => coracle::sctp,
            _ => coracle::tcp,
        };
        (self.first..=self.last).map(port)
    }

    fn parse(text: &str) -> Result<Exposed, String> {
        if text.contains(':') {
            return Err(format!("invalid port format for --expose: {text}"));
        }
        let invalid = |why: String| format!("invalid range format for --expose: {text}, error: {why}");
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let port = |text: &str| {
            text.parse::<u16>()
                .map_err(|_| invalid(format!("strconv.ParseUint: parsing {text:?}: invalid syntax")))
        };
        let (first, last) = (port(first)?, port(last)?);
        if last < first || first == 0 {
            return Err(invalid(format!("invalid range specified for port: {range}")));
        }
        if !matches!(protocol, "tcp" | "udp" | "sctp") {
            return Err(format!("invalid proto: {protocol}"));
        }
        Ok(Exposed { first, last, protocol: protocol.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_networks() {
        let text = "name=a,alias=x,alias=y,ip=10.0.0.2,ip6=::2,mac-address=92:d0:c6:0a:29:33,driver-opt=a=b,gw-priority=2";
        let one = Attachment::parse(text).unwrap();
        assert_eq!((one.network.as_str(), one.priority), ("a", 2));
        assert_eq!(one.aliases, ["x", "y"]);
        assert_eq!(one.ip, Some([10, 0, 0, 2].into()));
        assert_eq!(one.mac, Some([0x92, 0xd0, 0xc6, 0x0a, 0x29, 0x33]));
        assert_eq!(one.driver_options, [("a".to_owned(), "b".to_owned())]);
        let plain = Attachment { network: "net".into(), ..Attachment::default() };
        assert_eq!(Attachment::parse("net").unwrap(), plain);
        assert_eq!(Attachment::parse("name=net").unwrap(), plain);
        for (text, problem) in [
            ("name=a,x", "invalid field x"),
            ("name=a,x=y", "invalid field key x"),
            ("alias=x", "network name/id is not specified"),
            ("name=a,ip=x", "invalid IPv4 address"),
        ] {
            assert!(Attachment::parse(text).unwrap_err().contains(problem), "{text}");
        }
    }

    #[test]
    fn addresses_and_names() {
        assert_eq!(host("far:10.9.8.7").unwrap().1, Address::Is([10, 9, 8, 7].into()));
        assert_eq!(host("six=[::1]").unwrap(), ("six".into(), Address::Is(IpAddr::V6(Ipv6Addr::LOCALHOST))));
        assert_eq!(host("b=host-gateway").unwrap().1, Address::Gateway);
        assert_eq!(host("x").unwrap_err(), "bad format for add-host: \"x\"");
        assert_eq!(host("x:y").unwrap_err(), "invalid IP address in add-host: \"y\"");
        assert_eq!(server("x").unwrap_err(), "IP address is not correctly formatted: x");
        assert_eq!(domain("a.b").unwrap(), "a.b");
        assert_eq!(domain("a b").unwrap_err(), "a b is not a valid domain");
        assert_eq!(link("db:alias").unwrap().1, "alias");
        assert_eq!(link("a:b:c").unwrap_err(), "bad format for links: a:b:c");
        assert_eq!(mac("xx").unwrap_err(), "xx is not a valid mac address");
        assert!(mac("92:d0:c6:0a:29:+3").is_err());
    }

    #[test]
    fn long_ports() {
        let read = |text: &str| short(text).unwrap();
        assert_eq!(read("published=8080,target=80"), "8080:80/tcp");
        assert_eq!(read("target=53,protocol=udp"), ":53/udp");
        assert_eq!(read("8080:80"), "8080:80");
        assert!(short("target=80,mode").unwrap_err().contains("but got 'mode'"));
        assert!(publish("published=1,target=x").is_err());
    }

    #[test]
    fn ports_to_expose() {
        let exposed = |first, last, protocol: &str| Ok(Exposed { first, last, protocol: protocol.into() });
        assert_eq!(Exposed::parse("80"), exposed(80, 80, "tcp"));
        assert_eq!(Exposed::parse("90-92/udp"), exposed(90, 92, "udp"));
        for (text, problem) in [
            (
                "x",
                "invalid range format for --expose: x, error: strconv.ParseUint: parsing \"x\": invalid syntax",
            ),
            ("80:90", "invalid port format for --expose: 80:90"),
            ("9-8", "invalid range specified for port: 9-8"),
            ("80/x", "invalid proto: x"),
        ] {
            assert!(Exposed::parse(text).unwrap_err().contains(problem), "{text}");
        }
    }
}
