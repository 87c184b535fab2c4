//! Plans as text, and what can't be planned.

use std::collections::BTreeMap;

use super::*;
use crate::image::host_arch;
use crate::spec::BuildSpec;

fn bases() -> BTreeMap<String, ImageConfig> {
    let mut base = ImageConfig::scratch();
    base.config.env.push("LANG=C".to_owned());
    base.config.cmd = Some(vec!["sh".to_owned()]);
    base.config.user = "app".to_owned();
    let mut trigger = ImageConfig::scratch();
    trigger.config.on_build =
        vec!["COPY --from=tools b c".to_owned(), "RUN --mount=from=1,target=/m x".to_owned()];
    let mut parent = ImageConfig::scratch();
    parent.config.on_build =
        vec!["ARG V".to_owned(), "COPY src$V /src/".to_owned(), "RUN <<E\nmake $V\nE".to_owned()];
    BTreeMap::from([
        ("parent".to_owned(), parent),
        ("base".to_owned(), base),
        ("trigger".to_owned(), trigger),
    ])
}

fn planned(text: &str, spec: &BuildSpec) -> crate::Result<Plan> {
    let file = Dockerfile::parse("Dockerfile", text.as_bytes())?;
    Graph::new(&file, spec)?.plan(&bases())
}

fn plan(text: &str) -> Plan {
    planned(text, &BuildSpec::new(".")).unwrap()
}

fn last(plan: &Plan) -> &Stage {
    plan.stages.last().unwrap()
}

fn message(text: &str) -> String {
    let error = planned(text, &BuildSpec::new(".")).unwrap_err();
    let one = |d: &Diagnostic| format!("{}:{}: {}", d.span().line, d.span().column, d.message());
    error.diagnostics().first().map_or_else(|| error.to_string(), one)
}

#[test]
fn only_what_the_target_needs() {
    let text = "FROM base AS a\nRUN make\nFROM base AS b\nRUN other\nFROM a\nCOPY --from=0 /x /y\nCOPY --from=base z .\n";
    assert_eq!(
        plan(text).to_string(),
        "\
stage 0 `a` from base
   2  RUN /bin/sh -c make
      as app in /
stage 2 from stage 0
   6  COPY /x /y
      from stage 0
   7  COPY z .
      from base
"
    );
    let spec = BuildSpec::new(".").target("B");
    assert_eq!(
        planned(text, &spec).unwrap().to_string(),
        "stage 1 `b` from base\n   4  RUN /bin/sh -c other\n      as app in /\n"
    );
    let error = planned(text, &BuildSpec::new(".").target("bb")).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(
        planned("FROM base AS build\n", &BuildSpec::new(".").target("biuld"))
            .unwrap_err()
            .to_string()
            .ends_with("there is no stage `biuld` to build; did you mean `build`?")
    );
    assert_eq!(planned(text, &BuildSpec::new(".").target("1")).unwrap().stages[0].index, 1);
}

#[test]
fn images_of_needed_stages_only() {
    let file = Dockerfile::parse(
        "D",
        b"ARG V=2\nFROM x:$V AS a\nFROM y\nFROM z\nCOPY --from=a a b\nCOPY --from=q:1 c d\n",
    )
    .unwrap();
    let graph = Graph::new(&file, &BuildSpec::new(".")).unwrap();
    assert_eq!(graph.images(), ["x:2", "z", "q:1"]);
    let graph =
        Graph::new(&file, &BuildSpec::new(".").arg("V", "9").arg("W", "1").arg("http_proxy", "p")).unwrap();
    assert_eq!(graph.images()[0], "x:9");
    assert_eq!(graph.unused_args(), ["W"]);
    assert!(graph.plan(&BTreeMap::new()).unwrap_err().to_string().contains("image `x:9` is not given"));
}

