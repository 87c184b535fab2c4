//! `coracle inspect`, and what lists print on request.

use crate::support::{Cli, cells};

#[test]
fn whatever_has_the_name_is_told() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let id = cli.ok(&["run", "-d", "--name", "db", "-l", "tier=back", "base", "sleep", "1000"]);
        let id = id.trim();
        let format =
            "{{.Name}} {{.State.Running}} {{.State.Status}} {{.Path}} {{.Args}} {{.Config.Labels.tier}}";
        assert_eq!(cli.ok(&["inspect", "-f", format, "db"]), "/db true running sleep [1000] back\n");
        assert_eq!(cli.ok(&["inspect", "-f", "{{.Id}}", &id[..8]]), format!("{id}\n"));
        let image = cli.ok(&["images", "-q", "--no-trunc"]);
        assert_eq!(cli.ok(&["inspect", "-f", "{{.Image}}", "db"]), image);
        let address = "{{.NetworkSettings.IPAddress}} {{.NetworkSettings.Networks.bridge.IPAddress}}";
        let addresses = cli.ok(&["inspect", "-f", address, "db"]);
        let (first, second) = addresses.trim().split_once(' ').unwrap();
        assert_eq!(first.parse::<std::net::Ipv4Addr>().unwrap().to_string(), second);
        let pid = cli.ok(&["inspect", "-f", "{{.State.Pid}}", "db"]);
        let command = std::fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap();
        assert_eq!(command, b"sleep\x001000\0");
        let sizes = cli.ok(&["inspect", "--size", "-f", "{{gt .SizeRootFs .SizeRw}}", "db"]);
        assert_eq!(sizes, "true\n");
        let all = cli.ok(&["inspect", "db"]);
        assert!(all.starts_with("[\n    {\n        \"Id\": \"") && all.ends_with("\n    }\n]\n"), "{all}");
        cli.ok(&["volume", "create", "data"]);
        let both = cli.ok(&["inspect", "--format", "{{.Name}}", "data", "bridge"]);
        assert_eq!(both, "data\nbridge\n");
        assert_eq!(
            cli.ok(&["inspect", "--type", "image", "-f", "{{json .RepoTags}}", "base"]),
            "[\"base:latest\"]\n"
        );
        cli.ok(&["kill", "db"]);
        assert_eq!(cli.ok(&["inspect", "-f", "{{.State.ExitCode}}", "db"]), "137\n");
        cli.ok(&["rm", "db"]);
    });
}

#[test]
fn what_is_not_there_is_told_after_what_is() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let ended = cli.run(&["inspect", "-f", "{{.Name}}", "nosuch", "bridge"]);
        assert_eq!((ended.status, ended.out.as_str()), (1, "bridge\n"));
        assert_eq!(ended.err, "Error: No such object: nosuch\n");
        let ended = cli.run(&["inspect", "--type", "volume", "bridge"]);
        assert_eq!((ended.status, ended.out.as_str()), (1, "[]\n"));
        assert_eq!(ended.err, "Error: No such volume: bridge\n");
        assert!(cli.fails(64, &["inspect", "-f", "{{.Name", "bridge"]).contains("unclosed action"));
        let unknown = cli.run(&["network", "inspect", "-f", "{{.Nope}}", "bridge"]);
        let text = r#"template parsing error: template: :1:2: executing "" at <.Nope>: map has no entry for key "Nope""#;
        assert_eq!((unknown.status, unknown.out.as_str()), (1, "\n"));
        assert_eq!(unknown.err, format!("coracle: {text}\n"));
    });
}

#[test]
fn lists_take_filters_and_formats() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        cli.ok(&["network", "create", "--label", "tier=back", "--internal", "app"]);
        let names = |words: &[&str]| cli.ok(&[&["network", "ls", "--format", "{{.Name}}"], words].concat());
        assert_eq!(names(&[]), "app\nbridge\nhost\nnone\n");
        assert_eq!(names(&["-f", "label=tier"]), "app\n");
        assert_eq!(names(&["--filter", "driver=null", "--filter", "driver=host"]), "host\nnone\n");
        assert_eq!(names(&["--filter", "name=^b", "--filter", "type=builtin"]), "bridge\n");
        assert_eq!(names(&["--filter", "dangling=true"]), "app\n");
        assert!(cli.fails(1, &["network", "ls", "-f", "size=1"]).contains("invalid filter 'size'"));
        let table = cli.ok(&["network", "ls", "--format", "table {{.Name}}\\t{{.Internal}}\\t{{.Labels}}"]);
        let table = cells(&table);
        assert_eq!(
            table[..2],
            [["NAME", "INTERNAL", "LABELS"], ["app", "true", "tier=back"]].map(|row| row.to_vec())
        );
        let line = cli.ok(&["network", "ls", "-f", "name=app", "--format", "json"]);
        assert!(
            line.starts_with("{\"CreatedAt\":\"2") && line.contains("\"Name\":\"app\",\"Scope\":\"local\"}"),
            "{line}"
        );
    });
}
