//! What is written down about a volume when it is made. It never changes: whether somebody uses it is not
//! in it, because a crash would make that a lie.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::local::Backing;

/// The driver that is always there: a directory of this state directory.
pub(crate) const LOCAL: &str = "local";

/// Unknown fields are let pass: a newer version that adds one marks the state directory if it matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    /// Seconds since 1970-01-01 UTC.
    pub(crate) created: u64,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) driver: String,
    #[serde(default)]
    pub(crate) anonymous: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) options: BTreeMap<String, String>,
    /// The frozen volume that it began as, and whose files it still shows where it has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<String>,
    /// It need not survive a power cut.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) volatile: bool,
}

impl Record {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("strings and numbers always become JSON");
        bytes.push(b'\n');
        bytes
    }

    /// Reads the record of the volume `name`, or says why it can't be that.
    pub(crate) fn parse(bytes: &[u8], name: &str) -> Result<Record, String> {
        let record: Record = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if record.name != name {
            return Err(format!("it is the record of `{}`", record.name));
        }
        match Backing::parse(&record.options) {
            Ok(_) => Ok(record),
            // The options of other drivers are theirs.
            Err(_) if record.driver != LOCAL => Ok(record),
            Err(_) => Err(format!("its options mean nothing here: {:?}", record.options)),
        }
    }

    /// Where the data is.
    pub(crate) fn backing(&self) -> Backing {
        match self.driver == LOCAL {
            true => Backing::parse(&self.options).unwrap_or(Backing::Data),
            false => Backing::Driver,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_refuses() {
        let text = br#"{"name":"db","created":1,"driver":"local","later":[1]}"#;
        let record = Record::parse(text, "db").unwrap();
        assert_eq!((record.created, record.anonymous, record.labels.len()), (1, false, 0));
        assert_eq!(Record::parse(text, "other").unwrap_err(), "it is the record of `db`");
        let foreign = br#"{"name":"db","created":1,"driver":"disk","options":{"tier":"fast"}}"#;
        assert_eq!(Record::parse(foreign, "db").unwrap().backing(), Backing::Driver);
        let newer = br#"{"name":"db","created":1,"driver":"local","options":{"size":"1g"}}"#;
        assert_eq!(
            Record::parse(newer, "db").unwrap_err(),
            r#"its options mean nothing here: {"size": "1g"}"#
        );
        assert!(Record::parse(b"", "db").unwrap_err().starts_with("EOF"), "an empty file");
        assert!(Record::parse(b"{\"name\":\"db\"}", "db").unwrap_err().contains("created"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            name in any::<String>(),
            created in any::<u64>(),
            labels in prop::collection::btree_map(any::<String>(), any::<String>(), 0..4),
            anonymous in any::<bool>(),
            in_memory in any::<bool>(),
        ) {
            let options = match in_memory {
                true => BTreeMap::from([("type".to_owned(), "tmpfs".to_owned())]),
                false => BTreeMap::new(),
            };
            let driver = LOCAL.to_owned();
            let base = anonymous.then(|| "golden".to_owned());
            let record = Record { name: name.clone(), created, labels, driver, anonymous, options, base, volatile: anonymous };
            prop_assert_eq!(Record::parse(&record.to_bytes(), &name), Ok(record));
        }
    }
}
