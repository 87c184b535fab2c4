//! podman with this runtime: what a caller makes of it, with everything of its own in the test's host.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use coracle_testhost::{Host, run, skip};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::support::{image, installed, reap, remove_groups, unmount_below};

struct Podman {
    dir: PathBuf,
    hidden: Vec<&'static str>,
}

impl Podman {
    /// `None`, and a named skip, where it isn't installed.
    fn new(host: &Host) -> Option<Podman> {
        if !installed(&["podman", "conmon", "busybox", "tar"]) {
            skip(host.test(), "needs podman, conmon, busybox and tar");
            return None;
        }
        // It has places of its own besides those that it is told.
        let hidden: Vec<&str> =
            ["/run", "/var/lib/containers"].into_iter().filter(|path| Path::new(path).is_dir()).collect();
        for path in &hidden {
            mount("tmpfs", *path, "tmpfs", MountFlags::empty(), c"mode=0755").unwrap();
        }
        let podman = Podman { dir: host.dir().to_owned(), hidden };
        std::fs::write(podman.dir.join("containers.conf"), "[engine]\nevents_logger=\"file\"\n").unwrap();
        let tar = image(&podman.dir);
        podman.ok(&["import", tar.to_str().unwrap(), "img"]);
        Some(podman)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("podman");
        for (option, name) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(option).arg(self.dir.join(name));
        }
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]);
        command.args(["--runtime", env!("CARGO_BIN_EXE_coracle-oci")]).args(args);
        command.env("CONTAINERS_CONF", self.dir.join("containers.conf")).stdin(Stdio::null());
        command
    }

    fn call(&self, args: &[&str]) -> Output {
        // What outlives a call (its monitor of containers) holds pipes open: files have no end to wait for.
        let [out, err] = ["stdout", "stderr"].map(|name| self.dir.join(name));
        let file = |path: &Path| std::fs::File::create(path).unwrap();
        let mut command = self.command(args);
        let status = command.stdout(file(&out)).stderr(file(&err)).status().unwrap();
        let output =
            Output { status, stdout: std::fs::read(out).unwrap(), stderr: std::fs::read(err).unwrap() };
        reap();
        output
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let output = self.call(args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "podman {args:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    fn end(self) {
        self.call(&["rm", "--all", "--force", "--time", "0"]);
        crate::support::soon("its monitors are gone", || {
            reap();
            std::fs::read_dir("/proc").unwrap().flatten().all(|entry| {
                let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                name.trim_end() != "conmon" && name.trim_end() != "podman"
            })
        });
        unmount_below(&[&self.dir, Path::new("/run"), Path::new("/var/lib/containers")]);
        for path in self.hidden {
            unmount(path, UnmountFlags::DETACH).unwrap();
        }
        remove_groups(&["libpod_parent/conmon", "libpod_parent"]);
    }
}

#[test]
fn podman_runs_containers() {
    run(|host| {
        let Some(podman) = Podman::new(host) else { return };
        let net = ["--network", "none"];
        let run = |args: &[&str]| podman.call(&[&["run", "--rm"][..], &net, args].concat());
        let output = run(&["img", "sh", "-c", "id; grep Seccomp: /proc/self/status; exit 5"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        assert!(text.starts_with("uid=0") && text.contains("Seccomp:\t2"), "{text}");
        assert_eq!(run(&["img", "nope"]).status.code(), Some(127));
        let output = run(&[
            "--user",
            "1000:1000",
            "--read-only",
            "--read-only-tmpfs=false",
            "--cap-drop",
            "all",
            "--security-opt",
            "no-new-privileges",
            "--ulimit",
            "nproc=100",
            "--ulimit",
            "nofile=100",
            "img",
            "sh",
            "-c",
            "id -u; ulimit -n; grep -E 'CapEff|NoNew' /proc/self/status",
        ]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text, "1000\n100\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n", "{output:?}");
        podman.end();
    });
}

#[test]
fn podman_leads_a_containers_life() {
    run(|host| {
        let Some(podman) = Podman::new(host) else { return };
        podman.ok(&[
            "run",
            "-d",
            "--name",
            "a",
            "--network",
            "none",
            "--pids-limit",
            "50",
            "img",
            "sleep",
            "1000",
        ]);
        let status = || podman.ok(&["inspect", "--format", "{{.State.Status}}", "a"]);
        assert_eq!(status(), "running\n");
        let output = podman.call(&["exec", "a", "sh", "-c", "cat /proc/1/cmdline; exit 9"]);
        assert_eq!(
            (output.status.code(), &output.stdout[..]),
            (Some(9), &b"sleep\x001000\0"[..]),
            "{output:?}"
        );
        assert!(podman.ok(&["top", "a"]).contains("sleep 1000"));
        podman.ok(&["pause", "a"]);
        assert_eq!(status(), "paused\n");
        podman.ok(&["unpause", "a"]);
        podman.ok(&["kill", "--signal", "KILL", "a"]);
        podman.ok(&["wait", "a"]);
        assert_eq!(status(), "exited\n");
        podman.ok(&["start", "a"]);
        assert_eq!(status(), "running\n");
        podman.ok(&["stop", "--time", "0", "a"]);
        podman.ok(&["rm", "a"]);
        assert_eq!(podman.ok(&["ps", "--all", "--quiet"]), "");
        podman.end();
    });
}

#[test]
fn podman_maps_users() {
    run(|host| {
        let Some(podman) = Podman::new(host) else { return };
        // Whoever is root inside has to come to the root file system.
        let open =
            |path: &Path| std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o711));
        open(&podman.dir).unwrap();
        let look = "cat /proc/self/uid_map; id -u; stat -c %u:%g /bin /dev/null /dev/shm; touch /new && stat -c %u /new";
        let expected = ["0 100000 65536", "0", "0:0", "0:0", "0:0", "0"];
        let lines = |text: &str| {
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            text.lines().map(words).collect::<Vec<_>>()
        };
        let maps = ["--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"];
        // With the host's network it has the host's sysfs.
        for network in ["none", "host"] {
            let args =
                [&["run", "--rm", "--network", network][..], &maps, &["img", "sh", "-c", look]].concat();
            assert_eq!(lines(&podman.ok(&args)), expected, "{network}");
        }
        // One that is there is joined, and left as it was.
        let args = [&["run", "-d", "--name", "a", "--network", "none"][..], &maps, &["img", "sleep", "1000"]]
            .concat();
        podman.ok(&args);
        assert_eq!(
            lines(&podman.ok(&["exec", "a", "sh", "-c", "id -u; cat /proc/self/gid_map"])),
            ["0", expected[0]]
        );
        let args =
            ["run", "--rm", "--network", "container:a", "--userns", "container:a", "img", "sh", "-c", look];
        assert_eq!(lines(&podman.ok(&args)), expected);
        podman.ok(&["kill", "--signal", "KILL", "a"]);
        podman.end();
    });
}
