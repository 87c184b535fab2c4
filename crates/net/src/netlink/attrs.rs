//! Attributes: writing them for nf_tables (for which no message crate is fit), reading them from any answer.
//!
//! Answers are read attribute by attribute rather than as whole typed messages: a kernel newer than a message
//! crate sends attributes which that crate may refuse, and we want four of them.

use netlink_packet_core::NlasIterator;

const NESTED: u16 = 0x8000;

/// Attributes being written, each padded to four bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attrs(Vec<u8>);

impl Attrs {
    pub(crate) fn new() -> Attrs {
        Attrs::default()
    }

    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Attrs {
        // Lengths here are those of names and small numbers; no attribute of ours nears 64 KiB.
        self.0.extend(((value.len() + 4) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// A string with its terminating zero.
    pub(crate) fn text(self, kind: u16, value: &str) -> Attrs {
        self.bytes(kind, &[value.as_bytes(), b"\0"].concat())
    }

    /// A number in network byte order, as all of nf_tables has them.
    pub(crate) fn be32(self, kind: u16, value: u32) -> Attrs {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn nest(self, kind: u16, inner: Attrs) -> Attrs {
        self.bytes(kind | NESTED, &inner.0)
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The attributes in `bytes` as (type, value); stops at the first that is cut off.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, Vec<u8>)> + '_ {
    NlasIterator::new(bytes).map_while(|nla| nla.ok().map(|nla| (nla.kind(), nla.value().to_vec())))
}

/// A string attribute without its terminating zero.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// A number in the machine's byte order.
pub(crate) fn ne32(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let inner = Attrs::new().be32(1, 7);
        let bytes = Attrs::new().text(1, "web").nest(2, inner.clone()).bytes(3, &[9]).into_bytes();
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read, [(1, b"web\0".to_vec()), (2, inner.into_bytes()), (3, vec![9])]);
        assert_eq!(text(&read[0].1), "web");
    }

    #[test]
    fn cut_off_attributes_end_the_list() {
        let bytes = Attrs::new().be32(1, 7).be32(2, 8).into_bytes();
        assert_eq!(attributes(&bytes[..bytes.len() - 1]).count(), 1);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
    }
}
