//! ADD, ONBUILD, COPY's later flags and RUN's mounts, end to end.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use coracle_build::{ImageConfig, RunMount};
use coracle_host::{Kind, Root};

use crate::bench::{Bench, built, cached};

/// Name, type, content or target.
fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, text) in entries {
        let mut header = tar::Header::new_gnu();
        // Written as they are, `..` and all.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(if *kind == tar::EntryType::Directory { 0o750 } else { 0o640 });
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        header.set_mtime(1_000_000);
        let link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
        if link {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        let content = if link { "" } else { *text };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn sample() -> Vec<u8> {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    archive(&[
        ("d/", Directory, ""),
        ("d/f", Regular, "text"),
        ("d/hard", Link, "d/f"),
        ("./soft", Symlink, "d/f"),
        ("/abs", Regular, "abs"),
    ])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Compressed by the program that everybody has.
fn by_program(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut command = std::process::Command::new(program);
    let command = command.arg("-c").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[test]
fn add_unpacks_archives_by_content() {
    let mut bench = Bench::new();
    fs::write(bench.context().join("plain.tar"), sample()).unwrap();
    fs::write(bench.context().join("zipped"), gzip(&sample())).unwrap();
    fs::write(bench.context().join("std.zst"), zstd::encode_all(&sample()[..], 1).unwrap()).unwrap();
    for (by, name) in [("xz", "x.xz"), ("bzip2", "b.bz2")] {
        fs::write(bench.context().join(name), by_program(by, &sample())).unwrap();
    }
    fs::write(bench.context().join("note.gz"), gzip(b"no archive")).unwrap();
    bench.file("fake.tar", "no archive either");
    let spec = bench.dockerfile(
        "FROM base\nADD plain.tar /a\nADD zipped std.zst /b/\nADD x.xz /x/\nADD b.bz2 /z/\nADD note.gz fake.tar /c/\nADD --unpack=false plain.tar /d/\nCOPY plain.tar /e/\n",
    );
    bench.build(&spec);
    for place in ["a", "b", "x", "z"] {
        assert_eq!(bench.read(&format!("{place}/d/f")).as_deref(), Some("text"));
        assert_eq!(bench.read(&format!("{place}/d/hard")).as_deref(), Some("text"));
        assert_eq!(bench.read(&format!("{place}/soft")).as_deref(), Some("text"));
        assert_eq!(bench.read(&format!("{place}/abs")).as_deref(), Some("abs"));
        assert_eq!(bench.metadata(&format!("{place}/d")).mode() & 0o7777, 0o750);
        assert_eq!(bench.metadata(&format!("{place}/d/f")).mode() & 0o7777, 0o640);
    }
    assert_eq!(bench.read("c/fake.tar").as_deref(), Some("no archive either"));
    assert!(bench.metadata("c/note.gz").is_file());
    assert!(bench.metadata("d/plain.tar").is_file() && bench.metadata("e/plain.tar").is_file());
    assert_eq!(cached(&bench.build(&spec)), [2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn nothing_of_an_archive_leaves_its_destination() {
    use tar::EntryType::{Char, Link, Regular, Symlink};
    let mut bench = Bench::new();
    fs::write(bench.path("secret"), "s").unwrap();
    let outside = bench.path("x");
    let outside = outside.to_str().unwrap();
    for (entries, kind) in [
        (vec![("../x", Regular, "bad")], Kind::Invalid),
        (vec![("a/../../x", Regular, "bad")], Kind::Invalid),
        (vec![("h", Link, "../../secret")], Kind::Invalid),
        (vec![("removed", Char, "")], Kind::Unsupported),
    ] {
        fs::write(bench.context().join("bad.tar"), archive(&entries)).unwrap();
        let spec = bench.dockerfile("FROM base\nADD bad.tar /in/\n");
        assert_eq!(bench.try_build(&spec).unwrap_err().kind(), kind, "{entries:?}");
    }
    // Through links it stays inside: `/` is the destination.
    let entries = [("up", Symlink, "../../../.."), ("up/x", Regular, "in"), ("to", Symlink, outside)];
    fs::write(bench.context().join("links.tar"), archive(&entries)).unwrap();
    let spec = bench.dockerfile("FROM base\nADD links.tar /in/\n");
    bench.build(&spec);
    assert_eq!(bench.read("in/x").as_deref(), Some("in"));
    assert!(!bench.path("x").exists());
    fs::write(bench.context().join("cut.tar"), &sample()[..1100]).unwrap();
    let spec = bench.dockerfile("FROM base\nADD cut.tar /in/\n");
    assert_eq!(bench.try_build(&spec).unwrap_err().kind(), Kind::Corrupt);
    // What only begins like one is a file like any other.
    fs::write(bench.context().join("a.xz"), b"\xfd7zXZ\0rest").unwrap();
    let spec = bench.dockerfile("FROM base\nADD a.xz /in/\n");
    bench.build(&spec);
    assert!(bench.metadata("in/a.xz").is_file());
}

#[test]
fn copy_with_parents_and_excludes() {
    let mut bench = Bench::new();
    for name in ["x/a.txt", "x/b.md", "y/deep/a.txt", "y/deep/c.o", "top.txt"] {
        bench.file(name, name);
    }
    fs::set_permissions(bench.context().join("y/deep"), fs::Permissions::from_mode(0o711)).unwrap();
    let spec = bench.dockerfile(
        "FROM base\nCOPY --parents x/a.txt y/**/*.txt /p/\nCOPY --parents ./y/./deep /q/\nCOPY --exclude=*.md --exclude=**/*.o . /r/\nCOPY --exclude=*.md --link x/* /s/\nCOPY --chmod=u=rwX,go= y /t/\n",
    );
    bench.build(&spec);
    assert_eq!(bench.read("p/x/a.txt").as_deref(), Some("x/a.txt"));
    assert_eq!(bench.read("p/y/deep/a.txt").as_deref(), Some("y/deep/a.txt"));
    assert_eq!(bench.metadata("p/y/deep").mode() & 0o7777, 0o711);
    assert_eq!(bench.read("p/y/deep/c.o"), None);
    assert_eq!(bench.read("q/deep/c.o").as_deref(), Some("y/deep/c.o"));
    assert_eq!(bench.read("q/y/deep/c.o"), None);
    assert_eq!(bench.read("r/y/deep/a.txt").as_deref(), Some("y/deep/a.txt"));
    assert_eq!(bench.read("r/y/deep/c.o"), None);
    assert_eq!(bench.read("r/x/b.md").as_deref(), Some("x/b.md"), "`*.md` is at the top only");
    assert_eq!((bench.read("s/a.txt").is_some(), bench.read("s/b.md")), (true, None));
    assert_eq!(bench.metadata("t/deep").mode() & 0o7777, 0o700);
    assert_eq!(bench.metadata("t/deep/a.txt").mode() & 0o7777, 0o600);
    assert_eq!(cached(&bench.build(&spec)), [2, 3, 4, 5, 6]);
    // What is left out changes nothing.
    bench.file("x/b.md", "other");
    assert_eq!(cached(&bench.build(&spec)), [2, 3], "line 4 has it, and the others stand on that");
}

#[test]
fn triggers_of_a_base() {
    let mut bench = Bench::new();
    let mut config = ImageConfig::scratch();
    config.config.on_build = vec!["COPY f /f".to_owned(), "RUN put g made".to_owned()];
    bench.worker.add_base("parent", &[("etc/passwd", "")], config);
    bench.file("f", "1");
    let spec = bench.dockerfile("FROM parent\nRUN put h own\n");
    let report = bench.build(&spec);
    assert_eq!(built(&report), [1, 1, 2]);
    assert_eq!(bench.read("f").as_deref(), Some("1"));
    assert_eq!(bench.read("g").as_deref(), Some("made"));
    assert!(bench.last_image().1["config"].get("OnBuild").is_none());
    fs::remove_file(bench.context().join("f")).unwrap();
    let error = bench.error(&spec);
    assert!(error.starts_with("Dockerfile:1:6: `f` is not in the context\n"), "{error}");
}

#[test]
fn mounts_reach_the_worker_and_secrets_nothing_else() {
    let mut bench = Bench::new();
    bench.file("src/a", "1").file("src/hidden", "no").file(".dockerignore", "**/hidden\n");
    let text = "FROM base AS deps\nRUN put lib 5\nFROM base\nRUN --mount=source=src,target=/s --mount=from=deps,target=/d \\\n --mount=type=secret,id=file --mount=type=secret,id=tok,env=TOK --mount=type=secret,id=opt \\\n --mount=type=cache,target=/c put out x\n";
    let spec = bench.dockerfile(text).secret("file", "hunter2").secret("tok", "swordfish");
    bench.build(&spec);
    let ran = bench.worker.ran.lock().unwrap().last().unwrap().clone();
    let [RunMount::Bind { from: context, .. }, RunMount::Bind { from: deps, .. }, secret, cache] =
        ran.mounts.as_slice()
    else {
        panic!("{:?}", ran.mounts)
    };
    let read = |from: &coracle_build::MountFrom, path: &str| {
        let tree = from.tree.as_ref().unwrap();
        Root::new(tree.as_fd(), "t").read_if_there(format!("{}/{path}", from.path)).unwrap()
    };
    assert_eq!(read(context, "a").as_deref(), Some(&b"1"[..]));
    assert_eq!(read(context, "hidden"), None, "what is ignored is not there");
    assert_eq!(read(deps, "lib").as_deref(), Some(&b"5"[..]));
    assert!(
        matches!(secret, RunMount::Secret { id, value: Some(v), .. } if id == "file" && v.bytes() == b"hunter2")
    );
    assert!(matches!(cache, RunMount::Cache { id, .. } if id == "/c"));
    assert_eq!(ran.quiet_env, [("TOK".to_owned(), "swordfish".to_owned())]);
    let shown = format!("{:?}{:?}{spec:?}{}", ran.mounts, bench.events, bench.last_image().1);
    assert!(!shown.contains("hunter2") && !bench.last_image().1.to_string().contains("swordfish"));
    for record in bench.records().iter().filter(|r| r.is_file()) {
        let text = fs::read_to_string(record).unwrap();
        assert!(!text.contains("hunter2") && !text.contains("swordfish"), "{text}");
    }
    // Another secret is no other step; other content of a mounted file is.
    let spec = spec.secret("file", "other");
    assert_eq!(cached(&bench.build(&spec)), [2, 4]);
    bench.file("src/hidden", "other");
    assert_eq!(cached(&bench.build(&spec)), [2, 4]);
    bench.file("src/a", "2");
    assert_eq!(built(&bench.build(&spec)), [4]);
    let spec = bench.dockerfile("FROM base\nRUN --mount=type=secret,id=k,required put a b\n");
    assert!(bench.error(&spec).starts_with("Dockerfile:2:1: the step needs the secret `k`"));
}
