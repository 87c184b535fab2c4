//! `networks/<name>/record`: what a network is, as JSON. Written once, never changed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::ipam::{self, Pool};
use crate::options::Options;
use crate::{Error, Kind, Result, Subnet};

/// The version that this code writes, and the newest that it reads.
pub(crate) const VERSION: u32 = 2;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub(crate) struct Record {
    pub(crate) version: u32,
    /// 64 hexadecimal digits.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) driver: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// The first is one of IPv4.
    pub(crate) pools: Vec<Pool>,
    pub(crate) internal: bool,
    pub(crate) mtu: Option<u32>,
    pub(crate) options: Options,
    pub(crate) labels: BTreeMap<String, String>,
    /// It goes with who holds its lock `owner`.
    pub(crate) ephemeral: bool,
}

/// As it is on disk: version 1 had one subnet.
#[derive(Deserialize)]
struct Written {
    version: u32,
    id: String,
    name: String,
    driver: String,
    created: u64,
    subnet: Option<Subnet>,
    gateway: Option<IpAddr>,
    #[serde(default)]
    pools: Vec<Pool>,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    mtu: Option<u32>,
    #[serde(default)]
    options: Options,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    ephemeral: bool,
}

impl From<Written> for Record {
    fn from(from: Written) -> Record {
        let Written { version, id, name, driver, created, subnet, gateway, mut pools, internal, .. } = from;
        if let Some(subnet) = subnet.filter(|_| pools.is_empty()) {
            let mut pool = ipam::plain(subnet);
            pool.gateway = gateway.unwrap_or(pool.gateway);
            pools.push(pool);
        }
        let Written { mtu, options, labels, ephemeral, .. } = from;
        Record { version, id, name, driver, created, pools, internal, mtu, options, labels, ephemeral }
    }
}

impl Record {
    pub(crate) fn read(bytes: &[u8], path: &std::path::Path) -> Result<Record> {
        let corrupt = |why: String| Error::new(Kind::Corrupt, format!("network record {path:?}: {why}"));
        let record: Record = serde_json::from_slice(bytes).map_err(|error| corrupt(error.to_string()))?;
        if record.version > VERSION {
            let why =
                format!("network record {path:?} is of version {}, newer than this program", record.version);
            return Err(Error::new(Kind::Unsupported, why));
        }
        if record.id.len() != 64 || !record.id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(corrupt(format!("id {:?} is not 64 hexadecimal digits", record.id)));
        }
        if !record.pools.first().is_some_and(|pool| pool.subnet.base().is_ipv4() && pool.gateway.is_ipv4()) {
            return Err(corrupt("its first subnet is not one of IPv4".into()));
        }
        Ok(record)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers only: there is nothing in it that JSON can't express.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The first subnet, which is one of IPv4.
    pub(crate) fn subnet(&self) -> Subnet {
        self.pools[0].subnet
    }

    /// The gateway of the first subnet.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        match self.pools[0].gateway {
            IpAddr::V4(gateway) => gateway,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        }
    }

    /// The pool that an address is from.
    pub(crate) fn pool_of(&self, address: impl Into<IpAddr>) -> Option<&Pool> {
        let address = address.into();
        self.pools.iter().find(|pool| pool.subnet.contains(address))
    }

    pub(crate) fn has_ipv6(&self) -> bool {
        self.pools.iter().any(|pool| pool.subnet.is_ipv6())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(text: &str) -> Result<Record> {
        Record::read(text.as_bytes(), Path::new("/s/web/record"))
    }

    fn text(version: u32, id: &str) -> String {
        format!(
            r#"{{"version":{version},"id":"{id}","name":"web","driver":"bridge","created":7,
               "pools":[{{"subnet":"10.1.0.0/24","gateway":"10.1.0.1"}},
                        {{"subnet":"fd00::/64","gateway":"fd00::1","range":"fd00::8/125"}}]}}"#
        )
    }

    #[test]
    fn is_read_back() {
        let record = read(&text(2, &"ab".repeat(32))).unwrap();
        assert!(!record.internal && record.has_ipv6());
        assert_eq!(record.pool_of("fd00::7".parse::<IpAddr>().unwrap()), Some(&record.pools[1]));
        assert_eq!(Record::read(&record.to_bytes(), Path::new("/")).unwrap(), record);
    }

    #[test]
    fn the_first_version_is_read() {
        let text = format!(
            r#"{{"version":1,"id":"{}","name":"web","driver":"bridge","created":7,"subnet":"10.1.0.0/24","gateway":"10.1.0.9"}}"#,
            "ab".repeat(32)
        );
        let record = read(&text).unwrap();
        assert_eq!(
            (record.subnet().to_string(), record.gateway().to_string()),
            ("10.1.0.0/24".into(), "10.1.0.9".into())
        );
    }

    #[test]
    fn says_what_is_wrong_with_it() {
        let id = "ab".repeat(32);
        let cases = [
            (text(3, &id), Kind::Unsupported, "version 3"),
            (text(2, "ab"), Kind::Corrupt, "64 hexadecimal"),
            (text(2, &id).replace("/24", "/77"), Kind::Corrupt, "10.1.0.0/77"),
            (text(2, &id).replace("10.1.0.0/24", "fd01::/64"), Kind::Corrupt, "not one of IPv4"),
            ("{".into(), Kind::Corrupt, "/s/web/record"),
        ];
        for (text, kind, words) in cases {
            let error = read(&text).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
