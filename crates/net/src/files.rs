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

/// `/etc/resolv.conf` (resolv.conf(5)) of a container whose resolver is a [`dns::Server`]: that one name server,
/// with the `search` and `options` of the host's file. `ndots:0` is added unless the host sets `ndots`, so that
/// the single label of a container's name is asked as it is.
pub fn resolv_conf(host: &str) -> String {
    let (search, mut options) = carried_over(host);
    if !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0");
    }
    let mut text = format!("nameserver {}\n", dns::ADDRESS);
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    let _ = writeln!(text, "options {}", options.join(" "));
    text
}

/// The last `search` or `domain` line counts, and all `options` lines do.
fn carried_over(host: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut search, mut options) = (Vec::new(), Vec::new());
    for line in host.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("search") => search = words.take_while(|word| !word.starts_with('#')).collect(),
            Some("domain") => search = words.take(1).collect(),
            Some("options") => options.extend(words.take_while(|word| !word.starts_with('#'))),
            _ => {}
        }
    }
    (search, options)
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
}
