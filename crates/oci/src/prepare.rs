//! A bundle becomes what the runtime crate takes: what this program does itself is taken out of the configuration.

use std::path::{Path, PathBuf};

use coracle_host::Namespace;
use coracle_runtime::seccomp::Program;
use coracle_runtime::{Facts, Plan};
use oci_spec::runtime::{Capability, Hooks, LinuxNamespaceType, LinuxResources, Process, Spec};
use serde_json::Value;

use crate::error::{During, Error, Result};
use crate::journal::Log;
use crate::mounted::Among;

/// A container that is about to be made.
pub(crate) struct Prepared {
    pub(crate) spec: Spec,
    /// The configuration's own text.
    pub(crate) text: Vec<u8>,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    /// The configuration without what this program does itself.
    ours: Spec,
    /// Of system calls.
    filter: Option<Program>,
    pub(crate) net: Option<Namespace>,
    pub(crate) hooks: Hooks,
    pub(crate) terminal: bool,
    /// Where the container sees its control group, and whether it can only look; where it has no namespace for that.
    pub(crate) view: Option<(PathBuf, bool)>,
    /// The root is entered by chroot(2).
    pub(crate) no_pivot: bool,
    pub(crate) among: Among,
}

/// Reads the bundle's configuration, and plans its container.
pub(crate) fn read(bundle: &Path, log: &Log) -> Result<Prepared> {
    let bundle = std::fs::canonicalize(bundle).during(|| format!("find the bundle {bundle:?}"))?;
    let path = bundle.join("config.json");
    let mut text = std::fs::read(&path).during(|| format!("read {path:?}"))?;
    let mut config: Value = serde_json::from_slice(&text).during(|| format!("read {path:?}"))?;
    if forget_unknown(&mut config, log) {
        text = config.to_string().into_bytes();
    }
    let spec: Spec = serde_json::from_value(config).during(|| format!("read {path:?}"))?;
    version(spec.version())?;
    let root = spec.root().as_ref().ok_or_else(|| Error::new("root: missing"))?;
    let rootfs = std::fs::canonicalize(bundle.join(root.path()))
        .during(|| format!("find root.path {:?}", root.path()))?;
    let mut ours = spec.clone();
    let hooks = ours.hooks().clone().unwrap_or_default();
    crate::hooks::check(&hooks)?;
    ours.set_hooks(None);
    sources(&mut ours, &bundle);
    if let Some(process) = ours.process_mut() {
        own_umask(process)?;
    }
    // Made once, however often the container is planned.
    let filter = Program::of(&ours)?;
    if let Some(linux) = ours.linux_mut() {
        linux.set_seccomp(None);
    }
    let mut net = None;
    if let Some(mut linux) = ours.linux().clone() {
        for namespace in linux.namespaces_mut().iter_mut().flatten() {
            if let (LinuxNamespaceType::Network, Some(path)) = (namespace.typ(), namespace.path().clone()) {
                let file =
                    std::fs::File::open(&path).during(|| format!("open the network namespace {path:?}"))?;
                net = Some(Namespace::from_fd(file.into()));
                namespace.set_path(None);
            }
        }
        ours.set_linux(Some(linux));
    }
    let view = take_view(&mut ours);
    let terminal = ours.process().as_ref().is_some_and(|process| process.terminal() == Some(true));
    let (no_pivot, among) = (false, Among::of(&ours));
    let prepared =
        Prepared { spec, text, bundle, rootfs, ours, filter, net, hooks, terminal, view, no_pivot, among };
    // What is wrong with it is said before anything is made.
    let plan = prepared.plan(false)?;
    for warning in prepared.spec.process().iter().flat_map(|process| plan.warnings(process)) {
        log.warn(&warning);
    }
    Ok(prepared)
}

