//! Standard output and error, either of which may be closed.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::fail::Fail;

/// Prints a line on standard output, at once.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Prints text on standard output, at once.
pub(crate) fn text(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{text}")?;
    out.flush()
}

/// Prints a line on standard error. Where that is closed, nobody is there to be told.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Bytes that are written to a file or pipe at once.
pub(crate) const CHUNK: usize = 128 << 10;

/// Where an archive is written: standard output, or a file that is there only when it is whole.
pub(crate) struct Target {
    file: Option<(File, PathBuf, PathBuf)>,
}

impl Target {
    /// Nobody wants an archive on a terminal; `verb` is what is refused then.
    pub(crate) fn open(path: Option<&str>, verb: &str) -> Result<Target, Fail> {
        let Some(path) = path.filter(|path| !path.is_empty()) else {
            if io::stdout().is_terminal() {
                let text = format!("cowardly refusing to {verb} to a terminal. Use the -o flag or redirect");
                return Err(Fail::new(1, text));
            }
            return Ok(Target { file: None });
        };
        let path = PathBuf::from(path);
        // A device or a pipe is written to, and a file replaced.
        if let Ok(known) = path.metadata()
            && !known.is_file()
        {
            let why = if known.is_dir() { "is a directory" } else { "is no regular file" };
            return Err(Fail::new(1, format!("invalid output path: {path:?} {why}")));
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(name);
        // Images and file systems may hold what is not for everybody.
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)
            .map_err(|error| Fail::new(1, format!("invalid output path: open({part:?}): {error}")))?;
        Ok(Target { file: Some((file, part, path)) })
    }

    /// All was written.
    pub(crate) fn done(mut self) -> Result<(), Fail> {
        let Some((_, part, path)) = self.file.take() else { return Ok(()) };
        std::fs::rename(&part, &path).map_err(|error| {
            let _ = std::fs::remove_file(&part);
            Fail::new(1, format!("rename({part:?}, {path:?}): {error}"))
        })
    }
}

impl Write for &Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.file {
            Some((file, ..)) => (&mut &*file).write(bytes),
            None => io::stdout().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.file.is_none() { io::stdout().flush() } else { Ok(()) }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some((_, part, _)) = &self.file {
            let _ = std::fs::remove_file(part);
        }
    }
}
