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
        let before = ImageConfig { config: record.config.clone(), ..self.image_config()? };
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
