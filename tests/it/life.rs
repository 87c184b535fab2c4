//! The life of a container: made, started, stopped, started again, restarted by its policy, asked for its health.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use coracle::{ExecSpec, Exit, HealthCheck, HealthStatus, Kind, Restart, State};

use coracle_testhost::run as host;

use crate::support::{engine, fails, script, tools, within_a_second, wrote};

#[test]
fn what_is_made_is_started_later_and_again() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let spec = script("echo run; cat /kept 2>/dev/null; echo more >>/kept; exit 4").name("x");
        let container = engine.create(&spec).unwrap();
        assert_eq!(container.state().unwrap(), State::Created);
        assert_eq!(engine.find("x").unwrap().unwrap().state().unwrap(), State::Created);
        fails(container.signal(15), Kind::InUse, &["`x`", "not running"]);
        container.start().unwrap();
        assert_eq!(container.wait().unwrap(), Exit::Code(4));
        let status = container.status().unwrap();
        assert_eq!((status.state, status.restarts), (State::Exited(Exit::Code(4)), 0));
        assert!(status.started.unwrap() <= status.finished.unwrap());
        container.start().unwrap();
        assert_eq!(container.wait().unwrap(), Exit::Code(4));
        assert_eq!(container.output().unwrap().stdout, "run\nrun\nmore\n", "one file system, one log");
        container.remove().unwrap();
        assert!(engine.find("x").unwrap().is_none());
    });
}

#[test]
fn one_that_runs_is_not_started_twice() {
    host(|host| {
        let (engine, other) = (engine(host.dir()), engine(host.dir()));
        tools(&engine);
        let container = engine.create(&script("sleep 100").name("x")).unwrap();
        container.start().unwrap();
        fails(container.start(), Kind::InUse, &["`x`", "running already"]);
        fails(other.find("x").unwrap().unwrap().start(), Kind::InUse, &["`x`", "running already"]);
        container.kill().unwrap();
        // It has an owner, who may start it again; others may when that one lets go.
        fails(other.find("x").unwrap().unwrap().start(), Kind::InUse, &["`x`"]);
        drop(container);
        let found = other.find("x").unwrap().unwrap();
        found.start().unwrap();
        assert_eq!(found.state().unwrap(), State::Running);
        found.force_remove().unwrap();
    });
}

#[test]
fn stop_asks_and_then_kills() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let polite = script("trap 'echo bye; exit 3' USR1; echo up; while :; do sleep 0.02; done");
        let container = engine.start(&polite.stop_signal(10)).unwrap();
        wrote(&container, "up");
        assert_eq!(container.stop(None).unwrap(), Exit::Code(3));
        assert_eq!(container.stop(None).unwrap(), Exit::Code(3), "that it has ended is fine");
        let stubborn = script("trap '' TERM; echo up; while :; do sleep 0.02; done");
        let container = engine.start(&stubborn.stop_timeout(Duration::from_millis(100))).unwrap();
        wrote(&container, "up");
        let begun = Instant::now();
        assert_eq!(container.stop(None).unwrap(), Exit::Signal(9));
        assert!(begun.elapsed() >= Duration::from_millis(100));
    });
}

#[test]
fn policies_start_it_again() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let failing = script("echo x; exit 1").restart(Restart::OnFailure { max: 2 });
        let container = engine.start(&failing.retain()).unwrap();
        assert_eq!(container.wait().unwrap(), Exit::Code(1));
        assert_eq!(container.output().unwrap().stdout, "x\nx\nx\n");
        assert_eq!(container.status().unwrap().restarts, 2);
        container.remove().unwrap();

        let good = script("echo x").restart(Restart::OnFailure { max: 2 });
        let container = engine.start(&good).unwrap();
        assert_eq!(container.wait().unwrap(), Exit::Code(0));
        assert_eq!(container.status().unwrap().restarts, 0);

        let container = engine.start(&script("echo x; sleep 0.01").restart(Restart::Always)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while container.output().unwrap().stdout.lines().count() < 3 {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(5));
        }
        let found = engine.find(container.id()).unwrap().unwrap();
        found.stop(None).unwrap();
        assert!(matches!(container.state().unwrap(), State::Exited(_)), "told to stop, it stays stopped");
        let lines = container.output().unwrap().stdout.lines().count();
        container.start().unwrap();
        wrote_more(&container, lines);
        // Dropped while it is started again and again.
    });
}

