//! `--cache-to` and `--cache-from`: results of steps in a directory, for another machine or state directory.

use coracle::{Built, CacheMode, Engine, Kind};

use crate::fail::Fail;

/// What one flag asks for: where, and under which tag or, to read, digest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    directory: String,
    tag: String,
    mode: CacheMode,
    /// A failure is only told of.
    lenient: bool,
}

impl Place {
    /// `type=local,dest=directory[,mode=min|max][,tag=…][,ignore-error=true]`.
    pub(super) fn to(text: &str) -> Result<Place, Fail> {
        Place::parse(text, "cache-to", "dest")
    }

    /// `type=local,src=directory[,tag=…][,digest=sha256:…]`.
    pub(super) fn from(text: &str) -> Result<Place, Fail> {
        Place::parse(text, "cache-from", "src")
    }

    fn parse(text: &str, flag: &str, own: &str) -> Result<Place, Fail> {
        let bad = |what: &str| Fail::new(1, format!("build --{flag} {text}: {what}"));
        if !text.contains('=') {
            return Err(bad("there is no registry to speak with yet: want type=local"));
        }
        let (mut kind, mut directory) = (None, None);
        let mut place =
            Place { directory: String::new(), tag: "latest".into(), mode: CacheMode::Min, lenient: false };
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or_else(|| bad("want key=value"))?;
            match (key, value) {
                ("type", value) => kind = Some(value),
                (key, value) if key == own => directory = Some(value.to_owned()),
                ("tag", value) if !value.is_empty() => value.clone_into(&mut place.tag),
                ("digest", value) if own == "src" => value.clone_into(&mut place.tag),
                ("mode", "min") if own == "dest" => place.mode = CacheMode::Min,
                ("mode", "max") if own == "dest" => place.mode = CacheMode::Max,
                ("ignore-error", value @ ("true" | "false")) if own == "dest" => {
                    place.lenient = value == "true"
                }
                // So it is written anyway.
                ("oci-mediatypes" | "image-manifest", "true") | ("compression", "uncompressed") => {}
                (key, value) => return Err(bad(&format!("`{key}={value}` is not supported"))),
            }
        }
        match kind {
            Some("local") => {}
            Some(other) => return Err(bad(&format!("the type `{other}` is not supported yet, only local"))),
            None => return Err(bad("a `type` is missing")),
        }
        place.directory =
            directory.filter(|d| !d.is_empty()).ok_or_else(|| bad(&format!("a `{own}` is missing")))?;
        Ok(place)
    }

    /// Before a build. That there is nothing yet is what the first build finds.
    pub(super) fn import(&self, engine: &Engine) -> Result<(), Fail> {
        match engine.import_build_cache(&self.directory, &self.tag) {
            Err(error) if error.kind() == Kind::NotFound => {
                crate::out::say(format!("WARNING: {error}"));
                Ok(())
            }
            done => Ok(done.map(drop)?),
        }
    }

    /// After a build.
    pub(super) fn export(&self, engine: &Engine, built: &Built) -> Result<(), Fail> {
        match engine.export_build_cache(built, &self.directory, &self.tag, self.mode) {
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
        let place = |mode, tag: &str| Place { directory: "d".into(), tag: tag.into(), mode, lenient: false };
        assert_eq!(Place::to("type=local,dest=d").unwrap(), place(CacheMode::Min, "latest"));
        assert_eq!(Place::to("type=local,mode=max,dest=d,tag=t").unwrap(), place(CacheMode::Max, "t"));
        assert_eq!(Place::from("type=local,src=d").unwrap(), place(CacheMode::Min, "latest"));
        assert_eq!(
            Place::from("type=local,src=d,digest=sha256:0").unwrap(),
            place(CacheMode::Min, "sha256:0")
        );
        for (text, words) in [
            ("registry/name:cache", "no registry"),
            ("type=registry,ref=x", "`ref=x` is not supported"),
            ("type=inline", "the type `inline` is not supported yet"),
            ("type=local", "a `dest` is missing"),
            ("dest=x", "a `type` is missing"),
            ("type=local,dest=x,mode=most", "`mode=most` is not supported"),
            ("type=local,dest=x,compression=gzip", "`compression=gzip` is not supported"),
        ] {
            let error = Place::to(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(Place::from("type=local,src=x,mode=max").unwrap_err().to_string().contains("`mode=max`"));
    }
}
