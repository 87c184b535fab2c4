//! RUN steps and what they are lent: mounts, secrets, agents, networks, names; and how they are ended.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;

use coracle::{Allow, BuildSpec, Cancel, ContainerSpec, Engine, Event, HostAddress, Kind, StepNetwork};
use coracle_testhost::{run as host, skip};

use crate::support::{context, engine, fails, listing, nothing_but_engines, says, script, state, tools};

/// The output of one RUN line after `FROM tools`, in an image that is thrown away.
#[track_caller]
fn step(engine: &Engine, spec: BuildSpec) -> String {
    output(engine, &spec.no_cache(true))
}

/// What its RUN lines print, as far as they are not cached.
#[track_caller]
fn output(engine: &Engine, spec: &BuildSpec) -> String {
    let mut output = Vec::new();
    let built = engine.build(spec, |event| {
        if let Event::Output { bytes, .. } = event {
            output.extend_from_slice(bytes);
        }
    });
    built.unwrap();
    String::from_utf8(output).unwrap()
}

fn text(line: &str) -> BuildSpec {
    BuildSpec::without_context(format!("FROM tools\n{line}\n"))
}

#[test]
fn trees_are_mounted_and_writes_to_them_are_dropped() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let files = [("a", "one"), ("sub/b", "two"), ("ignored", "x"), (".dockerignore", "ignored\n")];
        let context = context(host.dir(), &files);
        let build = |text: &str| step(&engine, BuildSpec::new(&context).dockerfile_text(text));
        let dockerfile = "FROM tools AS lib\nRUN mkdir -p /lib2/deep && echo lib > /lib2/deep/l && echo top > /lib2/t\n\
             FROM tools\nRUN --mount=target=/ctx --mount=source=sub/b,target=/file --mount=from=lib,source=lib2,target=/l,rw \
             --mount=from=tools,source=/bin,target=/tools \
             cat /ctx/a /file /l/deep/l; ls /ctx; echo more > /l/new && rm /l/t && ls /l; touch /ctx/x || echo read-only; ls /tools/sh\n\
             RUN --mount=from=lib,source=/lib2,target=/l ls /l\nRUN ls -d /ctx /file /l /tools; true\n";
        let said = build(dockerfile);
        let lines: Vec<&str> = said.lines().filter(|line| !line.contains("touch")).collect();
        assert_eq!(lines[0], "onetwolib", "{said}");
        assert_eq!(lines[1..7], ["a", "sub", "deep", "new", "read-only", "/tools/sh"], "{said}");
        assert_eq!(lines[7..9], ["deep", "t"], "{said}");
        assert!(lines[9..].iter().all(|line| line.contains("No such file")), "places are gone again: {said}");
        nothing_but_engines(host.dir());
    });
}

/// Directories of this group, in all hierarchies that have it.
fn groups(name: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let below = fs::read_dir(top).unwrap().map(|entry| entry.unwrap().path());
    let all = below.map(|dir| dir.join(name)).chain([top.join(name)]);
    all.filter(|dir| dir.join("cgroup.procs").exists()).collect()
}

