//! Containers with a user namespace.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use coracle::{
    ContainerSpec, CopyOptions, ExecSpec, Exit, IdMap, IdRange, Ipc, Kind, Mount, NetworkSpec, Pids,
    VolumeSpec,
};

use crate::support::{engine, fails, process_named, run, says, script, state, tools, wrote};

/// Root inside is this user and group outside.
const ROOT: u32 = 100_000;

fn map() -> IdMap {
    let all = || [IdRange { inside: 0, outside: ROOT, count: 65_536 }];
    IdMap::new(all(), all()).unwrap()
}

fn mapped(text: &str) -> ContainerSpec {
    script(text).users(map())
}

#[test]
fn root_inside_is_nobody_outside_and_root_on_disk() {
    coracle_testhost::run(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let show = "cat /proc/self/uid_map; stat -c '%n %u:%g' / /bin /dev/null /etc/hosts /srv/deep /dev/shm; \
                    mkdir /made && touch /made/f && echo more >> /etc/hosts && stat -c %u:%g /made/f; pwd";
        let spec = mapped(&format!("{show}; echo up; exec sleep 1000")).workdir("/srv/deep");
        let container = engine.start(&spec).unwrap();
        wrote(&container, "up");
        let said = container.output().unwrap().stdout;
        let lines: Vec<&str> = said.lines().map(str::trim).collect();
        let expected = [
            "/ 0:0",
            "/bin 0:0",
            "/dev/null 0:0",
            "/etc/hosts 0:0",
            "/srv/deep 0:0",
            "/dev/shm 0:0",
            "0:0",
            "/srv/deep",
            "up",
        ];
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
        assert_eq!(lines[1..], expected, "{said}");
        // Its processes are somebody else's, here; what it wrote is root's.
        let process = std::fs::metadata(format!("/proc/{}", process_named("sleep"))).unwrap();
        assert_eq!((process.uid(), process.gid()), (ROOT, ROOT));
        let upper = state(host.dir()).join("containers").join(container.id()).join("upper");
        for name in ["made", "made/f", "srv/deep"] {
            let file = std::fs::metadata(upper.join(name)).unwrap();
            assert_eq!((file.uid(), file.gid()), (0, 0), "{name}");
        }
        // Further processes are in it, too.
        let (exit, output) = container.exec(&ExecSpec::new(["id"]).user("5:6")).unwrap();
        assert_eq!((exit, output.stdout.as_str()), (Exit::Code(0), "uid=5 gid=6 groups=6\n"));
        let (exit, output) = container.exec(&ExecSpec::new(["cat", "/proc/self/gid_map"])).unwrap();
        assert_eq!(exit, Exit::Code(0));
        assert_eq!(output.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
        container.kill().unwrap();
    });
}

