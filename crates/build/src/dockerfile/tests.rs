//! What the parser accepts and what it says about the rest.

use super::ast::{CommandLine, CopySource, Verb};
use super::*;

fn error(text: &str) -> String {
    Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap_err().to_string()
}

/// Only the first line of each problem.
fn messages(text: &str) -> Vec<String> {
    let error = Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap_err();
    assert!(!error.diagnostics().is_empty(), "{error}");
    error.diagnostics().iter().map(|d| format!("{}: {}", d.span().line, d.message())).collect()
}

fn one(text: &str) -> Verb {
    let file = Dockerfile::parse("Dockerfile", format!("FROM scratch\n{text}").as_bytes()).unwrap();
    let mut stages = Arc::into_inner(file.stages).unwrap();
    let mut instructions = stages.remove(0).instructions;
    assert_eq!(instructions.len(), 1, "{text}");
    instructions.remove(0).verb
}

#[test]
fn all_errors_at_once_with_carets() {
    let text = "FROM alpine\nRUNN make\n\tCOPY --form=x a b\nLABEL a=b \\\n  c\n";
    assert_eq!(
        error(text),
        "\
Dockerfile:2:1: unknown instruction `RUNN`
  |
2 | RUNN make
  | ^^^^ did you mean `RUN`?

Dockerfile:3:7: `COPY` has no flag `--form`
  |
3 | \tCOPY --form=x a b
  | \t     ^^^^^^^^ did you mean `--from`?

Dockerfile:5:3: `c` has no `=`; quote blanks in values
  |
5 |   c
  |   ^"
    );
}

#[test]
fn each_error_says_what() {
    for (text, message) in [
        ("RUN x\nFROM a\n", "1: only `ARG` can stand before the first `FROM`"),
        ("FROM\n", "1: `FROM` says nothing: takes an image or stage, and maybe `AS name`"),
        ("FROM a b\n", "1: `FROM` takes an image or stage, and maybe `AS name`; not `b`"),
        (
            "FROM a AS 1x\n",
            "1: `1x` can't name a stage: a letter first, then letters, digits, `-`, `_` and `.`",
        ),
        ("FROM --platform a\n", "1: `--platform` takes a value: --platform=…"),
        ("FROM a\nRUN --device=x y\n", "2: `RUN --device` is not supported yet"),
        ("FROM a\nCOPY --checksum=x x y\n", "2: `COPY` has no flag `--checksum`"),
        ("FROM a\nRUN --security=none ls\n", "2: `--security` is `sandbox` or `insecure`, not `none`"),
        ("FROM a\nCOPY --link=maybe a b\n", "2: `--link` is `true` or `false`"),
        ("FROM a\nCOPY --parent a b\n", "2: `COPY` has no flag `--parent`"),
        ("FROM a\nADD --parents a b\n", "2: `ADD` has no flag `--parents`"),
        ("FROM a\nHEALTHCHECK\n", "2: `HEALTHCHECK` says nothing: takes `NONE`, or `CMD` and a command"),
        ("FROM a\nHEALTHCHECK NONE x\n", "2: `HEALTHCHECK NONE` takes nothing after it"),
        ("FROM a\nHEALTHCHECK --timeout=1s NONE\n", "2: `HEALTHCHECK NONE` takes no options"),
        ("FROM a\nHEALTHCHECK curl x\n", "2: a health check is `NONE` or `CMD` and a command, not `curl`"),
        ("FROM a\nHEALTHCHECK CMD\n", "2: `HEALTHCHECK CMD` names no command"),
        ("FROM a\nHEALTHCHECK --interval=5 CMD x\n", "2: `5` is no duration, as `30s` or `1m30s`"),
        ("FROM a\nHEALTHCHECK --interval=5us CMD x\n", "2: `5us` is less than a millisecond"),
        ("FROM a\nHEALTHCHECK --retries=-1 CMD x\n", "2: `-1` is no number of retries"),
        ("FROM a\nONBUILD FROM b\n", "2: `FROM` can't be a trigger of `ONBUILD`"),
        ("FROM a\nONBUILD RUNN b\n", "2: unknown instruction `RUNN`"),
        ("FROM a\nCOPY a\n", "2: `COPY` takes at least one source and a destination"),
        ("FROM a\nCOPY --from=x --from=y a b\n", "2: `--from` is there twice"),
        ("FROM a\nCOPY --from=x <<E b\nE\n", "2: the here-document `E` can't come from another stage"),
        ("FROM a\nENV x\n", "2: `ENV` takes `name=value`, one or more"),
        ("FROM a\nENV =x\n", "2: `=x` has no name before `=`"),
        ("FROM a\nARG =x\n", "2: a build argument has no name before `=`"),
        ("FROM a\nRUN [\"a\", 1]\n", "2: an exec form holds strings only"),
        ("FROM a\nRUN []\n", "2: `RUN []` runs nothing"),
        ("FROM a\nSHELL /bin/sh\n", "2: `SHELL` takes a JSON array: SHELL [\"/bin/bash\", \"-c\"]"),
        ("FROM a\nRUN\n", "2: `RUN` says nothing: takes a command line, or a JSON array"),
        ("FROM a\nWORKDIR --x /a\n", "2: `WORKDIR` has no flag `--x`"),
        ("# escape=x\nFROM a\n", "1: the escape character is `\\` or `` ` ``, not `x`"),
        ("# escape=`\n# escape=`\nFROM a\n", "2: the directive `escape` is there twice"),
        (
            "# syntax=me/mine:1\nFROM a\n",
            "1: the syntax `me/mine:1` is a program of its own, which can't be loaded; `docker/dockerfile:1` is built in",
        ),
    ] {
        assert_eq!(messages(text), [message], "{text}");
    }
    assert_eq!(error("# nothing\n"), "Dockerfile: there is no `FROM` in it");
    let bad = Dockerfile::parse("D", b"FROM a\nRUN \xff\n").unwrap_err();
    assert_eq!(bad.to_string(), "D:2: the text is not UTF-8");
}

