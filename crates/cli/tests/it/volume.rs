//! `coracle volume`, and mounts.

use crate::support::{Cli, cells};

#[test]
fn data_outlives_containers() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        assert_eq!(cli.ok(&["volume", "create", "--label", "a=b", "data"]), "data\n");
        assert_eq!(cells(&cli.ok(&["volume", "ls"])), [["DRIVER", "VOLUME NAME"], ["local", "data"]]);
        cli.ok(&[
            "run",
            "-d",
            "--name",
            "c",
            "-v",
            "data:/d",
            "base",
            "sh",
            "-c",
            "echo row > /d/t; echo up; exec sleep 1000",
        ]);
        cli.wait_for("c", "up");
        assert!(cli.fails(1, &["volume", "rm", "data"]).contains("volume `data`: in use by c"));
        cli.ok(&["rm", "-f", "c"]);
        assert_eq!(
            cli.ok(&["run", "--rm", "--mount", "source=data,target=/e", "base", "cat", "/e/t"]),
            "row\n"
        );
        let shown = cli.ok(&["volume", "inspect", "data"]);
        let mountpoint = host.dir().join("state/volumes/data/data");
        assert!(shown.contains(&format!("\"Mountpoint\": \"{}\"", mountpoint.display())), "{shown}");
        assert!(shown.contains("\"a\": \"b\""), "{shown}");
        assert_eq!(std::fs::read_to_string(mountpoint.join("t")).unwrap(), "row\n");
        assert_eq!(cli.ok(&["volume", "rm", "data"]), "data\n");
        assert_eq!(cli.ok(&["volume", "ls", "-q"]), "");
    });
}

#[test]
fn host_directories_are_mapped() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let (there, missing) = (host.dir().join("there"), host.dir().join("not/there"));
        std::fs::create_dir(&there).unwrap();
        let map = |flag: &str| format!("{}:/m{flag}", there.display());
        cli.ok(&["run", "--rm", "-v", &map(""), "base", "sh", "-c", "echo in > /m/f"]);
        assert_eq!(std::fs::read_to_string(there.join("f")).unwrap(), "in\n");
        let refused = cli.run(&["run", "--rm", "-v", &map(":ro"), "base", "sh", "-c", "echo x > /m/g"]);
        assert!(refused.status != 0 && refused.err.contains("Read-only"), "{refused:?}");
        // -v makes what is missing, --mount doesn't.
        let bind = format!("type=bind,source={},target=/m", missing.display());
        assert!(cli.fails(125, &["run", "--rm", "--mount", &bind, "base", "id"]).contains("not/there"));
        cli.ok(&["run", "--rm", "-v", &format!("{}:/m", missing.display()), "base", "ls", "/m"]);
        assert!(missing.is_dir());
        assert!(cli.fails(125, &["run", "--rm", "-v", "x/y:/m", "base", "id"]).contains("absolute path"));
    });
}

#[test]
fn what_is_wrong_is_said() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        assert!(cli.fails(1, &["volume", "create", "a/b"]).contains("\"a/b\""));
        assert_eq!(cli.fails(1, &["volume", "rm", "nosuch"]), "Error: No such volume: nosuch\n");
        let ended = cli.run(&["volume", "inspect", "nosuch"]);
        assert_eq!((ended.status, ended.out.as_str()), (1, "[]\n"));
        assert_eq!(ended.err, "Error: No such volume: nosuch\n");
        assert_eq!(cli.run(&["volume", "rm", "-f", "nosuch"]).status, 0);
        let name = cli.ok(&["volume", "create"]);
        assert_eq!(name.len(), 65, "{name}");
        cli.ok(&["volume", "rm", name.trim()]);
    });
}

