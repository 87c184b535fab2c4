//! The Dockerfile reference, section by section: what its examples show, in examples of our own.

use std::collections::BTreeMap;

use coracle_build::{BuildSpec, CopyFrom, Dockerfile, Graph, ImageConfig, Op, Plan, RunConfig, Stage};

fn planned(text: &str, spec: &BuildSpec) -> Plan {
    let file = Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let graph = Graph::new(&file, spec).unwrap_or_else(|error| panic!("{error}"));
    let base = ImageConfig::scratch();
    let bases: BTreeMap<String, ImageConfig> =
        graph.images().iter().map(|name| (name.clone(), base.clone())).collect();
    graph.plan(&bases).unwrap_or_else(|error| panic!("{error}"))
}

fn plan(text: &str) -> Plan {
    planned(text, &BuildSpec::new("."))
}

fn last(plan: &Plan) -> &Stage {
    plan.stages.last().unwrap()
}

fn config(text: &str) -> RunConfig {
    last(&plan(text)).config.config.clone()
}

/// The arguments of the last RUN.
fn argv(plan: &Plan) -> Vec<String> {
    let mut runs = last(plan).steps.iter().filter_map(|step| match &step.op {
        Op::Run(command) => Some(command.argv.clone()),
        _ => None,
    });
    runs.next_back().unwrap()
}

fn shell(line: &str) -> Vec<String> {
    ["/bin/sh", "-c", line].map(str::to_owned).to_vec()
}

/// Sources and destination of the last COPY or ADD.
fn copied(text: &str) -> (Vec<String>, String) {
    let plan = plan(text);
    let Op::Copy(copy) = &last(&plan).steps.last().unwrap().op else { panic!("{text}") };
    let source = |source: &CopyFrom| match source {
        CopyFrom::Path(path) => path.clone(),
        CopyFrom::Inline(name, text) => format!("<<{name} {text:?}"),
        CopyFrom::Remote(source) => source.remote.to_string(),
        other => panic!("{other:?}"),
    };
    (copy.sources.iter().map(source).collect(), copy.dest.clone())
}

#[test]
fn format_comments_and_whitespace() {
    let text = "# not a directive\n# escape=`\nFROM a\n  # indented\n   RUN one \\\n# between\n   two\nRUN echo 'a # b'\n";
    let made = plan(text);
    assert_eq!(argv(&made), shell("echo 'a # b'"));
    let Op::Run(first) = &last(&made).steps[0].op else { panic!() };
    assert_eq!(first.argv, shell("one    two"));
}

#[test]
fn parser_directives() {
    // Directives end with the first line that is none; names are in any case, blanks don't matter.
    assert_eq!(argv(&plan("#  ESCAPE = `\nFROM a\nRUN one `\n  two\\\n")), shell("one   two\\"));
    let text = "FROM a\n# escape=`\nRUN one`\n";
    assert_eq!(argv(&plan(text)), shell("one`"), "too late");
    assert!(Dockerfile::parse("D", b"# escape=\\\n# escape=`\nFROM a\n").is_err(), "twice");
    assert!(Dockerfile::parse("D", b"# syntax=docker/dockerfile:1\nFROM a\n").is_ok());
    assert!(Dockerfile::parse("D", b"# syntax=example/other:1\nFROM a\n").is_err());
    assert!(Dockerfile::parse("D", b"# check=skip=JSONArgsRecommended;error=true\nFROM a\n").is_ok());
}

