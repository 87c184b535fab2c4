//! Further processes in a container.

use std::fs;

use coracle_host::{Exit, Kind};
use coracle_runtime::{Facts, Plan, Running, Stdio};
use coracle_testhost::{Role, run, run_with};
use oci_spec::runtime::Spec;

use crate::support::{self, PIPES, command, end, field, idle, line, process, script, soon, user, watch};

fn exec(spec: &Spec) -> Plan {
    Plan::exec(spec.process().as_ref().unwrap(), &Facts::of_this_host()).unwrap()
}

fn pid_in_host(running: &Running) -> u32 {
    let info = format!(
        "/proc/self/fdinfo/{}",
        std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&running.pidfd))
    );
    field(&fs::read_to_string(info).unwrap(), "Pid").parse().unwrap()
}

#[test]
fn it_is_where_the_container_is() {
    run(|host| {
        let running = idle(host.dir(), |_| {});
        let text = "cd /proc; for ns in cgroup ipc mnt net pid pid_for_children uts; do \
                    [ $(readlink self/ns/$ns) = $(readlink 1/ns/$ns) ] || echo other $ns; done; \
                    readlink 1/root self/root; echo $$ $(cut -d' ' -f4 self/stat); cat self/mountinfo | md5sum; \
                    cat 1/mountinfo | md5sum; ls self/fd | xargs";
        let output = watch(exec(&script(text)).start_in(&running.pidfd, PIPES()).unwrap()).ok();
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[..2], ["/", "/"]);
        assert_eq!(lines[3], lines[4]);
        assert_eq!(lines[5], "0 1 2 3");
        // Cut's own parent is the shell; whose pid is not 1.
        assert!(!lines[2].starts_with("1 "), "{output}");
        end(running);
        assert_eq!(host.processes(), Vec::<String>::new());
    });
}

#[test]
fn codes_signals_and_streams() {
    run(|host| {
        let running = idle(host.dir(), |_| {});
        for code in [0, 3, 255] {
            let process = exec(&script(&format!("echo $(cat); exit {code}")));
            let stdio = [Stdio::Pipe, Stdio::Pipe, Stdio::Pipe];
            let mut process = process.start_in(&running.pidfd, stdio).unwrap();
            rustix::io::write(process.stdin.take().unwrap(), b"heard").unwrap();
            let output = watch(process);
            assert_eq!((output.exit, output.stdout.as_str()), (Exit::Code(code), "heard\n"));
        }
        let process = exec(&script("kill -9 $$")).start_in(&running.pidfd, PIPES()).unwrap();
        assert_eq!(watch(process).exit, Exit::Signal(9));
        let error = exec(&command(&["none"])).start_in(&running.pidfd, PIPES()).unwrap_err();
        assert_eq!(error.command_status(), Some(127), "{error}");
        let error = exec(&command(&["/etc"])).start_in(&running.pidfd, PIPES()).unwrap_err();
        assert_eq!(error.command_status(), Some(126), "{error}");
        let mut spec = script("true");
        process_cwd(&mut spec, "/none");
        let error = exec(&spec).start_in(&running.pidfd, PIPES()).unwrap_err().to_string();
        assert_eq!(error, "launch step 12 of 18: chdir /none: No such file or directory (os error 2)");
        // All of these were reaped: what is left is the container's shell.
        assert_eq!(host.processes().len(), 1);
        end(running);
    });
}

fn process_cwd(spec: &mut Spec, cwd: &str) {
    process(spec).set_cwd(cwd.into());
}

#[test]
fn it_is_another_user() {
    run(|host| {
        let running = idle(host.dir(), |spec| user(spec, 7, 8, &[]));
        let mut spec = command(&["/bin/cat", "/proc/self/status"]);
        user(&mut spec, 1234, 567, &[10]);
        process(&mut spec).set_no_new_privileges(Some(true));
        let status = watch(exec(&spec).start_in(&running.pidfd, PIPES()).unwrap()).ok();
        assert_eq!(field(&status, "Uid"), "1234\t1234\t1234\t1234");
        assert_eq!(field(&status, "Groups"), "10");
        assert_eq!(field(&status, "CapEff"), "0000000000000000");
        assert_eq!(field(&status, "NoNewPrivs"), "1");
        assert_eq!(field(&status, "SigBlk"), "0000000000000000");
        let mut spec = script("echo again > /dev/stdout");
        user(&mut spec, 1234, 567, &[]);
        assert_eq!(watch(exec(&spec).start_in(&running.pidfd, PIPES()).unwrap()).ok(), "again\n");
        end(running);
    });
}