#[test]
fn kinds_tell_refusals_from_mistakes() {
    let kind = |text: &str| Dockerfile::parse("D", text.as_bytes()).unwrap_err().kind();
    assert_eq!(kind("# syntax=me/mine\nFROM a\n"), coracle_host::Kind::Unsupported);
    assert_eq!(kind("# syntax=me/mine\nFROM a\nRUNN z"), coracle_host::Kind::Invalid);
}

#[test]
fn directives_and_comments() {
    let file = Dockerfile::parse(
        "D",
        b"# syntax=docker/dockerfile:1.7\n#escape = `\n# check=skip=all\n# c\nFROM a as B\nRUN x `\n  y\\\n",
    )
    .unwrap();
    assert_eq!(file.escape, '`');
    assert_eq!(file.instructions().collect::<Vec<_>>(), [(5, "FROM a as B"), (6, "RUN x y\\")]);
    assert_eq!(file.stages[0].from.name.as_ref().unwrap().text, "b");
    // After an unknown directive, which is a comment, there are none.
    let file = Dockerfile::parse("D", b"# foo=bar\n# escape=`\nFROM a\n").unwrap();
    assert_eq!(file.escape, '\\');
}

#[test]
fn forms_of_commands() {
    let Verb::Run(run) = one("RUN [ -f x ] && echo \\\n # c\n 'a b'") else { panic!() };
    assert_eq!(run.line, CommandLine::Shell("[ -f x ] && echo  'a b'".to_owned()));
    let Verb::Cmd(CommandLine::Exec(argv)) = one(r#"CMD ["a", "b c"]"#) else { panic!() };
    assert_eq!(argv, ["a", "b c"]);
    let Verb::Run(run) = one("RUN -- cat <<E\nx\nE") else { panic!() };
    assert_eq!((run.line, run.heredocs[0].text.as_str()), (CommandLine::Shell("cat <<E".to_owned()), "x\n"));
}

#[test]
fn forms_of_health_checks() {
    let check = |text: &str| match one(text) {
        Verb::Healthcheck(check) => check,
        other => panic!("{other:?}"),
    };
    assert_eq!(check("HEALTHCHECK none").test, ["NONE"]);
    let exec = check("HEALTHCHECK --interval=5m --timeout=3s --retries=4 cmd [\"a\", \"b c\"]");
    assert_eq!(exec.test, ["CMD", "a", "b c"]);
    assert_eq!((exec.interval, exec.timeout, exec.retries), (300_000_000_000, 3_000_000_000, 4));
    let shell =
        check("HEALTHCHECK --start-period=1m --start-interval=500ms CMD curl -f \\\n  http://x || exit 1");
    assert_eq!(shell.test, ["CMD-SHELL", "curl -f   http://x || exit 1"]);
    assert_eq!((shell.start_period, shell.start_interval), (60_000_000_000, 500_000_000));
}

#[test]
fn triggers_are_kept_as_text() {
    let text = |line: &str| match one(line) {
        Verb::OnBuild(text) => text,
        other => panic!("{other:?}"),
    };
    assert_eq!(text("ONBUILD  COPY . /app"), "COPY . /app");
    assert_eq!(text("onbuild RUN <<E\na\nE"), "RUN <<E\na\nE");
    let again = trigger("RUN <<E\na\nE").unwrap();
    assert!(matches!(again.verb, Verb::Run(run) if run.heredocs[0].text == "a\n"));
    for bad in ["FROM x", "ONBUILD RUN x", "MAINTAINER x", "RUNN x", "COPY x", "ENV a=b\nENV c=d", ""] {
        assert!(trigger(bad).is_err(), "{bad}");
    }
}

#[test]
fn forms_of_pairs() {
    let words = |verb: Verb| match verb {
        Verb::Env(pairs) | Verb::Label(pairs) => {
            pairs.into_iter().map(|(k, v)| format!("{}|{}", k.text, v.text)).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(words(one(r#"ENV a=1 b="x y" c=x\ y d="#)), ["a|1", "b|\"x y\"", "c|x\\ y", "d|"]);
    assert_eq!(words(one("ENV a  b = c")), ["a|b = c"]);
    assert_eq!(words(one("LABEL \"a b\"=1 \\\n\n c=2")), ["\"a b\"|1", "c|2"]);
    let Verb::Arg(args) = one("ARG a b=1 c=") else { panic!() };
    let args: Vec<_> =
        args.iter().map(|(n, v)| (n.text.as_str(), v.as_ref().map(|v| v.text.as_str()))).collect();
    assert_eq!(args, [("a", None), ("b", Some("1")), ("c", Some(""))]);
}

#[test]
fn forms_of_copy() {
    let Verb::Copy(copy) = one("COPY --from=0 --chown=a:b --chmod=644 x y/ z/") else { panic!() };
    assert_eq!(copy.from.unwrap().text, "0");
    assert_eq!(copy.chown.unwrap().text, "a:b");
    assert_eq!(copy.chmod.unwrap().text, "644");
    assert_eq!((copy.sources.len(), copy.dest.text.as_str()), (2, "z/"));
    let Verb::Copy(copy) = one(r#"COPY ["a b", "c"]"#) else { panic!() };
    assert!(matches!(&copy.sources[0], CopySource::Path(w) if w.text == "a b"));
    let Verb::Copy(copy) = one("COPY <<a.txt x /d/\nhello\na.txt") else { panic!() };
    assert!(matches!(&copy.sources[0], CopySource::Inline(h, _) if h.text == "hello\n"));
    assert!(matches!(&copy.sources[1], CopySource::Path(w) if w.text == "x"));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn never_panics(text in "(FROM a\n)?((RUN|COPY|ENV|ARG|FROM|LABEL|CMD|ADD|ONBUILD|HEALTHCHECK|RUN --mount=) ?([a=,\"'\\[\\]{}$<E -]|\\\\\n|\n)*\n){0,6}") {
            match Dockerfile::parse("D", text.as_bytes()) {
                Ok(file) => { file.instructions().count(); }
                Err(error) => { error.to_string(); }
            }
        }

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Dockerfile::parse("D", &bytes);
        }
    }
}