#[test]
fn steps_are_in_groups_below_the_one_that_is_named() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let spec = |line: &str| text(line).cgroup_parent("/team/a");
        assert_eq!(step(&engine, spec("RUN ls /bin/sh; true")), "/bin/sh\n");
        let parents = groups("team/a");
        let Some(pids) = parents.iter().find(|dir| dir.join("pids.max").exists()) else {
            parents.iter().for_each(|dir| fs::remove_dir(dir).unwrap());
            groups("team").iter().for_each(|dir| fs::remove_dir(dir).unwrap());
            return skip(host.test(), "no controller for numbers of processes");
        };
        let below = |dir: &PathBuf| {
            fs::read_dir(dir).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count()
        };
        let left = || parents.iter().map(below).sum::<usize>();
        assert_eq!(left(), 0);
        // What holds for the parent holds for the steps.
        fs::write(pids.join("pids.max"), "1").unwrap();
        let error = engine.build(&spec("RUN ls /bin; true").no_cache(true), |_| {}).unwrap_err().to_string();
        assert!(error.contains("did not complete successfully") || error.contains("clone"), "{error}");
        assert_eq!(left(), 0);
        fs::write(pids.join("pids.max"), "max").unwrap();
        // What a build that was killed left goes with the next step, and nobody else's.
        let tmp = fs::metadata(state(host.dir()).join("tmp")).unwrap();
        let stale = pids.join(format!("build-{:x}.{:x}-gone-1", tmp.dev(), tmp.ino()));
        let other = pids.join("build-1.2-gone-1");
        for dir in [&stale, &other] {
            fs::create_dir(dir).unwrap();
        }
        step(&engine, spec("RUN true"));
        assert_eq!((stale.exists(), other.exists()), (false, true));
        fs::remove_dir(other).unwrap();
        for dir in groups("team/a").iter().chain(&groups("team")) {
            fs::remove_dir(dir).unwrap();
        }
        fails(engine.build(&text("RUN true").cgroup_parent("/../x"), |_| {}), Kind::Invalid, &["/../x"]);
        nothing_but_engines(host.dir());
    });
}

#[test]
fn steps_have_the_limits_that_are_given() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let line = "RUN ulimit -n; ulimit -Hn; cat /proc/self/mounts > /dev/shm/m; while read -r _ at _ how _; do \
             [ $at = /dev/shm ] && echo $how; done < /dev/shm/m; true";
        let spec = text(line).rlimit("nofile", 50, 60).shm_size(1 << 20);
        let said = output(&engine, &spec);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[..2], ["50", "60"], "{said}");
        assert!(lines[2].split(',').any(|option| option == "size=1024k"), "{said}");
        // What a step may use is part of what it is.
        assert_eq!(output(&engine, &spec), "");
        assert!(output(&engine, &spec.clone().rlimit("nofile", 51, 60)).starts_with("51\n"));
        assert!(output(&engine, &text(line)).contains("size=65536k"), "docker's own size");
        let unknown = engine.build(&spec.clone().rlimit("bogus", 1, 1), |_| {});
        fails(unknown, Kind::Invalid, &["unknown resource limit `bogus`"]);
        fails(engine.build(&spec.rlimit("core", 2, 1), |_| {}), Kind::Invalid, &["`core`: 2 is more than 1"]);
        nothing_but_engines(host.dir());
    });
}

#[test]
fn triggers_take_files_from_stages_and_images() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let other = BuildSpec::without_context("FROM tools\nRUN echo other > /o\n").tag("other");
        engine.build(&other, |_| {}).unwrap();
        // What the first one's trigger asks for has a trigger of its own, which asks for another image.
        let first = "FROM tools\nONBUILD COPY --from=build /x /x\nONBUILD RUN --mount=from=build,target=/m cat /x /m/y\n";
        engine.build(&BuildSpec::without_context(first).tag("first"), |_| {}).unwrap();
        let second = "FROM tools\nONBUILD COPY --from=other /o /y\n";
        engine.build(&BuildSpec::without_context(second).tag("second"), |_| {}).unwrap();
        let app = BuildSpec::without_context("FROM second AS build\nRUN echo x > /x\nFROM first\n");
        assert_eq!(output(&engine, &app), "x\nother\n");
        let again = engine.build(&app, |_| {}).unwrap();
        assert!(again.steps.iter().all(|step| !step.built()), "{:?}", again.steps);
        let error =
            engine.build(&BuildSpec::without_context("FROM scratch\nFROM first\n"), |_| {}).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("Dockerfile:2:6: ") && text.contains("image `build`"), "{text}");
        nothing_but_engines(host.dir());
    });
}

