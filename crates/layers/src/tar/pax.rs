//! Pax extended header records: `<length> <key>=<value>\n`.

use std::io::Write;

use super::{Time, Xattr, show};
use crate::{Error, Result};

pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// What extended headers say about a member. Keys that say nothing about files (`comment`, `atime`, …) are dropped.
#[derive(Clone, Default)]
pub(super) struct Pax {
    pub path: Option<Vec<u8>>,
    pub linkpath: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Time>,
    pub xattrs: Vec<Xattr>,
}

impl Pax {
    /// Takes in the records of one extended header, later ones over earlier ones.
    pub fn take(&mut self, mut records: &[u8]) -> Result<()> {
        while !records.is_empty() {
            let (key, value, rest) = record(records).ok_or_else(|| {
                let start = &records[..records.len().min(40)];
                Error::corrupt(format!("broken pax record {}", show(start)))
            })?;
            records = rest;
            self.set(key, value)?;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let bad = || Error::corrupt(format!("pax record {} has the value {}", show(key), show(value)));
        let number = || std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()).ok_or_else(bad);
        // An empty value takes back what a global header said.
        let text = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" if value.contains(&0) => return Err(bad()),
            b"linkpath" if value.contains(&0) => return Err(bad()),
            b"path" => self.path = text(),
            b"linkpath" => self.linkpath = text(),
            b"size" | b"uid" | b"gid" | b"mtime" if value.is_empty() => match key {
                b"size" => self.size = None,
                b"uid" => self.uid = None,
                b"gid" => self.gid = None,
                _ => self.mtime = None,
            },
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => self.mtime = Some(parse_time(value).ok_or_else(bad)?),
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(Error::unsupported("sparse members (GNU.sparse) are not supported"));
            }
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    if name.is_empty() || name.contains(&0) {
                        return Err(bad());
                    }
                    self.xattrs.retain(|(known, _)| known != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
    if length <= space + 1 || length > records.len() || records[length - 1] != b'\n' {
        return None;
    }
    let body = &records[space + 1..length - 1];
    let equals = body.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    Some((&body[..equals], &body[equals + 1..], &records[length..]))
}

/// `[-]seconds[.fraction]`; the fraction of a negative time counts downwards, too.
fn parse_time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let magnitude = whole.strip_prefix('-').unwrap_or(whole);
    if magnitude.is_empty() || !digits(magnitude) || !digits(fraction) {
        return None;
    }
    let mut secs: i64 = whole.parse().ok()?;
    let mut nanos: u32 = format!("{:0<9}", &fraction[..fraction.len().min(9)]).parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        secs = secs.checked_sub(1)?;
        nanos = 1_000_000_000 - nanos;
    }
    Some(Time { secs, nanos })
}

pub(super) fn format_time(time: Time) -> String {
    if time.nanos == 0 {
        return time.secs.to_string();
    }
    let (sign, secs, nanos) = if time.secs < 0 {
        ("-", (time.secs + 1).unsigned_abs(), 1_000_000_000 - time.nanos)
    } else {
        ("", time.secs.unsigned_abs(), time.nanos)
    };
    format!("{sign}{secs}.{nanos:09}").trim_end_matches('0').to_owned()
}

/// Appends one record. Its length counts its own digits.
pub(super) fn push(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    // Writing to a Vec does not fail.
    let _ = write!(records, "{length} ");
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_themselves() {
        for length in [1, 2, 5, 90, 91, 92, 93, 985, 986, 987, 988] {
            let mut records = Vec::new();
            push(&mut records, b"path", &vec![b'x'; length]);
            assert!(records.starts_with(records.len().to_string().as_bytes()));
            let mut pax = Pax::default();
            pax.take(&records).unwrap();
            assert_eq!(pax.path.unwrap().len(), length);
        }
    }

    #[test]
    fn times_go_both_ways() {
        for (text, secs, nanos) in [
            ("0", 0, 0),
            ("1.5", 1, 500_000_000),
            ("-1", -1, 0),
            ("-0.25", -1, 750_000_000),
            ("7.000000001", 7, 1),
        ] {
            let time = Time { secs, nanos };
            assert_eq!(parse_time(text.as_bytes()), Some(time));
            assert_eq!(format_time(time), text);
        }
        assert_eq!(parse_time(b"1.1234567899"), Some(Time { secs: 1, nanos: 123_456_789 }));
        for bad in ["", "-", "a", "1.x", "+1", ".5", "99999999999999999999"] {
            assert_eq!(parse_time(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn broken_records_are_corrupt() {
        for bad in
            ["5 a=b", "x", "6 ab\n", "999999 a=b\n", "6 =xx\n", "9 size=x\n", "0 a=b\n", "13 path=a\0bb\n"]
        {
            let error = Pax::default().take(bad.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), coracle_host::Kind::Corrupt, "{bad}");
        }
        let mut sparse = Vec::new();
        push(&mut sparse, b"GNU.sparse.major", b"1");
        assert_eq!(Pax::default().take(&sparse).unwrap_err().kind(), coracle_host::Kind::Unsupported);
    }
}
