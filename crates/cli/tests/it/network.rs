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

/// The text of a file as the container of these flags has it.
fn shown(cli: &Cli, flags: &[&str], file: &str) -> String {
    cli.ok(&[&["run", "--rm"][..], flags, &["base", "cat", file]].concat())
}

#[test]
fn places_are_as_asked() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        cli.ok(&["network", "create", "--ipv6", "--subnet", "10.213.0.0/24,fd00:213::/64", "net"]);
        cli.ok(&["network", "create", "--subnet", "10.214.0.0/24", "other"]);
        let place = "name=net,alias=db,ip=10.213.0.7,ip6=fd00:213::7,mac-address=02:42:00:00:00:07,\
                     driver-opt=com.docker.network.endpoint.ifname=wan0";
        let more = "name=other,gw-priority=1";
        cli.ok(&[
            "run",
            "-d",
            "--name",
            "one",
            "--network",
            place,
            "--network",
            more,
            "base",
            "sleep",
            "1000",
        ]);
        let one = "{{with .NetworkSettings.Networks.net}}{{.IPAddress}}/{{.IPPrefixLen}} \
                   {{.GlobalIPv6Address}}/{{.GlobalIPv6PrefixLen}} {{.IPv6Gateway}} {{.MacAddress}}{{end}}";
        let told = "10.213.0.7/24 fd00:213::7/64 fd00:213::1 02:42:00:00:00:07\n";
        assert_eq!(cli.ok(&["inspect", "-f", one, "one"]), told);
        assert_eq!(cli.ok(&["exec", "one", "cat", "/sys/class/net/wan0/address"]), "02:42:00:00:00:07\n");
        let routes = cli.ok(&["exec", "one", "cat", "/proc/net/route"]);
        let way_out = routes.lines().find(|line| line.split('\t').nth(1) == Some("00000000")).unwrap();
        assert!(way_out.starts_with("eth1"), "the network of the higher priority: {routes}");
        let both =
            cli.ok(&["network", "inspect", "-f", "{{range .Containers}}{{.IPv6Address}}{{end}}", "net"]);
        assert_eq!(both, "fd00:213::7/64\n");
        // The flags beside are about the first network; what finds whom is the same as ever.
        let peer =
            ["run", "--rm", "--network", "net", "--ip6", "fd00:213::9", "--mac-address", "02:42:00:00:00:09"];
        let found = cli.ok(&[&peer[..], &["base", "getent", "ahostsv6", "db"]].concat());
        assert!(found.starts_with("fd00:213::7 "), "{found}");
        let own = cli.ok(&[&peer[..], &["base", "cat", "/proc/net/if_inet6"]].concat());
        assert!(own.contains("fd000213000000000000000000000009"), "{own}");
        let refused = |flags: &[&str], text: &str| {
            let said = cli.fails(125, &[&["run", "--rm"][..], flags, &["base", "id"]].concat());
            assert!(said.contains(text), "{text}: {said}");
        };
        refused(
            &["--network", "name=net,alias=x", "--network-alias", "y"],
            "cannot specify both --network-alias",
        );
        refused(&["--network", "net", "--network", "net"], "\"net\" is specified multiple times");
        refused(&["--network", "net", "--network", "host"], "cannot attach both user-defined");
        refused(&["--network", "none", "--ip", "10.213.0.9"], "user defined networks only");
        refused(&["--network", "container:one", "-p", "80"], "port publishing and the container type");
        refused(&["--network", "container:one", "--dns", "10.1.1.1"], "dns and the network mode");
        refused(&["--network", "other", "--ip6", "fd00:213::9"], "no IPv6");
        refused(&["--network", "name=net,driver-opt=x.y=z"], "driver option x.y");
        refused(&["--link", "one"], "run --link");
        cli.ok(&["rm", "-f", "one"]);
    });
}