#[test]
fn the_places_of_mounts_are_not_in_the_layer() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let before = says(&engine, &script("ls -a / /etc"));
        let dockerfile = "FROM tools\nRUN --mount=type=tmpfs,target=/new/deep --mount=type=tmpfs,target=/kept/in \
             echo x > /kept/file; echo y > /new/deep/lost\n";
        let built = engine.build(&BuildSpec::without_context(dockerfile).tag("app"), |_| {}).unwrap();
        let after = says(
            &engine,
            &ContainerSpec::new(&built.image).command(["sh", "-c", "ls -a / /etc; ls -a /kept"]).no_network(),
        );
        assert_eq!(after, format!("{before}.\n..\nfile\n").replace("\nlib\n", "\nkept\nlib\n"));
    });
}

#[test]
fn caches_stay_and_are_no_part_of_the_image() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let line = |options: &str, command: &str| {
            text(&format!("RUN --mount=type=cache,target=/c{options} {command}"))
        };
        output(&engine, &line("", "echo 1 > /c/f && stat -c %a:%u:%g /c"));
        assert_eq!(
            output(&engine, &line(",id=/c", "cat /c/f")),
            "1\n",
            "the target is the id where there is none"
        );
        assert_eq!(
            output(&engine, &line(",id=other,mode=0700,uid=7,gid=8", "stat -c %a:%u:%g /c && ls /c")),
            "700:7:8\n"
        );
        assert_eq!(
            output(&engine, &line(",ro", "cat /c/f; (echo 2 > /c/f) 2>/dev/null || cat /c/f")),
            "1\n1\n"
        );
        let seeded = "FROM tools AS s\nRUN mkdir /s && echo seed > /s/f\nFROM tools\n\
             RUN --mount=type=cache,target=/c,from=s,source=/s cat /c/f && echo grown > /c/f\n";
        assert!(output(&engine, &BuildSpec::without_context(seeded)).contains("seed"));
        let again = seeded.replace("grown", "more");
        assert!(output(&engine, &BuildSpec::without_context(again)).contains("grown"));
        let built = engine.build(&line("", "true"), |_| {}).unwrap();
        let (exit, _) = crate::support::run(
            &engine,
            &ContainerSpec::new(&built.image).command(["ls", "/c"]).no_network(),
        );
        assert!(!exit.success());
        // Without the cache it begins anew, once in a build.
        let twice = "RUN --mount=type=cache,target=/c cat /c/* 2>/dev/null; echo 3 > /c/g\n\
             RUN --mount=type=cache,target=/c cat /c/*";
        assert_eq!(step(&engine, text(twice)), "3\n");
        nothing_but_engines(host.dir());
    });
}

#[test]
fn locked_caches_are_one_steps_at_a_time() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        // Each would see the other's mark if both were at it at once.
        let stage = |name: &str| {
            format!(
                "FROM tools AS {name}\nRUN --mount=type=cache,target=/c,id=x,sharing=locked \
                 ! cat /c/mark 2>&1 && echo {name} > /c/mark && sleep 0.2 && echo {name} >> /c/all && rm /c/mark\n"
            )
        };
        let end = "FROM tools\nRUN --mount=from=a,target=/a --mount=from=b,target=/b \
             --mount=type=cache,target=/c,id=x sort /c/all\n";
        let said = step(&engine, BuildSpec::without_context(stage("a") + &stage("b") + end));
        assert!(said.ends_with("a\nb\n"), "{said}");
    });
}

#[test]
fn secrets_are_seen_by_the_step_alone() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let file = host.dir().join("token");
        fs::write(&file, "from-a-file-hunter2").unwrap();
        let line = "RUN --mount=type=secret,id=tok --mount=type=secret,id=tok,target=/etc/tok,mode=0444,uid=5 \
             --mount=type=secret,id=var,env=VAR,required --mount=type=secret,id=none \
             cat /run/secrets/tok && stat -c %a:%u /etc/tok && echo $VAR | head -c 4 && ls /run/secrets \
             && ! echo > /etc/tok";
        let spec = text(line).secret_file("tok", &file).secret("var", "in-a-variable-hunter3").tag("app");
        let said = step(&engine, spec.clone());
        assert!(said.starts_with("from-a-file-hunter2444:5\nin-atok\n"), "{said}");
        for (path, _) in listing(&state(host.dir())) {
            let path = state(host.dir()).join(path);
            let bytes = fs::read(&path).unwrap_or_default();
            let holds = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
            assert!(!holds(b"hunter2") && !holds(b"hunter3"), "{path:?}");
        }
        let error =
            engine.build(&text("RUN --mount=type=secret,id=tok,required cat /run/secrets/tok"), |_| {});
        fails(error, Kind::NotFound, &["Dockerfile:2:", "secret `tok`"]);
        // Another value is no other step.
        let again = engine.build(&spec.secret("var", "another"), |_| {}).unwrap();
        assert!(again.steps.iter().all(|step| !step.built()));
    });
}

