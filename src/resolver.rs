//! What a container is told of names: servers, search domains, lines in `/etc/hosts`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use coracle_net::{dns, files};
use serde::{Deserialize, Serialize};

/// What is asked for in place of the host's resolv.conf(5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resolver {
    #[serde(default)]
    pub(crate) servers: Vec<IpAddr>,
    #[serde(default)]
    pub(crate) search: Vec<String>,
    #[serde(default)]
    pub(crate) options: Vec<String>,
}

impl Resolver {
    pub(crate) fn is_any(&self) -> bool {
        *self != Resolver::default()
    }

    /// Whom the container's resolver asks. `host` is the host's resolv.conf(5).
    pub(crate) fn upstream(&self, host: &str) -> dns::Upstream {
        match self.servers.is_empty() {
            true => dns::Upstream::of_the_host(dns::upstream(host)),
            false => {
                let servers = self.servers.iter().map(|server| SocketAddr::new(*server, 53));
                dns::Upstream::of_the_container(servers)
            }
        }
    }

    /// Whether the servers are the host's.
    pub(crate) fn asks_the_host(&self) -> bool {
        self.servers.is_empty()
    }

    /// The file of a container that has a resolver of ours.
    pub(crate) fn file(&self, host: &str) -> String {
        self.over(host).resolv_conf()
    }

    /// The file of one that has none: the host's, unless something else is asked for.
    pub(crate) fn plain_file(&self, host: String) -> String {
        if !self.is_any() {
            return host;
        }
        let servers = match self.servers.is_empty() {
            true => dns::upstream(&host).iter().map(SocketAddr::ip).collect(),
            false => self.servers.clone(),
        };
        self.over(&host).resolv_conf_with(&servers)
    }

    fn over(&self, host: &str) -> files::Resolver {
        files::Resolver::of(host).search(&self.search).options(&self.options)
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        let word = |what: &str, text: &String| {
            let bad = text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic());
            bad.then(|| format!("{what} {text:?}: it must be one word"))
        };
        let search = self.search.iter().filter_map(|text| word("search domain", text));
        search.chain(self.options.iter().filter_map(|text| word("resolver option", text))).collect()
    }
}

/// Where a line in `/etc/hosts` leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) enum HostAddress {
    Is(IpAddr),
    /// To the host, as the container sees it.
    Gateway,
}

const GATEWAY: &str = "host-gateway";

impl From<HostAddress> for String {
    fn from(address: HostAddress) -> String {
        match address {
            HostAddress::Is(address) => address.to_string(),
            HostAddress::Gateway => GATEWAY.into(),
        }
    }
}

impl TryFrom<String> for HostAddress {
    type Error = std::net::AddrParseError;

    fn try_from(text: String) -> Result<HostAddress, Self::Error> {
        if text == GATEWAY { Ok(HostAddress::Gateway) } else { text.parse().map(HostAddress::Is) }
    }
}

/// The lines for `/etc/hosts`, where the host is at these addresses.
pub(crate) fn lines(hosts: &[(String, HostAddress)], gateways: &[IpAddr]) -> Vec<(String, IpAddr)> {
    let line = |(name, address): &(String, HostAddress)| match address {
        HostAddress::Is(address) => vec![(name.clone(), *address)],
        HostAddress::Gateway => gateways.iter().map(|gateway| (name.clone(), *gateway)).collect(),
    };
    hosts.iter().flat_map(line).collect()
}

/// The host as a container without a network of its own sees it.
pub(crate) const LOOPBACK: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::LOCALHOST)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_as_asked_for() {
        let host = "nameserver 192.0.2.1\nsearch a.example\noptions edns0\n";
        let none = Resolver::default();
        assert_eq!(none.plain_file(host.into()), host);
        assert_eq!(none.upstream(host), vec!["192.0.2.1:53".parse().unwrap()].into());
        let own = Resolver {
            servers: vec!["192.0.2.9".parse().unwrap()],
            search: vec!["b.example".into()],
            options: vec!["ndots:3".into()],
        };
        assert_eq!(own.file(host), "nameserver 127.0.0.11\nsearch b.example\noptions ndots:3\n");
        assert_eq!(own.plain_file(host.into()), "nameserver 192.0.2.9\nsearch b.example\noptions ndots:3\n");
        assert_eq!(own.upstream(host), dns::Upstream::of_the_container(["192.0.2.9:53".parse().unwrap()]));
        let search = Resolver { servers: Vec::new(), options: Vec::new(), ..own };
        assert_eq!(search.plain_file(host.into()), "nameserver 192.0.2.1\nsearch b.example\noptions edns0\n");
        assert_eq!(Resolver { search: vec!["a b".into()], ..none }.problems().len(), 1);
    }

    #[test]
    fn lines_for_hosts() {
        let hosts = [
            ("far".to_owned(), HostAddress::Is("10.9.8.7".parse().unwrap())),
            ("host".to_owned(), HostAddress::Gateway),
        ];
        let text = serde_json::to_string(&hosts).unwrap();
        assert_eq!(text, r#"[["far","10.9.8.7"],["host","host-gateway"]]"#);
        let back: Vec<(String, HostAddress)> = serde_json::from_str(&text).unwrap();
        assert_eq!(back, hosts);
        let gateways = ["10.1.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let shown: Vec<String> =
            lines(&hosts, &gateways).iter().map(|(name, address)| format!("{name} {address}")).collect();
        assert_eq!(shown, ["far 10.9.8.7", "host 10.1.0.1", "host fd00::1"]);
    }
}
