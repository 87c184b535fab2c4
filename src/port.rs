//! Ports: of containers, and of the host that lead to them.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use coracle_net::ports::{self, Protocol};

use crate::Kind;
use crate::error::{Error, Result};

/// A port of a container: a number and a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port {
    number: u16,
    protocol: Protocol,
}

/// A TCP port (1 to 65535).
pub fn tcp(number: u16) -> Port {
    Port { number, protocol: Protocol::Tcp }
}

/// A UDP port (1 to 65535).
pub fn udp(number: u16) -> Port {
    Port { number, protocol: Protocol::Udp }
}

/// An SCTP port (1 to 65535).
pub fn sctp(number: u16) -> Port {
    Port { number, protocol: Protocol::Sctp }
}

impl Port {
    /// What images and docker's `--expose` mean by this text: `80`, `53/udp`.
    ///
    /// # Errors
    /// `Invalid` for what is none.
    pub fn parse(text: &str) -> Result<Port> {
        let wrong = || Error::new(Kind::Invalid, format!("port `{text}`: it must be like `80` or `53/udp`"));
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(wrong()),
        };
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let number: u16 = number.parse().ok().filter(|number| digits && *number > 0).ok_or_else(wrong)?;
        Ok(Port { number, protocol })
    }

    /// Published at this address and port of the host: `tcp(80).on(([0, 0, 0, 0], 8080))`. Port 0 is any that is free.
    pub fn on(self, host: impl Into<SocketAddr>) -> Publish {
        let host = host.into();
        let publish = ports::Publish::new(self.number, self.protocol).on(host.ip());
        Publish(if host.port() == 0 { publish } else { publish.host_port(host.port()) })
    }

    /// Its number.
    pub fn number(self) -> u16 {
        self.number
    }

    pub(crate) fn is_of(self, publish: &Publish) -> bool {
        self.number == publish.0.container_port() && self.protocol == publish.0.protocol()
    }

    /// Published on any free port of all addresses of the host.
    pub(crate) fn anywhere(self) -> Publish {
        Publish(ports::Publish::new(self.number, self.protocol))
    }

    pub(crate) fn is(self, published: &Published) -> bool {
        self.number == published.0.container_port && self.protocol == published.0.protocol
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

/// A wish: a port of the host that leads to a port of a container.
///
/// From a [`Port`] alone it is any free port of 127.0.0.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish(pub(crate) ports::Publish);

impl Publish {
    /// What docker's `-p` means by this text: `8080:80`, `127.0.0.1::80/udp`, `5000-5002:5000-5002`. Without an address it
    /// is every address of the host.
    ///
    /// # Errors
    /// `Invalid` for what is none.
    pub fn parse(text: &str) -> Result<Vec<Publish>> {
        Ok(ports::parse(text).map_err(Error::from)?.into_iter().map(Publish).collect())
    }

    /// The port of the container.
    pub(crate) fn port(&self) -> Port {
        Port { number: self.0.container_port(), protocol: self.0.protocol() }
    }
}

impl From<Port> for Publish {
    fn from(port: Port) -> Publish {
        port.on((Ipv4Addr::LOCALHOST, 0))
    }
}

/// A port of the host that leads to a port of a running container. `Display` as docker prints it:
/// `0.0.0.0:8080->80/tcp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published(pub(crate) ports::Published);

impl Published {
    /// Where on the host.
    pub fn host(&self) -> SocketAddr {
        SocketAddr::new(self.0.host, self.0.host_port)
    }

    /// Where in the container.
    pub fn container(&self) -> Port {
        Port { number: self.0.container_port, protocol: self.0.protocol }
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_for_this_host_only() {
        assert_eq!(
            Publish::from(tcp(80)).0.to_string(),
            ports::parse("127.0.0.1::80/tcp").unwrap()[0].to_string()
        );
        assert_eq!(
            tcp(80).on(([0, 0, 0, 0], 8080)).0.to_string(),
            ports::parse("0.0.0.0:8080:80").unwrap()[0].to_string()
        );
        assert_eq!(udp(53).to_string(), "53/udp");
        // Records keep them as text.
        for publish in [Publish::from(udp(53)), tcp(80).on(([10, 0, 0, 1], 1))] {
            assert_eq!(Publish::parse(&publish.0.to_string()).unwrap(), [publish]);
        }
        assert!(Publish::parse("x").is_err());
        assert_eq!(Port::parse("80").unwrap(), tcp(80));
        assert_eq!(Port::parse("53/UDP").unwrap(), udp(53));
        assert_eq!(Port::parse("9/sctp").unwrap(), sctp(9));
        assert_eq!(sctp(9).anywhere(), Publish::parse("9/sctp").unwrap()[0]);
        for text in ["", "0", "+1", "80/x", "65536", "1-2"] {
            assert!(Port::parse(text).is_err(), "{text}");
        }
    }
}
