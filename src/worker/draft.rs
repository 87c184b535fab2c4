//! A layer in the making: an overlay to change it through, or its own directory, never both at once.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_build::{Arrivals, Coming, Draft, DraftFiles, Error};
use coracle_host::Dir;
use coracle_layers::{ChainId, Forecast, LayerTree, Rootfs};

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
    Apart {
        dir: Dir,
        /// Its tar is being hashed while the last files come.
        forecast: Option<Box<Told>>,
    },
}

struct Told(Forecast);

impl Arrivals for Told {
    fn arrived(&self, nth: usize, file: Option<BorrowedFd<'_>>, content: Vec<u8>) -> Vec<u8> {
        self.0.arrived(nth, file, content)
    }
}

/// What a draft has come to.
#[derive(Default)]
pub(super) struct Drafted {
    /// A layer that this one may have files of.
    pub(super) like: Option<ChainId>,
    pub(super) forecast: Option<Forecast>,
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

    /// Makes sure that nothing is mounted any more.
    pub(super) fn end(self) -> Drafted {
        let forecast = match self.state {
            State::Apart { forecast, .. } => forecast.map(|told| told.0),
            State::Fresh | State::Mounted { .. } => None,
        };
        Drafted { like: self.like.map(|(id, _)| id), forecast }
    }

    fn apart(&mut self) -> Result<&Dir, Error> {
        if !matches!(self.state, State::Apart { .. }) {
            // An overlay does not hear of changes below it.
            self.state = State::Fresh;
            let dir = self.place.staged.dir().dir(UPPER).map_err(own)?;
            self.state = State::Apart { dir, forecast: None };
        }
        match &self.state {
            State::Apart { dir, .. } => Ok(dir),
            State::Fresh | State::Mounted { .. } => unreachable!("it was opened just now"),
        }
    }
}

impl Draft for Drafting<'_> {
    fn tree(&mut self) -> Result<BorrowedFd<'_>, Error> {
        if !matches!(self.state, State::Mounted { .. }) {
            if matches!(self.state, State::Apart { .. }) {
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
            State::Fresh | State::Apart { .. } => unreachable!("it was mounted just now"),
        }
    }

    fn has_layer(&self) -> bool {
        true
    }

    fn layer(&mut self) -> Result<Option<DraftFiles<'_>>, Error> {
        self.apart()?;
        let like = self.like.as_ref().map(|(_, like)| like.dir().as_fd());
        match &self.state {
            State::Apart { dir, forecast } => {
                let coming = forecast.as_deref().map(|told| told as &dyn Arrivals);
                Ok(Some(DraftFiles::new(dir.as_fd(), like).with_coming(coming)))
            }
            State::Fresh | State::Mounted { .. } => unreachable!("it was opened just now"),
        }
    }

    fn expect(&mut self, coming: Vec<Coming>) -> Result<(), Error> {
        let dir = self.apart()?.clone();
        let like = self.like.as_ref().map(|(id, _)| *id);
        let file = |file: Coming| {
            let Coming { path, size, mode, owner, modified, inode } = file;
            coracle_layers::Coming { path, size, mode, owner, modified, inode }
        };
        let coming = coming.into_iter().map(file).collect();
        let store = &self.builder.engine.store;
        let options = self.builder.upper_options(like);
        let forecast = store.forecast(self.on.layers.last(), &dir, &options, coming).map_err(own)?;
        self.state = State::Apart { dir, forecast: Some(Box::new(Told(forecast))) };
        Ok(())
    }
}
