//! `coracle network`, and containers on networks.

use crate::support::{Cli, cells};

#[test]
fn containers_find_each_other_by_name() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let id =
            cli.ok(&["network", "create", "--subnet", "10.213.0.0/24", "--gateway", "10.213.0.1", "net"]);
        cli.ok(&[
            "run",
            "-d",
            "--name",
            "one",
            "--network",
            "net",
            "--ip",
            "10.213.0.77",
            "base",
            "sleep",
            "1000",
        ]);
        let found = cli.ok(&["run", "--rm", "--network=net", "base", "getent", "hosts", "one"]);
        assert_eq!(found.split_whitespace().collect::<Vec<_>>(), ["10.213.0.77", "one"]);
        let unknown = cli.run(&["run", "--rm", "base", "getent", "hosts", "one"]);
        assert_eq!((unknown.status, unknown.out.as_str()), (2, ""), "on another network: {unknown:?}");
        let shown = cli.ok(&["network", "inspect", "net"]);
        for text in ["\"Name\": \"one\"", "10.213.0.77/24", "\"Subnet\": \"10.213.0.0/24\"", id.trim()] {
            assert!(shown.contains(text), "{text}: {shown}");
        }
        assert!(cli.fails(1, &["network", "rm", "net"]).contains("network `net`"));
        cli.ok(&["rm", "-f", "one"]);
        assert_eq!(cli.ok(&["network", "rm", &id[..12]]), format!("{}\n", &id[..12]));
    });
}

#[test]
fn networks_are_listed() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let id = cli.ok(&["network", "create", "-d", "bridge", "--internal", "shop"]);
        let table = cells(&cli.ok(&["network", "ls"]));
        assert_eq!(table[0], ["NETWORK ID", "NAME", "DRIVER", "SCOPE"]);
        let names: Vec<&[String]> = table[1..].iter().map(|row| &row[1..]).collect();
        let row = |name: &str, driver: &str| [name.to_owned(), driver.to_owned(), "local".to_owned()];
        assert_eq!(
            names,
            [row("bridge", "bridge"), row("host", "host"), row("none", "null"), row("shop", "bridge")]
        );
        assert_eq!(table[4][0], id[..12]);
        assert!(cli.ok(&["network", "ls", "-q", "--no-trunc"]).contains(&id));
        assert!(cli.ok(&["network", "inspect", "shop"]).contains("\"Internal\": true"));
        cli.ok(&["network", "rm", "shop"]);
    });
}

#[test]
fn the_hosts_and_none() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let devices = ["base", "cat", "/proc/net/dev"];
        let none = cli.ok(&[&["run", "--rm", "--network", "none"][..], &devices].concat());
        assert!(none.contains("lo:") && !none.contains("eth0:"), "{none}");
        let own = cli.ok(&[&["run", "--rm"][..], &devices].concat());
        assert!(own.contains("lo:") && own.contains("eth0:"), "{own}");
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(cli.ok(&["run", "--rm", "--network", "host", "base", "hostname"]), name);
    });
}

#[test]
fn what_is_wrong_is_said() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        cli.ok(&["network", "create", "--subnet", "10.213.0.0/24", "a"]);
        let create = |words: &[&str]| cli.fails(1, &[&["network", "create"][..], words].concat());
        assert!(create(&["a"]).contains("there is a network of that name"));
        assert!(create(&["b", "--subnet", "10.213.0.0/25"]).contains("overlaps"));
        assert!(create(&["b", "-d", "overlay"]).contains("driver `overlay` is unknown"));
        assert!(create(&["host"]).contains("`host`"));
        let ended = cli.run(&["network", "rm", "bridge", "none", "nosuch", "a"]);
        assert_eq!((ended.status, ended.out.as_str()), (1, "a\n"), "{ended:?}");
        for text in
            ["`bridge`: it is the default", "none is a pre-defined network", "No such network: nosuch"]
        {
            assert!(ended.err.contains(text), "{text}: {}", ended.err);
        }
        assert!(cli.fails(125, &["run", "--rm", "--network", "nosuch", "base", "id"]).contains("nosuch"));
    });
}
