//! Containers in user namespaces of their own, and mounts whose owners are mapped.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use coracle_host::Mount;
use coracle_runtime::{Bundle, Facts, IdMap, IdRange, Plan, Stdio, UserNamespace};
use coracle_testhost::run;
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use crate::support::{self, PIPES, bundle, command, end, field, idle, line, process, script, watch};

/// The host's ids of root in these containers.
const ROOT: (u32, u32) = (100_000, 200_000);

/// Adds this to a spec.
fn with(spec: &mut Spec, more: Value) {
    fn merge(into: &mut Value, more: Value) {
        match (into, more) {
            (Value::Object(into), Value::Object(more)) => {
                more.into_iter()
                    .for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
            }
            (Value::Array(into), Value::Array(more)) => into.extend(more),
            (into, more) => *into = more,
        }
    }
    let mut all = serde_json::to_value(&*spec).unwrap();
    merge(&mut all, more);
    *spec = serde_json::from_value(all).unwrap();
}

/// Gives the container a user namespace.
fn mapped(spec: &mut Spec) {
    let ids = |first| json!([{ "containerID": 0, "hostID": first, "size": 65_536 }]);
    let linux = json!({
        "namespaces": [{ "type": "user" }], "uidMappings": ids(ROOT.0), "gidMappings": ids(ROOT.1),
    });
    with(spec, json!({ "linux": linux }));
}

fn sh(text: &str) -> Spec {
    let mut spec = script(text);
    mapped(&mut spec);
    spec
}

fn map() -> IdMap {
    let range = |outside| [IdRange { inside: 0, outside, count: 65_536 }];
    IdMap::new(range(ROOT.0), range(ROOT.1)).unwrap()
}

#[test]
fn root_is_somebody_else_outside() {
    run(|host| {
        let text =
            "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; cat /proc/1/comm";
        let output = support::run(host.dir(), &sh(text)).ok();
        let words: Vec<&str> = output.split_whitespace().collect();
        assert_eq!(words, ["0", "0", "0", "100000", "65536", "0", "200000", "65536", "allow", "sh"]);
        // Seen from outside.
        let running = idle(host.dir(), mapped);
        let status = |name: &str| {
            let pid = running.pidfd.pid().unwrap();
            let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            field(&text, name).to_owned()
        };
        assert_eq!(status("Uid").split_whitespace().next(), Some("100000"));
        assert_eq!(status("Gid").split_whitespace().next(), Some("200000"));
        assert_eq!(status("Groups"), "");
        // Docker's fourteen, in the namespace.
        assert_eq!(u64::from_str_radix(&status("CapEff"), 16), Ok(0xa804_25fb));
        end(running);
    });
}

#[test]
fn every_namespace_belongs_to_it() {
    run(|host| {
        let mut spec = sh("hostname inside; hostname; mount -t tmpfs -o ro none /mnt; \
             busybox ip link set lo down && echo down; mkdir /mnt/x 2>&1; unshare -p -f true; echo fine");
        let sets = json!(["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_RESOURCE"]);
        let sets = json!({ "bounding": sets, "permitted": sets, "effective": sets });
        with(&mut spec, json!({ "process": { "capabilities": sets } }));
        let output = support::run(host.dir(), &spec).ok();
        let text = "inside\ndown\nmkdir: cannot create directory '/mnt/x': Read-only file system\nfine\n";
        assert_eq!(output.replace(['\u{2018}', '\u{2019}'], "'"), text);
        // What the host has still takes the host's rights, whatever this root may do among its own.
        let mut spec = sh("echo 1 2>&1 >/proc/sys/vm/swappiness; mknod /tmp/null c 1 3 2>&1 || echo no");
        with(&mut spec, json!({ "process": { "capabilities": sets }, "linux": { "readonlyPaths": null } }));
        let output = support::run(host.dir(), &spec).stdout;
        assert!(output.contains("Permission denied") && output.ends_with("no\n"), "{output}");
    });
}