impl Prepared {
    /// The plan of a process that waits for the word to go, and enters a control group where it has one.
    pub(crate) fn plan(&self, with_group: bool) -> Result<Plan> {
        let mut spec = self.ours.clone();
        if let Some(mut linux) = spec.linux().clone().filter(|_| with_group) {
            // Where it is the launch need not know; that there is one is what the plan asks for.
            let path = linux.cgroups_path().clone().unwrap_or_else(|| "/".into());
            linux.set_cgroups_path(Some(path));
            spec.set_linux(Some(linux));
        }
        let mut plan = Plan::container(&spec, &Facts::of_this_host())?;
        if let Some(filter) = &self.filter {
            plan.filter(filter)?;
        }
        if self.no_pivot {
            plan.no_pivot();
        }
        plan.outlive();
        plan.hold();
        Ok(plan)
    }

    /// Of system calls.
    pub(crate) fn filter(&self) -> Option<&Program> {
        self.filter.as_ref()
    }

    pub(crate) fn cgroups_path(&self) -> Option<&Path> {
        self.spec.linux().as_ref()?.cgroups_path().as_deref()
    }

    pub(crate) fn resources(&self) -> Option<&LinuxResources> {
        self.spec.linux().as_ref()?.resources().as_ref()
    }
}

/// config.md, "Linux Process": a capability that this kernel's interface has no word for is a warning. Whether there was one.
fn forget_unknown(config: &mut Value, log: &Log) -> bool {
    let sets = config.pointer_mut("/process/capabilities").and_then(Value::as_object_mut);
    let mut found = false;
    for (set, names) in sets.into_iter().flatten() {
        let known = |name: &Value| {
            let name = name.as_str().unwrap_or_default();
            let is = name.strip_prefix("CAP_").unwrap_or(name).parse::<Capability>().is_ok();
            if !is {
                log.warn(&format!(
                    "process.capabilities.{set}: `{name}` is left out, there is no such capability"
                ));
            }
            is
        };
        if let Some(names) = names.as_array_mut() {
            let before = names.len();
            names.retain(known);
            found |= names.len() < before;
        }
    }
    found
}

/// config.md, "POSIX-platform User": without a umask the caller's stays.
pub(crate) fn own_umask(process: &mut Process) -> Result<()> {
    if process.user().umask().is_some() {
        return Ok(());
    }
    let path = "/proc/self/status";
    let status = std::fs::read_to_string(path).during(|| format!("read {path:?}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let mut user = process.user().clone();
    user.set_umask(line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()));
    process.set_user(user);
    Ok(())
}

/// config.md, "Mounts": what a bind mount shows is an absolute path, or relative to the bundle.
fn sources(spec: &mut Spec, bundle: &Path) {
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let binds = mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind");
        let bind = binds || mount.typ().as_deref() == Some("bind");
        if let Some(source) = mount.source().clone().filter(|source| bind && source.is_relative()) {
            mount.set_source(Some(bundle.join(source)));
        }
    }
}

/// Takes out the mount of control groups where it would show those of the host: the container's own is bound there
/// instead, as runc does.
fn take_view(spec: &mut Spec) -> Option<(PathBuf, bool)> {
    let namespaces = spec.linux().as_ref()?.namespaces().clone().unwrap_or_default();
    if namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::Cgroup) {
        return None;
    }
    let mut mounts = spec.mounts().clone()?;
    let is_view =
        |mount: &oci_spec::runtime::Mount| matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2"));
    let mount = mounts.remove(mounts.iter().position(is_view)?);
    spec.set_mounts(Some(mounts));
    let read_only = mount.options().iter().flatten().any(|option| option == "ro");
    Some((mount.destination().clone(), read_only))
}

/// config.md, "Specification version": what is not of the first major version is an error.
fn version(version: &str) -> Result<()> {
    let numbers: Vec<&str> = version.splitn(3, '.').collect();
    match numbers[..] {
        ["1", _, _] => Ok(()),
        [_, _, _] => Err(Error::new(format!("ociVersion {version}: only 1.x is supported"))),
        _ => Err(Error::new(format!("ociVersion {version:?}: not a version such as 1.2.0"))),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions() {
        assert!(super::version("1.0.2-dev").is_ok() && super::version("1.2.1").is_ok());
        assert!(super::version("2.0.0").is_err() && super::version("1").is_err());
    }
}
