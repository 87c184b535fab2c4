//! "ADD" and "COPY".

use coracle_build::{CopyFrom, Dockerfile, Op};

use super::{copied, last, plan};

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
