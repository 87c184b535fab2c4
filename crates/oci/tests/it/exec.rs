//! Further processes, and terminals.

use std::io::Read;
use std::os::unix::net::UnixListener;

use coracle_testhost::run;
use serde_json::json;

use crate::support::{Oci, accept, exists, reap, soon};

#[test]
fn further_processes() {
    run(|host| {
        let oci = Oci::new(host, "sleep 1000");
        oci.create();
        // runtime.md, "Create": all but the program is there.
        assert_eq!(oci.ok(&["exec", "c", "cat", "/proc/sys/kernel/hostname"]), "coracle\n");
        oci.ok(&["start", "c"]);
        let text = oci.ok(&[
            "exec",
            "--cwd",
            "/tmp",
            "--env",
            "A=b c",
            "--user",
            "12:34",
            "-g",
            "56",
            "c",
            "/bin/sh",
            "-c",
            "echo $PWD $A $(id -u) $(id -g) $(id -G)",
        ]);
        assert_eq!(text, "/tmp b c 12 34 34 56\n");
        assert_eq!(oci.call(&["exec", "c", "sh", "-c", "exit 9"]).status.code(), Some(9));
        let missing = oci.call(&["exec", "c", "no-such-program"]);
        assert_eq!(missing.status.code(), Some(127));
        let process = oci.dir.join("process.json");
        let spec = json!({ "args": ["sleep", "999"], "cwd": "/", "user": { "uid": 0, "gid": 0 },
            "env": ["PATH=/bin:/usr/bin"] });
        std::fs::write(&process, spec.to_string()).unwrap();
        let pid_file = oci.dir.join("exec-pid");
        let [process, pid_path] = [&process, &pid_file].map(|path| path.to_str().unwrap());
        oci.leave(&["exec", "--detach", "--process", process, "--pid-file", pid_path, "c"]);
        let pid: u64 = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
        assert!(exists(pid));
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        assert_eq!(command, "sleep\u{0}999\u{0}");
        oci.ok(&["kill", "c", "KILL"]);
        oci.until("stopped");
        soon("all processes have ended", || {
            reap();
            !exists(pid)
        });
        assert!(oci.refused(&["exec", "c", "true"]).ends_with("container `c` is stopped"));
        oci.ok(&["delete", "c"]);
        oci.end();
    });
}

/// Reads a terminal until it has said this.
fn until(terminal: &mut std::fs::File, text: &str) {
    let (mut all, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&all).contains(text) {
        assert_eq!(terminal.read(&mut byte).unwrap(), 1);
        all.push(byte[0]);
    }
}

/// config.md, "Process": `terminal`.
#[test]
fn terminals_go_to_the_console_socket() {
    run(|host| {
        let mut oci = Oci::new(host, "tty; read line; echo got $line; sleep 1000");
        oci.config["process"]["terminal"] = json!(true);
        oci.config["process"]["consoleSize"] = json!({ "height": 33, "width": 77 });
        oci.write();
        let refused = oci.refused(&["create", "--bundle", oci.bundle(), "c"]);
        assert!(refused.ends_with("process.terminal: --console-socket is needed for it"), "{refused}");
        let path = oci.dir.join("console");
        let listener = UnixListener::bind(&path).unwrap();
        let path = path.to_str().unwrap();
        oci.create_with(&["--console-socket", path]);
        let mut terminal = std::fs::File::from(accept(&listener).1);
        assert_eq!(rustix::termios::tcgetwinsize(&terminal).unwrap().ws_col, 77);
        oci.ok(&["start", "c"]);
        until(&mut terminal, "/dev/");
        std::io::Write::write_all(&mut terminal, b"hello\n").unwrap();
        until(&mut terminal, "got hello");
        oci.leave(&[
            "exec",
            "--tty",
            "--detach",
            "--console-socket",
            path,
            "c",
            "sh",
            "-c",
            "tty; sleep 1000",
        ]);
        let mut second = std::fs::File::from(accept(&listener).1);
        until(&mut second, "/dev/pts/");
        oci.ok(&["kill", "c", "KILL"]);
        oci.until("stopped");
        oci.ok(&["delete", "c"]);
        oci.end();
    });
}

/// `--preserve-fds`, for the first process and for later ones.
#[test]
fn descriptors_are_passed_on() {
    run(|host| {
        let oci = Oci::new(host, "cat <&3; sleep 1000");
        oci.write();
        std::fs::write(oci.dir.join("given"), "given\n").unwrap();
        let program = env!("CARGO_BIN_EXE_coracle-oci");
        let call = |rest: &str| {
            let given = oci.dir.join("given");
            let text = format!("exec {program} --root {}/state {rest} 3< {}", oci.bundle(), given.display());
            let out = std::fs::File::options().append(true).create(true).open(oci.dir.join("out")).unwrap();
            let mut command = std::process::Command::new("sh");
            assert!(
                command
                    .args(["-c", &text])
                    .stdin(std::process::Stdio::null())
                    .stdout(out)
                    .status()
                    .unwrap()
                    .success()
            );
        };
        call(&format!("create --preserve-fds 1 --bundle {} c", oci.bundle()));
        oci.ok(&["start", "c"]);
        soon("it has read", || oci.out() == "given\n");
        call("exec --preserve-fds 1 c sh -c 'cat <&3; ls /proc/self/fd | wc -l'");
        assert_eq!(oci.out(), "given\ngiven\n5\n");
        assert!(
            oci.refused(&["exec", "--preserve-fds", "40", "c", "true"])
                .contains("--preserve-fds 40: descriptor")
        );
        oci.ok(&["delete", "--force", "c"]);
        oci.end();
    });
}
