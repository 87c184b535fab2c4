//! How a container is run, in the words of an image's configuration: its image's, and what its spec says instead.

use coracle_build::{Nothing, RunConfig};
use coracle_runtime::DEFAULT_PATH;

use super::healthcheck::HealthCheck;
use super::mount::Source;
use super::spec::ContainerSpec;
use crate::signal::{signal_name, signal_number};
use crate::{Port, Publish};

/// The image's configuration with the spec's words in it, as docker merges them; `health` is what came of both checks.
pub(super) fn merged(spec: &ContainerSpec, image: &RunConfig, health: Option<&HealthCheck>) -> RunConfig {
    let mut config = image.clone();
    if let Some(user) = &spec.user {
        config.user.clone_from(user);
    }
    if let Some(workdir) = spec.workdir.as_ref().filter(|dir| !dir.is_empty()) {
        config.working_dir.clone_from(workdir);
    }
    match (&spec.entrypoint, &spec.command) {
        // Another program has other arguments (Dockerfile reference, "Understand how CMD and ENTRYPOINT interact").
        (Some(entrypoint), command) => {
            config.entrypoint = Some(entrypoint.clone()).filter(|words| !words.is_empty());
            config.cmd.clone_from(command);
        }
        (None, Some(command)) => config.cmd = Some(command.clone()),
        (None, None) => {}
    }
    config.env = Vec::new();
    for (name, value) in &spec.env {
        set(&mut config.env, name, value);
    }
    for pair in &image.env {
        let name = pair.split_once('=').map_or(pair.as_str(), |(name, _)| name);
        if !config.env.iter().any(|own| own.split_once('=').is_some_and(|(own, _)| own == name)) {
            config.env.push(pair.clone());
        }
    }
    config.labels.extend(spec.labels.iter().cloned());
    let published = spec.net.publish.iter().map(Publish::port);
    let served = spec.net.expose.iter().copied().chain(published);
    config.exposed_ports.extend(served.map(|port| (port.to_string(), Nothing {})));
    let anonymous = spec.mounts.iter().filter(|mount| mount.source == Source::Anonymous);
    config.volumes.extend(anonymous.map(|mount| (mount.at.to_string_lossy().into_owned(), Nothing {})));
    if let Some(signal) = spec.stop_signal {
        config.stop_signal = signal_name(signal);
    }
    config.healthcheck = health.map(HealthCheck::to_json);
    config
}

/// The spec's health check, and what that does not say as the image's has it.
pub(super) fn health(
    spec: &ContainerSpec,
    image: &RunConfig,
    problems: &mut Vec<String>,
) -> Option<HealthCheck> {
    let own = match &spec.health {
        Some(None) => return None,
        Some(Some(own)) => own.clone(),
        None => HealthCheck::of_image(),
    };
    let check = image.healthcheck.as_ref().map_or(Ok(None), HealthCheck::from_json);
    let check = check.unwrap_or_else(|problem| {
        problems.push(format!("the image's health check: {problem}"));
        None
    });
    own.over(check, image.shell.as_deref())
}

/// The ports that it says that it serves, in order.
pub(super) fn exposed(config: &RunConfig, problems: &mut Vec<String>) -> Vec<Port> {
    let mut ports = Vec::new();
    for text in config.exposed_ports.keys() {
        match Port::parse(text) {
            Ok(port) => ports.push(port),
            Err(error) => problems.push(format!("the image exposes what is no port: {error}")),
        }
    }
    ports.sort();
    ports.dedup();
    ports
}

/// What is sent to it first to end it, where that was said.
pub(super) fn stop_signal(config: &RunConfig, problems: &mut Vec<String>) -> Option<u8> {
    let name = Some(config.stop_signal.as_str()).filter(|name| !name.is_empty())?;
    let number = signal_number(name);
    if number.is_none() {
        problems.push(format!("the image's stop signal `{name}`: no such signal"));
    }
    number
}

/// The whole command.
pub(super) fn args(config: &RunConfig) -> Vec<String> {
    let words = config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten());
    words.cloned().collect()
}

