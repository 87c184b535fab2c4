//! Archives that want to do harm, or are broken: each refused with the entry named, nothing outside, nothing left.

use coracle_host::Kind;
use coracle_layers::ImportOptions;
use coracle_testhost::run;
use tar::{EntryType, Header};

use crate::{assert_nothing_left, store};

/// A member, written byte by byte: the `tar` crate's builder is too well-behaved.
#[derive(Clone)]
pub struct Member {
    header: Header,
    data: Vec<u8>,
}

impl Member {
    pub fn new(name: &str, kind: u8, link: &str, data: &[u8]) -> Member {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(EntryType::new(kind));
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(data.len() as u64);
        Member { header, data: data.to_vec() }
    }

    pub fn mode(&mut self, mode: u32) -> &mut Member {
        self.header.set_mode(mode);
        self
    }

    pub fn owner(&mut self, uid: u64, gid: u64) -> &mut Member {
        self.header.set_uid(uid);
        self.header.set_gid(gid);
        self
    }

    pub fn time(&mut self, secs: u64) -> &mut Member {
        self.header.set_mtime(secs);
        self
    }
}

pub fn file(name: &str, data: &[u8]) -> Member {
    Member::new(name, b'0', "", data)
}

pub fn dir(name: &str) -> Member {
    Member::new(name, b'5', "", b"")
}

pub fn symlink(name: &str, target: &str) -> Member {
    Member::new(name, b'2', target, b"")
}

pub fn hard_link(name: &str, target: &str) -> Member {
    Member::new(name, b'1', target, b"")
}

fn device(name: &str, kind: u8, major: u32, minor: u32) -> Member {
    let mut member = Member::new(name, kind, "", b"");
    member.header.set_device_major(major).unwrap();
    member.header.set_device_minor(minor).unwrap();
    member
}

fn pax(record: &str) -> Member {
    let length = (1..).find(|n: &usize| n.to_string().len() + record.len() + 2 == *n).unwrap();
    Member::new("pax", b'x', "", format!("{length} {record}\n").as_bytes())
}

