//! What a step depends on, and carrying it out.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use coracle_host::{Call, Kind, Root};

use super::board::Track;
use super::load::Lent;
use super::{Solver, locate};
use crate::cache::{self, FilesRecord};
use crate::error::{Error, Result};
use crate::event::{Event, Place};
use crate::files::contents::Contents;
use crate::files::digest::{Digested, Fields, Overrides, digest};
use crate::files::lay::{Laid, Load};
use crate::files::order::Earlier;
use crate::files::pick::Tree;
use crate::files::put::Put;
use crate::files::way::Way;
use crate::files::{Picked, owner};
use crate::ignore::Ignore;
use crate::mount::Network;
use crate::plan::{CopyFrom, CopyOp, Op, Origin, Step};
use crate::remote::fetch::With;
use crate::trace::Files;
use crate::worker::{Command, Draft, Snapshot, Worker};

/// What it takes to carry a step out, and the key that all of it makes.
pub(super) struct Work {
    pub(super) key: String,
    pub(super) bytes: u64,
    /// Picked for the key already, where the tree had to be read for it.
    pub(super) picked: Option<Vec<Picked>>,
    /// The digest of all files that it reads, and each of them where they are from a context.
    pub(super) files: String,
    pub(super) list: Option<Files>,
    /// A file was written to while the key was made.
    pub(super) changed: bool,
    /// It is done without the cache, since the build was told so.
    pub(super) uncached: bool,
}

impl Work {
    fn new(key: String) -> Work {
        let files = String::new();
        Work { key, bytes: 0, picked: None, files, list: None, changed: false, uncached: false }
    }
}

/// The files that a COPY step means, as far as that is known without reading them.
pub(super) enum Sources {
    /// They never change, and were read before.
    Known(FilesRecord),
    Picked {
        picked: Vec<Picked>,
        /// Under which key they will be known, where they never change.
        key: Option<String>,
    },
}

/// Files that a step reads.
pub(super) struct Read {
    pub(super) record: FilesRecord,
    pub(super) picked: Option<Vec<Picked>>,
    pub(super) list: Option<Files>,
    changed: bool,
}

