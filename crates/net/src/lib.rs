//! Networks, addresses, names and published ports for network namespaces that it is given.
//!
//! A [`Network`] is a directory; nobody runs it. A namespace that joins gets an address, which is a lock on a
//! file, and the kernel objects of the network (a bridge, its rules) exist only while somebody is on it. Everything
//! is done by netlink from the calling process: no daemon, no `ip`, no `nft`, no `iptables`.
//!
//! ```no_run
//! use coracle_host::{Dir, Namespace, Staging};
//! use coracle_net::{Join, NetworkSpec, Networks};
//! use std::os::fd::AsFd;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let state = Dir::create("/var/lib/shop", 0o700)?;
//! let staging = Staging::open(&state.make("tmp", 0o700)?)?;
//! let networks = Networks::new(state.make("networks", 0o700)?, staging);
//! let backend = networks.open(&NetworkSpec::new("backend"))?;
//!
//! let netns = Namespace::new_net()?; // or that of a container
//! let place = backend.join(&Join::new(netns.as_fd(), "c1").names(["db"]))?;
//! println!("`db` is {} behind {}", place.address(), place.gateway());
//! # Ok(())
//! # } // dropped: address, names and link are gone, and with the last one out the bridge
//! ```
//!
//! # The types that matter
//!
//! - [`Networks`]: the networks of a state directory. Create, find, list, select, remove, prune, reclaim.
//! - [`Ephemeral`]: a network that goes with its value, or with its process.
//! - [`NetworkSpec`], [`Join`]: what is wanted. Writing one never fails.
//! - [`Network::join`] gives an [`Endpoint`], [`Network::plan`] prints what that would do.
//! - [`Driver`]: what carries a network. `bridge` and `macvlan` are there, others can be added.
//! - [`ports`]: published ports, [`ports::Publish`] to ask for and [`ports::Published`] as given; `-p` as text.
//! - [`Filter`]: which networks to list or to prune.
//! - [`dns::Server`] answers names at 127.0.0.11 inside a namespace; [`dns::Responder`] is its pure half.
//! - [`files`]: `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname` as text.
//!
//! # Who should use this crate alone
//!
//! Programs that have network namespaces of their own making (sandboxes, test harnesses, network emulators) and
//! want them to reach each other by name and the world through NAT. `examples/alone.rs` does that.
//!
//! # What it does to the host
//!
//! It adds bridges `cor-…`, links `corv…` and one nf_tables table, `inet coracle`, and removes them with the last
//! user. Where the host is no router (`net.ipv4.ip_forward` is 0), forwarding is switched on for the bridges and
//! the interfaces of default routes alone, with a rule that lets nothing through these but answers, and switched
//! off again at the end; of IPv6 by `force_forwarding` (Linux 6.17), for networks that have it. No other table, route or
//! switch is touched, with one exception: where docker is, which drops what it doesn't know, each bridge that leads out has
//! two rules in chain `DOCKER-USER`, which docker keeps for that. firewalld lets published ports in and containers out as it
//! is. ufw drops what is forwarded: published ports work from the host itself, and for the rest it must be told about the
//! bridges by whom it belongs to (`ufw route allow in on cor-+`, `ufw route allow out on cor-+`).
//!
//! # IPv6
//!
//! A network has IPv6 beside IPv4 where it is asked for ([`NetworkSpec::ipv6`]) or has such a subnet. Addresses are
//! leased like the others, names resolve to both, what leaves is translated to the host's address (NAT66) unless
//! `gateway_mode_ipv6` is `routed`. They are usable at once: duplicate detection is off, and nobody on a network is
//! believed to be a router. On a network without IPv6 it is off for
//! the bridge, and interfaces have no address of it and believe nobody who offers one.
//!
//! # Published ports
//!
//! Each is a socket of the endpoint's, bound so that a clash is an error, and an element in one map of the table:
//! the kernel translates, at its own speed, on all ways in, loopback included; there is no forwarding process. So
//! that loopback can be one of them, `route_localnet` is on for the bridge, and two rules see to it that nothing
//! from or for 127.0.0.0/8 ever crosses it. Where the host is no router, every interface with an address forwards
//! while a port is published on all addresses, for answers and published ports only.
//!
//! Of a network with IPv6, a port on all addresses is one of both families. `::1` leads nowhere, because the kernel
//! routes no answer to it; callers are refused there at once and go on to 127.0.0.1.
//!
//! What is not there: IPv6 ports for networks without it; interfaces that get their first address after the port was published, unless
//! the host is a router or they are already forwarding; and whoever flushes all rules of the host closes the ports until
//! they are published anew.
#![forbid(unsafe_code)]

mod act;
mod conntrack;
pub mod dns;
mod driver;
mod endpoint;
mod ephemeral;
mod error;
mod facts;
pub mod files;
mod filter;
mod hold;
mod ipam;
mod lease;
mod mac;
mod netlink;
mod network;
mod networks;
mod nft;
mod options;
mod plan;
mod pool;
pub mod ports;
mod record;
mod spec;
mod subnet;

use std::os::fd::BorrowedFd;

pub use driver::{Driver, Seat};
pub use endpoint::Endpoint;
pub use ephemeral::Ephemeral;
pub use error::{Error, Kind, Result};
pub use filter::Filter;
pub use ipam::Pool;
pub use mac::Mac;
pub use network::{Attached, Hold, Network};
pub use networks::Networks;
pub use plan::Plan;
pub use spec::{Join, NetworkSpec, PREDEFINED};
pub use subnet::Subnet;

/// Sets the loopback interface of a namespace up: all that network `none` is.
///
/// # Errors
/// `Denied` without `CAP_NET_ADMIN` over the namespace.
pub fn loopback_up(netns: BorrowedFd<'_>) -> Result<()> {
    act::perform(&plan::loopback(), Some(netns))
}
