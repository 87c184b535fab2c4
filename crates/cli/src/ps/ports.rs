//! Published ports in few words.

use std::net::IpAddr;

use coracle::{Port, Published};

/// `0.0.0.0:8080->80/tcp`; ports that are the same on both sides come in ranges, and before the others, as docker has it.
/// Those that are only exposed have no address: `80/tcp`.
pub(super) fn shown(ports: &[Published], exposed: &[Port]) -> String {
    let each = ports.iter().map(|port| One {
        inside: port.container().number(),
        host: Some(port.host().ip()),
        outside: port.host().port(),
        protocol: protocol(port.container()),
    });
    let hidden = exposed.iter().filter(|port| !ports.iter().any(|published| published.container() == **port));
    let hidden = hidden.map(|port| One {
        inside: port.number(),
        host: None,
        outside: port.number(),
        protocol: protocol(*port),
    });
    joined(each.chain(hidden).collect())
}

fn protocol(port: Port) -> String {
    port.to_string().rsplit_once('/').map_or("tcp", |(_, protocol)| protocol).to_owned()
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct One {
    inside: u16,
    host: Option<IpAddr>,
    outside: u16,
    protocol: String,
}

/// First and last port of a range at an address.
struct Range {
    host: Option<IpAddr>,
    protocol: String,
    first: u16,
    last: u16,
}

fn joined(mut ports: Vec<One>) -> String {
    ports.sort();
    let (mut done, mut open, mut mapped): (Vec<String>, Vec<Range>, Vec<String>) = Default::default();
    for One { inside, host, outside, protocol } in ports {
        if let Some(host) = host.filter(|_| inside != outside) {
            mapped.push(format!("{}->{inside}/{protocol}", std::net::SocketAddr::new(host, outside)));
            continue;
        }
        match open.iter_mut().find(|range| range.host == host && range.protocol == protocol) {
            None => open.push(Range { host, protocol, first: inside, last: inside }),
            Some(range) if range.last.checked_add(1) == Some(inside) => range.last = inside,
            Some(range) => {
                done.push(written(range));
                (range.first, range.last) = (inside, inside);
            }
        }
    }
    done.extend(open.iter().map(written));
    done.extend(mapped);
    done.join(", ")
}

fn written(range: &Range) -> String {
    let Range { host, protocol, first, last } = range;
    let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
    match host {
        Some(IpAddr::V6(host)) => format!("[{host}]:{ports}->{ports}/{protocol}"),
        Some(host) => format!("{host}:{ports}->{ports}/{protocol}"),
        None => format!("{ports}/{protocol}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_dockers() {
        let one = |outside: u16, inside: u16, protocol: &str| One {
            inside,
            host: Some(IpAddr::from([0, 0, 0, 0])),
            outside,
            protocol: protocol.to_owned(),
        };
        let table = [
            (vec![], ""),
            (vec![one(8080, 80, "tcp")], "0.0.0.0:8080->80/tcp"),
            (
                vec![one(80, 80, "tcp"), one(81, 81, "tcp"), one(80, 80, "udp")],
                "0.0.0.0:80-81->80-81/tcp, 0.0.0.0:80->80/udp",
            ),
            (
                vec![one(90, 90, "tcp"), one(80, 80, "tcp"), one(70, 7, "tcp"), one(81, 81, "tcp")],
                "0.0.0.0:80-81->80-81/tcp, 0.0.0.0:90->90/tcp, 0.0.0.0:70->7/tcp",
            ),
        ];
        for (ports, text) in table {
            assert_eq!(joined(ports), text);
        }
        let at = |host: Option<&str>, inside| {
            let host = host.map(|host| host.parse().unwrap());
            One { inside, host, outside: inside, protocol: "tcp".into() }
        };
        assert_eq!(joined(vec![at(None, 80), at(None, 81), at(Some("::"), 7)]), "[::]:7->7/tcp, 80-81/tcp");
        assert_eq!(shown(&[], &[coracle::tcp(80), coracle::udp(80)]), "80/tcp, 80/udp");
    }
}
