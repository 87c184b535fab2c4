//! SIGKILL at any moment: nothing runs on, and the next open reclaims the rest.

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use coracle::{BuildSpec, ContainerSpec, Engine, NetworkSpec, VolumeSpec};
use coracle_testhost::{Host, Role, run_with};

use crate::support::{
    context, engine, locks, nothing_left, our_links, says, script, state, tools, within_a_second, wrote,
};

/// A container with all that a container can have.
fn laden(name: &str) -> ContainerSpec {
    script("echo more >> /data/log; echo up; sleep 100 & exec sleep 100")
        .name(name)
        .network("sea")
        .volume("data", "/data")
}

/// What every victim finds: an image, a network, a volume with something in it. The network's id.
fn prepare(host: &Host) -> String {
    let engine = engine(host.dir());
    tools(&engine);
    let sea = engine.network(&NetworkSpec::new("sea").subnet("10.9.0.0/24")).unwrap();
    let data = engine.volume(&VolumeSpec::new("data")).unwrap();
    fs::write(data.path().join("kept"), "kept").unwrap();
    sea.id().to_owned()
}

/// What has to be so after every kill, before and after somebody opens the engine again.
#[track_caller]
fn nothing_remains(host: &Host, sea: &str, when: &str) {
    within_a_second(&format!("{when}: no process is left"), || host.processes().is_empty());
    within_a_second(&format!("{when}: no lock is held: {:?}", locks(&state(host.dir()))), || {
        locks(&state(host.dir())).is_empty()
    });
    let links = || our_links().into_iter().filter(|link| !link.starts_with("cor-")).collect::<Vec<_>>();
    within_a_second(&format!("{when}: no link into a container is left: {:?}", links()), || {
        links().is_empty()
    });
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("overlay"), "{when}: {mounts}");

    let engine = engine(host.dir());
    assert_eq!(our_links(), Vec::<String>::new(), "{when}: links after open");
    assert!(engine.containers().unwrap().is_empty(), "{when}");
    assert_eq!(engine.find_network("sea").unwrap().unwrap().id(), sea, "{when}");
    let data = engine.find_volume("data").unwrap().unwrap();
    assert_eq!(fs::read_to_string(data.path().join("kept")).unwrap(), "kept", "{when}");
    // Handles have their part of the engine.
    drop((engine, data));
    nothing_left(host.dir());
}

/// Starts the container and stops at the launch operation that it is told, or says that the container runs.
fn embedder(role: &mut Role) {
    let at: usize = role.hear().unwrap().parse().unwrap();
    let engine = engine(role.dir());
    let (reached, reports) = mpsc::channel();
    let starter = thread::spawn(move || {
        let running = reached.clone();
        let step = move |index| {
            if index == at {
                reached.send(format!("at {index}")).unwrap();
                loop {
                    thread::park();
                }
            }
        };
        let container = engine.start_stepping(&laden("x"), step).unwrap();
        wrote(&container, "up");
        running.send("running".into()).unwrap();
        container.wait()
    });
    role.say(&reports.recv().unwrap());
    role.hear();
    drop(starter);
}

#[test]
fn killed_at_each_launch_operation_and_while_it_runs() {
    run_with(&[("embedder", embedder)], |host| {
        let sea = prepare(host);
        // Before the first one, which makes it die with its parent, nothing may keep a child waiting.
        let mut at = 1;
        loop {
            let mut victim = host.play("embedder");
            victim.say(&at.to_string());
            let report = victim.hear().unwrap();
            victim.kill();
            nothing_remains(host, &sea, &report);
            if report == "running" {
                break;
            }
            assert_eq!(report, format!("at {at}"));
            at += 1;
        }
        assert!(at >= 12, "{at} operations are too few to be a launch");
        // Everything works as before, under the same name.
        let engine = engine(host.dir());
        let again = says(&engine, &script("cat /data/log").name("x").network("sea").volume("data", "/data"));
        assert!(again.lines().count() >= 1 && again.lines().all(|line| line == "more"), "{again}");
    });
}

/// Opens, builds, starts, lets go: everything, on this thread where it can be.
fn builder(role: &mut Role) {
    let number = role.hear().unwrap();
    story(role.dir(), &number);
}

fn dockerfile(number: &str) -> String {
    format!(
        "FROM tools\nCOPY file /file\nRUN echo {number} > /number && cat /file >> /number\nCMD [\"cat\", \"/number\"]\n"
    )
}

fn story(dir: &Path, number: &str) {
    let engine = engine(dir);
    let spec = BuildSpec::new(dir.join("context")).dockerfile_text(dockerfile(number)).tag("app");
    let image = engine.build(&spec, |_| {}).unwrap().image;
    let spec = ContainerSpec::new(&image).name("x").network("sea").volume("data", "/data");
    assert_eq!(says(&engine, &spec), format!("{number}\nfile\n"));
}

/// After a kill: nothing remains, the same things can be done again, and come out right.
#[track_caller]
fn all_is_well(host: &Host, sea: &str, number: &str, when: &str) {
    nothing_remains(host, sea, when);
    story(host.dir(), number);
    nothing_left(host.dir());
}

const STRIDE: usize = 61;

#[expect(clippy::print_stdout, reason = "how many points is of interest")]
fn killed_at_every_so_many_calls(host: &Host, first: usize) {
    let sea = prepare(host);
    context(host.dir(), &[("file", "file\n")]);
    let (begin, mut points, mut calls) = (Instant::now(), 0, first);
    loop {
        let number = calls.to_string();
        let killed = host.play("builder").kill_after(calls, &number);
        all_is_well(host, &sea, &number, &format!("after {calls} calls"));
        if !killed {
            break;
        }
        points += 1;
        calls += STRIDE;
    }
    println!("killed at {points} points up to call {calls}, {:.1?}", begin.elapsed());
    assert!(points >= 10, "{points} points up to call {calls}");
}

#[test]
fn killed_at_any_system_call_1() {
    run_with(&[("builder", builder)], |host| killed_at_every_so_many_calls(host, 0));
}

#[test]
fn killed_at_any_system_call_2() {
    run_with(&[("builder", builder)], |host| killed_at_every_so_many_calls(host, STRIDE / 2));
}

/// The supervisor's thread makes system calls, too; those are not counted, so time has to do.
fn starter(role: &mut Role) {
    let engine = engine(role.dir());
    role.say("ready");
    role.hear();
    drop(engine.start(&laden("x")).unwrap());
    role.say("done");
}

#[test]
fn killed_at_any_time() {
    run_with(&[("starter", starter)], |host| {
        const POINTS: u32 = 40;
        let sea = prepare(host);
        let play = || {
            let mut starter = host.play("starter");
            assert_eq!(starter.hear().as_deref(), Some("ready"));
            starter.say("go");
            (starter, Instant::now())
        };
        let (mut whole, begin) = play();
        assert_eq!(whole.hear().as_deref(), Some("done"));
        let whole_time = begin.elapsed();
        whole.join();
        for point in 0..POINTS {
            let (starter, begin) = play();
            let time = whole_time * point / POINTS;
            while begin.elapsed() < time {
                thread::sleep(Duration::from_micros(50));
            }
            starter.kill();
            nothing_remains(host, &sea, &format!("after {time:?} of {whole_time:?}"));
        }
        drop(Engine::open(state(host.dir())).unwrap().start(&laden("x")).unwrap());
    });
}
