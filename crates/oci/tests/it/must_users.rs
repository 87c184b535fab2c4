//! Every MUST about user namespaces and mapped owners (runtime-spec 1.2: config-linux.md, "Namespaces" and "User namespace
//! mappings"; config.md, "Mounts"), and a container's whole life in one.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use coracle_testhost::{run, skip};
use serde_json::{Value, json};

use crate::must::{prints, refused};
use crate::support::{Oci, installed};

/// Gives the container a user namespace: first id inside, first outside, how many.
pub(crate) fn map(oci: &mut Oci, ranges: &[(u32, u32, u32)]) {
    oci.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    for key in ["uidMappings", "gidMappings"] {
        oci.config["linux"][key] = ids(ranges);
    }
}

fn ids(ranges: &[(u32, u32, u32)]) -> Value {
    let one = |(inside, outside, size): &(u32, u32, u32)| json!({ "containerID": inside, "hostID": outside, "size": size });
    ranges.iter().map(one).collect()
}

const MAPS: &str = "cat /proc/self/uid_map /proc/self/gid_map";

/// "User namespace mappings": containerID, hostID and size, as they are listed. "Namespaces": a user namespace is new where
/// there is no path, and the one at the path where there is.
#[test]
fn mappings() {
    run(|host| {
        let mut oci = Oci::new(
            host,
            &format!("{MAPS} | while read a b c; do echo $a:$b:$c; done; readlink /proc/self/ns/user"),
        );
        let own = std::fs::read_link("/proc/self/ns/user").unwrap().display().to_string();
        let ranges = [(0, 100_000, 1000), (1000, 1000, 1), (1001, 101_000, 500)];
        map(&mut oci, &ranges);
        let output = prints(&oci);
        let lines: Vec<&str> = output.lines().collect();
        let expected = ["0:100000:1000", "1000:1000:1", "1001:101000:500"];
        assert_eq!((&lines[..3], &lines[3..6]), (&expected[..], &expected[..]));
        assert!(lines[6].starts_with("user:[") && lines[6] != own, "{output}");
        // As many as the kernel takes.
        let many: Vec<_> = (0..340).map(|id| (id, 1 + 2 * id, 1)).collect();
        for key in ["uidMappings", "gidMappings"] {
            oci.config["linux"][key] = ids(&many);
        }
        assert_eq!(prints(&oci).lines().count(), 681);
        // One that is there.
        let mut holder = Command::new("unshare").args(["--user", "sleep", "1000"]).spawn().unwrap();
        let path = format!("/proc/{}/ns/user", holder.id());
        let link = || std::fs::read_link(&path).unwrap().display().to_string();
        crate::support::soon("it is there", || link() != own);
        for name in ["uid_map", "gid_map"] {
            std::fs::write(format!("/proc/{}/{name}", holder.id()), "0 100000 65536").unwrap();
        }
        for key in ["uidMappings", "gidMappings"] {
            oci.config["linux"][key] = json!(null);
        }
        let namespaces = oci.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.last_mut().unwrap()["path"] = json!(path);
        let output = prints(&oci);
        assert_eq!(output.lines().collect::<Vec<_>>(), ["0:100000:65536", "0:100000:65536", &link()]);
        holder.kill().unwrap();
        holder.wait().unwrap();
        // What can't be: nothing mapped, mapped twice, the runtime's own, none at all.
        oci.config["linux"]["namespaces"].as_array_mut().unwrap().pop();
        map(&mut oci, &ranges);
        for wrong in [json!([]), json!(null), ids(&[(0, 1, 2), (1, 7, 1)]), ids(&[(5, 0, 1)])] {
            let text = refused(&oci, "/linux/uidMappings", wrong);
            assert!(text.contains("linux.uidMappings"), "{text}");
        }
        let text = refused(&oci, "/process/user", json!({ "uid": 7000, "gid": 0 }));
        assert!(text.contains("process.user: the user 7000 is not mapped"), "{text}");
        let text = refused(&oci, "/linux/namespaces", json!([{ "type": "mount" }]));
        assert!(text.contains("without a user namespace they map nothing"), "{text}");
        for path in ["/proc/self/ns/uts", "/proc/self/ns/user", "proc/self/ns/user", "/none"] {
            refused(
                &oci,
                "/linux/namespaces",
                json!([{ "type": "mount" }, { "type": "user", "path": path }]),
            );
        }
        oci.end();
    });
}

