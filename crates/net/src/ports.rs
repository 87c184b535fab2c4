//! Published ports as values: what is asked for, what was given, and docker's way to write it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::{Error, Kind, Result};

/// A transport protocol that ports can be published of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Protocol {
    /// TCP (RFC 9293).
    Tcp,
    /// UDP (RFC 768).
    Udp,
    /// SCTP (RFC 9260).
    Sctp,
}

impl Protocol {
    /// `tcp`, `udp` or `sctp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// The number in an IP header.
    pub(crate) fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One port of a namespace that the host's neighbours, or the host alone, shall reach.
///
/// ```
/// use coracle_net::ports::{Publish, parse};
/// let web = Publish::tcp(80).host_port(8080).on([127, 0, 0, 1]);
/// assert_eq!(parse("127.0.0.1:8080:80")?, [web]);
/// # Ok::<(), coracle_net::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Publish {
    pub(crate) host: Option<IpAddr>,
    pub(crate) host_ports: Option<(u16, u16)>,
    pub(crate) container_port: u16,
    pub(crate) protocol: Protocol,
}

impl Publish {
    /// A port of the namespace, on a free port of all addresses of the host: those of IPv6, too, where the network has
    /// it, on the same port.
    pub fn new(container_port: u16, protocol: Protocol) -> Publish {
        Publish { host: None, host_ports: None, container_port, protocol }
    }

    /// [`Publish::new`] for TCP.
    pub fn tcp(container_port: u16) -> Publish {
        Publish::new(container_port, Protocol::Tcp)
    }

    /// [`Publish::new`] for UDP.
    pub fn udp(container_port: u16) -> Publish {
        Publish::new(container_port, Protocol::Udp)
    }

    /// On this address of the host only; `0.0.0.0` is all its IPv4 addresses, `::` all its IPv6 addresses. What is
    /// published on IPv6 addresses is reached by IPv6 only, and needs a network that has it.
    pub fn on(mut self, address: impl Into<IpAddr>) -> Publish {
        self.host = Some(address.into());
        self
    }

    /// On this port of the host; 0 is any free one.
    pub fn host_port(self, port: u16) -> Publish {
        self.host_ports(port..=port)
    }

    /// On the first port of the host's in this range that is free.
    pub fn host_ports(mut self, ports: RangeInclusive<u16>) -> Publish {
        self.host_ports = Some((*ports.start(), *ports.end())).filter(|ports| *ports != (0, 0));
        self
    }

    /// The port inside.
    pub fn container_port(&self) -> u16 {
        self.container_port
    }

    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The address of the host, where it was given.
    pub fn host(&self) -> Option<IpAddr> {
        self.host
    }

    /// The ports of the host to choose from; `None` is any.
    pub fn wanted(&self) -> Option<RangeInclusive<u16>> {
        self.host_ports.map(|(first, last)| first..=last)
    }

    /// The host's addresses that it is bound on. `binding` is what stands for none, `ipv6` whether the network has it.
    pub(crate) fn addresses(&self, binding: Option<IpAddr>, ipv6: bool) -> Vec<IpAddr> {
        match self.host.or(binding) {
            Some(host) => vec![host],
            None if ipv6 => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            None => vec![Ipv4Addr::UNSPECIFIED.into()],
        }
    }

    pub(crate) fn problem(&self) -> Option<String> {
        match self.host_ports {
            _ if self.container_port == 0 => Some("port 0 of a container can't be published".into()),
            Some((first, last)) if first == 0 || first > last => {
                Some(format!("{first}-{last} is no range of ports"))
            }
            _ if self.host == Some(Ipv6Addr::LOCALHOST.into()) => {
                Some(format!("{self}: the kernel translates nothing that is sent to [::1]; 127.0.0.1 works"))
            }
            _ if self.host.is_some_and(|host| host.is_multicast() || host == Ipv4Addr::BROADCAST) => {
                Some(format!("{} is no address of one host", self.host.unwrap_or(Ipv4Addr::BROADCAST.into())))
            }
            _ => None,
        }
    }

    /// As it is before it is bound, for plans.
    pub(crate) fn unbound(&self, binding: Option<IpAddr>, ipv6: bool) -> Vec<Published> {
        let host_port = self.host_ports.map_or(0, |(first, _)| first);
        let published = |host| self.published(host, host_port);
        self.addresses(binding, ipv6).into_iter().map(published).collect()
    }

    pub(crate) fn published(&self, host: IpAddr, host_port: u16) -> Published {
        Published { host, host_port, container_port: self.container_port, protocol: self.protocol }
    }
}

/// As `-p` takes it: `127.0.0.1:3000-3010:80/tcp`.
impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            Some(IpAddr::V6(host)) => write!(f, "[{host}]:")?,
            Some(host) => write!(f, "{host}:")?,
            None => {}
        }
        match self.host_ports {
            Some((first, last)) if first == last => write!(f, "{first}:")?,
            Some((first, last)) => write!(f, "{first}-{last}:")?,
            None if self.host.is_some() => write!(f, ":")?,
            None => {}
        }
        write!(f, "{}/{}", self.container_port, self.protocol)
    }
}

/// A published port as it is: the host's side and the namespace's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Published {
    /// The host's address; `0.0.0.0` and `::` are all of their family.
    pub host: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The port inside.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// As `docker ps` has it: `0.0.0.0:8080->80/tcp`, `[::]:8080->80/tcp`.
impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            IpAddr::V4(host) => write!(f, "{host}:")?,
            IpAddr::V6(host) => write!(f, "[{host}]:")?,
        }
        match self.host_port {
            0 => write!(f, "any->")?,
            port => write!(f, "{port}->")?,
        }
        write!(f, "{}/{}", self.container_port, self.protocol)
    }
}

