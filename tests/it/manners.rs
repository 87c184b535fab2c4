//! What the embedding program notices of an engine: nothing.

use std::collections::BTreeMap;
use std::fs;

use coracle::{BuildSpec, Container, Engine, ExecSpec, Image, Network, NetworkSpec, Ready, Volume};
use coracle_testhost::run as host;

use crate::support::{engine, fails, nothing_left, says, script, tools};

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
    let status = fs::read_to_string("/proc/self/status").unwrap();
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
