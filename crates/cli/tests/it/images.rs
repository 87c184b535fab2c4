//! `coracle build`, `images`, `import`, `tag` and `rmi`.

use std::path::Path;

use crate::support::{Cli, cells};

fn context(dir: &Path) -> String {
    std::fs::create_dir(dir).unwrap();
    let dockerfile = "FROM base AS one\nCOPY a /a\nRUN cat /a > /b && echo partly; echo -n done\nFROM base\nARG V=1\nENV V=$V\n\
                      COPY --from=one /b /b\nLABEL x=y\nCMD [\"sh\", \"-c\", \"cat /b; echo $V\"]\n";
    std::fs::write(dir.join("Dockerfile"), dockerfile).unwrap();
    std::fs::write(dir.join("a"), "text\n").unwrap();
    dir.display().to_string()
}

#[test]
fn a_build_tells_of_its_steps() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let context = context(&host.dir().join("app"));
        let built = cli.run(&["build", "-t", "app", "-t", "app:2", &context]);
        assert_eq!((built.status, built.out.as_str()), (0, ""), "{built:?}");
        let lines: Vec<&str> = built.err.lines().collect();
        let ends = |end: &str| lines.iter().any(|line| line.starts_with('#') && line.ends_with(end));
        assert!(ends(" partly") && ends(" done") && ends(" DONE 0.0s"), "{lines:#?}");
        assert!(ends(" [one 2/3] COPY a /a") && ends(" [stage-1 1/2] FROM base"), "{lines:#?}");
        assert!(ends(" naming to app:2 done"), "{lines:#?}");
        let id = |said: &str| {
            let line = said.lines().find_map(|line| line.split_once(" writing image ")).unwrap();
            line.1.trim_end_matches(" done").to_owned()
        };
        let first = id(&built.err);
        assert_eq!(cli.ok(&["run", "--rm", "app"]), "text\n1\n");

        let again = cli.run(&["build", &context]);
        assert_eq!(again.err.lines().filter(|line| line.ends_with(" CACHED")).count(), 3, "{again:?}");
        assert_eq!(id(&again.err), first);
        assert_eq!(cli.ok(&["build", "-q", &context]), format!("{first}\n"));
        assert!(!cli.run(&["build", "--no-cache", &context]).err.contains("CACHED"));

        cli.run(&["build", "-q", "-t", "app:3", "--build-arg", "V=3", &context]);
        assert_eq!(cli.ok(&["run", "--rm", "app:3"]), "text\n3\n");
        cli.run(&["build", "-q", "-t", "one", "--target", "one", &context]);
        assert_eq!(cli.ok(&["run", "--rm", "one", "cat", "/a"]), "text\n");
    });
}

#[test]
fn a_failed_build_says_where() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let failed = cli.run_with(&["build", "-t", "bad", "-"], "FROM base\nRUN echo before; exit 7\n");
        assert_eq!((failed.status, failed.out.as_str()), (1, ""));
        assert!(
            failed.err.contains(" > [2/2] RUN echo before; exit 7:\n") && failed.err.contains("exit code: 7"),
            "{failed:?}"
        );
        assert!(failed.err.contains(":2:"), "{failed:?}");
        // Also by those who want to hear nothing.
        let failed = cli.run_with(&["build", "-q", "-"], "FROM base\nRUN echo before; exit 7\n");
        assert!(failed.err.contains("before"), "{failed:?}");
        let failed = cli.run_with(&["build", "-"], "FROM base\nRUNN x\n");
        assert!(failed.status == 1 && failed.err.contains("2:1: unknown instruction"), "{failed:?}");
        assert!(cli.fails(1, &["build", "/nosuch"]).contains("/nosuch"));
        assert!(!cli.ok(&["images"]).contains("bad"));
    });
}

#[test]
fn images_are_listed_named_and_removed() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        cli.ok(&["tag", "base", "reg.example:5000/team/base:1"]);
        let table = cells(&cli.ok(&["images"]));
        assert_eq!(table[0], ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
        assert_eq!(table[1][..2], ["base", "latest"]);
        assert_eq!(table[2][..2], ["reg.example:5000/team/base", "1"]);
        assert!(
            table[1][2] == table[2][2] && table[1][2].len() == 12 && table[1][4].ends_with("MB"),
            "{table:?}"
        );
        let id = cli.ok(&["images", "-q", "--no-trunc", "base"]);
        let id = id.trim();
        assert_eq!(cells(&cli.ok(&["images", "base:nosuch"])).len(), 1);

        assert!(cli.fails(1, &["rmi", &table[1][2]]).contains("is referenced in multiple repositories"));
        assert_eq!(cli.ok(&["rmi", "base"]), "Untagged: base:latest\n");
        let removed = cli.ok(&["rmi", id]);
        assert_eq!(removed, format!("Untagged: reg.example:5000/team/base:1\nDeleted: {id}\n"));
        assert_eq!(cells(&cli.ok(&["images"])).len(), 1);
        assert_eq!(cli.fails(1, &["rmi", "base"]), "Error: No such image: base:latest\n");
        assert_eq!(cli.run(&["rmi", "-f", "base"]).status, 0);
    });
}

#[test]
fn a_tar_becomes_an_image() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        // A tar of one file, as tar(5) has it.
        let mut tar = vec![0_u8; 2048];
        tar[..5].copy_from_slice(b"hello");
        tar[100..107].copy_from_slice(b"0000644");
        tar[108..115].copy_from_slice(b"0000000");
        tar[116..123].copy_from_slice(b"0000000");
        tar[124..135].copy_from_slice(b"00000000006");
        tar[136..147].copy_from_slice(b"00000000000");
        tar[156] = b'0';
        tar[257..265].copy_from_slice(b"ustar\x0000");
        tar[148..156].fill(b' ');
        let sum: u32 = tar[..512].iter().copied().map(u32::from).sum();
        tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar[512..518].copy_from_slice(b"ahoy!\n");
        let path = host.dir().join("one.tar");
        std::fs::write(&path, &tar).unwrap();
        let id = cli.ok(&["import", &path.display().to_string(), "one:1"]);
        assert!(id.starts_with("sha256:") && id.len() == 72, "{id}");
        let ids = [["two", "1"], ["", "1"], ["two", "2"]].map(|[name, epoch]| {
            let mut command = cli.command(&["import", "-"]);
            command.args(Some(name).filter(|name| !name.is_empty())).env("SOURCE_DATE_EPOCH", epoch);
            command.stdin(std::fs::File::open(&path).unwrap());
            String::from_utf8(command.output().unwrap().stdout).unwrap()
        });
        assert_eq!(ids[0], ids[1], "the same tar and time are the same image");
        assert_ne!(ids[0], ids[2]);
        let built =
            cli.run_with(&["build", "-t", "three", "-"], "FROM base\nCOPY --from=one:1 /hello /hello\n");
        assert_eq!(built.status, 0, "{built:?}");
        assert_eq!(cli.ok(&["run", "--rm", "three", "cat", "/hello"]), "ahoy!\n");
        assert!(cli.fails(1, &["import", "/nosuch", "x"]).contains("open(\"/nosuch\")"));
        assert!(cli.fails(1, &["import", "/etc/passwd", "x"]).contains("not a tar"));
    });
}
