//! Everything that is wrong with a spec, as far as that can be told without its image.

use super::Ready;
use super::spec::ContainerSpec;
use crate::engine::Inner;
use crate::error::Result;
use crate::stack::{DEFAULT_NETWORK, Mode};

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
    for alias in spec.aliases.iter().filter(|alias| !is_name(alias, 253)) {
        problems.push(format!("network alias `{alias}`: only [a-zA-Z0-9][a-zA-Z0-9_.-]* is allowed"));
    }
    for (name, _) in spec.hosts.iter().filter(|(name, _)| !is_name(name, 253)) {
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
    problems.extend(super::settings::problems(spec));
    if spec.terminal && (spec.attach || spec.interactive) {
        problems
            .push("terminal(): its streams are a terminal, not this program's; see start_attached()".into());
    }
    if spec.remove && !spec.keep {
        problems.push("remove_when_ended() is for kept containers; others go with their value".into());
    }
    if !matches!(mode, Mode::Networks(_)) && (spec.address.is_some() || !spec.aliases.is_empty()) {
        problems.push("an address or alias needs a network of its own".into());
    }
    if !matches!(mode, Mode::Networks(_)) && !spec.publish.is_empty() {
        problems.push("a published port needs a network of the container's own".into());
    }
    problems.extend(spec.ready.as_ref().and_then(Ready::problem));
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