/// The whole environment, with what every process has.
pub(super) fn env(config: &RunConfig, hostname: &str, terminal: bool) -> Vec<String> {
    let mut env = vec![format!("PATH={DEFAULT_PATH}"), format!("HOSTNAME={hostname}")];
    env.extend(terminal.then(|| "TERM=xterm".to_owned()));
    for (name, value) in config.env.iter().filter_map(|pair| pair.split_once('=')) {
        set(&mut env, name, value);
    }
    env
}

/// Sets a variable where it is, or at the end.
fn set(env: &mut Vec<String>, name: &str, value: &str) {
    let pair = format!("{name}={value}");
    match env.iter_mut().find(|known| known.split_once('=').is_some_and(|(known, _)| known == name)) {
        Some(known) => *known = pair,
        None => env.push(pair),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mount, tcp, udp};

    fn image() -> RunConfig {
        RunConfig {
            env: vec!["PATH=/x".into(), "A=1".into()],
            entrypoint: Some(vec!["e".into()]),
            cmd: Some(vec!["c".into()]),
            stop_signal: "INT".into(),
            labels: [("of".to_owned(), "image".to_owned())].into(),
            ..RunConfig::default()
        }
    }

    fn of(spec: &ContainerSpec) -> RunConfig {
        merged(spec, &image(), None)
    }

    #[test]
    fn the_last_word_counts() {
        let spec = ContainerSpec::new("i").env("A", "2").env("B", "3=4").env("A", "5");
        let config = of(&spec);
        assert_eq!(config.env, ["A=5", "B=3=4", "PATH=/x"]);
        assert_eq!(env(&config, "h", true), ["PATH=/x", "HOSTNAME=h", "TERM=xterm", "A=5", "B=3=4"]);
        // What has no value stands for nobody's, least of all this program's (CVE-2026-57231).
        let odd = ["HOME", "*", "PAT*", "=x", "A=1"].map(str::to_owned).to_vec();
        let odd = RunConfig { env: odd, ..RunConfig::default() };
        assert_eq!(env(&odd, "h", false)[2..], ["=x", "A=1"]);
        let commands: [(ContainerSpec, &[&str], usize); 5] = [
            (spec.clone(), &["e", "c"], 1),
            (spec.clone().command(["d"]), &["e", "d"], 1),
            (spec.clone().entrypoint(["f"]), &["f"], 1),
            (spec.clone().entrypoint(["f"]).command(["d"]), &["f", "d"], 1),
            (spec.clone().entrypoint([""; 0]).command(["d"]), &["d"], 0),
        ];
        for (spec, words, own) in commands {
            let config = of(&spec);
            assert_eq!(args(&config), words);
            assert_eq!(config.entrypoint.map_or(0, |words| words.len()), own, "{words:?}");
        }
    }

    #[test]
    fn both_are_in_it() {
        let spec = ContainerSpec::new("i").label("own", "1").mount(Mount::anonymous("/data")).stop_signal(10);
        let spec = spec.expose(udp(53)).publish(tcp(80));
        let config = of(&spec);
        assert_eq!(config.labels.keys().collect::<Vec<_>>(), ["of", "own"]);
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!(config.volumes.keys().collect::<Vec<_>>(), ["/data"]);
        assert_eq!(
            (config.stop_signal.as_str(), stop_signal(&config, &mut Vec::new())),
            ("SIGUSR1", Some(10))
        );
        assert_eq!(stop_signal(&of(&ContainerSpec::new("i")), &mut Vec::new()), Some(2));
    }

    #[test]
    fn what_an_image_says_wrongly_is_told() {
        let mut image = image();
        image.exposed_ports.insert("x".into(), Nothing {});
        image.stop_signal = "NOSUCH".into();
        image.healthcheck = Some(serde_json::json!({"Test": ["WHAT"]}));
        let mut problems = Vec::new();
        exposed(&image, &mut problems);
        stop_signal(&image, &mut problems);
        health(&ContainerSpec::new("i"), &image, &mut problems);
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}
