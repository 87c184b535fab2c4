//! Images whose files are meant for who looks at them from the host (SECURITY.md, "The field's history").

use std::path::Path;

use coracle::{BuildSpec, ContainerSpec, Engine, Kind, Mount};
use coracle_testhost::run as on_host;
use tar::{Builder, EntryType, Header};

use crate::support::{engine, fails, says};

/// An image `crafted` of busybox, and of what is put into it.
fn image(engine: &Engine, put: impl FnOnce(&mut Builder<Vec<u8>>)) {
    let mut tar = Builder::new(Vec::new());
    tar.append_path_with_name(busybox(), "bin/busybox").unwrap();
    put(&mut tar);
    engine.import(tar.into_inner().unwrap().as_slice(), "crafted").unwrap();
}

fn busybox() -> std::path::PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).map(|dir| dir.join("busybox")).find(|file| file.exists()).unwrap()
}

fn entry(kind: EntryType, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size as u64);
    header
}

fn file(tar: &mut Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    tar.append_data(&mut entry(EntryType::Regular, bytes.len()), name, bytes).unwrap();
}

fn link(tar: &mut Builder<Vec<u8>>, name: &str, to: &Path) {
    tar.append_link(&mut entry(EntryType::Symlink, 0), name, to).unwrap();
}

fn busy(words: &[&str]) -> ContainerSpec {
    let words = ["/bin/busybox"].iter().chain(words).copied();
    ContainerSpec::new("crafted").command(words).no_network()
}

/// CVE-2026-55686: the working directory is made inside, whatever leads to it.
#[test]
fn a_working_directory_behind_a_link_is_inside() {
    on_host(|host| {
        let (engine, outside) = (engine(host.dir()), host.dir().join("outside"));
        std::fs::create_dir(&outside).unwrap();
        image(&engine, |tar| link(tar, "made", &outside));
        let spec = busy(&["pwd"]).workdir("/made/here").user("7");
        assert_eq!(says(&engine, &spec), format!("{}/here\n", outside.display()));
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    });
}

/// CVE-2026-46680 and CVE-2024-40635: a number that is no id is not a name that the image gives to root.
#[test]
fn a_user_that_is_too_large_is_nobody() {
    on_host(|host| {
        let engine = engine(host.dir());
        image(&engine, |tar| file(tar, "etc/passwd", b"4294967296:x:0:0::/:/bin/sh\n"));
        fails(engine.start(&busy(&["id"]).user("4294967296")), Kind::NotFound, &["4294967296"]);
        assert_eq!(says(&engine, &busy(&["id", "-u"]).user("2147483648")), "2147483648\n");
    });
}

/// CVE-2024-9676 and CVE-2026-47262: the files that name users are files, of the image, and not endless.
#[test]
fn users_are_looked_up_in_small_files_of_the_image() {
    on_host(|host| {
        let (engine, outside) = (engine(host.dir()), host.dir().join("outside"));
        std::fs::write(&outside, "app:x:0:0::/:/bin/sh\n").unwrap();
        let named = busy(&["id"]).user("app");
        image(&engine, |tar| link(tar, "etc/passwd", &outside));
        fails(engine.start(&named), Kind::NotFound, &["unable to find user `app`"]);
        for (kind, words) in [(EntryType::Fifo, "no regular file"), (EntryType::Char, "no regular file")] {
            image(&engine, |tar| {
                let mut zero = entry(kind, 0);
                zero.set_device_major(1).unwrap();
                zero.set_device_minor(5).unwrap();
                tar.append_data(&mut zero, "etc/passwd", &b""[..]).unwrap();
            });
            fails(engine.start(&named), Kind::Invalid, &["/etc/passwd", words]);
        }
        image(&engine, |tar| file(tar, "etc/group", &vec![b'x'; (16 << 20) + 1]));
        fails(engine.start(&busy(&["id"])), Kind::Invalid, &["/etc/group", "longer than 16 MiB"]);
    });
}

/// CVE-2022-23648: a volume begins with what the image has at its place, and a link there leads nowhere else.
#[test]
fn volumes_begin_with_nothing_of_the_hosts() {
    on_host(|host| {
        let (engine, outside) = (engine(host.dir()), host.dir().join("outside"));
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), "the host's").unwrap();
        image(&engine, |tar| {
            link(tar, "data", &outside);
            link(tar, "up", &Path::new("../../../../../../..").join(outside.strip_prefix("/").unwrap()));
        });
        for place in ["/data", "/up"] {
            assert_eq!(says(&engine, &busy(&["ls", "-A", place]).mount(Mount::anonymous(place))), "");
        }
    });
}

/// CVE-2024-1753, CVE-2024-9675, CVE-2024-23651 and CVE-2024-23652: what a RUN step mounts, where, and what is taken away again
/// afterwards are places of the image, of the cache and of the context.
#[test]
fn mounts_of_steps_and_their_places_are_inside() {
    on_host(|host| {
        let (engine, outside) = (engine(host.dir()), host.dir().join("outside"));
        std::fs::create_dir_all(outside.join("stub")).unwrap();
        std::fs::write(outside.join("secret"), "the host's").unwrap();
        std::fs::write(outside.join("file"), "").unwrap();
        image(&engine, |tar| link(tar, "out", &outside));
        let place = outside.display();
        let build = |mount: &str, script: &str| {
            let run = format!("RUN --mount={mount} [\"/bin/busybox\", \"sh\", \"-c\", \"{script}\"]");
            let text = format!("FROM crafted\n{run}\n");
            engine.build(&BuildSpec::without_context(text).no_cache(true), |_| {})
        };
        let none = "if busybox cat /m/secret; then exit 1; fi";
        for mount in [
            "type=bind,from=crafted,source=/out,target=/m".to_owned(),
            "type=bind,from=crafted,source=/out/../out,target=/m".to_owned(),
            format!("type=cache,source={place},from=crafted,target=/m"),
            format!("type=cache,source=../../../../../..{place},target=/m"),
            format!("type=cache,id=../../../../../..{place},target=/m"),
        ] {
            // In there it is a directory of the image's, or nothing that could be mounted.
            if let Err(error) = build(&mount, none) {
                assert_eq!(error.kind(), Kind::NotFound, "{mount}: {error}");
            }
        }
        // A place that has become a link when its mount is gone again.
        for target in ["stub", "file"] {
            let kind = if target == "stub" { "tmpfs" } else { "bind,from=crafted,source=/bin/busybox" };
            let swap = format!("/bin/busybox mv /d /e && /bin/busybox ln -s {place} /d");
            build(&format!("type={kind},target=/d/{target}"), &swap).unwrap();
        }
        let mut left: Vec<_> =
            std::fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["file", "secret", "stub"]);
        assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"the host's");
    });
}
