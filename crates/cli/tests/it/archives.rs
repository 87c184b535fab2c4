//! `coracle save`, `load`, `image inspect`, `image ls --filter` and `image prune`.

use std::fs::File;
use std::process::Stdio;

use crate::support::Cli;

#[test]
fn images_are_saved_and_loaded() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let path = host.dir().join("i.tar").display().to_string();
        cli.ok(&["tag", "base", "base:2"]);
        cli.ok(&["save", "-o", &path, "base"]);
        let id = cli.ok(&["images", "-q", "--no-trunc", "base:2"]);
        let id = id.trim();
        let piped = cli.command(&["image", "save", id]).stdout(Stdio::piped()).output().unwrap();
        assert!(piped.status.success());
        let by_id = host.dir().join("id.tar");
        std::fs::write(&by_id, piped.stdout).unwrap();

        cli.ok(&["rmi", "-f", id]);
        assert_eq!(cli.ok(&["images", "-q"]), "");
        assert_eq!(cli.ok(&["load", "-q", "-i", &path]), "Loaded image: base:2\nLoaded image: base:latest\n");
        cli.ok(&["rmi", "base", "base:2"]);
        let mut load = cli.command(&["image", "load"]);
        let loaded = load.stdin(File::open(&by_id).unwrap()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&loaded.stdout), format!("Loaded image ID: {id}\n"));
        assert_eq!(cli.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]), "<none>:<none>\n");
        assert_eq!(cli.ok(&["run", "--rm", "--network", "none", id, "sh", "-c", "echo works"]), "works\n");

        let state = host.dir().join("state").display().to_string();
        cli.ok(&["tag", id, "again"]);
        assert_eq!(cli.ok(&["load", "-i", &state]), "Loaded image: again:latest\n");
        assert!(cli.fails(1, &["load", "-i", "/etc"]).contains("is no image layout"));
        assert!(cli.fails(1, &["save", "nosuch"]).contains("no such image: nosuch"));
        assert!(cli.fails(1, &["load", "-i", "/nosuch"]).contains("open(\"/nosuch\")"));
        assert!(cli.fails(1, &["load", "-i", "/etc/passwd"]).contains("not a tar"));
        assert!(!host.dir().join("never.tar").exists());
        assert_eq!(
            cli.run(&["save", "-o", &host.dir().join("never.tar").display().to_string(), "nosuch"]).status,
            1
        );
        assert!(!host.dir().join("never.tar").exists(), "a file is there when it is whole");
    });
}

#[test]
fn images_are_told_of_as_docker_does() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let dockerfile = "FROM base\nLABEL a=1\nEXPOSE 80\nENV X=y\nVOLUME /v\nCMD [\"x\"]\n";
        cli.run_with(&["build", "-q", "-t", "app", "-t", "reg.example/app:2", "-"], dockerfile);
        let json: serde_json::Value = serde_json::from_str(&cli.ok(&["image", "inspect", "app"])).unwrap();
        let image = &json[0];
        assert_eq!(image["RepoTags"], serde_json::json!(["app:latest", "reg.example/app:2"]));
        assert_eq!(image["Config"]["Cmd"], serde_json::json!(["x"]));
        assert_eq!(image["Config"]["ExposedPorts"], serde_json::json!({"80/tcp": {}}));
        assert_eq!(image["Config"]["Volumes"], serde_json::json!({"/v": {}}));
        assert_eq!(image["Config"]["Labels"], serde_json::json!({"a": "1"}));
        assert_eq!(
            (&image["Config"]["Entrypoint"], &image["Os"]),
            (&serde_json::Value::Null, &"linux".into())
        );
        assert_eq!(image["RootFS"]["Type"], "layers");
        for key in [
            "Id",
            "RepoDigests",
            "Parent",
            "Comment",
            "Created",
            "Architecture",
            "Size",
            "GraphDriver",
            "Metadata",
        ] {
            assert!(!image[key].is_null(), "{key}");
        }
        // A digest is as good as the name.
        let digest = image["RepoDigests"][0].as_str().unwrap();
        assert_eq!(cli.ok(&["inspect", "--format", "{{.Id}}", digest]).trim(), image["Id"]);
        let both =
            cli.run(&["image", "inspect", "--format", "{{index .Config.Labels \"a\"}}", "app", "nosuch"]);
        assert_eq!(
            (both.status, both.out.as_str(), both.err.as_str()),
            (1, "1\n", "Error: No such image: nosuch:latest\n")
        );

        let names = |words: &[&str]| {
            let all = cli.ok(&[&["images", "--format", "{{.Repository}}:{{.Tag}}"], words].concat());
            let mut all: Vec<String> = all.lines().map(str::to_owned).collect();
            all.sort();
            all.join(" ")
        };
        for (words, expected) in [
            (&[][..], "app:latest base:latest reg.example/app:2"),
            (&["app"], "app:latest"),
            (&["*app*"], "app:latest"),
            (&["*/app"], "reg.example/app:2"),
            (&["-f", "label=a=1"], "app:latest reg.example/app:2"),
            (&["-f", "label=a=2"], ""),
            (&["-f", "reference=base"], "base:latest"),
            (&["-f", "dangling=true"], ""),
            (&["-f", "until=0s", "-f", "label=nosuch"], ""),
        ] {
            assert_eq!(names(words), expected, "{words:?}");
        }
        assert!(cli.fails(1, &["images", "-f", "nosuch=x"]).contains("invalid filter 'nosuch'"));
        assert_eq!(cli.fails(1, &["images", "-f", "before=nosuch"]), "Error: No such image: nosuch:latest\n");
        let digests = cli.ok(&["images", "--digests", "app"]);
        assert!(
            digests.contains("DIGEST") && digests.contains(digest.split_once('@').unwrap().1),
            "{digests}"
        );

        // Two without a name, one of them with a container.
        for number in ["1", "2"] {
            cli.run_with(&["build", "-q", "-"], &format!("FROM base\nENV N={number}\n"));
        }
        let dangling = cli.ok(&["images", "-q", "-f", "dangling=true"]);
        let ids: Vec<&str> = dangling.lines().collect();
        cli.ok(&["run", "--name", "user", "--network", "none", ids[0], "sh", "-c", ":"]);
        let asked = cli.run(&["image", "prune"]);
        assert!(
            asked.out.starts_with("WARNING! This will remove all dangling images.\nAre you sure"),
            "{asked:?}"
        );
        let pruned = cli.ok(&["image", "prune", "-f"]);
        assert!(
            pruned.starts_with("Deleted Images:\ndeleted: sha256:")
                && pruned.contains("Total reclaimed space: ")
        );
        assert_eq!(cli.ok(&["images", "-q", "-f", "dangling=true"]), format!("{}\n", ids[0]));
        assert_eq!(cli.ok(&["image", "prune", "-f"]), "Total reclaimed space: 0B\n");
        let pruned = cli.ok(&["image", "prune", "-af", "--filter", "label!=a"]);
        assert!(pruned.contains("untagged: base:latest") && !pruned.contains("app"), "{pruned}");
        cli.ok(&["rm", "user"]);
    });
}