#[test]
fn descriptors_stay_outside() {
    run(|host| {
        let dir = fs::File::open(host.dir()).unwrap();
        rustix::io::fcntl_setfd(&dir, rustix::io::FdFlags::empty()).unwrap();
        let running = idle(host.dir(), |_| {});
        let number = std::os::fd::AsRawFd::as_raw_fd(&dir);
        let mut spec = script("pwd");
        process_cwd(&mut spec, &format!("/proc/self/fd/{number}"));
        let error = exec(&spec).start_in(&running.pidfd, PIPES()).unwrap_err().to_string();
        assert!(error.contains(": chdir /proc/self/fd/"), "{error}");
        end(running);
    });
}

#[test]
fn a_container_that_has_ended() {
    run(|host| {
        let running = idle(host.dir(), |_| {});
        assert!(running.pidfd.signal(9).unwrap());
        assert!(running.pidfd.ended_within(Some(support::SOON)).unwrap());
        let plan = exec(&script("true"));
        for reaped in [false, true] {
            if reaped {
                assert_eq!(running.pidfd.reap().unwrap(), Exit::Signal(9));
            }
            let error = plan.start_in(&running.pidfd, PIPES()).unwrap_err();
            assert_eq!((error.kind(), error.command_status()), (Kind::NotFound, None), "{error}");
            assert!(error.to_string().ends_with(": the container has ended"), "{error}");
        }
        drop(running);
        assert_eq!(host.processes(), Vec::<String>::new());
    });
}

/// Starts a process in a container again and again while that is being killed: whatever comes, it is one of three.
#[test]
fn a_container_that_ends_meanwhile() {
    run(|host| {
        let plan = exec(&script("exec sleep 1000"));
        let mut ends = [0usize; 2];
        for round in 0..40 {
            let running = idle(host.dir(), |_| {});
            let pidfd = running.pidfd.try_clone().unwrap();
            let outcome = std::thread::scope(|scope| {
                scope.spawn(move || {
                    for _ in 0..round * 40 {
                        std::hint::spin_loop();
                        std::thread::yield_now();
                    }
                    pidfd.signal(9).unwrap()
                });
                plan.start_in(&running.pidfd, PIPES()).map(watch)
            });
            match outcome {
                Ok(output) => {
                    assert_eq!(output.exit, Exit::Signal(9));
                    ends[0] += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), Kind::NotFound, "{error}");
                    ends[1] += 1;
                }
            }
            watch(running);
        }
        assert_eq!(ends.iter().sum::<usize>(), 40);
        assert_eq!(host.processes(), Vec::<String>::new());
    });
}

fn starter(role: &mut Role) {
    let running = idle(role.dir(), |_| {});
    let mut spec = script("echo in; exec sleep 1000");
    if role.hear().as_deref() == Some("user") {
        user(&mut spec, 1000, 1000, &[]);
    }
    let process = exec(&spec).start_in(&running.pidfd, PIPES()).unwrap();
    assert_eq!(line(process.stdout.as_ref().unwrap()), "in");
    role.say(&pid_in_host(&process).to_string());
    role.hear();
}

#[test]
fn it_dies_with_its_starter() {
    run_with(&[("starter", starter)], |host| {
        for user in ["root", "user"] {
            let mut role = host.play("starter");
            role.say(user);
            let pid = role.hear().unwrap();
            assert!(fs::exists(format!("/proc/{pid}")).unwrap());
            role.kill();
            // Its parent is dead, and a container ends only when the last process in it is reaped; that is for whoever
            // inherits orphans, which here is the test.
            soon("all are gone", || {
                let _ = rustix::process::wait(rustix::process::WaitOptions::NOHANG);
                host.processes().is_empty()
            });
        }
        // Also where only the thread ends that started it.
        let running = idle(host.dir(), |_| {});
        let plan = exec(&script("exec sleep 1000"));
        let process = std::thread::scope(|scope| {
            scope.spawn(|| plan.start_in(&running.pidfd, PIPES()).unwrap()).join().unwrap()
        });
        assert_eq!(watch(process).exit, Exit::Signal(9));
        end(running);
    });
}

