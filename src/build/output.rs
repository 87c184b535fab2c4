//! A built image's files, outside of the store.

use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use coracle_host::{Call, Dir};
use coracle_layers::{CompressionOptions, UnpackOptions, unpack_tree};

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
        unpacked(path, |out| self.write_tar(image, out))
            .doing(|| format!("write the image's files to {path:?}"))
    }

    /// Writes one image into a directory as an OCI image layout, under these names and with its layers compressed like this: what
    /// `docker build -o type=oci,tar=false` gives. The directory is made if it is missing. Returns what [`Engine::save_image`] does.
    ///
    /// # Errors
    /// As of [`Engine::save_image`]; the host's.
    pub fn write_layout(
        &self,
        image: &Image,
        names: &[impl AsRef<str> + Sync],
        how: impl Into<CompressionOptions>,
        directory: impl AsRef<Path>,
    ) -> Result<(String, u64)> {
        let (path, how) = (directory.as_ref(), how.into());
        unpacked(path, |out| self.save_image(image, names, how, out))
            .doing(|| format!("write the image to {path:?}"))
    }
}

/// Unpacks in a directory what `write` writes, as it does.
fn unpacked<T: Send>(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<T> + Send) -> Result<T> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.call(|| format!("mkdir({path:?})"))?;
    let into = Dir::open(path)?;
    let (from, to) = std::io::pipe().call(|| "pipe2()")?;
    std::thread::scope(|scope| {
        let writer = std::thread::Builder::new().name("coracle-output".into());
        let writer = writer.spawn_scoped(scope, || {
            let mut to = std::io::BufWriter::new(to);
            let written = write(&mut to)?;
            to.flush().call(|| "write(pipe)")?;
            Ok(written)
        });
        let writer = writer.call(|| "clone(thread)")?;
        let read = unpack_tree(&into, Path::new(""), from, &UnpackOptions::new());
        let written = writer
            .join()
            .unwrap_or_else(|_| Err(Error::new(Kind::Other, "the thread that reads the image panicked")));
        // Where reading has failed, writing only says that nobody reads any more.
        Ok(read.map(drop)?).and(written)
    })
}
