//! config-linux.md, "Namespaces", of the kind mount: inherited where the type is not named, joined by its path.

use std::process::{Child, Command, Stdio};

use coracle_testhost::{run, skip};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use serde_json::{Value, json};

use crate::must::{prints, refused};
use crate::support::{Oci, installed, reap, soon};

/// The bundle with this for its mount namespace.
fn namespace(oci: &mut Oci, mount: Option<Value>) {
    let all = oci.config["linux"]["namespaces"].as_array_mut().unwrap();
    all.retain(|namespace| namespace["type"] != "mount");
    all.extend(mount);
}

fn table(process: &str) -> String {
    std::fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap()
}

fn space(process: &str) -> String {
    std::fs::read_link(format!("/proc/{process}/ns/mnt")).unwrap().display().to_string() + "\n"
}

/// What a container is told apart by: where its mounts are, and that its root and walls are as in any other.
const LOOK: &str = "readlink /proc/self/ns/mnt; ls /opt/own; cat /proc/timer_list | wc -c; \
                    touch /sys/x /proc/sys/x 2>/dev/null || echo read-only; ls /..  | grep -c '^opt$'; \
                    cat /dev/shm/only 2>/dev/null; id -u";

const SEEN: &str = "here\n0\nread-only\n1\n0\n";

fn bundle(host: &coracle_testhost::Host, script: &str) -> Oci {
    let mut oci = Oci::new(host, script);
    std::fs::create_dir_all(oci.dir.join("rootfs/opt/own/here")).unwrap();
    oci.config["linux"]["maskedPaths"] = json!(["/proc/timer_list"]);
    oci.config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    oci
}

#[test]
fn the_runtimes_mounts_are_inherited() {
    run(|host| {
        std::fs::write("/dev/shm/only", "the host's\n").unwrap();
        let mut oci = bundle(host, LOOK);
        namespace(&mut oci, None);
        // What is mounted below a mount that others see would be seen by them, too.
        mount_change(oci.dir.join("rootfs"), MountPropagationFlags::SHARED).unwrap();
        let before = table("self");
        for readonly in [false, true] {
            oci.config["root"]["readonly"] = json!(readonly);
            assert_eq!(prints(&oci), space("self") + SEEN);
            assert_eq!(table("self"), before);
        }
        // While it is there it is seen where its root is, and further processes and hooks are in it.
        let hook =
            |script: &str| json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"] }]);
        let said = oci.dir.join("said").display().to_string();
        let created = format!("ls {}/proc/1 > {said}; readlink /proc/self/ns/mnt >> {said}", oci.bundle());
        oci.config["hooks"] = json!({
            "createContainer": hook(&created.replace("/proc/1", "/rootfs/opt/own")),
            "startContainer": hook("ls /opt/own > /dev/shm/said"),
        });
        oci.config["root"]["readonly"] = json!(false);
        oci.script("cat /dev/shm/said; sleep 1000");
        oci.create();
        assert_eq!(std::fs::read_to_string(&said).unwrap(), format!("here\n{}", space("self")));
        oci.ok(&["start", "c"]);
        soon("it has spoken", || oci.out() == "here\n");
        assert_eq!(oci.ok(&["exec", "c", "sh", "-c", LOOK]), space("self") + SEEN);
        let rootfs = oci.dir.join("rootfs").display().to_string();
        let now = table("self");
        let added: Vec<&str> = now.lines().filter(|line| !before.contains(line)).collect();
        assert!(added.len() > 5 && added.iter().all(|line| line.contains(&rootfs)), "{now}");
        assert!(!added.iter().any(|line| line.contains("shared:")), "{now}");
        let refused = oci.refused(&["create", "--bundle", oci.bundle(), "d"]);
        assert!(refused.contains("is the root of container `c`"), "{refused}");
        oci.ok(&["delete", "--force", "c"]);
        assert_eq!(table("self"), before);
        std::fs::remove_file("/dev/shm/only").unwrap();
        oci.end();
    });
}

