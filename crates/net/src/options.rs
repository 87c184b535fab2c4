//! Driver options, by docker's names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The options of a network as they were given. They are checked when it is created, so that asking is simple.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Options(pub(crate) BTreeMap<String, String>);

pub(crate) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
pub(crate) const ICC: &str = "com.docker.network.bridge.enable_icc";
pub(crate) const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub(crate) const MODE_IPV4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
pub(crate) const MODE_IPV6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
pub(crate) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
pub(crate) const MTU: &str = "com.docker.network.driver.mtu";
/// Says what docker's own default network is, and changes nothing here.
pub(crate) const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
pub(crate) const PARENT: &str = "parent";
pub(crate) const MACVLAN_MODE: &str = "macvlan_mode";

/// How packets of one family get out and in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gateway {
    /// By the host's address; published ports are translated.
    Nat,
    /// As they are; the host's neighbours need a route. Published ports are the only ones that are open.
    Routed,
}

impl Options {
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn flag(&self, key: &str, otherwise: bool) -> bool {
        self.get(key).and_then(flag).unwrap_or(otherwise)
    }

    /// Whether endpoints reach each other.
    pub(crate) fn icc(&self) -> bool {
        self.flag(ICC, true)
    }

    /// Whether packets leave by the host's address.
    pub(crate) fn masquerade(&self) -> bool {
        self.flag(MASQUERADE, true)
    }

    pub(crate) fn gateway(&self, ipv6: bool) -> Gateway {
        match self.get(if ipv6 { MODE_IPV6 } else { MODE_IPV4 }) {
            Some("routed") => Gateway::Routed,
            _ => Gateway::Nat,
        }
    }

    /// Where ports are published that name no address of the host.
    pub(crate) fn host_binding(&self) -> Option<IpAddr> {
        self.get(HOST_BINDING)?.parse().ok()
    }

    pub(crate) fn mtu(&self) -> Option<u32> {
        self.get(MTU)?.parse().ok()
    }

    /// Everything that is wrong with the options of a bridge network.
    pub(crate) fn bridge_problems(&self) -> Vec<String> {
        self.0.iter().filter_map(|(key, value)| bridge_problem(key, value)).collect()
    }
}

fn bridge_problem(key: &str, value: &str) -> Option<String> {
    let wrong = |what: &str| Some(format!("option {key}={value}: {what}"));
    match key {
        BRIDGE_NAME => {
            crate::spec::interface_problem(value).map(|problem| format!("option {key}: {problem}"))
        }
        ICC | MASQUERADE => match flag(value) {
            Some(_) => None,
            None => wrong("it is true or false"),
        },
        MODE_IPV4 | MODE_IPV6 => match value {
            "nat" | "routed" => None,
            "isolated" | "nat-unprotected" => wrong("only nat and routed are supported"),
            _ => wrong("it is nat or routed"),
        },
        HOST_BINDING => match value.parse::<std::net::Ipv4Addr>() {
            Ok(_) => None,
            Err(_) => wrong("it is no IPv4 address"),
        },
        MTU => mtu_problem(value).and_then(wrong),
        DEFAULT_BRIDGE => None,
        _ => wrong("bridge networks have no such option"),
    }
}

pub(crate) fn mtu_problem(value: &str) -> Option<&'static str> {
    let good = value.parse().is_ok_and(|mtu: u32| (68..=65535).contains(&mtu));
    (!good).then_some("it is 68 to 65535")
}

/// As docker reads one (Go's `strconv.ParseBool`).
fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(all: &[(&str, &str)]) -> Options {
        Options(all.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect())
    }

    #[test]
    fn what_they_say() {
        let none = options(&[]);
        assert!(none.icc() && none.masquerade() && none.mtu().is_none());
        let all = options(&[(ICC, "false"), (MASQUERADE, "0"), (MTU, "1400"), (MODE_IPV6, "routed")]);
        assert!(all.bridge_problems().is_empty());
        assert_eq!((all.icc(), all.masquerade(), all.mtu()), (false, false, Some(1400)));
        assert_eq!((all.gateway(false), all.gateway(true)), (Gateway::Nat, Gateway::Routed));
    }

    #[test]
    fn nothing_unknown_is_ignored() {
        for (key, value) in [
            ("com.docker.network.bridge.enable_icmp", "true"),
            (ICC, "maybe"),
            (MODE_IPV4, "isolated"),
            (HOST_BINDING, "::1"),
            (MTU, "9"),
            (BRIDGE_NAME, "a/b"),
        ] {
            let problems = options(&[(key, value)]).bridge_problems();
            assert!(problems.len() == 1 && problems[0].contains(key), "{problems:?}");
        }
    }
}
