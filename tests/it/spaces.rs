//! Namespaces that are the host's or another container's.

use std::fs;

use coracle::{Container, ContainerSpec, Engine, ExecSpec, Exit, Ipc, Kind, Pids};

use crate::support::{engine, fails, refuses, run, says, script, tools, wrote};

fn space(kind: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()
}

/// A container that is there until it is killed.
fn idle(engine: &Engine, name: &str, spec: ContainerSpec) -> Container {
    let container = engine.start(&spec.name(name)).unwrap();
    wrote(&container, "up");
    container
}

fn waiting() -> ContainerSpec {
    script("echo up; exec sleep 1000")
}

#[test]
fn the_hosts_processes_and_what_is_left_of_its_own() {
    coracle_testhost::run(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let show = "readlink /proc/self/ns/pid; cat /proc/1/comm; sleep 1000 & echo $!";
        let container = engine.start(&script(show).pids(Pids::Host)).unwrap();
        // Its first process ends, and what it left in the background with it: else this never returns.
        assert_eq!(container.wait().unwrap(), Exit::Code(0));
        let said = container.output().unwrap().stdout;
        let said: Vec<&str> = said.lines().collect();
        let own = fs::read_to_string("/proc/1/comm").unwrap();
        assert_eq!(said[..2], [space("pid").as_str(), own.trim_end()]);
        // An orphan comes to this host's first process, which is this one.
        let orphan = rustix::process::Pid::from_raw(said[2].parse().unwrap());
        let (_, status) =
            rustix::process::waitpid(orphan, rustix::process::WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.terminating_signal(), Some(9));
    });
}

#[test]
fn another_containers_processes() {
    coracle_testhost::run(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let first = idle(&engine, "first", waiting());
        let show = "echo $$; cat /proc/1/comm; readlink /proc/self/ns/pid /proc/1/ns/pid; cat /proc/kcore | head -c 1";
        let said = says(&engine, &script(show).pids(Pids::Container("first".into())));
        let said: Vec<&str> = said.lines().collect();
        // It has a proc of that namespace, with what is masked masked.
        assert_eq!((said[1], said.len()), ("sleep", 4), "{said:?}");
        assert!(said[0] != "1" && said[2] == said[3] && said[2] != space("pid"), "{said:?}");
        // It is killed with the first process of the namespace, and is seen by a process that joins it.
        let second = idle(&engine, "second", waiting().pids(Pids::Container(first.id().into())));
        let (exit, output) = second.exec(&ExecSpec::new(["cat", "/proc/1/cmdline"])).unwrap();
        assert_eq!((exit, output.stdout.as_str()), (Exit::Code(0), "sleep\x001000\0"));
        first.kill().unwrap();
        assert_eq!(second.wait().unwrap(), Exit::Signal(9));
        drop(first);
        let gone = script("true").pids(Pids::Container("first".into()));
        fails(engine.start(&gone), Kind::NotFound, &["no such container: first"]);
    });
}

#[test]
fn memory_is_shared_by_those_who_may() {
    coracle_testhost::run(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let first = idle(
            &engine,
            "first",
            script("echo hello > /dev/shm/x; echo up; exec sleep 1000").ipc(Ipc::Shareable),
        );
        let other = || Ipc::Container("first".into());
        let show = "cat /dev/shm/x; readlink /proc/self/ns/ipc; echo more > /dev/shm/y";
        let said = says(&engine, &script(show).ipc(other()));
        let theirs = first.exec(&ExecSpec::new(["readlink", "/proc/self/ns/ipc"])).unwrap().1.stdout;
        assert_eq!(said, format!("hello\n{theirs}"));
        assert_eq!(first.exec(&ExecSpec::new(["cat", "/dev/shm/y"])).unwrap().1.stdout, "more\n");
        drop(first);
        let private = idle(&engine, "first", waiting());
        let text = refuses(host.dir(), Kind::Denied, &["share the IPC", "not shareable"], || {
            engine.start(&script("true").ipc(other()).retain())
        });
        assert!(text.contains(&private.id()[..12]), "{text}");
        drop(private);
        let stat = "readlink /proc/self/ns/ipc; stat -c %d:%i /dev/shm";
        let own = fs::metadata("/dev/shm").unwrap();
        let own = {
            use std::os::unix::fs::MetadataExt;
            format!("{}\n{}:{}\n", space("ipc"), own.dev(), own.ino())
        };
        assert_eq!(says(&engine, &script(stat).ipc(Ipc::Host)), own);
        let mounted = "while read a b c d at rest; do case $at in /dev/shm) echo $at; esac; done < /proc/self/mountinfo";
        assert_eq!(says(&engine, &script(mounted).ipc(Ipc::None)), "");
        assert_eq!(says(&engine, &script(mounted)), "/dev/shm\n");
    });
}

#[test]
fn names_and_groups_of_the_host() {
    coracle_testhost::run(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let name = rustix::system::uname().nodename().to_str().unwrap().to_owned();
        let show = "readlink /proc/self/ns/uts; cat /etc/hostname; echo $HOSTNAME";
        let said = says(&engine, &script(show).host_uts());
        assert_eq!(said, format!("{}\n{name}\n{name}\n", space("uts")));
        let both = script("true").host_uts().hostname("x");
        fails(engine.start(&both), Kind::Invalid, &["conflicting options"]);
        let group = "readlink /proc/self/ns/cgroup; cat /proc/self/cgroup";
        let whole = engine.start(&script(group).host_cgroups()).unwrap();
        whole.wait().unwrap();
        let text = whole.output().unwrap().stdout;
        assert!(text.starts_with(&space("cgroup")) && text.contains(whole.id()), "{text}");
        let (_, own) = run(&engine, &script(group));
        assert!(!own.stdout.starts_with(&space("cgroup")) && own.stdout.contains(":/\n"), "{own:?}");
    });
}

/// A plan shows what a start does: its control group, its filter and its init among it.
#[test]
fn a_plan_has_all_of_a_start() {
    coracle_testhost::run(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let lines = |spec: &ContainerSpec| engine.plan(spec).unwrap().to_string();
        let plan = lines(&script("true").init());
        for step in ["enter the control group", "new cgroup namespace", "seccomp default", "stay as init"] {
            assert!(plan.contains(step), "{step}: {plan}");
        }
        let open = lines(&script("true").privileged().host_cgroups().pids(Pids::Host).ipc(Ipc::None));
        for step in ["new cgroup namespace", "seccomp default", "stay as init", "./dev/shm", "mask directory"]
        {
            assert!(!open.contains(step), "{step}: {open}");
        }
    });
}

#[test]
fn further_groups_are_looked_up_in_the_image() {
    coracle_testhost::run(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let show = ["cat", "/proc/self/status"];
        let spec = script("cat /proc/self/status; echo up; exec sleep 1000");
        let spec = spec.user("7:8").group("4711").group("8");
        let container = idle(&engine, "c", spec);
        // Its own group is one of them: no setgid program takes that off.
        let shown =
            |said: &str, groups: &str| assert!(said.contains(&format!("Groups:\t{groups} \n")), "{said}");
        shown(&container.output().unwrap().stdout, "8 4711");
        shown(&container.exec(&ExecSpec::new(show)).unwrap().1.stdout, "8 4711");
        shown(&container.exec(&ExecSpec::new(show).user("5:6")).unwrap().1.stdout, "6 8 4711");
        let unknown = engine.start(&script("true").group("nosuch"));
        fails(unknown, Kind::NotFound, &["group `nosuch`", "/etc/group"]);
    });
}
