//! Published ports in few words.

use std::net::IpAddr;

use coracle::Published;

/// `0.0.0.0:8080->80/tcp`; ports that are the same on both sides come in ranges, and before the others, as docker has it.
pub(super) fn shown(ports: &[Published]) -> String {
    let each = ports.iter().map(|port| {
        let container = port.container().to_string();
        let protocol = container.rsplit_once('/').map_or("tcp", |(_, protocol)| protocol);
        One {
            inside: port.container().number(),
            host: port.host().ip(),
            outside: port.host().port(),
            protocol: protocol.to_owned(),
        }
    });
    joined(each.collect())
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct One {
    inside: u16,
    host: IpAddr,
    outside: u16,
    protocol: String,
}

/// First and last port of a range at an address.
struct Range {
    host: IpAddr,
    protocol: String,
    first: u16,
    last: u16,
}

fn joined(mut ports: Vec<One>) -> String {
    ports.sort();
    let (mut done, mut open, mut mapped): (Vec<String>, Vec<Range>, Vec<String>) = Default::default();
    for One { inside, host, outside, protocol } in ports {
        if inside != outside {
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
    format!("{host}:{ports}->{ports}/{protocol}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_dockers() {
        let one = |outside: u16, inside: u16, protocol: &str| One {
            inside,
            host: IpAddr::from([0, 0, 0, 0]),
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
    }
}
