//! podman with this runtime: what a caller makes of it, with everything of its own in the test's host.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use coracle_testhost::{Host, run, skip};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::support::{image, installed, reap, remove_groups, unmount_below};

pub struct Podman {
    dir: PathBuf,
    hidden: Vec<&'static str>,
    cgroup_manager: &'static str,
}

impl Podman {
    /// `None`, and a named skip, where it isn't installed.
    fn new(host: &Host) -> Option<Podman> {
        // It has places of its own besides those that it is told.
        let hidden: Vec<&str> =
            ["/run", "/var/lib/containers"].into_iter().filter(|path| Path::new(path).is_dir()).collect();
        for path in &hidden {
            mount("tmpfs", *path, "tmpfs", MountFlags::empty(), c"mode=0755").unwrap();
        }
        Podman::at(host.test(), host.dir(), hidden, "cgroupfs")
    }

    /// The same in this directory.
    pub fn at(
        test: &str,
        dir: &Path,
        hidden: Vec<&'static str>,
        cgroup_manager: &'static str,
    ) -> Option<Podman> {
        if !installed(&["podman", "conmon", "busybox", "tar"]) {
            skip(test, "needs podman, conmon, busybox and tar");
            return None;
        }
        let podman = Podman { dir: dir.to_owned(), hidden, cgroup_manager };
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
        command.args(["--storage-driver", "vfs", "--cgroup-manager", self.cgroup_manager]);
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
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.call(args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "podman {args:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    pub fn end(self) {
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

/// What people ask of podman day by day comes to the same with runc, where that is installed.
#[test]
fn daily_flags_do_what_they_do_with_runc() {
    run(|host| {
        let Some(podman) = Podman::new(host) else { return };
        if !installed(&["runc"]) {
            podman.end();
            return skip(host.test(), "needs runc");
        }
        let data = podman.dir.join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("file"), "data\n").unwrap();
        let volume = |options: &str| format!("{}:/data{options}", data.display());
        let [plain, chown, relabel, shared] = ["", ":U", ":ro,Z", ":rshared"].map(volume);
        let mount = "while read a b c d at flags rest; do case $at in /x) echo $flags; esac; done < /proc/self/mountinfo";
        let caps =
            "grep CapEff /proc/self/status; ls -l /dev/ptmx /dev/kmsg | grep -o '[^ ]*$'; echo >/dev/null";
        let table: &[(&[&str], &str)] = &[
            (&["--tmpfs", "/x"], mount),
            (&["--tmpfs", "/etc:size=1m,noexec"], "ls /etc; echo y > /etc/x && cat /etc/x"),
            (&["--read-only"], "echo t > /tmp/x && cat /tmp/x; echo x > /x || echo no"),
            (&["-v", &plain], "cat /data/file"),
            (&["-v", &chown, "--user", "7:8"], "ls -ln /data | grep -c ' 7 .* 8 '"),
            (&["-v", &relabel], "cat /data/file; echo x > /data/x || echo no"),
            (&["-v", &shared], "cat /data/file"),
            (&["-v", "named:/data"], "echo v > /data/x; cat /data/x"),
            (&["-v", "/dev:/dev"], "ls /dev/null; echo x > /dev/null"),
            (&["--privileged"], caps),
            (&["--privileged", "-v", "/dev:/dev"], caps),
            (&["--pid", "host", "--ipc", "host", "--uts", "host"], "cat /proc/1/comm"),
            (&["--cgroupns", "host"], "echo ok"),
            (&["--device", "/dev/zero:/dev/mine"], "ls /dev/mine; head -c 1 /dev/mine | wc -c"),
            (&["--device", "/dev/zero:/srv/mine"], "head -c 1 /srv/mine | wc -c"),
            (&["--sysctl", "net.core.somaxconn=99"], "cat /proc/sys/net/core/somaxconn"),
            (
                &["--oom-score-adj", "100", "--hostname", "box"],
                "cat /proc/sys/kernel/hostname /proc/self/oom_score_adj",
            ),
            (&["--security-opt", "mask=/proc/version:/bin:/gone"], "cat /proc/version; echo /bin/*"),
            (&["--security-opt", "unmask=ALL"], "ls /proc/acpi | wc -l"),
            (&["--security-opt", "seccomp=unconfined"], "grep Seccomp: /proc/self/status"),
            (&["--security-opt", "apparmor=unconfined", "--security-opt", "label=disable"], "echo ok"),
            (&["--memory", "64m", "--cpus", "0.5", "--cpuset-cpus", "0", "--memory-swap", "64m"], "echo ok"),
            (
                &["--workdir", "/tmp", "--env", "A=b", "--group-add", "50", "--user", "3"],
                "echo $PWD $A; id -G",
            ),
            (&["--tty"], "tty"),
        ];
        for (flags, script) in table {
            let [ours, theirs] = [env!("CARGO_BIN_EXE_coracle-oci"), "runc"].map(|runtime| {
                let first = ["--runtime", runtime, "run", "--rm", "--network", "none"];
                let output = podman.call(&[&first[..], flags, &["img", "sh", "-c", script]].concat());
                (output.status.code(), String::from_utf8(output.stdout).unwrap(), output.stderr)
            });
            let said = String::from_utf8_lossy(&ours.2);
            assert_eq!((ours.0, &ours.1), (theirs.0, &theirs.1), "{flags:?} {script:?}: {said}");
        }
        podman.end();
    });
}

/// What others do with a container that runs: health, figures, limits, files, images; several as a pod.
#[test]
fn podman_tends_containers() {
    run(|host| {
        let Some(podman) = Podman::new(host) else { return };
        let first = ["run", "-d", "--network", "none", "--memory", "64m"];
        let run = |args: &[&str]| podman.ok(&[&first[..], args, &["img", "sleep", "1000"]].concat());
        run(&["--name", "a", "--health-cmd", "test -e /healthy", "--health-interval", "disable"]);
        assert_eq!(podman.call(&["healthcheck", "run", "a"]).status.code(), Some(1));
        podman.ok(&["exec", "a", "sh", "-c", "echo content > /healthy"]);
        podman.ok(&["healthcheck", "run", "a"]);
        let stats =
            podman.ok(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", "a"]);
        assert!(stats.starts_with("a 1 ") && stats.contains("67.11MB"), "{stats}");
        let copy = podman.dir.join("copy");
        podman.ok(&["cp", "a:/healthy", copy.to_str().unwrap()]);
        assert_eq!(std::fs::read_to_string(copy).unwrap(), "content\n");
        // `diff` alone takes an image whose id begins with this letter before it takes the container.
        let diff = podman.ok(&["container", "diff", "a"]);
        assert!(diff.contains("A /healthy"), "{diff}");
        podman.ok(&["commit", "--quiet", "a", "img2"]);
        podman.ok(&["restart", "--time", "0", "a"]);
        assert_eq!(
            podman.ok(&["exec", "--workdir", "/tmp", "--env", "B=c", "a", "sh", "-c", "echo $PWD $B"]),
            "/tmp c\n"
        );
        assert_eq!(podman.ok(&["exec", "-d", "a", "sleep", "500"]).lines().count(), 1);
        podman.ok(&["exec", "--privileged", "--user", "7", "a", "id"]);
        podman.ok(&["pod", "create", "--name", "p", "--infra=false"]);
        run(&["--name", "b", "--pod", "p"]);
        podman.ok(&["pod", "pause", "p"]);
        podman.ok(&["pod", "unpause", "p"]);
        podman.ok(&["pod", "kill", "p"]);
        podman.ok(&["pod", "rm", "--force", "--time", "0", "p"]);
        podman.ok(&["rm", "--force", "--time", "0", "a"]);
        podman.end();
    });
}