/// An archive being made.
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn new() -> Tar {
        Tar(Vec::new())
    }

    pub fn add(mut self, mut member: Member) -> Tar {
        member.header.set_cksum();
        self.0.extend(member.header.as_bytes());
        self.0.extend(&member.data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// Offers the archive as a layer on a layer, and as an import. Each must refuse it with `says` in the message.
#[track_caller]
fn refused(host: &coracle_testhost::Host, what: &str, tar: &[u8], kinds: &[Kind], says: &[&str]) {
    let place = host.dir().join(what);
    let store = store(&place);
    let base = Tar::new().add(dir("base")).add(file("base/f", b"x")).end();
    let base = store.add_layer_from_tar(None, base.as_slice()).unwrap();
    let as_layer = store.add_layer_from_tar(Some(&base.chain_id()), tar).unwrap_err();
    let as_image = store.import(tar, &ImportOptions::new()).unwrap_err();
    for error in [as_layer, as_image] {
        assert!(kinds.contains(&error.kind()), "{what}: {}: {error}", error.kind());
        for says in says {
            assert!(error.to_string().contains(says), "{what}: {says:?} is not in: {error}");
        }
    }
    assert_nothing_left(&place, 1, 1);
}

/// Only imports are that strict.
#[track_caller]
fn not_imported(host: &coracle_testhost::Host, what: &str, tar: &[u8], says: &[&str]) {
    let place = host.dir().join(what);
    let store = store(&place);
    let error = store.import(tar, &ImportOptions::new()).unwrap_err();
    for says in says {
        assert!(error.to_string().contains(says), "{what}: {says:?} is not in: {error}");
    }
    assert_nothing_left(&place, 0, 0);
    store.add_layer_from_tar(None, tar).unwrap();
}

#[test]
fn names_that_lead_out() {
    run(|host| {
        let invalid = &[Kind::Invalid];
        for (what, name) in [("up", "../x"), ("deep", "a/../../x"), ("slash", "/../x"), ("end", "a/..")] {
            let tar = Tar::new().add(dir("a")).add(file(name, b"x")).end();
            refused(host, what, &tar, invalid, &[&format!("entry `{name}`"), ".."]);
        }
        let tar = Tar::new().add(pax("path=../../x")).add(file("innocent", b"x")).end();
        refused(host, "by pax", &tar, invalid, &["entry `../../x`"]);
        let tar = Tar::new().add(Member::new("l", b'L', "", b"../y\0")).add(file("innocent", b"x")).end();
        refused(host, "by gnu", &tar, invalid, &["entry `../y`"]);
        let tar = Tar::new().add(hard_link("h", "../../../etc/passwd")).end();
        refused(host, "hard link up", &tar, invalid, &["entry `h`", "`../../../etc/passwd`"]);
        let tar = Tar::new().add(file("a/.wh...", b"")).end();
        refused(host, "whiteout up", &tar, invalid, &["entry `a/.wh...`"]);
        let tar = Tar::new().add(file("../.wh.x", b"")).end();
        refused(host, "whiteout out", &tar, invalid, &["entry `../.wh.x`"]);
        let tar = Tar::new().add(file(".wh.d/x", b"")).end();
        refused(host, "whiteout as dir", &tar, invalid, &["entry `.wh.d/x`"]);
        assert!(!host.dir().join("x").exists());

        let tar = Tar::new().add(file("/etc/x", b"x")).end();
        not_imported(host, "absolute", &tar, &["entry `/etc/x`", "absolute"]);
        let tar = Tar::new().add(file("f", b"x")).add(hard_link("h", "/f")).end();
        not_imported(host, "absolute link", &tar, &["entry `h`", "`/f`", "absolute"]);
    })
}

#[test]
fn links_that_lead_out() {
    run(|host| {
        let outside = host.dir().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), "secret").unwrap();
        let target = outside.to_str().unwrap();
        let tar = Tar::new().add(symlink("link", target)).add(file("link/x", b"x")).end();
        not_imported(host, "absolute", &tar, &["entry `link/x`", "leads out"]);
        let tar =
            Tar::new().add(dir("d")).add(symlink("d/link", "../../x")).add(file("d/link/y", b"x")).end();
        not_imported(host, "relative", &tar, &["entry `d/link/y`", "leads out"]);
        let tar = Tar::new().add(symlink("a", "b")).add(symlink("b", "a")).add(file("a/x", b"x")).end();
        refused(host, "loop", &tar, &[Kind::Invalid], &["entry `a/x`", "too many links"]);
        // A hard link to what a link outside shows: resolved inside, it is not there.
        let tar = Tar::new().add(symlink("link", target)).add(hard_link("h", "link/secret")).end();
        refused(host, "hard link", &tar, &[Kind::Invalid, Kind::NotFound], &["entry `h`", "`link/secret`"]);
        let tar = Tar::new().add(symlink("l", target)).add(file("l/.wh.secret", b"")).end();
        let place = host.dir().join("whiteout");
        let one = store(&place);
        let base = one.add_layer_from_tar(None, Tar::new().add(dir("base")).end().as_slice()).unwrap();
        one.add_layer_from_tar(Some(&base.chain_id()), tar.as_slice()).unwrap();
        assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"secret");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    })
}