#[test]
fn environment_replacement() {
    let text = "FROM a\nENV DIR=/opt/x\nWORKDIR ${DIR}\nADD . $DIR\nCOPY \\$DIR /literal\n";
    let made = plan(text);
    assert_eq!(last(&made).config.config.working_dir, "/opt/x");
    assert_eq!(copied(text).0, ["$DIR"]);
    let value = |word: &str| {
        let text = format!("FROM a\nENV set=foobarbaz empty=\nENV got={word}\n");
        let env = config(&text).env;
        env.iter().find_map(|pair| pair.strip_prefix("got=")).unwrap().to_owned()
    };
    for (word, expected) in [
        ("${set:-word}", "foobarbaz"),
        ("${none:-word}", "word"),
        ("${empty:-word}", "word"),
        ("${empty-word}", ""),
        ("${set:+word}", "word"),
        ("${none:+word}", ""),
        ("${set#f*b}", "arbaz"),
        ("${set##f*b}", "az"),
        ("${set%b*}", "foobar"),
        ("${set%%b*}", "foo"),
        ("${set/ba/BA}", "fooBArbaz"),
        ("${set//ba/BA}", "fooBArBAz"),
        ("'$set'", "$set"),
        ("\"$set\"", "foobarbaz"),
    ] {
        assert_eq!(value(word), expected, "{word}");
    }
    // The whole instruction sees what was there before it.
    let env = config("FROM a\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc\n").env;
    assert_eq!(env[1..], ["abc=bye", "def=hello", "ghi=bye"]);
}

#[test]
fn shell_and_exec_form() {
    assert_eq!(
        argv(&plan("FROM a\nRUN [\"/bin/bash\", \"-c\", \"echo $HOME\"]\n")),
        ["/bin/bash", "-c", "echo $HOME"]
    );
    assert_eq!(
        argv(&plan("FROM a\nRUN ['single', 'quotes']\n")),
        shell("['single', 'quotes']"),
        "that is no JSON"
    );
    assert_eq!(argv(&plan("FROM a\nSHELL [\"/bin/bash\", \"-c\"]\nRUN x\n")), ["/bin/bash", "-c", "x"]);
}

#[test]
fn from_and_how_it_goes_with_arg() {
    let text = "ARG CODE=latest\nFROM base:${CODE}\nRUN one\nFROM extras:${CODE}\nARG CODE\nRUN two\n";
    let spec = BuildSpec::new(".").arg("CODE", "7");
    let file = Dockerfile::parse("D", text.as_bytes()).unwrap();
    assert_eq!(Graph::new(&file, &spec).unwrap().images(), ["extras:7"], "the other stage is not needed");
    let made = planned(text, &spec);
    let Op::Run(command) = &last(&made).steps[1].op else { panic!() };
    assert!(command.env.contains(&("CODE".into(), "7".into())));
    let made = plan("FROM --platform=$BUILDPLATFORM a AS build\nRUN x\nFROM build\n");
    assert_eq!(made.stages.len(), 2);
}

#[test]
fn run_with_here_documents() {
    assert_eq!(argv(&plan("FROM a\nRUN <<EOF\none\ntwo\nEOF\n")), shell("one\ntwo\n"));
    assert_eq!(argv(&plan("FROM a\nRUN cat <<EOF > f\n$x\nEOF\n")), shell("cat <<EOF > f\n$x\nEOF"));
    assert_eq!(argv(&plan("FROM a\nRUN <<E\n#!/usr/bin/env python\nprint(1)\nE\n")), ["/dev/pipes/E"]);
}

#[test]
fn cmd_and_entrypoint() {
    assert_eq!(config("FROM a\nCMD [\"a\"]\nCMD [\"b\", \"c\"]\n").cmd.unwrap(), ["b", "c"]);
    assert_eq!(config("FROM a\nCMD echo $HOME\n").cmd.unwrap(), shell("echo $HOME"));
    assert_eq!(config("FROM a\nENTRYPOINT exec top -b\n").entrypoint.unwrap(), shell("exec top -b"));
    let both = config("FROM a\nENTRYPOINT [\"top\", \"-b\"]\nCMD [\"-c\"]\n");
    assert_eq!(
        (both.entrypoint.unwrap(), both.cmd.unwrap()),
        (vec!["top".into(), "-b".into()], vec!["-c".into()])
    );
}

