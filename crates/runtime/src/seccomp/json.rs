//! Profiles as docker and podman have them in files: the specification's fields, and conditions on rules.

use oci_spec::runtime::{Arch as OciArch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSyscall};
use serde::Deserialize;

use super::oci::{refused, rule};
use super::profile::{Arches, Filter, Rule};
use super::target::version;
use super::{Arch, Profile};
use crate::error::{Error, Result};

/// A field that isn't here is an error: it could be one that forbids something.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    /// podman's: a name, beside or instead of the number.
    default_errno: Option<String>,
    architectures: Option<Vec<OciArch>>,
    arch_map: Option<Vec<Family>>,
    flags: Option<Vec<oci_spec::runtime::LinuxSeccompFilterFlag>>,
    listener_path: Option<std::path::PathBuf>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Family {
    architecture: OciArch,
    sub_architectures: Option<Vec<OciArch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Call {
    /// As it was before docker 17.
    name: Option<String>,
    names: Option<Vec<String>>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    errno: Option<String>,
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
    includes: Option<When>,
    excludes: Option<When>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct When {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl Profile {
    /// A profile in docker's format (`--security-opt seccomp=FILE`), which podman shares, or in the specification's.
    ///
    /// # Errors
    /// `Invalid`: as [`Profile::from_oci`], and for text that is not such JSON, with the line.
    pub fn from_json(text: &str) -> Result<Profile> {
        let file: File = serde_json::from_str(text)
            .map_err(|error| Error::invalid(format!("seccomp profile: {error}")))?;
        let mut problems = Vec::new();
        let default_errno = number(file.default_errno_ret, file.default_errno.as_deref());
        let default_errno = default_errno.unwrap_or_else(|problem| {
            problems.push(format!("defaultErrno: {problem}"));
            None
        });
        let mut common = LinuxSeccomp::default();
        common
            .set_default_action(file.default_action)
            .set_default_errno_ret(default_errno)
            .set_architectures(file.architectures)
            .set_flags(file.flags)
            .set_listener_path(file.listener_path)
            .set_listener_metadata(file.listener_metadata)
            .set_syscalls(None);
        if common.architectures().is_some() && file.arch_map.is_some() {
            problems.push("archMap: not together with architectures".to_owned());
        }
        let mut rules = Vec::new();
        for (index, call) in file.syscalls.into_iter().flatten().enumerate() {
            match conditional(call) {
                Ok(rule) => rules.push(rule),
                Err(problem) => problems.push(format!("syscalls[{index}]: {problem}")),
            }
        }
        if !problems.is_empty() {
            return Err(refused(problems));
        }
        let mut profile = Profile::from_oci(&common)?;
        profile.rules = rules;
        if let Some(map) = file.arch_map {
            profile.arches = Arches::Map(map.into_iter().filter_map(family).collect());
        }
        Ok(profile)
    }
}

fn family(family: Family) -> Option<(Arch, Vec<Arch>)> {
    let beside = family.sub_architectures.into_iter().flatten().filter_map(Arch::from_oci).collect();
    Some((Arch::from_oci(family.architecture)?, beside))
}

fn conditional(call: Call) -> Result<Rule, String> {
    let names =
        match (call.name.filter(|name| !name.is_empty()), call.names.filter(|names| !names.is_empty())) {
            (Some(_), Some(_)) => return Err("both name and names".to_owned()),
            (Some(name), None) => vec![name],
            (None, names) => names.unwrap_or_default(),
        };
    let mut plain = LinuxSyscall::default();
    plain
        .set_names(names)
        .set_action(call.action)
        .set_errno_ret(number(call.errno_ret, call.errno.as_deref())?)
        .set_args(call.args);
    let mut rule = rule(&plain)?;
    rule.includes = filter(call.includes).map_err(|problem| format!("includes.{problem}"))?;
    rule.excludes = filter(call.excludes).map_err(|problem| format!("excludes.{problem}"))?;
    Ok(rule)
}

fn filter(when: Option<When>) -> Result<Filter, String> {
    let Some(When { caps, arches, min_kernel }) = when else { return Ok(Filter::default()) };
    let kernel = match min_kernel.filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => {
            Some(version(&text).ok_or_else(|| format!("minKernel: {text:?} is no version (such as 4.8)"))?)
        }
    };
    Ok(Filter { capabilities: caps.unwrap_or_default(), arches: arches.unwrap_or_default(), kernel })
}

/// An errno by number, or by the name that podman writes. A name counts more, as with podman.
fn number(number: Option<u32>, name: Option<&str>) -> Result<Option<u32>, String> {
    let by_name = match name {
        None | Some("") => return Ok(number),
        Some("EPERM") => 1,
        Some("ENOENT") => 2,
        Some("EIO") => 5,
        Some("EAGAIN") => 11,
        Some("ENOMEM") => 12,
        Some("EACCES") => 13,
        Some("EBUSY") => 16,
        Some("ENODEV") => 19,
        Some("EINVAL") => 22,
        Some("ENOSYS") => 38,
        Some("EOPNOTSUPP" | "ENOTSUP") => 95,
        Some("EAFNOSUPPORT") => 97,
        Some(other) => {
            return Err(format!("errno {other:?} is not known by name: say its number (errnoRet)"));
        }
    };
    Ok(Some(by_name))
}