#[test]
fn arguments_and_variables_have_their_scopes() {
    let text = "\
ARG G=global
ARG H=${G}-h
FROM base AS a
ARG G
ARG H
ARG L=$LANG
ENV X=$G Y=${X:-none}
ENV X=again-$X
RUN echo
FROM a
RUN $X
FROM base
RUN none
";
    let run = |plan: &Plan| match &last(plan).steps.last().unwrap().op {
        Op::Run(command) => command.env.iter().map(|(n, v)| format!("{n}={v}")).skip(1).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let spec = BuildSpec::new(".").target("a").arg("H", "given").arg("HTTP_PROXY", "http://p");
    let first = planned(text, &spec).unwrap();
    assert_eq!(run(&first), ["LANG=C", "G=global", "H=given", "L=C", "X=again-global", "Y=none"]);
    assert_eq!(last(&first).config.config.env[1..], ["LANG=C", "X=again-global", "Y=none"]);
    let step = last(&first).steps.last().unwrap();
    assert_eq!(step.created_by.as_deref().unwrap(), "RUN |3 G=global H=given L=C /bin/sh -c echo");
    let Op::Run(command) = &step.op else { panic!() };
    let proxy = |name: &str| (name.to_owned(), "http://p".to_owned());
    assert_eq!(command.quiet_env, [proxy("HTTP_PROXY"), proxy("http_proxy")]);
    // A stage on a stage has its arguments; another has not. The builder leaves RUN's own variables to the shell.
    let inherited = planned(text, &BuildSpec::new(".").target("1")).unwrap();
    assert_eq!(run(&inherited)[1..], ["G=global", "H=global-h", "L=C", "X=again-global", "Y=none"]);
    assert!(last(&inherited).steps[0].created_by.as_ref().unwrap().ends_with("/bin/sh -c $X"));
    assert_eq!(run(&plan(text)), ["LANG=C"]);
}

#[test]
fn platform_arguments() {
    let made = plan("FROM --platform=$BUILDPLATFORM base\nARG TARGETARCH\nENV A=$TARGETARCH B=$TARGETOS\n");
    assert_eq!(last(&made).config.config.env[2..], [format!("A={}", host_arch()), "B=".to_owned()]);
    let what = message("FROM --platform=linux/mips base\n");
    assert!(what.starts_with("1:17: building for `linux/mips` is not supported yet"), "{what}");
}

#[test]
fn configuration_of_everything() {
    let made = plan(
        "FROM base\nWORKDIR /a\nWORKDIR b/../c\nUSER $LANG:1\nVOLUME [\"/d\", \"/e\"]\nVOLUME /f /g\nEXPOSE 80 90-91/udp\n\
         LABEL k=\"a b\" $LANG=2\nSTOPSIGNAL SIGINT\nSHELL [\"/bin/bash\", \"-ec\"]\nCMD x $LANG\nENTRYPOINT [\"e\"]\nMAINTAINER me <m@x>\n",
    );
    let stage = last(&made);
    let config = &stage.config.config;
    assert_eq!(config.working_dir, "/a/c");
    assert_eq!(config.user, "C:1");
    assert_eq!(config.volumes.keys().collect::<Vec<_>>(), ["/d", "/e", "/f", "/g"]);
    assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["80/tcp", "90/udp", "91/udp"]);
    assert_eq!(config.labels, BTreeMap::from([("k".into(), "a b".into()), ("C".into(), "2".into())]));
    assert_eq!(config.stop_signal, "SIGINT");
    assert_eq!(config.cmd.as_deref().unwrap(), ["/bin/bash", "-ec", "x $LANG"]);
    assert_eq!(config.entrypoint.as_deref().unwrap(), ["e"]);
    assert_eq!(stage.config.author.as_deref(), Some("me <m@x>"));
    let history: Vec<&str> = stage.steps.iter().filter_map(|s| s.created_by.as_deref()).collect();
    assert_eq!(
        history,
        [
            "WORKDIR /a",
            "WORKDIR /a/c",
            "USER C:1",
            "VOLUME [/d /e]",
            "VOLUME [/f /g]",
            "EXPOSE [80/tcp 90/udp 91/udp]",
            "LABEL k=a b C=2",
            "STOPSIGNAL SIGINT",
            "SHELL [/bin/bash -ec]",
            "CMD [\"/bin/bash\" \"-ec\" \"x $LANG\"]",
            "ENTRYPOINT [\"e\"]",
            "MAINTAINER me <m@x>",
        ]
    );
    assert!(matches!(&stage.steps[1].op, Op::MakeDir { path, .. } if path == "/a/c"));
    // An entrypoint of one's own drops the base's arguments.
    assert_eq!(last(&plan("FROM base\nENTRYPOINT [\"e\"]\n")).config.config.cmd, None);
    let labelled = planned("FROM base\n", &BuildSpec::new(".").label("a", "b")).unwrap();
    assert_eq!(last(&labelled).config.config.labels["a"], "b");
}

