//! Archives that lead out of themselves, or break off: refused, with nothing outside and nothing left inside.

use std::fs;

use coracle::{ContainerSpec, Engine, Kind};
use coracle_testhost::{Host, run as host};
use tar::{EntryType, Header};

use crate::support::{engine, refuses, says, tools};

/// A member as bytes: the `tar` crate's builder has better manners than this.
fn member(name: &str, kind: EntryType, link: &str, data: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(data.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [&*members.concat(), &[0; 1024]].concat()
}

fn file(name: &str) -> Vec<u8> {
    member(name, EntryType::Regular, "", b"evil")
}

#[track_caller]
fn refused(host: &Host, engine: &Engine, kind: Kind, tar: &[u8], words: &[&str]) {
    let words = [&["import `x`"], words].concat();
    refuses(host.dir(), kind, &words, || engine.import(tar, "x"));
    assert_eq!(fs::read_dir(host.dir().join("outside")).unwrap().count(), 0);
    assert!(engine.image("x").unwrap().is_none());
}

#[test]
fn hostile_archives() {
    host(|host| {
        let engine = engine(host.dir());
        let outside = host.dir().join("outside");
        fs::create_dir(&outside).unwrap();
        let outside = outside.to_str().unwrap();
        let link = |to: &str| member("link", EntryType::Symlink, to, b"");

        let up = format!("{}{outside}/evil", "../".repeat(12));
        refused(host, &engine, Kind::Invalid, &archive(&[file(&up)]), &["..", "evil"]);
        refused(host, &engine, Kind::Invalid, &archive(&[file("a/../../evil")]), &["..", "evil"]);
        let hard = member("evil", EntryType::Link, "../../etc/passwd", b"");
        refused(host, &engine, Kind::Invalid, &archive(&[hard]), &["evil"]);
        let good = archive(&[file("one"), file("two")]);
        for length in [1, 511, 513, 1024 + 100] {
            refused(host, &engine, Kind::Corrupt, &good[..length], &[]);
        }
        refused(
            host,
            &engine,
            Kind::Corrupt,
            b"this is no archive at all, but it is longer than a header would be",
            &[],
        );
        refused(host, &engine, Kind::Invalid, &[], &[]);

        let evil = format!("{outside}/evil");
        refused(host, &engine, Kind::Invalid, &archive(&[file(&evil)]), &[&evil, "absolute"]);
        let crossing = archive(&[link(outside), file("link/evil")]);
        refused(host, &engine, Kind::Invalid, &crossing, &["link/evil", "leads out"]);
        let crossing = archive(&[link("../../../../../../.."), file(&format!("link{evil}"))]);
        refused(host, &engine, Kind::Invalid, &crossing, &["evil", "leads out"]);
        // A link that leads somewhere inside is no harm.
        let inside = archive(&[member("dir", EntryType::Directory, "", b""), link("dir"), file("link/good")]);
        engine.import(&*inside, "x").unwrap();
    });
}

#[test]
fn an_exported_tree_is_an_image() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let volume = host.dir().join("tree");
        fs::create_dir(&volume).unwrap();
        // What a container sees of itself, put into an archive by its host.
        let mut tar = tar::Builder::new(Vec::new());
        tar.follow_symlinks(false);
        fs::write(volume.join("greeting"), "ahoy\n").unwrap();
        tar.append_dir_all(".", &volume).unwrap();
        let image = engine.import(&*tar.into_inner().unwrap(), "tree:1").unwrap();
        assert_eq!(image.names(), ["tree:1"]);
        let dockerfile = "FROM tools\nCOPY --from=tree:1 /greeting /greeting\n";
        let spec = coracle::BuildSpec::without_context(dockerfile).tag("app");
        engine.build(&spec, |_| {}).unwrap();
        let app = ContainerSpec::new("app").command(["cat", "/greeting"]).no_network();
        assert_eq!(says(&engine, &app), "ahoy\n");
    });
}
