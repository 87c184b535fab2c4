//! COPY and WORKDIR end to end.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use coracle_build::BuildSpec;

use crate::bench::{Bench, cached};

#[test]
fn modes_and_owners() {
    let mut bench = Bench::new();
    bench.file("bin/tool", "x").file("conf", "y");
    fs::set_permissions(bench.context().join("bin/tool"), fs::Permissions::from_mode(0o750)).unwrap();
    let me = format!("{}:{}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let spec = bench.dockerfile(&format!(
        "FROM base\nCOPY --chown={me} bin /b\nCOPY --chown={me} --chmod=4711 conf bin/tool /new/dir/\n"
    ));
    bench.build(&spec);
    assert_eq!(bench.metadata("b/tool").mode() & 0o7777, 0o750);
    assert_eq!(bench.metadata("new/dir/conf").mode() & 0o7777, 0o4711);
    assert_eq!(bench.metadata("new/dir").mode() & 0o7777, 0o755);
    if rustix::process::geteuid().is_root() {
        let spec = bench.dockerfile("FROM base AS a\nCOPY --chown=app conf /a\nCOPY --chown=app:staff conf /d/b\nFROM base\nCOPY --from=a /a /a\nCOPY --from=a --chown=7 /d /d\n");
        bench.build(&spec);
        let owner = |path: &str| (bench.metadata(path).uid(), bench.metadata(path).gid());
        assert_eq!(owner("a"), (1000, 1001), "between stages files keep their owner");
        assert_eq!(owner("d"), (7, 7));
        assert_eq!(owner("d/b"), (7, 7));
    }
}

#[test]
fn unknown_owners_are_named() {
    let mut bench = Bench::new();
    bench.file("conf", "y");
    let spec = bench.dockerfile("FROM base\nCOPY --chown=nobody conf /a\n");
    let error = bench.error(&spec);
    assert!(error.starts_with("Dockerfile:2:1: there is no user `nobody` in /etc/passwd\n"), "{error}");
}

#[test]
fn workdir_makes_directories_and_is_where_things_go() {
    let mut bench = Bench::new();
    bench.file("f", "1");
    let spec =
        bench.dockerfile("FROM base\nENV D=deep\nWORKDIR /a\nWORKDIR $D/er\nCOPY f .\nRUN put ran here\n");
    bench.build(&spec);
    assert_eq!(bench.read("a/deep/er/f").as_deref(), Some("1"));
    assert_eq!(bench.metadata("a/deep").mode() & 0o7777, 0o755);
    assert_eq!(bench.worker.ran.lock().unwrap()[0].cwd, "/a/deep/er");
}

#[test]
fn here_documents_become_files() {
    let mut bench = Bench::new();
    let spec = bench
        .dockerfile("FROM base\nENV N=name\nCOPY <<hello.txt <<'raw' /d/\nhi $N\nhello.txt\nhi $N\nraw\n");
    bench.build(&spec);
    assert_eq!(bench.read("d/hello.txt").as_deref(), Some("hi name\n"));
    assert_eq!(bench.read("d/raw").as_deref(), Some("hi $N\n"));
    assert_eq!(bench.metadata("d/raw").mode() & 0o7777, 0o644);
}

#[test]
fn destinations_stay_in_the_image() {
    let mut bench = Bench::new();
    bench.file("f", "1");
    symlink("/nowhere-of-the-host", bench.context().join("l")).unwrap();
    fs::create_dir(bench.context().join("d")).unwrap();
    symlink("../../../../../escape", bench.context().join("d/out")).unwrap();
    let spec = bench.dockerfile("FROM base\nCOPY d /\nCOPY f /out/f\nCOPY f ../../up\n");
    bench.build(&spec);
    assert_eq!(bench.read("escape/f").as_deref(), Some("1"), "inside the image");
    assert_eq!(bench.read("up").as_deref(), Some("1"));
    assert!(!bench.path("escape").exists());
}

#[test]
fn a_dockerfile_elsewhere_with_an_ignore_file_of_its_own() {
    let mut bench = Bench::new();
    bench.file("a", "a").file("b", "b").file(".dockerignore", "a\nDockerfile\n");
    let _ = bench.dockerfile("FROM base\nCOPY . /x/\n");
    let outside = bench.path("Dockerfile.prod");
    fs::rename(bench.context().join("Dockerfile"), &outside).unwrap();
    let spec = BuildSpec::new(bench.context()).file(&outside);
    bench.build(&spec);
    assert_eq!((bench.read("x/a"), bench.read("x/b")), (None, Some("b".to_owned())));
    fs::write(bench.path("Dockerfile.prod.dockerignore"), "b\n").unwrap();
    bench.build(&spec);
    assert_eq!((bench.read("x/a"), bench.read("x/b")), (Some("a".to_owned()), None));
    assert!(bench.read("x/.dockerignore").is_some(), "it is a file like others");
}

