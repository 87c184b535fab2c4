//! Images of this host's programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use coracle_host::{Dir, Kind};
use coracle_layers::Capture;
use coracle_testhost::run;

use crate::{attach, store};

#[test]
fn a_captured_program_runs_there() {
    run(|host| {
        let store = store(&host.dir().join("state"));
        let script = host.dir().join("hello");
        std::fs::write(&script, "#!/usr/bin/env sh\necho hello $1\n").unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let plan = Capture::new()
            .search_path(["/usr/bin", "/bin"])
            .programs(["/bin/sh", "ls"])
            .program_as(&script, "/usr/local/bin/hello")
            .file("/etc/services", "/etc/other/services")
            .text("/etc/passwd", "me:x:1:1::/:/bin/sh\n", 0o600)
            .plan()
            .unwrap();
        let image = store.capture(&plan).unwrap();
        assert_eq!(image.config().config().as_ref().unwrap().cmd(), &Some(vec!["/bin/sh".to_owned()]));
        let rootfs = store.rootfs(image.layers(), None, false).unwrap();
        let root = host.dir().join("root");
        let _mounted = attach(&rootfs.mount, &root);
        let run = |args: &[&str]| {
            let output =
                Command::new("chroot").arg(&root).args(args).env("PATH", "/usr/bin:/bin:/usr/sbin").output();
            let output = output.unwrap();
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(run(&["/bin/sh", "-c", "echo works"]), "works\n");
        assert_eq!(run(&["/usr/local/bin/hello", "you"]), "hello you\n");
        assert!(run(&["ls", "/"]).lines().any(|line| line == "proc"));
        assert_eq!(std::fs::read_to_string(root.join("etc/passwd")).unwrap(), "me:x:1:1::/:/bin/sh\n");
        assert_eq!(
            std::fs::read(root.join("etc/other/services")).unwrap(),
            std::fs::read("/etc/services").unwrap()
        );
        let tree = crate::tree::describe(&root);
        assert!(tree[Path::new("tmp")].starts_with("41777 0:0 0.0"), "{}", tree[Path::new("tmp")]);
        assert!(tree[Path::new("etc/passwd")].starts_with("100600 0:0 0.0"));
        // All that the plan says, and no more.
        let planned: Vec<PathBuf> =
            plan.paths().map(|path| path.strip_prefix("/").unwrap().to_owned()).collect();
        let there: Vec<PathBuf> = tree.into_keys().filter(|path| !path.as_os_str().is_empty()).collect();
        assert_eq!(planned, there);
    })
}

#[test]
fn the_same_capture_is_the_same_image() {
    run(|host| {
        let (one, two) = (store(&host.dir().join("one")), store(&host.dir().join("two")));
        let capture = Capture::new().programs(["/bin/sh", "/bin/cat"]);
        let a = one.capture(&capture.plan().unwrap()).unwrap();
        let b = two.capture(&capture.plan().unwrap()).unwrap();
        let c = one.capture(&capture.plan().unwrap()).unwrap();
        assert_eq!((a.id(), a.manifest()), (b.id(), b.manifest()));
        assert_eq!(a.id(), c.id());
        let later = one.capture(&capture.mtime(5).plan().unwrap()).unwrap();
        assert_ne!(a.id(), later.id());
        crate::assert_nothing_left(&host.dir().join("one"), 2, 6);
    })
}

#[test]
fn everything_wrong_is_said_at_once() {
    run(|host| {
        let root = host.dir().join("tree");
        for dir in ["bin", "lib", "lib64"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        let program = |name: &str, bytes: &[u8]| {
            std::fs::write(root.join(name), bytes).unwrap();
            std::fs::set_permissions(root.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .unwrap();
        };
        let ls = std::fs::read("/bin/ls").unwrap();
        program("bin/ls", &ls);
        program("bin/text", b"no program");
        program("bin/script", b"#!/bin/nothing -x\n");
        let mut foreign = ls.clone();
        foreign[18] = 0xf3; // e_machine: RISC-V
        foreign[19] = 0;
        program("bin/foreign", &foreign);
        program("bin/cut", &ls[..40]);
        std::fs::write(root.join("bin/plain"), "").unwrap();
        let tree = Dir::open(&root).unwrap();
        let error = |capture: Capture| capture.plan_in(&tree).unwrap_err();
        for (path, kind, says) in [
            ("/bin/none", Kind::NotFound, "program `/bin/none` is not there"),
            ("ls", Kind::Invalid, "program `ls`: a name alone"),
            ("bin/ls", Kind::Invalid, "program `bin/ls`: the path is not absolute"),
            ("/bin", Kind::Invalid, "program `/bin` is not an executable file"),
            ("/bin/plain", Kind::Invalid, "program `/bin/plain` is not an executable file"),
            ("/bin/text", Kind::Invalid, "program `/bin/text` is not an ELF file, and no script"),
            ("/bin/cut", Kind::Invalid, "program `/bin/cut` is a broken ELF file"),
            (
                "/bin/script",
                Kind::NotFound,
                "program `/bin/script`, a script: program `/bin/nothing` is not there",
            ),
            ("/bin/foreign", Kind::Unsupported, "program `/bin/foreign` is for 64-bit"),
            ("/bin/ls", Kind::NotFound, "program `/bin/ls` needs the loader \"/lib64/ld-linux-x86-64.so.2\""),
        ] {
            let error = error(Capture::new().program(path));
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
        let several = error(
            Capture::new().programs(["/bin/none", "/bin/text"]).file("/gone", "/x").file("/bin/ls", "x"),
        );
        for says in ["`/bin/none`", "`/bin/text`", "file `/gone` is not there", "target `x`"] {
            assert!(several.to_string().contains(says), "{several}");
        }
        let named = error(Capture::new().search_path(["/bin", "/sbin"]).program("nothing"));
        assert!(named.to_string().contains("`nothing` is in none of /bin, /sbin"), "{named}");
    })
}

#[test]
fn libraries_are_found_as_the_loader_finds_them() {
    run(|host| {
        let root = host.dir().join("tree");
        let put = |from: &str, to: &str| {
            std::fs::create_dir_all(root.join(to).parent().unwrap()).unwrap();
            std::fs::copy(from, root.join(to)).unwrap();
        };
        let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
        let libs = format!("/usr/lib/{multiarch}");
        let loader = "lib64/ld-linux-x86-64.so.2";
        if !Path::new("/").join(loader).exists() || !Path::new(&libs).join("libselinux.so.1").exists() {
            return coracle_testhost::skip(host.test(), "ls and its libraries are not where Debian has them");
        }
        put("/bin/ls", "opt/bin/ls");
        put(&format!("/{loader}"), loader);
        put(&format!("{libs}/libc.so.6"), &format!("lib/{multiarch}/libc.so.6"));
        let tree = Dir::open(&root).unwrap();
        let plan = |capture: Capture| capture.plan_in(&tree);
        let ls = || Capture::new().program("/opt/bin/ls");
        let error = plan(ls()).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(
            error.to_string().contains("program `/opt/bin/ls` needs the library \"libselinux.so.1\""),
            "{error}"
        );

        // A library of another machine in the way is passed over, and said when there is no other.
        let mut foreign = std::fs::read(format!("{libs}/libselinux.so.1")).unwrap();
        foreign[18] = 0xf3;
        std::fs::write(root.join(format!("lib/{multiarch}/libselinux.so.1")), foreign).unwrap();
        let error = plan(ls()).unwrap_err();
        assert!(error.to_string().contains("is for 64-bit"), "{error}");

        // Only ld.so.conf knows this directory: the image gets a link where the loader looks without a cache.
        put(&format!("{libs}/libselinux.so.1"), "opt/libs/libselinux.so.1");
        put(&format!("{libs}/libpcre2-8.so.0"), "opt/libs/real-pcre");
        std::os::unix::fs::symlink("real-pcre", root.join("opt/libs/libpcre2-8.so.0")).unwrap();
        std::fs::create_dir_all(root.join("etc/conf.d")).unwrap();
        std::fs::write(root.join("etc/ld.so.conf"), "include conf.d/*.conf\n").unwrap();
        std::fs::write(root.join("etc/conf.d/x.conf"), "# ours\n/opt/libs\n").unwrap();
        let shown = plan(ls()).unwrap().to_string();
        for line in [
            "/opt/libs/libpcre2-8.so.0  -> real-pcre".to_owned(),
            "/opt/libs/real-pcre  from /opt/libs/real-pcre, mode 0644".to_owned(),
            format!("/lib/{multiarch}/libselinux.so.1  -> /opt/libs/libselinux.so.1"),
            format!("/lib/{multiarch}/libpcre2-8.so.0  -> /opt/libs/libpcre2-8.so.0"),
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line}: not in\n{shown}");
        }
        let store = store(&host.dir().join("state"));
        let image = store.capture(&plan(ls()).unwrap()).unwrap();
        let rootfs = store.rootfs(image.layers(), None, false).unwrap();
        let at = host.dir().join("root");
        let _mounted = attach(&rootfs.mount, &at);
        let output = Command::new("chroot").arg(&at).args(["/opt/bin/ls", "/opt"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "bin\nlibs\n", "{output:?}");
    })
}
