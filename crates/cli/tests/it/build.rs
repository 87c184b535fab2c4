//! `coracle build` and `coracle builder`.

use std::fs;
use std::path::{Path, PathBuf};

use coracle_testhost::{DockerRegistry, Host, run, skip};

use crate::support::Cli;

fn context(host: &Host, dockerfile: &str) -> PathBuf {
    let context = host.dir().join("context");
    fs::create_dir_all(&context).unwrap();
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    fs::write(context.join("a"), "text\n").unwrap();
    context
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn ids_and_metadata_go_to_files() {
    run(|host| {
        let cli = Cli::new(host);
        let context = context(host, "FROM base\nCOPY a /a\n");
        let (id, metadata) = (host.dir().join("id"), host.dir().join("metadata"));
        let files = ["--iidfile", text(&id), "--metadata-file", text(&metadata)];
        let told = |words: &[&str]| {
            let printed = cli.ok(&[&["build", "-q"], &files[..], words, &[text(&context)]].concat());
            let told = serde_json::from_slice(&fs::read(&metadata).unwrap()).unwrap();
            (printed.trim().to_owned(), fs::read_to_string(&id).unwrap(), told)
        };
        let (printed, written, told_of): (_, _, serde_json::Value) = told(&["-t", "app", "-t", "b:1"]);
        assert_eq!(printed, cli.ok(&["images", "-q", "--no-trunc", "app"]).trim());
        assert_eq!(printed, written);
        assert_eq!(told_of["containerimage.config.digest"], printed);
        assert_eq!(told_of["image.name"], "app:latest,b:1");
        let descriptor = &told_of["containerimage.descriptor"];
        assert_eq!(told_of["containerimage.digest"], descriptor["digest"]);
        assert_eq!(descriptor["mediaType"], "application/vnd.oci.image.manifest.v1+json");
        let blob = descriptor["digest"].as_str().unwrap().replace(':', "/");
        let size = fs::metadata(host.dir().join("state/blobs").join(blob)).unwrap().len();
        assert_eq!(descriptor["size"], size);
        // Files alone have no id.
        let out = host.dir().join("out");
        assert_eq!(told(&["-o", text(&out)]), (String::new(), printed, serde_json::json!({})));
    });
}

#[test]
fn what_goes_elsewhere_is_no_image_here() {
    run(|host| {
        let cli = Cli::new(host);
        let context = context(host, "FROM base\nCOPY a /a\n");
        let path = |name: &str| host.dir().join(name);
        let before = cli.ok(&["images", "-a"]);
        let build = |outputs: &[&str]| {
            let flags = outputs.iter().flat_map(|output| ["-o", output]);
            let words: Vec<&str> = ["build", "-t", "app"].into_iter().chain(flags).collect();
            let ended = cli.run(&[&words[..], &["--progress=plain", text(&context)]].concat());
            assert_eq!(ended.status, 0, "{ended:?}");
            ended.err
        };
        let (out, tar, files) = (path("out"), path("o.tar"), path("files.tar"));
        let archive = format!("type=oci,dest={}", text(&tar));
        let plain = format!("type=tar,dest={}", text(&files));
        let said = build(&[text(&out), &archive, &plain, "type=cacheonly"]);
        for title in ["client directory", "oci image format", "client tarball"] {
            assert!(said.contains(&format!("exporting to {title}")), "{said}");
        }
        assert!(!said.contains("writing image"), "{said}");
        assert_eq!(fs::read_to_string(out.join("a")).unwrap(), "text\n");
        assert_eq!(cli.ok(&["images", "-a"]), before);
        // As a directory it is what skopeo and its like read, and the same image.
        let layout = format!("type=oci,tar=false,dest={}", text(&path("layout")));
        build(&[&layout]);
        assert_eq!(cli.ok(&["images", "-a"]), before);
        assert_eq!(cli.ok(&["load", "-i", text(&tar)]), "Loaded image: app:latest\n");
        let id = cli.ok(&["images", "-q", "--no-trunc", "app"]);
        let index: serde_json::Value =
            serde_json::from_slice(&fs::read(path("layout/index.json")).unwrap()).unwrap();
        let notes = &index["manifests"][0]["annotations"];
        assert_eq!(notes["org.opencontainers.image.ref.name"], "latest");
        assert_eq!(notes["io.containerd.image.name"], "docker.io/library/app:latest");
        let named = format!("there=oci-layout://{}", text(&path("layout")));
        let from = ["build", "-q", "--build-context", &named, "-"];
        let there = cli.run_with(&from, "FROM there\nCOPY --from=there /a /b\n");
        assert_eq!(there.status, 0, "{there:?}");
        // An image that was there stays, also where the same one is built for elsewhere.
        build(&[text(&out)]);
        assert_eq!(cli.ok(&["images", "-q", "--no-trunc", "app"]), id);
        build(&["type=image,name=not-counted", text(&out)]);
        assert_eq!(cli.ok(&["images", "-q", "--no-trunc", "app"]), id);
        assert_eq!(cli.ok(&["images", "-q", "not-counted"]), "");
    });
}

#[test]
fn layers_of_an_archive_may_be_compressed() {
    run(|host| {
        let cli = Cli::new(host);
        let context = context(host, "FROM scratch\nCOPY a /a\n");
        fs::write(context.join("a"), "text ".repeat(10_000)).unwrap();
        let id = cli.ok(&["build", "-q", "-t", "app", text(&context)]);
        // The layers' first bytes, and what the metadata and the index say of the manifest.
        let build = |from: &std::path::Path, how: &str| {
            let layout = host.dir().join(how.replace([',', '='], "-"));
            let told = host.dir().join("told");
            let output = format!("type=oci,tar=false,dest={},{how}", text(&layout));
            cli.ok(&["build", "-q", "-o", &output, "--metadata-file", text(&told), text(from)]);
            let json = |path: std::path::PathBuf| -> serde_json::Value {
                serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
            };
            let blob = |of: &serde_json::Value| {
                let digest = of["digest"].as_str().unwrap().trim_start_matches("sha256:");
                layout.join("blobs/sha256").join(digest)
            };
            let listed = json(layout.join("index.json"))["manifests"][0].clone();
            assert_eq!(json(told)["containerimage.digest"], listed["digest"]);
            let manifest = json(blob(&listed));
            let layers = manifest["layers"].as_array().unwrap().iter();
            let starts: Vec<(String, Vec<u8>)> = layers
                .map(|layer| {
                    let bytes = fs::read(blob(layer)).unwrap();
                    assert_eq!(layer["size"], bytes.len());
                    let media = layer["mediaType"].as_str().unwrap().rsplit('.').next().unwrap();
                    (media.to_owned(), bytes[..2].to_vec())
                })
                .collect();
            starts
        };
        let (zstd, gzip) =
            (("tar+zstd".to_owned(), vec![0x28, 0xb5]), ("tar+gzip".to_owned(), vec![0x1f, 0x8b]));
        assert_eq!(build(&context, "compression=zstd,compression-level=19"), vec![zstd]);
        assert_eq!(build(&context, "compression=gzip"), vec![gzip.clone()]);
        assert_eq!(build(&context, "compression=uncompressed")[0].0, "tar");
        // It is the same image, and one may go on from it: what is compressed stays so, unless it must not.
        let file = host.dir().join("zstd.tar");
        let output = format!("type=docker,dest={},compression=zstd", text(&file));
        cli.ok(&["build", "-q", "-t", "packed", "-o", &output, text(&context)]);
        let other = host.dir().join("elsewhere");
        let elsewhere = |words: &[&str]| {
            let output = cli.command(words).env("CORACLE_ROOT", &other).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(elsewhere(&["load", "-i", text(&file)]), "Loaded image: packed:latest\n");
        assert_eq!(elsewhere(&["images", "-q", "--no-trunc", "packed"]), id);
        cli.ok(&["rmi", "app"]);
        cli.ok(&["builder", "prune", "-af"]);
        cli.ok(&["load", "-i", text(&file)]);
        let next = host.dir().join("next");
        fs::create_dir(&next).unwrap();
        fs::write(next.join("Dockerfile"), "FROM packed\nCOPY Dockerfile /b\n").unwrap();
        let forced = build(&next, "compression=gzip,force-compression=true");
        assert_eq!(forced, [gzip.clone(), gzip.clone()]);
        let mixed = build(&next, "compression=gzip,force-compression=false");
        assert_eq!(mixed[1], gzip);
        let plain = build(&next, "force-compression=true");
        assert!(plain.iter().all(|layer| layer.0 == "tar"), "{plain:?}");
        let bad = format!("type=oci,dest={},compression=gzip,compression-level=10", text(&file));
        assert!(cli.fails(1, &["build", "-q", "-o", &bad, text(&context)]).contains("none of 0 to 9"));
    });
}

#[test]
fn a_context_may_be_an_archive_on_standard_input() {
    run(|host| {
        let cli = Cli::new(host);
        let context = context(host, "FROM base\nCOPY a /a\n");
        let tar = std::process::Command::new("tar")
            .args(["-C", text(&context), "-czf", "-", "."])
            .output()
            .unwrap();
        let path = host.dir().join("c.tgz");
        fs::write(&path, tar.stdout).unwrap();
        let built =
            cli.command(&["build", "-q", "-t", "app", "-"]).stdin(fs::File::open(path).unwrap()).output();
        let built = built.unwrap();
        assert!(built.status.success(), "{built:?}");
        assert_eq!(cli.ok(&["run", "--rm", "--network", "none", "app", "cat", "/a"]), "text\n");
    });
}

#[test]
fn a_build_says_what_it_does_in_json_and_explains_itself() {
    run(|host| {
        let cli = Cli::new(host);
        let context = context(host, "FROM base\nCOPY a /a\nRUN cat /a\n");
        let ended = cli.run(&["build", "--progress=json", text(&context)]);
        assert_eq!(ended.status, 0, "{ended:?}");
        let events: Vec<serde_json::Value> =
            ended.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let outputs: Vec<_> = events.iter().filter(|event| event["event"] == "output").collect();
        assert_eq!(outputs[0]["text"], "text\n");
        assert_eq!(outputs[0]["step"]["line"], 3);
        assert_eq!(events.last().unwrap()["event"], "done");
        fs::write(context.join("a"), "other\n").unwrap();
        let ended = cli.run(&["build", "--explain", "--progress=quiet", text(&context)]);
        assert!(ended.out.contains("because a changed"), "{ended:?}");
        assert!(ended.out.contains("0 cached"), "{ended:?}");
    });
}

#[test]
fn a_check_builds_nothing_and_its_status_says_whether_there_is_advice() {
    run(|host| {
        let cli = Cli::new(host);
        let context = context(host, "FROM base\nRUN exit 1\nCMD [\"x\"]\n");
        assert_eq!(cli.ok(&["build", "--check", text(&context)]), "Check complete, no warnings found.\n");
        fs::write(context.join("Dockerfile"), "FROM base\nCMD x $Y\nCOPY $Y /\n").unwrap();
        let ended = cli.run(&["build", "--check", text(&context)]);
        assert_eq!(ended.status, 1, "{ended:?}");
        for words in ["WARNING: JSONArgsRecommended", "Dockerfile:2:1", "WARNING: UndefinedVar", "2 warnings"]
        {
            assert!(ended.out.contains(words), "{words}: {}", ended.out);
        }
    });
}

#[test]
fn secrets_and_hosts_reach_the_step() {
    run(|host| {
        let cli = Cli::new(host);
        let line = "FROM base\nRUN --mount=type=secret,id=tok cat /run/secrets/tok /etc/hosts\n";
        let context = context(host, line);
        let mut build = cli.command(&["build", "--network=none", "--secret", "id=tok,env=TOKEN"]);
        let ended =
            build.args(["--add-host", "db:10.9.8.7", text(&context)]).env("TOKEN", "s3\n").output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.success() && said.contains(" s3\n") && said.contains("10.9.8.7\tdb"), "{said}");
    });
}

#[test]
fn the_cache_is_shown_and_pruned() {
    run(|host| {
        let cli = Cli::new(host);
        let line = "FROM base\nRUN --mount=type=cache,target=/c,id=npm echo x > /c/x\n";
        let context = context(host, line);
        cli.ok(&["build", "-q", "-t", "app", text(&context)]);
        let shown = cli.ok(&["buildx", "du"]);
        assert!(shown.contains("exec.cachemount") && shown.contains("npm"), "{shown}");
        let kept = cli.ok(&["builder", "prune", "-f", "--filter", "until=24h"]);
        assert_eq!(kept, "Total reclaimed space: 0B\n");
        let pruned = cli.ok(&["builder", "prune", "-f"]);
        assert!(pruned.starts_with("Deleted build cache objects:\n"), "{pruned}");
        assert_eq!(cli.ok(&["buildx", "du", "--filter", "type=exec.cachemount"]).lines().count(), 3);
        assert!(cli.ok(&["buildx", "du"]).contains("regular"), "what an image is made of stays");
        cli.ok(&["builder", "prune", "-af"]);
        assert!(!cli.ok(&["buildx", "du"]).contains("regular"));
        assert!(cli.fails(1, &["builder", "prune", "-f", "--filter", "x=y"]).contains("invalid filter 'x'"));
    });
}

#[test]
fn a_cold_machine_builds_nothing_with_the_cache_of_another() {
    run(|host| {
        let cli = Cli::new(host);
        let context = context(host, "FROM scratch AS one\nCOPY a /a\nFROM scratch\nCOPY --from=one /a /b\n");
        let cache = host.dir().join("cache");
        let (to, from) = (
            format!("type=local,dest={},mode=max", text(&cache)),
            format!("type=local,src={}", text(&cache)),
        );
        let words = ["build", "--progress=plain", "--cache-from", &from, "--cache-to", &to, text(&context)];
        let first = cli.run(&words);
        assert_eq!(first.status, 0, "{first:?}");
        assert!(first.err.starts_with("WARNING: import the build cache of"), "there is none yet: {first:?}");
        assert!(!first.err.contains("importing cache manifest"), "{first:?}");
        let first = cli.run(&["build", "-q", text(&context)]);
        let elsewhere = host.dir().join("elsewhere");
        let mut second = cli.command(&["build", "--progress=plain", "--cache-from", &from, text(&context)]);
        let second = second.env("CORACLE_ROOT", elsewhere).output().unwrap();
        let said = String::from_utf8(second.stderr).unwrap();
        assert!(said.contains(first.out.trim()), "the same image: {said}");
        assert_eq!(said.matches(" CACHED").count(), 2, "{said}");
        assert!(
            said.starts_with(&format!("#1 importing cache manifest from {}\n#1 ", text(&cache))),
            "{said}"
        );
        // The layer of the image alone.
        assert!(said.contains(" fetched 1 layer, "), "{said}");
    });
}

#[test]
fn the_cache_of_another_may_be_in_a_registry() {
    run(|host| {
        if !DockerRegistry::is_there() {
            return skip(host.test(), "docker-registry is not installed");
        }
        let registry = DockerRegistry::start(host.dir(), 5000, true);
        let cli = Cli::new(host);
        let context = context(host, "FROM base\nCOPY a /a\nRUN cat /a > /b\n");
        let name = format!("{}/team/cache:main", registry.address());
        let (to, docker) = (format!("type=registry,ref={name},mode=max"), host.dir().join("docker"));
        let as_me = |words: &[&str]| {
            let mut command = cli.command(words);
            let output = command.env("DOCKER_CONFIG", &docker).output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let words = ["build", "--progress=plain", "--cache-from", &name, "--cache-to", &to, text(&context)];
        let (status, said) = as_me(&words);
        assert_eq!(status, Some(1), "nobody is logged in: {said}");
        assert!(
            said.contains("WARNING: pull the build cache") && said.contains("401 Unauthorized"),
            "{said}"
        );
        fs::create_dir(&docker).unwrap();
        let login = format!("{{\"auths\":{{\"{}\":{{\"auth\":\"bWU6aHVudGVyMg==\"}}}}}}", registry.address());
        fs::write(docker.join("config.json"), login).unwrap();
        let (status, said) = as_me(&words);
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("404 Not Found"), "there is none yet: {said}");
        let cold = host.dir().join("cold");
        let build = |from: &str| {
            let mut command =
                cli.command(&["build", "--progress=plain", "--cache-from", from, text(&context)]);
            let output = command.env("DOCKER_CONFIG", &docker).env("CORACLE_ROOT", &cold).output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let engine = coracle::Engine::open(&cold).unwrap();
        let same = coracle::Capture::new().programs(Cli::PROGRAMS);
        engine.capture(&same, "base").unwrap();
        let (status, said) = build(&format!("type=registry,ref={name}"));
        assert_eq!((status, said.matches("CACHED").count()), (Some(0), 2), "{said}");
        // An image that is no cache is told of, and no failure.
        let (status, said) = build("127.0.0.1:5000/none");
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("WARNING: pull the build cache 127.0.0.1:5000/none"), "{said}");
    });
}
