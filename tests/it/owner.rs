//! Whose a container is, and what others may do with it.

use std::sync::mpsc;
use std::thread;

use coracle::{Engine, ExecSpec, Exit, Kind, State};
use coracle_testhost::run as host;

use crate::support::{
    engine, fails, nothing_but_engines, nothing_left, script, state, tools, within_a_second, wrote,
};

#[test]
fn a_signal_arrives_and_wait_tells_it() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let spec = script("trap 'echo caught; exit 7' TERM; echo up; while :; do sleep 0.01; done").name("x");
        let container = engine.start(&spec).unwrap();
        wrote(&container, "up");
        assert_eq!(container.state().unwrap(), State::Running);
        container.signal(15).unwrap();
        assert_eq!(container.wait().unwrap(), Exit::Code(7));
        assert_eq!(container.wait().unwrap(), Exit::Code(7), "asked again");
        assert_eq!(container.state().unwrap(), State::Exited(Exit::Code(7)));
        assert!(container.status().unwrap().finished.unwrap().ends_with('Z'));
        assert_eq!(container.output().unwrap().stdout, "up\ncaught\n");
        fails(container.signal(15), Kind::InUse, &["signal container `x`", "not running"]);
        assert_eq!(container.kill().unwrap(), Exit::Code(7), "to kill what has ended is fine");
        let other = engine.start(&script("sleep 100")).unwrap();
        assert_eq!(other.kill().unwrap(), Exit::Signal(9));
        fails(other.signal(0), Kind::InUse, &[]);
    });
}

#[test]
fn dropping_kills_and_removes() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let container = engine.start(&script("echo up; sleep 100 & sleep 100").name("x")).unwrap();
        wrote(&container, "up");
        within_a_second("a shell and two children", || host.processes().len() == 3);
        let id = container.id().to_owned();
        drop(container);
        assert_eq!(host.processes(), Vec::<String>::new(), "the whole container is dead when drop returns");
        assert!(engine.find("x").unwrap().is_none() && engine.find(&id).unwrap().is_none());
        nothing_but_engines(host.dir());
        drop(engine);
        nothing_left(host.dir());
    });
}

#[test]
fn another_engine_finds_it_and_reaches_in() {
    host(|host| {
        let (mine, theirs) = (engine(host.dir()), engine(host.dir()));
        tools(&mine);
        let container = mine.start(&script("echo up; sleep 100").name("x").env("A", "1")).unwrap();
        wrote(&container, "up");
        for key in ["x", container.id(), &container.id()[..12], &container.id()[..3]] {
            assert_eq!(theirs.find(key).unwrap().unwrap().id(), container.id(), "{key}");
        }
        for key in ["", ".", "..", "y", "x/", "xx", "../containers"] {
            assert!(theirs.find(key).unwrap().is_none(), "{key}");
        }
        let found = theirs.find("x").unwrap().unwrap();
        assert_eq!(found.state().unwrap(), State::Running);
        assert_eq!(found.output().unwrap().stdout, "up\n");
        let (exit, output) = found.exec(&ExecSpec::new(["sh", "-c", "echo $A $$"])).unwrap();
        assert!(exit.success() && output.stdout.starts_with("1 "), "{output:?}");
        fails(theirs.find("x").unwrap().unwrap().remove(), Kind::InUse, &["`x`", "kill it first"]);
        assert_eq!(found.kill().unwrap(), Exit::Signal(9));
        assert_eq!(container.state().unwrap(), State::Exited(Exit::Signal(9)));
        assert_eq!(theirs.containers().unwrap().len(), 1, "it is there until its owner lets go");
        drop(container);
        fails(found.state(), Kind::NotFound, &["`x`", "removed"]);
        fails(found.logs(), Kind::NotFound, &["`x`", "removed"]);
        fails(found.exec(&ExecSpec::new(["id"])), Kind::InUse, &["not running"]);
        assert!(theirs.containers().unwrap().is_empty());
    });
}

#[test]
fn another_engine_may_remove_it_from_under_its_owner() {
    host(|host| {
        let (mine, theirs) = (engine(host.dir()), engine(host.dir()));
        tools(&mine);
        let container = mine.start(&script("sleep 100").name("x")).unwrap();
        theirs.find("x").unwrap().unwrap().force_remove().unwrap();
        assert!(theirs.containers().unwrap().is_empty());
        assert_eq!(container.wait().unwrap(), Exit::Signal(9));
        assert_eq!(container.state().unwrap(), State::Exited(Exit::Signal(9)));
        fails(container.logs(), Kind::NotFound, &["`x`", "removed"]);
        // The name is free; letting go of the old one does the new one no harm.
        let next = theirs.start(&script("sleep 100").name("x")).unwrap();
        drop(container);
        assert_eq!(mine.find("x").unwrap().unwrap().id(), next.id());
        drop(next);
        nothing_but_engines(host.dir());
    });
}

#[test]
fn what_is_killed_while_it_starts_does_not_live() {
    host(|host| {
        let (mine, theirs) = (engine(host.dir()), engine(host.dir()));
        tools(&mine);
        let (reached, reports) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        let starter = thread::spawn(move || {
            let step = move |index| {
                if index == 5 {
                    reached.send(()).unwrap();
                    gate.recv().unwrap();
                }
            };
            mine.start_stepping(&script("exec sleep 100").name("x"), step).unwrap().wait().unwrap()
        });
        reports.recv().unwrap();
        let found = theirs.find("x").unwrap().unwrap();
        assert_eq!(found.state().unwrap(), State::Starting);
        fails(found.signal(15), Kind::InUse, &["`x`", "not running"]);
        fails(theirs.find("x").unwrap().unwrap().remove(), Kind::InUse, &["`x`"]);
        let killer = thread::spawn(move || found.kill());
        go.send(()).unwrap();
        assert_eq!(starter.join().unwrap(), Exit::Signal(9));
        // Its owner may have removed it before the killer has seen it end.
        match killer.join().unwrap() {
            Ok(exit) => assert!(matches!(exit, Exit::Signal(9) | Exit::Unknown), "{exit}"),
            Err(error) => assert_eq!(error.kind(), Kind::NotFound, "{error}"),
        }
    });
}

#[test]
fn what_is_retained_stays_until_it_is_removed() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let container = engine.start(&script("echo done; exit 3").name("x").retain()).unwrap();
        container.wait().unwrap();
        drop(container);
        drop(engine);
        let engine = Engine::open(state(host.dir())).unwrap();
        let found = engine.find("x").unwrap().unwrap();
        assert_eq!(found.state().unwrap(), State::Exited(Exit::Code(3)));
        assert_eq!(found.wait().unwrap(), Exit::Code(3));
        assert_eq!(found.output().unwrap().stdout, "done\n");
        let taken = fails(engine.start(&script("id").name("x")), Kind::AlreadyExists, &["`x`"]);
        assert!(taken.contains(&found.id()[..12]), "{taken}");
        found.remove().unwrap();
        nothing_but_engines(host.dir());
        // One that is running when its owner lets go of it is killed, and stays.
        drop(engine.start(&script("sleep 100").name("y").retain()).unwrap());
        let found = engine.find("y").unwrap().unwrap();
        assert_eq!(found.state().unwrap(), State::Exited(Exit::Signal(9)));
        found.remove().unwrap();
    });
}
