//! What to build.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::cancel::Cancel;
use crate::mount::{Network, Secret};
use crate::remote::{Git, web};

/// Where a secret's value is.
#[derive(Clone, Debug)]
pub(crate) enum SecretFrom {
    Value(Secret),
    File(PathBuf),
}

/// A context besides the main one (docker's `--build-context name=…`): what `name` means after `FROM` and `--from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Directory(PathBuf),
    Image(String),
}

/// The address that a name of [`BuildSpec::host`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostAddress {
    /// This one.
    Ip(IpAddr),
    /// The engine's host, as the step's network sees it: docker's `host-gateway`.
    Gateway,
}

/// What a build may not do unless it is allowed to (docker's `--allow`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Allow {
    /// `RUN --network=host`: docker's `network.host`.
    HostNetwork,
    /// `RUN --security=insecure`: docker's `security.insecure`.
    Insecure,
}

/// When an image that a Dockerfile names is fetched from where it comes from, say a registry: what FROM, `COPY --from` and
/// `RUN --mount` name and is no stage and no context of the build. An image by its id is nowhere else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pull {
    /// Not at all: what is not here is missing. A program that didn't ask for it is not to go on the network because a name is
    /// misspelt, nor to run what a stranger has under that name.
    #[default]
    Never,
    /// Where it is not here, as docker does it.
    Missing,
    /// Always, in case the name means another image by now: docker's `--pull`. Where nobody answers the build fails.
    Always,
}

/// What to build. Writing one never fails; [`build`](crate::build()) says everything that is wrong with it.
///
/// ```
/// let spec = coracle_build::BuildSpec::new("./app").target("release").arg("VERSION", "1.4.2").tag("shop/app:1.4.2");
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a spec only says what to build; give it to `build`"]
pub struct BuildSpec {
    pub(crate) context: Option<PathBuf>,
    pub(crate) file: Option<PathBuf>,
    pub(crate) text: Option<Vec<u8>>,
    pub(crate) target: Option<String>,
    pub(crate) platform: Option<String>,
    pub(crate) args: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) tags: Vec<String>,
    pub(crate) secrets: BTreeMap<String, SecretFrom>,
    pub(crate) ssh: BTreeMap<String, PathBuf>,
    pub(crate) contexts: BTreeMap<String, Named>,
    pub(crate) hosts: BTreeMap<String, HostAddress>,
    pub(crate) network: Network,
    pub(crate) allowed: BTreeSet<Allow>,
    pub(crate) no_cache: bool,
    pub(crate) no_cache_stages: BTreeSet<String>,
    pub(crate) cancel: Option<Cancel>,
    pub(crate) source_date_epoch: Option<i64>,
    pub(crate) now: Option<SystemTime>,
    pub(crate) git: Option<ByGit>,
    pub(crate) proxies: web::Proxies,
    pub(crate) unlisted: bool,
    pub(crate) rlimits: BTreeMap<String, (u64, u64)>,
    pub(crate) shm_size: Option<u64>,
    pub(crate) pull: Pull,
    pub(crate) cgroup_parent: Option<String>,
}

/// Who fetches git repositories.
#[derive(Clone)]
pub(crate) struct ByGit(pub(crate) Arc<dyn Git>);

impl std::fmt::Debug for ByGit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ByGit")
    }
}

impl BuildSpec {
    /// A build of `<context>/Dockerfile` with the files of that directory.
    pub fn new(context: impl AsRef<Path>) -> BuildSpec {
        BuildSpec { context: Some(context.as_ref().to_owned()), ..BuildSpec::default() }
    }

    /// A build of this Dockerfile without any context, as `docker build -` does. Its COPY steps can only copy from
    /// stages and images.
    pub fn without_context(dockerfile: impl Into<Vec<u8>>) -> BuildSpec {
        BuildSpec { text: Some(dockerfile.into()), ..BuildSpec::default() }
    }

