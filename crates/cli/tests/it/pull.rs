//! Images from a registry: pulled by name, by `run`, and by builds.

use std::path::{Path, PathBuf};
use std::process::Command;

use coracle_testhost::{DockerRegistry, Host, run, skip};

use crate::support::{Cli, Ended};

/// A registry, and what is pushed to it.
struct Shop {
    registry: DockerRegistry,
    dir: PathBuf,
}

impl Shop {
    fn open(host: &Host) -> Option<Shop> {
        if !DockerRegistry::is_there() || Command::new("skopeo").arg("--version").output().is_err() {
            skip(host.test(), "docker-registry or skopeo is not installed");
            return None;
        }
        let registry = DockerRegistry::start(host.dir(), 5000, false);
        Some(Shop { registry, dir: host.dir().to_owned() })
    }

    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.registry.address())
    }

    /// Pushes an image of the program's to that name; the manifest's digest.
    fn push(&self, cli: &Cli, image: &str, to: &str) -> String {
        let archive = self.dir.join("pushed.tar");
        let archive = archive.to_str().unwrap();
        cli.ok(&["save", "-o", archive, image]);
        let digest = self.dir.join("digest");
        let words = ["--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "--digestfile"];
        let (from, to) = (format!("docker-archive:{archive}"), format!("docker://{}", self.name(to)));
        let output = Command::new("skopeo").args(words).arg(&digest).args([from, to]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        std::fs::read_to_string(digest).unwrap()
    }
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

/// An image of `base` with a word in a file, by its name.
fn word(cli: &Cli, dir: &Path, word: &str) -> String {
    let context = dir.join(format!("context-{word}"));
    std::fs::create_dir(&context).unwrap();
    let name = format!("local-{word}");
    let ended = cli.run_with(
        &["build", "-q", "-t", &name, "-f", "-", context.to_str().unwrap()],
        &format!("FROM base\nRUN echo {word} > /word\nLABEL word={word}\n"),
    );
    assert_eq!(ended.status, 0, "{ended:?}");
    name
}

#[test]
fn an_image_by_its_name() {
    run(|host| {
        let Some(shop) = Shop::open(host) else { return };
        let cli = Cli::new(host);
        let one = shop.push(&cli, &word(&cli, host.dir(), "one"), "team/app");
        let name = shop.name("team/app");
        // Another state directory, which has nothing.
        let cli = Cli::empty(host, "cold");
        let said = cli.ok(&["pull", &name]);
        let said = lines(&said);
        assert_eq!(said[..2], ["Using default tag: latest", "latest: Pulling from team/app"]);
        let count = |what: &str| said.iter().filter(|line| line.ends_with(what)).count();
        assert_eq!(
            [": Pulling fs layer", ": Download complete", ": Pull complete", ": Already exists"].map(count),
            [2, 2, 2, 0]
        );
        let status = format!("Status: Downloaded newer image for {name}:latest");
        assert_eq!(said[said.len() - 3..], [&format!("Digest: {one}"), &status, &format!("{name}:latest")]);
        assert_eq!(cli.ok(&["run", "--rm", &name, "cat", "/word"]), "one\n");
        let same = cli.ok(&["pull", &name]);
        assert!(same.contains(&format!("Status: Image is up to date for {name}:latest\n")), "{same}");
        assert_eq!(cli.ok(&["pull", "-q", &format!("{name}:latest")]), format!("{name}:latest\n"));
        let format = "{{index .RepoTags 0}} {{index .RepoDigests 0}}";
        assert_eq!(
            cli.ok(&["image", "inspect", "-f", format, &name]),
            format!("{name}:latest {name}@{one}\n")
        );

        // By its digest it has a repository, and no tag.
        let cli = Cli::empty(host, "pinned");
        let pinned = format!("{name}@{one}");
        let said = cli.ok(&["pull", &pinned]);
        assert!(said.starts_with(&format!("{pinned}: Pulling from team/app\n")), "{said}");
        assert!(
            said.ends_with(&format!("Status: Downloaded newer image for {pinned}\n{pinned}\n")),
            "{said}"
        );
        let listed = cli.ok(&["images", "--format", "{{.Repository}} {{.Tag}}"]);
        assert_eq!(listed, format!("{name} <none>\n"));
        assert_eq!(cli.ok(&["run", "--rm", &pinned, "cat", "/word"]), "one\n");

        for (words, says) in [
            (&["pull", "-a", &name][..], "pull --all-tags: not supported yet"),
            (
                &["pull", "Bad"],
                "invalid reference format: image name \"Bad\": the part \"Bad\" must be lower case",
            ),
            (&["pull", "--platform", "linux/s390x", &name], "it is for linux/"),
            (&["pull", "-q", &format!("{name}:none")], "404 Not Found: manifest unknown"),
        ] {
            let ended = cli.run(words);
            assert!(ended.status == 1 && ended.err.contains(says), "{words:?}: {ended:?}");
        }
    });
}

#[test]
fn what_run_needs_is_pulled() {
    run(|host| {
        let Some(shop) = Shop::open(host) else { return };
        let cli = Cli::new(host);
        let (one, two) = (word(&cli, host.dir(), "one"), word(&cli, host.dir(), "two"));
        shop.push(&cli, &one, "app:1");
        let name = shop.name("app:1");
        let cli_cold = Cli::empty(host, "cold");
        let runs = |words: &[&str]| -> Ended {
            let words: Vec<&str> = [&["run", "--rm"], words, &[&name, "cat", "/word"]].concat();
            cli_cold.run(&words)
        };
        let never = runs(&["--pull=never"]);
        assert_eq!((never.status, never.out.as_str()), (125, ""));
        assert!(never.err.contains(&format!("no such image: {name}")), "{never:?}");
        let missing = runs(&[]);
        assert_eq!((missing.status, missing.out.as_str()), (0, "one\n"), "{missing:?}");
        let said = lines(&missing.err);
        assert_eq!(said[0], format!("Unable to find image '{name}' locally"));
        assert_eq!(said[1], "1: Pulling from app");
        assert_eq!(said.last().unwrap(), &format!("Status: Downloaded newer image for {name}"));
        let here = runs(&[]);
        assert_eq!((here.status, here.out.as_str(), here.err.as_str()), (0, "one\n", ""));
        // The name means another one by now; who doesn't ask doesn't know.
        shop.push(&cli, &two, "app:1");
        assert_eq!(runs(&[]).out, "one\n");
        let always = runs(&["--pull=always", "-q"]);
        assert_eq!((always.status, always.out.as_str(), always.err.as_str()), (0, "two\n", ""));
        let cli_other = Cli::empty(host, "other");
        let created = cli_other.run(&["create", "-q", &name, "cat", "/word"]);
        assert_eq!((created.status, created.err.as_str()), (0, ""), "{created:?}");
        assert_eq!(cli_other.ok(&["start", "-a", created.out.trim()]), "two\n");
        cli_other.ok(&["rm", created.out.trim()]);
        // Nobody is there any more.
        drop(shop);
        let refused = runs(&["--pull=always"]);
        assert_eq!(refused.status, 125);
        assert!(
            refused.err.starts_with(&format!(
                "coracle: pull {name}: HEAD http://127.0.0.1:5000/v2/app/manifests/1: "
            )),
            "{refused:?}"
        );
        assert_eq!(runs(&[]).out, "two\n");
    });
}

#[test]
fn what_a_build_names_is_pulled() {
    run(|host| {
        let Some(shop) = Shop::open(host) else { return };
        let cli = Cli::new(host);
        let (one, two) = (word(&cli, host.dir(), "one"), word(&cli, host.dir(), "two"));
        let digest = shop.push(&cli, &one, "app:1");
        shop.push(&cli, &two, "tool:1");
        let (name, tool) = (shop.name("app:1"), shop.name("tool:1"));
        let cold = Cli::empty(host, "cold");
        let build = |flags: &[&str], text: &str| {
            let words = [&["build", "--progress=plain", "-t", "built"], flags, &["-"]].concat();
            cold.run_with(&words, text)
        };
        let text = format!(
            "FROM {name}\nCOPY --from={tool} /word /tool\n\
             RUN --mount=from={tool},target=/m cat /word /tool /m/word > /all\nCMD cat /all\n"
        );
        let first = build(&[], &text);
        assert_eq!(first.status, 0, "{first:?}");
        let said = lines(&first.err);
        let at =
            said.iter().position(|line| *line == format!("#1 [internal] load metadata for {name}")).unwrap();
        assert_eq!(said[at + 1], format!("#1 resolve {name}@{digest} done"));
        assert!(said[at + 2].starts_with("#1 sha256:") && said[at + 2].ends_with(" done"), "{said:?}");
        assert_eq!(cold.ok(&["run", "--rm", "built"]), "one\ntwo\ntwo\n");
        // Nothing is asked for what is here.
        assert!(!build(&[], &text).err.contains("load metadata"));

        // The tag moves: only who asks notices, and is told why the rest is built.
        let moved = shop.push(&cli, &two, "app:1");
        assert!(build(&["--explain"], &text).out.contains("cached"));
        let second = build(&["--pull", "--explain"], &text);
        assert_eq!(second.status, 0, "{second:?}");
        assert!(second.err.contains(&format!("resolve {name}@{moved} done")), "{second:?}");
        assert!(second.out.contains("base image"), "{second:?}");
        assert_eq!(cold.ok(&["run", "--rm", "built"]), "two\ntwo\ntwo\n");

        // By a digest, with --platform, and from an image of the name alone.
        let pinned = format!("FROM --platform=$BUILDPLATFORM {}@{digest}\nCMD cat /word\n", shop.name("app"));
        assert_eq!(build(&["--pull"], &pinned).status, 0);
        assert_eq!(cold.ok(&["run", "--rm", "built"]), "one\n");
        let quiet = cold.run_with(&["build", "-q", "--pull", "-"], &pinned);
        assert_eq!((quiet.status, quiet.err.as_str()), (0, ""), "{quiet:?}");
        let json = cold.run_with(&["build", "--progress=rawjson", "--pull", "-"], &text);
        assert!(json.err.contains(r#""progress":"resolved""#), "{json:?}");

        // Without the registry: what is pinned is here, what is to be asked for anew is not to be had.
        drop(shop);
        assert_eq!(build(&["--pull"], &pinned).status, 0);
        let failed = build(&["--pull"], &text);
        assert_eq!(failed.status, 1);
        let why = format!("image `{name}`: pull {name}: HEAD http://127.0.0.1:5000/v2/app/manifests/1: ");
        assert!(failed.err.contains(&why) && failed.err.contains("#1 ERROR: pull"), "{failed:?}");
        assert_eq!(build(&[], &text).status, 0);
        let absent = build(&[], "FROM 127.0.0.1:5000/absent\n");
        let why = "no such image: 127.0.0.1:5000/absent: pull 127.0.0.1:5000/absent:latest: GET http://127.0.0.1:5000/v2/absent/manifests/latest: ";
        assert!(absent.status == 1 && absent.err.contains(why), "{absent:?}");
    });
}