#[test]
fn label_env_and_expose() {
    let text = "FROM a\nLABEL \"com.example.vendor\"=\"ACME Inc\" multi=\"one \\\ntwo\"\nLABEL k=v\n";
    let labels = config(text).labels;
    assert_eq!(labels["com.example.vendor"], "ACME Inc");
    assert_eq!((labels["multi"].as_str(), labels["k"].as_str()), ("one two", "v"));
    let env = config(
        "FROM a\nENV NAME=\"John Doe\" DOG=Rex\\ The\\ Dog \\\n    CAT=fluffy\nENV OLD a whole line\n",
    )
    .env;
    assert_eq!(env[1..], ["NAME=John Doe", "DOG=Rex The Dog", "CAT=fluffy", "OLD=a whole line"]);
    let ports: Vec<String> =
        config("FROM a\nEXPOSE 80/tcp\nEXPOSE 80/udp\nEXPOSE 90\n").exposed_ports.into_keys().collect();
    assert_eq!(ports, ["80/tcp", "80/udp", "90/tcp"]);
}

#[test]
fn add_and_copy() {
    assert_eq!(copied("FROM a\nCOPY f1 f2 /d/\n"), (vec!["f1".into(), "f2".into()], "/d/".into()));
    assert_eq!(copied("FROM a\nCOPY hom* /mydir/\n").0, ["hom*"]);
    assert_eq!(copied("FROM a\nWORKDIR /usr/src\nCOPY x rel/\n").1, "/usr/src/rel/");
    assert_eq!(copied("FROM a\nCOPY [\"with space\", \"/d/\"]\n").0, ["with space"]);
    assert_eq!(copied("FROM a\nCOPY ../up /d\n").0, ["up"], "never above the top");
    assert_eq!(
        copied("FROM a\nARG FOO=bar\nCOPY <<EOT /f\nhello ${FOO}\nEOT\n").0,
        ["<<EOT \"hello bar\\n\""]
    );
    assert_eq!(copied("FROM a\nCOPY <<'EOT' /f\nhello ${FOO}\nEOT\n").0, ["<<EOT \"hello ${FOO}\\n\""]);
    assert!(
        Dockerfile::parse(
            "D",
            b"FROM a\nCOPY --parents --link --chown=1:2 --chmod=u=rw,go=r --exclude=*.o ./x /d/\n"
        )
        .is_ok()
    );
    let made = plan(
        "FROM a AS b\nRUN x\nFROM scratch\nCOPY --from=b /etc/nginx/nginx.conf /n\nCOPY --from=nginx:latest /a /b\n",
    );
    assert_eq!(made.stages.len(), 2);
}

#[test]
fn volume_user_workdir_and_stopsignal() {
    let made =
        config("FROM a\nVOLUME [\"/data\"]\nVOLUME /var/log /var/db\nUSER app:staff\nSTOPSIGNAL SIGKILL\n");
    assert_eq!(made.volumes.into_keys().collect::<Vec<_>>(), ["/data", "/var/db", "/var/log"]);
    assert_eq!((made.user.as_str(), made.stop_signal.as_str()), ("app:staff", "SIGKILL"));
    assert_eq!(config("FROM a\nWORKDIR /a\nWORKDIR b\nWORKDIR c\n").working_dir, "/a/b/c");
}

#[test]
fn arg_and_its_scope() {
    let spec = BuildSpec::new(".").arg("user", "what");
    let text = "FROM a\nUSER ${user:-some}\nARG user\nUSER $user\n";
    assert_eq!(last(&planned(text, &spec)).config.config.user, "what");
    let first = text.replace("ARG user\nUSER $user\n", "");
    assert_eq!(last(&planned(&first, &spec)).config.config.user, "some", "not before its ARG");
    let env = planned("FROM a\nARG V\nENV V=v1\nRUN echo $V\n", &BuildSpec::new(".").arg("V", "v2"));
    let Op::Run(command) = &last(&env).steps[2].op else { panic!() };
    assert!(command.env.contains(&("V".into(), "v1".into())), "ENV wins");
    let stages = plan("FROM a AS one\nARG X=1\nRUN x\nFROM one\nRUN echo $X\n");
    assert!(argv(&stages).contains(&"echo $X".to_owned()));
}