    /// Another Dockerfile than the context's own. It may lie outside the context; a relative path is relative to the
    /// working directory of the process, like the context's path. `<file>.dockerignore` beside it is preferred to
    /// the context's `.dockerignore`.
    pub fn file(mut self, path: impl AsRef<Path>) -> BuildSpec {
        self.file = Some(path.as_ref().to_owned());
        self
    }

    /// The Dockerfile itself, in place of one that is read.
    pub fn dockerfile_text(mut self, text: impl Into<Vec<u8>>) -> BuildSpec {
        self.text = Some(text.into());
        self
    }

    /// The stage to build, by name or number; else it is the last.
    pub fn target(mut self, stage: impl Into<String>) -> BuildSpec {
        self.target = Some(stage.into());
        self
    }

    /// The platform to build for, as `linux/amd64`. Only this machine's can be built for; else the build is refused.
    pub fn platform(mut self, platform: impl Into<String>) -> BuildSpec {
        self.platform = Some(platform.into());
        self
    }

    /// The value of a build argument (`ARG name` in the Dockerfile).
    pub fn arg(mut self, name: impl Into<String>, value: impl Into<String>) -> BuildSpec {
        self.args.insert(name.into(), value.into());
        self
    }

    /// A label of the image, besides those of the Dockerfile.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> BuildSpec {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// An annotation of the image's manifest (OCI image specification, annotations.md): unlike a label it is not in the
    /// image's configuration, and changes no image's id.
    pub fn annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> BuildSpec {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// The value of a secret, for `RUN --mount=type=secret,id=…`. It is in no image, history, key or message.
    pub fn secret(mut self, id: impl Into<String>, value: impl Into<Vec<u8>>) -> BuildSpec {
        self.secrets.insert(id.into(), SecretFrom::Value(Secret::new(value.into())));
        self
    }

    /// [`BuildSpec::secret`] with what this file holds when a step needs it.
    pub fn secret_file(mut self, id: impl Into<String>, path: impl AsRef<Path>) -> BuildSpec {
        self.secrets.insert(id.into(), SecretFrom::File(path.as_ref().to_owned()));
        self
    }

    /// The socket of an ssh agent, for `RUN --mount=type=ssh,id=…`; the id is `default` where the line has none.
    pub fn ssh(mut self, id: impl Into<String>, socket: impl AsRef<Path>) -> BuildSpec {
        self.ssh.insert(id.into(), socket.as_ref().to_owned());
        self
    }

    /// A directory that `COPY --from=name` and mounts with `from=name` take files from, in the place of a stage or
    /// image of that name. Its own `.dockerignore` counts.
    pub fn context_directory(mut self, name: impl Into<String>, path: impl AsRef<Path>) -> BuildSpec {
        self.contexts.insert(name.into().to_lowercase(), Named::Directory(path.as_ref().to_owned()));
        self
    }

    /// An image in the place of a stage or image called `name`, also after `FROM`.
    pub fn context_image(mut self, name: impl Into<String>, image: impl Into<String>) -> BuildSpec {
        self.contexts.insert(name.into().to_lowercase(), Named::Image(image.into()));
        self
    }

    /// A name in `/etc/hosts` of every RUN step.
    pub fn host(mut self, name: impl Into<String>, address: HostAddress) -> BuildSpec {
        self.hosts.insert(name.into(), address);
        self
    }

    /// The network of RUN steps that say nothing of theirs. The host's is thereby allowed.
    pub fn network(mut self, network: Network) -> BuildSpec {
        if network == Network::Host {
            self.allowed.insert(Allow::HostNetwork);
        }
        self.network = network;
        self
    }

    /// A limit of setrlimit(2) for RUN steps, by its name in small letters, `nofile`: what they may raise it to, and what they
    /// may not go beyond.
    pub fn rlimit(mut self, name: impl Into<String>, soft: u64, hard: u64) -> BuildSpec {
        self.rlimits.insert(name.into(), (soft, hard));
        self
    }

    /// The limits that [`BuildSpec::rlimit`] was given: names, soft and hard.
    pub fn rlimits(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        self.rlimits.iter().map(|(name, (soft, hard))| (name.as_str(), *soft, *hard))
    }

    /// How many bytes `/dev/shm` of RUN steps has room for.
    pub fn shm_size(mut self, bytes: u64) -> BuildSpec {
        self.shm_size = Some(bytes);
        self
    }

    /// The control group that those of RUN steps are below of: a path, or the name of a slice where systemd keeps them. It
    /// changes no result, so no key of the cache has it.
    pub fn cgroup_parent(mut self, parent: impl Into<String>) -> BuildSpec {
        self.cgroup_parent = Some(parent.into());
        self
    }

    /// What [`BuildSpec::cgroup_parent`] was given, for a worker.
    pub fn control_group(&self) -> Option<&str> {
        self.cgroup_parent.as_deref()
    }

    /// Allows what else a step is refused.
    pub fn allow(mut self, what: Allow) -> BuildSpec {
        self.allowed.insert(what);
        self
    }

    /// A name for the image; there may be several.
    pub fn tag(mut self, name: impl Into<String>) -> BuildSpec {
        self.tags.push(name.into());
        self
    }

    /// Leaves the image out of what the engine lists, and its names ungiven: for a build whose result is written elsewhere.
    pub fn unlisted(mut self) -> BuildSpec {
        self.unlisted = true;
        self
    }

    /// Whether [`BuildSpec::unlisted`] was asked for: a worker for such a build gives no names.
    pub fn is_unlisted(&self) -> bool {
        self.unlisted
    }

    /// When images are fetched; see [`Pull`].
    pub fn pull(mut self, when: Pull) -> BuildSpec {
        self.pull = when;
        self
    }

    /// Runs every step, whatever the cache has. The results replace what it had.
    pub fn no_cache(mut self, yes: bool) -> BuildSpec {
        self.no_cache = yes;
        self
    }

    /// [`BuildSpec::no_cache`] for one stage, by name or number (from 0). There may be several.
    pub fn no_cache_stage(mut self, stage: impl Into<String>) -> BuildSpec {
        self.no_cache_stages.insert(stage.into().to_lowercase());
        self
    }

    /// A way to end the build early: see [`Cancel`].
    pub fn cancelled_by(mut self, cancel: &Cancel) -> BuildSpec {
        self.cancel = Some(cancel.clone());
        self
    }

    /// What [`BuildSpec::cancelled_by`] was given: a worker ends the command that runs when it is cancelled.
    pub fn cancel(&self) -> Option<&Cancel> {
        self.cancel.as_ref()
    }

    /// The names that it gives the image.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// The time, in seconds since 1970, that all new layers and the image are dated with, so that the same input is
    /// the same image at any time (reproducible-builds.org, `SOURCE_DATE_EPOCH`).
    pub fn source_date_epoch(mut self, seconds: i64) -> BuildSpec {
        self.source_date_epoch = Some(seconds);
        self
    }

    /// What [`BuildSpec::source_date_epoch`] was given: a worker for such a build lets no file in a new layer be younger.
    pub fn epoch(&self) -> Option<i64> {
        self.source_date_epoch
    }

    /// Who fetches the git repositories that ADD names; without, they are refused. No library runs programs, so that this is
    /// for the embedding program to say: one that has git(1) runs it, another may have a library.
    pub fn git(mut self, git: Arc<dyn Git>) -> BuildSpec {
        self.git = Some(ByGit(git));
        self
    }

    /// Who is asked for the URLs that ADD names, in their servers' stead. Commands of RUN have proxies by build arguments
    /// (`HTTP_PROXY` and their like), and these here mean nothing to them.
    #[cfg(feature = "http")]
    pub fn proxies(mut self, proxies: coracle_http::Proxies) -> BuildSpec {
        self.proxies = proxies;
        self
    }

    /// The time that steps which run now are dated with; else it is the clock's when each ends. A cached step keeps
    /// the time that it ran at.
    pub fn now(mut self, now: SystemTime) -> BuildSpec {
        self.now = Some(now);
        self
    }
}
