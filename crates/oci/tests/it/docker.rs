//! docker with this runtime, with everything of its own in the test's host.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use coracle_testhost::{Host, run, skip};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::support::{image, installed, reap, remove_groups, soon, unmount_below};

struct Docker {
    dir: PathBuf,
    daemon: Child,
}

impl Docker {
    /// `None`, and a named skip, where it isn't installed.
    fn new(host: &Host) -> Option<Docker> {
        if !installed(&["/usr/bin/docker", "dockerd", "containerd", "busybox", "tar"]) {
            skip(host.test(), "needs docker, containerd, busybox and tar");
            return None;
        }
        mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), c"mode=0755").unwrap();
        let dir = host.dir().to_owned();
        let mut daemon = Command::new("dockerd");
        for (option, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            daemon.arg(option).arg(dir.join(name));
        }
        daemon.arg("--host").arg(format!("unix://{}/docker.sock", dir.display()));
        daemon.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"]);
        daemon.args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--default-runtime=coracle"]);
        daemon.arg(concat!("--add-runtime=coracle=", env!("CARGO_BIN_EXE_coracle-oci")));
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let daemon =
            daemon.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let docker = Docker { dir, daemon };
        soon("dockerd answers", || docker.call(&["version"]).status.success());
        let tar = image(&docker.dir);
        docker.ok(&["import", tar.to_str().unwrap(), "img"]);
        Some(docker)
    }

    fn call(&self, args: &[&str]) -> Output {
        let mut command = Command::new("/usr/bin/docker");
        command.arg("--host").arg(format!("unix://{}/docker.sock", self.dir.display())).args(args);
        command.env("DOCKER_CONFIG", self.dir.join("config")).stdin(Stdio::null()).output().unwrap()
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let output = self.call(args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "docker {args:?}: {}{}\n{}",
            text(&output.stdout),
            text(&output.stderr),
            std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
        );
        text(&output.stdout)
    }

    fn end(mut self) {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.daemon.wait().unwrap();
        soon("its processes are gone", || {
            reap();
            std::fs::read_dir("/proc").unwrap().flatten().all(|entry| {
                let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                !name.starts_with("containerd") && !name.starts_with("dockerd")
            })
        });
        unmount_below(&[&self.dir, Path::new("/run")]);
        unmount("/run", UnmountFlags::DETACH).unwrap();
        remove_groups(&["docker"]);
    }
}

#[test]
fn docker_runs_containers() {
    run(|host| {
        let Some(docker) = Docker::new(host) else { return };
        let net = ["--network", "none"];
        let output = docker.call(
            &[
                &["run", "--rm"][..],
                &net,
                &["img", "sh", "-c", "id; grep Seccomp: /proc/self/status; exit 5"],
            ]
            .concat(),
        );
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let log = std::fs::read_to_string(docker.dir.join("log")).unwrap();
        assert_eq!(output.status.code(), Some(5), "{output:?}\n{log}");
        assert!(text.starts_with("uid=0") && text.contains("Seccomp:\t2"), "{text}");
        let missing = docker.call(&[&["run", "--rm"][..], &net, &["img", "nope"]].concat());
        assert_eq!(missing.status.code(), Some(127), "{missing:?}");
        docker
            .ok(&[&["run", "-d", "--name", "box", "-m", "64m"][..], &net, &["img", "sleep", "1000"]].concat());
        let status = || docker.ok(&["inspect", "--format", "{{.State.Status}}", "box"]);
        assert_eq!(status(), "running\n");
        let exec = docker.call(&["exec", "box", "sh", "-c", "cat /proc/1/cmdline; exit 9"]);
        assert_eq!((exec.status.code(), &exec.stdout[..]), (Some(9), &b"sleep\x001000\0"[..]), "{exec:?}");
        assert!(docker.ok(&["top", "box"]).contains("sleep 1000"));
        docker.ok(&["pause", "box"]);
        assert_eq!(status(), "paused\n");
        docker.ok(&["unpause", "box"]);
        docker.ok(&["update", "--memory", "32m", "--memory-swap", "64m", "box"]);
        docker.ok(&["stop", "--time", "0", "box"]);
        assert_eq!(status(), "exited\n");
        docker.ok(&["start", "box"]);
        docker.ok(&["rm", "--force", "box"]);
        docker.end();
    });
}

