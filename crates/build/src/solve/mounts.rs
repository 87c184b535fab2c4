//! What a RUN step is given besides its snapshot: trees, caches' specs, secrets.

use std::os::fd::AsFd;

use coracle_host::{Kind, Root};
use rustix::fs::{Mode, OFlags};

use super::{Solver, load, locate};
use crate::error::{Error, Result};
use crate::files::digest::Fields;
use crate::files::put::Put;
use crate::mount::{Lent, MountFrom, RunMount, Secret};
use crate::plan::{CopyOp, Origin, Step};
use crate::spec::SecretFrom;
use crate::trace::Files;
use crate::worker::{Command, Worker};

/// By which ssh finds its agent.
const AGENT: &str = "SSH_AUTH_SOCK";

impl<W: Worker> Solver<'_, W> {
    /// Mounted files count by their content; caches and secrets by what is said of them, never by what they hold. Returns
    /// the digests of the files, and each file of a context.
    pub(super) fn mount_keys(
        &self,
        step: &Step,
        command: &Command,
        key: &mut Fields,
    ) -> Result<(String, Option<Files>)> {
        let mut digests = String::new();
        let mut list: Option<Files> = None;
        let mut read = |from: &MountFrom| {
            let read = self.files(&at(step), &as_copy(from))?;
            digests.push_str(&read.record.digest);
            if let Some(one) = read.list {
                list.get_or_insert_default().extend(one);
            }
            Ok::<_, Error>(read.record.digest)
        };
        for mount in &command.mounts {
            key.add("mount");
            match mount {
                RunMount::Bind { target, from, writable } => {
                    key.add("bind").add(target).add([u8::from(*writable)]).add(read(from)?);
                }
                RunMount::Cache { target, id, from, seed: _, sharing, mode, uid, gid, read_only } => {
                    key.add("cache").add(target).add(id).add(sharing.to_string());
                    key.add(mode.to_le_bytes()).add(uid.to_le_bytes()).add(gid.to_le_bytes());
                    key.add([u8::from(*read_only)]);
                    if let Some(from) = from {
                        key.add(read(from)?);
                    }
                }
                RunMount::Tmpfs { target, size } => {
                    key.add("tmpfs").add(target).add(size.unwrap_or(0).to_le_bytes());
                }
                RunMount::Script { target, text } => {
                    key.add("script").add(target).add(text);
                }
                RunMount::Ssh { id, target, required: _, mode, uid, gid, agent: _ } => {
                    key.add("ssh").add(id).add(target);
                    key.add(mode.to_le_bytes()).add(uid.to_le_bytes()).add(gid.to_le_bytes());
                }
                RunMount::Secret { id, target, env, required: _, mode, uid, gid, value: _ } => {
                    key.add("secret").add(id).add(target.as_deref().unwrap_or(""));
                    key.add(env.as_deref().unwrap_or(""));
                    key.add(mode.to_le_bytes()).add(uid.to_le_bytes()).add(gid.to_le_bytes());
                }
            }
        }
        Ok((digests, list))
    }

    /// The command with everything that a plan doesn't hold.
    pub(super) fn equipped(&self, step: &Step, command: &Command, uncached: bool) -> Result<Command> {
        let fail = |error| locate(self.plan, step.span, error, None);
        let mut equipped = Command { uncached, ..command.clone() };
        let mut mounts = Vec::new();
        for mut mount in equipped.mounts.drain(..) {
            if let Some(from) = mount.source_mut() {
                from.tree = Some(self.lent(step, from)?);
            }
            if let RunMount::Cache { from: Some(from), seed, .. } = &mut mount {
                *seed = Some(self.files(&at(step), &as_copy(from))?.record.digest);
            }
            if let RunMount::Ssh { id, target, required, agent, .. } = &mut mount {
                let Some(socket) = self.spec.ssh.get(id) else {
                    if *required {
                        let what =
                            format!("the step needs the ssh agent `{id}`, and the build was given none");
                        return Err(fail(Error::new(Kind::NotFound, what)));
                    }
                    continue;
                };
                if !equipped.quiet_env.iter().any(|(name, _)| name == AGENT) {
                    equipped.env.retain(|(own, _)| own != AGENT);
                    equipped.quiet_env.push((AGENT.to_owned(), target.clone()));
                }
                *agent = Some(socket.clone());
            }
            if let RunMount::Secret { id, target, env, required, value, .. } = &mut mount {
                let Some(secret) = self.secret(id).map_err(fail)? else {
                    if *required {
                        let what =
                            format!("the step needs the secret `{id}`, and the build was not given it");
                        return Err(fail(Error::new(Kind::NotFound, what)));
                    }
                    continue;
                };
                if let Some(name) = env {
                    let Ok(text) = String::from_utf8(secret.bytes().to_vec()) else {
                        let what = format!("the secret `{id}` is not UTF-8, and can't be a variable");
                        return Err(fail(Error::invalid(what)));
                    };
                    equipped.env.retain(|(own, _)| own != name);
                    equipped.quiet_env.push((name.clone(), text));
                }
                if target.is_none() {
                    continue;
                }
                *value = Some(secret);
            }
            mounts.push(mount);
        }
        equipped.mounts = mounts;
        Ok(equipped)
    }

    /// What a host is told who asks: the secret `HTTP_AUTH_HEADER_<host>` as it is, or `HTTP_AUTH_TOKEN_<host>` as a bearer's
    /// (Dockerfile reference, "Adding files from a URL", "Secrets").
    pub(super) fn authorization(&self, host: &str) -> Result<Option<String>> {
        for (id, scheme) in [("HTTP_AUTH_HEADER_", ""), ("HTTP_AUTH_TOKEN_", "Bearer ")] {
            let Some(secret) = self.secret(&format!("{id}{host}"))? else { continue };
            let text = std::str::from_utf8(secret.bytes());
            let text = text.map_err(|_| Error::invalid(format!("the secret `{id}{host}` is not UTF-8")))?;
            return Ok(Some(format!("{scheme}{}", text.trim())));
        }
        Ok(None)
    }

    fn secret(&self, id: &str) -> Result<Option<Secret>> {
        match self.spec.secrets.get(id) {
            None => Ok(None),
            Some(SecretFrom::Value(secret)) => Ok(Some(secret.clone())),
            Some(SecretFrom::File(path)) => {
                let bytes = load::read(path).map_err(|e| Error::from(e).context(format!("secret `{id}`")))?;
                Ok(Some(Secret::new(bytes)))
            }
        }
    }

    /// The tree to mount from. Of the context only what is not ignored: where something is, in a copy.
    fn lent(&self, step: &Step, from: &MountFrom) -> Result<Lent> {
        let fail = |error| locate(self.plan, step.span, error, None);
        let copy = as_copy(from);
        if !matches!(from.origin, Origin::Context | Origin::Directory(_)) {
            let lent = self.lend(&copy).map_err(fail)?;
            let lent = lent.ok_or_else(|| fail(Error::invalid("there is nothing to mount from")))?;
            return Ok(Lent::new(lent.fd, None));
        }
        let tree = self.tree(&copy, None).ok_or_else(|| fail(Error::invalid("there is no context")))?;
        let staged = self.cache.stage().map_err(fail)?;
        let picked = self.pick(&at(step), &copy, Some(tree))?;
        let root = Root::new(staged.dir().as_fd(), "the staged context");
        let mut put = Put::new(root, None, None);
        for one in &picked {
            // What a link leads to is copied under the name of the link.
            put.place(Some(tree), one, &format!("/{}", from.path)).map_err(fail)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(staged.dir().as_fd(), ".", flags, Mode::empty());
        let fd = fd.map_err(|e| fail(coracle_host::Error::os("open(the staged context)", e).into()))?;
        Ok(Lent::new(fd, Some(staged)))
    }
}

/// Problems with the source of a mount are the step's.
fn at(step: &Step) -> Step {
    Step { sources: vec![step.span], ..step.clone() }
}

fn as_copy(from: &MountFrom) -> CopyOp {
    CopyOp::whole(from.origin.clone(), from.path.clone())
}
