//! What a container sees, and what it can't reach.

use std::fs;

use coracle_host::Exit;
use coracle_runtime::{Bundle, Plan};
use coracle_testhost::run;

use crate::support::{self, PIPES, bundle, command, field, overlay, plan, process, script, sh, watch};

#[test]
fn it_is_alone() {
    run(|host| {
        let mut spec = script(
            "echo $$; hostname; cat /proc/sys/kernel/domainname; ls /proc > /tmp/all; grep -c '^[0-9]' /tmp/all",
        );
        spec.set_hostname(Some("boat".into())).set_domainname(Some("harbour".into()));
        // The shell and ls; nobody else.
        assert_eq!(support::run(host.dir(), &spec).ok(), "1\nboat\nharbour\n2\n");
        let own = sh(host.dir(), "cd /proc/self/ns; readlink cgroup ipc mnt net pid uts");
        for (link, kind) in own.lines().zip(["cgroup", "ipc", "mnt", "net", "pid", "uts"]) {
            let ours = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            assert!(link.starts_with(kind) && link != ours.to_str().unwrap(), "{link} {ours:?}");
        }
        // The cgroup namespace has its root where the container is.
        assert!(sh(host.dir(), "cat /proc/self/cgroup").lines().all(|line| line.ends_with(":/")));
        // A name that is not its own it can't change.
        let denied = support::run(host.dir(), &script("hostname other"));
        assert_eq!(denied.exit, Exit::Code(1), "{denied:?}");
    });
}

#[test]
fn its_network_is_a_loopback_that_is_up() {
    run(|host| {
        let text =
            "cat /proc/net/dev | tail -n +3 | cut -d: -f1; cat /sys/class/net/lo/flags; ls /sys/class/net";
        assert_eq!(sh(host.dir(), text).split_whitespace().collect::<Vec<_>>(), ["lo", "0x9", "lo"]);
    });
}

#[test]
fn the_hosts_network_where_it_is_asked_for() {
    run(|host| {
        let mut spec = script("readlink /proc/self/ns/net");
        let namespaces = spec.linux_mut().as_mut().unwrap().namespaces_mut().as_mut().unwrap();
        namespaces.retain(|namespace| namespace.typ() != oci_spec::runtime::LinuxNamespaceType::Network);
        let ours = fs::read_link("/proc/self/ns/net").unwrap();
        assert_eq!(support::run(host.dir(), &spec).ok().trim(), ours.to_str().unwrap());
    });
}

#[test]
fn a_network_that_is_given() {
    run(|host| {
        let net = coracle_host::Namespace::new_net().unwrap();
        let link = net.within(|| fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
        let bundle = Bundle { net: Some(net), stdio: PIPES(), ..bundle(host.dir()) };
        let text = "readlink /proc/self/ns/net; cat /sys/class/net/lo/flags";
        let output = watch(plan(&script(text)).start(bundle).unwrap()).ok();
        assert_eq!(output, format!("{}\n0x9\n", link.display()));
    });
}

#[test]
fn its_mounts_are_its_own() {
    run(|host| {
        let table = sh(host.dir(), "cat /proc/self/mountinfo");
        let mounts: Vec<(&str, &str, &str)> = table
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                let dash = words.iter().position(|word| *word == "-").unwrap();
                assert_eq!(dash, 6, "has a peer or a master: {line}");
                (words[4], words[5], words[dash + 1])
            })
            .collect();
        let expected = [
            ("/", "rw,nodev,relatime", "overlay"),
            ("/dev", "rw,nosuid,nodev", "tmpfs"),
            ("/dev/null", "rw,nosuid", "tmpfs"),
            ("/dev/zero", "rw,nosuid", "tmpfs"),
            ("/dev/full", "rw,nosuid", "tmpfs"),
            ("/dev/random", "rw,nosuid", "tmpfs"),
            ("/dev/urandom", "rw,nosuid", "tmpfs"),
            ("/dev/tty", "rw,nosuid", "tmpfs"),
            ("/dev/pts", "rw,nosuid,noexec,relatime", "devpts"),
            ("/dev/shm", "rw,nosuid,nodev,noexec,relatime", "tmpfs"),
            ("/proc", "rw,nosuid,nodev,noexec,relatime", "proc"),
            ("/sys", "ro,nosuid,nodev,noexec,relatime", "sysfs"),
            ("/dev/mqueue", "rw,nosuid,nodev,noexec,relatime", "mqueue"),
        ];
        // In which order the kernel lists them is its own affair.
        let missing = expected.iter().filter(|mount| !mounts.contains(mount)).collect::<Vec<_>>();
        assert!(missing.is_empty(), "{missing:?}: {table}");
        // The rest are walls.
        for (at, flags, fstype) in mounts.iter().filter(|mount| !expected.contains(mount)) {
            assert!(at.starts_with("/proc/") || at.starts_with("/sys/"), "{at}");
            match *fstype {
                "proc" => assert_eq!(*flags, "ro,nosuid,nodev,noexec,relatime", "{at}"),
                "tmpfs" => assert!(flags.starts_with("ro"), "{at} {flags}"),
                other => assert_eq!(other, "devtmpfs", "{at}"),
            }
        }
        assert!(!table.contains(host.dir().to_str().unwrap()), "{table}");
    });
}

