//! config.md, "Linux mount options", each as the container's own table of mounts (proc_pid_mountinfo(5)) shows it;
//! config-linux.md, "Rootfs Mount Propagation"; `--no-pivot`.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use coracle_testhost::run;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount, unmount,
};
use serde_json::json;

use crate::must::{prints, refused};
use crate::support::Oci;

/// What is mounted below `/opt` and `/`: place, flags and the rest of each line.
const TABLE: &str = "while read a b c d at flags rest; do case $at in /opt/*|/) echo $at $flags $rest; esac; \
                     done < /proc/self/mountinfo";

/// The words of what is mounted there.
#[track_caller]
fn words<'a>(printed: &'a str, at: &str) -> Vec<&'a str> {
    let line = printed.lines().rfind(|line| line.split(' ').next() == Some(at));
    line.unwrap_or_else(|| panic!("{at}: {printed}")).split([' ', ',']).collect()
}

/// "Linux mount options": each that MUST be there does what mount(8) says.
#[test]
fn options_of_mounts() {
    run(|host| {
        let mut oci = Oci::new(host, TABLE);
        let source = oci.dir.join("rootfs").display().to_string();
        let table: [(&str, &[&str], &[&str]); 31] = [
            ("async", &[], &["sync"]),
            ("atime", &["relatime"], &["noatime"]),
            ("bind", &["overlay"], &[]),
            ("defaults", &["rw"], &[]),
            // Without rules for devices there are none to be opened anywhere, whoever says so.
            ("dev", &[], &[]),
            ("diratime", &[], &["nodiratime"]),
            ("dirsync", &["dirsync"], &[]),
            ("exec", &[], &["noexec"]),
            ("iversion", &[], &[]),
            ("lazytime", &["lazytime"], &[]),
            ("loud", &[], &[]),
            ("noatime", &["noatime"], &["relatime"]),
            ("nodev", &["nodev"], &[]),
            ("nodiratime", &["nodiratime"], &[]),
            ("noexec", &["noexec"], &[]),
            ("noiversion", &[], &[]),
            ("nolazytime", &[], &["lazytime"]),
            ("norelatime", &[], &[]),
            ("nostrictatime", &["relatime"], &[]),
            ("nosuid", &["nosuid"], &[]),
            ("nosymfollow", &["nosymfollow"], &[]),
            ("rbind", &["overlay"], &[]),
            ("relatime", &["relatime"], &[]),
            ("ro", &["ro"], &[]),
            ("rw", &["rw"], &["ro"]),
            ("silent", &[], &[]),
            ("strictatime", &[], &["relatime", "noatime"]),
            ("suid", &[], &["nosuid"]),
            ("symfollow", &[], &["nosymfollow"]),
            ("sync", &["sync"], &[]),
            ("unbindable", &["unbindable"], &[]),
        ];
        let mounts = oci.config["mounts"].as_array_mut().unwrap();
        for (option, ..) in table {
            let at = format!("/opt/{option}");
            mounts.push(match option {
                "bind" | "rbind" | "unbindable" => {
                    json!({ "destination": at, "source": source, "options": ["rbind", option] })
                }
                _ => json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": [option] }),
            });
        }
        for option in ["private", "rprivate", "shared", "rshared", "slave", "rslave", "runbindable"] {
            let at = format!("/opt/{option}");
            let mount = json!({ "destination": at, "source": source, "options": ["bind", option] });
            oci.config["mounts"].as_array_mut().unwrap().push(mount);
        }
        let printed = prints(&oci);
        let words = |option: &str| words(&printed, &format!("/opt/{option}"));
        for (option, there, absent) in table {
            let words = words(option);
            assert!(there.iter().all(|word| words.contains(word)), "{option}: {words:?}");
            assert!(!absent.iter().any(|word| words.contains(word)), "{option}: {words:?}");
        }
        let tagged = |option| words(option).iter().any(|word| word.starts_with("shared:"));
        assert!(
            tagged("shared") && tagged("rshared") && !tagged("private") && !tagged("rprivate"),
            "{printed}"
        );
        assert!(words("runbindable").contains(&"unbindable"), "{printed}");
        oci.end();
    });
}

