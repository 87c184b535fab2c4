//! What a container changed: listed, made an image of, and taken away as a whole.

use std::io::Write;
use std::path::PathBuf;

use coracle_build::ImageConfig;
use coracle_layers::{ChainId, Change, Reference};
use oci_spec::image::HistoryBuilder;

use super::handle::Container;
use super::life::State;
use super::record::{Record, UPPER};
use crate::error::{Doing, Error, Result};
use crate::image::apply_changes;
use crate::{Image, Kind, stack};

/// What the image is to be that is made of a container. A name alone will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitSpec {
    name: Option<String>,
    author: Option<String>,
    message: Option<String>,
    changes: Vec<String>,
    pause: bool,
}

impl CommitSpec {
    /// An image without a name, of a container that is paused meanwhile if it runs.
    pub fn new() -> CommitSpec {
        CommitSpec { name: None, author: None, message: None, changes: Vec::new(), pause: true }
    }

    /// The name that it is given.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> CommitSpec {
        self.name = Some(name.into());
        self
    }

    /// Who made it.
    #[must_use]
    pub fn author(mut self, author: impl Into<String>) -> CommitSpec {
        self.author = Some(author.into());
        self
    }

    /// A remark for its history.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> CommitSpec {
        self.message = Some(message.into());
        self
    }

    /// A Dockerfile instruction for its configuration: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL,
    /// USER, VOLUME or WORKDIR. Several apply one after the other.
    #[must_use]
    pub fn change(mut self, instruction: impl Into<String>) -> CommitSpec {
        self.changes.push(instruction.into());
        self
    }

    /// Without stopping what runs in the container: then the image may have one file from before another one's change
    /// and that one from after it.
    #[must_use]
    pub fn without_pause(mut self) -> CommitSpec {
        self.pause = false;
        self
    }
}

impl Default for CommitSpec {
    fn default() -> CommitSpec {
        CommitSpec::new()
    }
}

impl From<&str> for CommitSpec {
    fn from(name: &str) -> CommitSpec {
        CommitSpec::new().name(name)
    }
}

impl Container {
    /// What it changed in its file system, sorted by path; what is in volumes is none of it.
    ///
    /// # Errors
    /// `NotFound` where it was removed meanwhile, or a layer of its image was.
    pub fn diff(&self) -> Result<Vec<Change>> {
        self.changes().doing(|| format!("compare container `{}` with its image", self.name()))
    }

    fn changes(&self) -> Result<Vec<Change>> {
        let upper = self.room.dir(UPPER)?;
        Ok(self.engine.0.store.changes(&self.record.layers, &upper, &mounted(&self.record))?)
    }

    /// Writes its whole file system as one tar, without what is in volumes. It is written as it is read: after a failure `out`
    /// has got a part of it.
    ///
    /// # Errors
    /// What writing fails with; `NotFound` where it was removed meanwhile; `InUse` where a file shrank while it was read.
    pub fn export(&self, out: impl Write) -> Result<()> {
        let doing = || format!("export container `{}`", self.name());
        let upper = self.room.dir(UPPER).doing(doing)?;
        self.engine.0.store.export(&self.record.layers, &upper, out).doing(doing)
    }

    /// Makes an image of it: its image's layers and what it changed, to be run as it was. What is in volumes is none of
    /// it.
    ///
    /// # Errors
    /// `Invalid` for a bad name or change; as of [`Container::pause`] where it runs; `InUse` where a file shrank while it was
    /// read.
    pub fn commit(&self, spec: impl Into<CommitSpec>) -> Result<Image> {
        self.committed(&spec.into()).doing(|| format!("commit container `{}`", self.name()))
    }

    fn committed(&self, spec: &CommitSpec) -> Result<Image> {
        let name = spec.name.as_deref().map(str::parse::<Reference>).transpose()?;
        let record = &self.record;
        let before = config_of(self.image_config()?, record);
        // As docker has it: what ran here, not what the changes make of it.
        let command = before.config.cmd.clone().unwrap_or_default().join(" ");
        let mut config = apply_changes(before, &spec.changes)?;
        let paused = spec.pause && self.state()? == State::Running && self.pause_while_it_runs()?;
        let taken = self.take_changes();
        // Of two failures the first one counts. What ended meanwhile is not to be woken.
        let woken = if paused && self.state().is_ok_and(State::is_alive) { self.unpause() } else { Ok(()) };
        let layers = taken.and_then(|layers| woken.map(|()| layers))?;
        let changed = layers.len() > record.layers.len();
        let now = jiff::Timestamp::now().to_string();
        let mut step = HistoryBuilder::default().created(now.clone()).created_by(command);
        if let Some(author) = &spec.author {
            step = step.author(author.clone());
        }
        if let Some(message) = &spec.message {
            step = step.comment(message.clone());
        }
        if !changed {
            step = step.empty_layer(true);
        }
        let step = step.build();
        let step = step.map_err(|error| Error::new(Kind::Invalid, format!("its history: {error}")))?;
        config.history.push(step);
        config.created = Some(now);
        config.author = spec.author.clone();
        self.engine.commit_image(&config, &layers, name.as_ref())
    }