#[test]
fn what_is_mounted_belongs_to_its_root() {
    run(|host| {
        let text = "for path in /dev /dev/null /dev/fd /dev/pts /dev/pts/ptmx /dev/shm /dev/mqueue /dev/zero /mine /made; \
             do stat -c '%n %u:%g' $path; done; echo x >/dev/null && echo y >/dev/full; \
             head -c 3 /dev/zero | wc -c; touch /dev/shm/f /dev/f && stat -c %u:%g /dev/shm/f; \
             ls /sys/kernel >/dev/null && echo sys";
        let mut spec = sh(text);
        with(
            &mut spec,
            json!({ "mounts": [
                { "destination": "/mine", "type": "tmpfs", "options": ["uid=7", "gid=8"] },
                { "destination": "/made/by/hand", "type": "tmpfs" },
            ] }),
        );
        let output = support::run(host.dir(), &spec);
        let lines: Vec<&str> = output.stdout.lines().collect();
        let roots = [
            "/dev",
            "/dev/null",
            "/dev/fd",
            "/dev/pts",
            "/dev/pts/ptmx",
            "/dev/shm",
            "/dev/mqueue",
            "/dev/zero",
        ];
        let mut expected: Vec<String> = roots.iter().map(|path| format!("{path} 0:0")).collect();
        expected.extend(["/mine 7:8", "/made 0:0", "3", "0:0", "sys"].map(str::to_owned));
        assert_eq!(lines, expected, "{}", output.stderr);
        assert!(output.stderr.contains("echo:"), "/dev/full takes something: {}", output.stderr);
    });
}

#[test]
fn users_and_their_terminal_and_streams() {
    run(|host| {
        let mut spec = sh("id -u; id -G; echo out > /dev/stdout");
        support::user(&mut spec, 1234, 567, &[10, 20]);
        assert_eq!(support::run(host.dir(), &spec).ok(), "1234\n567 10 20\nout\n");
        // A terminal of its own devpts.
        process(&mut spec).set_terminal(Some(true));
        process(&mut spec)
            .set_args(Some(["/bin/sh", "-c", "tty; stat -c %u:%g $(tty)"].map(str::to_owned).to_vec()));
        let running = support::plan(&spec).start(bundle(host.dir())).unwrap();
        let mut text = Vec::new();
        let terminal = std::os::fd::OwnedFd::from(running.terminal.unwrap());
        let mut bytes = [0; 256];
        while let Ok(count @ 1..) = rustix::io::read(&terminal, &mut bytes) {
            text.extend_from_slice(&bytes[..count]);
        }
        running.pidfd.reap().unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "/dev/pts/0\r\n1234:5\r\n");
    });
}

#[test]
fn a_further_process_joins_it() {
    run(|host| {
        let running = idle(host.dir(), mapped);
        let mut spec = command(&[
            "/bin/sh",
            "-c",
            "id -u; id -g; id -G; cat /proc/self/uid_map; ls -l /proc/1/exe >/dev/null; echo > /dev/stdout; readlink /proc/self/ns/user /proc/1/ns/user | uniq | wc -l",
        ]);
        support::user(&mut spec, 5, 6, &[7]);
        let facts = Facts::of_this_host().in_user_namespace();
        let plan = |spec: &Spec| Plan::exec(spec.process().as_ref().unwrap(), &facts).unwrap();
        let output = watch(plan(&spec).start_in(&running.pidfd, PIPES()).unwrap());
        let words: Vec<&str> = output.stdout.split_whitespace().collect();
        assert_eq!(words[..7], ["5", "6", "6", "7", "0", "100000", "65536"], "{output:?}");
        support::user(&mut spec, 0, 0, &[]);
        let output = watch(plan(&spec).start_in(&running.pidfd, PIPES()).unwrap()).ok();
        assert!(output.ends_with("\n1\n"), "{output}");
        // Nobody there is such a user.
        support::user(&mut spec, 70_000, 0, &[]);
        let error = plan(&spec).start_in(&running.pidfd, PIPES()).unwrap_err();
        assert_eq!(error.to_string(), "process.user: the user id 70000 is none of the user namespace's");
        end(running);
    });
}

