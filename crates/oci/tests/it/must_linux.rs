//! Every MUST of config-linux.md (runtime-spec 1.2) that can be observed; of mount namespaces in `among.rs`, of resources and
//! their limits in `groups.rs` and in the runtime crate (`cgroup`).

use coracle_testhost::run;
use serde_json::json;

use crate::must::{prints, refused};
use crate::support::Oci;

fn space(kind: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()
}

/// "Namespaces": new where there is no path, the one at the path where there is, the runtime's where the type is not named;
/// what is no such namespace, and a type that is there twice, MUST be an error.
#[test]
fn namespaces() {
    run(|host| {
        let script = "for kind in uts ipc net pid cgroup; do readlink /proc/self/ns/$kind; done";
        let mut oci = Oci::new(host, script);
        let mut all = |namespaces| {
            oci.config["linux"]["namespaces"] = namespaces;
            oci.config["hostname"] = json!(null);
            prints(&oci)
        };
        let kinds = ["uts", "ipc", "net", "pid", "cgroup"];
        let own = kinds.map(space);
        let names = ["uts", "ipc", "network", "pid", "cgroup"];
        let with = |path: &dyn Fn(&str) -> Option<String>| {
            let each = names.iter().zip(kinds).map(|(name, kind)| match path(kind) {
                Some(path) => json!({ "type": name, "path": path }),
                None => json!({ "type": name }),
            });
            each.chain([json!({ "type": "mount" })]).collect::<serde_json::Value>()
        };
        let new = all(with(&|_| None));
        assert!(!new.lines().any(|line| own.iter().any(|own| own == line)), "{new}");
        let joined = all(with(&|kind| Some(format!("/proc/self/ns/{kind}"))));
        assert_eq!(joined.lines().collect::<Vec<_>>(), own);
        let inherited = all(json!([{ "type": "mount" }]));
        assert_eq!(inherited.lines().collect::<Vec<_>>(), own);
        let key = "/linux/namespaces";
        refused(&oci, key, json!([{ "type": "mount" }, { "type": "uts", "path": "/proc/self/ns/ipc" }]));
        refused(&oci, key, json!([{ "type": "mount" }, { "type": "uts", "path": "/etc/hostname" }]));
        refused(&oci, key, json!([{ "type": "mount" }, { "type": "network", "path": "/proc/self/ns/uts" }]));
        refused(&oci, key, json!([{ "type": "mount" }, { "type": "pid", "path": "/proc/self/ns/uts" }]));
        let text =
            refused(&oci, key, json!([{ "type": "mount" }, { "type": "uts", "path": "proc/self/ns/uts" }]));
        assert!(text.contains("not absolute"), "{text}");
        let text = refused(&oci, key, json!([{ "type": "mount" }, { "type": "uts" }, { "type": "uts" }]));
        assert!(text.contains("uts is there more than once"), "{text}");
        oci.end();
    });
}

/// "Default Filesystems"; "Devices": those that are listed, with their mode and owner; "Default Devices": MUST be supplied.
#[test]
fn filesystems_and_devices() {
    run(|host| {
        let script = "for name in null zero full random urandom tty mine; do stat -c '%n %F %t:%T' /dev/$name; done; \
                      stat -c '%a %u:%g' /dev/mine; readlink /dev/ptmx; for at in /proc /sys /dev/pts /dev/shm; do \
                      stat -f -c '%T' $at; done; head -c 1 /dev/zero | od -An -c";
        let mut oci = Oci::new(host, script);
        let device = json!({
            "path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8,
        });
        oci.config["linux"]["devices"] = json!([device]);
        let numbers = ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "1:3"];
        let names = ["null", "zero", "full", "random", "urandom", "tty", "mine"];
        let each = names.iter().zip(numbers);
        let nodes: String =
            each.map(|(name, number)| format!("/dev/{name} character special file {number}\n")).collect();
        let rest = "640 7:8\npts/ptmx\nproc\nsysfs\ndevpts\ntmpfs\n  \\0\n";
        assert_eq!(prints(&oci), nodes + rest);
        oci.end();
    });
}

