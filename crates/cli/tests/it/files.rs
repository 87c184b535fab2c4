//! `coracle diff`, `cp`, `commit` and `export`, with what docker 20.10 did where the same was asked of it.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::{Cli, cells};

const SCRIPT: &str = "rm -r /gone; mkdir /gone; touch /gone/new /new; echo z >> /d/e/f; chmod 700 /srv; mkdir -p /a/b; \
                      ln -s x /l; rm -r /op; mkdir -p /op/sub/deep; mv /d/e/f /d/moved";

/// A container that changed things and has ended.
fn changed(cli: &Cli) {
    let dockerfile =
        "FROM base\nRUN mkdir -p /d/e /gone /op/sub /srv; echo x > /d/e/f; touch /gone/g /op/sub/o\n";
    assert_eq!(cli.run_with(&["build", "-q", "-t", "dk", "-"], dockerfile).status, 0);
    assert_eq!(cli.ok(&["run", "--name", "dd", "--network", "none", "dk", "sh", "-c", SCRIPT]), "");
}

#[test]
fn changes_are_told_as_docker_tells_them() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        changed(&cli);
        let lines = [
            "A /a",
            "A /a/b",
            "C /d",
            "C /d/e",
            "D /d/e/f",
            "A /d/moved",
            "C /gone",
            "D /gone/g",
            "A /gone/new",
            "A /l",
            "A /new",
            "C /op",
            "C /op/sub",
            "A /op/sub/deep",
            "D /op/sub/o",
            "C /srv",
        ];
        assert_eq!(cli.ok(&["diff", "dd"]), lines.map(|line| format!("{line}\n")).concat());
        assert_eq!(cli.fails(1, &["diff", "nosuch"]), "Error: No such container: nosuch\n");
        cli.ok(&["rm", "dd"]);
    });
}

#[test]
fn files_are_copied_to_the_places_that_docker_copies_to() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        changed(&cli);
        let at = |name: &str| host.dir().join(name).display().to_string();
        fs::create_dir_all(at("src/s")).unwrap();
        fs::write(at("src/s/f"), "f").unwrap();
        symlink("s/f", at("src/l")).unwrap();
        let copy =
            |words: &str| cli.run(&[&["cp"], words.split(' ').collect::<Vec<_>>().as_slice()].concat());
        let src = at("src");
        for (words, status) in [
            (format!("{src} dd:/"), 0),
            (format!("{src}/. dd:/a/b"), 0),
            (format!("{src}/l dd:/a/link"), 0),
            (format!("-L {src}/l dd:/a/followed"), 0),
            (format!("{src}/l dd:/a/"), 0),
            (format!("{src}/s dd:/a/newdir"), 0),
            (format!("{src}/s/ dd:/a/newdir2"), 0),
            (format!("{src}/s/f dd:/op/sub"), 0),
            // A link to what is not there yet.
            (format!("{src}/s/f dd:/l"), 0),
            (format!("{src}/s dd:/new"), 1),
            (format!("{src}/s/f dd:/nodir/"), 1),
            (format!("{src}/nosuch dd:/"), 1),
            (format!("{src}/s/f/ dd:/"), 1),
            ("dd:/a dd:/b".to_owned(), 1),
            ("a b".to_owned(), 1),
            ("a dd:".to_owned(), 1),
            ("- -".to_owned(), 1),
        ] {
            let copied = copy(&words);
            assert_eq!((copied.status, copied.out.as_str()), (status, ""), "{words}: {copied:?}");
            assert_eq!(copied.err.is_empty(), status == 0, "{words}: {copied:?}");
        }
        let out = at("out");
        fs::create_dir(&out).unwrap();
        for (words, status) in [
            (format!("dd:/a {out}"), 0),
            (format!("dd:/a/. {out}/x"), 0),
            (format!("dd:/a/link {out}/lnk"), 0),
            (format!("dd:/d/moved {out}/file"), 0),
            (format!("dd:/x {out}/through"), 0),
            (format!("dd:/d/moved {out}/nodir/"), 1),
            (format!("dd:/nosuch {out}/y"), 1),
            (format!("dd:/a {out}/file"), 1),
        ] {
            assert_eq!(copy(&words).status, status, "{words}");
        }
        let read = |name: &str| fs::read_to_string(host.dir().join("out").join(name)).unwrap();
        assert_eq!(
            (read("file"), read("x/followed"), read("a/newdir2/f")),
            ("x\nz\n".into(), "f".into(), "f".into())
        );
        assert_eq!(
            (read("a/b/s/f"), read("x/newdir/f"), read("a/b/l").as_str()),
            ("f".into(), "f".into(), "f")
        );
        assert!(fs::symlink_metadata(at("out/lnk")).unwrap().is_symlink());
        assert!(
            cli.fails(1, &["cp", "dd:/nosuch", "x"])
                .contains("could not find the file /nosuch in container dd")
        );

        // As a tar, in and out.
        let tar = cli.command(&["cp", "dd:/d", "-"]).output().unwrap().stdout;
        fs::write(at("d.tar"), &tar).unwrap();
        let mut unpack = cli.command(&["cp", "-", "dd:/op"]);
        let status = unpack.stdin(fs::File::open(at("d.tar")).unwrap()).status().unwrap();
        assert!(status.success());
        cli.ok(&["cp", "dd:/op/d/moved", &at("again")]);
        assert_eq!(fs::read_to_string(at("again")).unwrap(), "x\nz\n");
        assert!(cli.fails(1, &["cp", "-", "dd:/new"]).contains("must be a directory"));
        cli.ok(&["rm", "dd"]);
    });
}