    /// Whether it is paused now, and was not before: it may have ended meanwhile.
    fn pause_while_it_runs(&self) -> Result<bool> {
        match self.pause() {
            Ok(()) => Ok(true),
            Err(_) if self.state()? != State::Running => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The layers of its image, and one of what it changed, if anything.
    fn take_changes(&self) -> Result<Vec<ChainId>> {
        let upper = self.room.dir(UPPER)?;
        let mut layers = self.record.layers.clone();
        let mounted = mounted(&self.record);
        let store = &self.engine.0.store;
        if !store.changes(&layers, &upper, &mounted)?.is_empty() {
            layers.push(store.copy_layer_from_upper(layers.last(), &upper, &mounted)?.chain_id());
        }
        Ok(layers)
    }

    /// The configuration of its image, which may have been removed since.
    fn image_config(&self) -> Result<ImageConfig> {
        const MOST: u64 = 8 << 20;
        let id = self.record.image_id.parse::<coracle_layers::Digest>()?;
        Ok(ImageConfig::from_json(&self.engine.0.store.blobs().read(&id, MOST)?)?)
    }
}

/// What was made in its file system only to be mounted over. What the user mounts stays to be seen, as with docker.
fn mounted(record: &Record) -> Vec<PathBuf> {
    let own = record.spec.mounts().iter().flatten().map(|mount| mount.destination().clone());
    own.chain(stack::FILES.iter().map(|name| format!("/etc/{name}").into())).collect()
}

/// The image's configuration, changed by how the container is run.
fn config_of(mut image: ImageConfig, record: &Record) -> ImageConfig {
    let config = &mut image.config;
    let Some(process) = record.spec.process() else { return image };
    let args = process.args().clone().unwrap_or_default();
    // Only together are they known.
    let entrypoint = config.entrypoint.clone().unwrap_or_default();
    match args.strip_prefix(entrypoint.as_slice()) {
        Some(rest) if !entrypoint.is_empty() => config.cmd = (!rest.is_empty()).then(|| rest.to_vec()),
        _ => (config.entrypoint, config.cmd) = (None, Some(args)),
    }
    let own = [format!("HOSTNAME={}", record.hostname), format!("PATH={}", coracle_runtime::DEFAULT_PATH)];
    let env = process.env().clone().unwrap_or_default();
    config.env = env.into_iter().filter(|pair| config.env.contains(pair) || !own.contains(pair)).collect();
    config.user.clone_from(&record.user);
    if process.cwd() != std::path::Path::new("/") || !config.working_dir.is_empty() {
        config.working_dir = process.cwd().to_string_lossy().into_owned();
    }
    config.labels.extend(record.labels.clone());
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entrypoint_and_command_are_told_apart() {
        let strings = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (entrypoint, args, expected) in [
            (&[][..], &["sh", "-c", "x"][..], (None, Some(strings(&["sh", "-c", "x"])))),
            (&["run"], &["run", "it"], (Some(strings(&["run"])), Some(strings(&["it"])))),
            (&["run"], &["run"], (Some(strings(&["run"])), None)),
            (&["run"], &["other"], (None, Some(strings(&["other"])))),
        ] {
            let mut image = ImageConfig::scratch();
            image.config.entrypoint = Some(strings(entrypoint)).filter(|words| !words.is_empty());
            let mut record: Record = serde_json::from_value(serde_json::json!({
                "id": "0123456789abcdef", "name": null, "created": "", "image": "i", "image_id": "i", "layers": [],
                "spec": coracle_runtime::docker_spec(), "user": "app", "hostname": "h", "mounts": [], "network": "none",
                "hosts": [], "labels": {"own": "1"}, "interactive": false, "attach": false, "keep": false, "retain": true
            }))
            .unwrap();
            let process = record.spec.process_mut().as_mut().unwrap();
            process.set_args(Some(strings(args)));
            process.set_env(Some(strings(&["HOSTNAME=h", "A=1"])));
            let config = config_of(image, &record).config;
            assert_eq!((config.entrypoint, config.cmd), expected, "{entrypoint:?} {args:?}");
            assert_eq!((config.env, config.user.as_str()), (strings(&["A=1"]), "app"));
            assert_eq!(config.labels["own"], "1");
        }
    }
}
