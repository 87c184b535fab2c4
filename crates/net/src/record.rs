//! `networks/<name>/record`: what a network is, as JSON. Written once, never changed.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::{Error, Kind, Result, Subnet};

/// The version that this code writes, and the newest that it reads.
pub(crate) const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    /// 64 hexadecimal digits.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) driver: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) subnet: Subnet,
    pub(crate) gateway: Ipv4Addr,
    #[serde(default)]
    pub(crate) internal: bool,
    #[serde(default)]
    pub(crate) mtu: Option<u32>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
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
        if record.driver != "bridge" {
            let why =
                format!("network record {path:?} has driver `{}`, which is unknown here", record.driver);
            return Err(Error::new(Kind::Unsupported, why));
        }
        if record.id.len() != 64 || !record.id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(corrupt(format!("id {:?} is not 64 hexadecimal digits", record.id)));
        }
        Ok(record)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers only: there is nothing in it that JSON can't express.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(text: &str) -> Result<Record> {
        Record::read(text.as_bytes(), Path::new("/s/web/record"))
    }

    fn text(version: u32, driver: &str, id: &str) -> String {
        format!(
            r#"{{"version":{version},"id":"{id}","name":"web","driver":"{driver}","created":7,
               "subnet":"10.1.0.0/24","gateway":"10.1.0.1"}}"#
        )
    }

    #[test]
    fn is_read_back() {
        let record = read(&text(1, "bridge", &"ab".repeat(32))).unwrap();
        assert!(!record.internal);
        assert_eq!(Record::read(&record.to_bytes(), Path::new("/")).unwrap(), record);
    }

    #[test]
    fn says_what_is_wrong_with_it() {
        let id = "ab".repeat(32);
        let cases = [
            (text(2, "bridge", &id), Kind::Unsupported, "version 2"),
            (text(1, "macvlan", &id), Kind::Unsupported, "`macvlan`"),
            (text(1, "bridge", "ab"), Kind::Corrupt, "64 hexadecimal"),
            (text(1, "bridge", &id).replace("/24", "/77"), Kind::Corrupt, "10.1.0.0/77"),
            ("{".into(), Kind::Corrupt, "/s/web/record"),
        ];
        for (text, kind, words) in cases {
            let error = read(&text).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