#[test]
fn volumes_are_listed_and_inspected_as_docker_has_it() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        cli.ok(&["volume", "create", "--label", "tier=1", "--label", "x", "data"]);
        let options = [
            "--driver",
            "local",
            "--opt",
            "type=tmpfs",
            "-o",
            "o=size=1m",
            "--opt",
            "device=tmpfs",
            "memory",
        ];
        cli.ok(&[&["volume", "create"], &options[..]].concat());
        assert_eq!(
            cli.ok(&["volume", "inspect", "--format", "{{.Name}} {{.Driver}} {{.Scope}}", "data"]),
            "data local local\n"
        );
        assert_eq!(cli.ok(&["volume", "inspect", "-f", "{{.Labels.tier}}{{.Options}}", "data"]), "1map[]\n");
        assert_eq!(cli.ok(&["volume", "inspect", "-f", "{{json .Options}}", "data"]), "null\n");
        assert_eq!(cli.ok(&["volume", "inspect", "-f", "{{.Options.o}}", "memory"]), "size=1m\n");
        assert!(cli.fails(1, &["volume", "create", "-d", "rexray", "other"]).contains("rexray"));
        assert!(cli.fails(1, &["volume", "create", "--opt", "sise=1", "other"]).contains("sise"));

        let list = |flags: &[&str]| cli.ok(&[&["volume", "ls"], flags].concat());
        assert_eq!(list(&["-q", "--filter", "label=tier=1"]), "data\n");
        assert_eq!(list(&["-q", "-f", "name=mem"]), "memory\n");
        assert_eq!(list(&["-q", "-f", "driver=nfs"]), "");
        assert_eq!(list(&["--format", "{{.Name}}:{{.Label \"tier\"}}"]), "data:1\nmemory:\n");
        assert_eq!(
            list(&["--format", "table {{.Name}}\t{{.Size}}"]),
            "VOLUME NAME   SIZE\ndata          N/A\nmemory        N/A\n"
        );
        assert!(
            list(&["--format", "json"])
                .starts_with("{\"Availability\":\"N/A\",\"Driver\":\"local\",\"Group\":\"N/A\",")
        );
        cli.ok(&[
            "run",
            "-d",
            "--name",
            "c",
            "-v",
            "data:/d",
            "--mount",
            "src=memory,dst=/m",
            "base",
            "sleep",
            "1000",
        ]);
        assert_eq!(list(&["-q", "-f", "dangling=true"]), "");
        cli.ok(&["rm", "-f", "c"]);
        assert_eq!(list(&["-q", "-f", "dangling=1"]), "data\nmemory\n");
        assert_eq!(
            cli.ok(&["volume", "prune", "-af", "--filter", "label!=tier"]),
            "Deleted Volumes:\nmemory\n\nTotal reclaimed space: 0B\n"
        );
        assert!(
            cli.fails(1, &["volume", "prune", "-f", "--filter", "until=1h"])
                .contains("invalid filter 'until'")
        );
    });
}

#[test]
fn a_frozen_volume_is_cloned() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        cli.ok(&["run", "--rm", "-v", "golden:/d", "base", "sh", "-c", "echo row > /d/t"]);
        cli.ok(&["volume", "freeze", "golden"]);
        let refused = cli.fails(125, &["run", "--rm", "-v", "golden:/d", "base", "cat", "/d/t"]);
        assert!(refused.contains("volume `golden`: it is frozen"), "{refused}");
        assert_eq!(cli.ok(&["run", "--rm", "-v", "golden:/d:ro", "base", "cat", "/d/t"]), "row\n");
        assert_eq!(cli.ok(&["volume", "clone", "golden", "one"]), "one\n");
        assert_eq!(cli.ok(&["volume", "clone", "--label", "a=b", "golden", "two"]), "two\n");
        let change = ["run", "--rm", "-v", "one:/d", "base", "sh", "-c", "cat /d/t; echo mine > /d/t"];
        assert_eq!(cli.ok(&change), "row\n");
        assert_eq!(cli.ok(&["run", "--rm", "-v", "one:/d", "base", "cat", "/d/t"]), "mine\n");
        assert_eq!(cli.ok(&["run", "--rm", "-v", "two:/d", "base", "cat", "/d/t"]), "row\n");
        assert_eq!(cli.ok(&["volume", "inspect", "-f", "{{.Status.base}}", "one"]), "golden\n");
        assert!(cli.fails(1, &["volume", "rm", "golden"]).contains("in use by volume one, volume two"));
        assert_eq!(cli.ok(&["volume", "snapshot", "one", "snap"]), "snap\n");
        assert_eq!(cli.ok(&["run", "--rm", "-v", "snap:/d:ro", "base", "cat", "/d/t"]), "mine\n");
        cli.ok(&["volume", "rm", "one", "two", "golden", "snap"]);
    });
}

