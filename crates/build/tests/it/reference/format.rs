//! "Format" to "Shell and exec form", and "Here-Documents".

use coracle_build::{Dockerfile, Op};

use super::{argv, config, copied, last, plan, shell};

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
fn run_with_here_documents() {
    assert_eq!(argv(&plan("FROM a\nRUN <<EOF\none\ntwo\nEOF\n")), shell("one\ntwo\n"));
    assert_eq!(argv(&plan("FROM a\nRUN cat <<EOF > f\n$x\nEOF\n")), shell("cat <<EOF > f\n$x\nEOF"));
    assert_eq!(argv(&plan("FROM a\nRUN <<E\n#!/usr/bin/env python\nprint(1)\nE\n")), ["/dev/pipes/E"]);
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
fn here_documents() {
    // "Example: Running a multi-line script".
    let text = "FROM debian\nRUN <<EOT bash\n  set -ex\n  apt-get update\nEOT\n";
    assert_eq!(argv(&plan(text)), shell("<<EOT bash\n  set -ex\n  apt-get update\nEOT"));
    assert_eq!(
        argv(&plan("FROM debian\nRUN <<EOT\n  mkdir -p foo/bar\nEOT\n")),
        shell("  mkdir -p foo/bar\n")
    );
    let two = "FROM alpine\nRUN <<FILE1 cat > file1 && <<FILE2 cat > file2\nI am\nfirst\nFILE1\nI am\nsecond\nFILE2\n";
    let line = "<<FILE1 cat > file1 && <<FILE2 cat > file2\nI am\nfirst\nFILE1\nI am\nsecond\nFILE2";
    assert_eq!(argv(&plan(two)), shell(line));
    // "Example: Creating inline files".
    let (sources, dest) = copied("FROM alpine\nCOPY <<EOF greeting.txt\nhello world\nEOF\n");
    assert_eq!((sources, dest.as_str()), (vec!["<<EOF \"hello world\\n\"".to_owned()], "/greeting.txt"));
    let script = |word: &str| {
        let text =
            format!("FROM alpine\nARG FOO=bar\nCOPY <<-{word} /script.sh\n\techo \"hello ${{FOO}}\"\nEOT\n");
        copied(&text).0.remove(0)
    };
    assert_eq!(script("EOT"), "<<EOT \"echo \\\"hello bar\\\"\\n\"");
    assert_eq!(script("\"EOT\""), "<<EOT \"echo \\\"hello ${FOO}\\\"\\n\"");
}
