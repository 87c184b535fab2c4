//! What the host's security modules confine a container to: a profile of AppArmor's, a context of SELinux's.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use coracle_host::Call;
use coracle_runtime::Facts;
use oci_spec::runtime::Spec;
use rustix::fs::XattrFlags;

use super::spec::ContainerSpec;
use crate::Kind;
use crate::error::{Error, Result};

impl ContainerSpec {
    /// The profile of AppArmor's that its processes are confined to, which the host must have loaded; `unconfined` for none,
    /// which is so anyway (docker's `--security-opt apparmor=`).
    #[must_use]
    pub fn apparmor(mut self, profile: impl Into<String>) -> ContainerSpec {
        self.apparmor = Some(profile.into());
        self
    }

    /// A part of the context of SELinux's that it has: `user:`, `role:`, `type:`, `level:` of its processes, `filetype:` of its
    /// files, or `disable` for none, which is so anyway (docker's `--security-opt label=`). The others are those that the
    /// host's policy has for containers (lxc_contexts(5)), and two categories that its id makes.
    #[must_use]
    pub fn security_label(mut self, option: impl Into<String>) -> ContainerSpec {
        self.label_options.push(option.into());
        self
    }
}

/// A context, in its parts. The level is missing in policies without levels.
#[derive(Clone, Debug, PartialEq)]
struct Context {
    user: String,
    role: String,
    kind: String,
    level: Option<String>,
}

impl Context {
    fn parse(text: &str) -> Option<Context> {
        let mut parts = text.splitn(4, ':').map(str::to_owned);
        let (user, role, kind) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Context { user, role, kind, level: parts.next() })
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.user, self.role, self.kind)?;
        self.level.as_ref().map_or(Ok(()), |level| write!(f, ":{level}"))
    }
}

/// Writes what it is confined to into the spec.
pub(crate) fn apply(wanted: &ContainerSpec, id: &str, facts: &Facts, oci: &mut Spec) -> Result<()> {
    let unsupported = |text: String| Error::new(Kind::Unsupported, text);
    if let Some(profile) = &wanted.apparmor {
        if profile != "unconfined" && !facts.has_apparmor() {
            return Err(unsupported(format!("AppArmor profile `{profile}`: this host has no AppArmor")));
        }
        if let Some(process) = oci.process_mut().as_mut().filter(|_| facts.has_apparmor()) {
            process.set_apparmor_profile(Some(profile.clone()));
        }
    }
    let options = &wanted.label_options;
    check(options).map_err(|text| Error::new(Kind::Invalid, text))?;
    let Some(option) = options.iter().find(|option| *option != "disable") else { return Ok(()) };
    if options.iter().any(|option| option == "disable") {
        return Ok(());
    }
    if !facts.has_selinux() {
        return Err(unsupported(format!("label `{option}`: this host has no SELinux")));
    }
    let (process, files) = contexts(options, &policys_own()).ok_or_else(|| {
        let text =
            "its policy has no context for containers, so that user, role, type and filetype are needed";
        unsupported(format!("label `{option}`: {text}"))
    })?;
    let level = |context: Context| match &context.level {
        // One that was named has its categories, or none.
        Some(level) if !level.contains(':') && !options.iter().any(|option| option.starts_with("level:")) => {
            Context { level: Some(format!("{level}:{}", categories(id))), ..context }
        }
        _ => context,
    };
    if let Some(given) = oci.process_mut() {
        given.set_selinux_label(Some(level(process).to_string()));
    }
    if let Some(linux) = oci.linux_mut() {
        linux.set_mount_label(Some(level(files).to_string()));
    }
    Ok(())
}

/// In docker's words.
fn check(options: &[String]) -> std::result::Result<(), String> {
    for option in options.iter().filter(|option| *option != "disable") {
        let Some((key, _)) = option.split_once(':') else {
            return Err(format!(
                "Bad label option {option:?}, valid options 'disable' or \n'user, role, level, type, filetype' followed \
                 by ':' and a value"
            ));
        };
        if !["user", "role", "level", "type", "filetype"].contains(&key) {
            let valid = "'disable, user, role, level, type, filetype'";
            return Err(format!("Bad label option {key:?}, valid options {valid}"));
        }
    }
    Ok(())
}