#[test]
fn onbuild_healthcheck_and_shell() {
    assert_eq!(config("FROM a\nONBUILD ADD . /app/src\n").on_build, ["ADD . /app/src"]);
    let health = config(
        "FROM a\nHEALTHCHECK --interval=5m --timeout=3s \\\n  CMD curl -f http://localhost/ || exit 1\n",
    );
    let health = health.healthcheck.unwrap();
    assert_eq!(health["Interval"], 300_000_000_000u64);
    assert_eq!(health["Test"][1], "curl -f http://localhost/ || exit 1");
    assert_eq!(config("FROM a\nSHELL [\"cmd\", \"/S\"]\n").shell.unwrap(), ["cmd", "/S"]);
}

#[test]
fn add_from_elsewhere() {
    // "Adding files from a URL", "Adding files from a Git repository", "ADD --keep-git-dir", "--checksum", "--unpack".
    assert_eq!(
        copied("FROM a\nADD https://example.org/archive.zip /things/\n").0,
        ["https://example.org/archive.zip"]
    );
    assert_eq!(
        copied("FROM a\nADD git@example.org:me/repo.git#v1:docs /docs\n").0,
        ["git@example.org:me/repo.git#v1:docs"]
    );
    assert_eq!(copied("FROM a\nADD --keep-git-dir=true https://example.org/r.git#v1 /r\n").1, "/r");
    assert_eq!(copied("FROM a\nADD --checksum=be1f38e https://example.org/r.git#v1 /\n").1, "/");
    let sum = "24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d";
    assert_eq!(
        copied(&format!("FROM a\nADD --checksum=sha256:{sum} https://example.org/l.tar.gz /\n")).1,
        "/"
    );
    assert_eq!(copied("FROM a\nADD http://example.org/foobar /\n").1, "/");
    assert_eq!(copied("FROM a\nADD http://example.org/foo /bar\n").1, "/bar");
    let unpacks = |text: &str| {
        let plan = plan(text);
        let Op::Copy(copy) = &last(&plan).steps.last().unwrap().op else { panic!() };
        match &copy.sources[0] {
            CopyFrom::Remote(source) => source.unpack,
            _ => copy.unpack,
        }
    };
    assert!(unpacks("FROM a\nADD --unpack=true https://example.org/a.tar.gz /d\n"));
    assert!(!unpacks("FROM a\nADD https://example.org/a.tar.gz /d\n"));
    assert!(!unpacks("FROM a\nADD --unpack=false my.tar.gz .\n") && unpacks("FROM a\nADD my.tar.gz .\n"));
}

#[test]
fn format_whitespace_and_escapes() {
    // "Format": leading whitespace before instructions goes, that in arguments stays.
    assert_eq!(argv(&plan("        # c\nFROM a\n    RUN echo hello\n")), shell("echo hello"));
    assert_eq!(
        argv(&plan("FROM a\nRUN echo \"\\\n     hello\\\n     world\"\n")),
        shell("echo \"     hello     world\"")
    );
    // "escape": on Windows' paths.
    assert_eq!(
        argv(&plan("# escape=`\n\nFROM a\nCOPY testfile.txt c:\\\nRUN dir c:\\\n")),
        shell("dir c:\\")
    );
    // "Parser directives": those that are none are comments, and end the directives.
    assert_eq!(argv(&plan("# About\n# escape=`\nFROM a\nRUN x\\\n y\n")), shell("x y"));
    assert_eq!(argv(&plan("# unknowndirective=value\n# syntax=value\nFROM a\nRUN x\n")), shell("x"));
    assert_eq!(argv(&plan("#\t  eScApE=`\nFROM a\nRUN x`\n y\n")), shell("x y"));
    // "Backslashes": what is no JSON is a shell's line.
    assert_eq!(argv(&plan("FROM a\nRUN [\"c:\\windows\\x.exe\"]\n")), shell("[\"c:\\windows\\x.exe\"]"));
    assert_eq!(argv(&plan("FROM a\nRUN [\"c:\\\\windows\\\\x.exe\"]\n")), ["c:\\windows\\x.exe"]);
    assert_eq!(config("FROM a\nENV ONE TWO= THREE=world\n").env[1..], ["ONE=TWO= THREE=world"]);
}

