//! Many at once.

use std::fs;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use coracle_host::Kind;
use coracle_testhost::{Role, run, run_with};
use coracle_volume::VolumeSpec;

use crate::{State, below};

#[test]
fn one_creates_and_all_get_it() {
    run(|host| {
        let state = State::open(host.dir());
        for round in 0..20 {
            let name = format!("db{round}");
            let barrier = Barrier::new(16);
            let made = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for number in 0..16 {
                    let (state, name, barrier, made) = (&state, &name, &barrier, &made);
                    scope.spawn(move || {
                        barrier.wait();
                        if number % 2 == 0 {
                            let volume = state.volumes.open(&VolumeSpec::new(name)).unwrap();
                            fs::write(volume.path().join(number.to_string()), "x").unwrap();
                        } else {
                            match state.volumes.create(&VolumeSpec::new(name)) {
                                Ok(_) => drop(made.fetch_add(1, Ordering::Relaxed)),
                                Err(error) => assert_eq!(error.kind(), Kind::AlreadyExists, "{error}"),
                            }
                        }
                    });
                }
            });
            assert!(made.into_inner() <= 1);
            let path = state.volumes.find(&name).unwrap().unwrap().path();
            assert_eq!(fs::read_dir(path).unwrap().count(), 8, "all wrote into the same one");
        }
    });
}

/// Opens, borrows, writes, looks, gives back, removes. Whatever the others do meanwhile: what was written is
/// there as long as it is borrowed.
fn churn(state: &State, me: &str, rounds: usize) -> usize {
    let mut written = 0;
    for round in 0..rounds {
        let volume = state.volumes.open(&VolumeSpec::new("db")).unwrap();
        match volume.lend(me) {
            Ok(loan) => {
                let row = below(&loan, &format!("{me}-{round}"));
                fs::write(&row, me).unwrap();
                assert!(volume.users().unwrap().iter().any(|user| user == me));
                let error = state.volumes.remove("db").unwrap_err();
                assert_eq!(error.kind(), Kind::InUse, "{error}");
                assert_eq!(fs::read_to_string(&row).unwrap(), me);
                let found = state.volumes.find("db").unwrap().unwrap();
                assert!(found.path().join(row.file_name().unwrap()).exists(), "still the same volume");
                written += 1;
            }
            Err(error) => assert_eq!(error.kind(), Kind::NotFound, "{error}"),
        }
        match state.volumes.remove("db") {
            Ok(()) => {}
            Err(error) => assert!(matches!(error.kind(), Kind::NotFound | Kind::InUse), "{error}"),
        }
    }
    written
}

#[test]
fn sixteen_threads_create_lend_and_remove() {
    run(|host| {
        let state = State::open(host.dir());
        let written: usize = std::thread::scope(|scope| {
            let threads = (0..16).map(|number| {
                let state = &state;
                scope.spawn(move || churn(state, &format!("thread {number}"), 40))
            });
            threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(written > 0);
        state.volumes.open(&VolumeSpec::new("db")).unwrap();
        state.volumes.remove("db").unwrap();
        assert!(state.volumes.names().unwrap().is_empty());
    });
}

fn churner(role: &mut Role) {
    let state = State::open(role.dir());
    let me = role.hear().unwrap();
    role.say("ready");
    role.hear();
    churn(&state, &me, usize::MAX);
}

#[test]
fn killed_processes_are_in_nobodys_way() {
    run_with(&[("churner", churner)], |host| {
        let state = State::open(host.dir());
        let mut players: Vec<_> = (0..6).map(|_| host.play("churner")).collect();
        for (number, player) in players.iter_mut().enumerate() {
            player.say(&format!("process {number}"));
            assert_eq!(player.hear().as_deref(), Some("ready"));
        }
        players.iter_mut().for_each(|player| player.say("go"));
        for player in players {
            churn(&state, "test", 20);
            player.kill();
        }
        churn(&state, "test", 20);
        state.reclaim();
        assert_eq!(state.corners(), 1);
        assert!(state.volumes.names().unwrap().is_empty());
    });
}