#[test]
fn an_agent_answers_through_its_socket() {
    host(|host| {
        let engine = engine(host.dir());
        engine.capture(&crate::support::programs().program("python3"), "tools").map(drop).unwrap_or_else(
            |_| {
                tools(&engine);
            },
        );
        let socket = host.dir().join("agent");
        let listener = UnixListener::bind(&socket).unwrap();
        let answering = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 4];
            stream.read_exact(&mut question).unwrap();
            stream.write_all(b"answer:").unwrap();
            stream.write_all(&question).unwrap();
        });
        let line = "RUN --mount=type=ssh,mode=0600,uid=7,required [ -S $SSH_AUTH_SOCK ] && stat -c %a:%u $SSH_AUTH_SOCK";
        assert_eq!(step(&engine, text(line).ssh("default", &socket)), "600:7\n");
        // (What is cached needs no agent.)
        let line = line.replace("stat", "stat -L");
        fails(engine.build(&text(&line), |_| {}), Kind::NotFound, &["ssh agent `default`"]);
        fails(engine.build(&text(&line).ssh("default", "/etc/passwd"), |_| {}), Kind::Invalid, &["no"]);
        // The proxy itself, from a step.
        let here = "RUN --mount=type=ssh,target=/agent python3 -c \"import socket; s = socket.socket(socket.AF_UNIX); \
             s.connect('/agent'); s.sendall(b'ping'); print(s.makefile().read())\"";
        let spec = text(here).ssh("default", &socket);
        match engine.build(&text("RUN python3 -c 1"), |_| {}) {
            Ok(_) => assert_eq!(step(&engine, spec), "answer:ping\n"),
            Err(_) => {
                // Without a program that speaks to sockets the other end is ours.
                let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
                stream.write_all(b"ping").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                assert_eq!(answer, "answer:ping");
            }
        }
        answering.join().unwrap();
    });
}

#[test]
fn networks_names_and_privileges_are_as_asked() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let links = "RUN ls /sys/class/net | sort";
        assert_eq!(step(&engine, text(links)), "eth0\nlo\n");
        assert_eq!(step(&engine, text(&links.replace("RUN", "RUN --network=none"))), "lo\n");
        assert_eq!(step(&engine, text(links).network(StepNetwork::None)), "lo\n");
        let own = fs::read_link("/proc/thread-self/ns/net").unwrap().display().to_string() + "\n";
        let which = "RUN readlink /proc/self/ns/net";
        let asked = text(&which.replace("RUN", "RUN --network=host")).allow(Allow::HostNetwork);
        assert_eq!(step(&engine, asked), own);
        assert_eq!(step(&engine, text(which).network(StepNetwork::Host)), own);
        fails(
            engine.build(&text(&links.replace("RUN", "RUN --network=host")), |_| {}),
            Kind::Denied,
            &["Dockerfile:2:", "network.host"],
        );
        let spec = text("RUN cat /etc/hosts").host("db", HostAddress::Ip([10, 9, 8, 7].into()));
        let gateway = step(&engine, spec.host("gate", HostAddress::Gateway));
        assert!(gateway.contains("10.9.8.7\tdb\n") && gateway.contains("\tgate\n"), "{gateway}");
        let caps = "RUN cat /proc/self/status";
        let own = |text: &str| {
            text.lines().find_map(|line| line.strip_prefix("CapEff:\t")).map(str::to_owned).unwrap()
        };
        let boxed = own(&step(&engine, text(caps)));
        let insecure = text(&caps.replace("RUN", "RUN --security=insecure")).allow(Allow::Insecure);
        let open = own(&step(&engine, insecure));
        let bits = |hex: &str| u64::from_str_radix(hex, 16).unwrap().count_ones();
        assert!(bits(&open) > bits(&boxed), "{boxed} {open}");
    });
}

