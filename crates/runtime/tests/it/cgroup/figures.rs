//! What is counted, and what it costs.

use std::time::{Duration, Instant};

use coracle_runtime::Bundle;
use coracle_runtime::cgroup::{Extent, Hierarchies, Place, Plan};
use coracle_testhost::run;
use oci_spec::runtime::LinuxResources;

use super::{end, heard, kinds, make, spawn};

#[test]
fn use_is_counted() {
    run(|_| {
        kinds(|host| {
            let group = make(host, "counted", "{}");
            let before = group.stats().unwrap();
            assert!(before.cpu.as_ref().is_none_or(|cpu| cpu.total < Duration::from_millis(1)), "{before:?}");
            let child = spawn(
                &group,
                "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; echo done; read x </dev/zero",
            );
            assert_eq!(heard(&child), "done");
            let stats = group.stats().unwrap();
            let cpu = stats.cpu.unwrap();
            assert!(
                cpu.total > Duration::from_millis(1) && cpu.user + cpu.system < cpu.total * 10,
                "{cpu:?}"
            );
            if let Some(memory) = stats.memory {
                assert!(memory.usage > 4096 && memory.limit.is_none(), "{memory:?}");
                assert!(memory.working_set() <= memory.usage);
            }
            if let Some(pids) = stats.pids {
                assert_eq!((pids.current, pids.limit), (1, None));
            }
            assert_eq!(host.of("memory").is_some(), before.memory.is_some());
            assert_eq!(host.of("pids").is_some(), before.pids.is_some());
            end(group, child);
        });
    });
}

/// `cargo test -p coracle-runtime --release --test it -- --ignored --nocapture figures::costs`
#[test]
#[ignore = "prints figures"]
#[expect(clippy::print_stdout, reason = "that is what it is for")]
fn costs() {
    run(|_| {
        kinds(|host| {
            let place = Place::new("cost").unwrap();
            let mut times: [Vec<Duration>; 5] = Default::default();
            for _ in 0..300 {
                let mut start = Instant::now();
                let mut lap = |times: &mut Vec<Duration>| {
                    times.push(std::mem::replace(&mut start, Instant::now()).elapsed())
                };
                let plan = Plan::new(&place, &LinuxResources::default(), host, Extent::Standard).unwrap();
                lap(&mut times[0]);
                let group = plan.make().unwrap();
                lap(&mut times[1]);
                let entrance = group.entrance().unwrap();
                lap(&mut times[2]);
                std::thread::scope(|scope| {
                    let enter = || {
                        let start = Instant::now();
                        entrance
                            .joins()
                            .for_each(|door| assert_eq!(rustix::io::write(door, b"0").unwrap(), 1));
                        start.elapsed()
                    };
                    times[3].push(scope.spawn(enter).join().unwrap());
                });
                drop(entrance);
                let start = Instant::now();
                group.remove().unwrap();
                times[4].push(start.elapsed());
            }
            for (name, times) in ["plan", "make", "open", "enter", "remove"].iter().zip(&mut times) {
                times.sort();
                println!("{name}: {:?} (median of {})", times[times.len() / 2], times.len());
            }
            let start = Instant::now();
            let found = Hierarchies::of_this_host().unwrap();
            println!("facts: {:?}, {} hierarchies", start.elapsed(), found.iter().count());
        });
    });
}

/// As [`costs`], of whole containers: from nothing to nothing, without and with a group.
#[test]
#[ignore = "prints figures"]
#[expect(clippy::print_stdout, reason = "that is what it is for")]
fn starts() {
    run(|test| {
        let (host, _room) = super::machine();
        let alone = crate::support::command(&["/bin/true"]);
        let mut grouped = alone.clone();
        grouped.linux_mut().as_mut().unwrap().set_cgroups_path(Some("/coracle-start".into()));
        let plans = [crate::support::plan(&alone), crate::support::plan(&grouped)];
        let place = Place::new("start").unwrap();
        let mut times: [Vec<Duration>; 8] = Default::default();
        for _ in 0..200 {
            for ((plan, with), times) in plans.iter().zip([false, true]).zip(times.chunks_mut(4)) {
                let bundle = crate::support::bundle(test.dir());
                let mut start = Instant::now();
                let mut lap =
                    |part: usize| times[part].push(std::mem::replace(&mut start, Instant::now()).elapsed());
                let group = with.then(|| {
                    Plan::new(&place, &LinuxResources::default(), &host, Extent::Standard)
                        .unwrap()
                        .make()
                        .unwrap()
                });
                let entrance = group.as_ref().map(|group| group.entrance().unwrap());
                lap(0);
                let running = plan.start(Bundle { group: entrance, ..bundle }).unwrap();
                lap(1);
                assert!(running.pidfd.reap().unwrap().success());
                lap(2);
                if let Some(group) = group {
                    group.remove().unwrap();
                }
                lap(3);
            }
        }
        let names = ["make", "start", "reap", "remove"]
            .map(|part| ["without", "with"].map(|which| format!("{part} {which}")));
        let order = [0, 4, 1, 5, 2, 6, 3, 7];
        for (name, index) in names.iter().flatten().zip(order) {
            let times = &mut times[index];
            times.sort();
            println!("{name}: {:?} (median of {})", times[times.len() / 2], times.len());
        }
    });
}
