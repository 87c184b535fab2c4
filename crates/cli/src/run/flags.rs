//! The flags that `run` and `create` share, and the spec that they make.

use std::path::{Path, PathBuf};

use coracle::ContainerSpec;

use super::{life, limits, network, rights};
use crate::env::{self, Lookup};
use crate::fail::Fail;
use crate::mounts;

#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Flags {
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short, long, value_name = "STREAM", value_parser = stream)]
    attach: Vec<String>,
    /// Write the container ID to the file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// Container host name
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Set meta data on a container
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = life::label)]
    label: Vec<(String, String)>,
    #[command(flatten)]
    pub(super) life: life::Flags,
    #[command(flatten)]
    limits: limits::Flags,
    #[command(flatten)]
    mounts: mounts::Flags,
    /// Assign a name to the container
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    network: network::Flags,
    #[command(flatten)]
    pub(crate) rights: rights::Flags,
    /// Automatically remove the container and its associated anonymous volumes when it exits
    #[arg(long)]
    pub(crate) rm: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
}

impl Flags {
    /// What they and the words after them make of a spec. Who has its streams, and whether it is kept, is up to the verb.
    pub(super) fn spec(
        &self,
        image: &str,
        command: &[String],
        lookup: Lookup<'_>,
    ) -> Result<ContainerSpec, Fail> {
        if self.hostname.is_some() && self.rights.has_host_uts() {
            return Err(Fail::new(125, "conflicting options: hostname and the UTS mode"));
        }
        let mut spec = ContainerSpec::new(image);
        if !command.is_empty() {
            spec = spec.command(command);
        }
        if let Some(entrypoint) = &self.entrypoint {
            // An empty one takes the image's away.
            spec = spec.entrypoint(Some(entrypoint).filter(|program| !program.is_empty()));
        }
        for (name, value) in env::variables(&self.env_file, &self.env, lookup)? {
            spec = spec.env(name, value);
        }
        spec = life::apply(&self.life, spec, self.rm)?;
        for (key, value) in &self.label {
            spec = spec.label(key, value);
        }
        spec = limits::apply(&self.limits, spec)?;
        spec = mounts::apply(&self.mounts, spec)?;
        spec = network::apply(&self.network, spec)?;
        spec = rights::apply(&self.rights, spec)?;
        let set = |spec, value: &Option<String>, set: fn(ContainerSpec, String) -> ContainerSpec| match value
        {
            Some(value) => set(spec, value.clone()),
            None => spec,
        };
        spec = set(spec, &self.name, ContainerSpec::name);
        spec = set(spec, &self.hostname, ContainerSpec::hostname);
        spec = set(spec, &self.user, ContainerSpec::user);
        Ok(set(spec, &self.workdir, ContainerSpec::workdir))
    }

    /// Whether `-a` says which streams are ours.
    pub(super) fn chooses_streams(&self) -> bool {
        !self.attach.is_empty()
    }

    /// Whether this stream is: all are, unless some are named.
    pub(super) fn attaches(&self, stream: &str) -> bool {
        self.attach.is_empty() || self.attach.iter().any(|one| one == stream)
    }

    /// The file for the container's id, where one is wanted.
    pub(super) fn id_file(&self) -> Result<Option<IdFile<'_>>, Fail> {
        let Some(path) = &self.cidfile else { return Ok(None) };
        if path.exists() {
            let path = path.display();
            let text = format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            );
            return Err(Fail::new(125, text));
        }
        Ok(Some(IdFile(path)))
    }
}

/// A file that is not there yet.
pub(super) struct IdFile<'a>(&'a Path);

impl IdFile<'_> {
    /// Writes it.
    pub(super) fn write(self, id: &str) -> Result<(), Fail> {
        let written = std::fs::write(self.0, id);
        written
            .map_err(|error| Fail::new(125, format!("write the container's id: open({:?}): {error}", self.0)))
    }
}

fn stream(text: &str) -> Result<String, String> {
    match text.to_lowercase().as_str() {
        word @ ("stdin" | "stdout" | "stderr") => Ok(word.to_owned()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".into()),
    }
}
