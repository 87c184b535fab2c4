//! `-o`: where a build goes besides this engine's store.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use coracle::{Engine, Image};

use crate::fail::Fail;

/// What one `-o` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// The store alone, where every build goes.
    Store,
    /// The image's files in a directory.
    Directory(String),
    /// The image's files as a tar; `None` is standard output.
    Tar(Option<String>),
    /// The image as an archive that is an OCI layout and docker's; `None` is standard output.
    Archive(Option<String>),
}

impl Output {
    /// `directory`, `-`, or `type=…,dest=…`.
    pub(super) fn parse(text: &str) -> Result<Output, Fail> {
        let bad = |what: &str| Fail::new(1, format!("build -o {text}: {what}"));
        if text == "-" {
            return Ok(Output::Tar(None));
        }
        if !text.contains('=') {
            return Ok(Output::Directory(text.to_owned()));
        }
        let (mut kind, mut dest) = (None, None);
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or_else(|| bad("want key=value"))?;
            match key {
                "type" => kind = Some(value),
                "dest" => dest = Some(value.to_owned()),
                // The archive is a tar anyway.
                "tar" if value == "true" => {}
                "push" if value == "false" => {}
                other => return Err(bad(&format!("`{other}={value}` is not supported yet"))),
            }
        }
        let file = dest.clone().filter(|dest| dest != "-");
        match (kind.ok_or_else(|| bad("a `type` is missing"))?, dest) {
            ("local", Some(dest)) => Ok(Output::Directory(dest)),
            ("local", None) => Err(bad("a `dest` is missing")),
            ("tar", _) => Ok(Output::Tar(file)),
            ("oci", _) | ("docker", Some(_)) => Ok(Output::Archive(file)),
            ("docker" | "image" | "cacheonly", None) => Ok(Output::Store),
            (other, _) => Err(bad(&format!("the type `{other}` is not supported"))),
        }
    }

    pub(super) fn is_stdout(&self) -> bool {
        matches!(self, Output::Tar(None) | Output::Archive(None))
    }

    pub(super) fn write(&self, engine: &Engine, image: &Image, tags: &[String]) -> Result<(), Fail> {
        // By its names, so that they are in the archive.
        let names = || match tags.is_empty() {
            true => vec![image.id()],
            false => tags.iter().map(|tag| with_tag(tag)).collect(),
        };
        match self {
            Output::Store => Ok(()),
            Output::Directory(path) => Ok(engine.write_directory(image, path)?),
            Output::Tar(path) => to(path.as_deref(), |out| Ok(engine.write_tar(image, out)?)),
            Output::Archive(path) => to(path.as_deref(), |out| Ok(engine.save(&names(), out)?)),
        }
    }
}

/// One image, not all of its repository.
fn with_tag(name: &str) -> String {
    match name.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => name.to_owned(),
        _ => format!("{name}:latest"),
    }
}

fn to(path: Option<&str>, write: impl FnOnce(&mut dyn Write) -> Result<(), Fail>) -> Result<(), Fail> {
    let Some(path) = path else {
        let mut out = io::stdout().lock();
        write(&mut out)?;
        return Ok(out.flush()?);
    };
    let failed = |error| Fail::new(1, format!("write({path:?}): {error}"));
    let mut out = BufWriter::new(File::create(path).map_err(failed)?);
    write(&mut out)?;
    out.into_inner().map_err(|error| failed(error.into_error())).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to() {
        let file = |name: &str| Some(name.to_owned());
        for (text, output) in [
            ("out", Output::Directory("out".into())),
            ("-", Output::Tar(None)),
            ("type=local,dest=out", Output::Directory("out".into())),
            ("type=tar,dest=o.tar", Output::Tar(file("o.tar"))),
            ("type=tar,dest=-", Output::Tar(None)),
            ("type=oci,dest=o.tar", Output::Archive(file("o.tar"))),
            ("type=docker,dest=o.tar", Output::Archive(file("o.tar"))),
            ("type=docker", Output::Store),
            ("type=image,push=false", Output::Store),
        ] {
            assert_eq!(Output::parse(text).unwrap(), output, "{text}");
        }
        for (text, words) in [
            ("type=local", "a `dest` is missing"),
            ("dest=x", "a `type` is missing"),
            ("type=registry,dest=x", "`registry` is not supported"),
            ("type=oci,dest=x,tar=false", "`tar=false` is not supported"),
            ("type=image,push=true", "`push=true` is not supported"),
        ] {
            let error = Output::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert_eq!(with_tag("host:5000/a"), "host:5000/a:latest");
        assert_eq!(with_tag("a:1"), "a:1");
    }
}