#[test]
fn a_wildcard_without_files_is_odd_but_no_error() {
    let mut bench = Bench::new();
    let spec = bench.dockerfile("FROM base\nCOPY none* /x/\n");
    assert_eq!(bench.build(&spec).warnings, ["line 2: the wildcards match no file"]);
}

#[test]
fn a_linked_copy_sees_nothing_of_what_is_there() {
    let mut bench = Bench::new();
    for name in ["a", "tree/elsewhere/kept", "tree/dir/old", "tree/dir/sub/old", "tree/file"] {
        bench.file(name, name);
    }
    symlink("elsewhere", bench.context().join("tree/link")).unwrap();
    symlink("/elsewhere", bench.context().join("tree/dir/link")).unwrap();
    fs::set_permissions(bench.context().join("tree/dir"), fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["new/link/x", "new/sub/x"] {
        bench.file(name, name);
    }
    // Without the flag a link is followed, and what is of another kind is an error.
    let spec = bench.dockerfile("FROM base\nCOPY tree /\nCOPY a /link/\n");
    bench.build(&spec);
    assert_eq!((bench.read("elsewhere/a").is_some(), bench.read("link/kept").is_some()), (true, true));
    let spec = bench.dockerfile("FROM base\nCOPY tree /\nCOPY new /dir\n");
    assert!(bench.error(&spec).contains("a file or link is there"));

    let spec = bench.dockerfile(
        "FROM base\nCOPY tree /\nCOPY --link a /link/\nCOPY --link new /dir\nCOPY --link a /file/below/\nCOPY --link a /elsewhere\n",
    );
    bench.build(&spec);
    assert!(bench.metadata("link").is_dir() && bench.read("link/a").is_some());
    assert_eq!(bench.metadata("dir").mode() & 0o7777, 0o755, "as if it had been made");
    let found = ["dir/old", "dir/sub/old", "dir/sub/x", "dir/link/x", "file/below/a"];
    assert_eq!(found.map(|name| bench.read(name).is_some()), [true; 5]);
    assert_eq!(bench.read("elsewhere").as_deref(), Some("a"), "a file takes the place of a directory");
    // It is another step than the one without.
    let spec = bench.dockerfile("FROM base\nCOPY tree /\nCOPY a /link/\n");
    assert_eq!(cached(&bench.build(&spec)), [2, 3]);
    assert!(bench.read("elsewhere/kept").is_some());
}

#[test]
fn what_comes_out_of_an_archive_wins() {
    let mut bench = Bench::new();
    for name in ["tree/in/file/deep/x", "tree/in/dir", "tree/in/kept/old"] {
        bench.file(name, name);
    }
    symlink("/in/kept", bench.context().join("tree/in/link")).unwrap();
    let mut archive = tar::Builder::new(fs::File::create(bench.context().join("a.tar")).unwrap());
    for (name, kind) in [
        ("file", tar::EntryType::Regular),
        ("dir/", tar::EntryType::Directory),
        ("dir/new", tar::EntryType::Regular),
        ("link/", tar::EntryType::Directory),
        ("kept/", tar::EntryType::Directory),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        header.set_size(0);
        archive.append_data(&mut header, name, std::io::empty()).unwrap();
    }
    archive.finish().unwrap();
    let spec = bench.dockerfile("FROM base\nCOPY tree /\nADD a.tar /in\n");
    bench.build(&spec);
    assert_eq!(bench.read("in/file").as_deref(), Some(""));
    assert_eq!(bench.read("in/dir/new").as_deref(), Some(""));
    assert!(bench.metadata("in/link").is_dir(), "no link is followed to where a directory is to be");
    assert!(bench.read("in/kept/old").is_some(), "directories are one");
}

#[test]
fn a_dockerfile_may_be_in_small_letters() {
    let mut bench = Bench::new();
    let spec = bench.dockerfile("FROM base\nCOPY . /all\n");
    bench.file("a", "a").file("b", "b").file("dockerfile.dockerignore", "a\n");
    fs::rename(bench.context().join("Dockerfile"), bench.context().join("dockerfile")).unwrap();
    bench.build(&spec);
    assert_eq!((bench.read("all/a"), bench.read("all/b").as_deref()), (None, Some("b")));
}
