//! What a process is given besides a place: limits, scores, parameters, filters, a group, an init.

use std::collections::HashMap;
use std::fs;

use coracle_host::{Exit, Kind};
use coracle_runtime::cgroup::{self, Extent, Place, Version};
use coracle_runtime::seccomp::{Profile, Program, Target};
use coracle_runtime::{Bundle, Facts, Join, Plan};
use coracle_testhost::run;
use oci_spec::runtime::{LinuxResources, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Spec};

use crate::support::{self, PIPES, bundle, command, end, field, idle, plan, process, script, user, watch};

fn exec(spec: &Spec) -> Plan {
    Plan::exec(spec.process().as_ref().unwrap(), &Facts::of_this_host()).unwrap()
}

fn limit(typ: PosixRlimitType, soft: u64, hard: u64) -> PosixRlimit {
    PosixRlimitBuilder::default().typ(typ).soft(soft).hard(hard).build().unwrap()
}

/// config.md, "POSIX process": rlimits.
#[test]
fn limits_of_resources() {
    run(|host| {
        let prepare = |spec: &mut Spec| {
            process(spec).set_rlimits(Some(vec![
                limit(PosixRlimitType::RlimitNofile, 4, 5), // fewer than the launch itself needs
                limit(PosixRlimitType::RlimitCore, 0, 7),
                limit(PosixRlimitType::RlimitNproc, 1, 2),
            ]));
        };
        let expected = |limits: &str| {
            for (name, soft, hard) in
                [("Max open files", "4", "5"), ("Max core file size", "0", "7"), ("Max processes", "1", "2")]
            {
                let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                let words: Vec<&str> = line.split_whitespace().collect();
                assert_eq!(words[..2], [soft, hard], "{name}");
            }
        };
        let mut spec = command(&["/bin/cat", "/proc/self/limits"]);
        prepare(&mut spec);
        for uid in [0, 1000] {
            user(&mut spec, uid, uid, &[]);
            expected(&support::run(host.dir(), &spec).ok());
            let running = idle(host.dir(), |_| {});
            expected(&watch(exec(&spec).start_in(&running.pidfd, PIPES()).unwrap()).ok());
            end(running);
        }
        // More than this program may have it may not give either.
        let (_, hard) = (0, rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap());
        process(&mut spec).set_rlimits(Some(vec![limit(PosixRlimitType::RlimitNofile, 4, hard + 1)]));
        match support::start(host.dir(), &spec) {
            Ok(running) => drop(watch(running).ok()), // with CAP_SYS_RESOURCE
            Err(error) => {
                let words = format!("raise the hard limit of RLIMIT_NOFILE to {}: ", hard + 1);
                assert!(error.to_string().contains(&words), "{error}");
                assert_eq!(error.kind(), Kind::Denied);
            }
        }
    });
}

/// config.md, "Linux Process": oomScoreAdj.
#[test]
fn the_score_for_running_out_of_memory() {
    run(|host| {
        let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        let mut spec = command(&["/bin/cat", "/proc/self/oom_score_adj"]);
        process(&mut spec).set_oom_score_adj(Some(321));
        assert_eq!(support::run(host.dir(), &spec).ok(), "321\n");
        let running = idle(host.dir(), |_| {});
        process(&mut spec).set_oom_score_adj(Some(456));
        assert_eq!(watch(exec(&spec).start_in(&running.pidfd, PIPES()).unwrap()).ok(), "456\n");
        assert_eq!(
            watch(
                exec(&command(&["/bin/cat", "/proc/self/oom_score_adj"]))
                    .start_in(&running.pidfd, PIPES())
                    .unwrap()
            )
            .ok(),
            own
        );
        end(running);
        assert_eq!(fs::read_to_string("/proc/self/oom_score_adj").unwrap(), own);
    });
}