/// What people ask of docker day by day comes to the same with runc, where that is installed.
#[test]
fn daily_flags_do_what_they_do_with_runc() {
    run(|host| {
        let Some(docker) = Docker::new(host) else { return };
        if !installed(&["runc"]) {
            docker.end();
            return skip(host.test(), "needs runc");
        }
        let data = docker.dir.join("shared");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("file"), "data\n").unwrap();
        let volume = |options: &str| format!("{}:/data{options}", data.display());
        let [plain, fixed, shared, slave] = ["", ":ro", ":rshared", ":rslave"].map(volume);
        let mount = "while read a b c d at flags rest; do case $at in /x) echo $flags; esac; done < /proc/self/mountinfo";
        let root = "while read a b c d at flags tag rest; do case $at in /) echo ${tag%:*}; esac; done < /proc/self/mountinfo";
        let table: &[(&[&str], &str)] = &[
            (&["--tmpfs", "/x"], mount),
            (&["--tmpfs", "/etc:size=1m,exec"], "ls /etc; echo y > /etc/x && cat /etc/x"),
            (&["--read-only", "--tmpfs", "/run"], "echo t > /run/x && cat /run/x; echo x > /x || echo no"),
            (&["-v", &plain], "cat /data/file"),
            (&["-v", &fixed], "cat /data/file; echo x > /data/x || echo no"),
            (&["-v", &shared], root),
            (&["-v", &slave], root),
            (&["-v", "named:/data"], "echo v > /data/x; cat /data/x"),
            (&["-v", "/dev:/dev"], "ls /dev/null; echo x > /dev/null"),
            (&["--pid", "host", "--ipc", "host", "--uts", "host"], "cat /proc/1/comm"),
            (&["--cgroupns", "host"], "echo ok"),
            (&["--device", "/dev/zero:/dev/mine"], "ls /dev/mine; head -c 1 /dev/mine | wc -c"),
            (&["--device", "/dev/zero:/srv/mine:r"], "head -c 1 /srv/mine | wc -c"),
            (&["--sysctl", "net.core.somaxconn=99", "--hostname", "box"], "cat /proc/sys/net/core/somaxconn"),
            (&["--security-opt", "systempaths=unconfined"], "ls /proc/acpi | wc -l"),
            (&["--security-opt", "seccomp=unconfined"], "grep Seccomp: /proc/self/status"),
            (&["--security-opt", "no-new-privileges"], "grep NoNewPrivs: /proc/self/status"),
            (
                &[
                    "-m",
                    "64m",
                    "--cpus",
                    "0.5",
                    "--cpuset-cpus",
                    "0",
                    "--pids-limit",
                    "9",
                    "--ulimit",
                    "core=0",
                ],
                "ulimit -c",
            ),
            (&["-w", "/tmp", "-e", "A=b", "--group-add", "50", "-u", "3"], "echo $PWD $A; id -G"),
            (&["--init"], "cat /proc/1/comm"),
            (&["-t"], "tty"),
        ];
        for (flags, script) in table {
            let [ours, theirs] = ["coracle", "runc"].map(|runtime| {
                let first = ["run", "--runtime", runtime, "--rm", "--network", "none"];
                let output = docker.call(&[&first[..], flags, &["img", "sh", "-c", script]].concat());
                (output.status.code(), String::from_utf8(output.stdout).unwrap(), output.stderr)
            });
            let said = String::from_utf8_lossy(&ours.2);
            assert_eq!((ours.0, &ours.1), (theirs.0, &theirs.1), "{flags:?} {script:?}: {said}");
        }
        // runc fails where the daemon lacks one of all capabilities.
        for more in [&[][..], &["-v", "/dev:/dev"]] {
            let first = ["run", "--rm", "--network", "none", "--privileged"];
            let script = ["img", "sh", "-c", "ls /dev/ptmx /dev/kmsg; echo x > /dev/null"];
            assert_eq!(docker.ok(&[&first[..], more, &script].concat()), "/dev/kmsg\n/dev/ptmx\n");
        }
        docker.end();
    });
}

/// What others do with a container that runs: health, figures, files, images.
#[test]
fn docker_tends_containers() {
    run(|host| {
        let Some(docker) = Docker::new(host) else { return };
        let health = ["--health-cmd", "test -e /healthy", "--health-interval", "1s", "--health-retries", "1"];
        let first = ["run", "-d", "--network", "none", "--name", "box", "-m", "64m"];
        docker.ok(&[&first[..], &health, &["img", "sleep", "1000"]].concat());
        let state = || docker.ok(&["inspect", "--format", "{{.State.Health.Status}}", "box"]);
        soon("it is ill", || state() == "unhealthy\n");
        docker.ok(&["exec", "-w", "/tmp", "-e", "B=c", "box", "sh", "-c", "echo $PWD $B > /healthy"]);
        soon("it is well", || state() == "healthy\n");
        let stats =
            docker.ok(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", "box"]);
        assert!(stats.starts_with("box 1 ") && stats.contains("/ 64MiB"), "{stats}");
        let copy = docker.dir.join("copy");
        docker.ok(&["cp", "box:/healthy", copy.to_str().unwrap()]);
        assert_eq!(std::fs::read_to_string(copy).unwrap(), "/tmp c\n");
        assert!(docker.ok(&["diff", "box"]).contains("A /healthy"));
        docker.ok(&["commit", "box", "img2"]);
        assert_eq!(docker.ok(&["run", "--rm", "--network", "none", "img2", "cat", "/healthy"]), "/tmp c\n");
        docker.ok(&["exec", "--privileged", "--user", "7", "box", "id"]);
        docker.ok(&["update", "--pids-limit", "20", "--cpus", "0.5", "box"]);
        docker.ok(&["restart", "--time", "0", "box"]);
        docker.ok(&["rm", "--force", "box"]);
        docker.end();
    });
}