#[test]
fn it_cannot_mount_or_unmount() {
    run(|host| {
        for text in [
            "mount -t tmpfs none /mnt",
            "mount --bind / /mnt",
            "mount -o remount,rw /sys",
            "mount -o remount,bind,rw /proc/sys",
            "umount /proc/sys",
            "umount -l /dev/shm",
            "unshare -m true",
            "nsenter -t 1 -m true",
            "dmesg",
            "date -s 2000-01-01",
            "echo 1 > /proc/sys/kernel/panic",
            "mkdir /sys/fs/cgroup/x",
        ] {
            let output = support::run(host.dir(), &script(&format!("{text} >/dev/null")));
            assert!(output.exit != Exit::Code(0) && !output.stderr.is_empty(), "{text}: {output:?}");
        }
    });
}

#[test]
fn its_devices() {
    run(|host| {
        // Modes are what they should be whatever the embedding program masks; this process has no other thread's umask.
        let old = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let text = "cd /dev; stat -c '%n %F %a %Hr,%Lr' $(find . -type c -maxdepth 1 | sort); umask";
        let devices = sh(host.dir(), text);
        let expected = "\
./full character special file 666 1,7
./null character special file 666 1,3
./random character special file 666 1,8
./tty character special file 666 5,0
./urandom character special file 666 1,9
./zero character special file 666 1,5
0022
";
        assert_eq!(devices, expected);
        let text =
            "cd /dev; stat -c '%n %a' . pts shm mqueue; stat -f -c %T shm; find . -maxdepth 1 | sort | xargs";
        let expected = "\
. 755
pts 755
shm 1777
mqueue 1777
tmpfs
. ./core ./fd ./full ./mqueue ./null ./ptmx ./pts ./random ./shm ./stderr ./stdin ./stdout ./tty ./urandom ./zero
";
        assert_eq!(sh(host.dir(), text), expected);
        rustix::process::umask(old);
        let text = "readlink fd stdin stdout stderr core ptmx";
        let expected =
            "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n/proc/kcore\npts/ptmx\n";
        assert_eq!(sh(host.dir(), &format!("cd /dev; {text}")), expected);
    });
}

#[test]
fn its_devices_work() {
    run(|host| {
        let text = "head -c 3 /dev/zero | od -An -tx1; head -c 8 /dev/urandom | wc -c; echo x > /dev/null; \
                    cat /dev/null; echo x > /dev/full || echo full";
        let output = support::run(host.dir(), &script(text));
        assert_eq!(output.stdout, " 00 00 00\n8\nfull\n");
        // 64 MiB of shared memory, and not a page more.
        let text = "df -B1 --output=size /dev/shm | tail -1; head -c 67108864 /dev/zero > /dev/shm/a && echo fits; \
                    head -c 1 /dev/zero > /dev/shm/b || echo no more";
        let output = support::run(host.dir(), &script(text));
        assert_eq!(output.stdout.split_whitespace().collect::<Vec<_>>(), ["67108864", "fits", "no", "more"]);
        // A terminal of its own instance, numbered from 0 whatever the host has.
        let output = support::run(host.dir(), &script("script -qc 'tty; stat -c %g:%a $(tty)' /dev/null"));
        assert_eq!(output.stdout.replace('\r', ""), "/dev/pts/0\n5:620\n", "{output:?}");
        assert_eq!(sh(host.dir(), "touch /dev/mqueue/q; ls /dev/mqueue"), "q\n");
    });
}

