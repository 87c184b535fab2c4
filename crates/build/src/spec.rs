//! What to build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::mount::Secret;

/// Where a secret's value is.
#[derive(Clone, Debug)]
pub(crate) enum SecretFrom {
    Value(Secret),
    File(PathBuf),
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
    pub(crate) args: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) tags: Vec<String>,
    pub(crate) secrets: BTreeMap<String, SecretFrom>,
    pub(crate) no_cache: bool,
    pub(crate) source_date_epoch: Option<i64>,
    pub(crate) now: Option<SystemTime>,
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

    /// A name for the image; there may be several.
    pub fn tag(mut self, name: impl Into<String>) -> BuildSpec {
        self.tags.push(name.into());
        self
    }

    /// Runs every step, whatever the cache has. The results replace what it had.
    pub fn no_cache(mut self, yes: bool) -> BuildSpec {
        self.no_cache = yes;
        self
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

    /// The time that steps which run now are dated with; else it is the clock's when each ends. A cached step keeps
    /// the time that it ran at.
    pub fn now(mut self, now: SystemTime) -> BuildSpec {
        self.now = Some(now);
        self
    }
}
