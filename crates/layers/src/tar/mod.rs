//! The tar format (pax interchange format, POSIX.1-2001, as the OCI image-spec's layer.md asks), as values.
//! Header fields are the `tar` crate's; the stream around them, its limits and its errors are ours.

mod pax;
mod read;
mod write;

pub(crate) use read::Archive;
pub(crate) use write::Writer;

pub(crate) const BLOCK: usize = 512;

/// A point in time as files have it: seconds since the epoch, and nanoseconds after that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time {
    pub secs: i64,
    pub nanos: u32,
}

/// One extended attribute: its full name (`security.capability`) and its bytes.
pub(crate) type Xattr = (Vec<u8>, Vec<u8>);

/// One member of an archive, without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As it stands in the archive; a directory's may end with a slash.
    pub path: Vec<u8>,
    pub what: What,
    /// Permission bits with setuid, setgid and sticky (0o7777).
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    /// Sorted by name.
    pub xattrs: Vec<Xattr>,
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    File { size: u64 },
    Dir,
    Symlink(Vec<u8>),
    Hardlink(Vec<u8>),
    Char { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

impl Entry {
    /// A member owned by root, at the epoch.
    pub fn new(path: impl Into<Vec<u8>>, what: What, mode: u32) -> Entry {
        let xattrs = Vec::new();
        Entry { path: path.into(), what, mode, uid: 0, gid: 0, mtime: Time::default(), xattrs }
    }

    /// The name for messages.
    pub fn name(&self) -> String {
        show(&self.path)
    }
}

/// A name from an archive for messages: in backquotes, control characters escaped, and not endless.
pub(crate) fn show(name: &[u8]) -> String {
    const MOST: usize = 200;
    let text: String = String::from_utf8_lossy(&name[..name.len().min(MOST)])
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect();
    if name.len() > MOST { format!("`{text}…`") } else { format!("`{text}`") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    fn names() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            "[a-z]{1,8}(/[a-z.]{1,8}){0,4}".prop_map(String::into_bytes),
            "[a-z/]{90,300}".prop_map(|s| s.into_bytes()),
            "\\PC{1,20}".prop_map(String::into_bytes),
            proptest::collection::vec(1u8..=255, 1..130),
        ]
    }

    fn whats() -> impl Strategy<Value = (What, Vec<u8>)> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..1500)
                .prop_map(|data| (What::File { size: data.len() as u64 }, data)),
            Just((What::Dir, Vec::new())),
            Just((What::Fifo, Vec::new())),
            names().prop_map(|to| (What::Symlink(to), Vec::new())),
            names().prop_map(|to| (What::Hardlink(to), Vec::new())),
            (0u32..4096, 0u32..1 << 20).prop_map(|(major, minor)| (What::Char { major, minor }, Vec::new())),
        ]
    }

    prop_compose! {
        fn members()(
            mut path in names(), (what, data) in whats(), mode in 0u32..0o10000, uid: u32, gid: u32,
            secs in prop_oneof![-5i64..5, 0i64..1 << 34], nanos in prop_oneof![Just(0u32), 0u32..1_000_000_000],
            xattrs in proptest::collection::btree_map("user\\.[a-z]{1,9}", any::<Vec<u8>>(), 0..3),
        ) -> (Entry, Vec<u8>) {
            if what == What::Dir {
                path.push(b'/');
            } else if path.last() == Some(&b'/') {
                path.push(b'x');
            }
            let xattrs = xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
            (Entry { path, what, mode, uid, gid, mtime: Time { secs, nanos }, xattrs }, data)
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_wrote(members in proptest::collection::vec(members(), 0..6)) {
            let mut writer = Writer::new(Vec::new());
            for (entry, data) in &members {
                writer.add(entry, &mut data.as_slice()).unwrap();
            }
            let bytes = writer.finish().unwrap();
            prop_assert_eq!(bytes.len() % BLOCK, 0);
            let mut archive = Archive::new(bytes.as_slice()).whole();
            for (entry, data) in &members {
                let read = archive.next().unwrap().unwrap();
                prop_assert_eq!(&read, entry);
                let mut got = Vec::new();
                archive.read_to_end(&mut got).unwrap();
                prop_assert_eq!(&got, data);
            }
            prop_assert_eq!(archive.next().unwrap(), None);
        }

        #[test]
        fn never_panics_on_noise(mut bytes in proptest::collection::vec(any::<u8>(), 0..2048), flip in 0usize..2048) {
            drain(&bytes);
            let mut writer = Writer::new(Vec::new());
            let entry = Entry { mtime: Time { secs: 1, nanos: 5 }, ..Entry::new("a", What::File { size: 3 }, 0o644) };
            writer.add(&entry, &mut b"abc".as_slice()).unwrap();
            let mut good = writer.finish().unwrap();
            let at = flip % good.len();
            good[at] ^= bytes.pop().unwrap_or(1);
            drain(&good);
        }
    }

    fn drain(bytes: &[u8]) {
        let mut archive = Archive::new(bytes);
        while let Ok(Some(_)) = archive.next() {
            let _ = std::io::copy(&mut archive, &mut std::io::sink());
        }
    }
}
