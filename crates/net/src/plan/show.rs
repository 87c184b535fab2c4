//! Plans as text.

use std::fmt;

use super::{Op, Place, Plan};
use crate::Subnet;
use crate::ports::Published;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (place, op)) in self.steps.iter().enumerate() {
            let inside = if *place == Place::Inside { "inside: " } else { "" };
            writeln!(f, "{at:2} {inside}{op}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Admit { bridge, walls, uplinks } => {
                let way = match (walls.out, walls.masquerade) {
                    (true, true) => "with NAT out",
                    (true, false) => "with a way out",
                    (false, _) => "walled in",
                };
                write!(f, "admit {bridge} to table inet coracle, {way}")?;
                if !walls.icc {
                    write!(f, ", each for himself")?;
                }
                switched(f, "", &uplinks.ipv4)?;
                if uplinks.ipv6 != Some(Vec::new()) { switched(f, " IPv6", &uplinks.ipv6) } else { Ok(()) }
            }
            Op::Expel { bridge, .. } => write!(f, "expel {bridge} from table inet coracle"),
            Op::PassDocker { bridge } => write!(f, "let {bridge} pass in chain DOCKER-USER"),
            Op::Hairpin { link } => write!(f, "let the bridge send back to {link} what came from it"),
            Op::Isolate { link } => write!(f, "keep {link} from the other ports of its bridge"),
            Op::Remember { uplinks } => {
                let (four, six) = (uplinks.ipv4.iter().flatten(), uplinks.ipv6.iter().flatten());
                let mut names: Vec<&str> = four.chain(six).map(String::as_str).collect();
                names.dedup();
                write!(f, "note that {} forward for us", names.join(" "))
            }
            Op::Open { ports, target } => {
                let shown: Vec<String> = ports.iter().take(4).map(Published::to_string).collect();
                write!(f, "publish {}", shown.join(", "))?;
                match ports.len() - shown.len() {
                    0 => {}
                    more => write!(f, " and {more} more")?,
                }
                write!(f, " at {}", target.ipv4)?;
                target.ipv6.map_or(Ok(()), |ipv6| write!(f, " and {ipv6}"))
            }
            Op::Bridge { name, mac, mtu } => write!(f, "create bridge {name} ({mac}, mtu {mtu})"),
            Op::Address { on, address, prefix } => write!(f, "add {address}/{prefix} to {on}"),
            Op::Alone { subnets, on } => {
                let subnets: Vec<String> = subnets.iter().map(Subnet::to_string).collect();
                write!(f, "check that only {on} has {}", subnets.join(" and "))
            }
            Op::Set { key, on, value } => {
                let (family, name) = key.parts();
                write!(f, "set net.{family}.conf.{on}.{name} = {value}")
            }
            Op::NoLinkLocal { link } => write!(f, "give {link} no IPv6 address of its own making"),
            Op::Up { link } => write!(f, "set {link} up"),
            Op::Veth { name, bridge, peer, mac, mtu } => {
                write!(f, "create veth {name} on {bridge}, its peer {peer} inside ({mac}, mtu {mtu})")
            }
            Op::Route { via, on } => write!(f, "add default route via {via} by {on}"),
            Op::AwaitHeard { on, addresses } => {
                let addresses: Vec<String> = addresses.iter().map(|address| address.to_string()).collect();
                write!(f, "wait until {on} hears who asks for {}", addresses.join(" and "))
            }
            Op::Await { links } => write!(f, "wait until {} pass packets", links.join(" and ")),
            Op::Abandon { link } => {
                write!(f, "take {link} off its bridge, for the namespace's end to remove")
            }
            Op::DeleteBridge { name, .. } => write!(f, "delete {name} and what is left on it"),
            Op::Vlan { name, parent, number, .. } => write!(f, "create VLAN {number} of {parent} as {name}"),
            Op::Macvlan { name, parent, mode, mac, mtu } => {
                write!(f, "create macvlan {name} on {parent} inside ({}", mode.as_str())?;
                mac.map_or(Ok(()), |mac| write!(f, ", {mac}"))?;
                mtu.map_or(Ok(()), |mtu| write!(f, ", mtu {mtu}"))?;
                write!(f, ")")
            }
            Op::DeleteOwn { link, .. } => write!(f, "delete {link} if the network made it"),
            Op::Delete { link } => write!(f, "delete {link}"),
            Op::Dismantle => write!(f, "remove table inet coracle if no bridge is left in it"),
            Op::Driver { name } => write!(f, "let driver `{name}` join it"),
        }
    }
}

fn switched(f: &mut fmt::Formatter<'_>, family: &str, uplinks: &Option<Vec<String>>) -> fmt::Result {
    match uplinks.as_deref() {
        Some([]) => Ok(()),
        Some(uplinks) => write!(f, ",{family} answers by {}", uplinks.join(" ")),
        None => write!(f, ", the host forwards{family}"),
    }
}