/// Of processes and of files: the policy's own with these parts, as docker puts them together.
fn contexts(options: &[String], own: &(Option<Context>, Option<Context>)) -> Option<(Context, Context)> {
    let said = |key: &str| {
        let mut pairs = options.iter().filter_map(|option| option.split_once(':'));
        pairs.rfind(|(known, _)| *known == key).map(|(_, value)| value.to_owned())
    };
    let (process, files) = own;
    let or = |key: &str, own: &Option<Context>, part: fn(&Context) -> &String| {
        said(key).or_else(|| own.as_ref().map(part).cloned())
    };
    let level = |own: &Option<Context>| said("level").or_else(|| own.as_ref()?.level.clone());
    let process_context = Context {
        user: or("user", process, |own| &own.user)?,
        role: or("role", process, |own| &own.role)?,
        kind: or("type", process, |own| &own.kind)?,
        level: level(process),
    };
    let files_context = Context {
        user: or("user", files, |own| &own.user)?,
        role: files.as_ref().map_or_else(|| "object_r".into(), |own| own.role.clone()),
        kind: or("filetype", files, |own| &own.kind)?,
        level: level(files),
    };
    Some((process_context, files_context))
}

/// Those of the policy that is loaded for a container's processes and files, where it has some.
fn policys_own() -> (Option<Context>, Option<Context>) {
    let root = Path::new("/etc/selinux");
    let config = std::fs::read_to_string(root.join("config")).unwrap_or_default();
    let name = config.lines().find_map(|line| line.trim().strip_prefix("SELINUXTYPE="));
    let file = name.map(|name| root.join(name.trim()).join("contexts/lxc_contexts"));
    let text = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    (context_in(&text, "process"), context_in(&text, "file"))
}

/// lxc_contexts(5): `process = "system_u:system_r:container_t:s0"`.
fn context_in(text: &str, key: &str) -> Option<Context> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let (_, value) = pairs.map(|(name, value)| (name.trim(), value.trim())).find(|(name, _)| *name == key)?;
    Context::parse(value.trim_matches('"'))
}

/// Two of the 1024 categories, the lower one first: what containers of one type are kept apart by.
fn categories(id: &str) -> String {
    let number = u64::from_str_radix(id.get(..12).unwrap_or_default(), 16).unwrap_or_default();
    let (one, other) = (number % 1024, number / 1024 % 1023);
    let other = if other >= one { other + 1 } else { other };
    format!("c{},c{}", one.min(other), one.max(other))
}

/// Gives a file of the container's that it has no mount of its own for its context.
pub(crate) fn set(file: impl AsFd, context: &str) -> Result<()> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let set = rustix::fs::setxattr(&path, "security.selinux", context.as_bytes(), XattrFlags::empty());
    Ok(set.call(|| format!("setxattr({path:?}, \"security.selinux\", {context:?})"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "process = \"system_u:system_r:container_t:s0\"\nfile = \"system_u:object_r:container_file_t:s0\"\n\
                       ro_file=\"system_u:object_r:container_ro_file_t:s0\"\n";

    fn shown(options: &[&str], own: &str) -> Option<(String, String)> {
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        assert_eq!(check(&options), Ok(()));
        let own = (context_in(own, "process"), context_in(own, "file"));
        let (process, files) = contexts(&options, &own)?;
        Some((process.to_string(), files.to_string()))
    }

    #[test]
    fn contexts_are_put_together_as_docker_does() {
        let pair = |process: &str, files: &str| Some((process.to_owned(), files.to_owned()));
        let table: [(&[&str], &str, &str); 4] = [
            (&["type:spc_t"], "system_u:system_r:spc_t:s0", "system_u:object_r:container_file_t:s0"),
            (
                &["level:s0:c1,c2"],
                "system_u:system_r:container_t:s0:c1,c2",
                "system_u:object_r:container_file_t:s0:c1,c2",
            ),
            (&["user:u", "role:r"], "u:r:container_t:s0", "u:object_r:container_file_t:s0"),
            (&["filetype:f", "type:a", "type:b"], "system_u:system_r:b:s0", "system_u:object_r:f:s0"),
        ];
        for (options, process, files) in table {
            assert_eq!(shown(options, OWN), pair(process, files), "{options:?}");
        }
        // Without the policy's help all must be said.
        assert_eq!(shown(&["type:t"], ""), None);
        assert_eq!(shown(&["user:u", "role:r", "type:t", "filetype:f"], ""), pair("u:r:t", "u:object_r:f"));
    }

    #[test]
    fn bad_options_are_dockers() {
        let bad = |option: &str| check(&[option.to_owned()]).unwrap_err();
        assert!(bad("x").starts_with("Bad label option \"x\", valid options 'disable' or"));
        assert_eq!(
            bad("x:y"),
            "Bad label option \"x\", valid options 'disable, user, role, level, type, filetype'"
        );
    }

    #[test]
    fn categories_are_two() {
        assert_eq!(categories("000000000000"), "c0,c1");
        assert_eq!(categories("0000000003ff"), "c0,c1023");
        for id in ["ffffffffffff", "0123456789abcdef", "8f00b204e980"] {
            let text = categories(id);
            let (low, high) = text.split_once(',').unwrap();
            let number = |text: &str| text[1..].parse::<u32>().unwrap();
            assert!(number(low) < number(high) && number(high) < 1024, "{text}");
        }
    }
}
