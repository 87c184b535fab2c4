//! Images that travel between docker and this engine, and what both say of a container that changed its files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::process::Stdio;

use coracle::{Container, ContainerSpec, CopyOptions, Engine};
use coracle_testhost::{Docker, Host, run, skip};
use serde_json::Value;

use crate::base;

/// Both engines, each with the image `acc-base:1`.
fn both(host: &Host) -> Option<(Docker, Engine)> {
    if !Docker::is_there() {
        skip(host.test(), "docker.io and busybox-static are not both installed");
        return None;
    }
    let base = base(host.dir());
    let docker = Docker::start(host.dir());
    docker.ok(docker.docker().arg("import").arg(&base).arg("acc-base:1"));
    let engine = Engine::open(host.dir().join("state")).unwrap();
    engine.import(fs::File::open(base).unwrap(), "acc-base:1").unwrap();
    Some((docker, engine))
}

const SCRIPT: &str = "rm -r /home; mkdir /home; touch /home/new /new; echo z >> /etc/group; chmod 700 /tmp; \
    mkdir -p /a/b; ln -s x /l; rm -r /var; mkdir -p /var/deep; mv /etc/passwd /etc/moved; mkfifo /pipe; \
    ln /new /again; chown 12:34 /a; touch -d '2001-02-03 04:05:06' /a/b";

/// Runs the script in both, and leaves the containers.
fn changed(docker: &Docker, engine: &Engine) -> Container {
    docker.ok(docker.docker().args([
        "run",
        "--name",
        "cc",
        "--network",
        "none",
        "acc-base:1",
        "sh",
        "-c",
        SCRIPT,
    ]));
    let spec =
        ContainerSpec::new("acc-base:1").name("cc").no_network().retain().command(["sh", "-c", SCRIPT]);
    let container = engine.start(&spec).unwrap();
    assert!(container.wait().unwrap().success(), "{:?}", container.output());
    container
}

fn changes(docker: &Docker, container: &Container) -> (Vec<String>, Vec<String>) {
    let theirs = docker.ok(docker.docker().args(["diff", "cc"]));
    let mut theirs: Vec<String> = theirs.lines().map(str::to_owned).collect();
    let ours = container.diff().unwrap();
    let mut ours: Vec<String> =
        ours.iter().map(|change| format!("{} {}", change.kind, change.path.display())).collect();
    theirs.sort();
    ours.sort();
    (theirs, ours)
}

/// The members of a tar by name, in what both can agree on.
fn members(tar: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(tar);
    let mut all = BTreeMap::new();
    for member in archive.entries().unwrap() {
        let mut member = member.unwrap();
        let header = member.header();
        let is_link = header.entry_type().is_hard_link();
        let mut line = format!(
            "{:?} {:o} {}:{} {:?}",
            header.entry_type(),
            header.mode().unwrap() & 0o7777,
            header.uid().unwrap(),
            header.gid().unwrap(),
            member.link_name().unwrap(),
        );
        let name = member.path().unwrap().display().to_string();
        let mut content = Vec::new();
        member.read_to_end(&mut content).unwrap();
        if !is_link && !content.is_empty() {
            line += &format!(" {} bytes, {:?}", content.len(), &content[..content.len().min(40)]);
        }
        all.insert(name.trim_start_matches("./").trim_end_matches('/').to_owned(), line);
    }
    all
}

/// What docker makes in every container, and what is mounted over.
fn is_of_the_engine(name: &str) -> bool {
    let own = ["", ".dockerenv", "dev/", "etc/mtab", "etc/hosts", "etc/hostname", "etc/resolv.conf"];
    own.iter().any(|one| name == *one || one.ends_with('/') && name.starts_with(one))
}