/// Killed where everything is mounted; and a start that fails there.
#[test]
fn nothing_stays_of_a_creation_that_is_cut_short() {
    run(|host| {
        let mut oci = bundle(host, "exit 0");
        namespace(&mut oci, None);
        let before = table("self");
        let hook =
            |script: &str| json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"] }]);
        oci.config["hooks"] = json!({ "createRuntime": hook("kill -9 $PPID") });
        oci.write();
        let output = oci.call(&["create", "--bundle", oci.bundle(), "c"]);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(9), "{output:?}");
        soon("it can be deleted", || oci.call(&["delete", "--force", "c"]).status.success());
        assert_eq!(table("self"), before);
        oci.config["hooks"] = json!({ "createRuntime": hook("exit 3") });
        oci.write();
        oci.refused(&["create", "--bundle", oci.bundle(), "c"]);
        assert_eq!(table("self"), before);
        oci.config["hooks"] = json!(null);
        let missing = json!({ "destination": "/opt/x", "source": "/no/such", "options": ["bind"] });
        let mut mounts = oci.config["mounts"].clone();
        mounts.as_array_mut().unwrap().push(missing);
        refused(&oci, "/mounts", mounts);
        assert_eq!(table("self"), before);
        let mut all = oci.config["linux"]["namespaces"].as_array().unwrap().clone();
        all.push(json!({ "type": "user" }));
        let text = refused(&oci, "/linux/namespaces", json!(all));
        assert!(text.contains("nothing can be mounted without a mount namespace"), "{text}");
        reap();
        oci.end();
    });
}

/// Processes in a mount namespace of their own.
struct Elsewhere(Child, u32);

impl Elsewhere {
    fn new() -> Elsewhere {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", "sleep 1000 & echo $!; exec sleep 1000"]).stdout(Stdio::piped());
        let mut first = command.spawn().unwrap();
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(first.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        Elsewhere(first, line.trim().parse().unwrap())
    }
}

fn end(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
}

#[test]
fn the_namespace_at_the_path_is_joined() {
    run(|host| {
        let mut oci = bundle(host, LOOK);
        // With the root in it, which is mounted by then.
        let mut elsewhere = Elsewhere::new();
        let (first, second) = (elsewhere.0.id().to_string(), elsewhere.1.to_string());
        let path = format!("/proc/{first}/ns/mnt");
        namespace(&mut oci, Some(json!({ "type": "mount", "path": path })));
        let (before, theirs) = (table("self"), table(&second));
        assert_eq!(prints(&oci), space(&first) + SEEN);
        assert_eq!((table("self"), table(&second)), (before.clone(), theirs.clone()));
        oci.script("sleep 1000");
        oci.create();
        oci.ok(&["start", "c"]);
        assert_eq!(oci.ok(&["exec", "c", "sh", "-c", LOOK]), space(&first) + SEEN);
        assert!(table("self") == before && table(&second) != theirs);
        // The path is gone when it is deleted, and its mounts are found all the same.
        elsewhere.0.kill().unwrap();
        elsewhere.0.wait().unwrap();
        oci.ok(&["delete", "--force", "c"]);
        assert_eq!((table("self"), table(&second)), (before, theirs));
        let kinds = |path: &str| json!([{ "type": "mount", "path": path }]);
        oci.config["hostname"] = json!(null);
        for (path, why) in [
            ("/proc/self/ns/uts", "join mount namespace /proc/self/ns/uts: Invalid argument"),
            ("/etc/hostname", "join mount namespace /etc/hostname: Invalid argument"),
            ("/no/such", "No such file"),
        ] {
            let text = refused(&oci, "/linux/namespaces", kinds(path));
            assert!(text.contains(why), "{text}");
        }
        let text = refused(&oci, "/linux/namespaces", kinds("proc/self/ns/mnt"));
        assert!(text.contains("not absolute"), "{text}");
        end(elsewhere.1);
        oci.end();
    });
}

/// runc has no walls where the mounts are others', and prints the same otherwise.
#[test]
fn as_runc_has_it() {
    run(|host| {
        if !installed(&["runc"]) {
            return skip(host.test(), "needs runc");
        }
        let script =
            "readlink /proc/self/ns/mnt; ls /opt/own; cat /proc/1/comm; ls / | grep -c bundle; exit 0";
        let mut oci = bundle(host, script);
        let mut elsewhere = Elsewhere::new();
        let path = format!("/proc/{}/ns/mnt", elsewhere.0.id());
        for name in ["maskedPaths", "readonlyPaths"] {
            oci.config["linux"][name] = json!(null);
        }
        for mount in [None, Some(json!({ "type": "mount", "path": path }))] {
            let inherited = mount.is_none();
            namespace(&mut oci, mount);
            let ours = prints(&oci);
            let mut runc = Command::new("runc");
            runc.arg("--root").arg(oci.dir.join("runc")).args(["run", "--bundle", oci.bundle(), "r"]);
            let output = runc.output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), ours, "{output:?}");
            if inherited {
                // It leaves its mounts.
                unmount(oci.dir.join("rootfs"), UnmountFlags::DETACH).unwrap();
            }
        }
        end(elsewhere.1);
        elsewhere.0.kill().unwrap();
        elsewhere.0.wait().unwrap();
        oci.end();
    });
}
