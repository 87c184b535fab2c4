//! The flags of `run` and `create` that widen or narrow what a container may do.

use coracle::{ContainerSpec, Ipc, Pids, Seccomp};

use crate::fail::Fail;

#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Flags {
    /// Add Linux capabilities
    #[arg(long, value_name = "CAP")]
    cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "CAP")]
    cap_drop: Vec<String>,
    /// Optional parent cgroup for the container
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
    /// Cgroup namespace to use (host|private)
    #[arg(long, value_name = "MODE", value_parser = |text: &str| Space::parse(text, "cgroupns"))]
    cgroupns: Option<Space>,
    /// Add a host device to the container
    #[arg(long, value_name = "PATH[:PATH][:rwm]", value_parser = Device::parse)]
    device: Vec<Device>,
    /// Add a rule to the cgroup allowed devices list
    #[arg(long, value_name = "RULE", value_parser = device_rule)]
    device_cgroup_rule: Vec<String>,
    /// Add additional groups to join
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// IPC mode to use
    #[arg(long, value_name = "MODE", value_parser = |text: &str| Space::parse(text, "ipc"))]
    ipc: Option<Space>,
    /// PID namespace to use
    #[arg(long, value_name = "MODE", value_parser = |text: &str| Space::parse(text, "pid"))]
    pid: Option<Space>,
    /// Give extended privileges to this container
    #[arg(long)]
    privileged: bool,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Security Options
    #[arg(long, value_name = "OPTION", value_parser = Security::parse)]
    security_opt: Vec<Security>,
    /// Sysctl options
    #[arg(long, value_name = "NAME=VALUE", value_parser = sysctl)]
    sysctl: Vec<(String, String)>,
    /// User namespace to use
    #[arg(long, value_name = "MODE", value_parser = |text: &str| Space::parse(text, "userns"))]
    userns: Option<Space>,
    /// UTS namespace to use
    #[arg(long, value_name = "MODE", value_parser = |text: &str| Space::parse(text, "uts"))]
    uts: Option<Space>,
}

impl Flags {
    /// Whether its names are the host's.
    pub(super) fn has_host_uts(&self) -> bool {
        self.uts == Some(Space::Host)
    }
}

/// What they make of the spec.
pub(super) fn apply(flags: &Flags, spec: ContainerSpec) -> Result<ContainerSpec, Fail> {
    let mut spec = spaces(flags, spec);
    spec = flags.group_add.iter().fold(spec, ContainerSpec::group);
    spec = flags.cap_add.iter().fold(spec, ContainerSpec::cap_add);
    spec = flags.cap_drop.iter().fold(spec, ContainerSpec::cap_drop);
    for option in &flags.security_opt {
        spec = match option {
            Security::NoNewPrivileges(true) => spec.no_new_privileges(),
            Security::NoNewPrivileges(false) => spec,
            Security::Seccomp(profile) => spec.seccomp(seccomp(profile)?),
            Security::AppArmor(profile) => spec.apparmor(profile),
            Security::Label(option) => spec.security_label(option),
            Security::SystemPathsUnconfined => spec.open_system_paths(),
        };
    }
    if let Some(parent) = flags.cgroup_parent.as_ref().filter(|parent| !parent.is_empty()) {
        spec = spec.cgroup_parent(parent);
    }
    for device in &flags.device {
        spec = spec.device(&device.host, &device.at, &device.access);
    }
    spec = flags.device_cgroup_rule.iter().fold(spec, ContainerSpec::device_rule);
    spec = flags.sysctl.iter().fold(spec, |spec, (name, value)| spec.sysctl(name, value));
    if flags.privileged {
        spec = spec.privileged();
    }
    Ok(if flags.read_only { spec.read_only() } else { spec })
}

/// Whose namespaces it has.
fn spaces(flags: &Flags, spec: ContainerSpec) -> ContainerSpec {
    let spec = match flags.pid.clone().unwrap_or(Space::Own) {
        Space::Host => spec.pids(Pids::Host),
        Space::Container(name) => spec.pids(Pids::Container(name)),
        _ => spec,
    };
    let spec = match flags.ipc.clone().unwrap_or(Space::Own) {
        Space::Own => spec,
        Space::Shareable => spec.ipc(Ipc::Shareable),
        Space::None => spec.ipc(Ipc::None),
        Space::Host => spec.ipc(Ipc::Host),
        Space::Container(name) => spec.ipc(Ipc::Container(name)),
    };
    let spec = if flags.has_host_uts() { spec.host_uts() } else { spec };
    let spec = if flags.userns == Some(Space::Host) { spec.host_users() } else { spec };
    if flags.cgroupns == Some(Space::Host) { spec.host_cgroups() } else { spec }
}

