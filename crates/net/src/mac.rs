//! Hardware addresses.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An Ethernet address (EUI-48), printed as `02:42:0a:40:03:02`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The locally administered address that belongs to an IPv4 address, as docker forms it. The same IP address
    /// always has the same hardware address, so that a neighbour's ARP cache stays true when a lease changes hands.
    pub fn of(address: Ipv4Addr) -> Mac {
        let [a, b, c, d] = address.octets();
        Mac([0x02, 0x42, a, b, c, d])
    }

    /// The link-local address that belongs to it (RFC 4291, appendix A).
    pub(crate) fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, g] = self.0;
        let words = [[a ^ 2, b], [c, 0xff], [0xfe, d], [e, g]].map(u16::from_be_bytes);
        Ipv6Addr::new(0xfe80, 0, 0, 0, words[0], words[1], words[2], words[3])
    }

    /// Whether one interface may have it: it is no group's (IEEE 802, the lowest bit of the first byte) and not zero.
    pub(crate) fn is_one_hosts(&self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

/// Six bytes of two hexadecimal digits, between colons or dashes.
impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Mac, String> {
        let wrong = || format!("`{text}` is no hardware address; one looks like 02:42:0a:01:00:02");
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut parts = text.split(separator);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() || text.contains('+') { Err(wrong()) } else { Ok(Mac(bytes)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = String;

    fn try_from(text: String) -> Result<Mac, String> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_is_written() {
        let mac = Mac::of(Ipv4Addr::new(10, 1, 0, 2));
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!(mac.link_local().to_string(), "fe80::42:aff:fe01:2");
        assert_eq!("92-D0-C6-0A-29-33".parse(), Ok(Mac([0x92, 0xd0, 0xc6, 0x0a, 0x29, 0x33])));
        for bad in [
            "",
            "02:42:0a:01:00",
            "02:42:0a:01:00:02:03",
            "2:42:0a:01:00:02",
            "02:42:0a:01:00:+2",
            "g0:42:0a:01:00:02",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
        assert!(mac.is_one_hosts() && !Mac([1; 6]).is_one_hosts() && !Mac([0; 6]).is_one_hosts());
    }
}
