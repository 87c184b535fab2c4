//! What SIGKILL leaves: nothing that the next one doesn't reclaim.

use std::process::Command;

use coracle_net::NetworkSpec;
use coracle_net::ports::Publish;
use coracle_testhost::{Host, Role, run_with};

use crate::support::{self, Outside, join, netns, networks, our_links};

fn owner(role: &mut Role) {
    let network = networks(role.dir()).open(&NetworkSpec::new("sea").subnet("10.1.0.0/24")).unwrap();
    let netns = netns();
    let _endpoint = network.join(&join(&netns, "captain")).unwrap();
    role.say("aboard");
    role.hear();
}

#[test]
fn a_killed_owner_frees_address_and_name_at_once() {
    run_with(&[("owner", owner)], |host| {
        let networks = networks(host.dir());
        let mut owner = host.play("owner");
        assert_eq!(owner.hear().as_deref(), Some("aboard"));
        let sea = networks.find("sea").unwrap().unwrap();
        let names = sea.zone();
        let find = |name| coracle_net::dns::Names::addresses(&names, name).unwrap();
        assert_eq!(find("Captain").len(), 1);
        assert_eq!(networks.reclaim().unwrap(), 0, "it is in use");
        assert!(networks.remove("sea").is_err());
        owner.kill();
        assert_eq!((find("captain"), sea.attached().unwrap()), (vec![], vec![]));
        // The address is free, whatever the dead one's link still does.
        let mate = netns();
        let endpoint = sea.join(&join(&mate, "mate")).unwrap();
        assert_eq!(endpoint.address().to_string(), "10.1.0.2");
        assert_eq!((find("captain"), find("mate")), (vec![], endpoint.addresses()));
        endpoint.leave().unwrap();
        assert!(our_links().is_empty());
    });
}

#[test]
fn reclaim_removes_what_a_killed_owner_left() {
    run_with(&[("owner", owner)], |host| {
        let outside = Outside::new();
        let before = support::picture();
        let mut owner = host.play("owner");
        assert_eq!(owner.hear().as_deref(), Some("aboard"));
        assert!(support::picture().contains("wan 1 "));
        owner.kill();
        assert!(our_links().iter().any(|link| link.starts_with("cor-")), "the bridge is left");
        assert_eq!(networks(host.dir()).reclaim().unwrap(), 1);
        assert_eq!((support::picture(), our_links()), (before, vec![]));
        assert_eq!(networks(host.dir()).reclaim().unwrap(), 0);
        networks(host.dir()).remove("sea").unwrap();
        drop(outside);
    });
}

fn sailor(role: &mut Role) {
    let networks = networks(role.dir());
    let netns = netns();
    role.hear();
    // Everything that a bridge network can have.
    let spec = NetworkSpec::new("sea").subnet("10.1.0.0/24").subnet("fd00:1::/64");
    let sea = networks.open(&spec.option("com.docker.network.bridge.enable_icc", "false")).unwrap();
    let join = join(&netns, "sailor").publish(Publish::tcp(80).host_port(8080)).publish(Publish::udp(53));
    let mut endpoint = sea.join(&join).unwrap();
    endpoint.rename(["bosun"]).unwrap();
    endpoint.leave_behind().unwrap();
    networks.remove("sea").unwrap();
}

/// All but the switches of links that go with their namespace.
fn lasting(picture: &str) -> Vec<String> {
    picture.lines().filter(|line| !line.starts_with("corx")).map(str::to_owned).collect()
}

/// Kills at every fourth system call from `first` on. In four parts, because the kernel makes one wait a lot.
fn killed_at_every_fourth_call(host: &Host, first: usize) {
    let outside = Outside::new();
    let before = support::picture();
    let rules = others_rules();
    let networks = networks(host.dir());
    let mut calls = first;
    while host.play("sailor").kill_after(calls, "go") {
        networks.reclaim().unwrap_or_else(|error| panic!("after {calls} calls: {error}"));
        // A link that was left to its namespace goes with that, and is on no network any more.
        let links: Vec<_> = our_links().into_iter().filter(|link| !link.starts_with("corx")).collect();
        let now: Vec<_> = lasting(&support::picture());
        assert_eq!((now, links), (lasting(&before), vec![]), "after {calls} calls");
        if let Some(sea) = networks.find("sea").unwrap() {
            assert_eq!(sea.attached().unwrap(), []);
            networks.remove("sea").unwrap_or_else(|error| panic!("after {calls} calls: {error}"));
        }
        assert!(networks.list().unwrap().is_empty(), "after {calls} calls");
        calls += 4;
    }
    assert!(calls > 100, "{calls} calls are too few to be a join");
    assert_eq!(ruleset(), rules, "somebody else's rules");
    if rules.is_some() {
        let deleted =
            Command::new("nft").arg("delete table ip filter; delete table ip nat").status().unwrap();
        assert!(deleted.success());
    }
    drop(outside);
}

/// Rules as iptables-nft(8) and docker make them, where there is a nft(8) to make them with.
fn others_rules() -> Option<String> {
    let rules = "
        table ip filter {
            chain DOCKER-USER { counter return; }
            chain FORWARD { type filter hook forward priority filter; policy drop; jump DOCKER-USER; }
            chain INPUT { type filter hook input priority filter; policy accept; tcp dport 22 counter accept; }
        }
        table ip nat {
            chain PREROUTING { type nat hook prerouting priority dstnat; tcp dport 9 dnat to 10.9.9.9:9; }
        }";
    let added = Command::new("nft").arg(rules).status().ok()?;
    assert!(added.success());
    ruleset()
}

/// All rules, without what their counters say.
fn ruleset() -> Option<String> {
    let told = Command::new("nft").args(["-s", "list", "ruleset"]).output().ok()?;
    Some(String::from_utf8(told.stdout).unwrap())
}

#[test]
fn killed_at_any_system_call_1() {
    run_with(&[("sailor", sailor)], |host| killed_at_every_fourth_call(host, 0));
}

#[test]
fn killed_at_any_system_call_2() {
    run_with(&[("sailor", sailor)], |host| killed_at_every_fourth_call(host, 1));
}

#[test]
fn killed_at_any_system_call_3() {
    run_with(&[("sailor", sailor)], |host| killed_at_every_fourth_call(host, 2));
}

#[test]
fn killed_at_any_system_call_4() {
    run_with(&[("sailor", sailor)], |host| killed_at_every_fourth_call(host, 3));
}

fn comer(role: &mut Role) {
    let state = role.dir().join(std::process::id().to_string());
    let network = networks(&state).create(&NetworkSpec::new("sea")).unwrap();
    role.say("ready");
    role.hear();
    for _ in 0..10 {
        let netns = netns();
        network.join(&join(&netns, "comer")).unwrap().leave().unwrap();
    }
}

/// Nothing but the kernel stands between these: no lock, no file is common to them.
#[test]
fn states_that_know_nothing_of_each_other_share_the_host() {
    run_with(&[("comer", comer)], |host| {
        let outside = Outside::new();
        let before = support::picture();
        let mut players: Vec<_> = (0..6).map(|_| host.play("comer")).collect();
        players.iter_mut().for_each(|player| assert_eq!(player.hear().as_deref(), Some("ready")));
        players.iter_mut().for_each(|player| player.say("go"));
        players.into_iter().for_each(|player| player.join());
        assert_eq!((support::picture(), our_links()), (before, vec![]));
        drop(outside);
    });
}