/// docker's words for a profile, or a file of one.
fn seccomp(profile: &str) -> Result<Seccomp, Fail> {
    match profile {
        "unconfined" => Ok(Seccomp::Unconfined),
        "builtin" => Ok(Seccomp::Default),
        path => {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| {
                Fail::new(125, format!("opening seccomp profile ({path}) failed: {error}"))
            })?;
            Ok(Seccomp::Profile(text))
        }
    }
}

/// Whose namespace it gets.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Space {
    /// One of its own: what it gets without the flag.
    Own,
    /// Its own, for others to join.
    Shareable,
    /// Its own, of IPC, without `/dev/shm`.
    None,
    Host,
    /// That of another container.
    Container(String),
}

impl Space {
    fn parse(text: &str, flag: &str) -> Result<Space, String> {
        let others = matches!(flag, "ipc" | "pid");
        match text {
            "" => Ok(Space::Own),
            "private" if matches!(flag, "ipc" | "cgroupns") => Ok(Space::Own),
            "host" => Ok(Space::Host),
            "shareable" if flag == "ipc" => Ok(Space::Shareable),
            "none" if flag == "ipc" => Ok(Space::None),
            _ => match text.strip_prefix("container:").filter(|name| others && !name.is_empty()) {
                Some(name) => Ok(Space::Container(name.to_owned())),
                None => {
                    let kind = match flag {
                        "ipc" => "IPC",
                        "pid" => "PID",
                        "uts" => "UTS",
                        "userns" => "USER",
                        _ => "CGROUP",
                    };
                    Err(format!("--{flag}: invalid {kind} mode"))
                }
            },
        }
    }
}

/// A device of the host.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Device {
    pub(crate) host: String,
    pub(crate) at: String,
    /// Of `rwm`: read, write, mknod.
    pub(crate) access: String,
}

impl Device {
    fn parse(text: &str) -> Result<Device, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let (host, at, access) = match parts[..] {
            ["", ..] => return Err(format!("bad format for path: {text}")),
            [host] => (host, host, "rwm"),
            [host, access] if is_access(access) => (host, host, access),
            [host, at] => (host, at, "rwm"),
            [host, at, access] if is_access(access) => (host, at, access),
            [_, _, access] => return Err(format!("bad mode specified: {access}")),
            _ => return Err(format!("bad format for path: {text}")),
        };
        if !host.starts_with('/') && host.contains('/') && host.contains('=') {
            return Err("devices by CDI names are not supported yet".into());
        }
        match [host, at].into_iter().find(|path| !path.starts_with('/')) {
            Some(path) => Err(format!("{path} is not an absolute path")),
            None => Ok(Device { host: host.into(), at: at.into(), access: access.into() }),
        }
    }
}

fn is_access(text: &str) -> bool {
    let each = |mode: char| text.chars().filter(|char| *char == mode).count() <= 1;
    !text.is_empty() && text.chars().all(|char| "rwm".contains(char)) && "rwm".chars().all(each)
}

/// `c 1:3 rwm`.
fn device_rule(text: &str) -> Result<String, String> {
    let number =
        |text: &str| text == "*" || (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let words: Vec<&str> = text.split(' ').collect();
    let fits = match words[..] {
        [kind @ ("a" | "b" | "c"), numbers, access] if !kind.is_empty() => {
            numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
                && (1..=3).contains(&access.len())
                && access.chars().all(|char| "rwm".contains(char))
        }
        _ => false,
    };
    if fits { Ok(text.to_owned()) } else { Err(format!("invalid device cgroup format '{text}'")) }
}

/// Those that have a value per namespace (namespaces(7)).
fn sysctl(text: &str) -> Result<(String, String), String> {
    const NAMES: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let allowed =
        |name: &str| NAMES.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.");
    match text.split_once('=') {
        Some((name, value)) if allowed(name) => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("sysctl '{text}' is not allowed")),
    }
}

/// `--security-opt`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Security {
    NoNewPrivileges(bool),
    /// `unconfined`, `builtin`, or the path of a profile.
    Seccomp(String),
    AppArmor(String),
    Label(String),
    /// Nothing is masked or read-only in /proc and /sys.
    SystemPathsUnconfined,
}

