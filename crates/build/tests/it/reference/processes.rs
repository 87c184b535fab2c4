//! What is run: "RUN", "CMD", "ENTRYPOINT", "WORKDIR" to "USER", "ONBUILD" to "SHELL".

use coracle_build::{BuildSpec, Dockerfile, Op};

use super::{argv, config, last, plan, planned, ran, shell};

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
fn volume_user_workdir_and_stopsignal() {
    let made =
        config("FROM a\nVOLUME [\"/data\"]\nVOLUME /var/log /var/db\nUSER app:staff\nSTOPSIGNAL SIGKILL\n");
    assert_eq!(made.volumes.into_keys().collect::<Vec<_>>(), ["/data", "/var/db", "/var/log"]);
    assert_eq!((made.user.as_str(), made.stop_signal.as_str()), ("app:staff", "SIGKILL"));
    assert_eq!(config("FROM a\nWORKDIR /a\nWORKDIR b\nWORKDIR c\n").working_dir, "/a/b/c");
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

#[test]
fn how_cmd_and_entrypoint_interact() {
    // "Understand how CMD and ENTRYPOINT interact": the table, and the note below it.
    let (exec_entry, shell_entry) = ("ENTRYPOINT [\"e\", \"p1\"]", "ENTRYPOINT e p1");
    let (exec_cmd, shell_cmd) = ("CMD [\"c\", \"p2\"]", "CMD c p2");
    let shelled = |line: &str| format!("/bin/sh -c {line}");
    for (entrypoint, cmd, expected) in [
        ("", exec_cmd, "c p2".to_owned()),
        ("", shell_cmd, shelled("c p2")),
        (exec_entry, "", "e p1".to_owned()),
        (exec_entry, exec_cmd, "e p1 c p2".to_owned()),
        (exec_entry, shell_cmd, format!("e p1 {}", shelled("c p2"))),
        (shell_entry, "", shelled("e p1")),
    ] {
        let config = config(&format!("FROM a\n{entrypoint}\n{cmd}\n"));
        let words = config.entrypoint.into_iter().chain(config.cmd).flatten().collect::<Vec<_>>();
        assert_eq!(words.join(" "), expected, "{entrypoint} {cmd}");
    }
    // A shell form of ENTRYPOINT has the command for `$0`, and so for nothing.
    let both = config(&format!("FROM a\n{shell_entry}\n{exec_cmd}\n"));
    assert_eq!(both.entrypoint.unwrap(), shell("e p1"));
    let inherited = config(&format!("FROM a AS one\n{exec_cmd}\nFROM one\n{exec_entry}\n"));
    assert_eq!(inherited.cmd, None, "the base's command goes with a new ENTRYPOINT");
    // "Exec form ENTRYPOINT example", "Shell form ENTRYPOINT example".
    let apache = config(
        "FROM debian:stable\nEXPOSE 80 443\nVOLUME [\"/var/www\", \"/var/log/apache2\", \"/etc/apache2\"]\n\
         ENTRYPOINT [\"/usr/sbin/apache2ctl\", \"-D\", \"FOREGROUND\"]\n",
    );
    assert_eq!(apache.entrypoint.unwrap(), ["/usr/sbin/apache2ctl", "-D", "FOREGROUND"]);
    assert_eq!((apache.exposed_ports.len(), apache.volumes.len()), (2, 3));
    // Two hyphens alone end the flags of any instruction.
    let ignored = config("FROM ubuntu\nENTRYPOINT top -b\nCMD -- --ignored-param1\n");
    assert_eq!(
        (ignored.entrypoint.unwrap(), ignored.cmd.unwrap()),
        (shell("top -b"), shell("--ignored-param1"))
    );
}

#[test]
fn workdir_and_what_it_is_made_of() {
    // "WORKDIR": relative to the one before, with what ENV has set.
    assert_eq!(ran(&plan("FROM a\nWORKDIR /a\nWORKDIR b\nWORKDIR c\nRUN pwd\n")).cwd, "/a/b/c");
    // The reference prints the name of the variable that is not set; BuildKit, as this, has nothing there.
    assert_eq!(ran(&plan("FROM a\nENV DIRPATH=/path\nWORKDIR $DIRPATH/$DIRNAME\nRUN pwd\n")).cwd, "/path");
    assert_eq!(ran(&plan("FROM a\nRUN pwd\n")).cwd, "/");
    // "VOLUME", "USER": what the examples declare.
    assert!(config("FROM ubuntu\nRUN mkdir /myvol\nVOLUME /myvol\n").volumes.contains_key("/myvol"));
    assert_eq!(config("FROM a\nRUN net user /add patrick\nUSER patrick\n").user, "patrick");
}

#[test]
fn triggers_and_health() {
    // "ONBUILD", "ONBUILD limitations".
    let parent =
        config("FROM a\nONBUILD ADD . /app/src\nONBUILD RUN /usr/local/bin/python-build --dir /app/src\n");
    assert_eq!(parent.on_build, ["ADD . /app/src", "RUN /usr/local/bin/python-build --dir /app/src"]);
    for text in ["ONBUILD ONBUILD RUN x", "ONBUILD FROM a", "ONBUILD MAINTAINER me"] {
        assert!(Dockerfile::parse("D", format!("FROM a\n{text}\n").as_bytes()).is_err(), "{text}");
    }
    // "Copy or mount from stage, image, or context": kept for whoever builds on it.
    let later = config(
        "FROM alpine AS baseimage\nONBUILD COPY --from=build /usr/bin/app /app\n\
         ONBUILD RUN --mount=from=config,target=/opt/appconfig ...\n",
    );
    assert_eq!(later.on_build[0], "COPY --from=build /usr/bin/app /app");
    // "STOPSIGNAL": a name or a number. "HEALTHCHECK": the last one counts, and NONE is one.
    assert_eq!(config("FROM a\nSTOPSIGNAL 9\n").stop_signal, "9");
    let health = |text: &str| config(&format!("FROM a\n{text}\n")).healthcheck.unwrap();
    assert_eq!(
        health("HEALTHCHECK CMD a\nHEALTHCHECK CMD [\"b\", \"c\"]")["Test"],
        serde_json::json!(["CMD", "b", "c"])
    );
    assert_eq!(health("HEALTHCHECK NONE")["Test"], serde_json::json!(["NONE"]));
    let all = health(
        "HEALTHCHECK --interval=1s --timeout=2s --start-period=3s --start-interval=4s --retries=5 CMD x",
    );
    let second = 1_000_000_000u64;
    for (name, value) in [
        ("Interval", second),
        ("Timeout", 2 * second),
        ("StartPeriod", 3 * second),
        ("StartInterval", 4 * second),
        ("Retries", 5),
    ] {
        assert_eq!(all[name], value, "{name}");
    }
}

#[test]
fn shells_one_after_the_other() {
    // "SHELL": each holds for what follows.
    let text = "FROM microsoft/windowsservercore\nRUN echo default\nSHELL [\"powershell\", \"-command\"]\n\
                RUN Write-Host hello\nSHELL [\"cmd\", \"/S\", \"/C\"]\nRUN echo hello\nCMD x\n";
    let made = plan(text);
    let lines: Vec<String> = last(&made)
        .steps
        .iter()
        .filter_map(|step| if let Op::Run(command) = &step.op { Some(command.argv.join(" ")) } else { None })
        .collect();
    assert_eq!(
        lines,
        ["/bin/sh -c echo default", "powershell -command Write-Host hello", "cmd /S /C echo hello"]
    );
    assert_eq!(last(&made).config.config.cmd.clone().unwrap(), ["cmd", "/S", "/C", "x"]);
    assert_eq!(
        argv(&plan(
            "FROM a\nRUN [\"powershell\", \"-command\", \"Execute-MyCmdlet\", \"-param1 \\\"c:\\\\foo.txt\\\"\"]\n"
        )),
        ["powershell", "-command", "Execute-MyCmdlet", "-param1 \"c:\\foo.txt\""]
    );
    let natural = "# escape=`\n\nFROM microsoft/nanoserver\nSHELL [\"powershell\",\"-command\"]\n\
                   RUN New-Item -ItemType Directory C:\\Example\nADD Execute-MyCmdlet.ps1 c:\\example\\\n\
                   RUN c:\\example\\Execute-MyCmdlet -sample 'hello world'\n";
    assert_eq!(
        argv(&plan(natural)),
        ["powershell", "-command", "c:\\example\\Execute-MyCmdlet -sample 'hello world'"]
    );
    assert!(Dockerfile::parse("D", b"FROM a\nSHELL powershell -command\n").is_err(), "only as JSON");
}
