//! `coracle run`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use coracle::{ContainerSpec, Engine, Publish};

use crate::env::{self, Lookup};
use crate::fail::{Done, Fail};
use crate::mounts;
use crate::signals::Forwarding;

/// Create and run a new container from an image
#[derive(clap::Args)]
#[command(override_usage = "coracle run [OPTIONS] IMAGE [COMMAND] [ARG...]")]
pub(crate) struct Args {
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "HOST:IP")]
    pub(crate) add_host: Vec<String>,
    /// Add Linux capabilities
    #[arg(long, value_name = "CAP")]
    pub(crate) cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "CAP")]
    pub(crate) cap_drop: Vec<String>,
    /// Run container in background and print container ID
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<String>,
    /// Container host name
    #[arg(short = 'h', long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Keep STDIN open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Option<Ipv4Addr>,
    /// Set meta data on a container
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// Assign a name to the container
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Connect a container to a network
    #[arg(long, alias = "net", value_name = "NETWORK")]
    pub(crate) network: Vec<String>,
    /// Add network-scoped alias for the container
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    pub(crate) network_alias: Vec<String>,
    /// Publish a container's port(s) to the host
    #[arg(short = 'p', long, value_name = "[[ADDRESS:]PORT:]PORT[/PROTOCOL]")]
    pub(crate) publish: Vec<String>,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Automatically remove the container when it exits
    #[arg(long)]
    pub(crate) rm: bool,
    /// Security options: no-new-privileges
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    #[command(flatten)]
    pub(crate) mounts: mounts::Flags,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// The image, and the command with its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE [COMMAND] [ARG...]", hide = true)]
    pub(crate) words: Vec<String>,
}

/// Runs it: in the background until somebody ends it, else to its end, whose status becomes ours.
pub(crate) fn run(args: &Args) -> Done {
    let spec = spec(args, &env::own)?;
    let forwarding = (!args.detach).then(Forwarding::begin);
    let engine = Engine::open_default().map_err(|error| Fail::starting(&error))?;
    let container = engine.start(&spec).map_err(|error| Fail::starting(&error))?;
    let Some(forwarding) = forwarding else {
        crate::out::line(container.id())?;
        return Ok(0);
    };
    let container = Arc::new(container);
    forwarding.to(&container);
    let exit = container.wait().map_err(|error| Fail::starting(&error))?;
    forwarding.end();
    // With --rm this removes it.
    drop(container);
    Ok(exit.code())
}

/// The flags as a spec.
fn spec(args: &Args, lookup: Lookup<'_>) -> Result<ContainerSpec, Fail> {
    let refuse = |flag: &str, text: &str, why: String| {
        Fail::new(125, format!("invalid argument {text:?} for \"{flag}\" flag: {why}"))
    };
    let Some((image, command)) = args.words.split_first() else {
        return Err(Fail::new(1, "'coracle run' requires at least 1 argument"));
    };
    if args.detach && args.interactive {
        return Err(Fail::new(125, "run -i: not supported together with -d yet"));
    }
    let mut spec = ContainerSpec::new(image);
    if !command.is_empty() {
        spec = spec.command(command);
    }
    if let Some(entrypoint) = &args.entrypoint {
        // An empty one takes the image's away.
        spec = spec.entrypoint(Some(entrypoint).filter(|program| !program.is_empty()));
    }
    for (name, value) in env::variables(&args.env_file, &args.env, lookup)? {
        spec = spec.env(name, value);
    }
    for (key, value) in args.label.iter().map(|text| env::label(text)) {
        spec = spec.label(key, value);
    }
    spec = mounts::apply(&args.mounts, spec)?;
    spec = networks(spec, &args.network)?;
    spec = args.network_alias.iter().fold(spec, ContainerSpec::network_alias);
    for text in &args.add_host {
        let (name, address) = host(text).map_err(|why| refuse("--add-host", text, why))?;
        spec = spec.add_host(name, address);
    }
    for text in &args.publish {
        let ports = Publish::parse(text).map_err(|error| refuse("-p, --publish", text, error.to_string()))?;
        spec = ports.into_iter().fold(spec, ContainerSpec::publish);
    }
    for option in &args.security_opt {
        match option.split_once(['=', ':']).unwrap_or((option, "true")) {
            ("no-new-privileges", "true") => spec = spec.no_new_privileges(),
            ("no-new-privileges", "false") => {}
            _ => return Err(Fail::new(125, format!("run --security-opt {option}: not supported yet"))),
        }
    }
    spec = args.cap_add.iter().fold(spec, ContainerSpec::cap_add);
    spec = args.cap_drop.iter().fold(spec, ContainerSpec::cap_drop);
    let set = |spec, value: &Option<String>, set: fn(ContainerSpec, String) -> ContainerSpec| match value {
        Some(value) => set(spec, value.clone()),
        None => spec,
    };
    spec = set(spec, &args.name, ContainerSpec::name);
    spec = set(spec, &args.hostname, ContainerSpec::hostname);
    spec = set(spec, &args.user, ContainerSpec::user);
    spec = set(spec, &args.workdir, ContainerSpec::workdir);
    let when = |spec, yes: bool, set: fn(ContainerSpec) -> ContainerSpec| if yes { set(spec) } else { spec };
    spec = match args.ip {
        Some(address) => spec.ip(address),
        None => spec,
    };
    spec = when(spec, args.read_only, ContainerSpec::read_only);
    spec = when(spec, args.interactive, ContainerSpec::interactive);
    spec = when(spec, args.detach, ContainerSpec::keep);
    spec = when(spec, args.detach && args.rm, ContainerSpec::remove_when_ended);
    spec = when(spec, !args.detach, ContainerSpec::attach);
    spec = when(spec, !args.detach && !args.rm, ContainerSpec::retain);
    Ok(spec)
}

