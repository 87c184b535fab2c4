//! `coracle ps`: columns, filters, formats.

use crate::support::{Cli, cells};

#[test]
fn columns_are_chosen() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let run = ["run", "-d", "--name", "web", "-l", "tier=front", "-p", "127.0.0.1:8080:80", "base"];
        let id = cli.ok(&[&run[..], &["sh", "-c", "echo 12345 > /f; echo up; exec sleep 1000"]].concat());
        cli.wait_for("web", "up");
        let format = "table {{.ID}}\\t{{.Names}}\\t{{.State}}\\t{{.Labels}}\\t{{.Label \"tier\"}}\\t{{.Networks}}\\t{{.Ports}}";
        let table = cells(&cli.ok(&["ps", "--format", format]));
        assert_eq!(table[0], ["CONTAINER ID", "NAMES", "STATE", "LABELS", "tier", "NETWORKS", "PORTS"]);
        let ports = "127.0.0.1:8080->80/tcp";
        assert_eq!(table[1], [&id[..12], "web", "running", "tier=front", "front", "bridge", ports]);
        let sized = cells(&cli.ok(&["ps", "-s"]));
        assert_eq!(sized[0].last().unwrap(), "SIZE");
        // What it has written, and the files that every container gets.
        let size = sized[1].last().unwrap();
        assert!(
            size.starts_with(|digit: char| ('1'..='9').contains(&digit)) && size.contains(" (virtual "),
            "{size}"
        );
        let lines = cli.ok(&["ps", "--format", "json"]);
        assert!(
            lines.starts_with("{\"Command\":\"\\\"sh -c 'echo 12345") && lines.contains("-\\u003e80/tcp"),
            "{lines}"
        );
        assert!(cli.fails(1, &["ps", "--format", "{{.Nope}}"]).contains("can't evaluate field Nope"));
        cli.ok(&["rm", "-f", "web"]);
    });
}

#[test]
fn mounts_are_listed_and_told() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let shared = host.dir().join("shared");
        let bind = format!("{}:/shared:ro", shared.display());
        let words = [
            "run",
            "-d",
            "--name",
            "c",
            "-v",
            "data:/data",
            "-v",
            &bind,
            "--tmpfs",
            "/memory:size=1m",
            "base",
        ];
        cli.ok(&[&words[..], &["sleep", "1000"]].concat());
        let format = ["ps", "--no-trunc", "--format", "{{.Mounts}} {{.LocalVolumes}}"];
        assert_eq!(cli.ok(&format), format!("data,{} 1\n", shared.display()));
        for (wanted, names) in [("data", "c\n"), ("/shared", "c\n"), ("dat", "")] {
            let filter = format!("volume={wanted}");
            assert_eq!(cli.ok(&["ps", "--format", "{{.Names}}", "-f", &filter]), names, "{wanted}");
        }
        let inspect = |format: &str| cli.ok(&["inspect", "-f", format, "c"]);
        let each = "{{range .Mounts}}{{.Type}} {{.Source}} {{.Destination}} {{.RW}};{{end}}";
        let volume = host.dir().join("state/volumes/data/data");
        let told =
            format!("volume {} /data true;bind {} /shared false;\n", volume.display(), shared.display());
        assert_eq!(inspect(each), told);
        assert_eq!(inspect("{{json .HostConfig.Binds}}"), format!("[\"data:/data\",\"{bind}\"]\n"));
        assert!(inspect("{{index .HostConfig.Tmpfs \"/memory\"}}").contains("size=1m"));
        cli.ok(&["rm", "-f", "c"]);
    });
}

#[test]
fn filters_are_dockers() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        cli.ok(&["tag", "base", "other:1"]);
        let old = cli.run(&["run", "--name", "old", "-l", "a=1", "base", "sh", "-c", "exit 3"]);
        assert_eq!(old.status, 3);
        cli.ok(&["run", "-d", "--name", "mid", "-l", "a=2", "-l", "b", "other:1", "sleep", "1000"]);
        cli.ok(&["run", "-d", "--name", "new", "--network", "none", "base", "sleep", "1000"]);
        let names = |words: &[&str]| {
            let all = cli.ok(&[&["ps", "--format", "{{.Names}}"], words].concat());
            all.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let id = cli.ok(&["ps", "-qf", "name=mid"]);
        let by_id = format!("id={}", &id[..6]);
        let table: [(&[&str], &[&str]); 18] = [
            (&[], &["new", "mid"]),
            (&["-a"], &["new", "mid", "old"]),
            (&["-l"], &["new"]),
            (&["-n", "3"], &["new", "mid", "old"]),
            (&["-n", "1", "-f", "label=a"], &["mid"]),
            (&["-af", "name=^ol"], &["old"]),
            (&["-af", "name=^/mid$"], &["mid"]),
            (&["-f", &by_id], &["mid"]),
            (&["-af", "label=a"], &["mid", "old"]),
            (&["-af", "label=a=2", "-f", "label=b"], &["mid"]),
            (&["-f", "status=exited"], &["old"]),
            (&["-f", "status=exited", "-f", "status=running"], &["new", "mid", "old"]),
            (&["-af", "exited=3"], &["old"]),
            (&["-af", "before=mid"], &["old"]),
            (&["-af", "since=old"], &["new", "mid"]),
            (&["-af", "ancestor=other:1"], &["new", "mid", "old"]),
            (&["-f", "network=none"], &["new"]),
            (&["-af", "health=none"], &["new", "mid", "old"]),
        ];
        for (words, kept) in table {
            assert_eq!(names(words), kept, "{words:?}");
        }
        for (filter, text) in [
            ("size=1", "invalid filter 'size'"),
            ("status=gone", "invalid filter 'status=gone'"),
            ("exited=x", "invalid filter 'exited=x'"),
            ("before=nosuch", "No such container: nosuch"),
            ("publish=x", "invalid filter 'publish=x'"),
        ] {
            assert!(cli.fails(1, &["ps", "-f", filter]).contains(text), "{filter}");
        }
        cli.ok(&["rm", "-f", "old", "mid", "new"]);
    });
}