/// "Devices": anywhere in the container, and with whatever is mounted at `/dev`; "Default Devices" where nothing is.
#[test]
fn devices_elsewhere() {
    run(|host| {
        let script = "stat -c '%n %F %t:%T %a' /srv/a/mine /opt/mine /dev/null; head -c 1 /srv/a/mine | od -An -c; \
                      head -c 1 /opt/mine | od -An -c; head -c 1 /dev/zero | wc -c";
        let mut oci = Oci::new(host, script);
        let device = |path: &str, minor: u32| json!({ "path": path, "type": "c", "major": 1, "minor": minor, "fileMode": 0o640 });
        oci.config["linux"]["devices"] = json!([device("/srv/a/mine", 5), device("/opt/mine", 5)]);
        let mounts = oci.config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({ "destination": "/opt", "type": "tmpfs" }));
        let expected = "/srv/a/mine character special file 1:5 640\n/opt/mine character special file 1:5 640\n\
                        /dev/null character special file 1:3 666\n  \\0\n  \\0\n1\n";
        assert_eq!(prints(&oci), expected);
        // What is there already must be that device.
        oci.config["linux"]["devices"] = json!([device("/srv/a/mine", 5)]);
        oci.script("echo again");
        assert_eq!(prints(&oci), "again\n");
        let text = refused(&oci, "/linux/devices", json!([device("/srv/a/mine", 7)]));
        assert!(text.contains("something else than /srv/a/mine c 1:7 is there already"), "{text}");
        // The host's own directory is not added to.
        let dev = oci.dir.join("upper").display().to_string();
        let mounts = oci.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        let without = oci.config["mounts"].clone();
        oci.config["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "destination": "/dev", "source": dev, "options": ["bind"] }));
        oci.script("ls /dev/null /dev/srv; exit 0");
        assert_eq!(prints(&oci), "/dev/srv:\na\n");
        let text = refused(&oci, "/linux/devices", json!([device("/dev/mine", 5)]));
        assert!(text.contains("device 1:5 at ./dev/mine") && text.contains("No such file"), "{text}");
        oci.config["mounts"] = without;
        oci.config["linux"]["devices"] = json!([device("/dev/mine", 5)]);
        oci.script("head -c 1 /dev/mine | wc -c; echo x > /dev/null && echo x > /dev/full; exit 0");
        assert_eq!(prints(&oci), "1\n");
        oci.end();
    });
}

/// "Masked Paths", "Readonly Paths": anywhere in the container, also where a link leads there; what is missing stays missing.
#[test]
fn walls_elsewhere() {
    run(|host| {
        let script = "cat /srv/secret /srv/link; ls /opt/dir | wc -l; echo x 2>/dev/null > /srv/fixed/file || echo no; \
                      echo x 2>/dev/null > /srv/one || echo no; echo x > /srv/other && cat /srv/other; ls /gone 2>/dev/null; \
                      ls /opt/inside; exit 0";
        let mut oci = Oci::new(host, script);
        let rootfs = oci.dir.join("rootfs");
        for dir in ["srv/fixed", "opt/dir", "opt/inside"] {
            std::fs::create_dir_all(rootfs.join(dir)).unwrap();
        }
        for file in ["srv/secret", "srv/target", "srv/one", "opt/dir/file"] {
            std::fs::write(rootfs.join(file), "secret\n").unwrap();
        }
        std::os::unix::fs::symlink("/srv/target", rootfs.join("srv/link")).unwrap();
        let mounts = oci.config["mounts"].as_array_mut().unwrap();
        mounts.push(
            json!({ "destination": "/opt/inside", "type": "bind", "source": "upper", "options": ["bind"] }),
        );
        oci.config["linux"]["maskedPaths"] =
            json!(["/srv/secret", "/srv/link", "/opt/dir", "/gone/x", "/opt/inside/srv"]);
        oci.config["linux"]["readonlyPaths"] = json!(["/srv/fixed", "/srv/one", "/gone/y"]);
        let printed = prints(&oci);
        assert!(printed.starts_with("0\nno\nno\nx\n"), "{printed}");
        assert!(printed.contains("srv\n"), "{printed}");
        assert!(!rootfs.join("gone").exists());
        assert_eq!(std::fs::read_to_string(rootfs.join("srv/target")).unwrap(), "secret\n");
        refused(&oci, "/linux/maskedPaths", json!(["relative"]));
        oci.end();
    });
}