/// config-linux.md, "Sysctl".
#[test]
fn parameters_of_namespaces() {
    run(|host| {
        let names = ["net.core.somaxconn", "kernel.msgmax", "fs.mqueue.msg_max", "kernel.domainname"];
        let files = names.map(|name| format!("/proc/sys/{}", name.replace('.', "/")));
        let before = files.each_ref().map(|file| fs::read_to_string(file).unwrap());
        let mut spec = script(&format!("cat {}", files.join(" ")));
        let values = ["77", "1234", "9", "harbour"];
        let map: HashMap<String, String> =
            names.iter().zip(values).map(|(name, value)| ((*name).into(), value.into())).collect();
        spec.linux_mut().as_mut().unwrap().set_sysctl(Some(map));
        assert_eq!(support::run(host.dir(), &spec).ok(), "77\n1234\n9\nharbour\n");
        assert_eq!(files.each_ref().map(|file| fs::read_to_string(file).unwrap()), before);
        let map = HashMap::from([("net.core.none".to_owned(), "1".to_owned())]);
        spec.linux_mut().as_mut().unwrap().set_sysctl(Some(map));
        let error = support::start(host.dir(), &spec).unwrap_err().to_string();
        assert!(error.contains("write 1 to /proc/sys/net/core/none: No such file or directory"), "{error}");
    });
}

fn docker() -> Program {
    Profile::docker().compile(&Target::of_this_host([]).unwrap()).unwrap()
}

/// config-linux.md, "Seccomp". Every way to have privileges, at start and at exec.
#[test]
fn a_filter_of_system_calls() {
    run(|host| {
        let text = "grep -E '^(Seccomp|CapPrm|CapEff|CapInh|CapAmb|CapBnd|NoNewPrivs|Uid):' /proc/self/status; \
                    unshare -r true 2>/dev/null || echo refused";
        let plain = |status: &str| status.replace("Seccomp:\t2", "Seccomp:\t0");
        let running = idle(host.dir(), |_| {});
        for uid in [0, 1000] {
            for strict in [false, true] {
                let mut spec = script(text);
                user(&mut spec, uid, uid, &[]);
                process(&mut spec).set_no_new_privileges(Some(strict));
                let without = support::run(host.dir(), &spec).ok();
                let mut with = plan(&spec);
                with.filter(&docker()).unwrap();
                let bundle = Bundle { stdio: PIPES(), ..bundle(host.dir()) };
                let output = watch(with.start(bundle).unwrap()).ok();
                assert!(
                    output.ends_with("refused\n") && output.contains("Seccomp:\t2"),
                    "{uid} {strict}: {output}"
                );
                // It has all privileges that it would have without the filter, and no other.
                assert_eq!(
                    plain(&output).trim_end_matches("refused\n"),
                    without.trim_end_matches("refused\n")
                );
                let mut further = exec(&spec);
                further.filter(&docker()).unwrap();
                assert_eq!(watch(further.start_in(&running.pidfd, PIPES()).unwrap()).ok(), output);
            }
        }
        end(running);
    });
}

/// A filter that permits little more than the program itself needs: what comes before it is done before.
#[test]
fn a_filter_that_forbids_what_a_launch_does() {
    run(|host| {
        let deny: Vec<String> = [
            "execveat",
            "prctl",
            "close_range",
            "setresuid",
            "setgroups",
            "chdir",
            "dup3",
            "sendmsg",
            "socketpair",
            "setsid",
            "clone3",
            "mount",
            "umount2",
            "pivot_root",
            "sethostname",
            "seccomp",
            "umask",
            "keyctl",
            "fchdir",
        ]
        .map(|name| format!("{name:?}"))
        .to_vec();
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": [{}], "action": "SCMP_ACT_KILL_PROCESS"}}]}}"#,
            deny.join(",")
        );
        let mut spec = command(&["/bin/cat", "/proc/self/status"]);
        process(&mut spec).set_no_new_privileges(Some(true));
        spec.linux_mut().as_mut().unwrap().set_seccomp(Some(serde_json::from_str(&json).unwrap()));
        assert_eq!(field(&support::run(host.dir(), &spec).ok(), "Seccomp"), "2");
        let mut further = exec(&spec);
        let profile = Profile::from_oci(spec.linux().as_ref().unwrap().seccomp().as_ref().unwrap()).unwrap();
        further.filter(&profile.compile(&Target::of_this_host([]).unwrap()).unwrap()).unwrap();
        let running = idle(host.dir(), |_| {});
        assert_eq!(field(&watch(further.start_in(&running.pidfd, PIPES()).unwrap()).ok(), "Seccomp"), "2");
        end(running);
    });
}

