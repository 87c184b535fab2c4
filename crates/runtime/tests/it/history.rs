//! Ways out that others had, and that no other test is about (SECURITY.md, "The field's history").

use std::os::unix::fs::MetadataExt;

use coracle_host::Namespace;
use coracle_runtime::Bundle;
use coracle_testhost::run;

use crate::support::{PIPES, bundle, line, overlay, plan, process, run as run_in, script, user, watch};

/// CVE-2020-15257: a socket with an abstract name is everybody's who is in the same network namespace. Nobody is but those who
/// ask for the host's; and a launch leaves none.
#[test]
fn abstract_sockets_are_the_networks() {
    run(|host| {
        let name = rustix::net::SocketAddrUnix::new_abstract_name(b"coracle-test-15257").unwrap();
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None);
        let socket = socket.unwrap();
        rustix::net::bind(&socket, &name).unwrap();
        rustix::net::listen(&socket, 1).unwrap();
        let show = "grep -c ' @coracle-test-15257$' /proc/net/unix; grep -c ' @' /proc/net/unix; exit 0";
        assert_eq!(run_in(host.dir(), &script(show)).ok(), "0\n0\n");
        let mut spec = script(show);
        let linux = spec.linux_mut().as_mut().unwrap();
        let mut namespaces = linux.namespaces().clone().unwrap();
        namespaces.retain(|one| one.typ() != oci_spec::runtime::LinuxNamespaceType::Network);
        linux.set_namespaces(Some(namespaces));
        assert_eq!(run_in(host.dir(), &spec).ok(), "1\n1\n");
        // While one is held at its gate and runs, there is no other than this test's in the host's namespace.
        let net = Namespace::current_net().unwrap();
        let idle = script("echo up; read line; exit 0");
        let stdio =
            [coracle_runtime::Stdio::Pipe, coracle_runtime::Stdio::Pipe, coracle_runtime::Stdio::Null];
        let running = plan(&idle).start(Bundle { stdio, net: Some(net), ..bundle(host.dir()) }).unwrap();
        assert_eq!(line(running.stdout.as_ref().unwrap()), "up");
        let table = std::fs::read_to_string("/proc/thread-self/net/unix").unwrap();
        let names: Vec<&str> =
            table.lines().filter_map(|line| line.split_once(" @")).map(|two| two.1).collect();
        assert_eq!(names, ["coracle-test-15257"]);
        watch(running);
    });
}

/// CVE-2021-43784: lengths that don't fit where they are written, 16 bits of a netlink attribute there. Here they are those of
/// lists in memory: what is longer than that arrives whole.
#[test]
fn what_is_long_arrives_whole() {
    run(|host| {
        let long = "x".repeat(100_000);
        let text = "echo $#; echo ${#1} ${#LONG}; id -G | wc -w; wc -c < /proc/$$/environ";
        let mut spec = script(text);
        let mut args: Vec<String> = ["/bin/bash", "-c", text, "name", &long].map(str::to_owned).into();
        args.extend((0..70_000).map(|number: u32| (number % 10).to_string()));
        process(&mut spec).set_args(Some(args)).set_env(Some(vec![
            "PATH=/bin:/usr/bin".to_owned(),
            format!("LONG={long}"),
            "LAST=end".to_owned(),
        ]));
        crate::support::user(&mut spec, 0, 0, &(1..=65_000).collect::<Vec<u32>>());
        let output = plan(&spec).start(Bundle { stdio: PIPES(), ..bundle(host.dir()) }).map(watch).unwrap();
        let said = output.ok();
        let said: Vec<&str> = said.lines().collect();
        assert_eq!(said[..3], ["70001", "100000 100000", "65001"]);
        let environ = "PATH=/bin:/usr/bin".len() + 1 + "LONG=".len() + long.len() + 1 + "LAST=end".len() + 1;
        assert!(said[3].parse::<usize>().unwrap() >= environ, "{said:?}");
    });
}

/// CVE-2026-41579, CVE-2026-88264 and CVE-2026-88265: an image whose `/dev`, or whose nodes in it, are links to the host's. What is
/// made for a container is made inside, or nothing is.
#[test]
fn links_in_place_of_devices_lead_nowhere() {
    run(|host| {
        let outside = host.dir().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("null"), "the host's").unwrap();
        let listed = || {
            let names = std::fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name());
            (names.collect::<Vec<_>>(), std::fs::metadata(outside.join("null")).unwrap().uid())
        };
        let before = listed();
        let link = |root: &std::path::Path, name: &str, to: &std::path::Path| {
            let at = root.join(name);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(to, at).unwrap();
        };
        for (name, to) in [("dev", ""), ("dev/console", "console"), ("dev/null", "null")] {
            for terminal in [false, true] {
                let (root, upper) = overlay(host.dir());
                let mut spec = script("stat -L -c %F /proc/self/fd/0; echo x > /dev/null; exit 0");
                user(&mut spec, 7, 7, &[]);
                process(&mut spec).set_terminal(Some(terminal));
                // Without a file system of its own there.
                let own =
                    |mount: &oci_spec::runtime::Mount| mount.destination() == std::path::Path::new("/dev");
                spec.mounts_mut().as_mut().unwrap().retain(|mount| !own(mount));
                link(&upper, name, &outside.join(to));
                let stdio = if terminal { Default::default() } else { PIPES() };
                let started = plan(&spec).start(Bundle { stdio, ..Bundle::new(root) });
                if let Ok(running) = started {
                    watch(running);
                }
                assert_eq!(listed(), before, "{name} {terminal}");
                assert_eq!(std::fs::read(outside.join("null")).unwrap(), b"the host's");
            }
        }
        // Standard streams that lead nowhere lead to this host's own device, whatever the image has there.
        let (root, upper) = overlay(host.dir());
        link(&upper, "dev/null", &outside.join("null"));
        let mut spec = script("stat -L -c '%F %t:%T' /proc/self/fd/0");
        user(&mut spec, 7, 7, &[]);
        let bundle = Bundle { stdio: PIPES(), ..Bundle::new(root) };
        assert_eq!(watch(plan(&spec).start(bundle).unwrap()).ok(), "character special file 1:3\n");
    });
}
