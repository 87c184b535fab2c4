//! `--cache-to` and `--cache-from`: results of steps in a directory or a registry, for another machine or state directory.

use std::time::Instant;

use coracle::{Built, CacheMode, CacheOptions, Compression, CompressionOptions, Engine, ImportedCache};

use super::output::compression;
use super::progress::Progress;
use crate::fail::Fail;
use crate::{env, registry};

/// What one flag asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    at: At,
    options: CacheOptions,
    /// A failure is only told of.
    lenient: bool,
}

/// Where.
#[derive(Debug, PartialEq, Eq)]
enum At {
    /// A directory, and the tag in it or, to read, a digest.
    Directory(String, String),
    /// An image name.
    Registry(String),
}

/// The types that BuildKit has besides.
const OTHERS: [&str; 4] = ["inline", "gha", "s3", "azblob"];

impl Place {
    /// `type=local,dest=directory[,tag=…]` or `type=registry,ref=name`, either `[,mode=min|max][,ignore-error=true]`.
    pub(super) fn to(text: &str) -> Result<Place, Fail> {
        Place::parse(text, "cache-to", "dest")
    }

    /// `type=local,src=directory[,tag=…][,digest=sha256:…]`, `type=registry,ref=name`, or the name alone.
    pub(super) fn from(text: &str) -> Result<Place, Fail> {
        Place::parse(text, "cache-from", "src")
    }

