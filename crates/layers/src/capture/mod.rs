//! Images made of programs of this host: a base image without a registry.

mod elf;
mod libraries;
mod plan;
mod planner;
mod tree;

use std::path::{Path, PathBuf};

use coracle_host::Dir;

use crate::{ChainId, Context, DiffId, Image, ImportOptions, Result, Store};
pub use plan::CapturePlan;

/// What to take: programs with all they need to run, and files. Writing one never fails;
/// [`Capture::plan`] reports everything that is wrong with it at once.
///
/// A program brings its dynamic loader and its libraries, found as ld.so(8) would, and for a script what its first
/// line names. The links on the way to each file come along (`/bin`, `sh`), as do the parts that glibc loads for
/// looking up names, and `/etc/passwd`, `/etc/group` and `/etc/nsswitch.conf` of the smallest useful size.
/// All is owned by root and of one time; extended attributes are left behind.
///
/// ```no_run
/// use coracle_layers::Capture;
///
/// # fn main() -> coracle_layers::Result<()> {
/// let plan = Capture::new().program("/bin/sh").programs(["/bin/ls", "/bin/cat"]).plan()?;
/// print!("{plan}"); // /bin  -> usr/bin …
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Capture {
    programs: Vec<(PathBuf, Option<PathBuf>)>,
    files: Vec<(PathBuf, PathBuf)>,
    texts: Vec<(PathBuf, Vec<u8>, u32)>,
    search: Vec<PathBuf>,
    mtime: i64,
}

impl Capture {
    /// Nothing yet but the directories that every image has.
    pub fn new() -> Capture {
        Capture::default()
    }

    /// A program, by its absolute path, or by name where [`Capture::search_path`] says where to look. The first one
    /// is the image's command.
    #[must_use]
    pub fn program(mut self, path: impl Into<PathBuf>) -> Capture {
        self.programs.push((path.into(), None));
        self
    }

    /// Several programs; see [`Capture::program`].
    #[must_use]
    pub fn programs<P: Into<PathBuf>>(mut self, paths: impl IntoIterator<Item = P>) -> Capture {
        self.programs.extend(paths.into_iter().map(|path| (path.into(), None)));
        self
    }

    /// A program of this host under another path in the image.
    #[must_use]
    pub fn program_as(mut self, path: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Capture {
        self.programs.push((path.into(), Some(target.into())));
        self
    }

    /// A file of this host (links to it are followed), at an absolute path in the image.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Capture {
        self.files.push((path.into(), target.into()));
        self
    }

    /// A file with these bytes, at an absolute path in the image, with this mode (`0o644`).
    #[must_use]
    pub fn text(mut self, target: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>, mode: u32) -> Capture {
        self.texts.push((target.into(), bytes.into(), mode));
        self
    }

    /// Directories in which programs given by name are looked for, in order.
    #[must_use]
    pub fn search_path<P: Into<PathBuf>>(mut self, dirs: impl IntoIterator<Item = P>) -> Capture {
        self.search.extend(dirs.into_iter().map(Into::into));
        self
    }

    /// The time of all files, in seconds since the epoch; 0 unless set.
    #[must_use]
    pub fn mtime(mut self, epoch: i64) -> Capture {
        self.mtime = epoch;
        self
    }

    /// Looks at this host and says what the image would hold. Reads only.
    ///
    /// # Errors
    /// All that is wrong at once, each naming the program and the library: `NotFound` for what is not there, `Invalid`
    /// for what is no program or a bare name without a search path, `Unsupported` for another architecture.
    pub fn plan(&self) -> Result<CapturePlan> {
        self.plan_in(&Dir::open("/")?)
    }

    /// [`Capture::plan`] for another tree than this host's root: a mounted image, a sysroot.
    ///
    /// # Errors
    /// As of [`Capture::plan`].
    pub fn plan_in(&self, root: &Dir) -> Result<CapturePlan> {
        planner::plan(self, root)
    }

    fn search_dirs(&self) -> impl Iterator<Item = &Path> {
        self.search.iter().map(PathBuf::as_path)
    }
}

impl Store {
    /// The image that a capture's plan describes, without a name. The same files give the same image; the command is
    /// the first program. A layer that the store has already is not made again.
    ///
    /// # Errors
    /// `NotFound` or `InUse` for a file that went or changed since the plan was made; `Exhausted` when the disk is full.
    pub fn capture(&self, plan: &CapturePlan) -> Result<Image> {
        let (file, blob) = plan.write(self.blobs.writer()?)?.into_staged()?;
        let diff_id = DiffId::from(blob.digest);
        let layer = match self.layer(&ChainId::next(None, &diff_id))? {
            Some(known) => known,
            None => {
                self.blobs.publish(file, &blob.digest)?;
                self.add_layer_from_blob(None, &blob.digest).context(|| "capture")?
            }
        };
        let options = ImportOptions::new().config(plan.config()?);
        self.commit_one(layer.chain_id(), &options, "capture")
    }
}
