//! `--build-context`: what a name stands for in FROM, `--from` and mounts.

use coracle::{BuildSpec, Engine, Remote, RemoteContext, Unpacked};

use super::source::{fetch, remote};
use crate::fail::Fail;

/// What is said to be a context, before anything is read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meant {
    Directory(String),
    Image(String),
    /// An OCI image layout, a directory or a tar, and the tag or digest of the image in it.
    Layout(String, Option<String>),
    Remote(Remote),
}

/// `name=directory`, `name=docker-image://image`, `name=oci-layout://path[:tag][@digest]`, or `name=` and a URL or
/// repository.
pub(super) fn parse(text: &str) -> Result<(&str, Meant), Fail> {
    let Some((name, value)) =
        text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty())
    else {
        return Err(Fail::new(1, format!("build --build-context {text}: want name=directory")));
    };
    if let Some(remote) = remote(value) {
        return Ok((name, Meant::Remote(remote)));
    }
    let meant = match value.split_once("://") {
        Some(("docker-image", image)) => Meant::Image(image.to_owned()),
        Some(("oci-layout", path)) => layout(path),
        Some((scheme, _)) => {
            let what = format!("build --build-context {name}: there are no contexts of the kind {scheme}://");
            return Err(Fail::new(1, what));
        }
        None => Meant::Directory(value.to_owned()),
    };
    Ok((name, meant))
}

fn layout(path: &str) -> Meant {
    if let Some((path, digest)) = path.split_once('@') {
        // Where both are said the digest is more.
        let path = match path.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => path,
            _ => path,
        };
        return Meant::Layout(path.to_owned(), Some(digest.to_owned()));
    }
    match path.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => Meant::Layout(path.to_owned(), Some(tag.to_owned())),
        _ => Meant::Layout(path.to_owned(), None),
    }
}

/// The spec with its contexts, and what has to be kept while it is built.
pub(super) fn add(
    engine: &Engine,
    contexts: &[String],
    mut spec: BuildSpec,
) -> Result<(Vec<Unpacked>, BuildSpec), Fail> {
    let mut kept = Vec::new();
    for text in contexts {
        let (name, meant) = parse(text)?;
        spec = match meant {
            Meant::Directory(path) => spec.context_directory(name, path),
            Meant::Image(image) => spec.context_image(name, image),
            Meant::Layout(path, wanted) => {
                spec.context_image(name, engine.load_one(path, wanted.as_deref())?.id())
            }
            Meant::Remote(remote) => match fetch(engine, &remote)? {
                RemoteContext::Directory(context) => {
                    let spec = spec.context_directory(name, context.path());
                    kept.push(context);
                    spec
                }
                _ => {
                    let what =
                        format!("build --build-context {name}: {remote} is no archive and no repository");
                    return Err(Fail::new(1, what));
                }
            },
        };
    }
    Ok((kept, spec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_stands_for() {
        let layout = |path: &str, wanted: Option<&str>| Meant::Layout(path.into(), wanted.map(str::to_owned));
        for (text, meant) in [
            ("d=/x", Meant::Directory("/x".into())),
            ("i=docker-image://a:1", Meant::Image("a:1".into())),
            ("l=oci-layout://./x", layout("./x", None)),
            ("l=oci-layout:///x:1.0", layout("/x", Some("1.0"))),
            ("l=oci-layout:///x:1.0@sha256:00", layout("/x", Some("sha256:00"))),
            ("l=oci-layout:///a:b/x", layout("/a:b/x", None)),
            ("r=https://h/x.tar", Meant::Remote(Remote::Web("https://h/x.tar".into()))),
        ] {
            assert_eq!(parse(text).unwrap().1, meant, "{text}");
        }
        for (text, words) in [
            ("x", "want name=directory"),
            ("x=", "want name"),
            ("x=ftp://y", "no contexts of the kind ftp://"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
