//! `coracle run`.

mod flags;
mod image;
mod life;
pub(crate) mod limits;
mod network;
mod rights;

use std::sync::Arc;

use coracle::{Container, ContainerSpec, Engine};

use crate::dialect::switch;
use crate::ended;
use crate::env::{self, Lookup};
use crate::fail::{Done, Fail};
use crate::signals::Forwarding;
use crate::streams::{self, Keys, Session};
use crate::terminal;

pub(crate) use flags::Flags;
pub(crate) use life::restart;
pub(crate) use network::options;

/// Create and run a new container from an image
#[derive(clap::Args)]
#[command(override_usage = "coracle run [OPTIONS] IMAGE [COMMAND] [ARG...]")]
pub(crate) struct Args {
    /// Run container in background and print container ID
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", value_parser = streams::keys)]
    detach_keys: Option<Keys>,
    #[command(flatten)]
    pub(crate) flags: Flags,
    /// Proxy received signals to the process
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value = "true", action = clap::ArgAction::Set, value_parser = switch)]
    sig_proxy: bool,
    /// The image, and the command with its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE [COMMAND] [ARG...]", hide = true)]
    pub(crate) words: Vec<String>,
}

/// Runs it: in the background until somebody ends it, else to its end, whose status becomes ours.
pub(crate) fn run(args: &Args) -> Done {
    let spec = spec(args, &env::own)?;
    let id_file = args.flags.id_file()?;
    let input = args.flags.interactive && args.flags.attaches("stdin");
    if args.flags.tty && input && !args.detach {
        terminal::required()?;
    }
    let named = |container: &Container| id_file.map_or(Ok(()), |file| file.write(container.id()));
    if args.detach {
        let container = args.open()?.start(&spec).map_err(|error| Fail::starting(&error))?;
        named(&container)?;
        crate::out::line(container.id())?;
        return Ok(0);
    }
    if args.is_direct() {
        return direct(&args.open()?, &spec, args.sig_proxy, named);
    }
    let engine = args.open()?;
    let session = Session::begin(args.sig_proxy);
    let started = engine.start_attached(&spec);
    let (container, mut streams) = started.map_err(|error| Fail::starting(&error))?;
    named(&container)?;
    streams.stdout = streams.stdout.filter(|_| args.flags.attaches("stdout"));
    streams.stderr = streams.stderr.filter(|_| args.flags.attaches("stderr"));
    session.run(container, streams, input, &args.detach_keys()?)
}

/// It has this program's own streams, and goes with it.
fn direct(
    engine: &Engine,
    spec: &ContainerSpec,
    sig_proxy: bool,
    named: impl FnOnce(&Container) -> Result<(), Fail>,
) -> Done {
    let forwarding = sig_proxy.then(Forwarding::begin);
    let container = engine.start(spec).map_err(|error| Fail::starting(&error))?;
    named(&container)?;
    let container = Arc::new(container);
    if let Some(forwarding) = &forwarding {
        forwarding.to(&container);
    }
    let exit = container.wait().map_err(|error| Fail::starting(&error))?;
    if let Some(forwarding) = &forwarding {
        forwarding.end();
    }
    let status = ended::status(&container, exit);
    // This removes it.
    drop(container);
    Ok(status)
}

impl Args {
    /// The engine, with the image in it if it is to be had.
    fn open(&self) -> Result<Engine, Fail> {
        image::open(&self.flags, self.words.first().map_or("", String::as_str))
    }

    /// Whether it can have this program's own streams: one that stays must be startable again by others, and a terminal
    /// or a choice of streams has to be copied.
    fn is_direct(&self) -> bool {
        self.flags.rm && !self.flags.tty && !self.detach && !self.flags.chooses_streams()
    }

    /// One that goes with its end goes with this program, too: it can't be left alone.
    fn detach_keys(&self) -> Result<Keys, Fail> {
        match (&self.detach_keys, self.flags.rm) {
            (Some(_), true) => {
                let text = "run --detach-keys: a container with --rm ends together with this program; run it with -d";
                Err(Fail::new(125, text))
            }
            (None, true) => streams::keys("").map_err(|why| Fail::new(125, why)),
            (Some(keys), false) => Ok(keys.clone()),
            (None, false) => streams::keys(streams::DETACH).map_err(|why| Fail::new(125, why)),
        }
    }
}

