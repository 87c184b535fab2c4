//! What a security module confines a process to (runtime-spec config.md, "Linux Process").

use oci_spec::runtime::Process;

use crate::error::Problem;
use crate::{Facts, Step};

/// The AppArmor profile that the program begins under. A host without AppArmor confines nobody, which is what `unconfined`
/// asks for.
pub(crate) fn step(process: &Process, facts: &Facts) -> Option<Step> {
    let profile = process.apparmor_profile().clone().filter(|profile| !profile.is_empty())?;
    facts.apparmor().map(|file| Step::Confine { profile, file: file.to_owned() })
}

/// What is asked for and can't be had.
pub(crate) fn check(process: &Process, facts: &Facts) -> Vec<Problem> {
    let mut problems = Vec::new();
    match process.apparmor_profile().as_deref() {
        None | Some("" | "unconfined") => {}
        Some(profile) if profile.contains('\0') => {
            problems.push(Problem::invalid("process.apparmorProfile: there is a NUL byte in it"));
        }
        Some(_) if facts.apparmor().is_some() => {}
        Some(_) => problems.push(Problem::unsupported("process.apparmorProfile: this host has no AppArmor")),
    }
    if process.selinux_label().as_ref().is_some_and(|label| !label.is_empty()) {
        let text = match facts.selinux() {
            true => "process.selinuxLabel: labels of SELinux are not supported yet",
            false => "process.selinuxLabel: this host has no SELinux",
        };
        problems.push(Problem::unsupported(text));
    }
    problems
}
