//! Namespaces of others, further groups, and what `inspect` tells of what a container was given.

use crate::support::Cli;

#[test]
fn what_was_asked_for_holds_over_a_restart() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        cli.ok(&["run", "-d", "--name", "a", "--ipc", "shareable", "base", "sleep", "1000"]);
        let show =
            "id -G; readlink /proc/self/ns/uts; cat /proc/1/comm; ls /dev/shm; echo up; exec sleep 1000";
        let mut create = vec!["create", "--name", "b", "--pid", "container:a", "--ipc", "container:a"];
        create.extend(["--uts", "host", "--cgroupns", "host", "--userns", "host", "--group-add", "77"]);
        create.extend(["base", "sh", "-c", show]);
        cli.ok(&create);
        cli.ok(&["exec", "a", "touch", "/dev/shm/there"]);
        let uts = std::fs::read_link("/proc/self/ns/uts").unwrap();
        let once = format!("0 77\n{}\nsleep\nthere\nup\n", uts.display());
        cli.ok(&["start", "b"]);
        cli.wait_for("b", "up");
        assert_eq!(cli.ok(&["logs", "b"]), once);
        cli.ok(&["restart", "-t", "0", "b"]);
        let format = "{{.HostConfig.PidMode}} {{.HostConfig.IpcMode}} {{.HostConfig.UTSMode}} \
                      {{.HostConfig.CgroupnsMode}} {{.HostConfig.GroupAdd}}";
        let id = cli.ok(&["inspect", "-f", "{{.Id}}", "a"]);
        let id = id.trim();
        let expected = format!("container:{id} container:{id} host host [77]\n");
        assert_eq!(cli.ok(&["inspect", "-f", format, "b"]), expected);
        cli.ok(&["stop", "-t", "0", "b"]);
        assert_eq!(cli.ok(&["logs", "b"]), format!("{once}{once}"));
        cli.ok(&["rm", "-f", "a", "b"]);
        let gone = cli.fails(125, &["run", "--rm", "--pid", "container:a", "base", "true"]);
        assert!(gone.contains("no such container: a"), "{gone}");
    });
}

#[test]
fn what_it_was_given_is_told_as_docker_tells_it() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let words = "create --name c -m 32m --cpus 0.5 --pids-limit 20 --cap-add SYS_TIME --cap-drop all --read-only \
                     --security-opt no-new-privileges --security-opt seccomp=unconfined --device /dev/null:/dev/x:r \
                     --ulimit nofile=1:2 --shm-size 1m --sysctl net.ipv4.ip_forward=1 --init --oom-score-adj 7 \
                     --add-host far:10.9.8.7 --log-opt max-size=1m --userns host --cgroup-parent /p \
                     --security-opt apparmor=unconfined --security-opt label=disable base true";
        cli.ok(&words.split_whitespace().collect::<Vec<_>>());
        let table = [
            ("Memory", "33554432"),
            ("MemorySwap", "67108864"),
            ("NanoCpus", "500000000"),
            ("CpuQuota", "0"),
            ("PidsLimit", "20"),
            ("CapAdd", "[\"CAP_SYS_TIME\"]"),
            ("CapDrop", "[\"ALL\"]"),
            ("ReadonlyRootfs", "true"),
            ("Privileged", "false"),
            (
                "SecurityOpt",
                "[\"no-new-privileges\",\"apparmor=unconfined\",\"label=disable\",\"seccomp=unconfined\"]",
            ),
            (
                "Devices",
                "[{\"PathOnHost\":\"/dev/null\",\"PathInContainer\":\"/dev/x\",\"CgroupPermissions\":\"r\"}]",
            ),
            ("Ulimits", "[{\"Name\":\"nofile\",\"Hard\":2,\"Soft\":1}]"),
            ("ShmSize", "1048576"),
            ("Sysctls", "{\"net.ipv4.ip_forward\":\"1\"}"),
            ("Init", "true"),
            ("OomScoreAdj", "7"),
            ("IpcMode", "\"private\""),
            ("PidMode", "\"\""),
            ("UTSMode", "\"\""),
            ("UsernsMode", "\"host\""),
            ("CgroupParent", "\"/p\""),
            ("GroupAdd", "null"),
            ("ExtraHosts", "[\"far:10.9.8.7\"]"),
        ];
        for (name, value) in table {
            let format = format!("{{{{json .HostConfig.{name}}}}}");
            assert_eq!(cli.ok(&["inspect", "-f", &format, "c"]), format!("{value}\n"), "{name}");
        }
        let labels = "{{json .MountLabel}} {{json .ProcessLabel}}";
        assert_eq!(cli.ok(&["inspect", "-f", labels, "c"]), "\"\" \"\"\n");
        let apparmor =
            std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|y| y.starts_with(b"Y"));
        let profile = if apparmor { "\"unconfined\"\n" } else { "\"\"\n" };
        assert_eq!(cli.ok(&["inspect", "-f", "{{json .AppArmorProfile}}", "c"]), profile);
        cli.ok(&["rm", "c"]);
        for (option, says) in [
            ("label=x:y", "Bad label option \"x\", valid options"),
            ("label=x", "Bad label option \"x\", valid options"),
            ("label=type:x", "label `type:x`: this host has no SELinux"),
        ] {
            let said = cli.fails(125, &["run", "--rm", "--security-opt", option, "base", "true"]);
            assert!(said.contains(says), "{said}");
        }
        cli.ok(&["create", "--name", "c", "base", "true"]);
        let fresh = "{{json .HostConfig.PidsLimit}} {{.HostConfig.ShmSize}} {{.HostConfig.Memory}}";
        assert_eq!(cli.ok(&["inspect", "-f", fresh, "c"]), "null 67108864 0\n");
        let both = cli.fails(125, &["run", "--rm", "--uts", "host", "-h", "x", "base", "true"]);
        assert!(both.contains("conflicting options: hostname and the UTS mode"), "{both}");
        cli.ok(&["rm", "c"]);
    });
}
