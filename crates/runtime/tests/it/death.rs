//! A container lives no longer than its owner.

use std::sync::mpsc;

use coracle_host::Exit;
use coracle_runtime::{Bundle, Facts, Plan, Running, Stdio};
use coracle_testhost::{Role, run, run_with};

use crate::support::{self, PIPES, bundle, idle, line, plan, process, script, soon, user, watch};

/// Owns a container that sleeps, with children of its own, and says so.
fn owner(role: &mut Role) {
    let mut spec = script("sleep 1000 & setsid sleep 1000 & echo up; exec sleep 1000");
    if role.hear().as_deref() == Some("user") {
        user(&mut spec, 1000, 1000, &[]);
    }
    let running = plan(&spec).start(Bundle { stdio: PIPES(), ..bundle(role.dir()) }).unwrap();
    assert_eq!(line(running.stdout.as_ref().unwrap()), "up");
    role.say("up");
    role.hear();
}

#[test]
fn killed_with_its_program() {
    run_with(&[("owner", owner)], |host| {
        for who in ["root", "user"] {
            let before = support::mountinfo();
            let mut role = host.play("owner");
            role.say(who);
            assert_eq!(role.hear().as_deref(), Some("up"));
            assert!(host.processes().len() >= 4, "{:?}", host.processes());
            role.kill();
            soon("nobody is left", || host.processes().is_empty());
            assert_eq!(support::mountinfo(), before);
        }
    });
}

#[test]
fn killed_with_the_thread_that_started_it() {
    run(|host| {
        // Root that is to have less than what bounds it gains that at exec, after the signal was armed.
        for (uid, bare) in [(0, false), (1000, false), (0, true), (1000, true)] {
            let mut spec = script("exec sleep 1000");
            user(&mut spec, uid, uid, &[]);
            if bare {
                let mut sets = process(&mut spec).capabilities().clone().unwrap();
                sets.set_effective(None).set_permitted(None);
                process(&mut spec).set_capabilities(Some(sets));
            }
            let plan = plan(&spec);
            let running = std::thread::scope(|scope| {
                let start = || plan.start(Bundle { stdio: PIPES(), ..bundle(host.dir()) }).unwrap();
                scope.spawn(start).join().unwrap()
            });
            assert_eq!(watch(running).exit, Exit::Signal(9));
        }
        // Another thread's end is nothing to it.
        let running = idle(host.dir(), |_| {});
        std::thread::spawn(|| {}).join().unwrap();
        support::end(running);
    });
}

#[test]
fn a_dropped_handle_is_not_an_end() {
    run(|host| {
        let Running { pidfd, stdin, .. } = idle(host.dir(), |_| {});
        let another = pidfd.try_clone().unwrap();
        drop(pidfd);
        assert!(!another.ended_within(Some(std::time::Duration::from_millis(20))).unwrap());
        drop(stdin);
        assert_eq!(another.reap().unwrap(), Exit::Code(0));
    });
}

#[test]
fn everything_in_it_ends_with_its_first_process() {
    run(|host| {
        let output = support::run(host.dir(), &script("setsid sleep 1000 & sleep 1000 & exit 5"));
        assert_eq!(output.exit, Exit::Code(5));
        assert_eq!(host.processes(), Vec::<String>::new());
    });
}

/// Starts a container step by step, and stops at the one it is told, for good.
fn stepping(role: &mut Role) {
    let (who, stop) = (role.hear().unwrap(), role.hear().unwrap().parse::<usize>().unwrap());
    let mut spec = script("exec sleep 1000");
    if who == "user" {
        user(&mut spec, 1000, 1000, &[10]);
    }
    spec.set_hostname(Some("boat".into()));
    let mut plan = plan(&spec);
    plan.attach("data", "/srv/data").unwrap();
    let data = coracle_host::Mount::tmpfs(&[]).unwrap();
    let (sender, receiver) = mpsc::channel();
    let stepper = Box::new(move |index| {
        if index == stop {
            sender.send(()).unwrap();
            loop {
                std::thread::park();
            }
        }
    });
    let bundle = Bundle { stepper: Some(stepper), mounts: vec![data], stdio: PIPES(), ..bundle(role.dir()) };
    let (done, started) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // The thread is the container's owner: it goes with the process.
            let running = plan.start(bundle).unwrap();
            done.send(()).unwrap();
            watch(running)
        });
        if receiver.recv().is_ok() {
            role.say("there");
        } else {
            started.recv().unwrap();
            role.say("started");
        }
        role.hear();
    });
}

#[test]
fn killed_at_every_step() {
    run_with(&[("stepping", stepping)], |host| {
        let before = support::mountinfo();
        for who in ["root", "user"] {
            let mut stops = 0;
            loop {
                let mut role = host.play("stepping");
                role.say(who);
                role.say(&stops.to_string());
                let state = role.hear().unwrap();
                // The role, and the child at its gate (or the container).
                assert_eq!(host.processes().len(), 2, "{:?}", host.processes());
                role.kill();
                soon(&format!("nobody is left after a kill at {stops}"), || host.processes().is_empty());
                assert_eq!(support::mountinfo(), before);
                if state == "started" {
                    break;
                }
                stops += 1;
            }
            let steps = Plan::container(&script("true"), &Facts::of_this_host()).unwrap().steps().len();
            // A host name and a volume more; a network namespace of its own comes with the clone, mounts are made without
            // devices, and the program is executed by one that knows no gate.
            assert_eq!(stops, steps + 2 - 3);
        }
    });
}

/// The same without a gate: the kill falls where it falls.
fn starting(role: &mut Role) {
    let plan = plan(&script("exec sleep 1000"));
    role.say("ready");
    role.hear();
    for _ in 0.. {
        let stdio = [Stdio::Null, Stdio::Null, Stdio::Null];
        let running = plan.start(Bundle { stdio, ..bundle(role.dir()) }).unwrap();
        running.pidfd.signal(9).unwrap();
        running.pidfd.reap().unwrap();
    }
}

#[test]
fn killed_at_any_time() {
    run_with(&[("starting", starting)], |host| {
        for round in 0..40u32 {
            let mut role = host.play("starting");
            assert_eq!(role.hear().as_deref(), Some("ready"));
            role.say("go");
            let until = std::time::Instant::now() + std::time::Duration::from_micros(u64::from(round) * 531);
            while std::time::Instant::now() < until {
                std::hint::spin_loop();
            }
            role.kill();
            soon("nobody is left", || host.processes().is_empty());
        }
    });
}
