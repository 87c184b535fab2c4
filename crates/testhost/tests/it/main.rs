//! The test host itself: what a test may rely on, and that each kind of leak is found.

use std::path::Path;
use std::process::{Command, Stdio};

use coracle_testhost::{Role, run, run_with};

mod kernel;
mod victims;

#[test]
fn is_private_and_comes_up() {
    run(|host| {
        assert_eq!(std::process::id(), 1);
        assert_eq!(std::fs::read_dir(host.dir()).unwrap().count(), 0);
        assert!(std::env::temp_dir().starts_with(host.dir().parent().unwrap()));
        std::fs::write(host.dir().join("f"), "text").unwrap();
        assert!(host.processes().is_empty(), "{:?}", host.processes());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let links: Vec<_> = std::fs::read_dir("/sys/class/net").unwrap().collect();
        assert_eq!(links.len(), 1, "{links:?}");
    });
    assert_ne!(std::process::id(), 1, "after `run` we are outside again");
}

#[test]
fn small_disks_are_small() {
    run(|host| {
        let disk = host.small_disk(64 << 10);
        std::fs::write(disk.join("fits"), vec![0; 32 << 10]).unwrap();
        let error = std::fs::write(disk.join("more"), vec![0; 64 << 10]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    });
}

#[test]
fn groups_are_its_own() {
    run(|host| {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let Some(line) = own.lines().find(|line| line.contains(":pids:") || line.starts_with("0::")) else {
            return coracle_testhost::skip(host.test(), "no control groups here");
        };
        assert!(line.ends_with(":/"), "{own}");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let point = |line: &str| line.split(' ').nth(4).map(str::to_owned);
        let fresh =
            mounts.lines().filter(|line| line.contains(" - cgroup") && line.split(' ').nth(3) == Some("/"));
        let Some(point) =
            fresh.filter_map(point).find(|point| Path::new(point).join("cgroup.procs").exists())
        else {
            return coracle_testhost::skip(host.test(), "control groups are read-only here");
        };
        let members = std::fs::read_to_string(Path::new(&point).join("cgroup.procs")).unwrap();
        assert!(members.lines().all(|pid| pid == "0" || pid == "1"), "{members}");
        let group = Path::new(&point).join("mine");
        std::fs::create_dir(&group).unwrap();
        std::fs::remove_dir(&group).unwrap();
    });
}

fn parrot(role: &mut Role) {
    while let Some(line) = role.hear() {
        role.say(&format!("{line} {line}"));
    }
    std::fs::write(role.dir().join("parrot"), "ended").unwrap();
}

fn sleeper(role: &mut Role) {
    role.say("asleep");
    role.hear();
}

#[test]
fn players_talk_and_die() {
    run_with(&[("parrot", parrot), ("sleeper", sleeper)], |host| {
        let mut parrot = host.play("parrot");
        let mut sleeper = host.play("sleeper");
        parrot.say("hello");
        assert_eq!(parrot.hear().as_deref(), Some("hello hello"));
        assert_eq!(sleeper.hear().as_deref(), Some("asleep"));
        assert_eq!(host.processes().len(), 2);
        sleeper.kill();
        parrot.hang_up().join();
        assert_eq!(std::fs::read(host.dir().join("parrot")).unwrap(), b"ended");
    });
}

fn two_files(role: &mut Role) {
    role.say("ready");
    role.hear();
    std::fs::write(role.dir().join("one"), "1").unwrap();
    std::fs::write(role.dir().join("two"), "2").unwrap();
}

#[test]
fn players_are_killed_at_every_call() {
    run_with(&[("two_files", two_files)], |host| {
        let mut seen = Vec::new();
        for calls in 0.. {
            let mut player = host.play("two_files");
            assert_eq!(player.hear().as_deref(), Some("ready"));
            let killed = player.kill_after(calls, "go");
            let state = ["one", "two"].map(|name| std::fs::read_to_string(host.dir().join(name)).ok());
            if seen.last() != Some(&state) {
                seen.push(state);
            }
            for name in ["one", "two"] {
                let _ = std::fs::remove_file(host.dir().join(name));
            }
            if !killed {
                break;
            }
        }
        let file = |text: &str| Some(text.to_owned());
        let expected = [
            [None, None],
            [file(""), None],
            [file("1"), None],
            [file("1"), file("")],
            [file("1"), file("2")],
        ];
        assert_eq!(seen, expected);
    });
}

/// Runs a test of [`victims`] that fails on purpose; what it printed.
fn failure_of(victim: &str, environment: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([&format!("victims::{victim}"), "--exact", "--ignored"])
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(101), "`{victim}` should fail:\n{text}");
    text
}

#[test]
fn each_leak_is_found() {
    if !rustix::process::geteuid().is_root() {
        return coracle_testhost::skip("each_leak_is_found", "needs root");
    }
    let expected = [
        ("leaves_a_process", "left: process "),
        ("leaves_an_orphan", "sleep (S): sleep 1000"),
        ("leaves_a_mount", "/dir/here rw"),
        ("leaves_a_mount_less", "gone: mount "),
        ("leaves_a_link", "left: link vt0"),
        ("leaves_a_table", "left: nft table tt0 (family 2)"),
        ("leaves_a_descriptor", "left: fd on /proc/1/status"),
        ("leaves_a_lock", "left: lock OFDLCK WRITE on "),
        ("leaves_a_thread", "left: thread "),
        ("leaves_a_directory_changed", "left: working directory /proc"),
        ("leaves_a_handler", "left: SigCgt: "),
        ("panics", "the words of the panic"),
        ("aborts", "failed in its test host"),
    ];
    std::thread::scope(|scope| {
        for (victim, finding) in expected {
            scope.spawn(move || {
                let text = failure_of(victim, &[]);
                assert!(text.contains(finding), "`{victim}` should report {finding:?}:\n{text}");
            });
        }
    });
    let text = failure_of("leaves_a_group", &[]);
    if text.contains("a control group: ") {
        coracle_testhost::skip("each_leak_is_found (a group)", "control groups are read-only here");
    } else {
        assert!(text.contains("left: cgroup /sys/fs/cgroup"), "{text}");
    }
    let text = failure_of("hangs", &[("CORACLE_TESTHOST_TIMEOUT", "1")]);
    assert!(text.contains("was killed after 1s"), "{text}");
    assert!(text.contains("`victims::hangs` hangs:\n  process ") && text.contains(": futex_"), "{text}");
    let text = failure_of("is_not_called_by_a_test", &[]);
    assert!(text.contains("ran no test"), "{text}");
}

#[test]
fn skips_are_counted() {
    let place = std::env::temp_dir().join(format!("coracle-skips-{}", std::process::id()));
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["victims::skips", "--exact", "--ignored"])
        .env("CORACLE_SKIPS", &place)
        .output()
        .unwrap();
    let counted = std::fs::read_to_string(&place).unwrap();
    std::fs::remove_file(&place).unwrap();
    assert_eq!(counted, "skip: victims::skips: for a reason\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("skip: victims::skips: for a reason"));
    assert!(output.status.success());
}
