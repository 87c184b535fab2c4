//! Limits, figures, pausing, and the walls that stand by default.

use std::time::Duration;

use coracle::{Exit, Kind, Limits, Restart, Seccomp, State};
use coracle_testhost::run as host;

use crate::support::{engine, fails, run, says, script, tools, within_a_second, wrote};

#[test]
fn limits_hold() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let eater =
            script("head -c 100000000 /dev/zero | sort >/dev/null").limits(Limits::new().memory(32 << 20));
        let container = engine.start(&eater.retain()).unwrap();
        assert!(!container.wait().unwrap().success());
        assert!(container.status().unwrap().oom_killed);
        container.remove().unwrap();

        let text = "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; wait";
        let (_, output) = run(&engine, &script(text).limits(Limits::new().pids(20)));
        assert!(output.stderr.to_lowercase().contains("fork"), "{output:?}");
        let refused = engine.start(&script("true").limits(Limits::new().cpuset_cpus("4095")));
        assert!(refused.is_err(), "no such processor");
        assert!(engine.containers().unwrap().is_empty(), "nothing is left of it");
    });
}

#[test]
fn limits_can_be_changed() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let limits = Limits::new().memory(64 << 20).pids(100);
        let mut container = engine.start(&script("sleep 100").limits(limits)).unwrap();
        let memory = |container: &coracle::Container| container.stats().unwrap().memory.unwrap().limit;
        assert_eq!(memory(&container), Some(64 << 20));
        container.update(&Limits::new().memory(96 << 20), Some(Restart::OnFailure { max: 1 })).unwrap();
        assert_eq!(memory(&container), Some(96 << 20));
        assert_eq!(container.stats().unwrap().pids.unwrap().limit, Some(100), "others stay");
        let found = engine.find(container.id()).unwrap().unwrap();
        assert_eq!(found.restart_policy(), Restart::OnFailure { max: 1 });
    });
}

#[test]
fn figures_and_processes() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let container = engine.start(&script("echo up; while :; do :; done")).unwrap();
        wrote(&container, "up");
        let cpu = || container.stats().unwrap().cpu.unwrap().total;
        let first = cpu();
        within_a_second("it uses time", || cpu() > first);
        let stats = container.stats().unwrap();
        assert!(stats.pids.unwrap().current == 1 && stats.memory.unwrap().usage > 0);
        assert_eq!(stats.network, None);
        let processes = container.processes().unwrap();
        assert_eq!(processes.len(), 1);
        assert!(processes[0].command.contains("sh -c"), "{processes:?}");
        assert_eq!(container.status().unwrap().pid, Some(processes[0].pid));
        container.kill().unwrap();
        fails(container.stats(), Kind::InUse, &["not running"]);
    });
}

#[test]
fn paused_ones_stand_still() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let container = engine.start(&script("while :; do echo x; sleep 0.01; done")).unwrap();
        wrote(&container, "x");
        fails(container.unpause(), Kind::InUse, &["not paused"]);
        container.pause().unwrap();
        assert_eq!(container.state().unwrap(), State::Paused);
        assert_eq!(engine.find(container.id()).unwrap().unwrap().state().unwrap(), State::Paused);
        fails(container.pause(), Kind::InUse, &["already paused"]);
        fails(container.exec(&coracle::ExecSpec::new(["id"])), Kind::InUse, &["paused"]);
        // What was on its way has arrived.
        while container.wait_within(Duration::from_millis(20)).unwrap().is_some() {}
        let lines = || container.output().unwrap().stdout.len();
        let before = lines();
        assert_eq!(container.wait_within(Duration::from_millis(100)).unwrap(), None);
        assert_eq!(lines(), before);
        container.unpause().unwrap();
        within_a_second("it moves again", || lines() > before);
        container.pause().unwrap();
        assert_eq!(container.kill().unwrap(), Exit::Signal(9), "one that is paused can be killed");
    });
}

#[test]
fn the_usual_walls() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let status = |field: &str| {
            format!(
                "while read name value; do [ $name = {field}: ] && echo $value; done </proc/self/status; true"
            )
        };
        assert_eq!(says(&engine, &script(&status("Seccomp"))), "2\n");
        assert_eq!(says(&engine, &script(&status("Seccomp")).seccomp(Seccomp::Unconfined)), "0\n");
        assert_eq!(says(&engine, &script(&status("Seccomp")).privileged()), "0\n");
        let container = engine.start(&script("sleep 100")).unwrap();
        let spec = coracle::ExecSpec::new(["sh".to_owned(), "-c".to_owned(), status("Seccomp")]);
        assert_eq!(container.exec(&spec).unwrap().1.stdout, "2\n", "further processes have it, too");
        let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#;
        let (exit, output) = run(&engine, &script("mkdir /x").seccomp(Seccomp::Profile(profile.into())));
        assert!(!exit.success() && output.stderr.contains("No space left"), "{output:?}");
        fails(engine.start(&script("id").seccomp(Seccomp::Profile("{".into()))), Kind::Invalid, &["seccomp"]);
        let init = engine.start(&script("echo $$").init()).unwrap();
        init.wait().unwrap();
        assert_eq!(init.output().unwrap().stdout, "2\n");
    });
}
