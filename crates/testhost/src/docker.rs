//! Docker as an oracle: a daemon of the test's own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A docker daemon of the test's own, below a process whose end takes all of it along.
#[derive(Debug)]
pub struct Docker {
    init: Child,
    socket: PathBuf,
    root: PathBuf,
}

impl Docker {
    /// Whether docker (daemon and client) and busybox are installed.
    pub fn is_there() -> bool {
        ["/usr/sbin/dockerd", "/usr/bin/docker", "/bin/busybox"].iter().all(|path| Path::new(path).exists())
    }

    /// Starts it with all that it keeps below `dir`, without a network.
    ///
    /// # Panics
    /// When it does not come up within a minute, with its log.
    pub fn start(dir: &Path) -> Docker {
        let root = dir.join("docker");
        fs::create_dir_all(root.join("run")).unwrap();
        let socket = root.join("run/docker.sock");
        let script = "mount -t tmpfs tmpfs /run && exec dockerd --data-root \"$1/data\" --exec-root /run/docker \
             -H \"unix://$1/run/docker.sock\" -p /run/docker.pid --iptables=false --bridge=none \
             --storage-driver=overlay2 >\"$1/log\" 2>&1";
        let init = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script, "sh"])
            .arg(&root)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let docker = Docker { init, socket, root };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !docker.docker().arg("version").output().unwrap().status.success() {
            let log = fs::read_to_string(docker.root.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "dockerd does not start: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
        docker
    }

    /// Its client, to be given arguments.
    pub fn docker(&self) -> Command {
        let mut command = Command::new("/usr/bin/docker");
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
        command.env("DOCKER_BUILDKIT", "1").env("HOME", &self.root).stdin(Stdio::null());
        command
    }

    /// What a command prints.
    ///
    /// # Panics
    /// When it fails, with what it says.
    #[track_caller]
    pub fn ok(&self, command: &mut Command) -> String {
        let output = command.output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command:?}: {err}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = self.init.kill();
        let _ = self.init.wait();
        let deadline = Instant::now() + Duration::from_secs(5);
        // Control groups can go when the kernel has seen off what was in them.
        while !fs::read_dir("/sys/fs/cgroup")
            .unwrap()
            .flatten()
            .all(|at| remove_groups(&at.path().join("docker")))
        {
            assert!(Instant::now() < deadline, "docker's control groups can't be removed");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether they are gone.
fn remove_groups(group: &Path) -> bool {
    let Ok(entries) = fs::read_dir(group) else { return true };
    let below = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    for entry in below {
        remove_groups(&entry.path());
    }
    fs::remove_dir(group).is_ok()
}

/// A root file system of busybox below `dir`, with a few users and empty directories, as a tree.
///
/// # Panics
/// When busybox is not there.
pub fn busybox_tree(dir: &Path) -> PathBuf {
    let tree = dir.join("base");
    for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "root", "var", "home", "run"] {
        fs::create_dir_all(tree.join(name)).unwrap();
    }
    fs::set_permissions(tree.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::copy("/bin/busybox", tree.join("bin/busybox")).unwrap();
    let list = Command::new("/bin/busybox").arg("--list").output().unwrap().stdout;
    for name in String::from_utf8(list).unwrap().lines().filter(|name| *name != "busybox") {
        symlink("busybox", tree.join("bin").join(name)).unwrap();
    }
    fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home:/bin/sh\n")
        .unwrap();
    fs::write(tree.join("etc/group"), "root:x:0:\napp:x:1000:\n").unwrap();
    tree
}
