use std::net::Ipv4Addr;

use super::bridge::{Host, Uplink, bring_up, join, leave, publish, take_down};
use super::macvlan::{self, Below};
use super::*;
use crate::driver::Seat;
use crate::netlink::link::Link;

fn record(internal: bool) -> Record {
    Record {
        version: 2,
        id: "1a2b3c4d5e6f".repeat(5) + "7788",
        name: "web".into(),
        driver: "bridge".into(),
        created: 0,
        pools: vec![crate::ipam::plain("10.64.3.0/24".parse().unwrap())],
        internal,
        mtu: None,
        options: Default::default(),
        labels: Default::default(),
        ephemeral: false,
    }
}

fn record6(internal: bool) -> Record {
    let mut record = record(internal);
    record.pools.push(crate::ipam::plain("fd00:3::/64".parse().unwrap()));
    record
}

fn with(mut record: Record, key: &str, value: &str) -> Record {
    record.options.0.insert(key.into(), value.into());
    record
}

fn uplink(name: &str, mtu: u32, needs_forwarding: bool) -> Uplink {
    Uplink { name: name.into(), mtu, needs_forwarding, needs_forwarding6: needs_forwarding }
}

fn seat(interface: &str, default_route: bool) -> Seat {
    let address = Ipv4Addr::new(10, 64, 3, 7);
    Seat { address, ipv6: None, mac: Mac::of(address), interface: interface.into(), default_route }
}

fn seat6() -> Seat {
    Seat { ipv6: Some("fd00:3::7".parse().unwrap()), ..seat("eth0", true) }
}

/// On a line of its own, so that what is expected can be written as it looks.
fn printed(plan: &Plan) -> String {
    format!("\n{plan}")
}

#[test]
fn up_on_a_host_that_is_no_router() {
    let host = Host {
        forwards: false,
        forwards6: false,
        uplinks: vec![uplink("eth0", 1400, true), uplink("wan", 9000, false)],
        tables: true,
        docker: false,
    };
    assert_eq!(
        printed(&bring_up(&record(false), &host)),
        "
 0 admit cor-1a2b3c4d5e6 to table inet coracle, with NAT out, answers by eth0
 1 create bridge cor-1a2b3c4d5e6 (02:42:0a:40:03:01, mtu 1400)
 2 set net.ipv6.conf.cor-1a2b3c4d5e6.disable_ipv6 = 1
 3 add 10.64.3.1/24 to cor-1a2b3c4d5e6
 4 check that only cor-1a2b3c4d5e6 has 10.64.3.0/24
 5 set net.ipv4.conf.cor-1a2b3c4d5e6.rp_filter = 1
 6 set net.ipv4.conf.cor-1a2b3c4d5e6.forwarding = 1
 7 set net.ipv4.conf.eth0.forwarding = 1
 8 set cor-1a2b3c4d5e6 up
"
    );
}

#[test]
fn up_on_a_router_leaves_its_interfaces_alone() {
    let host = Host {
        forwards: true,
        forwards6: true,
        uplinks: vec![uplink("eth0", 1500, true)],
        tables: true,
        docker: false,
    };
    let plan = bring_up(&record(false), &host).to_string();
    assert!(plan.contains("with NAT out, the host forwards\n"), "{plan}");
    assert!(!plan.contains("conf.eth0"), "{plan}");
}

#[test]
fn an_internal_network_forwards_nothing_and_can_do_without_nf_tables() {
    let host = Host {
        forwards: false,
        forwards6: false,
        uplinks: vec![uplink("eth0", 1500, true)],
        tables: false,
        docker: false,
    };
    assert_eq!(
        printed(&bring_up(&record(true), &host)),
        "
 0 create bridge cor-1a2b3c4d5e6 (02:42:0a:40:03:01, mtu 1500)
 1 set net.ipv6.conf.cor-1a2b3c4d5e6.disable_ipv6 = 1
 2 add 10.64.3.1/24 to cor-1a2b3c4d5e6
 3 check that only cor-1a2b3c4d5e6 has 10.64.3.0/24
 4 set net.ipv4.conf.cor-1a2b3c4d5e6.rp_filter = 1
 5 set net.ipv4.conf.cor-1a2b3c4d5e6.forwarding = 0
 6 set cor-1a2b3c4d5e6 up
"
    );
    let walled = bring_up(&record(true), &Host { tables: true, ..host }).to_string();
    assert!(walled.starts_with(" 0 admit cor-1a2b3c4d5e6 to table inet coracle, walled in\n"), "{walled}");
}

