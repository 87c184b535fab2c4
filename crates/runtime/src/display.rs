//! A plan in words.

use std::fmt;
use std::path::Path;

use coracle_host::Propagation;
use rustix::mount::MountFlags;

use crate::{Attachment, Joinable, Plan, Shown, Step, limits};

impl fmt::Display for Plan {
    /// One numbered line for each step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(f, "{index:2}  {step}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::DieWithParent => f.write_str("die with parent (SIGKILL)"),
            Step::Undumpable => f.write_str("undumpable"),
            Step::JoinNet => f.write_str("join network namespace"),
            Step::EnterGroup => f.write_str("enter the control group"),
            Step::NewGroupNamespace => f.write_str("new cgroup namespace"),
            Step::NewTimeNamespace => f.write_str("new time namespace"),
            Step::JoinTime { path: None } => f.write_str("join the container's time namespace"),
            Step::JoinTime { path: Some(path) } => write!(f, "join time namespace {}", path.display()),
            Step::JoinNewTime { offsets } if offsets.is_empty() => f.write_str("join a new time namespace"),
            Step::JoinNewTime { offsets } => {
                write!(f, "join a new time namespace, clocks {}", offsets.trim_end().replace('\n', ", "))
            }
            Step::Clocks(lines) => write!(f, "clocks {}", lines.trim_end().replace('\n', ", ")),
            Step::OomScore(score) => write!(f, "out-of-memory score {score:+}"),
            Step::Sysctl { path, value } => write!(f, "write {value} to {path}"),
            Step::Raise { resource, hard, .. } => {
                write!(f, "raise the hard limit of {} to {}", limits::name(*resource), limits::Value(*hard))
            }
            Step::Limit { resource, soft, hard } => {
                let (soft, hard) = (limits::Value(*soft), limits::Value(*hard));
                write!(f, "limit {} to {soft}, hard {hard}", limits::name(*resource))
            }
            Step::JoinUser => f.write_str("join the user namespace"),
            Step::Clone { namespaces } => {
                write!(f, "go on in a second process, in new {namespaces} namespaces")
            }
            Step::BecomeRoot => f.write_str("be root there"),
            Step::JoinPath { kind, path } => {
                let kind = match kind {
                    Joinable::Net => "network",
                    Joinable::Ipc => "ipc",
                    Joinable::Uts => "uts",
                    Joinable::Cgroup => "cgroup",
                    Joinable::Pid => "pid",
                    Joinable::Mount => "mount",
                };
                write!(f, "join {kind} namespace {}", path.display())
            }
            Step::Personality(persona) => write!(f, "personality {persona:#x}"),
            Step::IoPriority { class, level } => write!(f, "i/o priority class {class}, level {level}"),
            Step::Scheduler(attr) => {
                write!(f, "scheduling policy {}, nice {}, priority {}", attr.policy, attr.nice, attr.priority)
            }
            Step::Affinity { words, .. } => write!(f, "run on processors {words}"),
            Step::MemoryPolicy { mode, words, .. } => write!(f, "memory policy {mode:#x} of nodes {words}"),
            Step::Keyring => f.write_str("new session keyring"),
            Step::Carry { .. } => f.write_str("keep CAP_SYS_ADMIN until the filter is installed"),
            Step::Confine { profile, .. } => write!(f, "AppArmor profile {profile}"),
            Step::LabelKeyring(label) => write!(f, "SELinux label of the keyring {label}"),
            Step::LabelMount { at, label } => write!(f, "SELinux label of .{} {label}", at.display()),
            Step::Label(label) => write!(f, "SELinux label {label}"),
            Step::Filter(program) => write!(f, "seccomp {program}"),
            Step::LetGo { effective, .. } => {
                write!(f, "keep {} capabilities", effective.bits().count_ones())
            }
            Step::Init => f.write_str("stay as init, go on in a child"),
            Step::LoopbackUp => f.write_str("loopback up"),
            Step::NoDevices => f.write_str("no devices"),
            Step::Device { at } => write!(f, "but .{}", at.display()),
            Step::NoOtherDevices => f.write_str("no other devices in ./dev"),
            Step::AttachGiven { what, at, propagation } => {
                let propagates = match propagation {
                    Propagation::Private => String::new(),
                    other => format!(" ({})", propagation_word(*other)),
                };
                write!(f, "attach {what}{propagates} at .{}", at.display())
            }
            Step::JoinContainer => f.write_str("join the container's namespaces"),
            Step::Await => f.write_str("wait for the word to go"),
            Step::Detach => f.write_str("go on in sealed memory"),
            Step::Session => f.write_str("begin a session"),
            Step::Again => f.write_str("go on in a second process"),
            Step::MakePrivate => f.write_str("make / private"),
            Step::AttachRoot => f.write_str("attach root"),
            Step::KeepRootApart { propagation } => write!(f, "make root {}", propagation_word(*propagation)),
            Step::Attach { source, at } => write!(f, "attach {source} at .{}", at.display()),
            Step::Mount { fstype, at, flags, data } => {
                write!(f, "mount {fstype} at .{}", at.display())?;
                let flags = flag_words(*flags);
                let words: Vec<&str> =
                    flags.into_iter().chain((!data.is_empty()).then_some(data.as_str())).collect();
                if words.is_empty() { Ok(()) } else { write!(f, " {}", words.join(",")) }
            }
            Step::Remount { at, change, recursive } => {
                let below = if *recursive { " and all below" } else { "" };
                write!(f, "remount .{}{below}: {change}", at.display())
            }
            Step::Propagate { at, propagation, below } => {
                let below = if *below { " and all below" } else { "" };
                let at = if at == Path::new("/") { "/".into() } else { format!(".{}", at.display()) };
                write!(f, "make {at}{below} {}", propagation_word(*propagation))
            }
            Step::Seal { at } => write!(f, "seal .{}", at.display()),
            Step::Node { at, node } => {
                let (major, minor) = node.number;
                write!(f, "device {major}:{minor} at .{}", at.display())
            }
            Step::Hide { at } => write!(f, "hide .{}", at.display()),
            Step::Guard { at } => write!(f, "make .{} read-only", at.display()),
            Step::EnterRoot => f.write_str("enter root"),
            Step::MaskFile(path) => write!(f, "mask file ./{path}"),
            Step::MaskDir(path) => write!(f, "mask directory ./{path}"),
            Step::ReadOnly(path) => write!(f, "make ./{path} read-only"),
            Step::Pivot => f.write_str("pivot here, detach old root"),
            Step::ChangeRoot => f.write_str("change root here, over the old one"),
            Step::Chroot => f.write_str("change root here"),
            Step::RootReadOnly => f.write_str("make / read-only"),
            Step::HostName(name) => write!(f, "hostname {name}"),
            Step::DomainName(name) => write!(f, "domainname {name}"),
            Step::Umask(mask) => write!(f, "umask {mask:04o}"),
            Step::Bound(set) => write!(f, "bound to {} capabilities", set.bits().count_ones()),
            Step::Ids { uid, gid, groups } if groups.is_empty() => write!(f, "ids {uid}:{gid}"),
            Step::Ids { uid, gid, groups } => {
                let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
                write!(f, "ids {uid}:{gid}, groups {}", groups.join(","))
            }
            Step::Capabilities { effective, ambient, .. } => {
                write!(f, "keep {} capabilities", effective.bits().count_ones())?;
                match ambient.bits().count_ones() {
                    0 => Ok(()),
                    ambient => write!(f, ", {ambient} ambient"),
                }
            }
            Step::NoNewPrivs => f.write_str("no new privileges"),
            Step::ChangeDir(path) => write!(f, "chdir {}", path.display()),
            Step::Stdio => f.write_str("standard input, output, error"),
            Step::Console { at } => write!(f, "attach the terminal at .{}", at.display()),
            Step::Terminal { size: None } => f.write_str("terminal for input and output"),
            Step::Terminal { size: Some(size) } => write!(f, "terminal of {size} for input and output"),
            Step::Control => f.write_str("be controlled by the terminal"),
            Step::CloseFrom(first) => write!(f, "close from {first}"),
            Step::Exec { args, .. } => write!(f, "exec {}", args.join(" ")),
        }
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attachment::Tmpfs { options, attributes, devices, copy_up } => {
                f.write_str(if devices.is_some() { "tmpfs with devices" } else { "tmpfs" })?;
                f.write_str(if *copy_up { " with what it covers" } else { "" })?;
                listed(f, &attributes.words(), options)
            }
            Attachment::DevPts { options, attributes } => {
                f.write_str("devpts")?;
                listed(f, &attributes.words(), options)
            }
            Attachment::Proc { namespace, options, attributes } => {
                write!(f, "proc of {}", namespace.display())?;
                listed(f, &attributes.words(), options)
            }
            Attachment::Other { fstype, options, attributes } => {
                f.write_str(fstype)?;
                listed(f, &attributes.words(), options)
            }
            Attachment::Bind { source, recursive, attributes, ids, .. } => {
                write!(f, "{} of {}", if *recursive { "rbind" } else { "bind" }, source.display())?;
                let words = attributes.words();
                if !words.is_empty() {
                    write!(f, " ({})", words.join(","))?;
                }
                let Some(Shown { map, recursive }) = ids else { return Ok(()) };
                f.write_str(if *recursive { ", with all below it mapped" } else { ", mapped" })?;
                map.as_ref().map_or(Ok(()), |map| write!(f, " ({map})"))
            }
        }
    }
}

fn listed(f: &mut fmt::Formatter<'_>, flags: &[&str], options: &[String]) -> fmt::Result {
    let words: Vec<&str> = flags.iter().copied().chain(options.iter().map(String::as_str)).collect();
    if words.is_empty() { Ok(()) } else { write!(f, " {}", words.join(",")) }
}

fn propagation_word(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Private => "private",
        Propagation::Slave => "slave",
        Propagation::Shared => "shared",
        Propagation::Unbindable => "unbindable",
    }
}

fn flag_words(flags: MountFlags) -> Vec<&'static str> {
    [
        (MountFlags::NOSUID, "nosuid"),
        (MountFlags::NODEV, "nodev"),
        (MountFlags::NOEXEC, "noexec"),
        (MountFlags::RDONLY, "ro"),
        (MountFlags::NOATIME, "noatime"),
        (MountFlags::NODIRATIME, "nodiratime"),
        (MountFlags::RELATIME, "relatime"),
        (MountFlags::STRICTATIME, "strictatime"),
    ]
    .into_iter()
    .filter(|(flag, _)| flags.contains(*flag))
    .map(|(_, word)| word)
    .collect()
}