/// What a root process in the container, which may trace others, finds of a process that is joining.
#[test]
fn it_cannot_be_looked_into_before_it_executes() {
    run(|host| {
        // The program reads one byte of our stdin before it executes anything: the dynamic loader is past, so what is
        // checked here is what is left of the launch, descriptors and environment.
        let running = idle(host.dir(), |_| {});
        let mut spec = script("read line");
        process(&mut spec).set_env(Some(vec!["ONLY=this".into()]));
        let stdio = [Stdio::Pipe, Stdio::Pipe, Stdio::Pipe];
        let joined = exec(&spec).start_in(&running.pidfd, stdio).unwrap();
        let text = "cd /proc; for pid in [0-9]*; do [ \"$(tr '\\0' ' ' < $pid/cmdline)\" = '/bin/sh -c read line ' ] || continue; \
                    tr '\\0' '\\n' < $pid/environ; ls $pid/fd | xargs; readlink $pid/exe $pid/cwd $pid/root; done";
        let output = watch(exec(&script(text)).start_in(&running.pidfd, PIPES()).unwrap());
        let shell = fs::canonicalize("/bin/sh").unwrap();
        assert_eq!(output.stdout, format!("ONLY=this\n0 1 2\n{}\n/\n/\n", shell.display()), "{output:?}");
        watch(joined);
        // And before that: it is in no pid namespace of the container until nothing of the host is left to be seen.
        let words: Vec<String> = exec(&script("true")).steps().iter().map(ToString::to_string).collect();
        let at = |step: &str| words.iter().position(|word| word.starts_with(step)).unwrap();
        assert!(at("close from") < at("go on in sealed memory"));
        assert!(at("undumpable") < at("join the container's"));
        let sealed = at("go on in sealed memory");
        assert_eq!(words[sealed + 1..=sealed + 2], ["undumpable", "go on in a second process"]);
        end(running);
    });
}

#[test]
fn the_container_ends_when_it_is_reaped() {
    run(|host| {
        let running = idle(host.dir(), |_| {});
        let process = exec(&script("exec sleep 1000")).start_in(&running.pidfd, PIPES()).unwrap();
        assert!(running.pidfd.signal(9).unwrap());
        assert!(process.pidfd.ended_within(Some(support::SOON)).unwrap());
        // The kernel's rule (pid_namespaces(7)): the first process waits for all others to be reaped.
        assert!(!running.pidfd.ended_within(Some(std::time::Duration::from_millis(50))).unwrap());
        assert_eq!(watch(process).exit, Exit::Signal(9));
        assert_eq!(watch(running).exit, Exit::Signal(9));
    });
}

#[test]
fn many_at_once() {
    run(|host| {
        let running = idle(host.dir(), |_| {});
        let plan = exec(&script("echo $$"));
        let pids: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        (0..10)
                            .map(|_| watch(plan.start_in(&running.pidfd, PIPES()).unwrap()).ok())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(pids.len(), 80, "each has its own");
        end(running);
    });
}

/// Copying the page tables of half a gigabyte would take some 20 ms, ten times of all the rest.
#[test]
fn what_it_costs_does_not_depend_on_the_size_of_the_starter() {
    run(|host| {
        let running = idle(host.dir(), |_| {});
        let plan = exec(&command(&["/bin/true"]));
        let least = || {
            let each = (0..20).map(|_| {
                let begin = std::time::Instant::now();
                watch(plan.start_in(&running.pidfd, PIPES()).unwrap()).ok();
                begin.elapsed()
            });
            each.min().unwrap()
        };
        let small = least();
        let mut bytes = vec![0u8; 512 << 20];
        bytes.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        let large = least();
        std::hint::black_box(&bytes);
        assert!(large < small * 3, "{small:?} in a small program, {large:?} in a large one");
        end(running);
    });
}