#[test]
fn members_that_are_no_files() {
    run(|host| {
        let invalid = &[Kind::Invalid];
        let tar = Tar::new().add(device("f", b'3', 0, 0)).end();
        refused(host, "forged whiteout", &tar, invalid, &["entry `f`", "0:0"]);
        let tar = Tar::new().add(file("./", b"x")).end();
        refused(host, "root as file", &tar, invalid, &["entry `./`"]);
        let tar = Tar::new().add(file("f", b"")).add(file("f/x", b"x")).end();
        refused(host, "file as directory", &tar, invalid, &["entry `f/x`", "not a directory"]);
        let tar = Tar::new().add(hard_link("h", "nothing")).end();
        refused(host, "link to nothing", &tar, invalid, &["entry `h`", "`nothing`"]);
        let tar = Tar::new().add(file("h", b"")).add(hard_link("h", "h")).end();
        refused(host, "link to itself", &tar, invalid, &["entry `h`", "itself"]);
        let tar = Tar::new().add(hard_link("h", "./")).end();
        refused(host, "link to the root", &tar, invalid, &["entry `h`", "root"]);
        let tar = Tar::new().add(Member::new("v", b'V', "", b"")).end();
        refused(host, "unknown type", &tar, &[Kind::Unsupported], &["entry `v`", "`V`"]);
        let tar = Tar::new().add(Member::new("s", b'S', "", b"")).end();
        refused(host, "sparse", &tar, &[Kind::Unsupported], &["entry `s`", "sparse"]);
        // Attributes by which overlay would be told lies are dropped.
        let place = host.dir().join("forged attribute");
        let one = store(&place);
        let tar = Tar::new().add(pax("SCHILY.xattr.trusted.overlay.redirect=/etc")).add(dir("d")).end();
        let layer = one.add_layer_from_tar(None, tar.as_slice()).unwrap();
        let tree = crate::tree::describe(&crate::tree_of(&place, &layer));
        assert!(!tree[std::path::Path::new("d")].contains("redirect"));
    })
}

#[test]
fn archives_that_are_broken() {
    run(|host| {
        let corrupt = &[Kind::Corrupt];
        let good = Tar::new().add(file("f", &[1; 2000])).end();
        refused(host, "cut in data", &good[..1000], corrupt, &["entry `f`"]);
        refused(host, "cut in padding", &good[..512 + 2001], corrupt, &["`f`"]);
        refused(host, "cut in header", &good[..100], corrupt, &["ends within its first header"]);
        let mut flipped = good.clone();
        flipped[0] ^= 1;
        refused(host, "checksum", &flipped, corrupt, &["checksum", "byte 0"]);
        refused(host, "text", &b"just some text. ".repeat(100), corrupt, &["not a tar"]);
        refused(host, "empty", b"", &[Kind::Invalid], &["empty"]);
        let mut huge = file("huge", b"");
        huge.header.as_old_mut().size = *b"77777777777\0";
        refused(host, "claims 8 GiB", &Tar::new().add(huge.clone()).end(), corrupt, &["entry `huge`"]);
        huge.header.as_old_mut().size = [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        refused(host, "claims 16 EiB", &Tar::new().add(huge.clone()).end(), corrupt, &["entry `huge`"]);
        huge.header.as_old_mut().size = *b"zzzzzzzzzzz\0";
        refused(host, "size no number", &Tar::new().add(huge).end(), corrupt, &["entry `huge`", "no number"]);
        let tar = Tar::new().add(pax("size=18446744073709551615")).add(file("p", b"x")).end();
        refused(host, "claims by pax", &tar, corrupt, &["entry `p`"]);
        let mut records = Member::new("pax", b'x', "", b"");
        records.header.set_size(1 << 30);
        refused(host, "1 GiB of pax", &Tar::new().add(records).end(), corrupt, &["extended header"]);
        let tar = Tar::new().add(Member::new("pax", b'x', "", b"nonsense")).add(file("p", b"")).end();
        refused(host, "broken pax", &tar, corrupt, &["pax record"]);
        let tar = Tar::new().add(pax("path=x")).end();
        refused(host, "pax about nothing", &tar, corrupt, &["ends after an extended header"]);
        let tar = Tar::new().add(Member::new("g", b'g', "", b"10 path=x\n")).add(file("p", b"")).end();
        refused(host, "global path", &tar, &[Kind::Unsupported], &["global"]);
        let long = format!("path={}", "n".repeat(300));
        let tar = Tar::new().add(pax(&long)).add(file("p", b"")).end();
        refused(host, "name too long", &tar, &[Kind::Invalid], &["entry `nnn", "File name too long"]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, &good).unwrap();
        let mut gzip = gzip.finish().unwrap();
        refused(host, "cut gzip", &gzip[..gzip.len() - 4], corrupt, &["read("]);
        let end = gzip.len() - 6;
        gzip[end] ^= 1;
        refused(host, "gzip checksum", &gzip, corrupt, &["read("]);
        // Without an end mark nobody knows whether that was all; a layer's digest does.
        not_imported(host, "no end mark", &good[..good.len() - 1024], &["without its end mark"]);
    })
}