#[test]
fn names_as_asked() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        cli.ok(&["network", "create", "--ipv6", "--subnet", "10.213.0.0/24,fd00:213::/64", "net"]);
        let own = ["--dns", "10.9.8.7", "--dns-search", "a.example", "--dns-option", "ndots:3"];
        let words = "search a.example\noptions ndots:3\n";
        assert_eq!(shown(&cli, &own, "/etc/resolv.conf"), format!("nameserver 127.0.0.11\n{words}"));
        let hosts = [&own[..], &["--network", "host"]].concat();
        assert_eq!(shown(&cli, &hosts, "/etc/resolv.conf"), format!("nameserver 10.9.8.7\n{words}"));
        let gateway = ["--network", "net", "--add-host", "up:host-gateway", "--add-host", "far=10.9.8.7"];
        let text = shown(&cli, &gateway, "/etc/hosts");
        assert!(text.contains("10.213.0.1\tup\nfd00:213::1\tup\n10.9.8.7\tfar\n"), "{text}");
        let text = shown(&cli, &["--network", "host", "--add-host", "up:host-gateway"], "/etc/hosts");
        assert!(text.contains("127.0.0.1\tup\n"), "{text}");
        let create = [&["create", "--name", "one"][..], &own, &gateway[2..4], &["base", "id"]].concat();
        cli.ok(&create);
        let told = "{{.HostConfig.Dns}} {{.HostConfig.DnsSearch}} {{.HostConfig.DnsOptions}} {{.HostConfig.ExtraHosts}}";
        let shown = cli.ok(&["inspect", "-f", told, "one"]);
        assert_eq!(shown, "[10.9.8.7] [a.example] [ndots:3] [up:host-gateway]\n");
        cli.ok(&["rm", "one"]);
    });
}

#[test]
fn ports_that_are_served_are_published_at_once() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let run = |flags: &[&str]| cli.ok(&[&["run", "-d"][..], flags, &["base", "sleep", "1000"]].concat());
        run(&["--name", "one", "-P", "--expose", "80-81", "--expose", "53/udp", "-p", "127.0.0.1:8081:81"]);
        let port = |words: &[&str]| cli.ok(&[&["port", "one"][..], words].concat());
        let all = port(&[]);
        let lines: Vec<&str> = all.lines().collect();
        assert_eq!(lines.len(), 3, "{all}");
        assert!(all.contains("53/udp -> 0.0.0.0:") && all.contains("80/tcp -> 0.0.0.0:"), "{all}");
        assert_eq!(port(&["81"]), "127.0.0.1:8081\n");
        assert_eq!(port(&["81/tcp"]), "127.0.0.1:8081\n");
        let unknown = cli.fails(1, &["port", "one", "82"]);
        assert!(unknown.contains("No public port '82/tcp' published for one"), "{unknown}");
        run(&["--name", "two", "--expose", "80-81"]);
        assert_eq!(cli.ok(&["ps", "--filter", "name=two", "--format", "{{.Ports}}"]), "80-81/tcp\n");
        let told = cli.ok(&[
            "inspect",
            "-f",
            "{{json .NetworkSettings.Ports}} {{json .Config.ExposedPorts}}",
            "two",
        ]);
        let want = "{\"80/tcp\":null,\"81/tcp\":null} {\"80/tcp\":{},\"81/tcp\":{}}\n";
        assert_eq!(told, want);
        let host = cli.run(&["run", "--rm", "--network", "host", "-p", "80:80", "base", "true"]);
        assert!(host.err.contains("Published ports are discarded"), "{host:?}");
        cli.ok(&["rm", "-f", "one", "two"]);
    });
}

#[test]
fn networks_that_nobody_is_on_are_pruned() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        for (name, label) in [("a", "x=1"), ("b", "x=2"), ("used", "x=1"), ("c", "y")] {
            cli.ok(&["network", "create", "--label", label, name]);
        }
        cli.ok(&["run", "-d", "--name", "one", "--network", "used", "base", "sleep", "1000"]);
        let prune = |words: &[&str]| cli.ok(&[&["network", "prune"][..], words].concat());
        let no = prune(&[]);
        let asks = "WARNING! This will remove all custom networks not used by at least one container.\n\
                    Are you sure you want to continue? [y/N] ";
        assert_eq!(no, asks, "its standard input is empty");
        assert_eq!(prune(&["-f", "--filter", "label=x=1"]), "Deleted Networks:\na\n\n");
        assert_eq!(prune(&["-f", "--filter", "label!=y"]), "Deleted Networks:\nb\n\n");
        assert_eq!(prune(&["-f", "--filter", "until=24h"]), "");
        let yes = cli.run_with(&["network", "prune"], "y\n");
        assert_eq!(yes.out, format!("{asks}Deleted Networks:\nc\n\n"));
        assert_eq!(cli.ok(&["network", "ls", "--format", "{{.Name}}"]), "bridge\nhost\nnone\nused\n");
        cli.ok(&["rm", "-f", "one"]);
    });
}