#[test]
fn changes_copies_and_exports_are_dockers() {
    run(|host| {
        let Some((docker, engine)) = both(host) else { return };
        let container = changed(&docker, &engine);
        let (theirs, ours) = changes(&docker, &container);
        assert!(theirs.len() >= 15, "{theirs:?}");
        assert_eq!(ours, theirs);

        let source = host.dir().join("src");
        fs::create_dir_all(source.join("s")).unwrap();
        fs::write(source.join("s/f"), "f").unwrap();
        std::os::unix::fs::symlink("s/f", source.join("l")).unwrap();
        let at = |name: &str| source.join(name).display().to_string();
        for (from, to, follow) in [
            (at(""), "/", false),
            (at("."), "/a/b", false),
            (at("l"), "/a/link", false),
            (at("l"), "/a/followed", true),
            (at("l"), "/a/", false),
            (at("s/f"), "/a/new", false),
            (at("s"), "/a/newdir", false),
            (at("s/"), "/a/newdir2", false),
            (at("s"), "/new", false),
            (at("s/f"), "/nodir/", false),
            (at("nosuch"), "/", false),
            (at("s/f/"), "/", false),
            (at("s/f"), "/l", false),
            (at("s/f"), "/a/b/c/d", false),
        ] {
            let mut command = docker.docker();
            command.arg("cp").args(follow.then_some("-L")).arg(&from).arg(format!("cc:{to}"));
            let theirs = command.stderr(Stdio::null()).status().unwrap().success();
            let options = if follow { CopyOptions::new().follow_link() } else { CopyOptions::new() };
            let ours = container.copy_in(&from, to, &options);
            assert_eq!(ours.is_ok(), theirs, "{from} to {to}: {ours:?}");
        }
        let (theirs, ours) = changes(&docker, &container);
        assert_eq!(ours, theirs);
        for place in ["/a", "/a/.", "/a/link", "/etc/moved", "/again"] {
            let theirs = docker.docker().args(["cp", &format!("cc:{place}"), "-"]).output().unwrap().stdout;
            let mut ours = Vec::new();
            container.pack(place, &mut ours, &CopyOptions::new()).unwrap();
            assert_eq!(members(&ours), members(&theirs), "{place}");
        }
        let theirs = docker.docker().args(["export", "cc"]).output().unwrap().stdout;
        let mut ours = Vec::new();
        container.export(&mut ours).unwrap();
        let (mut ours, mut theirs) = (members(&ours), members(&theirs));
        ours.retain(|name, _| !is_of_the_engine(name));
        theirs.retain(|name, _| !is_of_the_engine(name));
        assert_eq!(ours, theirs);
        container.remove().unwrap();
    });
}

#[test]
fn images_go_to_docker_and_come_from_it() {
    run(|host| {
        let Some((docker, engine)) = both(host) else { return };
        let container = changed(&docker, &engine);
        let changes =
            ["CMD [\"cat\", \"/etc/moved\"]", "ENV A=1", "LABEL k=v", "EXPOSE 80", "WORKDIR /a", "USER 12"];
        let mut commit = docker.docker();
        commit.args(["commit", "-m", "remark", "-a", "me"]);
        let mut spec = coracle::CommitSpec::new().name("ours:1").message("remark").author("me");
        for change in changes {
            commit.args(["-c", change]);
            spec = spec.change(change);
        }
        docker.ok(commit.args(["cc", "theirs:1"]));
        let ours = container.commit(spec).unwrap();
        let inspect = |name: &str| -> Value {
            serde_json::from_str::<Value>(&docker.ok(docker.docker().args(["image", "inspect", name])))
                .unwrap()[0]
                .take()
        };

        // Ours in docker.
        let path = host.dir().join("ours.tar");
        engine.save(&["ours:1"], fs::File::create(&path).unwrap()).unwrap();
        let loaded = docker.ok(docker.docker().args(["load", "-i"]).arg(&path));
        assert_eq!(loaded, "Loaded image: ours:1\n");
        let seen = inspect("ours:1");
        assert_eq!(seen["Id"], ours.id());
        assert_eq!(seen["RootFS"]["Layers"], serde_json::json!(ours.layers()));
        let ran = docker.ok(docker.docker().args(["run", "--rm", "--network", "none", "ours:1"]));
        assert!(ran.contains("root:x:0:0"), "{ran}");

        // Docker's here.
        let path = host.dir().join("theirs.tar");
        docker.ok(docker.docker().args(["save", "-o"]).arg(&path).arg("theirs:1"));
        let loaded = engine.load(fs::File::open(&path).unwrap()).unwrap();
        let theirs = inspect("theirs:1");
        assert_eq!(
            (loaded[0].names.as_slice(), loaded[0].image.id().into()),
            (["theirs:1".to_owned()].as_slice(), theirs["Id"].clone())
        );
        assert_eq!(serde_json::json!(loaded[0].image.layers()), theirs["RootFS"]["Layers"]);
        let spec = ContainerSpec::new("theirs:1").no_network();
        let run = engine.start(&spec).unwrap();
        assert!(run.wait().unwrap().success());
        assert_eq!(run.output().unwrap().stdout, ran);

        // And both committed the same.
        for key in ["Cmd", "Env", "ExposedPorts", "WorkingDir", "User", "Entrypoint", "Volumes"] {
            assert_eq!(seen["Config"][key], theirs["Config"][key], "{key}");
        }
        assert_eq!(seen["Config"]["Labels"]["k"], theirs["Config"]["Labels"]["k"]);
        assert_eq!((&seen["Author"], &seen["Comment"]), (&theirs["Author"], &theirs["Comment"]));
        let size = |image: &Value| image["Size"].as_i64().unwrap();
        assert_eq!(size(&seen), size(&theirs), "docker counts what both hold alike");
        assert_eq!(ours.size() as i64, size(&seen), "and so do we");
        container.remove().unwrap();
    });
}
