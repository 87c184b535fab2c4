//! What is in an archive or a layout directory, by name.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use coracle_host::{Call, Dir, Kind, Root, StagedDir, Staging};
use rustix::fs::{FileType, OFlags};

use crate::apply::{Trust, components};
use crate::compression::Incoming;
use crate::digest::Hashing;
use crate::image::MOST_JSON;
use crate::layer::Keep;
use crate::tar::{Archive, What, show};
use crate::{Context, Digest, Error, Result};

/// More than any archive of images has; each takes some memory before anything of it is understood.
const MOST: usize = 1 << 16;
/// Links to links.
const MOST_LINKS: usize = 8;

/// The files of an archive that came in, each in a file of its own, or of a directory where it is.
pub(super) enum Members {
    Staged { home: StagedDir, files: HashMap<String, Member> },
    Layout(Dir),
}

pub(super) enum Member {
    /// The file of this name in the staged directory.
    File { name: String, digest: Digest },
    /// Another member's name.
    Link(String),
}

/// A member to read.
pub(super) struct Opened {
    pub file: File,
    pub size: u64,
    /// Known where it was read once already.
    pub digest: Option<Digest>,
}

impl Members {
    /// Takes in all of a tar (plain, gzip or zstd). What names a digest must have it.
    pub fn receive(staging: &Staging, tar: impl Read) -> Result<Members> {
        let home = staging.dir()?;
        let mut files = HashMap::new();
        let mut archive = Archive::new(Incoming::new(tar, None)?);
        while let Some(entry) = archive.next()? {
            let wrong = |error: Error| error.context(format!("entry {}", entry.name()));
            let parts = components(&entry.path, Trust::Import, "the name").map_err(wrong)?;
            let path = joined(&parts).map_err(wrong)?;
            let member = match &entry.what {
                What::Dir => continue,
                What::File { .. } => {
                    let name = files.len().to_string();
                    let digest = receive(home.dir(), &name, &mut archive).map_err(wrong)?;
                    check_name(&path, &digest).map_err(wrong)?;
                    Member::File { name, digest }
                }
                What::Symlink(to) => Member::Link(target(&parts, to).map_err(wrong)?),
                What::Hardlink(to) => {
                    let to = components(to, Trust::Import, "the link's target").map_err(wrong)?;
                    Member::Link(joined(&to).map_err(wrong)?)
                }
                What::Char { .. } | What::Block { .. } | What::Fifo => {
                    return Err(wrong(Error::invalid("an archive of images has only files and links")));
                }
            };
            files.insert(path, member);
            if files.len() > MOST {
                return Err(Error::invalid(format!("it has more than {MOST} members")));
            }
        }
        archive.drain()?;
        Ok(Members::Staged { home, files })
    }

    /// The member of that name.
    pub fn open(&self, path: &str) -> Result<Option<Opened>> {
        match self {
            Members::Staged { home, .. } => {
                let Some((name, digest)) = self.find(path)? else { return Ok(None) };
                let file = File::from(home.dir().file(name, OFlags::RDONLY, 0)?);
                let size = file.metadata().call(|| format!("fstat({path:?})"))?.len();
                Ok(Some(Opened { file, size, digest: Some(*digest) }))
            }
            Members::Layout(dir) => {
                let root = Root::new(dir.as_fd(), "image layout");
                let file = match root.open(path, OFlags::RDONLY | OFlags::NONBLOCK) {
                    Err(error) if error.kind() == Kind::NotFound => return Ok(None),
                    other => File::from(other?),
                };
                let stat = rustix::fs::fstat(&file).call(|| format!("fstat({path:?})"))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(Error::invalid(format!("{:?} is not a file", dir.path_of(path))));
                }
                Ok(Some(Opened { file, size: stat.st_size as u64, digest: None }))
            }
        }
    }

    /// The bytes of a small member.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some(opened) = self.open(path)? else { return Ok(None) };
        if opened.size > MOST_JSON {
            let text = format!("{path}: has {} bytes, more than the {MOST_JSON} expected", opened.size);
            return Err(Error::invalid(text));
        }
        let mut bytes = Vec::new();
        opened.file.take(MOST_JSON).read_to_end(&mut bytes).map_err(|error| Error::reading(path, &error))?;
        Ok(Some(bytes))
    }

    /// How a member's bytes become a blob of the store.
    pub fn keep<'a>(&'a self, path: &str, staging: &Staging) -> Result<Keep<'a>> {
        match self {
            Members::Staged { home, .. } => match self.find(path)? {
                Some((name, _)) => Ok(Keep::Move(home.dir(), name)),
                None => Err(absent(path)),
            },
            Members::Layout(_) => Ok(Keep::Copy(staging.file()?)),
        }
    }

    fn find(&self, path: &str) -> Result<Option<(&str, &Digest)>> {
        let Members::Staged { files, .. } = self else { return Ok(None) };
        let mut path = path;
        for _ in 0..=MOST_LINKS {
            match files.get(path) {
                None => return Ok(None),
                Some(Member::File { name, digest }) => return Ok(Some((name, digest))),
                Some(Member::Link(to)) => path = to,
            }
        }
        Err(Error::invalid(format!("{path}: too many links")))
    }
}