#[test]
fn a_container_becomes_an_image_or_a_tar() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        changed(&cli);
        let id = cli.ok(&[
            "commit",
            "-a",
            "me",
            "-m",
            "remark",
            "-c",
            "CMD [\"cat\", \"/d/moved\"]",
            "-c",
            "ENV A=1",
            "dd",
            "made:1",
        ]);
        assert!(id.starts_with("sha256:") && id.len() == 72, "{id}");
        assert_eq!(cli.ok(&["run", "--rm", "--network", "none", "made:1"]), "x\nz\n");
        let format = "{{.Author}} {{.Comment}} {{.Config.Cmd}} {{len .RootFS.Layers}}";
        assert_eq!(
            cli.ok(&["image", "inspect", "--format", format, "made:1"]),
            "me remark [cat /d/moved] 3\n"
        );
        let table = cells(&cli.ok(&["history", "made:1"]));
        assert_eq!(table[0], ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
        assert!(
            table[1][0] == id[7..19]
                && table[1][2].starts_with("sh -c rm -r /gone")
                && table[2][0] == "<missing>"
        );
        assert!(cli.fails(1, &["commit", "-c", "RUN x", "dd"]).contains("RUN is not a valid change command"));
        assert!(cli.fails(1, &["rmi", "dk"]).contains("(must force) - container"));

        let path = host.dir().join("all.tar").display().to_string();
        cli.ok(&["export", "-o", &path, "dd"]);
        let piped = cli.command(&["export", "dd"]).output().unwrap().stdout;
        assert_eq!(fs::read(&path).unwrap(), piped);
        cli.ok(&["import", "-c", "CMD cat /d/moved", "-m", "whole", &path, "whole"]);
        assert_eq!(cli.ok(&["run", "--rm", "--network", "none", "whole"]), "x\nz\n");
        assert!(cells(&cli.ok(&["history", "whole"]))[1].contains(&"whole".to_owned()));
        assert!(cli.fails(1, &["export", "-o", "/nosuch/x.tar", "dd"]).contains("invalid output path"));
        assert!(cli.fails(1, &["export", "-o", "/dev/null", "dd"]).contains("is no regular file"));
        cli.ok(&["rm", "dd"]);
        assert_eq!(cli.ok(&["rmi", "dk"]).lines().next(), Some("Untagged: dk:latest"));
    });
}
