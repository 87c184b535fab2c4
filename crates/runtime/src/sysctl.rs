//! Kernel parameters of a container's own namespaces (runtime-spec config-linux.md, "Sysctl"). Those that would change the
//! host are refused by name.

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::Step;
use crate::check::has_namespace;
use crate::error::Problem;

/// Of a System V IPC namespace (ipc_namespaces(7)).
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// The steps, in the order of their names; or what is wrong.
pub(crate) fn steps(spec: &Spec) -> Result<Vec<Step>, Vec<Problem>> {
    let parameters = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    let (mut steps, mut problems) = (Vec::new(), Vec::new());
    let mut sorted: Vec<_> = parameters.into_iter().flatten().collect();
    sorted.sort();
    for (name, value) in sorted {
        match path(spec, name) {
            Ok(path) => steps.push(Step::Sysctl { path, value: value.clone() }),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(steps) } else { Err(problems) }
}

fn path(spec: &Spec, name: &str) -> Result<String, Problem> {
    // As sysctl(8) has it: with the first separator a slash, dots belong to names.
    let path = match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
        Some(b'/') => name.to_owned(),
        _ => name.replace('.', "/"),
    };
    if path.contains('\0') || path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(Problem::invalid(format!("linux.sysctl[{name}]: no name of a kernel parameter")));
    }
    use LinuxNamespaceType::{Ipc, Network, Uts};
    let needed = match path.as_str() {
        "kernel/domainname" => Uts,
        "kernel/hostname" => {
            return Err(Problem::invalid("linux.sysctl[kernel.hostname]: `hostname` is for that"));
        }
        path if IPC.contains(&path) || path.starts_with("fs/mqueue/") => Ipc,
        path if path.starts_with("net/") => Network,
        _ => {
            let text = format!("linux.sysctl[{name}]: belongs to no namespace, and would change the host");
            return Err(Problem::invalid(text));
        }
    };
    if has_namespace(spec, needed) {
        return Ok(format!("/proc/sys/{path}"));
    }
    let text = format!("linux.sysctl[{name}]: the container has the host's {needed} namespace");
    Err(Problem::invalid(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, without: &[LinuxNamespaceType]) -> Result<String, String> {
        let mut spec = crate::docker_spec();
        let namespaces = spec.linux_mut().as_mut().unwrap().namespaces_mut().as_mut().unwrap();
        namespaces.retain(|namespace| !without.contains(&namespace.typ()));
        path(&spec, name).map_err(|problem| problem.text)
    }

    #[test]
    fn only_a_namespaces_own() {
        assert_eq!(of("net.ipv4.ip_forward", &[]).unwrap(), "/proc/sys/net/ipv4/ip_forward");
        let dotted = "net/ipv4/conf/eth0.7/forwarding";
        assert_eq!(of(dotted, &[]).unwrap(), format!("/proc/sys/{dotted}"));
        assert_eq!(of("fs.mqueue.msg_max", &[]).unwrap(), "/proc/sys/fs/mqueue/msg_max");
        assert_eq!(of("kernel.sem", &[]).unwrap(), "/proc/sys/kernel/sem");
        assert_eq!(of("kernel.domainname", &[]).unwrap(), "/proc/sys/kernel/domainname");
        for name in
            ["kernel.core_pattern", "vm.swappiness", "kernel.hostname", "net/../kernel/panic", "", "net..x"]
        {
            let refused = of(name, &[]).unwrap_err();
            assert!(refused.starts_with(&format!("linux.sysctl[{name}]: ")), "{refused}");
        }
        for (name, kind) in [
            ("net.core.somaxconn", LinuxNamespaceType::Network),
            ("kernel.shmmax", LinuxNamespaceType::Ipc),
            ("kernel.domainname", LinuxNamespaceType::Uts),
        ] {
            assert!(of(name, &[kind]).unwrap_err().contains("the host's"), "{name}");
        }
    }
}
