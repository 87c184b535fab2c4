//! Images out of a registry: both programs say the same of them, and end alike.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use coracle_testhost::{Docker, DockerRegistry, busybox_tree, run, skip};

/// What a command came to. Layers come in any order, and docker tells more of their way.
#[derive(Debug, PartialEq, Eq)]
struct Came {
    status: i32,
    out: Vec<String>,
    err: Vec<String>,
}

fn came(mut command: Command, words: &[&str]) -> Came {
    let output = command.args(words).stdin(Stdio::null()).output().unwrap();
    let lines = |bytes: Vec<u8>| {
        let on_its_way = [": Waiting", ": Verifying Checksum"];
        let text = String::from_utf8(bytes).unwrap();
        let told = text.lines().filter(|line| !on_its_way.iter().any(|end| line.ends_with(end)));
        let mut lines: Vec<String> = told.map(str::to_owned).collect();
        lines.sort();
        lines
    };
    Came { status: output.status.code().unwrap_or(-1), out: lines(output.stdout), err: lines(output.stderr) }
}

/// Pushes an image of busybox and a word, by another program, in docker's own format; the manifest's digest.
fn push(make: &dyn Fn() -> Command, dir: &Path, word: &str, to: &str) -> String {
    let text = format!("FROM base:1\nRUN echo {word} > /word\nCMD [\"cat\", \"/word\"]\n");
    let mut build = make()
        .args(["build", "-q", "-t", word, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    build.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(build.wait().unwrap().success());
    let (archive, digest) = (dir.join(format!("{word}.tar")), dir.join("digest"));
    assert!(make().args(["save", word, "-o"]).arg(&archive).status().unwrap().success());
    let pushed = Command::new("skopeo")
        .args([
            "--insecure-policy",
            "copy",
            "-q",
            "--dest-tls-verify=false",
            "--format",
            "v2s2",
            "--digestfile",
        ])
        .arg(&digest)
        .args([format!("docker-archive:{}", archive.display()), format!("docker://{to}")])
        .output()
        .unwrap();
    assert!(pushed.status.success(), "{pushed:?}");
    std::fs::read_to_string(digest).unwrap()
}

#[test]
fn pull_says_the_same() {
    run(|host| {
        let skopeo = Command::new("skopeo").arg("--version").output().is_ok();
        if !(Docker::is_there() && DockerRegistry::is_there() && skopeo) {
            return skip(host.test(), "docker, docker-registry or skopeo is not installed");
        }
        let registry = DockerRegistry::start(host.dir(), 5000, false);
        let coracle = |state: &str| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
            command.env("CORACLE_ROOT", host.dir().join(state)).env("HOME", host.dir());
            command
        };
        let tree = busybox_tree(host.dir());
        let tar = host.dir().join("base.tar");
        assert!(
            Command::new("tar")
                .arg("-cf")
                .arg(&tar)
                .arg("-C")
                .arg(&tree)
                .arg(".")
                .status()
                .unwrap()
                .success()
        );
        assert!(coracle("maker").arg("import").arg(&tar).arg("base:1").output().unwrap().status.success());
        let make = || coracle("maker");
        let app = format!("{}/team/app", registry.address());
        let one = push(&make, host.dir(), "one", &app);
        let docker = Docker::start(host.dir());
        let both = |words: &[&str]| {
            let (theirs, ours) = (came(docker.docker(), words), came(coracle("state"), words));
            (theirs, ours)
        };
        let (tagged, pinned, other) = (format!("{app}:latest"), format!("{app}@{one}"), format!("{app}:2"));
        let same = |words: &[&str]| {
            let (theirs, ours) = both(words);
            assert_eq!(theirs, ours, "{words:?}: docker's, and ours");
            theirs
        };
        let never = ["run", "--rm", "--network=none", "--pull=never", &app];
        let (theirs, ours) = both(&never);
        assert_eq!((theirs.status, ours.status), (125, 125), "{theirs:?} {ours:?}");
        let missing = same(&["run", "--rm", "--network=none", &app]);
        assert_eq!((missing.status, &missing.out[..]), (0, &["one".to_owned()][..]));
        assert!(missing.err.contains(&format!("Unable to find image '{tagged}' locally")), "{missing:?}");
        same(&["pull", &app]);
        same(&["pull", "-q", &tagged]);
        let format = "{{.RepoTags}} {{.RepoDigests}} {{.Id}}";
        same(&["image", "inspect", "-f", format, &app]);
        same(&["images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}"]);
        // The tag means another one by now, upon the same base.
        let two = push(&make, host.dir(), "two", &tagged);
        same(&["run", "--rm", "--network=none", &app]);
        let moved = same(&["pull", &app]);
        assert!(moved.out.contains(&format!("Digest: {two}")), "{moved:?}");
        assert!(moved.out.iter().any(|line| line.ends_with(": Already exists")), "{moved:?}");
        same(&["run", "--rm", "--network=none", "--pull=always", &app]);
        same(&["image", "inspect", "-f", format, &app]);
        same(&["pull", &pinned]);
        same(&["pull", &pinned]);
        same(&["image", "inspect", "-f", format, &pinned]);
        push(&make, host.dir(), "one", &other);
        same(&["run", "--rm", "--network=none", "--pull=always", &other]);
        for gone in [&pinned, &tagged, &other] {
            let (theirs, ours) = both(&["rmi", gone]);
            // What becomes of layers is docker's own.
            let untagged = |came: &Came| -> Vec<String> {
                came.out.iter().filter(|line| line.starts_with("Untagged: ")).cloned().collect()
            };
            assert_eq!((theirs.status, untagged(&theirs)), (ours.status, untagged(&ours)), "rmi {gone}");
            same(&["images", "--format", "{{.Repository}} {{.Tag}} {{.ID}}"]);
        }
        // Failures have words of their own.
        for words in [
            &["pull", "Bad"][..],
            &["pull", &format!("{app}:none")],
            &["pull", "127.0.0.1:5000/none"],
            &["pull", "127.0.0.1:1/refused"],
            &["pull"],
            &["run", "--rm", "127.0.0.1:5000/none"],
            &["run", "--pull=sometimes", &app],
        ] {
            let (theirs, ours) = both(words);
            assert_eq!(theirs.status, ours.status, "{words:?}: {theirs:?} {ours:?}");
            assert!(!ours.err.is_empty(), "{words:?}");
        }
    });
}