/// Those with an `r`: of all that is mounted below, too.
#[test]
fn recursive_options_of_mounts() {
    run(|host| {
        let mut oci = Oci::new(host, TABLE);
        const NO_SYMLINKS: MountFlags = MountFlags::from_bits_retain(0x100);
        let everything = MountFlags::RDONLY
            | MountFlags::NOSUID
            | MountFlags::NOEXEC
            | NO_SYMLINKS
            | MountFlags::NODIRATIME;
        let trees = [
            ("plain", MountFlags::empty()),
            ("flags", everything | MountFlags::NOATIME),
            ("strict", MountFlags::STRICTATIME),
        ];
        for (name, flags) in trees {
            let dir = oci.dir.join(name);
            std::fs::create_dir(&dir).unwrap();
            mount("top", &dir, "tmpfs", MountFlags::empty(), c"").unwrap();
            std::fs::create_dir(dir.join("below")).unwrap();
            mount("below", dir.join("below"), "tmpfs", flags, c"").unwrap();
            mount_remount(&dir, MountFlags::BIND | flags, c"").unwrap();
        }
        // What it is said of, what is there then, and what is not.
        let table: [(&str, &str, &[&str], &[&str]); 19] = [
            ("plain", "rro", &["ro"], &["rw"]),
            ("plain", "rnosuid", &["nosuid"], &[]),
            ("plain", "rnodev", &["nodev"], &[]),
            ("plain", "rnoexec", &["noexec"], &[]),
            ("plain", "rnodiratime", &["nodiratime"], &[]),
            ("plain", "rnoatime", &["noatime"], &["relatime"]),
            ("plain", "rstrictatime", &[], &["noatime", "relatime"]),
            ("plain", "rnosymfollow", &["nosymfollow"], &[]),
            ("plain", "rnorelatime", &["relatime"], &[]),
            ("flags", "rrw", &["rw", "nosuid"], &[]),
            ("flags", "rsuid", &["ro"], &["nosuid"]),
            // Without rules for devices there are none to be opened anywhere, whoever says so.
            ("flags", "rdev", &["ro"], &[]),
            ("flags", "rexec", &["ro"], &["noexec"]),
            ("flags", "rdiratime", &["ro"], &["nodiratime"]),
            ("flags", "ratime", &["ro"], &["noatime"]),
            ("flags", "rrelatime", &["relatime"], &["noatime"]),
            ("flags", "rsymfollow", &["ro"], &["nosymfollow"]),
            ("strict", "rnostrictatime", &["relatime"], &[]),
            ("strict", "rrelatime", &["relatime"], &[]),
        ];
        for (index, (tree, option, ..)) in table.iter().enumerate() {
            let at = format!("/opt/{index}");
            let mount = json!({ "destination": at, "source": tree, "options": ["rbind", option] });
            oci.config["mounts"].as_array_mut().unwrap().push(mount);
        }
        let printed = prints(&oci);
        for (index, (tree, option, there, absent)) in table.iter().enumerate() {
            for below in ["", "/below"] {
                let words = words(&printed, &format!("/opt/{index}{below}"));
                assert!(there.iter().all(|word| words.contains(word)), "{tree} {option}{below}: {words:?}");
                assert!(
                    !absent.iter().any(|word| words[1..]
                        .split(|word| *word == "-")
                        .next()
                        .unwrap()
                        .contains(word)),
                    "{tree} {option}{below}: {words:?}"
                );
            }
        }
        for (name, _) in trees {
            unmount(oci.dir.join(name), UnmountFlags::DETACH).unwrap();
        }
        oci.end();
    });
}