#[test]
fn one_is_joined_by_path_with_those_that_belong_to_it() {
    run(|host| {
        let first = idle(host.dir(), mapped);
        let pid = first.pidfd.pid().unwrap();
        let path = |kind: &str, name: &str| json!({ "type": kind, "path": format!("/proc/{pid}/ns/{name}") });
        let mut spec =
            script("id -u; readlink /proc/self/ns/user /proc/self/ns/net /proc/self/ns/uts; hostname other");
        let mut all = serde_json::to_value(&spec).unwrap();
        let namespaces = json!([
            { "type": "mount" }, { "type": "pid" }, { "type": "ipc" }, { "type": "cgroup" },
            path("user", "user"), path("network", "net"), path("uts", "uts"),
        ]);
        all["linux"]["namespaces"] = namespaces;
        all["process"]["capabilities"]["bounding"].as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
        spec = serde_json::from_value(all.clone()).unwrap();
        let net = coracle_host::Namespace::from_fd(
            std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap().into(),
        );
        let bundle = || Bundle { stdio: PIPES(), ..bundle(host.dir()) };
        let plan = support::plan(&spec);
        let output = watch(plan.start(Bundle { net: Some(net), ..bundle() }).unwrap()).ok();
        let link = |name: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        let lines: Vec<&Path> = output.lines().map(Path::new).collect();
        assert_eq!(lines, [Path::new("0"), &link("user"), &link("net"), &link("uts")]);
        // That it maps something else is seen.
        all["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 1, "size": 1 }]);
        all["linux"]["gidMappings"] = all["linux"]["uidMappings"].clone();
        spec = serde_json::from_value(all).unwrap();
        let error = support::plan(&spec).start(bundle()).unwrap_err().to_string();
        assert!(error.contains("has uids 0:100000:65536, gids 0:200000:65536, not uids 0:1:1"), "{error}");
        end(first);
    });
}

#[test]
fn a_processes_namespace_is_joined() {
    run(|host| {
        let first = idle(host.dir(), mapped);
        let pid = first.pidfd.pid().unwrap();
        let mut all =
            serde_json::to_value(script("echo $$; cat /proc/1/comm; read x < /proc/$$/stat && echo seen"))
                .unwrap();
        let path = |kind: &str, name: &str| json!({ "type": kind, "path": format!("/proc/{pid}/ns/{name}") });
        all["linux"]["namespaces"] = json!([{ "type": "mount" }, path("user", "user"), path("pid", "pid")]);
        all["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| mount["type"] != "sysfs" && mount["type"] != "mqueue");
        let spec = serde_json::from_value(all).unwrap();
        let started = support::start(host.dir(), &spec);
        if let Err(error) = &started
            && error.to_string().contains("needs Linux 6.17")
        {
            coracle_testhost::skip(host.test(), "needs proc of a given pid namespace (Linux 6.17)");
            return end(first);
        }
        let output = watch(started.unwrap()).ok();
        assert!(!output.starts_with("1\n") && output.ends_with("\nsh\nseen\n"), "{output}");
        end(first);
    });
}

#[test]
fn owners_of_a_mount_are_mapped() {
    run(|host| {
        let dir = host.dir().join("data");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("root"), "").unwrap();
        std::fs::write(dir.join("seven"), "").unwrap();
        std::os::unix::fs::chown(dir.join("seven"), Some(7), Some(7)).unwrap();
        let bind = |more: Value| {
            let mut mount = json!({ "destination": "/data", "type": "bind", "source": dir });
            mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({ "mounts": [mount] })
        };
        let look = "cd /data; stat -c '%n %u:%g' root seven; touch new && stat -c '%n %u:%g' new";
        let mut spec = sh(look);
        with(&mut spec, bind(json!({ "options": ["bind", "idmap"] })));
        let started = support::start(host.dir(), &spec);
        if let Err(error) = &started
            && error.to_string().contains("can't map the owners of this file system")
        {
            return coracle_testhost::skip(host.test(), "needs a tmpfs with mapped mounts (Linux 6.3)");
        }
        assert_eq!(watch(started.unwrap()).ok(), "root 0:0\nseven 7:7\nnew 0:0\n");
        let new = std::fs::metadata(dir.join("new")).unwrap();
        assert_eq!((new.uid(), new.gid()), (0, 0));
        std::fs::remove_file(dir.join("new")).unwrap();
        // Without it they are nobody's, and it may not write.
        let mut spec = sh("cd /data; stat -c '%n %u:%g' root; touch new 2>/dev/null || echo no");
        with(&mut spec, bind(json!({ "options": ["bind"] })));
        assert_eq!(support::run(host.dir(), &spec).ok(), "root 65534:65534\nno\n");
        // A mapping of its own, in a container without a user namespace.
        let ids = json!([{ "containerID": 7, "hostID": 1007, "size": 1 }, { "containerID": 0, "hostID": 0, "size": 1 }]);
        let mut spec = script("cd /data; stat -c '%n %u:%g' root seven");
        with(
            &mut spec,
            bind(json!({ "options": ["rbind", "ridmap"], "uidMappings": ids, "gidMappings": ids })),
        );
        assert_eq!(support::run(host.dir(), &spec).ok(), "root 0:0\nseven 1007:1007\n");
    });
}

#[test]
fn it_can_be_brought_along() {
    run(|host| {
        let user = UserNamespace::new(&map()).unwrap();
        let net = user.new_net().unwrap();
        let again =
            UserNamespace::from_fd(std::os::fd::AsFd::as_fd(&user).try_clone_to_owned().unwrap()).unwrap();
        assert_eq!(again.map(), &map());
        let mut spec = sh("readlink /proc/self/ns/user; busybox ip link set lo down && echo mine");
        let sets = json!(["CAP_NET_ADMIN"]);
        let sets = json!({ "bounding": sets, "permitted": sets, "effective": sets });
        with(&mut spec, json!({ "process": { "capabilities": sets } }));
        let given = Bundle {
            user: Some(user.try_clone().unwrap()),
            net: Some(net),
            stdio: PIPES(),
            ..bundle(host.dir())
        };
        let output = watch(support::plan(&spec).start(given).unwrap()).ok();
        let inode = rustix::fs::fstat(&user).unwrap().st_ino;
        assert_eq!(output, format!("user:[{inode}]\nmine\n"));
        // Only to those that ask for one.
        let given = Bundle { user: Some(user), ..bundle(host.dir()) };
        let error = support::plan(&script("true")).start(given).unwrap_err();
        assert_eq!(error.to_string(), "the plan has no place for the user namespace that was given");
    });
}

#[test]
fn a_root_whose_owners_are_mapped_can_be_written_to() {
    run(|host| {
        let root = host.dir().join("tree");
        for dir in ["", "bin", "proc"] {
            std::fs::create_dir(root.join(dir)).unwrap();
        }
        let busybox = "/bin/busybox";
        if !Path::new(busybox).exists() {
            return coracle_testhost::skip(host.test(), "needs busybox");
        }
        std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
        let mut spec = sh("");
        process(&mut spec).set_args(Some(
            ["/bin/busybox", "sh", "-c", "busybox touch /new; busybox stat -c %u:%g / /new"]
                .map(str::to_owned)
                .to_vec(),
        ));
        process(&mut spec).set_env(Some(vec!["PATH=/bin".into()]));
        let user = UserNamespace::new(&map()).unwrap();
        let mount = Mount::bind_path(&root, false).unwrap();
        let mount = match mount.mapped(&user, false) {
            Err(error) if error.errno() == Some(rustix::io::Errno::INVAL) => {
                return coracle_testhost::skip(host.test(), "needs a tmpfs with mapped mounts (Linux 6.3)");
            }
            other => other.unwrap(),
        };
        let given = Bundle { user: Some(user), stdio: PIPES(), ..Bundle::new(mount) };
        let output = watch(support::plan(&spec).start(given).unwrap()).ok();
        assert_eq!(output, "0:0\n0:0\n");
        let new = std::fs::metadata(root.join("new")).unwrap();
        assert_eq!((new.uid(), new.gid()), (0, 0));
    });
}

#[test]
fn failures_on_the_way_are_told_and_leave_nothing() {
    run(|host| {
        let mut spec = sh("true");
        process(&mut spec).set_cwd("/none".into());
        let error = support::start(host.dir(), &spec).unwrap_err().to_string();
        assert!(error.ends_with("chdir /none: No such file or directory (os error 2)"), "{error}");
        // One that it has no rights in.
        let mut spec = script("true");
        with(
            &mut spec,
            json!({ "linux": { "namespaces": [{ "type": "user", "path": "/proc/self/ns/user" }] } }),
        );
        let error = support::start(host.dir(), &spec).unwrap_err().to_string();
        let expected = "linux.namespaces[user].path: join the user namespace: Invalid argument (os error 22)";
        assert_eq!(error, expected);
        let mut spec = script("true");
        with(&mut spec, json!({ "linux": { "namespaces": [{ "type": "user", "path": "/none" }] } }));
        let error = support::start(host.dir(), &spec).unwrap_err().to_string();
        assert_eq!(
            error,
            "linux.namespaces[user].path: open(\"/none\"): No such file or directory (os error 2)"
        );
    });
}

#[test]
fn it_can_contain_another() {
    run(|host| {
        let mut spec = sh(
            "unshare --user --map-root-user --mount --pid --fork sh -c 'id -u; mount -t tmpfs none /mnt && echo deep'",
        );
        let sets = json!(["CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP"]);
        let sets = json!({ "bounding": sets, "permitted": sets, "effective": sets });
        with(&mut spec, json!({ "process": { "capabilities": sets } }));
        assert_eq!(support::run(host.dir(), &spec).ok(), "0\ndeep\n");
    });
}

#[test]
fn the_program_stays_dumpable_and_its_memory_its_own() {
    run(|host| {
        use rustix::process::{DumpableBehavior, dumpable_behavior};
        let mut spec = sh("read line; echo $line");
        with(&mut spec, json!({ "process": { "noNewPrivileges": true } }));
        let given = Bundle { stdio: [Stdio::Pipe, Stdio::Pipe, Stdio::Null], ..bundle(host.dir()) };
        let running = support::plan(&spec).start(given).unwrap();
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::Dumpable));
        rustix::io::write(running.stdin.as_ref().unwrap(), b"on\n").unwrap();
        assert_eq!(line(running.stdout.as_ref().unwrap()), "on");
        watch(running);
    });
}

