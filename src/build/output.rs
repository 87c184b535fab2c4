//! A built image's files, outside of the store.

use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use coracle_host::{Call, Dir};
use coracle_layers::{UnpackOptions, unpack_tree};

use crate::error::{Doing, Error, Result};
use crate::{Engine, Image, Kind};

impl Engine {
    /// Writes the files of an image as one tar: what `docker build -o type=tar` gives. It is written as it is read: after
    /// a failure `out` has got a part of it. Sockets are left out.
    ///
    /// # Errors
    /// What writing fails with; `NotFound` where the image's layers were removed.
    pub fn write_tar(&self, image: &Image, out: impl Write) -> Result<()> {
        let staged = self.0.state.staging.dir()?;
        let empty = staged.dir().make_new("upper", 0o755)?;
        self.0.store.export(image.stored().layers(), &empty, out).doing(|| "write the image's files")
    }

    /// Copies the files of an image into a directory, which is made if it is missing: what `docker build -o directory`
    /// gives. What is there already stays, unless the image has something of the same name. Nothing is written through
    /// links in it.
    ///
    /// # Errors
    /// As of [`Engine::write_tar`]; the host's.
    pub fn write_directory(&self, image: &Image, directory: impl AsRef<Path>) -> Result<()> {
        let path = directory.as_ref();
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
        made.call(|| format!("mkdir({path:?})"))?;
        let into = Dir::open(path)?;
        let (from, to) = std::io::pipe().call(|| "pipe2()")?;
        let doing = || format!("write the image's files to {path:?}");
        std::thread::scope(|scope| {
            let writer = std::thread::Builder::new().name("coracle-output".into());
            let writer = writer.spawn_scoped(scope, || self.write_tar(image, std::io::BufWriter::new(to)));
            let writer = writer.call(|| "clone(thread)")?;
            let read = unpack_tree(&into, Path::new(""), from, &UnpackOptions::new()).doing(doing);
            let written = writer
                .join()
                .unwrap_or_else(|_| Err(Error::new(Kind::Other, "the thread that reads the image panicked")));
            // Where reading has failed, writing only says that nobody reads any more.
            read.and(written)
        })
    }
}
