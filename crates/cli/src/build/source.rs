//! Where the context and the Dockerfile come from: a directory, or standard input.

use std::io::{Cursor, Read};
use std::path::Path;

use coracle::{BuildSpec, Engine, Fetch, GitSource, Remote, RemoteContext, Unpacked};

use super::Args;
use super::git::ByProgram;
use crate::env;
use crate::fail::Fail;

/// Where from, before anything is read.
pub(super) enum Source<'a> {
    /// A directory with its Dockerfile, or with another one.
    Directory(&'a str, Option<&'a str>),
    /// Something to be fetched, and the Dockerfile's name in it.
    Remote(Remote, Option<&'a str>),
    /// A directory, and the Dockerfile on standard input.
    TextFor(&'a str),
    /// A Dockerfile or an archive on standard input, and the Dockerfile's name in the archive.
    Stream(Option<&'a str>),
}

/// Enough to tell an archive from a Dockerfile.
const HEAD: u64 = 512;

impl<'a> Source<'a> {
    pub(super) fn of(args: &'a Args) -> Result<Source<'a>, Fail> {
        Ok(match (args.path.as_str(), args.file.as_deref()) {
            ("-", Some("-")) => {
                return Err(Fail::new(1, "build: standard input can't be both Dockerfile and context"));
            }
            ("-", file) => Source::Stream(file),
            (path, file) => match (remote(path), file) {
                (Some(remote), Some("-")) => {
                    let what =
                        format!("build -f - {remote}: a Dockerfile on standard input goes with a directory");
                    return Err(Fail::new(1, what));
                }
                (Some(mut remote), file) => {
                    if let Remote::Git(git) = &mut remote {
                        git.keep_git_dir = args.keeps_git_dir();
                    }
                    Source::Remote(remote, file)
                }
                (None, Some("-")) => Source::TextFor(path),
                (None, file) => Source::Directory(path, file),
            },
        })
    }

    /// The spec, and what has to be kept while it is built.
    pub(super) fn open(self, engine: &Engine) -> Result<(Option<Unpacked>, BuildSpec), Fail> {
        match self {
            Source::Remote(remote, file) => match fetch(engine, &remote)? {
                RemoteContext::Directory(context) => {
                    let spec = below(&context, file);
                    Ok((Some(context), spec))
                }
                RemoteContext::Dockerfile(text) => match file {
                    None => Ok((None, BuildSpec::without_context(text))),
                    Some(file) => Err(Fail::new(
                        1,
                        format!("build -f {file} {remote}: it is no archive that could have it"),
                    )),
                },
                other => Err(Fail::new(1, format!("build {remote}: it came to {other:?}"))),
            },
            other => other.read(std::io::stdin(), |archive| Ok(engine.unpack_context(archive)?)),
        }
    }

    fn read<R: Read + Send + 'static>(
        self,
        mut input: R,
        unpack: impl FnOnce(Box<dyn Read>) -> Result<Unpacked, Fail>,
    ) -> Result<(Option<Unpacked>, BuildSpec), Fail> {
        let failed = |error| Fail::new(1, format!("read standard input: {error}"));
        match self {
            Source::Directory(path, None) => Ok((None, BuildSpec::new(path))),
            Source::Directory(path, Some(file)) => Ok((None, BuildSpec::new(path).file(file))),
            Source::TextFor(path) => {
                let mut text = Vec::new();
                input.read_to_end(&mut text).map_err(failed)?;
                Ok((None, BuildSpec::new(path).dockerfile_text(text)))
            }
            Source::Stream(file) => {
                let mut head = Vec::new();
                input.by_ref().take(HEAD).read_to_end(&mut head).map_err(failed)?;
                if !is_archive(&head) {
                    if let Some(file) = file {
                        return Err(Fail::new(
                            1,
                            format!("build -f {file} -: there is no archive on standard input"),
                        ));
                    }
                    input.read_to_end(&mut head).map_err(failed)?;
                    return Ok((None, BuildSpec::without_context(head)));
                }
                let context = unpack(Box::new(Cursor::new(head).chain(input)))?;
                let spec = below(&context, file);
                Ok((Some(context), spec))
            }
            Source::Remote(remote, _) => {
                Err(Fail::new(1, format!("build {remote}: it is not standard input")))
            }
        }
    }
}

/// What this program fetches itself.
pub(super) fn fetch(engine: &Engine, remote: &Remote) -> Result<RemoteContext, Fail> {
    let how = Fetch::new().git(&ByProgram).proxies(env::proxies(&env::own));
    Ok(engine.fetch_context(remote, &how)?)
}

/// A context that came whole, its Dockerfile in it.
fn below(context: &Unpacked, file: Option<&str>) -> BuildSpec {
    let spec = BuildSpec::new(context.path());
    match file {
        Some(file) => spec.file(context.path().join(file.trim_start_matches('/'))),
        None => spec,
    }
}

/// What is no path: as ADD takes it, and `github.com/…` besides, which docker's command line knows.
pub(super) fn remote(path: &str) -> Option<Remote> {
    match path.strip_prefix("github.com/") {
        Some(_) if !Path::new(path).exists() => {
            Some(Remote::Git(GitSource::parse(&format!("https://{path}"))))
        }
        _ => Remote::parse(path),
    }
}

/// Whether this is a tar, or something compressed, rather than a Dockerfile.
fn is_archive(bytes: &[u8]) -> bool {
    const MAGIC: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"];
    MAGIC.iter().any(|magic| bytes.starts_with(magic)) || bytes.get(257..262) == Some(b"ustar")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Command;
    use crate::cli::tests::parsed;

    pub(crate) fn spec(line: &str, input: &'static [u8]) -> Result<BuildSpec, Fail> {
        let Ok(Command::Build(args)) = parsed(line) else { panic!("{line}: refused") };
        Ok(Source::of(&args)?.read(input, |_| Err(Fail::new(1, "an archive")))?.1)
    }

    #[test]
    fn the_context_is_a_directory_or_a_stream() {
        let table = [
            ("build .", BuildSpec::new(".")),
            ("build -f x/Dockerfile x", BuildSpec::new("x").file("x/Dockerfile")),
            ("build -f - .", BuildSpec::new(".").dockerfile_text("FROM a")),
            ("build -", BuildSpec::without_context("FROM a")),
        ];
        for (line, expected) in table {
            assert_eq!(format!("{:?}", spec(line, b"FROM a").unwrap()), format!("{expected:?}"), "{line}");
        }
        for (line, input, words) in [
            ("build -f - -", &b"FROM a"[..], "both"),
            ("build -f x -", b"FROM a", "no archive"),
            ("build -f - https://example.org/x.git", b"", "goes with a directory"),
            ("build -", b"\x1f\x8b\x08", "an archive"),
        ] {
            let error = spec(line, input).unwrap_err().to_string();
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    #[test]
    fn archives_are_no_dockerfiles() {
        assert!(is_archive(b"\x1f\x8b\x08"));
        assert!(!is_archive(b"FROM scratch\n"));
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert!(is_archive(&tar));
    }
}