/// `remount`: of a bind mount with `bind`, of a file system of the container's own without.
#[test]
fn remounts() {
    run(|host| {
        let mut oci = Oci::new(host, TABLE);
        let source = oci.dir.join("upper").display().to_string();
        let bind = |at: &str| json!({ "destination": at, "source": source, "options": ["bind", "nosuid", "noexec"] });
        let tmpfs = |at: &str| json!({ "destination": at, "type": "tmpfs", "source": "t", "options": ["nosuid", "size=64k", "mode=700"] });
        let again =
            |at: &str, options: &[&str]| json!({ "destination": at, "type": "none", "options": options });
        let mounts = [
            bind("/opt/bind"),
            again("/opt/bind", &["bind", "remount", "ro"]),
            tmpfs("/opt/tmpfs"),
            json!({ "destination": "/opt/tmpfs/inside", "type": "tmpfs", "source": "t" }),
            again("/opt/tmpfs", &["remount", "ro", "noexec", "size=128k"]),
            tmpfs("/opt/only"),
            again("/opt/only", &["remount", "bind", "ro", "nosuid"]),
        ];
        oci.config["mounts"].as_array_mut().unwrap().extend(mounts);
        let printed = prints(&oci);
        let has = |at: &str, there: &[&str], absent: &[&str]| {
            let words = words(&printed, at);
            assert!(there.iter().all(|word| words.contains(word)), "{at}: {words:?}");
            assert!(!absent.iter().any(|word| words.contains(word)), "{at}: {words:?}");
        };
        has("/opt/bind", &["ro"], &["nosuid", "noexec"]);
        has("/opt/tmpfs", &["ro", "noexec", "size=128k", "mode=700"], &["nosuid", "size=64k"]);
        has("/opt/tmpfs/inside", &["rw"], &["ro"]);
        has("/opt/only", &["ro", "nosuid", "size=64k"], &[]);
        let proc = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let refuse = |mounts: serde_json::Value, says: &str| {
            let text = refused(&oci, "/mounts", mounts);
            assert!(text.contains(says), "{text}");
        };
        refuse(json!([again("/opt/none", &["remount", "ro"])]), "nothing is mounted there");
        refuse(
            json!([bind("/opt/bind"), again("/opt/bind", &["remount", "ro"])]),
            "a file system of the host",
        );
        assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), proc);
        oci.end();
    });
}

/// `tmpcopyup`: what is covered is there, and stays as it is. A tmpfs without it has the mode of what it covers.
#[test]
fn a_tmpfs_begins_with_what_it_covers() {
    run(|host| {
        let script = "cd /opt/up && cat name sub/deep && readlink link && stat -c '%a %u:%g' . name sub; \
                      echo changed > name; echo new > new; stat -c '%a %u:%g' /opt/said /opt/empty /opt/fresh; ls /opt/empty";
        let mut oci = Oci::new(host, script);
        let opt = oci.dir.join("rootfs/opt");
        let up = opt.join("up");
        for dir in ["up/sub", "empty", "said"] {
            std::fs::create_dir_all(opt.join(dir)).unwrap();
        }
        std::fs::write(up.join("name"), "name\n").unwrap();
        std::fs::write(up.join("sub/deep"), "deep\n").unwrap();
        std::fs::write(opt.join("empty/covered"), "").unwrap();
        std::os::unix::fs::symlink("sub/deep", up.join("link")).unwrap();
        std::os::unix::fs::chown(up.join("name"), Some(7), Some(8)).unwrap();
        std::os::unix::fs::chown(&up, Some(9), Some(10)).unwrap();
        let mode =
            |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        mode(&up.join("name"), 0o4751);
        mode(&up.join("sub"), 0o701);
        mode(&up, 0o750);
        mode(&opt.join("empty"), 0o711);
        let tmpfs =
            |at: &str, options: &[&str]| json!({ "destination": at, "type": "tmpfs", "options": options });
        oci.config["mounts"].as_array_mut().unwrap().extend([
            tmpfs("/opt/up", &["tmpcopyup"]),
            tmpfs("/opt/said", &["mode=1770", "uid=3", "tmpcopyup"]),
            tmpfs("/opt/empty", &[]),
            tmpfs("/opt/fresh", &["tmpcopyup"]),
        ]);
        let expected = "name\ndeep\nsub/deep\n750 9:10\n4751 7:8\n701 0:0\n1770 3:0\n711 0:0\n1777 0:0\n";
        assert_eq!(prints(&oci), expected);
        assert_eq!(std::fs::read_to_string(up.join("name")).unwrap(), "name\n");
        assert!(!up.join("new").exists() && up.join("name").metadata().unwrap().uid() == 7);
        oci.end();
    });
}