/// The flags as a spec.
fn spec(args: &Args, lookup: Lookup<'_>) -> Result<ContainerSpec, Fail> {
    let Some((image, command)) = args.words.split_first() else {
        return Err(Fail::new(1, "'coracle run' requires at least 1 argument"));
    };
    let (flags, detach) = (&args.flags, args.detach);
    if detach && flags.chooses_streams() {
        return Err(Fail::new(125, "conflicting options: cannot specify both --attach and --detach"));
    }
    args.detach_keys()?;
    let spec = flags.spec(image, command, lookup)?;
    let when = |spec, yes: bool, set: fn(ContainerSpec) -> ContainerSpec| if yes { set(spec) } else { spec };
    if args.is_direct() {
        return Ok(when(spec, flags.interactive, ContainerSpec::interactive).attach());
    }
    let spec = when(spec, flags.tty, ContainerSpec::terminal);
    let spec = when(spec, flags.interactive && !detach, ContainerSpec::open_stdin);
    let spec = when(spec, flags.interactive && detach, ContainerSpec::open_stdin_always);
    let spec = when(spec, detach || !flags.rm, ContainerSpec::keep);
    Ok(when(spec, detach && flags.rm, ContainerSpec::remove_when_ended))
}

/// A container that these flags ask for, not started.
pub(crate) fn created(
    flags: &Flags,
    image: &str,
    command: &[String],
    lookup: Lookup<'_>,
) -> Result<Container, Fail> {
    let when = |spec, yes: bool, set: fn(ContainerSpec) -> ContainerSpec| if yes { set(spec) } else { spec };
    let spec = flags.spec(image, command, lookup)?;
    let spec = when(spec, flags.tty, ContainerSpec::terminal);
    let spec = when(spec, flags.interactive, ContainerSpec::open_stdin);
    let spec = when(spec.keep(), flags.rm, ContainerSpec::remove_when_ended);
    let id_file = flags.id_file()?;
    let container = image::open(flags, image)?.create(&spec).map_err(|error| Fail::starting(&error))?;
    if let Some(file) = id_file {
        file.write(container.id())?;
    }
    Ok(container)
}

/// Refuses the first of these flags that was given: docker has them, and the engine not yet.
fn not_yet(flags: &[(&str, bool)]) -> Result<(), Fail> {
    match flags.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(Fail::new(125, format!("run {flag}: not supported yet"))),
        None => Ok(()),
    }
}