fn networks(spec: ContainerSpec, names: &[String]) -> Result<ContainerSpec, Fail> {
    let alone = names.len() == 1;
    let refuse = |name: &str, why: &str| Err(Fail::new(125, format!("run --network {name}: {why}")));
    let mut spec = spec;
    for name in names {
        spec = match name.as_str() {
            "host" | "none" if !alone => return refuse(name, "it goes with no other network"),
            "host" => spec.host_network(),
            "none" => spec.no_network(),
            "default" => spec.network("bridge"),
            _ if name.starts_with("container:") => {
                return refuse(name, "another container's network is not supported yet");
            }
            _ if name.contains('=') => return refuse(name, "options are not supported yet"),
            _ => spec.network(name),
        };
    }
    Ok(spec)
}

/// `name:address`, or `name=address`.
fn host(text: &str) -> Result<(String, IpAddr), String> {
    let (name, address) = text.split_once(['=', ':']).ok_or("bad format: want name:address")?;
    if name.is_empty() {
        return Err("bad format: want name:address".into());
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    match bare.parse() {
        Ok(address) => Ok((name.to_owned(), address)),
        Err(_) if bare == "host-gateway" => Err("host-gateway is not supported yet".into()),
        Err(_) => Err(format!("invalid IP address: {address}")),
    }
}

#[cfg(test)]
mod tests {
    use coracle::Mount;

    use super::*;
    use crate::cli::Command;
    use crate::cli::tests::parsed;

    fn specified(line: &str) -> Result<String, Fail> {
        let Ok(Command::Run(args)) = parsed(line) else { panic!("{line}: refused") };
        let spec = spec(&args, &|name| (name == "SET").then(|| "1".to_owned()))?;
        Ok(format!("{spec:?}"))
    }

    /// The same spec, as an embedder would write it.
    fn written(spec: ContainerSpec) -> String {
        format!("{spec:?}")
    }

    #[test]
    fn a_command_line_is_a_spec() {
        let new = || ContainerSpec::new("i");
        let table = [
            ("run i", new().attach().retain()),
            ("run --rm i", new().attach()),
            ("run -d i", new().keep()),
            ("run -d --rm i", new().keep().remove_when_ended()),
            ("run --rm -i i cat -n", new().command(["cat", "-n"]).interactive().attach()),
            ("run --rm -eA=1 -e SET -e UNSET i", new().env("A", "1").env("SET", "1").attach()),
            ("run --rm --entrypoint echo i x", new().command(["x"]).entrypoint(["echo"]).attach()),
            ("run --rm --entrypoint= i x", new().command(["x"]).entrypoint([""; 0]).attach()),
            (
                "run --rm --name n -h box -u 1:2 -w /tmp -l a=b --label c i",
                new()
                    .label("a", "b")
                    .label("c", "")
                    .name("n")
                    .hostname("box")
                    .user("1:2")
                    .workdir("/tmp")
                    .attach(),
            ),
            (
                "run --rm -v db:/d -v /srv:/s:ro --mount type=bind,source=/x,target=/y i",
                new()
                    .volume("db", "/d")
                    .mount(Mount::bind("/srv", "/s").create().read_only())
                    .bind("/x", "/y")
                    .attach(),
            ),
            (
                "run --rm --network a --net b --network-alias db --ip 10.0.0.7 --add-host far:10.9.8.7 --add-host six=::1 i",
                new()
                    .network("a")
                    .network("b")
                    .network_alias("db")
                    .add_host("far", IpAddr::from([10, 9, 8, 7]))
                    .add_host("six", IpAddr::from(std::net::Ipv6Addr::LOCALHOST))
                    .ip([10, 0, 0, 7].into())
                    .attach(),
            ),
            ("run --rm --network=none i", new().no_network().attach()),
            ("run --rm --network host i", new().host_network().attach()),
            (
                "run --rm --read-only --cap-add SYS_TIME --cap-drop ALL --security-opt no-new-privileges i",
                new().no_new_privileges().cap_add("SYS_TIME").cap_drop("ALL").read_only().attach(),
            ),
        ];
        for (line, spec) in table {
            assert_eq!(specified(line).unwrap(), written(spec), "{line}");
        }
    }

    #[test]
    fn what_is_not_there_yet_is_refused_by_name() {
        let table = [
            ("run -d -i i", "run -i: not supported together with -d"),
            ("run --network container:c i", "run --network container:c: another container's"),
            ("run --network host --network a i", "run --network host: it goes with no other"),
            ("run --network name=a,alias=b i", "options are not supported"),
            ("run --add-host x i", "invalid argument \"x\" for \"--add-host\" flag: bad format"),
            ("run --add-host x:y i", "invalid IP address: y"),
            ("run --add-host h:host-gateway i", "host-gateway is not supported"),
            ("run --security-opt seccomp=unconfined i", "--security-opt seccomp=unconfined: not supported"),
            ("run -v x/y:/y i", "for \"-v, --volume\" flag: \"x/y\" includes invalid characters"),
            ("run --mount type=npipe,target=/x i", "mount type unknown"),
        ];
        for (line, text) in table {
            let fail = specified(line).unwrap_err();
            assert!(fail.to_string().contains(text), "{line}: {fail}");
            assert_eq!(fail.status(), 125, "{line}");
        }
    }
}
