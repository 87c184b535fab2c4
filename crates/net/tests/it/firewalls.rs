//! Beside firewalls that others run: rules in the shape that ufw and firewalld give them. None of them is touched.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

use coracle_host::Namespace;
use coracle_net::NetworkSpec;
use coracle_testhost::{run, skip};

use crate::support::{HOST, OUTSIDE, Outside, networks};
use crate::talk::{at, call, failure, here, serve_on, talk};

/// INPUT and FORWARD drop what no rule takes; users' rules about forwarding (`ufw route …`) are in a chain of their own.
const UFW: &str = "
    table ip filter {
        chain INPUT { type filter hook input priority filter; policy drop; jump ufw-before-input; }
        chain FORWARD { type filter hook forward priority filter; policy drop; jump ufw-before-forward; }
        chain OUTPUT { type filter hook output priority filter; policy accept; }
        chain ufw-before-input {
            iifname \"lo\" accept
            ct state established,related accept
            ct state invalid drop
            tcp dport 22 accept
        }
        chain ufw-before-forward { ct state established,related accept; jump ufw-user-forward; }
        chain ufw-user-forward { }
    }";

/// What `ufw route allow in on cor-+` and `ufw route allow out on cor-+` add.
const UFW_ACCEPTS: &str = "
    add rule ip filter ufw-user-forward iifname \"cor-*\" accept
    add rule ip filter ufw-user-forward oifname \"cor-*\" accept";

/// The zone `public` has the interface of the default route, and everything that is in no zone.
const FIREWALLD: &str = "
    table inet firewalld {
        chain filter_INPUT {
            type filter hook input priority filter + 10; policy accept;
            ct state established,related accept
            ct status dnat accept
            iifname \"lo\" accept
            ct state invalid drop
            tcp dport 22 accept
            reject with icmpx admin-prohibited
        }
        chain filter_FORWARD {
            type filter hook forward priority filter + 10; policy accept;
            ct state established,related accept
            ct status dnat accept
            iifname \"lo\" accept
            jump filter_FWD_public
            ct state invalid drop
            reject with icmpx admin-prohibited
        }
        chain filter_FWD_public { oifname \"wan\" accept; reject with icmpx admin-prohibited; }
    }";

fn nft(text: &str) {
    let out = Command::new("nft").arg(text).output().unwrap();
    assert!(out.status.success(), "nft {text}: {}", String::from_utf8_lossy(&out.stderr));
}

fn ruleset() -> String {
    String::from_utf8(Command::new("nft").args(["-s", "list", "ruleset"]).output().unwrap().stdout).unwrap()
}

fn serve(netns: &Namespace, port: u16) -> TcpListener {
    serve_on(netns, Ipv4Addr::UNSPECIFIED, port)
}

/// Whether there is a nft(8) to write the rules with. Names the skip where there isn't.
fn has_nft(test: &str) -> bool {
    let has = Command::new("nft").arg("--version").output().is_ok();
    if !has {
        skip(test, "nft(8) is not installed");
    }
    has
}

#[test]
fn firewalld() {
    run(|host| {
        if !has_nft("firewalls::firewalld") {
            return;
        }
        let outside = Outside::new();
        nft(FIREWALLD);
        let before = ruleset();
        let networks = networks(host.dir());
        let sea = networks.create(&NetworkSpec::new("sea").subnet("10.1.0.0/24")).unwrap();
        let lake = networks.create(&NetworkSpec::new("lake").subnet("10.2.0.0/24")).unwrap();
        let (boat, at_boat) = at(&sea, "boat", &["8080:80"]);
        let (duck, at_duck) = at(&lake, "duck", &[]);
        let (boats, outsiders) = (serve(&boat, 80), serve(&outside.0, 7));
        // In by all ways, out, and not across.
        assert_eq!(talk(&outside.0, (HOST, 8080), &boats), OUTSIDE);
        assert_eq!(talk(&here(), (HOST, 8080), &boats), HOST);
        coracle_net::loopback_up(std::os::fd::AsFd::as_fd(&here())).unwrap();
        assert_eq!(talk(&here(), (Ipv4Addr::LOCALHOST, 8080), &boats), at_boat.gateway());
        assert_eq!(talk(&duck, (HOST, 8080), &boats), at_duck.address());
        assert_eq!(talk(&boat, (OUTSIDE, 7), &outsiders), HOST);
        failure(&duck, (at_boat.address(), 80));
        // What the host serves is as closed to containers as to others.
        let hosts = serve(&here(), 9);
        assert!(call(&boat, (at_boat.gateway(), 9)).is_err());
        drop((hosts, at_boat, at_duck));
        assert_eq!(ruleset(), before);
        nft("delete table inet firewalld");
    });
}

#[test]
fn ufw() {
    run(|host| {
        if !has_nft("firewalls::ufw") {
            return;
        }
        let outside = Outside::new();
        coracle_net::loopback_up(std::os::fd::AsFd::as_fd(&here())).unwrap();
        nft(UFW);
        let before = ruleset();
        let networks = networks(host.dir());
        let sea = networks.create(&NetworkSpec::new("sea").subnet("10.1.0.0/24")).unwrap();
        let lake = networks.create(&NetworkSpec::new("lake").subnet("10.2.0.0/24")).unwrap();
        let (boat, at_boat) = at(&sea, "boat", &["8080:80"]);
        let (mate, _at_mate) = at(&sea, "mate", &[]);
        let (duck, _at_duck) = at(&lake, "duck", &[]);
        let (boats, outsiders) = (serve(&boat, 80), serve(&outside.0, 7));
        // From this host and among containers nothing is in the way (but where br_netfilter makes hosts forward what stays
        // on a bridge).
        let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
        assert_eq!(talk(&here(), (Ipv4Addr::LOCALHOST, 8080), &boats), at_boat.gateway());
        assert_eq!(talk(&here(), (HOST, 8080), &boats), HOST);
        talk(&mate, (at_boat.address(), 80), &boats);
        // What is forwarded is ufw's to decide, and it says no until somebody says otherwise.
        failure(&outside.0, (HOST, 8080));
        failure(&boat, (OUTSIDE, 7));
        let during = ruleset();
        for line in UFW_ACCEPTS.lines().map(str::trim).filter(|line| !line.is_empty()) {
            nft(line);
        }
        assert_eq!(talk(&outside.0, (HOST, 8080), &boats), OUTSIDE);
        assert_eq!(talk(&boat, (OUTSIDE, 7), &outsiders), HOST);
        failure(&duck, (at_boat.address(), 80));
        failure(&outside.0, (at_boat.address(), 80));
        let ours = |text: &str| text[text.find("table inet coracle").unwrap()..].to_owned();
        assert_eq!(ours(&during), ours(&ruleset()));
        nft("flush chain ip filter ufw-user-forward");
        drop((at_boat, _at_mate, _at_duck));
        assert_eq!(ruleset(), before);
        nft("delete table ip filter");
    });
}
