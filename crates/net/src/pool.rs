//! Which subnet a network gets that doesn't ask for one.
//!
//! The pools, cut into `/24`s of 253 containers each:
//!
//! | pool | networks | why |
//! |---|---|---|
//! | `10.64.0.0/12` | 4,096 | no well-known default lies in it (k3s 10.42 and 10.43, podman 10.88 and up, Kubernetes 10.96/12, Google 10.128/9) |
//! | `10.112.0.0/12` | 4,096 | likewise, between Kubernetes' services and Google's networks |
//! | `172.24.0.0/14` | 1,024 | for hosts that route all of 10.0.0.0/8 elsewhere; docker counts up to it from 172.17, and Amazon's default is 172.31 |
//!
//! Networks with IPv6 get a `/64` of their own unique local prefix `fd..:....:....::/48` (RFC 4193), whose 40 random
//! bits are those of the network's id.
//!
//! The search starts at a place that follows from the network's random id, so that two state directories on one
//! host, which can't see each other's networks while these have nobody on them, seldom choose the same subnet.

use std::net::Ipv6Addr;

use crate::Subnet;

const LENGTH: u8 = 24;
const POOLS: [(&str, u64); 3] = [("10.64.0.0/12", 4096), ("10.112.0.0/12", 4096), ("172.24.0.0/14", 1024)];

/// The first free subnet of the pools that overlaps none of `taken`; `None` when they are used up.
/// `start` says where the search begins; every pool is searched in full before the next.
pub(crate) fn choose(taken: &[Subnet], start: u64) -> Option<Subnet> {
    POOLS.iter().find_map(|&(pool, count)| {
        let pool: Subnet = pool.parse().ok()?;
        let near: Vec<Subnet> = taken.iter().filter(|subnet| subnet.overlaps(&pool)).copied().collect();
        (0..count)
            .filter_map(|step| pool.nth(LENGTH, (start % count + step) % count))
            .find(|candidate| !near.iter().any(|subnet| subnet.overlaps(candidate)))
    })
}

/// The first free `/64` of the unique local prefix that the last 40 bits of `start` make.
pub(crate) fn choose_ipv6(taken: &[Subnet], start: u64) -> Option<Subnet> {
    let prefix = u128::from(start & 0xff_ffff_ffff) | 0xfd << 40;
    let site = Subnet::around(Ipv6Addr::from(prefix << 80), 48)?;
    let free = |candidate: &Subnet| !taken.iter().any(|subnet| subnet.overlaps(candidate));
    (0..1 << 16).filter_map(|index| site.nth(64, index)).find(free)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn takes_the_next_that_nobody_has() {
        assert_eq!(choose(&[], 0), Some(subnet("10.64.0.0/24")));
        assert_eq!(choose(&[], 4097), Some(subnet("10.64.1.0/24")));
        assert_eq!(choose(&[subnet("10.64.0.0/22")], 0), Some(subnet("10.64.4.0/24")));
        assert_eq!(choose(&[subnet("10.64.0.128/32")], 0), Some(subnet("10.64.1.0/24")));
        assert_eq!(choose(&[subnet("10.79.255.0/24")], 4095), Some(subnet("10.64.0.0/24")));
    }

    #[test]
    fn moves_on_when_a_pool_is_routed_elsewhere() {
        assert_eq!(choose(&[subnet("10.64.0.0/10")], 5), Some(subnet("172.24.5.0/24")));
        assert_eq!(choose(&[subnet("10.0.0.0/8")], 0), Some(subnet("172.24.0.0/24")));
        assert_eq!(choose(&[subnet("10.0.0.0/8"), subnet("172.16.0.0/12")], 0), None);
    }

    #[test]
    fn unique_local_prefixes_are_of_random_bits() {
        assert_eq!(choose_ipv6(&[], 0x12_3456_789a), Some(subnet("fd12:3456:789a::/64")));
        let taken = [subnet("fd12:3456:789a::/63"), subnet("10.0.0.0/8")];
        assert_eq!(choose_ipv6(&taken, 0x12_3456_789a), Some(subnet("fd12:3456:789a:2::/64")));
        assert_eq!(choose_ipv6(&[subnet("fd12::/16")], 0x12_3456_789a), None);
    }

    #[test]
    fn every_pool_is_as_large_as_the_table_says() {
        for (pool, count) in POOLS {
            assert_eq!(1 << (LENGTH - subnet(pool).prefix_len()), count, "{pool}");
        }
    }

    #[test]
    fn a_thousand_networks_fit_even_into_the_smallest() {
        let mut taken = vec![subnet("10.0.0.0/8")];
        for start in 0..1000 {
            taken.push(choose(&taken, start * 7919).expect("a subnet"));
        }
        assert_eq!(taken.iter().collect::<HashSet<_>>().len(), 1001);
    }
}
