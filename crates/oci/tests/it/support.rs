//! A bundle over this machine's own root file system, and the program's calls.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use coracle_testhost::Host;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};

/// How long what happens by itself may take on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A bundle, and a state directory.
pub struct Oci {
    pub dir: PathBuf,
    pub config: Value,
}

impl Oci {
    /// A bundle whose program is this shell script.
    pub fn new(host: &Host, script: &str) -> Oci {
        Oci::at(host.dir().join("bundle"), script)
    }

    /// The same, where there is no private host.
    pub fn at(dir: PathBuf, script: &str) -> Oci {
        for name in ["", "rootfs", "upper", "work"] {
            std::fs::create_dir(dir.join(name)).unwrap();
        }
        let [upper, work] = ["upper", "work"].map(|name| dir.join(name).display().to_string());
        let data = std::ffi::CString::new(format!("lowerdir=/,upperdir={upper},workdir={work}")).unwrap();
        mount("overlay", dir.join("rootfs"), "overlay", MountFlags::empty(), data.as_c_str()).unwrap();
        let mut oci = Oci { dir, config: Value::Null };
        assert!(oci.call(&["spec", "--bundle", oci.bundle()]).status.success());
        let text = std::fs::read(oci.dir.join("config.json")).unwrap();
        oci.config = serde_json::from_slice(&text).unwrap();
        oci.config["root"]["readonly"] = json!(false);
        oci.script(script);
        oci
    }

    /// Makes this the bundle's program.
    pub fn script(&mut self, script: &str) {
        self.config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        self.write();
    }

    pub fn write(&self) {
        std::fs::write(self.dir.join("config.json"), self.config.to_string()).unwrap();
    }

    pub fn bundle(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coracle-oci"));
        command.arg("--root").arg(self.dir.join("state")).args(args).stdin(Stdio::null());
        command
    }

    pub fn call(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a call that must succeed prints.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.call(args);
        let (out, err) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(out);
        assert!(output.status.success(), "{args:?}: {}: {err}\n{said}", output.status);
        said.into_owned()
    }

    /// What a call that must fail says.
    #[track_caller]
    pub fn refused(&self, args: &[&str]) -> String {
        let output = self.call(args);
        assert!(!output.status.success(), "{args:?} succeeds");
        String::from_utf8(output.stderr).unwrap().trim_end().to_owned()
    }

    /// A call that must succeed and leaves a process behind, which has nothing of ours open.
    #[track_caller]
    pub fn leave(&self, args: &[&str]) {
        let mut command = self.command(args);
        let error = std::fs::File::create(self.dir.join("err")).unwrap();
        let status = command.stdout(Stdio::null()).stderr(error).status().unwrap();
        assert!(status.success(), "{}", std::fs::read_to_string(self.dir.join("err")).unwrap());
    }

    /// Creates `c`. Its standard output goes to the file `out` of the bundle.
    #[track_caller]
    pub fn create(&self) {
        self.create_with(&[]);
    }

    #[track_caller]
    pub fn create_with(&self, options: &[&str]) {
        self.create_with_all(&[], options);
    }

    /// With options before the verb, and behind it.
    #[track_caller]
    pub fn create_with_all(&self, global: &[&str], options: &[&str]) {
        let out = std::fs::File::options().append(true).create(true).open(self.dir.join("out")).unwrap();
        let mut args = global.to_vec();
        args.extend(["create", "--bundle", self.bundle()]);
        args.extend(options);
        args.push("c");
        let mut command = self.command(&args);
        let error = std::fs::File::create(self.dir.join("err")).unwrap();
        let status = command.stdout(out).stderr(error).status().unwrap();
        assert!(status.success(), "{}", std::fs::read_to_string(self.dir.join("err")).unwrap());
    }

    pub fn out(&self) -> String {
        std::fs::read_to_string(self.dir.join("out")).unwrap()
    }

    pub fn state(&self) -> Value {
        serde_json::from_str(&self.ok(&["state", "c"])).unwrap()
    }

    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// Waits until the container has this status.
    #[track_caller]
    pub fn until(&self, status: &str) {
        soon(status, || {
            reap();
            self.status() == status
        });
    }

    /// Nothing is left of any container; takes the bundle away.
    pub fn end(self) {
        assert_eq!(self.ok(&["list", "--quiet"]), "");
        reap();
        unmount(self.dir.join("rootfs"), UnmountFlags::empty()).unwrap();
    }
}

/// What a call of the program sends to this socket: text, and one descriptor.
pub fn accept(listener: &UnixListener) -> (String, OwnedFd) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
    let mut text = vec![0; 64 << 10];
    let mut data = [rustix::io::IoSliceMut::new(&mut text)];
    let flags = rustix::net::RecvFlags::CMSG_CLOEXEC;
    let read = rustix::net::recvmsg(&stream, &mut data, &mut control, flags).unwrap().bytes;
    let fds = control.drain().find_map(|message| match message {
        rustix::net::RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    text.truncate(read);
    let mut text = String::from_utf8(text).unwrap();
    std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
    (text, fds.expect("a descriptor"))
}

/// This test is pid 1 of its host, to which orphans come.
pub fn reap() {
    while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
}

#[track_caller]
pub fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        std::thread::yield_now();
    }
}

pub fn exists(pid: u64) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Whether all of these are programs here.
pub fn installed(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |program: &&str| std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    programs.iter().all(there)
}

/// A tar of a root with busybox alone.
pub fn image(dir: &Path) -> PathBuf {
    let tree = dir.join("image");
    std::fs::create_dir_all(tree.join("bin")).unwrap();
    for name in ["proc", "sys", "dev", "tmp", "etc"] {
        std::fs::create_dir(tree.join(name)).unwrap();
    }
    let busybox = Command::new("sh").args(["-c", "command -v busybox"]).output().unwrap().stdout;
    let busybox = String::from_utf8(busybox).unwrap();
    std::fs::copy(busybox.trim_end(), tree.join("bin/busybox")).unwrap();
    for name in ["sh", "sleep", "cat", "id", "ls", "grep", "tty", "ps"] {
        std::os::unix::fs::symlink("busybox", tree.join("bin").join(name)).unwrap();
    }
    let tar = dir.join("image.tar");
    let status = Command::new("tar").arg("-C").arg(tree).arg("-cf").arg(&tar).arg(".").status().unwrap();
    assert!(status.success());
    tar
}

/// Removes groups that a caller left, in each hierarchy of version 1, or that of version 2.
pub fn remove_groups(names: &[&str]) {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    for hierarchy in hierarchies.map(|entry| entry.path()).chain(["/sys/fs/cgroup".into()]) {
        for name in names {
            let _ = std::fs::remove_dir(hierarchy.join(name));
        }
    }
}

/// Takes away what a caller left mounted below these directories, innermost first. The leak check sees what stays.
pub fn unmount_below(dirs: &[&Path]) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut places: Vec<&Path> =
        table.lines().filter_map(|line| Some(Path::new(line.split(' ').nth(4)?))).collect();
    places.retain(|at| dirs.iter().any(|dir| at.starts_with(dir) && at != dir));
    for at in places.iter().rev() {
        // One that went with another one is no mount any more.
        let _ = unmount(*at, UnmountFlags::DETACH);
    }
}