#[test]
fn a_filter_does_not_keep_it_from_dying_with_its_starter() {
    run(|host| {
        for (uid, strict) in [(0, false), (0, true), (1000, false), (1000, true)] {
            let mut spec = script("exec sleep 1000");
            user(&mut spec, uid, uid, &[]);
            process(&mut spec).set_no_new_privileges(Some(strict));
            let mut plan = plan(&spec);
            plan.filter(&docker()).unwrap();
            let running = std::thread::scope(|scope| {
                let start = || plan.start(Bundle { stdio: PIPES(), ..bundle(host.dir()) }).unwrap();
                scope.spawn(start).join().unwrap()
            });
            assert_eq!(watch(running).exit, Exit::Signal(9), "{uid} {strict}");
        }
    });
}

/// config.md, "Linux Process": capabilities that can't be granted are no failure.
#[test]
fn capabilities_that_this_program_lacks() {
    run(|host| {
        let mut spec = command(&["/bin/cat", "/proc/self/status"]);
        let every = oci_spec::runtime::Capabilities::from_iter(
            caps::all().iter().map(|one| one.to_string().trim_start_matches("CAP_").parse().unwrap()),
        );
        let mut sets = process(&mut spec).capabilities().clone().unwrap();
        sets.set_bounding(Some(every.clone())).set_permitted(Some(every.clone())).set_effective(Some(every));
        process(&mut spec).set_capabilities(Some(sets));
        let own = fs::read_to_string("/proc/self/status").unwrap();
        let status = support::run(host.dir(), &spec).ok();
        assert_eq!(field(&status, "CapEff"), field(&own, "CapPrm"));
        let lacking = 41 - u64::from_str_radix(field(&own, "CapPrm"), 16).unwrap().count_ones() as usize;
        let warnings = plan(&spec).warnings(spec.process().as_ref().unwrap());
        assert_eq!(warnings.len(), lacking, "{warnings:?}");
    });
}

/// A session keyring of this program is nothing to its containers.
#[test]
fn keys_stay_outside() {
    run(|host| {
        // SAFETY: integers: a new session keyring for this thread.
        unsafe { libc::syscall(libc::SYS_keyctl, 1, 0) };
        let (kind, name, secret) = (c"user".as_ptr(), c"coracle-secret".as_ptr(), c"secret".as_ptr());
        // SAFETY: three literals, and the length of the last; the key ends with this thread's keyring.
        let key = unsafe { libc::syscall(libc::SYS_add_key, kind, name, secret, 6, -3) };
        if key < 0 {
            return coracle_testhost::skip(host.test(), "no kernel keyrings here");
        }
        assert!(fs::read_to_string("/proc/keys").unwrap().contains("coracle-secret"));
        let search = format!(
            r#"$t = "user"; $d = "coracle-secret"; print syscall({}, $t, $d, 0, 0) < 0 ? "none" : "found""#,
            libc::SYS_request_key
        );
        let here = std::process::Command::new("perl").args(["-e", &search]).output().unwrap();
        assert_eq!(here.stdout, b"found", "{here:?}");
        assert_eq!(support::run(host.dir(), &command(&["perl", "-e", &search])).ok(), "none");
        let running = idle(host.dir(), |_| {});
        let further = exec(&command(&["perl", "-e", &search]));
        assert_eq!(watch(further.start_in(&running.pidfd, PIPES()).unwrap()).ok(), "none");
        end(running);
    });
}

