//! What the embedding program notices of an engine, and an engine of its program: nothing.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use coracle::{BuildSpec, Container, Engine, ExecSpec, Exit, Image, Network, NetworkSpec, Ready, Volume};
use coracle_testhost::{Role, run as host, run_with};

use crate::support::{engine, fails, nothing_left, run, says, script, tools};

#[test]
fn handles_go_between_threads() {
    fn anywhere<T: Send + Sync>() {}
    fn cheap<T: Clone>() {}
    anywhere::<Engine>();
    anywhere::<Container>();
    anywhere::<(Image, Network, Volume)>();
    anywhere::<coracle::Error>();
    cheap::<Engine>();
}

/// What a program is, apart from what the test host compares anyway (mounts, links, locks, children).
fn self_portrait() -> Vec<String> {
    let mut picture = vec![format!("{:?}", std::env::current_dir().unwrap())];
    // Of this thread: libtest's main thread changes its own mask while it starts us.
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let keep =
        ["Umask", "Uid", "Gid", "Groups", "SigB", "SigI", "SigC", "Cap", "NoNewPrivs", "Seccomp", "Threads"];
    let lines = status.lines().filter(|line| keep.iter().any(|key| line.starts_with(key)));
    picture.extend(lines.map(str::to_owned));
    for link in ["root", "ns/mnt", "ns/net", "ns/pid", "ns/pid_for_children", "ns/uts", "ns/ipc", "ns/cgroup"]
    {
        picture.push(format!("{link} {:?}", fs::read_link(format!("/proc/thread-self/{link}")).unwrap()));
    }
    for file in ["limits", "oom_score_adj", "coredump_filter", "cgroup"] {
        picture.push(format!("{file} {}", fs::read_to_string(format!("/proc/self/{file}")).unwrap()));
    }
    picture.extend(open_files());
    picture
}

fn open_files() -> Vec<String> {
    let numbers = fs::read_dir("/proc/self/fd").unwrap().map(|fd| fd.unwrap().path());
    let mut files: Vec<String> =
        numbers.filter_map(|fd| Some(format!("{fd:?} {:?}", fs::read_link(&fd).ok()?))).collect();
    files.sort();
    files
}

#[test]
fn after_a_whole_story_the_program_is_as_before() {
    host(|host| {
        // What the standard library opens once and for all is there before.
        let _ = std::collections::hash_map::RandomState::new();
        let environment = || std::env::vars_os().collect::<BTreeMap<_, _>>();
        let (before, variables) = (self_portrait(), environment());
        {
            let engine = engine(host.dir());
            let other = engine.clone();
            tools(&engine);
            let dockerfile = "FROM tools\nRUN echo x > /x\nVOLUME /data\n";
            engine.build(&BuildSpec::without_context(dockerfile).tag("app"), |_| {}).unwrap();
            let sea = engine.network(&NetworkSpec::new("sea")).unwrap();
            let spec = script("umask; echo up; exec sleep 100").network(&sea).volume("data", "/data");
            let container = other.start(&spec.name("x").ready(Ready::log("up"))).unwrap();
            container.exec(&ExecSpec::new(["id"])).unwrap();
            says(&engine, &script("getent hosts x").network(&sea));
            fails(engine.start(&script("").command(["/no/such"])), coracle::Kind::NotFound, &["/no/such"]);
            container.kill().unwrap();
            drop(container);
            engine.remove_network("sea").unwrap();
        }
        let after = self_portrait();
        let changed: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        assert!(changed.is_empty() && before.len() == after.len(), "{changed:#?}");
        assert!(environment() == variables, "no values are printed here");
        nothing_left(host.dir());
    });
}

