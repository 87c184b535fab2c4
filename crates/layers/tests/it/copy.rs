//! Tars unpacked into trees that are there already, and written of them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink as link};
use std::path::Path;

use coracle_host::{Dir, Kind};
use coracle_layers::{UnpackOptions, pack_tree, unpack_tree};
use coracle_testhost::run;

use crate::hostile::{Member, Tar, dir, file, hard_link, symlink};
use crate::tree::{assert_same, fill};

#[test]
fn a_tree_is_copied_as_it_is() {
    run(|host| {
        let (from, to) = (host.dir().join("from"), host.dir().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        fill(&from);
        fs::write(from.join(".wh.only a name"), "x").unwrap();
        for (dir, name, as_name, at) in
            [(&from, ".", ".", "to"), (&host.dir().to_owned(), "from", "new", ".")]
        {
            let mut tar = Vec::new();
            let dir = Dir::open(dir).unwrap();
            pack_tree(&dir, OsStr::new(name), OsStr::new(as_name), &mut tar).unwrap();
            let root = Dir::open(host.dir()).unwrap();
            unpack_tree(&root, Path::new(at), tar.as_slice(), &UnpackOptions::new()).unwrap();
        }
        assert_same(&from, &to);
        assert_same(&from, &host.dir().join("new"));
    })
}

#[test]
fn links_in_the_tree_mean_the_tree() {
    run(|host| {
        let (outside, root) = (host.dir().join("outside"), host.dir().join("root"));
        fs::create_dir_all(root.join("srv/at")).unwrap();
        fs::create_dir(&outside).unwrap();
        for (name, target) in [("abs", outside.to_str().unwrap()), ("up", "../../../../outside")] {
            link(target, root.join("srv/at").join(name)).unwrap();
        }
        let evil = Tar::new().add(symlink("own", outside.to_str().unwrap())).add(file("own/f", b"evil"));
        let through = |name: &str| Tar::new().add(file(&format!("{name}/f"), b"evil")).end();
        let dir = Dir::open(&root).unwrap();
        let at = Path::new("srv/at");
        for tar in [evil.end(), through("abs"), through("up")] {
            unpack_tree(&dir, at, tar.as_slice(), &UnpackOptions::new()).unwrap();
            // What is confined has no root to make such a link mean something.
            let confined = UnpackOptions::new().confined();
            let error = unpack_tree(&dir, at, tar.as_slice(), &confined).unwrap_err();
            assert!(error.kind() == Kind::Invalid && error.to_string().contains("leads out"), "{error}");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        let inside = root.join(outside.strip_prefix("/").unwrap());
        assert_eq!(fs::read_to_string(inside.join("f")).unwrap(), "evil");
        assert_eq!(fs::read_to_string(root.join("outside/f")).unwrap(), "evil");
        for (tar, says) in [
            (Tar::new().add(file("../f", b"")), "`..`"),
            (Tar::new().add(hard_link("h", "../../f")), "`..`"),
            (Tar::new().add(hard_link("h", "nosuch")), "not in this layer before it"),
        ] {
            let error = unpack_tree(&dir, at, tar.end().as_slice(), &UnpackOptions::new()).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
        let error = unpack_tree(&dir, Path::new("a/../.."), [0; 1024].as_slice(), &UnpackOptions::new());
        assert_eq!(error.unwrap_err().kind(), Kind::Invalid);
    })
}

#[test]
fn directories_and_files_don_t_replace_each_other() {
    run(|host| {
        let root = host.dir().join("root");
        fs::create_dir_all(root.join("d/kept")).unwrap();
        fs::write(root.join("f"), "old").unwrap();
        fs::write(root.join("linked"), "old").unwrap();
        fs::hard_link(root.join("linked"), root.join("other")).unwrap();
        let to = Dir::open(&root).unwrap();
        let unpack = |member: Member, options: &UnpackOptions| {
            unpack_tree(&to, Path::new(""), Tar::new().add(member).end().as_slice(), options)
        };
        let plain = UnpackOptions::new();
        let error = unpack(file("d", b"x"), &plain).unwrap_err();
        assert!(error.to_string().contains("cannot overwrite directory with non-directory"), "{error}");
        let error = unpack(dir("f"), &plain).unwrap_err();
        assert!(error.to_string().contains("cannot overwrite non-directory with directory"), "{error}");
        unpack(file("linked", b"new"), &plain).unwrap();
        assert_eq!(
            fs::read_to_string(root.join("other")).unwrap(),
            "old",
            "a file is replaced, not written to"
        );
        let mut member = dir("d");
        member.mode(0o711).owner(7, 8);
        unpack(member, &plain).unwrap();
        let meta = fs::metadata(root.join("d")).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o711, 7, 8));
        assert!(root.join("d/kept").exists());
        unpack(file("mine", b""), &UnpackOptions::new().owner(5, 6)).unwrap();
        let meta = fs::metadata(root.join("mine")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (5, 6));
    })
}