impl Security {
    fn parse(text: &str) -> Result<Security, String> {
        let invalid = || format!("Invalid --security-opt: {text:?}");
        let (name, value) = match text.split_once(['=', ':']) {
            Some((name, value)) => (name, value),
            None if text == "no-new-privileges" => (text, "true"),
            None => return Err(invalid()),
        };
        match (name, value) {
            ("no-new-privileges", "true" | "1" | "t" | "T" | "TRUE" | "True") => {
                Ok(Security::NoNewPrivileges(true))
            }
            ("no-new-privileges", "false" | "0" | "f" | "F" | "FALSE" | "False") => {
                Ok(Security::NoNewPrivileges(false))
            }
            ("seccomp", value) => Ok(Security::Seccomp(value.into())),
            ("apparmor", value) => Ok(Security::AppArmor(value.into())),
            ("label", value) => Ok(Security::Label(value.into())),
            ("systempaths", "unconfined") => Ok(Security::SystemPathsUnconfined),
            _ => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_dockers() {
        let device = |at: &str, access: &str| {
            Ok(Device { host: "/dev/null".into(), at: at.into(), access: access.into() })
        };
        assert_eq!(Device::parse("/dev/null"), device("/dev/null", "rwm"));
        assert_eq!(Device::parse("/dev/null:/dev/x"), device("/dev/x", "rwm"));
        assert_eq!(Device::parse("/dev/null:/dev/x:rw"), device("/dev/x", "rw"));
        assert_eq!(Device::parse("/dev/null:rw"), device("/dev/null", "rw"));
        for (text, problem) in [
            ("/dev/null:/dev/x:q", "bad mode specified: q"),
            ("", "bad format for path: "),
            ("null", "null is not an absolute path"),
            ("/dev/null:rr", "rr is not an absolute path"),
            ("a:b:c:d", "bad format for path: a:b:c:d"),
            ("vendor.com/class=name", "devices by CDI names are not supported yet"),
        ] {
            assert_eq!(Device::parse(text).unwrap_err(), problem, "{text}");
        }
        assert_eq!(device_rule("c 1:3 rwm").unwrap(), "c 1:3 rwm");
        assert!(device_rule("a *:* rwm").is_ok());
        for text in ["c x", "d 1:3 r", "c 1:3 x", "c 1:3", "c 1 r", "c 1:3  r"] {
            assert_eq!(device_rule(text).unwrap_err(), format!("invalid device cgroup format '{text}'"));
        }
    }

    #[test]
    fn namespaces_are_dockers() {
        let table = [
            ("ipc", "private", Space::Own),
            ("ipc", "none", Space::None),
            ("ipc", "shareable", Space::Shareable),
            ("ipc", "container:x", Space::Container("x".into())),
            ("pid", "host", Space::Host),
            ("cgroupns", "private", Space::Own),
        ];
        for (flag, text, space) in table {
            assert_eq!(Space::parse(text, flag), Ok(space), "{flag} {text}");
        }
        for (flag, text, problem) in [
            ("pid", "foo", "--pid: invalid PID mode"),
            ("pid", "container:", "--pid: invalid PID mode"),
            ("uts", "container:x", "--uts: invalid UTS mode"),
            ("userns", "foo", "--userns: invalid USER mode"),
            ("cgroupns", "foo", "--cgroupns: invalid CGROUP mode"),
        ] {
            assert_eq!(Space::parse(text, flag).unwrap_err(), problem);
        }
    }

    #[test]
    fn options_are_dockers() {
        assert_eq!(sysctl("net.a=1=2"), Ok(("net.a".into(), "1=2".into())));
        assert_eq!(sysctl("b=2").unwrap_err(), "sysctl 'b=2' is not allowed");
        assert_eq!(sysctl("net.x").unwrap_err(), "sysctl 'net.x' is not allowed");
        for text in ["seccomp=unconfined", "seccomp:unconfined"] {
            assert_eq!(Security::parse(text), Ok(Security::Seccomp("unconfined".into())));
        }
        assert_eq!(Security::parse("no-new-privileges"), Ok(Security::NoNewPrivileges(true)));
        assert_eq!(Security::parse("no-new-privileges:false"), Ok(Security::NoNewPrivileges(false)));
        assert_eq!(Security::parse("x").unwrap_err(), "Invalid --security-opt: \"x\"");
        assert!(Security::parse("systempaths=all").is_err());
    }
}
