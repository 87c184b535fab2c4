//! Changes to a configuration, written as Dockerfile instructions (docker's `--change`).

use std::collections::BTreeMap;

use coracle_build::{BuildSpec, Dockerfile, Graph, ImageConfig};

use crate::Kind;
use crate::error::{Doing, Error, Result};

/// What can be changed without touching a file.
const VERBS: [&str; 10] =
    ["CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME"];
const WORKDIR: &str = "WORKDIR";

/// The configuration after these instructions (Dockerfile reference), each of which sees what those before it did.
pub(crate) fn apply(mut config: ImageConfig, changes: &[String]) -> Result<ImageConfig> {
    if changes.is_empty() {
        return Ok(config);
    }
    let doing = || "change the configuration";
    // A line's number is then the change's.
    let text = format!("FROM base\n{}\n", changes.join("\n"));
    let file = Dockerfile::parse("change", text.as_bytes()).doing(doing)?;
    for (_, instruction) in file.instructions().skip(1) {
        let verb = instruction.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        if verb != WORKDIR && !VERBS.contains(&verb.as_str()) {
            let text = format!("{}: {verb} is not a valid change command", doing());
            return Err(Error::new(Kind::Invalid, text));
        }
    }
    // A build gives an image a PATH, and a change doesn't.
    let is_path = |pair: &String| pair.starts_with("PATH=");
    let given = file.instructions().any(|(_, text)| text.contains("PATH"));
    let keep_path = given || config.config.env.iter().any(is_path);
    // They are for builds from the image, which this is none of.
    let triggers = std::mem::take(&mut config.config.on_build);
    let graph = Graph::new(&file, &BuildSpec::new(".")).doing(doing)?;
    let plan = graph.plan(&BTreeMap::from([("base".to_owned(), config)])).doing(doing)?;
    let Some(stage) = plan.stages.into_iter().next_back() else {
        return Err(Error::new(Kind::Other, "change the configuration: a plan without stages"));
    };
    let mut changed = stage.config;
    changed.config.on_build.splice(0..0, triggers);
    changed.config.env.retain(|pair| keep_path || !is_path(pair));
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<ImageConfig> {
        let mut config = ImageConfig::scratch();
        config.config.on_build = vec!["RUN first".to_owned()];
        config.config.working_dir = "/srv".to_owned();
        config.config.cmd = Some(vec!["old".to_owned()]);
        apply(config, &changes.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn instructions_change_the_configuration() {
        let config = changed(&[
            "CMD [\"a\", \"b\"]",
            "ENTRYPOINT run it",
            "env A=1 B=\"two words\"",
            "ENV C=$A",
            "EXPOSE 80 90/udp",
            "LABEL k=v",
            "USER app:app",
            "VOLUME /data /more",
            "WORKDIR sub",
            "ONBUILD RUN second",
            "STOPSIGNAL SIGINT",
            "HEALTHCHECK NONE",
        ])
        .unwrap()
        .config;
        assert_eq!(config.cmd.unwrap(), ["a", "b"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "run it"]);
        assert_eq!(config.env[1..], ["A=1", "B=two words", "C=1"]);
        assert!(config.exposed_ports.keys().eq(["80/tcp", "90/udp"]));
        assert_eq!(config.labels["k"], "v");
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("app:app", "/srv/sub"));
        assert!(config.volumes.keys().eq(["/data", "/more"]));
        assert_eq!(config.on_build, ["RUN first", "RUN second"]);
        assert_eq!(config.stop_signal, "SIGINT");
        assert_eq!(config.healthcheck.unwrap()["Test"][0], "NONE");
        let bare = || ImageConfig { config: coracle_build::RunConfig::default(), ..ImageConfig::scratch() };
        let changes = |text: &str| apply(bare(), &[text.to_owned()]).unwrap().config.env;
        assert_eq!(changes("ENV A=1"), ["A=1"]);
        assert_eq!(changes("ENV PATH=/x"), ["PATH=/x"]);
        assert_eq!(changed(&[]).unwrap().config.cmd.unwrap(), ["old"]);
    }

    #[test]
    fn what_touches_files_is_refused() {
        for (change, says) in [
            ("RUN x", "RUN is not a valid change command"),
            ("COPY a b", "COPY is not a valid change command"),
            ("FROM x", "FROM is not a valid change command"),
            ("CMD a\nADD b c", "ADD is not a valid change command"),
            ("FROB x", "unknown instruction"),
            ("EXPOSE many", "many"),
        ] {
            let error = changed(&[change]).unwrap_err();
            assert!(error.to_string().contains(says), "{change}: {error}");
            assert_eq!(error.kind(), Kind::Invalid);
        }
    }
}