/// A member that another one speaks of is not there.
pub(super) fn absent(path: &str) -> Error {
    Error::corrupt(format!("{path} is not in the archive"))
}

fn receive(home: &Dir, name: &str, data: &mut impl Read) -> Result<Digest> {
    let file = home.file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, 0o600)?;
    let mut out = Hashing::new(File::from(file));
    let mut chunk = vec![0; 128 << 10];
    loop {
        let read = match data.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(|error| Error::reading("archive", &error))?,
        };
        if read == 0 {
            return Ok(out.digest());
        }
        out.write_all(&chunk[..read]).call(|| "write(staged member)")?;
    }
}

/// What is under `blobs/sha256/` must be what its name says.
fn check_name(path: &str, digest: &Digest) -> Result<()> {
    match path.strip_prefix("blobs/sha256/") {
        Some(hex) if hex != digest.hex() => {
            Err(Error::corrupt(format!("its bytes have another digest than its name says: {digest}")))
        }
        _ => Ok(()),
    }
}

fn joined(parts: &[&[u8]]) -> Result<String> {
    String::from_utf8(parts.join(&b'/')).map_err(|_| Error::invalid("the name is not UTF-8"))
}

/// Where a symbolic link leads inside the archive, by its text alone.
fn target(parts: &[&[u8]], to: &[u8]) -> Result<String> {
    let out = || Error::invalid(format!("a link to {}, which leads out of the archive", show(to)));
    if to.starts_with(b"/") {
        return Err(out());
    }
    let mut at: Vec<&[u8]> = parts[..parts.len().saturating_sub(1)].to_vec();
    for part in to.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                at.pop().ok_or_else(out)?;
            }
            part => at.push(part),
        }
    }
    joined(&at)
}

impl Members {
    /// Reads and parses a small member, if it is there.
    pub fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        let Some(bytes) = self.read(path)? else { return Ok(None) };
        crate::json::parse(&bytes, || path.to_owned()).map(Some)
    }

    /// The bytes of a small blob, verified.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let path = format!("blobs/sha256/{}", digest.hex());
        let Some(bytes) = self.read(&path)? else { return Ok(None) };
        if Digest::of(&bytes) != *digest {
            return Err(Error::corrupt(format!("{path}: other bytes than its digest says")));
        }
        Ok(Some(bytes))
    }

    /// Opens a layout directory.
    pub fn layout(dir: &Dir) -> Result<Members> {
        let members = Members::Layout(dir.clone());
        match members.open(super::LAYOUT).context(|| "open image layout")? {
            Some(_) => Ok(members),
            None => {
                let text =
                    format!("{:?} is no image layout: there is no {} in it", dir.path(), super::LAYOUT);
                Err(Error::new(Kind::Invalid, text))
            }
        }
    }
}
