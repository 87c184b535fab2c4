//! The three files that name resolution in a container starts from, as text. Whoever builds the root file system
//! puts them there.

use std::fmt::Write;
use std::net::IpAddr;

use crate::dns;

/// `/etc/hosts` (hosts(5)): the loopback lines that docker writes, then `extra` (`--add-host`), then the
/// container's own addresses with its host name (and, for `web.example.org`, `web`).
pub fn hosts(hostname: &str, own: &[IpAddr], extra: &[(String, IpAddr)]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    for (name, address) in extra {
        let _ = writeln!(text, "{address}\t{name}");
    }
    for address in own {
        let short = hostname.split('.').next().filter(|short| *short != hostname && !short.is_empty());
        let short = short.map(|short| format!(" {short}")).unwrap_or_default();
        let _ = writeln!(text, "{address}\t{hostname}{short}");
    }
    text
}

/// `/etc/hostname` (hostname(5)).
pub fn hostname(hostname: &str) -> String {
    format!("{hostname}\n")
}

/// What a container's resolver is told: resolv.conf(5) without its name servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    /// The domains that are tried behind a name (`--dns-search`).
    pub search: Vec<String>,
    /// Options such as `ndots:2` (`--dns-opt`).
    pub options: Vec<String>,
}

impl Resolver {
    /// That of a resolv.conf(5): the last `search` or `domain` line counts, and all `options` lines do.
    pub fn of(resolv_conf: &str) -> Resolver {
        let mut resolver = Resolver::default();
        for line in resolv_conf.lines() {
            let mut words = line.split_ascii_whitespace();
            let key = words.next();
            let words = words.take_while(|word| !word.starts_with('#')).map(str::to_owned);
            match key {
                Some("search") => resolver.search = words.collect(),
                Some("domain") => resolver.search = words.take(1).collect(),
                Some("options") => resolver.options.extend(words),
                _ => {}
            }
        }
        resolver
    }

    /// With other search domains in place of all, unless there are none; `.` alone is no domain.
    pub fn search(mut self, domains: &[String]) -> Resolver {
        if !domains.is_empty() {
            self.search = domains.iter().filter(|domain| *domain != ".").cloned().collect();
        }
        self
    }

    /// With other options in place of all, unless there are none.
    pub fn options(mut self, options: &[String]) -> Resolver {
        if !options.is_empty() {
            self.options = options.to_vec();
        }
        self
    }

    /// `/etc/resolv.conf` of a container that asks a [`dns::Server`], and nobody else. `ndots:0` is added unless
    /// `ndots` is set, so that the single label of a container's name is asked as it is.
    pub fn resolv_conf(&self) -> String {
        let mut options = self.options.clone();
        if !options.iter().any(|option| option.starts_with("ndots:")) {
            options.push("ndots:0".into());
        }
        self.text(&[dns::ADDRESS.into()], &options)
    }

    /// `/etc/resolv.conf` of a container that asks these servers itself.
    pub fn resolv_conf_with(&self, servers: &[IpAddr]) -> String {
        self.text(servers, &self.options)
    }

    fn text(&self, servers: &[IpAddr], options: &[String]) -> String {
        let mut text = String::new();
        for server in servers {
            let _ = writeln!(text, "nameserver {server}");
        }
        for (key, words) in [("search", &self.search[..]), ("options", options)] {
            if !words.is_empty() {
                let _ = writeln!(text, "{key} {}", words.join(" "));
            }
        }
        text
    }
}

/// `/etc/resolv.conf` of a container whose resolver is a [`dns::Server`], with the search domains and options of the
/// host's file: [`Resolver::of`] and [`Resolver::resolv_conf`].
pub fn resolv_conf(host: &str) -> String {
    Resolver::of(host).resolv_conf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_file() {
        let own = ["10.64.3.2".parse().unwrap()];
        let extra = [("far".to_owned(), "10.9.8.7".parse().unwrap())];
        assert_eq!(
            hosts("web.example.org", &own, &extra),
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
             ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n10.9.8.7\tfar\n\
             10.64.3.2\tweb.example.org web\n"
        );
        assert!(hosts("box", &own, &[]).ends_with("\n10.64.3.2\tbox\n"));
        assert!(hosts("box", &[], &[]).ends_with("ip6-allrouters\n"));
        assert_eq!(hostname("box"), "box\n");
    }

    #[test]
    fn resolver_file() {
        assert_eq!(resolv_conf(""), "nameserver 127.0.0.11\noptions ndots:0\n");
        let host = "# made by hand\ndomain old.example\nsearch a.example b.example # two\nnameserver 192.0.2.53\n\
                    options edns0 trust-ad\noptions ndots:2\n";
        assert_eq!(
            resolv_conf(host),
            "nameserver 127.0.0.11\nsearch a.example b.example\noptions edns0 trust-ad ndots:2\n"
        );
    }

    #[test]
    fn resolver_file_as_asked() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let host = Resolver::of("search a.example\noptions edns0\n");
        let own = host.clone().search(&words("b.example c.example")).options(&words("ndots:3 rotate"));
        let expected = "nameserver 127.0.0.11\nsearch b.example c.example\noptions ndots:3 rotate\n";
        assert_eq!(own.resolv_conf(), expected);
        let kept = host.clone().search(&[]).options(&[]);
        assert_eq!(
            kept.resolv_conf_with(&["192.0.2.53".parse().unwrap()]),
            "nameserver 192.0.2.53\nsearch a.example\noptions edns0\n"
        );
        assert_eq!(host.search(&words(".")).resolv_conf(), "nameserver 127.0.0.11\noptions edns0 ndots:0\n");
    }
}
