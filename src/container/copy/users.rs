//! Files of a running container with a user namespace: outside of it they belong to other ids than it sees.

use std::io::{self, Read};
use std::path::Path;

use coracle_host::{Call, Dir};
use coracle_layers::{Ids, Owners, UnpackOptions, unpack_tree};
use coracle_runtime::{IdMap, IdRange, UserNamespace};

use crate::Kind;
use crate::error::{Error, Result};

/// Who they belong to.
pub(super) struct Users {
    namespace: UserNamespace,
    owners: Owners,
}

impl Users {
    /// Of a container with this mapping.
    pub(super) fn new(map: &IdMap) -> Result<Users> {
        let ids = |range: &IdRange| Ids { archive: range.inside, tree: range.outside, count: range.count };
        let owners = Owners::new(map.users().iter().map(ids), map.groups().iter().map(ids));
        Ok(Users { namespace: UserNamespace::new(map)?, owners })
    }

    /// In archives they belong to whom the container sees.
    pub(super) fn owners(&self) -> &Owners {
        &self.owners
    }

    /// Unpacks an archive as the namespace's root: its file system has no files of anybody whom it doesn't know. The
    /// archive is read on this thread.
    pub(super) fn unpack(
        &self,
        root: &Dir,
        at: &Path,
        mut tar: impl Read,
        options: &UnpackOptions,
    ) -> Result<()> {
        let options = options.clone().owners(self.owners.clone());
        let (reader, mut writer) = io::pipe().call(|| "pipe()")?;
        std::thread::scope(|scope| {
            let unpacker = scope.spawn(|| {
                self.namespace.as_root(move || unpack_tree(root, at, reader, &options)).map_err(Error::from)
            });
            let read = io::copy(&mut tar, &mut writer);
            drop(writer);
            let unpacked = unpacker.join();
            let unpacked = unpacked.map_err(|_| Error::new(Kind::Other, "the unpacking thread ended"))?;
            match (unpacked?, read) {
                (Ok(()), Ok(_)) => Ok(()),
                (Err(error), Ok(_)) => Err(error.into()),
                // Who unpacks has said why it reads no further; else the archive can't be read.
                (Err(error), Err(read)) if read.kind() == io::ErrorKind::BrokenPipe => Err(error.into()),
                (_, Err(read)) => Err(Error::new(Kind::Other, format!("read the archive: {read}"))),
            }
        })
    }
}