#[test]
fn scripts_are_run_by_what_they_begin_with() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let said = step(&engine, text("RUN <<EOF\n#!/bin/cat\nmyself\nEOF"));
        assert_eq!(said, "#!/bin/cat\nmyself\n");
    });
}

#[test]
fn a_cancelled_build_ends_its_command_and_keeps_what_was_done() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let cancel = Cancel::new().unwrap();
        let spec = text("RUN echo done > /first\nRUN echo started && sleep 1000").cancelled_by(&cancel);
        let ended = engine.build(&spec, |event| {
            if matches!(event, Event::Output { .. }) {
                cancel.cancel();
            }
        });
        fails(ended, Kind::Interrupted, &["cancelled"]);
        let again = engine.build(&text("RUN echo done > /first"), |_| {}).unwrap();
        assert!(again.steps.iter().all(|step| !step.built()), "{:?}", again.steps);
        fails(engine.build(&spec, |_| {}), Kind::Interrupted, &["cancelled"]);
        nothing_but_engines(host.dir());
    });
}

#[test]
fn named_contexts_take_the_place_of_stages_and_images() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let other = host.dir().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("f"), "named").unwrap();
        fs::write(other.join("hidden"), "x").unwrap();
        fs::write(other.join(".dockerignore"), "hidden\n.dockerignore\n").unwrap();
        let text = "FROM base\nCOPY --from=extra . /e/\nRUN --mount=from=extra,target=/m cat /e/f /m/f && ls /e /m\n";
        let spec = BuildSpec::without_context(text);
        let spec = spec.context_image("base", "tools").context_directory("extra", &other);
        assert_eq!(step(&engine, spec), "namednamed/e:\nf\n\n/m:\nf\n");

        // And what a stage starts from: its files, and nothing said of how to run them.
        let text = "FROM extra AS files\nENV A=1\nFROM files\nCMD [\"/f\"]\n";
        let spec = BuildSpec::without_context(text).context_directory("extra", &other);
        let build = || engine.build(&spec, |_| {}).unwrap();
        let image = build().image;
        let mut tar = Vec::new();
        engine.write_tar(&image, &mut tar).unwrap();
        let mut archive = tar::Archive::new(tar.as_slice());
        let names = archive.entries().unwrap().map(|member| member.unwrap().path().unwrap().into_owned());
        assert_eq!(names.collect::<Vec<_>>(), [std::path::Path::new("f")]);
        assert_eq!(image.config().unwrap().config.cmd.unwrap(), ["/f"]);
        assert_eq!(image.history().unwrap()[0].created_by, "COPY / / # buildkit");
        assert_eq!(build().image.id(), image.id());
        fs::write(other.join("f"), "other").unwrap();
        assert_ne!(build().image.id(), image.id());
    });
}

#[test]
fn a_context_can_come_as_an_archive() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in [("Dockerfile", "FROM tools\nCOPY f /f\nRUN cat /f\n"), ("f", "in the archive")]
        {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append_data(&mut header, name, bytes.as_bytes()).unwrap();
        }
        let tar = tar.into_inner().unwrap();
        let unpacked = engine.unpack_context(std::io::Cursor::new(tar)).unwrap();
        assert_eq!(step(&engine, BuildSpec::new(unpacked.path())), "in the archive");
        drop(unpacked);
        fails(engine.unpack_context(&b"FROM x\n"[..]), Kind::Invalid, &["no tar"]);
        nothing_but_engines(host.dir());
    });
}
