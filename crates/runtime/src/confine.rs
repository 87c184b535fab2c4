//! What a security module confines a process to (runtime-spec config.md, "Linux Process"; config-linux.md, "Mount Label").

use oci_spec::runtime::{Process, Spec};

use crate::error::Problem;
use crate::{Attachment, Facts, Step};

/// What the program begins under. A host without AppArmor confines nobody, which is what `unconfined` asks for.
pub(crate) fn steps(process: &Process, facts: &Facts) -> impl Iterator<Item = Step> {
    let profile = process.apparmor_profile().clone().filter(|profile| !profile.is_empty());
    let profile = profile.zip(facts.apparmor());
    let profile = profile.map(|(profile, file)| Step::Confine { profile, file: file.to_owned() });
    profile.into_iter().chain(label(process).map(Step::Label))
}

/// What must be said while it is still outside: its keys are its own.
pub(crate) fn keyring(process: &Process) -> Option<Step> {
    label(process).map(Step::LabelKeyring)
}

fn label(process: &Process) -> Option<String> {
    process.selinux_label().clone().filter(|label| !label.is_empty())
}

/// Has the container's own file systems be of `linux.mountLabel`: those that are made for it and can be of one. The kernel
/// labels what is in proc, sysfs and control groups by itself; that of message queues is there with its namespace, and is
/// labelled afterwards, by the steps that this returns.
pub(crate) fn label_mounts(spec: &Spec, mounted: &mut [Step]) -> Vec<Step> {
    let Some(label) = mount_label(spec) else { return Vec::new() };
    let mut later = Vec::new();
    for step in mounted {
        match step {
            Step::Attach {
                source:
                    Attachment::Tmpfs { options, .. }
                    | Attachment::DevPts { options, .. }
                    | Attachment::Other { options, .. },
                ..
            } if !options.iter().any(|option| option.starts_with("context=")) => {
                options.push(format!("context={label}"));
            }
            Step::Mount { fstype, at, .. } if fstype == "mqueue" => {
                later.push(Step::LabelMount { at: at.clone(), label: label.to_owned() });
            }
            _ => {}
        }
    }
    later
}

fn mount_label(spec: &Spec) -> Option<&str> {
    let label = spec.linux().as_ref()?.mount_label().as_deref();
    label.filter(|label| !label.is_empty())
}

/// What is asked for mounts and can't be had.
pub(crate) fn check_mounts(spec: &Spec, facts: &Facts) -> Option<Problem> {
    mount_label(spec).and_then(|label| check_label("linux.mountLabel", label, facts))
}

/// What is asked for a process and can't be had.
pub(crate) fn check(process: &Process, facts: &Facts) -> Vec<Problem> {
    let mut problems = Vec::new();
    match process.apparmor_profile().as_deref() {
        None | Some("" | "unconfined") => {}
        Some(profile) if profile.contains('\0') => {
            problems.push(Problem::invalid("process.apparmorProfile: there is a NUL byte in it"));
        }
        Some(_) if facts.has_apparmor() => {}
        Some(_) => problems.push(Problem::unsupported("process.apparmorProfile: this host has no AppArmor")),
    }
    problems.extend(label(process).and_then(|label| check_label("process.selinuxLabel", &label, facts)));
    problems
}

fn check_label(name: &str, label: &str, facts: &Facts) -> Option<Problem> {
    match () {
        () if label.contains('\0') => Some(Problem::invalid(format!("{name}: there is a NUL byte in it"))),
        () if !facts.has_selinux() => Some(Problem::unsupported(format!("{name}: this host has no SELinux"))),
        () => None,
    }
}