/// They are set in a time namespace of its own users', which further processes can join.
#[test]
fn clocks_of_its_own() {
    run(|host| {
        let clocks = json!({
            "namespaces": [{ "type": "time" }], "timeOffsets": { "boottime": { "secs": 1_000_000, "nanosecs": 0 } },
        });
        let mut spec = sh("cat /proc/self/timens_offsets; id -u");
        with(&mut spec, json!({ "linux": clocks }));
        let plan = Plan::container(&spec, &Facts::of_this_host());
        if plan.as_ref().is_err_and(|error| error.to_string().contains("needs Linux 6.2")) {
            return coracle_testhost::skip(host.test(), "needs time namespaces entered by exec (Linux 6.2)");
        }
        let output =
            watch(plan.unwrap().start(Bundle { stdio: PIPES(), ..bundle(host.dir()) }).unwrap()).ok();
        let words: Vec<&str> = output.split_whitespace().collect();
        assert_eq!(words, ["monotonic", "0", "0", "boottime", "1000000", "0", "0"]);
        let running = idle(host.dir(), |spec| {
            mapped(spec);
            with(spec, json!({ "linux": clocks }));
        });
        let facts = Facts::of_this_host().in_user_namespace();
        let look = "readlink /proc/self/ns/time /proc/1/ns/time | uniq | wc -l; cut -d. -f1 /proc/uptime; \
                    grep -E 'CapEff|CapAmb' /proc/self/status";
        let plan = Plan::exec(script(look).process().as_ref().unwrap(), &facts).unwrap();
        let said = watch(plan.start_in(&running.pidfd, PIPES()).unwrap()).ok();
        let words: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(
            (words[0], &words[2..]),
            ("1", &["CapEff:", "00000000a80425fb", "CapAmb:", "0000000000000000"][..])
        );
        assert!(words[1].parse::<u64>().unwrap() >= 1_000_000, "{said}");
        // With no offsets, too.
        let mut plain = sh("cat /proc/self/timens_offsets");
        with(&mut plain, json!({ "linux": { "namespaces": [{ "type": "time" }] } }));
        let plan = Plan::container(&plain, &Facts::of_this_host()).unwrap();
        let plain = watch(plan.start(Bundle { stdio: PIPES(), ..bundle(host.dir()) }).unwrap()).ok();
        assert_eq!(
            plain.split_whitespace().collect::<Vec<_>>(),
            ["monotonic", "0", "0", "boottime", "0", "0"]
        );
        end(running);
    });
}