impl<W: Worker> Solver<'_, W> {
    /// `sources` are those of a COPY step.
    pub(super) fn prepare(&self, on: &str, step: &Step, sources: Option<Sources>) -> Result<Work> {
        let mut work = self.work(on, step, sources)?;
        if let Some(epoch) = self.spec.source_date_epoch {
            // Layers that are dated with it are others than those that are not.
            let mut key = cache::key("epoch", &work.key);
            key.add(epoch.to_le_bytes());
            work.key = key.hex();
        }
        Ok(work)
    }

    fn work(&self, on: &str, step: &Step, sources: Option<Sources>) -> Result<Work> {
        match &step.op {
            Op::Run(command) => {
                let mut key = run_key(on, command);
                let (files, list) = self.mount_keys(step, command, &mut key)?;
                Ok(Work { files, list, ..Work::new(key.hex()) })
            }
            Op::MakeDir { path, user } => {
                let mut key = cache::key("directory", on);
                key.add(path).add(user);
                Ok(Work::new(key.hex()))
            }
            Op::Copy(copy) => {
                let sources = sources.map_or_else(|| self.sources(step, copy), Ok)?;
                let Read { record: files, picked, list, changed } = self.read(step, copy, sources)?;
                let mut key = copy_key("copy", on, copy);
                key.add(&files.digest);
                let (bytes, files) = (files.bytes, files.digest);
                Ok(Work { bytes, picked, files, list, changed, ..Work::new(key.hex()) })
            }
            Op::Set => Err(Error::invalid("an instruction without files has no work")),
        }
    }

    /// The new snapshot, and whether its record may be kept.
    pub(super) fn carry_out(
        &self,
        on: &W::Snapshot,
        step: &Step,
        work: &Work,
        like: Option<&str>,
        at: &Arc<Place>,
        track: &mut Track,
    ) -> Result<(W::Snapshot, bool)> {
        let plan = self.plan;
        let fail = |error| locate(plan, step.span, error, None);
        match &step.op {
            Op::Run(command) => {
                let command = self.equipped(step, command, work.uncached)?;
                let mut output = |stream, bytes: &[u8]| {
                    track.tell(Event::Output { at: at.clone(), stream, bytes: bytes.to_vec() });
                };
                let ran =
                    self.worker.run(on, &command, &mut output).map_err(|error| match error.exit_code() {
                        Some(_) => {
                            let argv = command.argv.join(" ");
                            error.context(format!("process {argv:?} did not complete successfully"))
                        }
                        None => error,
                    });
                Ok((ran.map_err(fail)?, true))
            }
            Op::MakeDir { path, user } => {
                let mut make = |fd: BorrowedFd<'_>| {
                    let root = Root::new(fd, "snapshot");
                    let owner = match user.as_str() {
                        "" => None,
                        user => Some(owner::resolve(&root, user)?),
                    };
                    Put::new(root, owner, None).make_dirs(Path::new(path)).map(drop)
                };
                Ok((self.worker.edit(on, &mut make).map_err(fail)?, true))
            }
            Op::Copy(copy) => self.copy(on, step, copy, work.picked.as_deref(), like, track),
            Op::Set => Err(Error::invalid("an instruction without files has no work")),
        }
    }

    /// The new snapshot, and whether the files are those that were picked to its end.
    pub(super) fn copy(
        &self,
        on: &W::Snapshot,
        step: &Step,
        copy: &CopyOp,
        picked: Option<&[Picked]>,
        like: Option<&str>,
        track: &mut Track,
    ) -> Result<(W::Snapshot, bool)> {
        let plan = self.plan;
        let fail = |error| locate(plan, step.span, error, None);
        let lent = self.lend(copy).map_err(fail)?;
        let tree = self.tree(copy, lent.as_ref());
        let fresh;
        let picked = match picked {
            Some(picked) => picked,
            None => {
                fresh = self.pick(step, copy, tree)?;
                fresh.as_slice()
            }
        };
        let contents = like.map(|id| Contents::read(&self.cache.get_raw(&contents_key(id))));
        let contents = contents.filter(|contents| !contents.is_empty());
        let like = like.filter(|_| contents.is_some());
        let mut laid = Laid::default();
        // A source that comes later may take the place of an earlier one's files.
        let mut replaced = copy.unpack && picked.len() > 1;
        let mut change = |draft: &mut dyn Draft| {
            let puts_off = draft.has_layer();
            for (nth, one) in picked.iter().enumerate() {
                let (owner, batches) = {
                    let root = Root::new(draft.tree()?, "snapshot");
                    let owner = copy.chown.as_ref().map(|text| owner::resolve(&root, text)).transpose()?;
                    let mut put = Put::new(root, owner, copy.chmod.clone())
                        .unpacking(copy.unpack)
                        .in_way(if copy.link { Way::Unseen } else { Way::Kept })
                        .putting_off(puts_off, self.spec.source_date_epoch);
                    let batches = put.place(tree, one, &copy.dest)?;
                    laid.changed |= put.changed;
                    replaced |= put.has_replaced() && picked.len() > 1;
                    (owner, batches)
                };
                let tree = one.tree(tree).filter(|_| !batches.is_empty());
                let Some(tree) = tree else { continue };
                let Some(files) = draft.layer()? else { continue };
                let own = files.own.try_clone_to_owned().call(|| "dup(the layer)")?;
                let root = files.like.map(|fd| fd.try_clone_to_owned()).transpose();
                let root = root.call(|| "dup(the earlier layer)")?;
                let put = Put::new(Root::new(own.as_fd(), "the layer"), owner, copy.chmod.clone())
                    .putting_off(true, self.spec.source_date_epoch);
                let earlier = root.as_ref().zip(contents.as_ref());
                let earlier = earlier.map(|(root, contents)| Earlier { root: root.as_fd(), contents });
                let load = Load::new(&put, &batches, earlier)?;
                // What later sources put there can't be told yet.
                if nth + 1 == picked.len()
                    && let Some(coming) = load.coming()
                {
                    draft.expect(coming)?;
                }
                let Some(files) = draft.layer()? else { continue };
                laid.add(load.lay(files, tree)?);
            }
            Ok(())
        };
        let snapshot = self.worker.draft(on, like, &mut change).map_err(fail)?;
        if !laid.changed && !replaced && !laid.contents.is_empty() {
            let contents = Contents::collect(laid.contents).to_write();
            self.cache.put_raw(&contents_key(snapshot.id()), &contents);
        }
        let changed = laid.changed;
        if changed {
            track.warn(format!("line {}: a source file was written to while it was copied", step.line));
        }
        if picked.is_empty() {
            track.warn(format!("line {}: the wildcards match no file", step.line));
        }
        Ok((snapshot, !changed))
    }

    /// The digest of the step's sources.
    pub(super) fn files(&self, step: &Step, copy: &CopyOp) -> Result<Read> {
        let sources = self.sources(step, copy)?;
        self.read(step, copy, sources)
    }

    /// The step's sources. Those in a snapshot never change, so a record of them does as well.
    pub(super) fn sources(&self, step: &Step, copy: &CopyOp) -> Result<Sources> {
        let overrides = overrides(copy);
        let fixed = match self.fetched_identities(step, copy)? {
            Some(identities) => Some(format!("fetched {identities}")),
            None => self.id_of(&copy.from)?,
        };
        let key = fixed.map(|fixed| {
            let mut key = cache::key("files", &fixed);
            key.add([u8::from(overrides.mode), u8::from(overrides.owner)]);
            if copy.parents {
                key.add("parents");
            }
            for pattern in &copy.exclude {
                key.add("exclude").add(pattern);
            }
            for source in &copy.sources {
                match source {
                    CopyFrom::Path(path) => key.add("path").add(path),
                    CopyFrom::Inline(name, text) => key.add("inline").add(name).add(text),
                    CopyFrom::Remote(source) => key.add("remote").add(format!("{source:?}")),
                };
            }
            key.hex()
        });
        if let Some(key) = &key
            && !self.spec.no_cache
            && let Some(record) = self.cache.get::<FilesRecord>(key)
        {
            self.board.files(key, &record);
            return Ok(Sources::Known(record));
        }
        let fail = |error| locate(self.plan, step.span, error, None);
        let lent = self.lend(copy).map_err(fail)?;
        let picked = self.pick(step, copy, self.tree(copy, lent.as_ref()))?;
        Ok(Sources::Picked { picked, key })
    }

    /// Their digest. What has none of its own yet is read.
    fn read(&self, step: &Step, copy: &CopyOp, sources: Sources) -> Result<Read> {
        let (picked, key) = match sources {
            Sources::Known(record) => {
                return Ok(Read { record, picked: None, list: None, changed: false });
            }
            Sources::Picked { picked, key } => (picked, key),
        };
        let fail = |error| locate(self.plan, step.span, error, None);
        let lent = self.lend(copy).map_err(fail)?;
        let tree = self.tree(copy, lent.as_ref());
        let Digested { digest, bytes, list, changed } =
            digest(tree, &picked, overrides(copy)).map_err(fail)?;
        let record = FilesRecord { digest, bytes };
        if let Some(key) = &key {
            self.cache.put(key, record.clone())?;
            self.board.files(key, &record);
        }
        Ok(Read { record, picked: Some(picked), list, changed })
    }

    /// What is fetched for it, in short; `None` where other files belong to it, too.
    fn fetched_identities(&self, step: &Step, copy: &CopyOp) -> Result<Option<String>> {
        let mut identities = Vec::new();
        for (source, span) in copy.sources.iter().zip(&step.sources) {
            match source {
                CopyFrom::Remote(source) => {
                    let identity = self.fetches.identity(source, self.with(&|host| self.authorization(host)));
                    identities.push(identity.map_err(|error| locate(self.plan, *span, error, None))?);
                }
                CopyFrom::Inline(..) => {}
                CopyFrom::Path(_) => return Ok(None),
            }
        }
        Ok((!identities.is_empty()).then(|| identities.join(" ")))
    }

    fn with<'w>(&'w self, authorization: &'w dyn Fn(&str) -> Result<Option<String>>) -> With<'w> {
        With {
            authorization,
            cache: self.cache,
            git: self.spec.git.as_ref().map(|git| &*git.0),
            cancel: self.spec.cancel(),
            afresh: self.spec.no_cache,
        }
    }

    pub(super) fn pick(&self, step: &Step, copy: &CopyOp, tree: Option<Tree<'_>>) -> Result<Vec<Picked>> {
        let mut picked: Vec<Picked> = Vec::new();
        let pick = |tree: Tree<'_>, path: &str| match copy.parents {
            true => tree.pick_with_parents(path),
            false => tree.pick(path),
        };
        for (source, span) in copy.sources.iter().zip(&step.sources) {
            match (source, tree) {
                (CopyFrom::Inline(name, text), _) => picked.push(Picked::inline(name, text)),
                (CopyFrom::Remote(source), _) => {
                    let fail = |error: Error| locate(self.plan, *span, error, None);
                    let fetched = self
                        .fetches
                        .get(source, self.with(&|host| self.authorization(host)))
                        .map_err(fail)?;
                    let tree = fetched.tree(self.spec.cancel());
                    for mut one in tree.pick(&fetched.path).map_err(fail)? {
                        one.remote = Some(fetched.clone());
                        picked.push(one);
                    }
                }
                (CopyFrom::Path(path), Some(tree)) => picked.extend(pick(tree, path).map_err(|error| {
                    let outside = error.kind() == Kind::NotFound && step.text.contains("..");
                    let help = outside.then(|| "`..` leads no further than the top".to_owned());
                    locate(self.plan, *span, error, help)
                })?),
                (CopyFrom::Path(_), None) => {
                    let error = Error::invalid("there is nothing to copy from");
                    return Err(locate(self.plan, *span, error, None));
                }
            }
        }
        if !copy.exclude.is_empty() {
            let patterns = Ignore::parse("--exclude", copy.exclude.join("\n").as_bytes())?;
            picked.retain_mut(|one| one.exclude(&patterns));
        }
        Ok(picked)
    }

    /// What files come from where that never changes. Waits for a stage that is not done yet.
    fn id_of(&self, from: &Origin) -> Result<Option<String>> {
        match from {
            Origin::Stage(index) => Ok(Some(self.board.wait(*index)?.reached.id().to_owned())),
            Origin::Image(name) => Ok(self.images.get(name).map(|base| base.snapshot.id().to_owned())),
            Origin::Context | Origin::Directory(_) | Origin::Scratch => Ok(None),
        }
    }

    /// The same with its files.
    fn snapshot_of(&self, from: &Origin) -> Result<Option<W::Snapshot>> {
        match from {
            Origin::Stage(index) => self.files_of(*index).map(Some),
            Origin::Image(name) => Ok(self.images.get(name).map(|base| base.snapshot.clone())),
            Origin::Context | Origin::Directory(_) | Origin::Scratch => Ok(None),
        }
    }

    pub(super) fn lend(&self, copy: &CopyOp) -> Result<Option<Lent>> {
        let Some(snapshot) = self.snapshot_of(&copy.from)? else { return Ok(None) };
        let label = match &copy.from {
            Origin::Image(name) => format!("image {name}"),
            from => from.to_string(),
        };
        Ok(Some(Lent { fd: self.worker.tree(&snapshot)?, label }))
    }

    pub(super) fn tree<'t>(&'t self, copy: &CopyOp, lent: Option<&'t Lent>) -> Option<Tree<'t>> {
        let cancel = self.spec.cancel();
        match &copy.from {
            Origin::Context => self.context.as_ref().map(|context| context.tree(cancel)),
            Origin::Directory(name) => self.named.get(name).map(|context| context.tree(cancel)),
            _ => lent.map(|lent| lent.tree(cancel)),
        }
    }
}

