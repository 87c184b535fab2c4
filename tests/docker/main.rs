//! What a Dockerfile means: docker's BuildKit and this engine build the same ones, and have to come to the same file
//! trees and configurations. Without docker it is a named skip.

mod engine;
mod images;
mod look;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use coracle_testhost::{Docker, Host, busybox_tree, run, skip};

use engine::Ours;

/// One Dockerfile, and the flags it is built with.
struct Case {
    name: String,
    flags: Vec<(String, String)>,
    text: String,
}

impl Case {
    /// Places of mounts, which docker before 23 leaves in the image.
    fn is_excepted(&self, difference: &str) -> bool {
        let excepted =
            self.flags.iter().filter(|(flag, _)| flag == EXCEPT).flat_map(|(_, list)| list.split(','));
        excepted.into_iter().any(|path| {
            let at = difference.split(": ").next().unwrap_or("");
            Path::new(at).starts_with(path) && difference.ends_with("we nothing")
        })
    }
}

const EXCEPT: &str = "--except";

/// `=== name --flag value …` and the Dockerfile after it.
fn cases() -> Vec<Case> {
    let all = include_str!("cases.txt");
    let parts = all.split("=== ").skip(1).map(|part| {
        let (head, text) = part.split_once('\n').unwrap();
        let mut words = head.split(' ');
        let name = words.next().unwrap().to_owned();
        let words: Vec<&str> = words.collect();
        let flags = words.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect();
        let text = match name.contains("crlf") {
            true => text.trim_end().replace('\n', "\r\n"),
            false => text.to_owned(),
        };
        Case { name, flags, text }
    });
    parts.collect()
}

/// The context of all cases.
fn context(dir: &Path) -> PathBuf {
    let context = dir.join("context");
    let files = [
        ("a.txt", "a\n", 0o644),
        ("dir/b.txt", "b\n", 0o600),
        ("dir/a.txt", "a in dir\n", 0o755),
        ("dir/sub/deep.txt", "deep\n", 0o644),
        ("dir/sub/other", "other\n", 0o640),
        ("modes/set", "x", 0o4755),
        ("modes/none", "x", 0o000),
        ("ignored/kept.md", "x", 0o644),
        ("ignored/dropped.log", "x", 0o644),
        ("ignored/back.log", "x", 0o644),
        ("ignored/tmp/x", "x", 0o644),
        ("token", "a secret\n", 0o600),
        (".dockerignore", "# what stays out\n**/*.log\n!ignored/back.log\nignored/tmp\ntoken\n", 0o644),
    ];
    for (name, text, mode) in files {
        let path = context.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir_all(context.join("modes/empty")).unwrap();
    fs::set_permissions(context.join("modes/empty"), fs::Permissions::from_mode(0o1770)).unwrap();
    fs::create_dir_all(context.join("links")).unwrap();
    for (name, target) in [("to-a", "../a.txt"), ("to-dir", "../dir"), ("dangling", "/nowhere")] {
        symlink(target, context.join("links").join(name)).unwrap();
    }
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text, mode) in [("in", "archived\n", 0o640), ("sub/deeper/f", "f\n", 0o755)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(mode);
        header.set_uid(1000);
        header.set_gid(1000);
        header.set_mtime(1_000_000_000);
        header.set_cksum();
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    fs::write(context.join("archive.tar"), &tar).unwrap();
    let mut gzip = Command::new("gzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    gzip.stdin.take().unwrap().write_all(&tar).unwrap();
    fs::write(context.join("archive.tar.gz"), gzip.wait_with_output().unwrap().stdout).unwrap();
    context
}

/// A root file system of busybox, as a tar.
fn base(dir: &Path) -> PathBuf {
    let (tree, tar) = (busybox_tree(dir), dir.join("base.tar"));
    assert!(
        Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&tar).arg(".").status().unwrap().success()
    );
    tar
}

/// Has docker build a case; what it said where it failed.
fn docker_builds(docker: &Docker, dir: &Path, case: &Case, context: &Path) -> Result<(), String> {
    let file = dir.join("Dockerfile");
    fs::write(&file, &case.text).unwrap();
    let mut command = docker.docker();
    command.args(["build", "--progress=plain", "--network=none", "-t", "case", "-f"]).arg(&file);
    for (flag, value) in case.flags.iter().filter(|(flag, _)| flag != EXCEPT) {
        let value = value.replace("src=", &format!("src={}/", context.display()));
        command.arg(flag).arg(value);
    }
    let output = command.arg(context).output().unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The cases whose number leaves this rest: several tests, so that several run at once and none takes long.
fn compare(host: &Host, rest: usize) {
    if !Docker::is_there() {
        return skip(host.test(), "docker.io and busybox-static are not both installed");
    }
    let (context, base) = (context(host.dir()), base(host.dir()));
    let docker = Docker::start(host.dir());
    docker.ok(docker.docker().arg("import").arg(&base).arg("acc-base:1"));
    let ours = Ours::open(&host.dir().join("state"), &base);
    let mut wrong: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for case in cases().into_iter().enumerate().filter(|(i, _)| i % PARTS == rest).map(|(_, case)| case) {
        let theirs = docker_builds(&docker, host.dir(), &case, &context);
        let built = ours.build(&case, &context);
        let found = match (theirs, built) {
            (Ok(()), Ok(image)) => {
                let text = docker.ok(docker.docker().args(["image", "inspect", "case"]));
                let inspected: serde_json::Value = serde_json::from_str(&text).unwrap();
                let mut found = look::trees(&look::docker(&inspected[0]), &ours.look(&image));
                found.retain(|difference| !case.is_excepted(difference));
                found.extend(look::configs(&inspected[0]["Config"], &ours.config(&image)));
                found
            }
            (Err(_), Err(_)) => vec!["neither builds it: it compares nothing".to_owned()],
            (Ok(()), Err(error)) => vec![format!("only docker builds it: {error}")],
            (Err(said), Ok(_)) => vec![format!("only we build it: {said}")],
        };
        if !found.is_empty() {
            wrong.insert(case.name, found);
        }
    }
    drop(ours);
    drop(docker);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

const PARTS: usize = 4;

#[test]
fn the_first_quarter_means_the_same() {
    run(|host| compare(host, 0));
}

#[test]
fn the_second_quarter_means_the_same() {
    run(|host| compare(host, 1));
}

#[test]
fn the_third_quarter_means_the_same() {
    run(|host| compare(host, 2));
}

#[test]
fn the_last_quarter_means_the_same() {
    run(|host| compare(host, 3));
}

#[test]
fn there_are_enough_of_them() {
    let cases = cases();
    assert!(cases.len() >= 60, "{}", cases.len());
    let instructions = [
        "FROM",
        "RUN",
        "CMD",
        "LABEL",
        "MAINTAINER",
        "EXPOSE",
        "ENV",
        "ADD",
        "COPY",
        "ENTRYPOINT",
        "VOLUME",
        "USER",
        "WORKDIR",
        "ARG",
        "ONBUILD",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "SHELL",
    ];
    for instruction in instructions {
        let with = cases.iter().filter(|case| case.text.lines().any(|line| line.starts_with(instruction)));
        assert!(with.count() > 0, "{instruction}");
    }
}