#[test]
fn files_are_copied_while_it_runs() {
    coracle_testhost::run(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let container =
            engine.start(&mapped("mkdir /srv; touch /mine; echo up; exec sleep 1000").user("0")).unwrap();
        wrote(&container, "up");
        container.exec(&ExecSpec::new(["touch", "/dev/shm/theirs"]).user("5:6")).unwrap();
        let (options, dir) = (CopyOptions::new(), host.dir());
        // Out of it: this program's, as from any other; as an archive, whose the container sees.
        for path in ["/mine", "/dev/shm/theirs"] {
            container.copy_out(path, dir.join("out"), &options).unwrap();
            assert_eq!(std::fs::metadata(dir.join("out")).unwrap().uid(), 0);
        }
        let mut tar = Vec::new();
        container.pack("/dev/shm/theirs", &mut tar, &options).unwrap();
        std::fs::write(dir.join("tar"), &tar).unwrap();
        let listed =
            Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(dir.join("tar")).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains(" 5/6 "), "{listed}");
        // Into it: ids are the container's, on its root and on what it mounts.
        std::fs::create_dir(dir.join("in")).unwrap();
        std::fs::write(dir.join("in/file"), "text\n").unwrap();
        std::os::unix::fs::chown(dir.join("in/file"), Some(7), Some(8)).unwrap();
        for place in ["/srv", "/dev/shm"] {
            container.copy_in(dir.join("in"), place, &options).unwrap();
            container.unpack(tar.as_slice(), place, &options).unwrap();
        }
        let look = "cd /srv; stat -c '%n %u:%g' in in/file theirs; cat in/file; cd /dev/shm; stat -c %u:%g in/file theirs";
        let (exit, said) = container.exec(&ExecSpec::new(["sh", "-c", look])).unwrap();
        let expected = "in 0:0\nin/file 7:8\ntheirs 5:6\ntext\n7:8\n5:6\n";
        assert_eq!((exit, said.stdout.as_str()), (Exit::Code(0), expected), "{}", said.stderr);
        let as_user = CopyOptions::new().as_user();
        container.copy_in(dir.join("in/file"), "/srv/own", &as_user).unwrap();
        let (_, said) = container.exec(&ExecSpec::new(["stat", "-c", "%u:%g", "/srv/own"])).unwrap();
        assert_eq!(said.stdout, "0:0\n");
        // On disk they are as in any other container's.
        let upper = state(host.dir()).join("containers").join(container.id()).join("upper");
        assert_eq!(std::fs::metadata(upper.join("srv/in/file")).unwrap().uid(), 7);
        // Whom it does not know.
        std::os::unix::fs::chown(dir.join("in/file"), Some(70_000), Some(8)).unwrap();
        let text = fails(
            container.copy_in(dir.join("in/file"), "/srv/none", &options),
            Kind::Invalid,
            &["owner 70000:8 is none of the user namespace's"],
        );
        assert!(text.contains("in/file"), "{text}");
        container.kill().unwrap();
    });
}

#[test]
fn volumes_and_networks_are_its_own() {
    coracle_testhost::run(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let volume = engine.volume(&VolumeSpec::new("data")).unwrap();
        let network = engine.network(&NetworkSpec::new("net")).unwrap();
        let outside = host.dir().join("outside");
        std::fs::create_dir(&outside).unwrap();
        let text = "touch /data/f && stat -c %u:%g /data /data/f; stat -c %u:%g /scratch && touch /scratch/f; \
             stat -c %u:%g /outside; touch /outside/f 2>/dev/null || echo refused; \
             cat /proc/sys/net/ipv4/ip_forward >/dev/null; ls /sys/class/net | while read n; do echo $n; done";
        let spec = ContainerSpec::new("tools").command(["sh", "-c", text]).users(map());
        let spec = spec.volume(&volume, "/data").network(&network);
        let spec = spec.mount(Mount::tmpfs("/scratch")).mount(Mount::bind(&outside, "/outside"));
        let said = says(&engine, &spec);
        assert_eq!(said, "0:0\n0:0\n0:0\n65534:65534\nrefused\neth0\nlo\n");
        // One without a user namespace finds what it made.
        let said = says(&engine, &script("stat -c %u:%g /data/f").volume(&volume, "/data"));
        assert_eq!(said, "0:0\n");
    });
}

#[test]
fn what_does_not_go_together_is_refused() {
    coracle_testhost::run(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let cases = [
            (mapped("true").pids(Pids::Host), "cannot share another PID namespace"),
            (mapped("true").ipc(Ipc::Host), "cannot share another IPC namespace"),
            (mapped("true").host_uts(), "cannot share the host's UTS namespace"),
            (mapped("true").host_network(), "cannot share another network namespace"),
            (mapped("true").privileged(), "privileged mode is incompatible with user namespaces"),
        ];
        for (spec, text) in cases {
            fails(engine.start(&spec), Kind::Invalid, &[text]);
        }
        let one = || [IdRange { inside: 5, outside: 5, count: 1 }];
        let rootless = script("true").users(IdMap::new(one(), one()).unwrap());
        fails(engine.start(&rootless), Kind::Invalid, &["users(): 0 is not mapped"]);
        let small = || [IdRange { inside: 0, outside: ROOT, count: 10 }];
        let stranger = script("true").users(IdMap::new(small(), small()).unwrap()).user("11");
        fails(engine.start(&stranger), Kind::Invalid, &["process.user: the user 11 is not mapped"]);
        let (exit, _) = run(&engine, &script("true"));
        assert_eq!(exit, Exit::Code(0));
    });
}