#[test]
fn copies() {
    let op = |text: &str| match last(&plan(&format!("FROM base\nWORKDIR /w\nENV d=dir\n{text}")))
        .steps
        .last()
        .unwrap()
        .op
        .clone()
    {
        Op::Copy(copy) => copy,
        other => panic!("{other:?}"),
    };
    let copy = op("COPY --chown=$d --chmod=0644 a ../b/ /$d/x*.txt ./\n");
    let paths: Vec<_> =
        copy.sources.iter().map(|s| if let CopyFrom::Path(p) = s { p.as_str() } else { "?" }).collect();
    assert_eq!(paths, ["a", "b", "dir/x*.txt"]);
    assert_eq!((copy.dest.as_str(), copy.chown.as_deref()), ("/w/", Some("dir")));
    assert_eq!(copy.chmod.unwrap().apply(0o755, false), 0o644);
    assert_eq!(op("COPY . .\n").dest, "/w/");
    assert_eq!(op("COPY a /\n").dest, "/");
    assert_eq!(op("COPY a b\n").dest, "/w/b");
    assert_eq!(op("COPY <<E f\n$d\nE\n").sources, [CopyFrom::Inline("E".into(), "dir\n".into())]);
    assert_eq!(op("COPY <<'E' f\n$d\nE\n").sources, [CopyFrom::Inline("E".into(), "$d\n".into())]);
}