#[test]
fn joining_and_leaving() {
    assert_eq!(
        printed(&join(&record(false), &seat("eth0", true), 1400)),
        "
 0 create veth corvefc3f697955 on cor-1a2b3c4d5e6, its peer eth0 inside (02:42:0a:40:03:07, mtu 1400)
 1 inside: set lo up
 2 inside: set net.ipv6.conf.eth0.accept_ra = 0
 3 inside: give eth0 no IPv6 address of its own making
 4 inside: add 10.64.3.7/24 to eth0
 5 inside: set eth0 up
 6 inside: add default route via 10.64.3.1 by eth0
 7 wait until corvefc3f697955 and cor-1a2b3c4d5e6 pass packets
"
    );
    for without in
        [join(&record(true), &seat("eth0", true), 1400), join(&record(false), &seat("a", false), 1400)]
    {
        assert!(!without.to_string().contains("default route"), "{without}");
    }
    let veth = veth_name(&record(false).id, seat("eth0", true).address);
    let behind = bridge::leave_behind(&record(false), &seat("eth0", true));
    assert_eq!(
        behind.to_string(),
        format!(" 0 take {veth} off its bridge, for the namespace's end to remove\n")
    );
    assert_eq!(leave(&record(false), &seat("eth0", true)).to_string(), format!(" 0 delete {veth}\n"));
    assert_eq!(
        printed(&take_down(&record(false))),
        "
 0 delete cor-1a2b3c4d5e6 and what is left on it
 1 expel cor-1a2b3c4d5e6 from table inet coracle
 2 remove table inet coracle if no bridge is left in it
"
    );
}

fn way(four: &[&str], six: &[&str]) -> Switched {
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    Switched { ipv4: names(four), ipv6: names(six) }
}

#[test]
fn publishing() {
    use crate::ports::Publish;
    let target = Target { ipv4: Ipv4Addr::new(10, 64, 3, 7), ipv6: None };
    let mut ports = Publish::tcp(80).host_port(8080).unbound(None, false);
    ports.extend(Publish::udp(53).on([192, 0, 2, 1]).unbound(None, false));
    assert_eq!(
        printed(&publish(&record(false), target, &ports, way(&["lan", "wan"], &[]))),
        "
 0 set net.ipv4.conf.cor-1a2b3c4d5e6.route_localnet = 1
 1 note that lan wan forward for us
 2 set net.ipv4.conf.lan.forwarding = 1
 3 set net.ipv4.conf.wan.forwarding = 1
 4 let the bridge send back to corvefc3f697955 what came from it
 5 publish 0.0.0.0:8080->80/tcp, 192.0.2.1:any->53/udp at 10.64.3.7
"
    );
    let outer = publish(&record(false), target, &ports[1..], way(&[], &[])).to_string();
    assert!(!outer.contains("route_localnet") && !outer.contains("forward"), "{outer}");
    assert!(publish(&record(false), target, &[], way(&["wan"], &[])).is_empty());
    let target = Target { ipv6: seat6().ipv6, ..target };
    let both = Publish::tcp(80).host_port(8080).unbound(None, true);
    assert_eq!(
        printed(&publish(&record6(false), target, &both[1..], way(&[], &["wan"]))),
        "
 0 note that wan forward for us
 1 set net.ipv6.conf.wan.force_forwarding = 1
 2 let the bridge send back to corvefc3f697955 what came from it
 3 publish [::]:8080->80/tcp at 10.64.3.7 and fd00:3::7
"
    );
}

#[test]
fn both_families() {
    let host = Host { uplinks: vec![uplink("eth0", 1200, true)], tables: true, ..Host::default() };
    assert_eq!(
        printed(&bring_up(&record6(false), &host)),
        "
 0 admit cor-1a2b3c4d5e6 to table inet coracle, with NAT out, answers by eth0, IPv6 answers by eth0
 1 create bridge cor-1a2b3c4d5e6 (02:42:0a:40:03:01, mtu 1280)
 2 set net.ipv6.conf.cor-1a2b3c4d5e6.accept_ra = 0
 3 set net.ipv6.conf.cor-1a2b3c4d5e6.accept_dad = 0
 4 give cor-1a2b3c4d5e6 no IPv6 address of its own making
 5 add fe80::42:aff:fe40:301/64 to cor-1a2b3c4d5e6
 6 add 10.64.3.1/24 to cor-1a2b3c4d5e6
 7 add fd00:3::1/64 to cor-1a2b3c4d5e6
 8 check that only cor-1a2b3c4d5e6 has 10.64.3.0/24 and fd00:3::/64
 9 set net.ipv4.conf.cor-1a2b3c4d5e6.rp_filter = 1
10 set net.ipv4.conf.cor-1a2b3c4d5e6.forwarding = 1
11 set net.ipv4.conf.eth0.forwarding = 1
12 set net.ipv6.conf.cor-1a2b3c4d5e6.force_forwarding = 1
13 set net.ipv6.conf.eth0.force_forwarding = 1
14 set cor-1a2b3c4d5e6 up
15 wait until cor-1a2b3c4d5e6 hears who asks for fd00:3::1
"
    );
    let router = Host { forwards6: true, ..host };
    let plan = bring_up(&record6(false), &router).to_string();
    assert!(plan.contains("the host forwards IPv6\n") && !plan.contains("force_forwarding"), "{plan}");
    let plan = join(&record6(false), &seat6(), 1400).to_string();
    for line in [
        " 2 inside: set net.ipv6.conf.eth0.accept_ra = 0\n",
        " 7 inside: add fd00:3::7/64 to eth0\n",
        "10 inside: add default route via fd00:3::1 by eth0\n",
        "11 inside: wait until eth0 hears who asks for fd00:3::7\n",
    ] {
        assert!(plan.contains(line), "{plan}");
    }
}

