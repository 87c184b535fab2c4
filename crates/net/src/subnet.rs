//! IPv4 prefixes in CIDR notation (RFC 4632).

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An IPv4 prefix: `10.64.3.0/24`. Host bits are zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    base: u32,
    prefix: u8,
}

impl Subnet {
    /// The prefix of `length` bits (0 to 32) that has `address` in it; `None` for a longer length.
    pub fn around(address: Ipv4Addr, length: u8) -> Option<Subnet> {
        if length > 32 {
            return None;
        }
        Some(Subnet { base: u32::from(address) & mask(length), prefix: length })
    }

    /// The first address, which names the prefix.
    pub fn base(&self) -> Ipv4Addr {
        self.base.into()
    }

    /// The number of fixed bits.
    pub fn prefix_len(&self) -> u8 {
        self.prefix
    }

    /// The last address, which is the broadcast address of prefixes up to 30 bits.
    pub fn last(&self) -> Ipv4Addr {
        (self.base | !mask(self.prefix)).into()
    }

    /// Whether the address is inside.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == self.base
    }

    /// Whether the two have an address in common, which means that one contains the other.
    pub fn overlaps(&self, other: &Subnet) -> bool {
        let shorter = mask(self.prefix.min(other.prefix));
        self.base & shorter == other.base & shorter
    }

    /// The addresses that an interface may have: all but the first and the last.
    pub fn hosts(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let (first, last) = (u64::from(self.base) + 1, u64::from(u32::from(self.last())));
        (first..last).map(|address| Ipv4Addr::from(address as u32))
    }

    /// How many addresses [`Subnet::hosts`] has.
    pub fn capacity(&self) -> u64 {
        (1u64 << (32 - self.prefix)).saturating_sub(2)
    }

    /// The `index`th of the prefixes of `length` bits inside, or `None` past the last.
    pub(crate) fn nth(&self, length: u8, index: u64) -> Option<Subnet> {
        let count = 1u64 << length.checked_sub(self.prefix)?;
        let base = self.base as u64 + index * (1u64 << (32 - length));
        (index < count).then_some(Subnet { base: base as u32, prefix: length })
    }
}

fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Subnet, String> {
        let wrong = || format!("`{text}` is no IPv4 subnet; one looks like 10.1.0.0/24");
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let length: u8 = length.parse().map_err(|_| wrong())?;
        let subnet = Subnet::around(address, length).ok_or_else(wrong)?;
        if subnet.base() != address {
            return Err(format!("`{text}` has host bits set; the subnet is {subnet}"));
        }
        Ok(subnet)
    }
}

impl TryFrom<String> for Subnet {
    type Error = String;

    fn try_from(text: String) -> Result<Subnet, String> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base(), self.prefix)
    }
}

impl fmt::Debug for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn parses_what_it_prints_and_says_what_is_wrong() {
        assert_eq!(subnet("10.1.0.0/24").to_string(), "10.1.0.0/24");
        assert_eq!(subnet("0.0.0.0/0").last(), Ipv4Addr::BROADCAST);
        for text in ["10.1.0.0", "10.1.0.0/33", "10.1.0/24", "x/1", "10.1.0.0/-1", ""] {
            assert!(text.parse::<Subnet>().unwrap_err().contains("no IPv4 subnet"), "{text}");
        }
        assert_eq!(
            "10.1.0.7/24".parse::<Subnet>().unwrap_err(),
            "`10.1.0.7/24` has host bits set; the subnet is 10.1.0.0/24"
        );
    }

    #[test]
    fn hosts_leave_out_both_ends() {
        let hosts: Vec<_> = subnet("10.1.0.0/30").hosts().collect();
        assert_eq!(hosts, [Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 1, 0, 2)]);
        assert_eq!(subnet("10.1.0.0/31").hosts().count(), 0);
        assert_eq!(subnet("255.255.255.0/24").hosts().count(), 254);
    }

    proptest! {
        #[test]
        fn overlap_is_containment_of_a_base(a: u32, b: u32, la in 0u8..=32, lb in 0u8..=32) {
            let (a, b) = (Subnet::around(a.into(), la).unwrap(), Subnet::around(b.into(), lb).unwrap());
            prop_assert_eq!(a.overlaps(&b), a.contains(b.base()) || b.contains(a.base()));
            prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
            prop_assert_eq!(a.to_string().parse::<Subnet>().unwrap(), a);
        }
    }
}
