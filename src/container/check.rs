//! Everything that is wrong with a spec, as far as that can be told without its image.

use super::Ready;
use super::spec::ContainerSpec;
use crate::engine::Inner;
use crate::error::Result;
use crate::resolver::HostAddress;
use crate::stack::{Attachment, DEFAULT_NETWORK, Mode};

/// A sentence for each problem.
pub(crate) fn problems(spec: &ContainerSpec, mode: &Mode) -> Vec<String> {
    let mut problems = Vec::new();
    problems.extend(spec.name.as_deref().and_then(name_problem));
    // sethostname(2) takes 64 bytes; on networks it is a name like others.
    if let Some(name) = &spec.hostname
        && !is_name(name, 64)
    {
        problems.push(format!("host name `{name}`: only [a-zA-Z0-9][a-zA-Z0-9_.-]* of 64 bytes is allowed"));
    }
    problems.extend(spec.net.resolver.problems());
    problems.extend(network_problems(spec, mode));
    for (name, _) in spec.net.hosts.iter().filter(|(name, _)| !is_name(name, 253)) {
        problems.push(format!("added host `{name}`: only [a-zA-Z0-9][a-zA-Z0-9_.-]* is allowed"));
    }
    for (name, value) in &spec.env {
        if name.is_empty() || name.contains(['=', '\0']) {
            let name = name.escape_default();
            problems.push(format!("environment variable `{name}`: the name must be there and without `=`"));
        }
        if value.contains('\0') {
            problems.push(format!("environment variable `{name}`: the value has a NUL byte in it"));
        }
    }
    if spec.keep && (spec.attach || spec.interactive) {
        problems.push(
            "keep(): a container that outlives the program can't have its standard streams; see open_stdin() and \
             Container::start_attached()"
                .into(),
        );
    }
    problems.extend(spec.limits.problems());
    problems.extend(super::settings::problems(spec));
    problems.extend(spec.spaces.problems(spec));
    if spec.terminal && (spec.attach || spec.interactive) {
        problems
            .push("terminal(): its streams are a terminal, not this program's; see start_attached()".into());
    }
    if spec.remove && !spec.keep {
        problems.push("remove_when_ended() is for kept containers; others go with their value".into());
    }
    problems.extend(spec.ready.as_ref().and_then(Ready::problem));
    problems
}

fn network_problems(spec: &ContainerSpec, mode: &Mode) -> Vec<String> {
    let wish = &spec.net;
    if let Mode::Networks(networks) = mode {
        let mut problems: Vec<String> = networks.iter().flat_map(Attachment::problems).collect();
        for (index, one) in networks.iter().enumerate() {
            if networks[..index].iter().any(|other| other.network == one.network) {
                problems.push(format!("network \"{}\" is specified multiple times", one.network));
            }
        }
        return problems;
    }
    let mut problems = Vec::new();
    if wish.wants_an_endpoint() {
        problems.push("an address or alias needs a network of its own".into());
    }
    if !wish.publish.is_empty() {
        problems.push("a published port needs a network of the container's own".into());
    }
    // The other one's files are its files.
    if matches!(mode, Mode::Container(_)) && (wish.resolver.is_any() || !wish.hosts.is_empty()) {
        problems
            .push("name servers and added hosts are those of the container whose network it shares".into());
    }
    if *mode == Mode::None && wish.hosts.iter().any(|(_, address)| *address == HostAddress::Gateway) {
        problems.push("an added host that leads to the host needs a network".into());
    }
    problems
}

/// The networks that it asks for and that are not there.
pub(crate) fn missing_networks(engine: &Inner, mode: &Mode) -> Result<Vec<String>> {
    let Mode::Networks(networks) = mode else { return Ok(Vec::new()) };
    let mut missing = Vec::new();
    for wanted in networks.iter().map(|one| &one.network).filter(|name| *name != DEFAULT_NETWORK) {
        if engine.networks.find(wanted)?.is_none() {
            missing.push(format!("no such network: {wanted}"));
        }
    }
    Ok(missing)
}

/// What is wrong with the name of a container.
pub(crate) fn name_problem(name: &str) -> Option<String> {
    (!is_name(name, 128))
        .then(|| format!("container name `{name}`: only [a-zA-Z0-9][a-zA-Z0-9_.-]* is allowed"))
}

/// docker's rule for names, which also makes them safe as file names and in `/etc/hosts`.
pub(crate) fn is_name(name: &str, longest: usize) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        && name.len() <= longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_docker_has_them() {
        for good in ["a", "db", "shop_db-1.x", "0"] {
            assert!(is_name(good, 128), "{good}");
        }
        for bad in ["", "-a", "a/b", ".", "a b", "a\n", "ä", &"x".repeat(129)] {
            assert!(!is_name(bad, 128), "{bad}");
        }
    }
}