fn wrote_more(container: &coracle::Container, than: usize) {
    within_a_second("it runs again", || container.output().unwrap().stdout.lines().count() > than);
}

#[test]
fn a_name_can_be_changed() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        // Names that no id begins with.
        let mut container = engine.start(&script("sleep 100").name("x")).unwrap();
        let other = engine.start(&script("sleep 100").name("y")).unwrap();
        fails(container.rename("y"), Kind::AlreadyExists, &["`x` to `y`", "in use"]);
        fails(container.rename("-"), Kind::Invalid, &["`-`"]);
        container.rename("z").unwrap();
        assert_eq!(container.name(), "z");
        assert_eq!(engine.find("z").unwrap().unwrap().id(), container.id());
        assert!(engine.find("x").unwrap().is_none());
        drop(engine.start(&script("true").name("x")).unwrap());
        drop(container);
        drop(engine.start(&script("true").name("z")).unwrap());
        drop(other);
    });
}

#[test]
fn health_is_asked_for() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let check = HealthCheck::shell("cat /well; [ -f /well ]").every(Duration::from_millis(20)).retries(2);
        let container = engine.start(&script("sleep 100").health(check)).unwrap();
        let status = || container.status().unwrap().health.unwrap();
        within_a_second("unhealthy", || status().status == HealthStatus::Unhealthy);
        let health = status();
        assert!(health.failing_streak >= 2 && health.log.back().unwrap().exit_code == 1, "{health:?}");
        assert!(health.log.back().unwrap().output.contains("/well"), "{health:?}");
        container.exec(&ExecSpec::new(["sh", "-c", "echo fine >/well"])).unwrap();
        within_a_second("healthy", || status().status == HealthStatus::Healthy);
        assert_eq!(status().failing_streak, 0);
        container.kill().unwrap();

        let slow = HealthCheck::command(["sleep", "100"]).timeout(Duration::from_millis(20)).retries(1);
        let container = engine.start(&script("sleep 100").health(slow)).unwrap();
        let status = || container.status().unwrap().health.unwrap();
        within_a_second("too slow", || status().status == HealthStatus::Unhealthy);
        let probe = status().log.pop_back().unwrap();
        assert_eq!(probe.exit_code, -1);
        assert!(probe.output.contains("exceeded timeout"), "{probe:?}");
        // An end in the middle of a probe holds nothing up.
        let container =
            engine.start(&script("sleep 100").health(HealthCheck::command(["sleep", "100"]))).unwrap();
        container.kill().unwrap();
    });
}

#[test]
fn streams_are_had_from_the_first_byte_on() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let (container, streams) =
            engine.start_attached(&script("echo first; cat; echo end >&2").open_stdin()).unwrap();
        streams.stdin.unwrap().write_all(b"given\n").unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        streams.stdout.unwrap().read_to_string(&mut out).unwrap();
        streams.stderr.unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((out.as_str(), err.as_str()), ("first\ngiven\n", "end\n"));
        assert!(container.wait().unwrap().success());
        assert_eq!(container.output().unwrap().stdout, out, "and they are in the log");

        let spec = script("echo up; read line; echo got $line; read line || echo over").open_stdin_always();
        let container = engine.start(&spec).unwrap();
        wrote(&container, "up");
        let mut attached = engine.find(container.id()).unwrap().unwrap().attach().unwrap();
        attached.stdin.take().unwrap().write_all(b"one\n").unwrap();
        let mut seen = [0; 8];
        attached.stdout.as_mut().unwrap().read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"got one\n", "only what it writes from now on");
        assert_eq!(container.state().unwrap(), State::Running, "its input stays open");
        container.attach().unwrap().stdin.unwrap().write_all(b"two\n").unwrap();
        assert!(container.wait().unwrap().success());
        fails(container.attach(), Kind::InUse, &["not running"]);
    });
}