/// Under which key it is known what files a COPY put into a layer.
fn contents_key(snapshot: &str) -> String {
    cache::key("contents", snapshot).hex()
}

/// Begins a key: all that a COPY says but for its sources.
pub(super) fn copy_key(kind: &str, on: &str, copy: &CopyOp) -> Fields {
    let mut key = cache::key(kind, on);
    // A name is looked up in the snapshot, which is in the key.
    key.add(&copy.dest);
    key.add(copy.chown.as_ref().map_or(String::new(), |o| format!("chown {o}")));
    key.add(copy.chmod.as_ref().map_or(String::new(), |m| format!("chmod {m}")));
    if copy.link {
        key.add("link");
    }
    if copy.unpack {
        key.add("unpack");
    }
    for source in &copy.sources {
        if matches!(source, CopyFrom::Remote(remote) if remote.unpack) {
            key.add("unpack what was fetched");
        }
    }
    key
}

/// What of the files does not matter, because the step sets it.
fn overrides(copy: &CopyOp) -> Overrides {
    let mode = copy.chmod.as_ref().is_some_and(|c| !c.is_relative());
    Overrides { mode, owner: copy.chown.is_some() }
}

fn run_key(on: &str, command: &Command) -> Fields {
    let mut key = cache::key("run", on);
    key.add((command.argv.len() as u64).to_le_bytes());
    for argument in &command.argv {
        key.add(argument);
    }
    for (name, value) in &command.env {
        key.add(name).add(value);
    }
    key.add(&command.cwd).add(&command.user).add(&command.hostname);
    if command.network != Network::Default {
        key.add("network").add(command.network.to_string());
    }
    for (name, address) in &command.hosts {
        key.add("host").add(name).add(format!("{address:?}"));
    }
    for (name, soft, hard) in &command.rlimits {
        key.add("limit").add(name).add(format!("{soft}:{hard}"));
    }
    if let Some(bytes) = command.shm_size {
        key.add("shm").add(bytes.to_le_bytes());
    }
    if command.insecure {
        key.add("insecure");
    }
    key
}