/// What `mknod` makes is of no use, wherever it is made; what the spec has works.
#[test]
fn devices_that_it_makes_itself_do_not_open() {
    run(|host| {
        let places = "/tmp/n /dev/n /dev/shm/n /srv/data/n /run/n";
        let text = format!(
            "for at in {places}; do mknod $at c 1 5 && ! head -c 1 $at 2>/dev/null && echo shut; done; \
             mknod /tmp/b b 7 0 && ! head -c 1 /tmp/b 2>/dev/null && echo shut; head -c 1 /dev/zero | od -An -tx1; \
             head -c 1 /dev/own | od -An -tx1; stat -c '%a %u:%g' /dev/own; echo x > /dev/tape && echo written"
        );
        let mut spec = script(&text);
        let tmpfs = serde_json::json!({ "destination": "/run", "type": "tmpfs", "source": "x" });
        spec.mounts_mut().as_mut().unwrap().push(serde_json::from_value(tmpfs).unwrap());
        let device = |path: &str, minor: i64, mode: u32| {
            serde_json::from_value(serde_json::json!({
                "path": path, "type": "c", "major": 1, "minor": minor, "fileMode": mode, "uid": 5, "gid": 6,
            }))
            .unwrap()
        };
        let devices = vec![device("/dev/own", 5, 0o640), device("/dev/tape", 3, 0o666)];
        spec.linux_mut().as_mut().unwrap().set_devices(Some(devices));
        let mut plan = plan(&spec);
        plan.attach("data", "/srv/data").unwrap();
        let mounts =
            vec![coracle_host::Mount::new("tmpfs", &[], rustix::mount::MountAttrFlags::empty()).unwrap()];
        let output = watch(plan.start(Bundle { stdio: PIPES(), mounts, ..bundle(host.dir()) }).unwrap());
        let expected = format!("{} 00\n 00\n640 5:6\nwritten\n", "shut\n".repeat(6));
        assert_eq!(output.ok(), expected);
        // A device's node that is mounted is meant to be used.
        let mut plan = self::plan(&script("head -c 1 /dev/given | od -An -tx1"));
        plan.attach("device", "/dev/given").unwrap();
        let mounts = vec![coracle_host::Mount::bind_path("/dev/zero", false).unwrap()];
        let output = watch(plan.start(Bundle { stdio: PIPES(), mounts, ..bundle(host.dir()) }).unwrap());
        assert_eq!(output.ok(), " 00\n");
    });
}

#[test]
fn what_is_masked_is_empty() {
    run(|host| {
        let spec = script("true");
        let linux = spec.linux().as_ref().unwrap();
        let mut seen = 0;
        for path in linux.masked_paths().as_ref().unwrap() {
            let Ok(meta) = fs::metadata(path) else { continue };
            seen += 1;
            let text = match meta.is_dir() {
                true => format!("ls -A {path}; mkdir {path}/x 2>/dev/null || echo refused"),
                false => format!("cat {path}; echo refused"),
            };
            assert_eq!(sh(host.dir(), &text), "refused\n", "{path}");
        }
        for path in linux.readonly_paths().as_ref().unwrap() {
            let Ok(meta) = fs::metadata(path) else { continue };
            seen += 1;
            let text = match meta.is_dir() {
                true => format!("ls {path} >/dev/null && chmod 700 {path}"),
                false => format!("echo h > {path}"),
            };
            let output = support::run(host.dir(), &script(&text));
            assert!(output.stderr.contains("Read-only file system"), "{path}: {output:?}");
        }
        assert!(seen >= 6, "this kernel shows too little for the test: {seen}");
        let output = support::run(host.dir(), &script("echo 1 > /proc/sys/net/ipv4/ip_forward"));
        assert!(output.stderr.contains("Read-only file system"), "{output:?}");
    });
}