/// Reads what docker's `-p` takes: `[[address:][host port[-last]]:]port[-last][/protocol]`, IPv6 addresses in
/// brackets. A range of container ports is that many published ports; a range of host ports in front of a single
/// container port is a choice. Host port 0 and none at all are any free one.
///
/// # Errors
/// `Invalid` saying what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Publish>> {
    let wrong = |why: String| Error::new(Kind::Invalid, format!("port `{text}`: {why}"));
    let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => return Err(wrong(format!("`{other}` is no protocol (tcp, udp or sctp)"))),
    };
    let (front, container) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (host, host_ports) = match front.rsplit_once(':') {
        Some((host, ports)) => (host, ports),
        None => ("", front),
    };
    let host: Option<IpAddr> = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(six) => Some(IpAddr::V6(six.parse().map_err(|_| wrong(format!("`{six}` is no IPv6 address")))?)),
        None if host.is_empty() => None,
        None => Some(IpAddr::V4(host.parse().map_err(|_| {
            let hint = if host.contains(':') { "; IPv6 addresses go into brackets" } else { "" };
            wrong(format!("`{host}` is no address{hint}"))
        })?)),
    };
    let (first, last) = range(container).filter(|(first, _)| *first > 0).ok_or_else(|| {
        wrong(if container.is_empty() {
            "no container port".into()
        } else {
            format!("`{container}` is no port")
        })
    })?;
    let wanted = match host_ports {
        "" | "0" => None,
        ports => {
            let good = range(ports).filter(|(first, _)| *first > 0);
            Some(good.ok_or_else(|| wrong(format!("`{ports}` is no port of the host")))?)
        }
    };
    let count = last - first;
    match wanted {
        Some((from, to)) if to - from != count && count > 0 => {
            Err(wrong(format!("the ranges {from}-{to} and {first}-{last} differ in length")))
        }
        wanted => Ok((0..=count)
            .map(|at| {
                let host_ports = match wanted {
                    Some((from, _)) if count > 0 => Some((from + at, from + at)),
                    wanted => wanted,
                };
                Publish { host, host_ports, container_port: first + at, protocol }
            })
            .collect()),
    }
}

/// `80` or `80-82`, digits only.
fn range(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> String {
        match parse(text) {
            Ok(all) => all.iter().map(Publish::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_form_that_docker_takes() {
        for (text, means) in [
            ("80", "80/tcp"),
            (":80", "80/tcp"),
            ("0:80", "80/tcp"),
            ("8080:80", "8080:80/tcp"),
            ("8080:80/UDP", "8080:80/udp"),
            ("8080:80/sctp", "8080:80/sctp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080:80/tcp"),
            ("127.0.0.1::80", "127.0.0.1::80/tcp"),
            ("[::1]:80:81", "[::1]:80:81/tcp"),
            ("80-82/udp", "80/udp 81/udp 82/udp"),
            ("3000-3010:80", "3000-3010:80/tcp"),
            (
                "127.0.0.1:3000-3002:80-82/udp",
                "127.0.0.1:3000:80/udp 127.0.0.1:3001:81/udp 127.0.0.1:3002:82/udp",
            ),
        ] {
            assert_eq!(read(text), means, "{text}");
        }
        assert_eq!(parse("1-65535").unwrap().len(), 65535);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, means) in [
            ("", "port ``: no container port"),
            ("80:", "port `80:`: no container port"),
            ("0", "port `0`: `0` is no port"),
            ("x:80", "port `x:80`: `x` is no port of the host"),
            ("65536", "port `65536`: `65536` is no port"),
            ("82-80", "port `82-80`: `82-80` is no port"),
            ("+80", "port `+80`: `+80` is no port"),
            ("localhost:80:80", "port `localhost:80:80`: `localhost` is no address"),
            ("::1:80:80", "port `::1:80:80`: `::1` is no address; IPv6 addresses go into brackets"),
            ("1-2:80-82", "port `1-2:80-82`: the ranges 1-2 and 80-82 differ in length"),
            ("80/icmp", "port `80/icmp`: `icmp` is no protocol (tcp, udp or sctp)"),
        ] {
            assert_eq!(read(text), means, "{text}");
        }
        let loopback = parse("[::1]:80:80").unwrap().pop().unwrap().problem().unwrap();
        assert!(loopback.contains("[::1]"), "{loopback}");
    }

    #[test]
    fn where_it_is_bound() {
        let shown = |text: &str, binding: Option<&str>, ipv6| {
            let publish = parse(text).unwrap().remove(0);
            let all = publish.unbound(binding.map(|binding| binding.parse().unwrap()), ipv6);
            all.iter().map(Published::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown("8080:80", None, false), "0.0.0.0:8080->80/tcp");
        assert_eq!(shown("80/sctp", None, true), "0.0.0.0:any->80/sctp [::]:any->80/sctp");
        assert_eq!(shown("8080:80", Some("127.0.0.1"), true), "127.0.0.1:8080->80/tcp");
        assert_eq!(shown("[fd00::1]:8080:80", Some("127.0.0.1"), true), "[fd00::1]:8080->80/tcp");
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(four: Option<[u8; 4]>, six: bool, from in 1u16.., more in 0u16..9, port in 1u16..) {
            let mut publish = Publish::udp(port).host_ports(from..=from.saturating_add(more));
            publish.host = four.map(IpAddr::from);
            if let (true, Some(IpAddr::V4(four))) = (six, publish.host) {
                publish.host = Some(Ipv6Addr::from(u128::from(u32::from(four)) << 64 | 1).into());
            }
            prop_assert_eq!(parse(&publish.to_string()).unwrap(), [publish]);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9a-z:./\\[\\]-]{0,24}") {
            let _ = parse(&text);
        }
    }
}
