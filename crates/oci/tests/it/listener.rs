//! config-linux.md, "Seccomp", `listenerPath`, and "The Container Process State": an agent answers calls of a container.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use coracle_testhost::run;
use serde_json::{Value, json};

use crate::support::{Oci, accept, soon};

/// `SECCOMP_IOCTL_NOTIF_RECV` (seccomp_unotify(2)).
const RECEIVE: libc::c_ulong = 0xc050_2100;
/// `SECCOMP_IOCTL_NOTIF_SEND`.
const SEND: libc::c_ulong = 0xc018_2101;

/// The next call that waits for an answer, which is an errno or, with 0, that it be made.
fn answer(listener: &OwnedFd, errno: i32) {
    // `struct seccomp_notif` and `struct seccomp_notif_resp`, in words.
    let (mut call, mut response) = ([0u64; 10], [0u64; 3]);
    // SAFETY: the descriptor is open, and the kernel writes 80 bytes to what is as long.
    let got = unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, call.as_mut_ptr()) };
    assert_eq!(got, 0, "{}", std::io::Error::last_os_error());
    let go_on = u64::from(errno == 0);
    response[0] = call[0];
    response[2] = u64::from((-errno) as u32) | go_on << 32;
    // SAFETY: the same with 24 bytes, which it reads.
    let sent = unsafe { libc::ioctl(listener.as_raw_fd(), SEND, response.as_mut_ptr()) };
    assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
}

fn seccomp(path: &str) -> Value {
    let call = json!({ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" });
    json!({
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [call], "listenerPath": path, "listenerMetadata": "words",
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_TSYNC"],
    })
}

#[test]
fn an_agent_answers() {
    run(|host| {
        let script = "mkdir /tmp/refused 2>&1 | grep -c cross-device; mkdir /tmp/made && ls -d /tmp/made; rmdir /tmp/made; sleep 1000";
        let mut oci = Oci::new(host, script);
        let path = oci.dir.join("agent");
        let agent = UnixListener::bind(&path).unwrap();
        oci.config["linux"]["seccomp"] = seccomp(path.to_str().unwrap());
        for no_new_privileges in [true, false] {
            oci.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            oci.write();
            std::fs::remove_file(oci.dir.join("out")).ok();
            oci.create();
            let (text, listener) = accept(&agent);
            let told: Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&told["fds"], &told["metadata"]), (&json!(["seccompFd"]), &json!("words")), "{text}");
            let state = oci.state();
            assert_eq!((&told["pid"], &told["state"]["pid"]), (&state["pid"], &state["pid"]), "{text}");
            assert_eq!(
                (&told["state"]["id"], &told["state"]["status"]),
                (&json!("c"), &json!("creating")),
                "{text}"
            );
            assert_eq!(
                (&told["ociVersion"], &told["state"]["bundle"]),
                (&state["ociVersion"], &state["bundle"])
            );
            oci.ok(&["start", "c"]);
            answer(&listener, libc::EXDEV);
            answer(&listener, 0);
            soon("both calls are answered", || oci.out() == "1\n/tmp/made\n");
            // A further process has a filter of its own.
            let exec = std::thread::scope(|scope| {
                let exec = scope.spawn(|| oci.call(&["exec", "c", "mkdir", "/tmp/other"]));
                let (text, listener) = accept(&agent);
                let told: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(
                    (&told["state"]["status"], &told["state"]["pid"]),
                    (&json!("running"), &state["pid"])
                );
                assert_ne!(told["pid"], state["pid"], "{text}");
                answer(&listener, libc::EROFS);
                exec.join().unwrap()
            });
            assert!(String::from_utf8_lossy(&exec.stderr).contains("Read-only file system"), "{exec:?}");
            oci.ok(&["delete", "--force", "c"]);
        }
        oci.end();
    });
}

/// What can't work is said, and leaves nothing.
#[test]
fn nobody_to_answer() {
    run(|host| {
        let mut oci = Oci::new(host, "true");
        let mut refused = |seccomp: Value, says: &str| {
            oci.config["linux"]["seccomp"] = seccomp;
            oci.write();
            let text = oci.refused(&["create", "--bundle", oci.bundle(), "c"]);
            assert!(text.contains(says), "{text}");
            assert_eq!(oci.ok(&["list", "-q"]), "");
        };
        refused(seccomp("/none"), "linux.seccomp.listenerPath: connect(\"/none\"): No such file");
        let mut without = seccomp("/none");
        without.as_object_mut().unwrap().remove("listenerPath");
        refused(without, "listenerMetadata: without listenerPath");
        let mut own = seccomp("/none");
        own["syscalls"][0]["names"] = json!(["ptrace", "write"]);
        refused(own, "syscalls[0]: write: a listener can't answer what is called before there is one");
        oci.end();
    });
}