#[test]
fn a_reader_that_sleeps_holds_up_the_container_and_nothing_else() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let text = "echo up; head -c 3000000 /dev/zero; echo; echo done >&2";
        let container = engine.start(&script(&format!("{text}; sleep 100")).open_stdin()).unwrap();
        wrote(&container, "up");
        let (second, sleeper) =
            engine.start_attached(&script("head -c 3000000 /dev/zero; echo done >&2")).unwrap();
        // A pipe, and a mebibyte: then it waits.
        assert_eq!(second.state().unwrap(), State::Running);
        let mut all = Vec::new();
        sleeper.stdout.unwrap().read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), 3_000_000);
        assert!(second.wait().unwrap().success());
        // Who leaves is not waited for.
        drop(container.attach().unwrap());
        container.kill().unwrap();
    });
}

#[test]
fn terminals() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let text = "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo terminal $TERM; read line; echo got $line";
        let (container, mut streams) = engine.start_attached(&script(text).terminal()).unwrap();
        let mut seen = [0; 16];
        let out = streams.stdout.as_mut().unwrap();
        out.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"terminal xterm\r\n");
        streams.stdin.as_mut().unwrap().write_all(b"x\n").unwrap();
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "x\r\ngot x\r\n", "the terminal echoes");
        assert!(streams.stderr.is_none());
        assert!(container.wait().unwrap().success());
        assert!(container.output().unwrap().stdout.ends_with("got x\r\n"), "and it is in the log");

        let container = engine.start(&script("sleep 100")).unwrap();
        let spec = ExecSpec::new(["sh", "-c", "[ -t 0 ] && echo yes; read line; exit $line"]).terminal();
        let (exec, streams) = container.exec_attached(&spec).unwrap();
        streams.stdin.unwrap().write_all(b"7\n").unwrap();
        assert_eq!(exec.wait(), Exit::Code(7));
        let mut out = streams.stdout.unwrap();
        let mut seen = [0; 64];
        let read = out.read(&mut seen).unwrap();
        assert!(String::from_utf8_lossy(&seen[..read]).contains("yes\r\n"), "{seen:?}");
        fails(engine.start(&script("id").terminal().attach()), Kind::Invalid, &["terminal()"]);
    });
}

#[test]
fn further_processes_with_streams_and_without() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let container = engine.start(&script("sleep 100")).unwrap();
        let spec = ExecSpec::new(["sh", "-c", "cat; echo err >&2; exit 3"]).interactive();
        let (exec, streams) = container.exec_attached(&spec).unwrap();
        streams.stdin.unwrap().write_all(b"given").unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        streams.stdout.unwrap().read_to_string(&mut out).unwrap();
        streams.stderr.unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((out.as_str(), err.as_str(), exec.wait()), ("given", "err\n", Exit::Code(3)));
        // Dropped, it is ended.
        drop(container.exec_attached(&ExecSpec::new(["sleep", "100"])).unwrap());
        container.exec_detached(&ExecSpec::new(["sh", "-c", "echo done >/done"])).unwrap();
        within_a_second("it is done", || {
            container.exec(&ExecSpec::new(["cat", "/done"])).unwrap().1.stdout == "done\n"
        });
        let missing = container.exec_detached(&ExecSpec::new(["/no/such"]));
        assert_eq!(missing.unwrap_err().command_status(), Some(127));
        container.exec_detached(&ExecSpec::new(["sleep", "100"])).unwrap();
        container.kill().unwrap();
        fails(container.exec_detached(&ExecSpec::new(["id"])), Kind::InUse, &["not running"]);
    });
}