/// "Rootfs Mount Propagation".
#[test]
fn propagation_of_the_root() {
    run(|host| {
        let mut oci = Oci::new(
            host,
            "while read a b c d at e tag rest; do case $at in /) echo $tag; esac; \
                                      done < /proc/self/mountinfo",
        );
        for (word, tag) in [
            ("private", "-"),
            ("rprivate", "-"),
            ("shared", "shared:"),
            ("rshared", "shared:"),
            ("unbindable", "unbindable"),
            ("runbindable", "unbindable"),
            ("slave", "-"),
        ] {
            oci.config["linux"]["rootfsPropagation"] = json!(word);
            let printed = prints(&oci);
            assert!(printed.starts_with(tag), "{word}: {printed}");
        }
        // With all of them the root can be read-only.
        oci.config["root"]["readonly"] = json!(true);
        oci.config["linux"]["rootfsPropagation"] = json!("rshared");
        oci.script("touch /x 2>/dev/null || echo no");
        assert_eq!(prints(&oci), "no\n");
        let text = refused(&oci, "/linux/rootfsPropagation", json!("sideways"));
        assert!(text.contains("linux.rootfsPropagation: `sideways`"), "{text}");
        // A slave sees what is mounted on the host; its own mounts are not seen there.
        let rootfs = oci.dir.join("rootfs");
        std::fs::create_dir_all(rootfs.join("opt/late")).unwrap();
        mount_change(&rootfs, MountPropagationFlags::SHARED).unwrap();
        for (word, seen) in [("rslave", "late\n"), ("private", "")] {
            oci.config["linux"]["rootfsPropagation"] = json!(word);
            oci.script("sleep 1000");
            oci.create();
            mount("late", rootfs.join("opt/late"), "tmpfs", MountFlags::empty(), c"").unwrap();
            std::fs::write(rootfs.join("opt/late/late"), "").unwrap();
            assert_eq!(oci.ok(&["exec", "c", "ls", "/opt/late"]), seen, "{word}");
            oci.ok(&["delete", "--force", "c"]);
            unmount(rootfs.join("opt/late"), UnmountFlags::empty()).unwrap();
        }
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains("rootfs/proc"), "{table}");
        oci.end();
    });
}

/// `--no-pivot`: the root is the bundle's all the same, for later processes and with hooks, too.
#[test]
fn without_a_pivot() {
    run(|host| {
        let mut oci =
            Oci::new(host, "ls /opt/own; cd /..; ls opt/own; grep -c . /proc/self/mounts; sleep 1000");
        std::fs::create_dir_all(oci.dir.join("rootfs/opt/own/here")).unwrap();
        for hooks in [json!(null), json!({ "createContainer": [{ "path": "/bin/true" }] })] {
            oci.config["hooks"] = hooks;
            oci.write();
            std::fs::remove_file(oci.dir.join("out")).ok();
            oci.create_with(&["--no-pivot"]);
            oci.ok(&["start", "c"]);
            crate::support::soon("it has spoken", || oci.out().lines().count() == 3);
            let own = oci.config["mounts"].as_array().unwrap().len();
            let counted: usize = oci.out().lines().last().unwrap().parse().unwrap();
            assert!(oci.out().starts_with("here\nhere\n") && counted > own, "{}", oci.out());
            assert_eq!(oci.ok(&["exec", "c", "ls", "/../opt/own"]), "here\n");
            oci.ok(&["delete", "--force", "c"]);
        }
        oci.end();
    });
}

/// config.md, "Root": any directory will do, a mount point or not.
#[test]
fn a_root_that_is_a_directory() {
    run(|host| {
        let mut oci = Oci::new(host, "echo $0; cat /proc/1/comm; touch /made");
        crate::support::image(&oci.dir);
        let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        for (path, readonly, status) in [("image", false, Some(0)), ("image", true, Some(1))] {
            oci.config["root"] = json!({ "path": path, "readonly": readonly });
            oci.write();
            let output = oci.call(&["run", "--bundle", oci.bundle(), "c"]);
            assert_eq!(String::from_utf8_lossy(&output.stdout), "/bin/sh\nsh\n", "{output:?}");
            assert_eq!(output.status.code(), status, "{output:?}");
        }
        assert!(oci.dir.join("image/made").exists());
        assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
        oci.end();
    });
}
