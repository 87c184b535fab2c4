//! What the process in a container is given: command, environment, user, rights, files.

use coracle::{BuildSpec, ContainerSpec, Engine, ExecSpec, Exit, Kind, Stream};
use coracle_testhost::run as host;

use crate::support::{engine, fails, run, says, script, tools, wrote};

/// An image with everything that an image can say about its process.
fn opinionated(engine: &Engine) {
    tools(engine);
    let dockerfile = "FROM tools
ENV COLOUR=blue SHADE=dark
WORKDIR /work
USER 7:8
ENTRYPOINT [\"sh\", \"-c\", \"echo $COLOUR $SHADE $(id -u):$(id -g) $(readlink /proc/self/cwd) $0 $*\"]
CMD [\"one\", \"two\"]
";
    engine.build(&BuildSpec::without_context(dockerfile).tag("app"), |_| {}).unwrap();
}

#[test]
fn the_image_says_and_the_spec_overrules() {
    host(|host| {
        let engine = engine(host.dir());
        opinionated(&engine);
        let app = || ContainerSpec::new("app").no_network();
        let cases = [
            (app(), "blue dark 7:8 /work one two"),
            (app().command(["three"]), "blue dark 7:8 /work three"),
            (app().env("COLOUR", "red").env("COLOUR", "green"), "green dark 7:8 /work one two"),
            (app().workdir("/new/place"), "blue dark 7:8 /new/place one two"),
            (app().user("0"), "blue dark 0:0 /work one two"),
            (app().user("root:9"), "blue dark 0:9 /work one two"),
            (app().entrypoint(["sh", "-c", "echo $0-$1", "a", "b"]), "a-b"),
            (app().entrypoint(["sh", "-c"]).command(["echo $SHADE"]), "dark"),
            (app().entrypoint([""; 0]).command(["cat", "/etc/hostname"]).hostname("harbour"), "harbour"),
        ];
        for (spec, expected) in cases {
            assert_eq!(says(&engine, &spec).trim_end(), expected, "{spec:?}");
        }
        // The image's command is forgotten with its entrypoint.
        fails(engine.start(&app().entrypoint([""; 0])), Kind::Invalid, &["no command"]);
        fails(engine.start(&app().user("nobody-here")), Kind::NotFound, &["nobody-here", "start container"]);
    });
}

#[test]
fn a_container_has_its_name_its_labels_and_nothing_of_ours() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let spec = script("env | sort; echo; cat /etc/hostname /proc/sys/kernel/hostname; ls /proc/self/fd")
            .label("tier", "first")
            .label("tier", "second");
        let container = engine.start(&spec).unwrap();
        let short = container.id()[..12].to_owned();
        assert_eq!(container.name(), short);
        assert_eq!(container.image(), "tools");
        assert_eq!(container.command()[..2], ["sh", "-c"]);
        assert_eq!(container.labels()["tier"], "second");
        container.wait().unwrap();
        let output = container.output().unwrap().stdout;
        let (env, rest) = output.split_once("\n\n").unwrap();
        let names: Vec<&str> = env.lines().filter_map(|line| line.split('=').next()).collect();
        assert_eq!(names, ["HOME", "HOSTNAME", "PATH", "PWD"], "{output}");
        let rest: Vec<&str> = rest.lines().collect();
        // The three streams, and what `ls` itself opened.
        assert_eq!(rest, [&*short, &*short, "0", "1", "2", "3"], "{output}");
    });
}

#[test]
fn rights_are_as_docker_has_them_or_fewer() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let show = "while read name value; do case $name in CapEff:|CapBnd:|NoNewPrivs:|Seccomp:) echo $name $value;; esac; done < /proc/self/status";
        let default = says(&engine, &script(show));
        assert!(
            default.contains("CapEff: 00000000a80425fb") && default.contains("NoNewPrivs: 0"),
            "{default}"
        );
        let none = says(&engine, &script(show).cap_drop("ALL").no_new_privileges());
        assert!(
            none.contains("CapEff: 0000000000000000\n") && none.contains("CapBnd: 0000000000000000\n"),
            "{none}"
        );
        assert!(none.contains("NoNewPrivs: 1"), "{none}");
        let some = says(&engine, &script(show).cap_drop("all").cap_add("cap_chown").cap_add("NET_RAW"));
        assert!(some.contains("CapEff: 0000000000002001"), "{some}");
        let user = says(&engine, &script(show).user("7"));
        assert!(user.contains("CapEff: 0000000000000000\n"), "{user}");

        let spec =
            script("echo x > /file; echo x > /dev/null && echo x > /dev/shm/x && echo fine").read_only();
        let (exit, output) = run(&engine, &spec);
        assert_eq!((exit, &*output.stdout), (Exit::Code(0), "fine\n"));
        assert!(output.stderr.contains("Read-only file system"), "{output:?}");
        let peek = says(&engine, &script("ls -A /proc | head -n 1; cat /proc/1/comm; ls /sys | head -n 1"));
        assert!(peek.starts_with("1\nsh\n"), "it is alone in its pid namespace: {peek}");
    });
}