#[test]
fn a_read_only_root() {
    run(|host| {
        let mut spec = script("touch /x 2>/dev/null || echo refused; touch /dev/shm/x && echo written");
        let mut root = oci_spec::runtime::Root::default();
        root.set_readonly(Some(true));
        spec.set_root(Some(root));
        assert_eq!(support::run(host.dir(), &spec).ok(), "refused\nwritten\n");
        // What the root's mount forbade before it still does.
        let (mount, _) = overlay(host.dir());
        let at = host.dir().join("strict");
        fs::create_dir(&at).unwrap();
        rustix::mount::move_mount(
            &mount,
            "",
            rustix::fs::CWD,
            &at,
            rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
        .unwrap();
        let strict = rustix::mount::MountFlags::BIND
            | rustix::mount::MountFlags::NOSUID
            | rustix::mount::MountFlags::NODEV;
        rustix::mount::mount_remount(&at, strict, "").unwrap();
        let bundle =
            Bundle { stdio: PIPES(), ..Bundle::new(coracle_host::Mount::bind_path(&at, false).unwrap()) };
        process(&mut spec).set_args(Some(vec!["/bin/cat".into(), "/proc/self/mountinfo".into()]));
        let table = watch(plan(&spec).start(bundle).unwrap()).ok();
        let root = table.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
        assert_eq!(root.split(' ').nth(5), Some("ro,nosuid,nodev,relatime"), "{root}");
        rustix::mount::unmount(&at, rustix::mount::UnmountFlags::DETACH).unwrap();
    });
}

#[test]
fn capabilities_are_exactly_dockers() {
    run(|host| {
        let status = support::run(host.dir(), &command(&["/bin/cat", "/proc/self/status"])).ok();
        for (set, bits) in
            [("CapInh", 0), ("CapPrm", FOURTEEN), ("CapEff", FOURTEEN), ("CapBnd", FOURTEEN), ("CapAmb", 0)]
        {
            assert_eq!(u64::from_str_radix(field(&status, set), 16), Ok(bits), "{set}");
        }
        assert_eq!(field(&status, "NoNewPrivs"), "0");
        let mut spec = command(&["/bin/cat", "/proc/self/status"]);
        process(&mut spec).set_capabilities(None).set_no_new_privileges(Some(true));
        let status = support::run(host.dir(), &spec).ok();
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(&status, set), "0000000000000000", "{set}");
        }
        assert_eq!(field(&status, "NoNewPrivs"), "1");
    });
}

const FOURTEEN: u64 = 0xa804_25fb;

#[test]
fn chroot_does_not_lead_out() {
    run(|host| {
        // The classic: a root below the working directory, and up from there.
        let text = "mkdir -p /tmp/jail && cd / && perl -e 'chroot(\"/tmp/jail\") or die; chdir(\"..\") for 1..64; \
                    chroot(\".\"); exec \"/bin/ls\", \"-d\", \"/marker\"'";
        let (root, upper) = overlay(host.dir());
        fs::write(upper.join("marker"), "").unwrap();
        let bundle = Bundle { stdio: PIPES(), ..Bundle::new(root) };
        assert_eq!(watch(plan(&script(text)).start(bundle).unwrap()).ok(), "/marker\n");
        // 1's root, seen through proc, is the container's.
        let (root, upper) = overlay(host.dir());
        fs::write(upper.join("marker"), "").unwrap();
        let bundle = Bundle { stdio: PIPES(), ..Bundle::new(root) };
        let text = "ls -d /proc/1/root/marker /proc/1/root/../../marker /proc/1/cwd/marker";
        let output = watch(plan(&script(text)).start(bundle).unwrap()).ok();
        assert_eq!(output.lines().count(), 3);
    });
}

#[test]
fn a_plan_is_used_again() {
    run(|host| {
        let plan: Plan = plan(&script("echo x >> /tmp/x; cat /tmp/x"));
        for _ in 0..3 {
            let bundle = Bundle { stdio: PIPES(), ..bundle(host.dir()) };
            assert_eq!(watch(plan.start(bundle).unwrap()).ok(), "x\n");
        }
    });
}

fn with_mounts(text: &str, mounts: serde_json::Value) -> oci_spec::runtime::Spec {
    let mut spec = script(text);
    let more: Vec<oci_spec::runtime::Mount> = serde_json::from_value(mounts).unwrap();
    spec.mounts_mut().as_mut().unwrap().extend(more);
    spec
}

