//! Prefixes in CIDR notation (RFC 4632, RFC 4291 section 2.3).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A prefix of IPv4 or IPv6 addresses: `10.64.3.0/24`, `fd12:3456:789a::/64`. Host bits are zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    base: IpAddr,
    prefix: u8,
}

impl Subnet {
    /// The prefix of `length` bits (0 to 32 or 128) that has `address` in it; `None` for a longer length.
    pub fn around(address: impl Into<IpAddr>, length: u8) -> Option<Subnet> {
        let address = address.into();
        let width = width(address);
        (length <= width)
            .then(|| Subnet { base: number(address, bits(address) & mask(width, length)), prefix: length })
    }

    /// The first address, which names the prefix.
    pub fn base(&self) -> IpAddr {
        self.base
    }

    /// The number of fixed bits.
    pub fn prefix_len(&self) -> u8 {
        self.prefix
    }

    /// Whether it is one of IPv6 addresses.
    pub fn is_ipv6(&self) -> bool {
        self.base.is_ipv6()
    }

    /// The last address, which is the broadcast address of IPv4 prefixes up to 30 bits.
    pub fn last(&self) -> IpAddr {
        number(self.base, bits(self.base) | rest(width(self.base), self.prefix))
    }

    /// Whether the address is inside.
    pub fn contains(&self, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        let width = width(self.base);
        address.is_ipv6() == self.is_ipv6() && bits(address) & mask(width, self.prefix) == bits(self.base)
    }

    /// Whether the two have an address in common, which means that one contains the other.
    pub fn overlaps(&self, other: &Subnet) -> bool {
        if self.prefix <= other.prefix { self.contains(other.base) } else { other.contains(self.base) }
    }

    /// Whether an interface on it may have the address: any inside but the first, and the last of IPv4.
    pub fn has_host(&self, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        self.contains(address) && address != self.base && (self.is_ipv6() || address != self.last())
    }

    /// The addresses that interfaces may have, in order; see [`Subnet::has_host`].
    pub fn hosts(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let subnet = *self;
        self.all().filter(move |address| subnet.has_host(*address))
    }

    /// Every address inside, in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let (base, first, last) = (self.base, bits(self.base), bits(self.last()));
        (first..=last).map(move |address| number(base, address))
    }

    /// How many addresses [`Subnet::hosts`] has; of `::/0` one less than there are.
    pub fn capacity(&self) -> u128 {
        let count = 1u128.checked_shl((width(self.base) - self.prefix).into()).unwrap_or(u128::MAX);
        count.saturating_sub(if self.is_ipv6() { 1 } else { 2 })
    }

    /// The `index`th of the prefixes of `length` bits inside, or `None` past the last.
    pub(crate) fn nth(&self, length: u8, index: u64) -> Option<Subnet> {
        let count = 1u128.checked_shl(length.checked_sub(self.prefix)?.into())?;
        let step = 1u128.checked_shl(width(self.base).checked_sub(length)?.into())?;
        let base = number(self.base, bits(self.base).wrapping_add(u128::from(index).wrapping_mul(step)));
        (u128::from(index) < count).then_some(Subnet { base, prefix: length })
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The address of the same family as `like` with these bits.
fn number(like: IpAddr, bits: u128) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from(bits as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from(bits).into(),
    }
}

/// The bits that no prefix of `length` fixes.
fn rest(width: u8, length: u8) -> u128 {
    u128::MAX.checked_shr((128 - (width - length)).into()).unwrap_or(0)
}

fn mask(width: u8, length: u8) -> u128 {
    rest(width, 0) & !rest(width, length)
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Subnet, String> {
        let wrong = || format!("`{text}` is no subnet; one looks like 10.1.0.0/24 or fd00:1::/64");
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
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
        for text in ["10.1.0.0/24", "fd00:1::/64", "::/0", "::1/128"] {
            assert_eq!(subnet(text).to_string(), text);
        }
        assert_eq!(subnet("0.0.0.0/0").last(), Ipv4Addr::BROADCAST);
        assert_eq!(subnet("fd00::/64").last().to_string(), "fd00::ffff:ffff:ffff:ffff");
        for text in ["10.1.0.0", "10.1.0.0/33", "10.1.0/24", "x/1", "10.1.0.0/-1", "", "::/129"] {
            assert!(text.parse::<Subnet>().unwrap_err().contains("no subnet"), "{text}");
        }
        for (text, means) in [("10.1.0.7/24", "10.1.0.0/24"), ("fd00::1/64", "fd00::/64")] {
            let problem = text.parse::<Subnet>().unwrap_err();
            assert_eq!(problem, format!("`{text}` has host bits set; the subnet is {means}"));
        }
    }

    #[test]
    fn hosts_leave_out_the_ends() {
        let hosts = |text: &str| subnet(text).hosts().map(|host| host.to_string()).collect::<Vec<_>>();
        assert_eq!(hosts("10.1.0.0/30"), ["10.1.0.1", "10.1.0.2"]);
        assert_eq!(hosts("fd00::/126"), ["fd00::1", "fd00::2", "fd00::3"]);
        assert_eq!(subnet("10.1.0.0/31").hosts().count(), 0);
        assert_eq!(subnet("255.255.255.0/24").hosts().count(), 254);
        for text in ["10.1.0.0/28", "255.255.255.0/24", "fd00::/120"] {
            assert_eq!(subnet(text).hosts().count() as u128, subnet(text).capacity(), "{text}");
        }
        assert_eq!(subnet("fd00::/64").hosts().nth(1), Some("fd00::2".parse().unwrap()));
    }

    fn any_address() -> impl Strategy<Value = IpAddr> {
        any::<(bool, u128)>().prop_map(|(six, bits)| match six {
            true => Ipv6Addr::from(bits).into(),
            false => Ipv4Addr::from(bits as u32).into(),
        })
    }

    proptest! {
        #[test]
        fn overlap_is_containment_of_a_base(a in any_address(), b in any_address(), la in 0u8..=32, lb in 0u8..=32) {
            let (a, b) = (Subnet::around(a, la).unwrap(), Subnet::around(b, lb).unwrap());
            prop_assert_eq!(a.overlaps(&b), a.contains(b.base()) || b.contains(a.base()));
            prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
            prop_assert!(a.contains(a.base()) && a.contains(a.last()) && a.overlaps(&a));
            prop_assert_eq!(a.to_string().parse::<Subnet>().unwrap(), a);
        }
    }
}