#[test]
fn a_volume_goes_through_a_tar() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let fill = "echo row > /d/t; chown 7:8 /d/t; chmod 4711 /d/t; ln -s /etc/passwd /d/l; mkdir -m 1770 /d/e; chown 9 /d";
        cli.ok(&["run", "--rm", "-v", "one:/d", "base", "sh", "-c", fill]);
        let tar = host.dir().join("tar").display().to_string();
        cli.ok(&["volume", "export", "-o", &tar, "one"]);
        assert_eq!(cli.ok(&["volume", "import", "--label", "a=b", "two", &tar]), "two\n");
        let look = "cat /d/t; stat -c '%n %a %u:%g' /d /d/t /d/e; readlink /d/l";
        let look = |volume: &str| {
            cli.ok(&["run", "--rm", "-v", &format!("{volume}:/d:ro"), "base", "sh", "-c", look])
        };
        assert_eq!(look("two"), look("one"));
        assert!(look("two").contains("/d/t 4711 7:8"), "{}", look("two"));
        assert!(cli.fails(1, &["volume", "import", "two", &tar]).contains("there is one of that name"));
        std::fs::write(&tar, "no tar at all").unwrap();
        assert!(cli.run(&["volume", "import", "three", &tar]).status != 0);
        assert_eq!(cli.ok(&["volume", "ls", "-q"]), "one\ntwo\n", "nothing half");
        // Through an overlay, too.
        cli.ok(&["volume", "freeze", "one"]);
        cli.ok(&["volume", "clone", "one", "clone"]);
        cli.ok(&["run", "--rm", "-v", "clone:/d", "base", "sh", "-c", "echo more > /d/m; rm /d/l"]);
        cli.ok(&["volume", "export", "--output", &tar, "clone"]);
        cli.ok(&["volume", "import", "plain", &tar]);
        assert_eq!(cli.ok(&["run", "--rm", "-v", "plain:/d", "base", "ls", "/d"]), "e\nm\nt\n");
        assert_eq!(cli.fails(1, &["volume", "export", "-o", &tar, "none"]), "Error: No such volume: none\n");
    });
}

#[test]
fn rm_takes_volumes_along_where_it_is_told_to() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let volumes = || cli.ok(&["volume", "ls", "-q"]).lines().count();
        let start = |name: &str| {
            cli.ok(&["run", "-d", "--name", name, "-v", "/d", "-v", "named:/n", "base", "sleep", "1000"])
        };
        start("c");
        assert_eq!(volumes(), 2);
        cli.ok(&["rm", "-fv", "c"]);
        assert_eq!(volumes(), 1, "but none with a name");
        start("c");
        cli.ok(&["rm", "-f", "c"]);
        assert_eq!(volumes(), 2);
        // One that another container has stays.
        start("c");
        cli.ok(&["run", "-d", "--name", "d", "--volumes-from", "c", "base", "sleep", "1000"]);
        cli.ok(&["rm", "-v", "-f", "c"]);
        assert_eq!(volumes(), 3);
        cli.ok(&["rm", "-f", "d"]);
        cli.ok(&["volume", "prune", "-f"]);
        assert_eq!(cli.ok(&["volume", "ls", "-q"]), "named\n");
    });
}

#[test]
fn files_go_in_and_out_of_a_volume() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let at = |name: &str| host.dir().join(name).display().to_string();
        std::fs::create_dir(at("tree")).unwrap();
        std::fs::write(at("tree/row"), "row\n").unwrap();
        std::os::unix::fs::symlink("/etc", at("tree/link")).unwrap();
        cli.ok(&["volume", "create", "data"]);
        assert_eq!(cli.ok(&["volume", "cp", &at("tree"), "data:/"]), "");
        cli.ok(&["volume", "cp", &at("tree/row"), "data:other"]);
        cli.ok(&["volume", "cp", &at("tree/."), "data:/made"]);
        let look = [
            "run",
            "--rm",
            "-v",
            "data:/d",
            "base",
            "sh",
            "-c",
            "cd /d; ls . tree made; cat other; readlink tree/link",
        ];
        assert_eq!(
            cli.ok(&look),
            ".:\nmade\nother\ntree\n\nmade:\nlink\nrow\n\ntree:\nlink\nrow\nrow\n/etc\n"
        );
        cli.ok(&["volume", "cp", "data:tree/row", &at("out")]);
        cli.ok(&["volume", "cp", "data:/tree", &at("copy")]);
        assert_eq!(std::fs::read_to_string(at("out")).unwrap(), "row\n");
        assert_eq!(std::fs::read_link(at("copy/link")).unwrap().to_str(), Some("/etc"));
        // A link of the volume's leads nowhere else.
        cli.ok(&["run", "--rm", "-v", "data:/d", "base", "ln", "-s", &at(""), "/d/away"]);
        let refused = cli.fails(1, &["volume", "cp", &at("tree/row"), "data:/away/stolen"]);
        assert!(refused.contains("could not find the file /away/stolen in volume data"), "{refused}");
        assert!(!host.dir().join("stolen").exists());
        assert!(
            cli.fails(1, &["volume", "cp", "data:/none", &at("x")]).contains("could not find the file /none")
        );
        assert!(cli.fails(1, &["volume", "cp", "none:/x", &at("x")]).contains("No such volume: none"));
        assert!(cli.fails(1, &["volume", "cp", "-", "data:/"]).contains("volume import"));
        cli.ok(&["volume", "freeze", "data"]);
        assert!(cli.fails(1, &["volume", "cp", &at("out"), "data:/"]).contains("it is frozen"));
        cli.ok(&["volume", "cp", "data:/other", &at("still")]);
    });
}
