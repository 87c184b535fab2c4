//! A container among the mounts of others: its root is mounted there, and stays until it is taken away.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use coracle_host::{Dir, Mount};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{During, Error, Result};
use crate::record::{self, Home};

/// Where the mounts of this program are.
const OWN: &str = "/proc/self/ns/mnt";

/// Of its directory.
const NAME: &str = "mounted";

/// Whose mounts a container's are among.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Among {
    /// Nobody's.
    Own,
    /// Those of the namespace at the path.
    Others(PathBuf),
}

impl Among {
    /// config-linux.md, "Namespaces": the one at the path, or the runtime's where the type is not named.
    pub(crate) fn of(spec: &Spec) -> Among {
        let mut all = spec.linux().iter().flat_map(|linux| linux.namespaces()).flatten();
        match all.find(|namespace| namespace.typ() == LinuxNamespaceType::Mount) {
            None => Among::Others(OWN.into()),
            Some(namespace) => namespace.path().clone().map_or(Among::Own, Among::Others),
        }
    }

    /// That no other container has this root among the same mounts: which of the two is on top would be all that counts.
    pub(crate) fn have_no_other(&self, home: &Home, at: &Path) -> Result<()> {
        let Among::Others(path) = self else { return Ok(()) };
        let namespace = identity(&open(path)?, path)?;
        for id in home.ids()? {
            let Some(dir) = home.open()?.dir_if_there(&id)? else { continue };
            if Mounted::of(&dir)?.is_some_and(|other| other.at == at && other.namespace == namespace) {
                return Err(Error::new(format!("root.path: {at:?} is the root of container `{id}`")));
            }
        }
        Ok(())
    }
}

/// Written before the root is mounted, so that whoever finds the container knows what may be there.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mounted {
    at: PathBuf,
    /// As of [`Mount::id`].
    id: u64,
    /// As the namespace was found.
    path: PathBuf,
    /// Its device and inode.
    namespace: (u64, u64),
}

impl Mounted {
    /// Says that the root will be mounted there.
    pub(crate) fn note(dir: &Dir, root: &Mount, at: &Path, namespace: &Path) -> Result<()> {
        let (at, path) = (at.to_owned(), namespace.to_owned());
        let namespace = identity(&open(namespace)?, namespace)?;
        let noted = Mounted { at, id: root.id()?, path, namespace };
        let text = serde_json::to_vec_pretty(&noted).during(|| "write down what is mounted".to_owned())?;
        record::replace(&dir.path_of(NAME), &text)
    }

    /// What was written down.
    pub(crate) fn of(dir: &Dir) -> Result<Option<Mounted>> {
        let Some(bytes) = dir.read_if_there(NAME)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).during(|| format!("read {:?}", dir.path_of(NAME)))
    }

    /// Takes the root away, with all that is mounted in it; where its namespace is gone, so is the root.
    pub(crate) fn take_away(&self) -> Result<()> {
        let Some(namespace) = self.namespace()? else { return Ok(()) };
        match Mount::detach(namespace.as_fd(), &self.at, self.id) {
            // It is a namespace of another kind, where nothing was mounted.
            Err(error) if error.errno() == Some(Errno::INVAL) => Ok(()),
            detached => Ok(detached.map(drop)?),
        }
    }

    /// By its path, or by a process that is in it.
    fn namespace(&self) -> Result<Option<File>> {
        let is = |path: &Path| {
            let file = open(path).ok()?;
            (identity(&file, path).ok()? == self.namespace).then_some(file)
        };
        if let Some(file) = is(Path::new(OWN)).or_else(|| is(&self.path)) {
            return Ok(Some(file));
        }
        let processes = std::fs::read_dir("/proc").during(|| "read \"/proc\"".to_owned())?;
        Ok(processes.flatten().find_map(|process| is(&process.path().join("ns/mnt"))))
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).during(|| format!("open the mount namespace {path:?}"))
}

fn identity(file: &File, path: &Path) -> Result<(u64, u64)> {
    let about = file.metadata().during(|| format!("stat({path:?})"))?;
    Ok((about.dev(), about.ino()))
}