/// config.md, "Linux mount options".
#[test]
fn options_of_mounts() {
    run(|host| {
        let data = host.dir().join("data");
        fs::create_dir_all(data.join("below")).unwrap();
        let below = coracle_host::Mount::tmpfs(&[]).unwrap();
        rustix::mount::move_mount(
            &below,
            "",
            rustix::fs::CWD,
            data.join("below"),
            rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
        .unwrap();
        drop(below);
        let bind = |at: &str, options: &[&str]| serde_json::json!({ "destination": at, "type": "bind", "source": data, "options": options });
        let mounts = serde_json::json!([
            bind("/srv/a", &["rbind", "ro", "noexec", "nosymfollow", "noatime"]),
            bind("/srv/b", &["rbind", "rro", "rnosuid"]),
            bind("/srv/c", &["bind", "rw", "nosuid"]),
            bind("/srv/d", &["rbind", "rslave"]),
            { "destination": "/srv/e", "type": "tmpfs", "source": "x", "options": ["ro", "size=1m"] },
            { "destination": "/srv/e/inner", "type": "tmpfs", "source": "x", "options": ["nosuid"] },
        ]);
        let text = "grep ' /srv/' /proc/self/mountinfo | cut -d' ' -f5-7";
        let shown = support::run(host.dir(), &with_mounts(text, mounts)).ok();
        let expected = [
            "/srv/a ro,nodev,noexec,noatime,nosymfollow -",
            "/srv/a/below rw,nosuid,nodev,relatime -",
            "/srv/b ro,nosuid,nodev,relatime -",
            "/srv/b/below ro,nosuid,nodev,relatime -",
            "/srv/c rw,nosuid,nodev,relatime -",
            "/srv/d rw,nodev,relatime -",
            "/srv/d/below rw,nosuid,nodev,relatime -",
            "/srv/e ro,nodev,relatime -",
            "/srv/e/inner rw,nosuid,nodev,relatime -",
        ];
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
        rustix::mount::unmount(data.join("below"), rustix::mount::UnmountFlags::empty()).unwrap();
    });
}

/// What the host mounts below a shared mount later is seen by who asked for that, and by nobody else.
#[test]
fn mounts_that_come_from_the_host() {
    run(|host| {
        use rustix::mount::{MountPropagationFlags as Flags, UnmountFlags, mount, mount_change, unmount};
        let data = host.dir().join("shared");
        fs::create_dir_all(data.join("below")).unwrap();
        mount("x", &data, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        fs::create_dir(data.join("below")).unwrap();
        mount_change(&data, Flags::SHARED).unwrap();
        for (how, seen) in [("rslave", true), ("rprivate", false), ("rshared", true)] {
            let bind = serde_json::json!([
                { "destination": "/srv/d", "type": "bind", "source": data, "options": ["rbind", how] },
            ]);
            let spec = with_mounts(
                "echo up; read line; grep -c ' /srv/d/below ' /proc/self/mountinfo; exit 0",
                bind,
            );
            let stdio =
                [coracle_runtime::Stdio::Pipe, coracle_runtime::Stdio::Pipe, coracle_runtime::Stdio::Null];
            let running = plan(&spec).start(Bundle { stdio, ..bundle(host.dir()) }).unwrap();
            assert_eq!(support::line(running.stdout.as_ref().unwrap()), "up");
            mount("y", data.join("below"), "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
            let output = watch(running).ok();
            assert_eq!(output, if seen { "1\n" } else { "0\n" }, "{how}");
            unmount(data.join("below"), UnmountFlags::empty()).unwrap();
        }
        unmount(&data, UnmountFlags::empty()).unwrap();
    });
}

/// config.md, "Mounts", type `cgroup`: the container's own groups, at the top of each hierarchy.
#[test]
fn control_groups_that_it_sees() {
    run(|host| {
        use coracle_runtime::cgroup::{self, Extent, Place};
        let (hierarchies, _room) = crate::cgroup::machine();
        let resources = serde_json::from_str(r#"{"pids": {"limit": 33}}"#).unwrap();
        let place = Place::new("seen").unwrap();
        let group =
            cgroup::Plan::new(&place, &resources, &hierarchies, Extent::Standard).unwrap().make().unwrap();
        let mounts = serde_json::json!([{
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
        }]);
        let text = "cd /sys/fs/cgroup; cat $(find . -maxdepth 2 -name pids.max); mkdir x 2>/dev/null || echo sealed; \
                    grep ' /sys/fs/cgroup' /proc/self/mountinfo | cut -d' ' -f4,6 | sort | uniq; [ -e /sys/fs/cgroup/pids/coracle-seen ] || echo own";
        let mut spec = with_mounts(text, mounts);
        spec.linux_mut().as_mut().unwrap().set_cgroups_path(Some("/coracle-seen".into()));
        let bundle = Bundle { stdio: PIPES(), group: Some(group.entrance().unwrap()), ..bundle(host.dir()) };
        let output = watch(plan(&spec).start(bundle).unwrap()).ok();
        assert_eq!(output, "33\nsealed\n/ ro,nosuid,nodev,noexec,relatime\nown\n");
        group.remove().unwrap();
    });
}