#[test]
fn here_documents_of_run() {
    let run = |text: &str| match last(&plan(&format!("FROM base\n{text}"))).steps[0].op.clone() {
        Op::Run(command) => command.argv[2].clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(run("RUN <<E\na $x\nb\nE\n"), "a $x\nb\n");
    assert_eq!(run("RUN cat <<E > f && ls\na\nE\n"), "cat <<E > f && ls\na\nE");
    let made = plan("FROM base\nRUN <<E\n#!/bin/python\nE\n");
    let Op::Run(command) = &last(&made).steps[0].op else { panic!() };
    assert_eq!(command.argv, ["/dev/pipes/E"]);
    let script = RunMount::Script { target: "/dev/pipes/E".into(), text: "#!/bin/python\n".into() };
    assert_eq!(command.mounts, [script]);
}

#[test]
fn what_cannot_be_planned_is_said_at_its_place() {
    for (text, what) in [
        ("FROM $X\n", "1:6: `$X` is empty: arguments for `FROM` are set by `ARG` before it"),
        ("FROM base\nCOPY --from=9 a b\n", "2:13: there is no stage 9: they are numbered from 0 to 0"),
        ("FROM base AS a\nCOPY --from=a a b\n", "2:13: a stage can't copy from itself"),
        ("FROM base\nCOPY --from=b a b\nFROM base AS b\n", "2:13: stage `b` comes later, at line 3"),
        (
            "FROM base\nCOPY --from=$b a b\n",
            "2:13: `--from` takes no variables: give the image a stage of its own, `FROM $image AS name`",
        ),
        (
            "FROM base\nCOPY a b c\n",
            "2:10: with more than one source the destination is a directory, and ends with `/`",
        ),
        ("FROM base\nCOPY $none b\n", "2:6: `COPY` gets no path: `$none` is empty"),
        ("FROM base\nCOPY --chmod=u+q a b\n", "2:14: `u+q` is no mode, as `644` or `u=rwX,go=rX`"),
        ("FROM base\nENV a=b c=d${\n", "2:12: bad substitution: no variable is named"),
        ("FROM base\nWORKDIR ${x:?where}\n", "2:9: `x`: where"),
        (
            "FROM base\nEXPOSE 80 99999\n",
            "2:11: `99999` is no port: 1 to 65535, or a range of them as `8000-8010`",
        ),
        ("FROM base\nSTOPSIGNAL SIGNONE\n", "2:12: `SIGNONE` is no signal"),
        (
            "FROM scratch\nFROM trigger\n",
            "2:6: `ONBUILD RUN --mount=from=1,target=/m x` of trigger: a stage can't copy from itself",
        ),
        ("FROM base\nADD https://x z/\n", "2:5: `https://x` names no file, so the destination has to"),
        (
            "FROM base\nADD https://x/y.git?ref=v1 z\n",
            "2:5: `https://x/y.git?ref=v1`: what of a repository is meant stands after `#`, not after `?`",
        ),
        (
            "FROM base\nADD --checksum=a https://x/y z\n",
            "2:16: `--checksum` of a URL is `sha256:` and 64 digits, not `a`",
        ),
        (
            "FROM base\nADD --checksum=x git@x:y z\n",
            "2:16: `--checksum` of a repository is a commit's id, not `x`",
        ),
        ("FROM base\nADD --checksum=a x z\n", "2:16: `--checksum` is for URLs and git repositories"),
        (
            "FROM base\nADD --checksum=abcdef01 git@x:y git@x:z z/\n",
            "2:16: `--checksum` says what one source is, and there are more",
        ),
        ("FROM base\nADD --keep-git-dir x z\n", "2:5: `--keep-git-dir` is for git repositories"),
        (
            "FROM base\nRUN --mount=type=ssh,sharing=locked x\n",
            "2:22: a mount of the type `ssh` has no option `sharing`",
        ),
        (
            "FROM base\nRUN --network=host x\n",
            "2:15: the host's network has to be allowed: `--allow network.host`",
        ),
        (
            "FROM base\nRUN --security=insecure x\n",
            "2:16: `--security=insecure` has to be allowed: `--allow security.insecure`",
        ),
        ("FROM base\nRUN --mount=type=cash,target=/x x\n", "2:18: there are no mounts of the type `cash`"),
        (
            "FROM base\nRUN --mount=target=/x,sharing=locked x\n",
            "2:23: a mount of the type `bind` has no option `sharing`",
        ),
        ("FROM base\nRUN --mount=type=tmpfs x\n", "2:13: a mount of the type `tmpfs` needs a `target`"),
        ("FROM base\nRUN --mount=type=cache,target=/ x\n", "2:13: nothing can be mounted over `/`"),
        ("FROM base\nRUN --mount=type=cache,target=/x,mode=9 x\n", "2:39: `9` is no value of `mode`"),
        ("FROM base\nRUN --mount=type=secret x\n", "2:13: a secret has an `id`, a `target` or an `env`"),
        (
            "FROM base\nRUN --mount=from=7,target=/x x\n",
            "2:18: there is no stage 7: they are numbered from 0 to 0",
        ),
        (
            "FROM base\nRUN --network=bridge x\n",
            "2:15: `--network` is `default`, `none` or `host`, not `bridge`",
        ),
        ("FROM base\nRUN [\"a\"]\nENV \"a=b\n", "3:5: the quote `\"` is not closed"),
    ] {
        assert_eq!(message(text), what, "{text}");
    }
}

#[test]
fn triggers_run_right_after_from() {
    let spec = BuildSpec::new(".").arg("V", "7");
    let made = planned("FROM parent AS a\nONBUILD ENV X=1\nFROM a\nRUN $X\n", &spec).unwrap();
    assert_eq!(
        made.to_string(),
        "\
stage 0 `a` from parent
   1  ARG V=7
   1  COPY src7 /src/
   1  RUN |1 V=7 /bin/sh -c make $V

      as root in /
   2  ONBUILD ENV X=1
stage 1 from stage 0
   3  ENV X=1
   4  RUN |1 V=7 /bin/sh -c $X
      as root in /
"
    );
    assert_eq!(made.stages[0].config.config.on_build, ["ENV X=1"], "a trigger runs once");
    assert!(made.stages[1].config.config.on_build.is_empty());
    assert!(last(&made).config.config.env.contains(&"X=1".to_owned()));
}

#[test]
fn triggers_copy_from_stages_and_images() {
    let text = "FROM parent AS x\nFROM base AS one\nFROM scratch AS tools\nFROM trigger\n";
    let file = Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap();
    let graph = || Graph::new(&file, &BuildSpec::new(".")).unwrap();
    assert_eq!(graph().images(), ["trigger"]);
    let mut asked = Vec::new();
    let (settled, found) = graph()
        .settled(|_, name| {
            asked.push(name.to_owned());
            Ok(bases().get(name).cloned())
        })
        .unwrap();
    assert_eq!(
        (asked, settled.images()),
        (vec!["trigger".to_owned(), "base".to_owned()], &["base".to_owned(), "trigger".to_owned()][..])
    );
    let expected = "\
stage 1 `one` from base
stage 2 `tools` from scratch
stage 3 from trigger
   4  COPY b c
      from stage 2
   4  RUN /bin/sh -c x
      as root in /
      with bind / of stage 1 at /m
";
    assert_eq!(settled.plan(&found).unwrap().to_string(), expected);
    assert_eq!(graph().plan(&bases()).unwrap().to_string(), expected, "where all is known anyway");
    // What is no stage is an image; and it is only asked for when the trigger is known.
    let text = "FROM scratch AS zero\nFROM scratch AS one\nFROM trigger\n";
    let file = Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap();
    let (settled, _) = Graph::new(&file, &BuildSpec::new("."))
        .unwrap()
        .settled(|_, name| Ok(bases().get(name).cloned()))
        .unwrap();
    assert_eq!(settled.images(), ["trigger", "tools"]);
    assert_eq!(settled.asks_for("tools").0.line, 3, "by the FROM that has the trigger");
}

#[test]
fn health_checks_as_docker_stores_them() {
    let health = |line: &str| {
        let made = plan(&format!("FROM base\n{line}\n"));
        last(&made).config.config.healthcheck.clone().unwrap().to_string()
    };
    assert_eq!(health("HEALTHCHECK NONE"), r#"{"Test":["NONE"]}"#);
    assert_eq!(
        health("HEALTHCHECK --interval=30s --retries=3 CMD test $HOME"),
        r#"{"Interval":30000000000,"Retries":3,"Test":["CMD-SHELL","test $HOME"]}"#
    );
}

#[test]
fn mounts_of_run() {
    let text = "\
FROM base AS deps
FROM base
WORKDIR /w
ENV id=npm
RUN --mount=type=bind,from=deps,source=/lib/../usr,target=in,rw --mount=type=cache,id=$id,dst=/c,sharing=locked,uid=7 \\
    --mount=type=tmpfs,target=/t,size=1m --mount=type=secret,id=k --mount=type=secret,id=t,env=TOKEN,required \\
    --mount=target=. --mount=type=ssh --network=none make
";
    let made = plan(text);
    assert_eq!(
        made.to_string(),
        "\
stage 0 `deps` from base
stage 1 from base
   3  WORKDIR /w
   4  ENV id=npm
   5  RUN /bin/sh -c make
      as app in /w
      with bind /usr of stage 0 at /w/in, writes dropped
      with locked cache `npm` at /c
      with tmpfs of 1048576 bytes at /t
      with secret `k` at /run/secrets/k
      with secret `t` as $TOKEN
      with bind / of the context at /w
      with ssh agent `default` at /run/buildkit/ssh_agent.6
      network none
"
    );
    let Op::Run(command) = &last(&made).steps.last().unwrap().op else { panic!() };
    let RunMount::Cache { uid: 7, gid: 0, mode: 0o755, read_only: false, .. } = &command.mounts[1] else {
        panic!("{:?}", command.mounts[1])
    };
    let RunMount::Secret { required: true, mode: 0o400, target: None, .. } = &command.mounts[4] else {
        panic!("{:?}", command.mounts[4])
    };
}