#[test]
fn options_make_a_difference() {
    use crate::options::{BRIDGE_NAME, ICC, MASQUERADE, MODE_IPV6, MTU};
    let host = Host { tables: true, ..Host::default() };
    let beside = bring_up(&record(false), &Host { docker: true, ..host.clone() }).to_string();
    assert!(beside.contains(" 1 let cor-1a2b3c4d5e6 pass in chain DOCKER-USER\n"), "{beside}");
    let record = with(with(with(record(false), BRIDGE_NAME, "lan0"), ICC, "false"), MTU, "1300");
    let plan = bring_up(&record, &host).to_string();
    assert!(
        plan.starts_with(" 0 admit lan0 to table inet coracle, with NAT out, each for himself\n"),
        "{plan}"
    );
    assert!(plan.contains("create bridge lan0 (02:42:0a:40:03:01, mtu 1300)\n"), "{plan}");
    let plan = join(&record, &seat("eth0", true), 1300).to_string();
    assert!(plan.contains(" 1 keep corvefc3f697955 from the other ports of its bridge\n"), "{plan}");
    let bare = bring_up(&with(record6(false), MASQUERADE, "false"), &host).to_string();
    assert!(bare.contains("with a way out\n"), "{bare}");
    let walls = bridge::walls(&with(record6(false), MODE_IPV6, "routed"));
    assert!(walls.masquerade && !walls.masquerade6);
}

fn on_parent(parent: &str) -> Record {
    with(record(false), crate::options::PARENT, parent)
}

#[test]
fn macvlans() {
    let record = on_parent("eth0");
    let below = Below::of(&record);
    assert_eq!(below, Below { name: "eth0".into(), vlan: None });
    let parent = Link { name: "eth0".into(), up: true, works: true, ..Link::default() };
    assert_eq!(
        printed(&macvlan::join(&record, &below, Some(&parent), &seat("eth0", true))),
        "
 0 create macvlan eth0 on eth0 inside (bridge, 02:42:0a:40:03:07)
 1 inside: set lo up
 2 inside: set net.ipv6.conf.eth0.accept_ra = 0
 3 inside: give eth0 no IPv6 address of its own making
 4 inside: add 10.64.3.7/24 to eth0
 5 inside: set eth0 up
 6 inside: add default route via 10.64.3.1 by eth0
 7 inside: wait until eth0 pass packets
"
    );
    assert!(macvlan::take_down(&record).is_empty());
    assert_eq!(macvlan::leave(&seat("eth0", true)).to_string(), " 0 inside: delete eth0\n");
    let record = with(on_parent("eth0.10"), crate::options::MACVLAN_MODE, "passthru");
    let below = Below::of(&record);
    assert_eq!(below.vlan, Some(("eth0".into(), 10)));
    let plan = macvlan::join(&record, &below, None, &seat("eth0", true)).to_string();
    let begin = " 0 create VLAN 10 of eth0 as eth0.10\n 1 set eth0.10 up\n 2 create macvlan eth0 on eth0.10 inside (passthru)\n";
    assert!(plan.starts_with(begin) && !plan.contains("wait"), "{plan}");
    assert_eq!(macvlan::take_down(&record).to_string(), " 0 delete eth0.10 if the network made it\n");
    for (name, number) in
        [("eth0.0", None), ("eth0.4095", None), ("eth0.x", None), (".5", None), ("a.b.7", Some(7))]
    {
        assert_eq!(Below::of(&on_parent(name)).vlan.map(|(_, number)| number), number, "{name}");
    }
}

#[test]
fn names_of_interfaces_fit() {
    let address = Ipv4Addr::new(255, 255, 255, 254);
    for id in ["", "a", &"f".repeat(64)] {
        let record = Record { id: id.into(), ..record(false) };
        assert!(bridge_name(&record).len() <= 15 && veth_name(id, address).len() == 15);
    }
}