/// "Sysctl"; "Masked Paths": MUST NOT be readable; "Readonly Paths"; "Seccomp": `errnoRet`; "Personality".
#[test]
fn what_is_set_and_what_is_hidden() {
    run(|host| {
        let script = "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax; cat /proc/timer_list | wc -c; \
                      ls /proc/acpi 2>/dev/null | wc -l; echo 1 2>/dev/null > /proc/sys/net/core/somaxconn || echo no; \
                      mkdir /tmp/x 2>&1 | grep -c 'Cannot allocate'; uname -m";
        let mut oci = Oci::new(host, script);
        oci.config["linux"]["sysctl"] = json!({ "net.core.somaxconn": "77", "kernel.msgmax": "7777" });
        oci.config["linux"]["maskedPaths"] = json!(["/proc/timer_list", "/proc/acpi", "/proc/nosuch"]);
        oci.config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
        let call = json!({ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 12 });
        oci.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [call] });
        let machine = rustix::system::uname().machine().to_str().unwrap().to_owned();
        assert_eq!(prints(&oci), format!("77\n7777\n0\n0\nno\n1\n{machine}\n"));
        if machine == "x86_64" {
            oci.config["linux"]["personality"] = json!({ "domain": "LINUX32" });
            assert!(prints(&oci).ends_with("i686\n"));
        }
        let text = refused(&oci, "/linux/sysctl", json!({ "kernel.panic": "1" }));
        assert!(text.contains("linux.sysctl[kernel.panic]"), "{text}");
        let wrong = json!({ "defaultAction": "SCMP_ACT_NONE" });
        refused(&oci, "/linux/seccomp", wrong);
        oci.end();
    });
}

/// "Offset for Time Namespace".
#[test]
fn clocks() {
    run(|host| {
        let mut oci = Oci::new(
            host,
            "cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets; readlink /proc/self/ns/time",
        );
        let mut namespaces = oci.config["linux"]["namespaces"].as_array().unwrap().clone();
        namespaces.push(json!({ "type": "time" }));
        oci.config["linux"]["namespaces"] = json!(namespaces);
        oci.config["linux"]["timeOffsets"] =
            json!({ "boottime": { "secs": 1_000_000 }, "monotonic": { "secs": 7, "nanosecs": 8 } });
        let printed = prints(&oci);
        let words: Vec<&str> = printed.split_whitespace().collect();
        let up: u64 = words[0].parse().unwrap();
        let own = std::fs::read_to_string("/proc/uptime").unwrap();
        let own: u64 = own.split('.').next().unwrap().parse().unwrap();
        assert!((own + 999_900..=own + 1_000_000).contains(&up), "{printed} {own}");
        assert_eq!(words[1..7], ["monotonic", "7", "8", "boottime", "1000000", "0"]);
        assert_ne!(words[7], space("time"));
        // Further processes are in it, with no more rights than without it; and so are other containers by its path.
        oci.create();
        let look = "readlink /proc/self/ns/time /proc/1/ns/time | uniq; grep -E 'CapEff|CapAmb' /proc/self/status; \
                    cut -d. -f1 /proc/uptime";
        let said = oci.ok(&["exec", "c", "sh", "-c", look]);
        let words: Vec<&str> = said.split_whitespace().collect();
        let expected = ["CapEff:", "00000000a80425fb", "CapAmb:", "0000000000000000"];
        assert_eq!((words.len(), &words[1..5]), (6, &expected[..]), "{said}");
        assert!(words[5].parse::<u64>().unwrap() >= up, "{said}");
        let pid = oci.state()["pid"].as_u64().unwrap();
        let before = oci.config.clone();
        let time = namespaces.last_mut().unwrap();
        time["path"] = json!(format!("/proc/{pid}/ns/time"));
        oci.config["linux"]["namespaces"] = json!(namespaces);
        oci.config["linux"]["timeOffsets"] = json!(null);
        oci.script(look);
        let said = oci.ok(&["run", "--bundle", oci.bundle(), "d"]);
        let joined: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(joined[..5], words[..5], "{said}");
        oci.config = before;
        oci.ok(&["delete", "--force", "c"]);
        let text = refused(&oci, "/linux/namespaces", json!(namespaces));
        assert!(text.contains("linux.timeOffsets: those of a time namespace that is joined"), "{text}");
        let text = refused(&oci, "/linux/timeOffsets", json!({ "realtime": { "secs": 1 } }));
        assert!(text.contains("linux.timeOffsets[realtime]"), "{text}");
        oci.end();
    });
}