#[test]
fn patterns_modes_and_owners() {
    assert_eq!(copied("FROM a\nADD arr[[]0].txt /dest/\n").0, ["arr[[]0].txt"]);
    assert_eq!(copied("FROM a\nCOPY index.?s /dest/\n").0, ["index.?s"]);
    assert_eq!(copied("FROM a\nADD something/ /something\n").0, ["something"]);
    let copy = |line: &str| {
        let plan = plan(&format!("FROM a\nARG MODE=440\n{line}\n"));
        let Op::Copy(copy) = last(&plan).steps.last().unwrap().op.clone() else { panic!("{line}") };
        copy
    };
    for (mode, shown) in
        [("755", "755"), ("$MODE", "440"), ("+x", "+x"), ("u=rwX,go=rX", "u=rwX,go=rX"), ("g=u", "g=u")]
    {
        let chmod = copy(&format!("COPY --chmod={mode} . /app/")).chmod.unwrap();
        assert_eq!(chmod.to_string(), shown);
    }
    for owner in ["55:mygroup", "bin", "1", "10:11", "myuser:mygroup"] {
        assert_eq!(copy(&format!("COPY --chown={owner} files* /d/")).chown.unwrap(), owner);
    }
    assert_eq!(copy("COPY --exclude=*.txt --exclude=*.md hom* /mydir/").exclude, ["*.txt", "*.md"]);
    assert!(copy("COPY --parents ./src/**/*.txt /parents/").parents);
}

#[test]
fn run_and_what_is_mounted() {
    let mounts = |line: &str| {
        let plan = planned(
            &format!("FROM a AS build\nRUN x\nFROM a\nWORKDIR /src\n{line}\n"),
            &BuildSpec::new(".").allow(coracle_build::Allow::Insecure),
        );
        let Op::Run(command) = last(&plan).steps.last().unwrap().op.clone() else { panic!("{line}") };
        command
    };
    let cache = mounts(
        "RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \\\n  --mount=type=cache,target=/var/lib/apt,sharing=locked \\\n  apt-get update",
    );
    assert_eq!(cache.mounts.len(), 2);
    assert_eq!(cache.argv.last().unwrap().trim(), "apt-get update");
    assert_eq!(mounts("RUN --mount=type=secret,id=API_KEY,env=API_KEY some $API_KEY").mounts.len(), 1);
    assert_eq!(mounts("RUN --mount=type=ssh ssh -q -T x 2>&1 | tee /hello").mounts.len(), 1);
    assert_eq!(mounts("RUN --mount=target=. make REVISION=$(git rev-parse HEAD) build").mounts.len(), 1);
    assert_eq!(mounts("RUN --mount=type=bind,from=build,source=/x,target=/y z").mounts.len(), 1);
    assert_eq!(mounts("RUN --network=none pip install x").network, coracle_build::Network::None);
    assert!(mounts("RUN --security=insecure cat /proc/self/status").insecure);
    let file = Dockerfile::parse("D", b"FROM a\nRUN --device=vendor.example/gpu=all x\n");
    assert_eq!(file.unwrap_err().kind(), coracle_host::Kind::Unsupported, "refused by its name");
}
