use super::*;

fn record(internal: bool) -> Record {
    Record {
        version: 1,
        id: "1a2b3c4d5e6f".repeat(5) + "7788",
        name: "web".into(),
        driver: "bridge".into(),
        created: 0,
        subnet: "10.64.3.0/24".parse().unwrap(),
        gateway: Ipv4Addr::new(10, 64, 3, 1),
        internal,
        mtu: None,
        labels: Default::default(),
    }
}

fn uplink(name: &str, mtu: u32, needs_forwarding: bool) -> Uplink {
    Uplink { name: name.into(), mtu, needs_forwarding }
}

/// On a line of its own, so that what is expected can be written as it looks.
fn printed(plan: &Plan) -> String {
    format!("\n{plan}")
}

#[test]
fn up_on_a_host_that_is_no_router() {
    let host = Host {
        forwards: false,
        uplinks: vec![uplink("eth0", 1400, true), uplink("wan", 9000, false)],
        tables: true,
    };
    assert_eq!(
        printed(&bring_up(&record(false), &host)),
        "
 0 admit cor-1a2b3c4d5e6 to table inet coracle, with NAT out, answers by eth0
 1 create bridge cor-1a2b3c4d5e6 (02:42:0a:40:03:01, mtu 1400)
 2 add 10.64.3.1/24 to cor-1a2b3c4d5e6
 3 check that only cor-1a2b3c4d5e6 has 10.64.3.0/24
 4 set net.ipv4.conf.cor-1a2b3c4d5e6.rp_filter = 1
 5 set net.ipv4.conf.cor-1a2b3c4d5e6.forwarding = 1
 6 set net.ipv4.conf.eth0.forwarding = 1
 7 set cor-1a2b3c4d5e6 up
"
    );
}

#[test]
fn up_on_a_router_leaves_its_interfaces_alone() {
    let host = Host { forwards: true, uplinks: vec![uplink("eth0", 1500, true)], tables: true };
    let plan = bring_up(&record(false), &host).to_string();
    assert!(plan.contains("with NAT out, the host forwards\n"), "{plan}");
    assert!(!plan.contains("conf.eth0"), "{plan}");
}

#[test]
fn an_internal_network_forwards_nothing_and_can_do_without_nf_tables() {
    let host = Host { forwards: false, uplinks: vec![uplink("eth0", 1500, true)], tables: false };
    assert_eq!(
        printed(&bring_up(&record(true), &host)),
        "
 0 create bridge cor-1a2b3c4d5e6 (02:42:0a:40:03:01, mtu 1500)
 1 add 10.64.3.1/24 to cor-1a2b3c4d5e6
 2 check that only cor-1a2b3c4d5e6 has 10.64.3.0/24
 3 set net.ipv4.conf.cor-1a2b3c4d5e6.rp_filter = 1
 4 set net.ipv4.conf.cor-1a2b3c4d5e6.forwarding = 0
 5 set cor-1a2b3c4d5e6 up
"
    );
    let walled = bring_up(&record(true), &Host { tables: true, ..host }).to_string();
    assert!(walled.starts_with(" 0 admit cor-1a2b3c4d5e6 to table inet coracle, walled in\n"), "{walled}");
}

#[test]
fn joining_and_leaving() {
    let address = Ipv4Addr::new(10, 64, 3, 7);
    assert_eq!(
        printed(&join(&record(false), address, "eth0", true, 1400)),
        "
 0 create veth corvefc3f697955 on cor-1a2b3c4d5e6, its peer eth0 inside (02:42:0a:40:03:07, mtu 1400)
 1 inside: set lo up
 2 inside: add 10.64.3.7/24 to eth0
 3 inside: set eth0 up
 4 inside: add default route via 10.64.3.1 by eth0
 5 wait until corvefc3f697955 and cor-1a2b3c4d5e6 pass packets
"
    );
    for without in
        [join(&record(true), address, "eth0", true, 1400), join(&record(false), address, "a", false, 1400)]
    {
        assert!(!without.to_string().contains("default route"), "{without}");
    }
    let veth = veth_name(&record(false).id, address);
    assert_eq!(leave(&record(false), address).to_string(), format!(" 0 delete {veth}\n"));
    assert_eq!(
        printed(&take_down(&record(false))),
        "
 0 delete what is left on cor-1a2b3c4d5e6
 1 delete cor-1a2b3c4d5e6
 2 expel cor-1a2b3c4d5e6 from table inet coracle
 3 remove table inet coracle if no bridge is left in it
"
    );
}

#[test]
fn publishing() {
    use crate::ports::Publish;
    let address = Ipv4Addr::new(10, 64, 3, 7);
    let ports = [Publish::tcp(80).host_port(8080).unbound(), Publish::udp(53).on([192, 0, 2, 1]).unbound()];
    assert_eq!(
        printed(&publish(&record(false), address, &ports, &["lan".into(), "wan".into()])),
        "
 0 set net.ipv4.conf.cor-1a2b3c4d5e6.route_localnet = 1
 1 note that lan wan forward for us
 2 set net.ipv4.conf.lan.forwarding = 1
 3 set net.ipv4.conf.wan.forwarding = 1
 4 let the bridge send back to corvefc3f697955 what came from it
 5 publish 0.0.0.0:8080->80/tcp, 192.0.2.1:any->53/udp at 10.64.3.7
"
    );
    let outer = publish(&record(false), address, &ports[1..], &[]).to_string();
    assert!(!outer.contains("route_localnet") && !outer.contains("forward"), "{outer}");
    assert!(publish(&record(false), address, &[], &["wan".into()]).is_empty());
}

#[test]
fn names_of_interfaces_fit() {
    let address = Ipv4Addr::new(255, 255, 255, 254);
    for id in ["", "a", &"f".repeat(64)] {
        assert!(bridge_name(id).len() <= 15 && veth_name(id, address).len() == 15);
    }
}