/// Refuses another value than those which say what happens anyway.
fn default_only(flag: &str, value: Option<&str>, defaults: &[&str]) -> Result<(), Fail> {
    match value.filter(|value| !defaults.contains(value)) {
        Some(value) => Err(Fail::new(125, format!("run {flag} {value}: not supported yet"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use coracle::{ConnectSpec, HealthCheck, Ipc, Limits, LogLimits, Mount, Pids, Restart, Seccomp};

    use super::*;
    use crate::cli::Command;
    use crate::cli::tests::parsed;
    use crate::container::Verb;

    fn specified(line: &str) -> Result<String, Fail> {
        let Command::Verb(Verb::Run(args)) = parsed(line)? else { panic!("{line}: another verb") };
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
            ("run i", new().keep()),
            ("run --rm i", new().attach()),
            ("run -i i", new().open_stdin().keep()),
            ("run -it i", new().terminal().open_stdin().keep()),
            ("run --rm -it i", new().terminal().open_stdin()),
            ("run --rm -a stdout i", new()),
            ("run -dit i", new().terminal().open_stdin_always().keep()),
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
                    .connect(ConnectSpec::new("a").alias("db").ip([10, 0, 0, 7].into()))
                    .connect(ConnectSpec::new("b"))
                    .add_host("far", IpAddr::from([10, 9, 8, 7]))
                    .add_host("six", IpAddr::from(std::net::Ipv6Addr::LOCALHOST))
                    .attach(),
            ),
            ("run --rm --network=none i", new().no_network().attach()),
            ("run --rm --network host i", new().host_network().attach()),
            ("run --rm --network container:c i", new().network_of("c").attach()),
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
    fn what_comes_of_it_in_the_end() {
        let new = || ContainerSpec::new("i").attach();
        let check = || HealthCheck::shell("test -f /ok").every(Duration::from_millis(200)).retries(2);
        let table = [
            ("--restart on-failure:3", ContainerSpec::new("i").restart(Restart::OnFailure { max: 3 }).keep()),
            ("--rm --restart no", new()),
            (
                "--rm --stop-signal SIGUSR1 --stop-timeout 5",
                new().stop_signal(10).stop_timeout(Duration::from_secs(5)),
            ),
            ("--rm --stop-timeout -1", new().stop_timeout(Duration::MAX)),
            ("--rm --no-healthcheck", new().no_health()),
            ("--rm --health-retries=4", new().health(HealthCheck::of_image().retries(4))),
            ("--rm --health-cmd=test --health-interval=0", new().health(HealthCheck::shell("test"))),
            (
                "--rm --health-cmd X --health-interval 200ms --health-retries 2 --health-timeout 1m30s \
                 --health-start-period 5s --health-start-interval 1s",
                new().health(
                    check()
                        .timeout(Duration::from_secs(90))
                        .start_period(Duration::from_secs(5))
                        .start_interval(Duration::from_secs(1)),
                ),
            ),
            ("--rm --pull never -q --isolation default --log-driver json-file --sig-proxy=false", new()),
            ("--rm --ipc private --cgroupns private --uts= --userns=", new()),
            (
                "--rm --ipc shareable --cgroupns host --uts host --pid container:c --group-add 7 --group-add wheel",
                new()
                    .ipc(Ipc::Shareable)
                    .host_cgroups()
                    .host_uts()
                    .pids(Pids::Container("c".into()))
                    .group("7")
                    .group("wheel"),
            ),
            ("--rm --ipc container:c --pid host", new().ipc(Ipc::Container("c".into())).pids(Pids::Host)),
            (
                "--rm --ipc host --security-opt systempaths=unconfined",
                new().ipc(Ipc::Host).open_system_paths(),
            ),
            ("--rm --ipc none", new().ipc(Ipc::None)),
            (
                "--rm -m 32m --cpus 0.5 --pids-limit 20 -c 512",
                new().limits(Limits::new().memory(32 << 20).cpus(0.5).cpu_shares(512).pids(20)),
            ),
            (
                "--rm --ulimit nofile=1:2 --shm-size 1m --init",
                new().rlimit("nofile", 1, 2).shm_size(1 << 20).init(),
            ),
            ("--rm --privileged --sysctl net.a=1", new().privileged().sysctl("net.a", "1")),
            ("--rm --security-opt seccomp=unconfined", new().seccomp(Seccomp::Unconfined)),
            (
                "--rm --security-opt apparmor=p --security-opt label=type:t --security-opt label:disable --userns host",
                new().apparmor("p").security_label("type:t").security_label("disable").host_users(),
            ),
            (
                "--rm --log-opt max-size=1m --log-opt max-file=2",
                new().log(LogLimits { max_size: Some(1 << 20), max_files: 2 }),
            ),
        ];
        for (flags, spec) in table {
            let words: Vec<String> =
                flags.split_whitespace().map(|word| word.replace('X', "test -f /ok")).collect();
            let words =
                ["coracle", "run"].into_iter().map(str::to_owned).chain(words).chain(["i".to_owned()]);
            let Ok(Command::Verb(Verb::Run(args))) =
                crate::cli::parse(&words.map(Into::into).collect::<Vec<_>>())
            else {
                panic!("{flags}: refused")
            };
            let made = super::spec(&args, &|_| None).unwrap();
            assert_eq!(written(made), written(spec), "{flags}");
        }
    }

    /// docker's words for the same lines.
    #[test]
    fn what_is_wrong_is_said_as_docker_says_it() {
        let table = [
            ("-m 10q", "invalid argument \"10q\" for \"-m, --memory\" flag: invalid suffix: 'q'"),
            ("--memory-swappiness 101", "invalid value: 101. Valid memory swappiness range is 0-100"),
            (
                "--cpus 1.1234567891",
                "invalid argument \"1.1234567891\" for \"--cpus\" flag: value is too precise",
            ),
            ("--cpu-quota x", "for \"--cpu-quota\" flag: strconv.ParseInt: parsing \"x\": invalid syntax"),
            (
                "--blkio-weight 70000",
                "for \"--blkio-weight\" flag: strconv.ParseUint: parsing \"70000\": value out of range",
            ),
            ("--blkio-weight-device /dev/sda", "for \"--blkio-weight-device\" flag: bad format: /dev/sda"),
            ("--device-read-bps x:1", "for \"--device-read-bps\" flag: bad format for device path: x:1"),
            ("--ulimit foo=1", "invalid argument \"foo=1\" for \"--ulimit\" flag: invalid ulimit type: foo"),
            ("--shm-size x", "invalid argument \"x\" for \"--shm-size\" flag: invalid size: 'x'"),
            ("--device null", "null is not an absolute path"),
            ("--sysctl x", "invalid argument \"x\" for \"--sysctl\" flag: sysctl 'x' is not allowed"),
            ("--security-opt x", "Invalid --security-opt: \"x\""),
            (
                "--restart on-failure:x",
                "invalid restart policy format: maximum retry count must be an integer",
            ),
            ("--restart always --rm", "conflicting options: cannot specify both --restart and --rm"),
            ("--stop-timeout x", "invalid argument \"x\" for \"--stop-timeout\" flag: strconv.ParseInt"),
            ("--no-healthcheck --health-cmd x", "--no-healthcheck conflicts with --health-* options"),
            ("--health-interval 5", "for \"--health-interval\" flag: time: missing unit in duration \"5\""),
            ("--health-interval -5s", "--health-interval cannot be negative"),
            ("--health-retries -1", "--health-retries cannot be negative"),
            (
                "--label =x",
                "invalid argument \"=x\" for \"-l, --label\" flag: invalid label '=x': empty name",
            ),
            ("--pid foo", "--pid: invalid PID mode"),
            ("--uts host -h x", "conflicting options: hostname and the UTS mode"),
            ("-d -a stdout", "conflicting options: cannot specify both --attach and --detach"),
            ("-a foo", "for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR"),
            ("--pull foo", "invalid pull option: 'foo': must be one of \"always\", \"missing\" or \"never\""),
            (
                "--dns x",
                "invalid argument \"x\" for \"--dns\" flag: IP address is not correctly formatted: x",
            ),
            ("--mac-address xx", "xx is not a valid mac address"),
            ("--link a:b:c", "invalid argument \"a:b:c\" for \"--link\" flag: bad format for links: a:b:c"),
            ("--expose 80:90", "invalid port format for --expose: 80:90"),
            (
                "--add-host x",
                "invalid argument \"x\" for \"--add-host\" flag: bad format for add-host: \"x\"",
            ),
            ("--label-file /nosuch", "open(\"/nosuch\"): No such file or directory"),
        ];
        for (flags, text) in table {
            let fail = specified(&format!("run {flags} i")).unwrap_err();
            assert!(fail.to_string().contains(text), "{flags}: {fail}");
            assert_eq!(fail.status(), 125, "{flags}");
        }
    }

    #[test]
    fn what_is_not_there_yet_is_refused_by_name() {
        let table = [
            ("run --rm --detach-keys ctrl-a -it i", "a container with --rm ends together with this program"),
            (
                "run --network container:c --network a i",
                "cannot attach both user-defined and non-user-defined network-modes",
            ),
            (
                "run --network host --network a i",
                "cannot attach both user-defined and non-user-defined network-modes",
            ),
            (
                "run --link a i",
                "run --link: not supported; on one network containers find each other by name",
            ),
            ("run --kernel-memory 1g i", "run --kernel-memory: kernels have no such limit any more"),
            ("run --log-driver syslog i", "run --log-driver syslog: not supported yet"),
            ("run -v x/y:/y i", "for \"-v, --volume\" flag: \"x/y\" includes invalid characters"),
            ("run --mount type=npipe,target=/x i", "mount type unknown"),
        ];
        for (line, text) in table {
            let fail = specified(line).unwrap_err();
            assert!(fail.to_string().contains(text), "{line}: {fail}");
            assert_eq!(fail.status(), 125, "{line}");
        }
        let flags = [
            "--link-local-ip 1.1.1.1",
            "--gpus all",
            "--runtime x",
            "--storage-opt a=b",
            "--use-api-socket",
            "--disable-content-trust=false",
        ];
        for flag in flags {
            let fail = specified(&format!("run {flag} i")).unwrap_err();
            let text = fail.to_string();
            assert!(
                text.starts_with("coracle: run --") && text.ends_with(": not supported yet"),
                "{flag}: {fail}"
            );
        }
    }
}