#[test]
fn an_init_reaps_and_hands_on_signals() {
    run(|host| {
        let plan_of = |text: &str| plan(&script(text));
        let start = |text: &str| {
            let mut plan = plan_of(text);
            plan.init();
            plan.start(Bundle { stdio: PIPES(), ..bundle(host.dir()) }).unwrap()
        };
        // The program is not the first process, and its codes and signals are told as a shell tells them.
        assert_eq!(
            watch(start("echo $$; exit 7")),
            support::Output { exit: Exit::Code(7), stdout: "2\n".into(), stderr: "".into() }
        );
        assert_eq!(watch(start("kill -TERM $$")).exit, Exit::Code(143));
        // An orphan that ends is gone, and not a zombie.
        let text =
            "sh -c 'sleep 0 & exit'; while grep -qs '^State:.Z' /proc/[0-9]*/status; do :; done; echo clean";
        assert_eq!(watch(start(text)).ok(), "clean\n");
        let running = start("trap 'echo heard; exit 3' USR1; echo up; while :; do sleep 0.01; done");
        assert_eq!(support::line(running.stdout.as_ref().unwrap()), "up");
        assert!(running.pidfd.signal(10).unwrap());
        let output = watch(running);
        assert_eq!((output.exit, output.stdout.as_str()), (Exit::Code(3), "heard\n"));
        // It has no more rights than the program, and the same filters.
        let mut plan = plan_of(
            "grep -hE '^(CapPrm|CapEff|CapAmb|CapInh|Seccomp|Seccomp_filters):' /proc/1/status /proc/self/status",
        );
        plan.init();
        plan.filter(&docker()).unwrap();
        plan.filter(&docker()).unwrap();
        let shown = watch(plan.start(Bundle { stdio: PIPES(), ..bundle(host.dir()) }).unwrap()).ok();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[..6], lines[6..], "{shown}");
        assert_eq!((field(&shown, "CapEff"), field(&shown, "Seccomp_filters")), ("00000000a80425fb", "2"));
        // What can't be executed is a failure of the start.
        let mut plan = crate::support::plan(&command(&["/none"]));
        plan.init();
        let error = plan.start(bundle(host.dir())).unwrap_err();
        assert_eq!(error.command_status(), Some(127), "{error}");
        // Its first process ends with its starter's thread, and all the others with it.
        let running = std::thread::scope(|scope| scope.spawn(|| start("exec sleep 1000")).join().unwrap());
        assert_eq!(watch(running).exit, Exit::Signal(9));
        assert_eq!(host.processes(), Vec::<String>::new());
    });
}

/// config-linux.md, "Control groups".
#[test]
fn a_control_group() {
    run(|host| {
        let (hierarchies, _room) = crate::cgroup::machine();
        let place = Place::new("wired").unwrap();
        let resources: LinuxResources = serde_json::from_str(r#"{"pids": {"limit": 20}}"#).unwrap();
        let group =
            cgroup::Plan::new(&place, &resources, &hierarchies, Extent::Standard).unwrap().make().unwrap();
        let mut spec = script("cat /proc/self/cgroup; echo up; read line; exit 0");
        let linux = spec.linux_mut().as_mut().unwrap();
        linux.set_cgroups_path(Some("/coracle-wired".into()));
        // Without a group the plan can't be performed, and a group needs a place in the plan.
        let error = plan(&spec).start(bundle(host.dir())).unwrap_err();
        assert_eq!(error.to_string(), "nothing was given for the step `enter the control group`");
        let entrance = || Some(group.entrance().unwrap());
        let error =
            plan(&script("true")).start(Bundle { group: entrance(), ..bundle(host.dir()) }).unwrap_err();
        assert_eq!(error.to_string(), "the plan has no place for the control group that was given");

        let stdio =
            [coracle_runtime::Stdio::Pipe, coracle_runtime::Stdio::Pipe, coracle_runtime::Stdio::Null];
        let bundle = Bundle { stdio, group: entrance(), ..bundle(host.dir()) };
        let running = plan(&spec).start(bundle).unwrap();
        let mut shown = Vec::new();
        while shown.last().is_none_or(|line| line != "up") {
            shown.push(support::line(running.stdout.as_ref().unwrap()));
        }
        // The namespace begins where the group is.
        for (hierarchy, _) in group.directories() {
            let first = hierarchy.controllers().first().filter(|_| hierarchy.version() == Version::V1);
            let name = first.map_or("", String::as_str);
            let line = shown.iter().find(|line| {
                line.split(':').nth(1).is_some_and(|names| names.split(',').any(|one| one == name))
            });
            assert!(line.is_some_and(|line| line.ends_with(":/")), "{name}: {shown:?}");
        }
        let pid = running.pidfd.pid().unwrap();
        assert_eq!(group.processes().unwrap(), [pid]);
        let mut further = exec(&script("cat /proc/self/cgroup"));
        further.enter_group();
        let join = Join { stdio: PIPES(), group: entrance(), ..Join::default() };
        let mut seen = watch(further.join(&running.pidfd, join).unwrap()).ok();
        seen.push_str("up\n");
        assert_eq!(seen.lines().collect::<Vec<_>>(), shown);
        end(running);
        group.remove().unwrap();
    });
}

/// config.md, "Linux Process", and config-linux.md: scheduler, ioPriority, personality, memoryPolicy, execCPUAffinity.
#[test]
fn how_it_is_scheduled() {
    run(|host| {
        let more = serde_json::json!({
            "process": {
                "scheduler": { "policy": "SCHED_BATCH", "nice": 7 },
                "ioPriority": { "class": "IOPRIO_CLASS_BE", "priority": 6 },
                // Not for a container's first process.
                "execCPUAffinity": { "initial": "0", "final": "0" },
            },
            "linux": { "personality": { "domain": "LINUX32" } },
        });
        let text =
            "chrt -p $$ | head -1 | sed 's/.*: //'; nice; ionice; uname -m; taskset -p $$ | sed 's/.*: //'";
        let mut spec = serde_json::to_value(script(text)).unwrap();
        for (part, values) in more.as_object().unwrap() {
            for (name, value) in values.as_object().unwrap() {
                spec[part][name] = value.clone();
            }
        }
        let mut spec: Spec = serde_json::from_value(spec).unwrap();
        let own =
            std::process::Command::new("sh").args(["-c", "taskset -p $$ | sed 's/.*: //'"]).output().unwrap();
        let own = String::from_utf8(own.stdout).unwrap();
        let machine = if cfg!(target_arch = "x86_64") { "i686" } else { "armv8l" };
        let shown = format!("SCHED_BATCH\n7\nbest-effort: prio 6\n{machine}\n");
        assert_eq!(support::run(host.dir(), &spec).ok(), format!("{shown}{own}"));
        let running = idle(host.dir(), |_| {});
        let machine = std::process::Command::new("uname").arg("-m").output().unwrap();
        let machine = String::from_utf8(machine.stdout).unwrap();
        let shown = format!("SCHED_BATCH\n7\nbest-effort: prio 6\n{machine}1\n");
        assert_eq!(watch(exec(&spec).start_in(&running.pidfd, PIPES()).unwrap()).ok(), shown);
        end(running);
        let policy =
            serde_json::json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] });
        let mut linux = spec.linux().clone().unwrap();
        linux.set_memory_policy(Some(serde_json::from_value(policy).unwrap())).set_personality(None);
        spec.set_linux(Some(linux));
        process(&mut spec).set_args(Some(vec!["/bin/cat".into(), "/proc/self/numa_maps".into()]));
        match support::start(host.dir(), &spec) {
            Ok(running) => {
                let maps = watch(running).ok();
                assert!(maps.contains("bind=static:0") || maps.is_empty(), "{maps}");
            }
            Err(error) => assert!(error.to_string().contains("memory policy 0x8002 of nodes 0: "), "{error}"),
        }
    });
}