    fn parse(text: &str, flag: &str, own: &str) -> Result<Place, Fail> {
        let bad = |what: &str| Fail::new(1, format!("build --{flag} {text}: {what}"));
        let written = own == "dest";
        if !text.contains('=') {
            let at = At::Registry(text.to_owned());
            return Ok(Place { at, options: CacheOptions::new(), lenient: false });
        }
        let kind = match text.split(',').find_map(|part| part.strip_prefix("type=")) {
            None => return Err(bad("a `type` is missing")),
            Some(kind @ ("local" | "registry")) => kind,
            Some(other) if OTHERS.contains(&other) => {
                return Err(bad(&format!("the type `{other}` is not supported, only local and registry")));
            }
            Some(other) => return Err(bad(&format!("there is no type `{other}`, only local and registry"))),
        };
        let (mut directory, mut name, mut tag) = (None, None, None);
        let (mut options, mut lenient) = (CacheOptions::new(), false);
        let (mut packing, mut level, mut force) = (Compression::None, None, false);
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or_else(|| bad("want key=value"))?;
            match (key, value) {
                ("type", _) => {}
                ("ref", value) => name = Some(value),
                (key, value) if key == own => directory = Some(value),
                ("tag", value) if !value.is_empty() => tag = Some(value),
                ("digest", value) if !written => tag = Some(value),
                ("mode", "min") if written => options = options.mode(CacheMode::Min),
                ("mode", "max") if written => options = options.mode(CacheMode::Max),
                ("ignore-error", value @ ("true" | "false")) if written => lenient = value == "true",
                // So it is written anyway.
                ("oci-mediatypes" | "image-manifest", "true") if written => {}
                ("force-compression", value @ ("true" | "false")) if written => force = value == "true",
                ("compression", value) if written => {
                    let known = compression(value);
                    packing = known.ok_or_else(|| bad(&format!("`{part}` is not supported")))?;
                }
                ("compression-level", value) if written => {
                    let known = value.parse().map_err(|_| bad(&format!("`{part}` is not supported")));
                    level = Some(known?);
                }
                (key, value) => return Err(bad(&format!("`{key}={value}` is not supported"))),
            }
        }
        let how = CompressionOptions::new(packing).force(force);
        options = options.compression(level.into_iter().fold(how, CompressionOptions::level));
        let wanted = |value: Option<&str>, name: &str| match value.filter(|value| !value.is_empty()) {
            Some(value) => Ok(value.to_owned()),
            None => Err(bad(&format!("a `{name}` is missing"))),
        };
        let at = match kind {
            "local" if name.is_some() => return Err(bad("`ref` goes with type=registry")),
            "local" => At::Directory(wanted(directory, own)?, tag.unwrap_or("latest").to_owned()),
            _ if tag.is_some() => return Err(bad("a tag or digest is part of `ref`")),
            _ if directory.is_some() => return Err(bad(&format!("`{own}` goes with type=local"))),
            _ => At::Registry(wanted(name, "ref")?),
        };
        Ok(Place { at, options, lenient })
    }

    /// Before a build. What can't be had is told of, and built, as BuildKit has it: that there is nothing yet is what the first
    /// build finds.
    pub(super) fn import(
        &self,
        engine: &Engine,
        progress: &mut Progress,
    ) -> Result<Option<ImportedCache>, Fail> {
        let began = Instant::now();
        let (name, done) = match &self.at {
            At::Directory(directory, tag) => (directory, engine.import_build_cache(directory, tag)),
            At::Registry(name) => (name, engine.pull_build_cache(name, &registry::options(name, &env::own)?)),
        };
        match done {
            Ok(cache) => {
                let says = format!("{} steps, {} layers to fetch from", cache.steps(), cache.layers());
                progress.did(&format!("importing cache manifest from {name}"), &[says], began.elapsed());
                return Ok(Some(cache));
            }
            Err(_) if progress.is_quiet() => {}
            Err(error) => crate::out::say(format!("WARNING: {error}")),
        }
        Ok(None)
    }

    /// After a build.
    pub(super) fn export(&self, engine: &Engine, built: &Built) -> Result<(), Fail> {
        let done = match &self.at {
            At::Directory(directory, tag) => engine.export_build_cache(built, directory, tag, self.options),
            At::Registry(name) => {
                engine.push_build_cache(built, name, self.options, &registry::options(name, &env::own)?)
            }
        };
        match done {
            Err(error) if self.lenient => {
                crate::out::say(format!("WARNING: {error}"));
                Ok(())
            }
            done => Ok(done.map(drop)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_and_how_much() {
        let local = |tag: &str| At::Directory("d".into(), tag.into());
        let named = |name: &str| At::Registry(name.into());
        let place = |at, mode| Place { at, options: CacheOptions::from(mode), lenient: false };
        for (text, expected) in [
            ("type=local,dest=d", place(local("latest"), CacheMode::Min)),
            ("type=local,mode=max,dest=d,tag=t", place(local("t"), CacheMode::Max)),
            ("type=registry,ref=h/x:c", place(named("h/x:c"), CacheMode::Min)),
            ("type=registry,ref=x,mode=max,image-manifest=true", place(named("x"), CacheMode::Max)),
            ("h/x:c", place(named("h/x:c"), CacheMode::Min)),
        ] {
            assert_eq!(Place::to(text).unwrap(), expected, "{text}");
        }
        for (text, expected) in [
            ("type=local,src=d", place(local("latest"), CacheMode::Min)),
            ("type=local,src=d,digest=sha256:0", place(local("sha256:0"), CacheMode::Min)),
            ("type=registry,ref=x", place(named("x"), CacheMode::Min)),
            ("x", place(named("x"), CacheMode::Min)),
        ] {
            assert_eq!(Place::from(text).unwrap(), expected, "{text}");
        }
        for (text, words) in [
            ("type=registry", "a `ref` is missing"),
            ("type=registry,ref=x,tag=y", "a tag or digest is part of `ref`"),
            ("type=registry,dest=x,ref=y", "`dest` goes with type=local"),
            ("type=local,dest=x,ref=y", "`ref` goes with type=registry"),
            ("type=registry,ref=x,image-manifest=false", "`image-manifest=false` is not supported"),
            ("type=inline", "the type `inline` is not supported"),
            ("type=gha", "the type `gha` is not supported"),
            ("type=s3,region=x,bucket=y", "the type `s3` is not supported"),
            ("type=other", "there is no type `other`"),
            ("type=local", "a `dest` is missing"),
            ("dest=x", "a `type` is missing"),
            ("type=local,dest=x,mode=most", "`mode=most` is not supported"),
            ("type=local,dest=x,compression=estargz", "`compression=estargz` is not supported"),
            ("type=local,dest=x,compression-level=most", "`compression-level=most` is not supported"),
        ] {
            let error = Place::to(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        let packed = Place::to("type=registry,ref=x,compression=zstd,force-compression=false").unwrap();
        assert_eq!(packed.options, CacheOptions::new().compression(Compression::Zstd));
        let packed =
            Place::to("type=local,dest=x,compression=gzip,compression-level=9,force-compression=true");
        let how = CompressionOptions::new(Compression::Gzip).level(9).force(true);
        assert_eq!(packed.unwrap().options, CacheOptions::new().compression(how));
        assert!(Place::from("type=local,src=x,mode=max").unwrap_err().to_string().contains("`mode=max`"));
    }
}