#[test]
fn the_programs_umask_is_its_own_business() {
    host(|host| {
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let engine = engine(host.dir());
        tools(&engine);
        let dockerfile = "FROM tools\nWORKDIR /made/here\nRUN umask > /umask; mkdir /dir; touch /file\nCOPY --from=tools /etc/passwd /copied/\n";
        engine.build(&BuildSpec::without_context(dockerfile).tag("app"), |_| {}).unwrap();
        let look = "cat /umask; umask; stat -c '%a %n' / /made /made/here /dir /file /copied /data /etc/hosts /dev/shm /tmp";
        let spec = coracle::ContainerSpec::new("app").command(["sh", "-c", look]).no_network();
        let spec = spec.volume("data", "/data").user("7");
        let seen = says(&engine, &spec);
        let lines: Vec<&str> = seen.lines().collect();
        assert_eq!(
            lines,
            [
                "0022",
                "0022",
                "755 /",
                "755 /made",
                "755 /made/here",
                "755 /dir",
                "644 /file",
                "755 /copied",
                "755 /data",
                "644 /etc/hosts",
                "1777 /dev/shm",
                "1777 /tmp"
            ]
        );
        rustix::process::umask(before);
    });
}

#[test]
fn many_threads_share_an_engine() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        std::thread::scope(|scope| {
            let says = |number: usize| {
                let engine = engine.clone();
                move || says(&engine, &script(&format!("echo {number}; echo $$")).network("bridge"))
            };
            let threads: Vec<_> = (0..8).map(|number| scope.spawn(says(number))).collect();
            for (number, thread) in threads.into_iter().enumerate() {
                assert_eq!(thread.join().unwrap(), format!("{number}\n1\n"));
            }
        });
        drop(engine);
        nothing_left(host.dir());
    });
}

/// A program may wait for all children there are. It then takes statuses that are not its own.
#[test]
fn a_program_that_reaps_everything_is_no_harm() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = rustix::process::wait(rustix::process::WaitOptions::NOHANG);
                }
            });
            let exits: Vec<Exit> = (0..20)
                .map(|_| {
                    let container = engine.start(&script("exit 7")).unwrap();
                    container.wait().unwrap()
                })
                .collect();
            let sleeper = engine.start(&script("exec sleep 100")).unwrap();
            let (exec, output) = sleeper.exec(&ExecSpec::new(["sh", "-c", "echo out; exit 3"])).unwrap();
            sleeper.kill().unwrap();
            done.store(true, Ordering::Relaxed);
            assert!(exits.iter().all(|exit| matches!(exit, Exit::Code(7) | Exit::Unknown)), "{exits:?}");
            assert!(
                matches!(exec, Exit::Code(3) | Exit::Unknown) && output.stdout == "out\n",
                "{exec} {output:?}"
            );
        });
    });
}

/// A daemon may have closed its standard streams. What is opened then gets their numbers.
fn streamless(role: &mut Role) {
    for number in 0..3 {
        // SAFETY: nothing in this process uses them; the line to the test has a number of its own.
        unsafe { rustix::io::close(number) };
    }
    let engine = engine(role.dir());
    let (exit, output) = run(&engine, &script("cat; echo out; echo err >&2; exit 3"));
    role.say(&format!("{exit} {output:?}"));
    let sleeper = engine.start(&script("exec sleep 100").network("bridge")).unwrap();
    let (exit, output) =
        sleeper.exec(&ExecSpec::new(["sh", "-c", "cat; echo out; echo err >&2; exit 4"])).unwrap();
    role.say(&format!("{exit} {output:?}"));
    let dockerfile = "FROM tools\nRUN cat; echo out > /dev/stdout; echo err >&2\n";
    let built = engine.build(&BuildSpec::without_context(dockerfile), |_| {});
    role.say(&format!("{:?}", built.map(|built| built.steps.len())));
}

#[test]
fn a_program_without_standard_streams_is_no_harm() {
    run_with(&[("streamless", streamless)], |host| {
        tools(&engine(host.dir()));
        let mut role = host.play("streamless");
        let output = "Output { stdout: \"out\\n\", stderr: \"err\\n\" }";
        assert_eq!(role.hear().unwrap(), format!("exit status 3 {output}"));
        assert_eq!(role.hear().unwrap(), format!("exit status 4 {output}"));
        assert_eq!(role.hear().unwrap(), "Ok(2)");
        role.join();
    });
}