#[test]
fn exec_joins_what_is_there() {
    host(|host| {
        let engine = engine(host.dir());
        opinionated(&engine);
        let spec = ContainerSpec::new("app").no_network().entrypoint(["sh", "-c", "echo up; sleep 100"]);
        let container = engine.start(&spec.name("host")).unwrap();
        wrote(&container, "up");
        let show = "echo $COLOUR $(id -u):$(id -g) $(readlink /proc/self/cwd); echo err >&2; exit 3";
        let (exit, output) = container.exec(&ExecSpec::new(["sh", "-c", show])).unwrap();
        assert_eq!(exit, Exit::Code(3));
        assert_eq!((&*output.stdout, &*output.stderr), ("blue 7:8 /work\n", "err\n"));
        let other = ExecSpec::new(["sh", "-c", show]).env("COLOUR", "red").user("0:0").workdir("/tmp");
        assert_eq!(container.exec(&other).unwrap().1.stdout, "red 0:0 /tmp\n");
        // The same pids, the same files, the same network; and killed by a signal.
        let same = "ls -d /proc/1 && cat /proc/1/comm && echo x > /tmp/x && kill -9 $$";
        let (exit, output) = container.exec(&ExecSpec::new(["sh", "-c", same])).unwrap();
        assert_eq!((exit, &*output.stdout), (Exit::Signal(9), "/proc/1\nsh\n"));
        assert_eq!(container.exec(&ExecSpec::new(["cat", "/tmp/x"])).unwrap().1.stdout, "x\n");

        let missing =
            fails(container.exec(&ExecSpec::new(["/no/such"])), Kind::NotFound, &["/no/such", "`host`"]);
        assert!(missing.contains("No such file or directory"), "{missing}");
        let error = container.exec(&ExecSpec::new(["/etc/passwd"])).unwrap_err();
        assert_eq!((error.kind(), error.command_status()), (Kind::Denied, Some(126)), "{error}");
        fails(container.exec(&ExecSpec::new([""; 0])), Kind::Invalid, &["`host`"]);
        container.kill().unwrap();
        fails(container.exec(&ExecSpec::new(["id"])), Kind::InUse, &["`host`", "not running"]);
    });
}

#[test]
fn logs_keep_streams_apart_and_lines_whole() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let container = engine
            .start(&script("echo one; echo two >&2; printf 'thr'; sleep 0.05; printf 'ee\\nno end'; exit 4"))
            .unwrap();
        assert_eq!(container.wait().unwrap(), Exit::Code(4));
        let mut logs: Vec<_> =
            container.logs().unwrap().into_iter().map(|entry| (entry.stream, entry.log)).collect();
        // Between two pipes there is no order.
        logs.sort_by_key(|(stream, _)| *stream == Stream::Stderr);
        let text = |stream, text: &str| (stream, text.to_owned());
        let out = |line| text(Stream::Stdout, line);
        assert_eq!(logs, [out("one\n"), out("three\n"), out("no end"), text(Stream::Stderr, "two\n")]);
        let times: Vec<String> = container.logs().unwrap().into_iter().map(|entry| entry.time).collect();
        assert!(times.is_sorted() && times[0].ends_with('Z'), "{times:?}");
        // A pipe full and more, all of it there when wait returns.
        let much =
            engine.start(&script("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done")).unwrap();
        much.wait().unwrap();
        let output = much.output().unwrap().stdout;
        assert_eq!((output.lines().count(), output.lines().last()), (20000, Some("line 19999")));
    });
}

#[test]
fn a_command_that_cannot_be_executed_says_why() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let start = |command: &str| engine.start(&script("").name("x").command([command])).unwrap_err();
        let missing = start("no-such-program");
        assert_eq!((missing.kind(), missing.command_status()), (Kind::NotFound, Some(127)));
        let text = missing.to_string();
        assert!(text.starts_with("start container `x` (tools): launch step "), "{text}");
        assert!(text.contains("exec no-such-program") && text.contains("(os error 2)"), "{text}");
        let denied = start("/etc/passwd");
        assert_eq!((denied.kind(), denied.command_status()), (Kind::Denied, Some(126)), "{denied}");
        crate::support::nothing_but_engines(host.dir());
    });
}