/// "idmap: Indicates that the mount MUST have an idmapping applied"; the mount's own mappings MUST be used where it has
/// them; without them, and without a user namespace, an error MUST be returned.
#[test]
fn mounts_with_mapped_owners() {
    run(|host| {
        let mut oci =
            Oci::new(host, "cd /data; stat -c %u:%g own seven below/x; touch new && stat -c %u:%g new");
        let data = oci.dir.join("data");
        for dir in ["", "below"] {
            std::fs::create_dir(data.join(dir)).unwrap();
        }
        for name in ["own", "seven"] {
            std::fs::write(data.join(name), "").unwrap();
        }
        std::os::unix::fs::chown(data.join("seven"), Some(7), Some(7)).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", data.join("below"), "tmpfs", flags, c"mode=0777").unwrap();
        std::fs::write(data.join("below/x"), "").unwrap();
        let mounts = oci.config["mounts"].as_array().unwrap().len();
        let shows = |oci: &mut Oci, mount: Value| {
            let all = oci.config["mounts"].as_array_mut().unwrap();
            all.truncate(mounts);
            let mut bind = json!({ "destination": "/data", "type": "bind", "source": data });
            bind.as_object_mut().unwrap().extend(mount.as_object().unwrap().clone());
            all.push(bind);
            let shown = prints(oci);
            let new = std::fs::metadata(data.join("new")).map(|new| (new.uid(), new.gid())).ok();
            let _ = std::fs::remove_file(data.join("new"));
            (shown.lines().map(str::to_owned).collect::<Vec<_>>().join(" "), new)
        };
        // Without a user namespace: as the mount's own mapping has it.
        let own = ids(&[(0, 0, 5), (7, 1007, 1)]);
        let mapped = |option: &[&str]| json!({ "options": option, "uidMappings": own, "gidMappings": own });
        let (shown, new) = shows(&mut oci, mapped(&["rbind", "idmap"]));
        assert_eq!((&shown[..], new), ("0:0 1007:1007 0:0 0:0", Some((0, 0))));
        let all = oci.config["mounts"].clone();
        let mut without = all.clone();
        let last = without.as_array_mut().unwrap().last_mut().unwrap().as_object_mut().unwrap();
        last.remove("gidMappings");
        let text = refused(&oci, "/mounts", without.clone());
        assert!(text.contains("mounts[/data]: gidMappings: 0 ranges"), "{text}");
        let last = without.as_array_mut().unwrap().last_mut().unwrap().as_object_mut().unwrap();
        last.remove("uidMappings");
        let text = refused(&oci, "/mounts", without);
        assert!(text.contains("mounts[/data]: `idmap` without mappings"), "{text}");
        // With one: the container's, where it has none itself. What is below is mapped only where that is said.
        map(&mut oci, &[(0, 100_000, 65_536)]);
        let (shown, new) = shows(&mut oci, json!({ "options": ["rbind", "idmap"] }));
        assert_eq!((&shown[..], new), ("0:0 7:7 65534:65534 0:0", Some((0, 0))));
        let (shown, new) = shows(&mut oci, json!({ "options": ["rbind", "ridmap"] }));
        assert_eq!((&shown[..], new), ("0:0 7:7 0:0 0:0", Some((0, 0))));
        let shifted = ids(&[(0, 100_001, 1), (7, 100_000, 1)]);
        let mapping =
            json!({ "options": ["rbind", "idmap"], "uidMappings": shifted, "gidMappings": shifted });
        let (shown, new) = shows(&mut oci, mapping);
        assert_eq!((&shown[..], new), ("1:1 0:0 65534:65534 0:0", Some((7, 7))));
        rustix::mount::unmount(data.join("below"), rustix::mount::UnmountFlags::empty()).unwrap();
        oci.end();
    });
}

/// Created, started, joined and killed like every other one; hooks see its process.
#[test]
fn a_whole_life() {
    run(|host| {
        let mut oci = Oci::new(host, "id -u; while :; do sleep 0.01; done");
        map(&mut oci, &[(0, 100_000, 65_536)]);
        let hook = |name: &str| {
            let file = oci.dir.join(name);
            let text = format!("grep -o '\"pid\": *[0-9]*' | tr -dc 0-9 > {}", file.display());
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", text], "env": ["PATH=/usr/bin:/bin"] }])
        };
        oci.config["hooks"] = json!({ "createRuntime": hook("before"), "poststart": hook("after") });
        oci.write();
        oci.create();
        let pid = oci.state()["pid"].as_u64().unwrap();
        let said = |name: &str| std::fs::read_to_string(oci.dir.join(name)).unwrap();
        assert_eq!(said("before"), pid.to_string());
        oci.leave(&["start", "c"]);
        assert_eq!(said("after"), pid.to_string());
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("\nUid:\t100000\t100000"), "{status}");
        let text = "id -u; id -g; grep CapBnd /proc/self/status";
        let output = oci.ok(&["exec", "--user", "3:4", "c", "/bin/sh", "-c", text]);
        assert!(output.starts_with("3\n4\nCapBnd:\t00000000a80425fb\n"), "{output}");
        crate::support::soon("it has said who it is", || oci.out() == "0\n");
        oci.leave(&["kill", "c", "KILL"]);
        oci.until("stopped");
        oci.leave(&["delete", "c"]);
        oci.end();
    });
}

/// The same bundle, by runc and by crun.
#[test]
fn others_agree() {
    run(|host| {
        if !installed(&["runc", "crun"]) {
            return skip(host.test(), "needs runc and crun");
        }
        let text = format!(
            "{MAPS}; id; umask; stat -c '%n %u:%g %a' /dev /dev/pts /dev/shm /proc/1 /etc/passwd; \
             cat /proc/self/oom_score_adj; ulimit -n; grep -E 'Cap|Groups|Seccomp:' /proc/self/status; ls /sys/class/net; \
             cat /proc/sys/net/ipv4/ip_unprivileged_port_start; hostname"
        );
        let mut oci = Oci::new(host, &text);
        map(&mut oci, &[(0, 100_000, 65_536)]);
        oci.config["process"]["oomScoreAdj"] = json!(77);
        oci.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 500, "hard": 600 }]);
        oci.config["process"]["user"] =
            json!({ "uid": 0, "gid": 0, "umask": 0o22, "additionalGids": [5, 9] });
        oci.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_unprivileged_port_start": "80" });
        let ours = prints(&oci);
        // Groups of both versions are nothing to crun.
        let alone = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" \"$@\"";
        for other in ["runc", "crun"] {
            let mut command = Command::new("unshare");
            command.args([
                "--mount",
                "sh",
                "-c",
                if other == "crun" { alone } else { "exec \"$0\" \"$@\"" },
                other,
            ]);
            command.arg("--root").arg(oci.dir.join(other)).args(["run", "--bundle", oci.bundle(), "c"]);
            let output = command.stdin(std::process::Stdio::null()).output().unwrap();
            assert!(output.status.success(), "{other}: {}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(ours, String::from_utf8_lossy(&output.stdout), "{other}");
        }
        oci.end();
    });
}
