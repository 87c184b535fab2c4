//! Git repositories as sources. How one is fetched is for the embedding program to say: this crate runs no programs.

use std::fmt;
use std::path::Path;

use coracle_host::{Call, Dir, Kind, Root};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::os::fd::AsFd;

use crate::cancel::Cancel;
use crate::error::{Error, Result};

/// A repository, and what of it is meant: `url#reference:directory`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GitSource {
    /// Where it is, as git(1) takes it; a password may be in it.
    pub url: String,
    /// A branch, a tag, or a commit by its id; else what the repository's HEAD is.
    pub reference: Option<String>,
    /// The directory in it; else all of it.
    pub directory: Option<String>,
    /// `.git` stays (`ADD --keep-git-dir`).
    pub keep_git_dir: bool,
}

impl GitSource {
    /// The parts of `url#reference:directory`, the last two optional.
    pub fn parse(text: &str) -> GitSource {
        let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let directory = some(directory.trim_matches('/'));
        GitSource { url: url.to_owned(), reference: some(reference), directory, keep_git_dir: false }
    }

    /// The reference where it is the whole id of a commit, which never means another.
    pub fn commit(&self) -> Option<&str> {
        let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        self.reference.as_deref().filter(|text| [40, 64].contains(&text.len()) && hex(text))
    }
}

impl fmt::Display for GitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::shown(&self.url))?;
        let reference = self.reference.as_deref().unwrap_or("");
        match &self.directory {
            Some(directory) => write!(f, "#{reference}:{directory}"),
            None if reference.is_empty() => Ok(()),
            None => write!(f, "#{reference}"),
        }
    }
}

/// Fetches repositories for builds: see [`BuildSpec::git`](crate::BuildSpec::git).
pub trait Git: Send + Sync {
    /// Checks the source's reference out, with its submodules, into the empty directory `into`; `.git` may be left there.
    /// Returns the commit's id. It ends soon after `cancel` is cancelled.
    ///
    /// # Errors
    /// What fetching fails with, without any password of the URL.
    fn checkout(
        &self,
        source: &GitSource,
        into: &Path,
        cancel: Option<&Cancel>,
    ) -> std::result::Result<String, Error>;
}

/// Fetches into `into`, an empty directory. Files are 0644 or 0755 then, whatever the mask of who fetched was.
///
/// # Errors
/// `Unsupported` where nobody was given to fetch; `Invalid` where the commit is another than the checksum.
pub(crate) fn checkout(
    git: Option<&dyn Git>,
    source: &GitSource,
    checksum: Option<&str>,
    into: &Dir,
    cancel: Option<&Cancel>,
) -> Result<String> {
    let Some(git) = git else {
        let what = format!("`{source}`: this program gives builds no way to fetch git repositories");
        return Err(Error::new(Kind::Unsupported, what));
    };
    let commit = git.checkout(source, into.path(), cancel)?;
    if let Some(wanted) = checksum.filter(|wanted| !commit.starts_with(wanted)) {
        return Err(Error::invalid(format!("`{source}` is the commit {commit}, and not {wanted}")));
    }
    if !source.keep_git_dir {
        into.remove_tree(".git")?;
    }
    plain_modes(into)?;
    Ok(commit)
}

fn plain_modes(dir: &Dir) -> Result<()> {
    let root = Root::new(dir.as_fd(), "the repository");
    let mut open = vec![std::path::PathBuf::new()];
    while let Some(path) = open.pop() {
        let at = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
        let fd = root.open(at, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
        for entry in rustix::fs::Dir::read_from(&fd).call(|| format!("getdents({path:?})"))? {
            let entry = entry.call(|| format!("getdents({path:?})"))?;
            let name = entry.file_name();
            if [&b"."[..], b".."].contains(&name.to_bytes()) {
                continue;
            }
            let call = || format!("chmod({path:?}, {name:?})");
            let stat = rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW).call(call)?;
            let mode = match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    use std::os::unix::ffi::OsStrExt;
                    open.push(path.join(std::ffi::OsStr::from_bytes(name.to_bytes())));
                    0o755
                }
                FileType::RegularFile if stat.st_mode & 0o100 != 0 => 0o755,
                FileType::RegularFile => 0o644,
                _ => continue,
            };
            rustix::fs::chmodat(&fd, name, Mode::from_raw_mode(mode), AtFlags::empty()).call(call)?;
        }
    }
    Ok(())
}