/// config-linux.md, "Namespaces": joined by path.
#[test]
fn namespaces_of_another_container() {
    run(|host| {
        use oci_spec::runtime::LinuxNamespaceType as Type;
        let running = idle(host.dir(), |spec| {
            spec.set_hostname(Some("first".into()));
        });
        let pid = running.pidfd.pid().unwrap();
        let links = ["net", "ipc", "uts", "cgroup"];
        let theirs: String = links
            .iter()
            .map(|kind| format!("{}\n", fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display()))
            .collect();
        let mut spec = script("cd /proc/self/ns; readlink net ipc uts cgroup; hostname");
        for namespace in spec.linux_mut().as_mut().unwrap().namespaces_mut().as_mut().unwrap() {
            let name = match namespace.typ() {
                Type::Network => "net",
                Type::Ipc => "ipc",
                Type::Uts => "uts",
                Type::Cgroup => "cgroup",
                _ => continue,
            };
            namespace.set_path(Some(format!("/proc/{pid}/ns/{name}").into()));
        }
        assert_eq!(support::run(host.dir(), &spec).ok(), format!("{theirs}first\n"));
        // MUST: an error where the path leads to a namespace of another type.
        let namespaces = spec.linux_mut().as_mut().unwrap().namespaces_mut().as_mut().unwrap();
        let net = namespaces.iter_mut().find(|namespace| namespace.typ() == Type::Network).unwrap();
        net.set_path(Some(format!("/proc/{pid}/ns/ipc").into()));
        let error = support::start(host.dir(), &spec).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("join network namespace /proc/{pid}/ns/ipc: Invalid argument")),
            "{error}"
        );
        end(running);
    });
}
