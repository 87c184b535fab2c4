//! A layer in the making: an overlay to change it through, or its own directory, never both at once.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_build::{Draft, DraftFiles, Error};
use coracle_host::Dir;
use coracle_layers::{ChainId, LayerTree, Rootfs};

use super::{Builder, Change, Snapshot, UPPER, WORK, directory, own};

pub(super) struct Drafting<'a> {
    builder: &'a Builder<'a>,
    on: &'a Snapshot,
    place: &'a Change,
    like: Option<(ChainId, LayerTree)>,
    state: State,
}

enum State {
    /// Never mounted so far.
    Fresh,
    Mounted {
        // The root first: the mount goes with the last of both.
        root: OwnedFd,
        _rootfs: Rootfs,
    },
    Apart(Dir),
}

impl<'a> Drafting<'a> {
    pub(super) fn new(
        builder: &'a Builder<'a>,
        on: &'a Snapshot,
        place: &'a Change,
        like: Option<&str>,
    ) -> Result<Drafting<'a>, Error> {
        // A layer below would see its own files twice, as one.
        let like = like.and_then(|id| id.parse::<ChainId>().ok()).filter(|id| !on.layers.contains(id));
        let like = match like {
            Some(id) => builder.engine.store.layer_tree(&id).map_err(own)?.map(|tree| (id, tree)),
            None => None,
        };
        Ok(Drafting { builder, on, place, like, state: State::Fresh })
    }

    /// Makes sure that nothing is mounted any more. Returns the layer that this one may have files of.
    pub(super) fn end(self) -> Option<ChainId> {
        self.like.map(|(id, _)| id)
    }
}

impl Draft for Drafting<'_> {
    fn tree(&mut self) -> Result<BorrowedFd<'_>, Error> {
        if !matches!(self.state, State::Mounted { .. }) {
            if matches!(self.state, State::Apart(_)) {
                // It says that it was mounted without care for crashes, which the kernel does twice only when told so.
                let dir = self.place.staged.dir();
                dir.remove_tree(WORK).map_err(own)?;
                dir.make(WORK, 0o755).map_err(own)?;
            }
            let rootfs = self.builder.mount(self.on, self.place)?;
            self.state = State::Mounted { root: directory(&rootfs.mount)?, _rootfs: rootfs };
        }
        match &self.state {
            State::Mounted { root, .. } => Ok(root.as_fd()),
            State::Fresh | State::Apart(_) => unreachable!("it was mounted just now"),
        }
    }

    fn has_layer(&self) -> bool {
        true
    }

    fn layer(&mut self) -> Result<Option<DraftFiles<'_>>, Error> {
        if !matches!(self.state, State::Apart(_)) {
            // An overlay does not hear of changes below it.
            self.state = State::Fresh;
            self.state = State::Apart(self.place.staged.dir().dir(UPPER).map_err(own)?);
        }
        let like = self.like.as_ref().map(|(_, like)| like.dir().as_fd());
        match &self.state {
            State::Apart(dir) => Ok(Some(DraftFiles::new(dir.as_fd(), like))),
            State::Fresh | State::Mounted { .. } => unreachable!("it was opened just now"),
        }
    }
}
