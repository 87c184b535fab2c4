//! `-o`: where a build goes.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use coracle::{BuildSpec, Compression, CompressionOptions, Engine, Image, Reference};

use crate::csv;
use crate::fail::Fail;

/// What one `-o` asks for.
#[derive(Debug, PartialEq, Eq)]
struct Output {
    to: To,
    /// Which count where there is no `--tag`, in the short form.
    names: Vec<String>,
    annotations: Vec<(String, String)>,
    /// Of layers in an archive or a layout.
    compression: CompressionOptions,
}

/// Where to.
#[derive(Debug, PartialEq, Eq)]
enum To {
    /// The engine's store.
    Store,
    /// Nowhere: the cache is all that comes of it.
    Nowhere,
    /// The image's files in a directory.
    Directory(String),
    /// The image's files as a tar; `None` is standard output.
    Tar(Option<String>),
    /// The image as an archive that is an OCI layout and docker's, in the words of the one that was asked for.
    Archive(&'static str, Option<String>),
    /// The image as such a layout in a directory.
    Layout(&'static str, String),
}

impl Output {
    fn new(to: To) -> Output {
        Output { to, names: Vec::new(), annotations: Vec::new(), compression: CompressionOptions::default() }
    }

    /// `directory`, `-`, or `type=…,dest=…`.
    fn parse(text: &str) -> Result<Output, Fail> {
        let bad = |what: &str| Fail::new(1, format!("build -o {text}: {what}"));
        let fields = csv::fields(text).map_err(|what| bad(&what))?;
        match fields.as_slice() {
            [only] if only == "-" => return Ok(Output::new(To::Tar(None))),
            [only] if !only.starts_with("type=") => return Ok(Output::new(To::Directory(only.clone()))),
            _ => {}
        }
        let unknown = |field: &str| bad(&format!("`{field}` is not supported"));
        let (mut kind, mut dest, mut tar) = (None, None, true);
        let (mut kind_of, mut level, mut force) = (None, None, false);
        let mut output = Output::new(To::Nowhere);
        for field in &fields {
            let (key, value) = field.split_once('=').ok_or_else(|| bad("want key=value"))?;
            let key = key.trim().to_lowercase();
            let switch = || match value {
                "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(bad(&format!("`{field}`: want true or false"))),
            };
            match key.as_str() {
                "type" => kind = Some(value),
                "dest" => dest = Some(value.to_owned()).filter(|dest| !dest.is_empty()),
                "name" => output.names.extend(familiar(value.split(','))?),
                "tar" => tar = switch()?,
                // So it is anyway: the bytes of layers are what was built, media types are OCI's, trees are unpacked, files are
                // no younger than SOURCE_DATE_EPOCH, and one platform has one place.
                "oci-mediatypes" | "store" | "rewrite-timestamp" if switch()? => {}
                "push" | "push-by-digest" if !switch()? => {}
                "unpack" | "platform-split" => drop(switch()?),
                "compression" => kind_of = Some(compression(value).ok_or_else(|| unknown(field))?),
                "compression-level" => level = Some(value.parse().map_err(|_| unknown(field))?),
                "force-compression" => force = switch()?,
                _ => match annotation(&key, field) {
                    Some(Ok(pair)) => output.annotations.push(pair),
                    Some(Err(what)) => return Err(bad(&what)),
                    None => return Err(unknown(field)),
                },
            }
        }
        let file = dest.clone().filter(|dest| dest != "-");
        let kind = kind.ok_or_else(|| bad("a `type` is missing"))?;
        let words = if kind == "oci" { "oci" } else { "docker" };
        output.to = match (kind, dest) {
            ("local", Some(dest)) if dest == "-" => {
                return Err(bad("a directory can't go to standard output"));
            }
            ("local", Some(dest)) => To::Directory(dest),
            ("local", None) => return Err(bad("a `dest` is missing")),
            ("tar", _) => To::Tar(file),
            ("oci", _) | ("docker", Some(_)) if tar => To::Archive(words, file),
            ("oci" | "docker", Some(_)) if file.is_some() => To::Layout(words, file.unwrap_or_default()),
            ("oci", _) => return Err(bad("`tar=false` goes to a directory: a `dest` is missing")),
            ("docker" | "image", None) => To::Store,
            ("image", Some(_)) => return Err(bad("`dest` doesn't go with type=image")),
            ("cacheonly", _) => To::Nowhere,
            ("registry", _) => return Err(bad("images can't be pushed yet")),
            (other, _) => return Err(bad(&format!("there is no type `{other}`"))),
        };
        output.compression = CompressionOptions::new(kind_of.unwrap_or_default()).force(force);
        output.compression = level.into_iter().fold(output.compression, CompressionOptions::level);
        let has_layers = matches!(output.to, To::Archive(..) | To::Layout(..));
        if !has_layers && output.compression != CompressionOptions::default() {
            return Err(bad("layers are compressed in files of type=oci and type=docker only"));
        }
        Ok(output)
    }

    fn is_stdout(&self) -> bool {
        matches!(self.to, To::Tar(None) | To::Archive(_, None))
    }

    /// Whether an image comes of it, rather than files alone.
    fn is_image(&self) -> bool {
        matches!(self.to, To::Store | To::Archive(..) | To::Layout(..))
    }

    /// What is written has these names, or else its own. Returns the digest and the size of its manifest, where there is one.
    fn write(&self, engine: &Engine, image: &Image, tags: &[String]) -> Result<Option<(String, u64)>, Fail> {
        let (names, how) = (if tags.is_empty() { &self.names } else { tags }, self.compression);
        match &self.to {
            To::Store | To::Nowhere => Ok(None),
            To::Directory(path) => Ok(engine.write_directory(image, path).map(|()| None)?),
            To::Tar(path) => to(path.as_deref(), |out| Ok(engine.write_tar(image, out).map(|()| None)?)),
            To::Archive(_, path) => {
                to(path.as_deref(), |out| Ok(engine.save_image(image, names, how, out).map(Some)?))
            }
            To::Layout(_, path) => Ok(engine.write_layout(image, names, how, path).map(Some)?),
        }
    }

    /// What was done, in docker's words, where it is not the store's.
    fn told(&self) -> Option<(String, Vec<String>)> {
        let (title, done) = match &self.to {
            To::Store | To::Nowhere => return None,
            To::Directory(_) => ("client directory".into(), "copying files done"),
            To::Tar(_) => ("client tarball".into(), "sending tarball done"),
            To::Archive(words, _) => (format!("{words} image format"), "sending tarball done"),
            To::Layout(words, _) => (format!("{words} image format"), "copying files done"),
        };
        Some((format!("exporting to {title}"), vec![done.to_owned()]))
    }
}

/// All that becomes of a build.
pub(super) struct Outputs {
    all: Vec<Output>,
    /// The store gets the image, too.
    stored: bool,
    /// Those of `--tag`, in the short form.
    tags: Vec<String>,
}

impl Outputs {
    /// Of all `-o` flags; without any, or with `load`, the store gets the image.
    pub(super) fn parse(flags: &[String], load: bool, tags: &[String]) -> Result<Outputs, Fail> {
        let all: Vec<Output> = flags.iter().map(|text| Output::parse(text)).collect::<Result<_, _>>()?;
        if all.iter().filter(|output| output.is_stdout()).count() > 1 {
            return Err(Fail::new(1, "build -o: standard output can take one of them only"));
        }
        let stored = load || all.is_empty() || all.iter().any(|output| output.to == To::Store);
        Ok(Outputs { all, stored, tags: familiar(tags.iter().map(String::as_str))? })
    }

    /// The spec with the names that the store gives, and with annotations.
    pub(super) fn spec(&self, spec: BuildSpec) -> BuildSpec {
        let annotations = self.all.iter().flat_map(|output| &output.annotations);
        let spec = annotations.fold(spec, |spec, (key, value)| spec.annotation(key, value));
        if !self.stored {
            return spec.unlisted();
        }
        let own = self.all.iter().filter(|output| self.tags.is_empty() && output.to == To::Store);
        self.tags.iter().chain(own.flat_map(|output| &output.names)).fold(spec, BuildSpec::tag)
    }

    /// All names that the image has somewhere.
    pub(super) fn names(&self) -> Vec<&str> {
        let own = self.all.iter().filter(|_| self.tags.is_empty()).flat_map(|output| &output.names);
        self.tags.iter().chain(own).map(String::as_str).collect()
    }

    /// Writes what goes elsewhere than to the store. Returns the digest and the size of the image's manifest: the store's, where
    /// that gets it.
    pub(super) fn write(&self, engine: &Engine, image: &Image) -> Result<(String, u64), Fail> {
        let own = || (image.digest(), image.manifest_size());
        let mut manifest = self.stored.then(own);
        for output in &self.all {
            let written = output.write(engine, image, &self.tags)?;
            manifest = manifest.or(written);
        }
        Ok(manifest.unwrap_or_else(own))
    }

    /// What was done, as steps: their titles, and what they say.
    pub(super) fn told(&self, image: &Image) -> Vec<(String, Vec<String>)> {
        let names = self.names();
        let mut says = vec![format!("writing image {} done", image.id())];
        says.extend(names.iter().map(|name| format!("naming to {name} done")));
        let stored = self.stored.then(|| ("exporting to image".to_owned(), says));
        stored.into_iter().chain(self.all.iter().filter_map(Output::told)).collect()
    }

    pub(super) fn is_stdout(&self) -> bool {
        self.all.iter().any(Output::is_stdout)
    }

    /// Whether an image comes of it, so that its id is worth telling.
    pub(super) fn is_image(&self) -> bool {
        self.stored || self.all.iter().any(Output::is_image)
    }
}

/// Names in the short form, with the tag that they have where they say none.
fn familiar<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<String>, Fail> {
    let one = |name: &str| match name.parse::<Reference>() {
        Ok(name) => Ok(name.familiar()),
        Err(error) => Err(Fail::new(1, format!("invalid tag `{name}`: {error}"))),
    };
    names.map(one).collect()
}

/// `annotation.key=value`, `annotation-manifest.key=value`: the key as it was written. `None` where it is none.
fn annotation(key: &str, field: &str) -> Option<Result<(String, String), String>> {
    let (family, _) = key.split_once('.')?;
    let kind = family.strip_prefix("annotation")?;
    let (name, value) = field.split_once('=')?;
    let name = name.split_once('.')?.1;
    Some(match kind {
        "" | "-manifest" => Ok((name.to_owned(), value.to_owned())),
        other => Err(format!("`{other}` annotates what an image here has not, only its manifest")),
    })
}

/// As BuildKit calls them.
pub(super) fn compression(name: &str) -> Option<Compression> {
    match name {
        "uncompressed" => Some(Compression::None),
        "gzip" => Some(Compression::Gzip),
        "zstd" => Some(Compression::Zstd),
        _ => None,
    }
}

fn to<T>(path: Option<&str>, write: impl FnOnce(&mut dyn Write) -> Result<T, Fail>) -> Result<T, Fail> {
    let Some(path) = path else {
        let mut out = io::stdout().lock();
        let written = write(&mut out)?;
        out.flush()?;
        return Ok(written);
    };
    let failed = |error| Fail::new(1, format!("write({path:?}): {error}"));
    let mut out = BufWriter::new(File::create(path).map_err(failed)?);
    let written = write(&mut out)?;
    out.into_inner().map_err(|error| failed(error.into_error()))?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to() {
        let file = |name: &str| Some(name.to_owned());
        for (text, to) in [
            ("out", To::Directory("out".into())),
            ("a=b", To::Directory("a=b".into())),
            ("-", To::Tar(None)),
            ("type=local,dest=out", To::Directory("out".into())),
            ("type=local,dest=out,platform-split=false", To::Directory("out".into())),
            ("type=tar,dest=o.tar", To::Tar(file("o.tar"))),
            ("type=tar,dest=-", To::Tar(None)),
            ("type=oci,dest=o.tar", To::Archive("oci", file("o.tar"))),
            ("type=oci,\"dest=a,b.tar\"", To::Archive("oci", file("a,b.tar"))),
            ("type=oci,dest=o,tar=false", To::Layout("oci", "o".into())),
            ("type=docker,dest=o.tar", To::Archive("docker", file("o.tar"))),
            ("type=docker,dest=-", To::Archive("docker", None)),
            ("type=docker", To::Store),
            ("type=image,push=false,store=true,unpack=true", To::Store),
            ("type=image,compression=uncompressed,rewrite-timestamp=true", To::Store),
            ("type=cacheonly", To::Nowhere),
        ] {
            assert_eq!(Output::parse(text).unwrap().to, to, "{text}");
        }
        for (text, words) in [
            ("type=local", "a `dest` is missing"),
            ("type=local,dest=-", "can't go to standard output"),
            ("dest=x,tar=true", "a `type` is missing"),
            ("type=registry,name=x", "images can't be pushed yet"),
            ("type=other", "there is no type `other`"),
            ("type=oci,tar=false", "a `dest` is missing"),
            ("type=oci,dest=x,tar=maybe", "want true or false"),
            ("type=image,push=true", "`push=true` is not supported"),
            ("type=image,store=false", "`store=false` is not supported"),
            ("type=oci,dest=x,compression=estargz", "`compression=estargz` is not supported"),
            ("type=oci,dest=x,compression-level=high", "`compression-level=high` is not supported"),
            ("type=image,compression=zstd", "in files of type=oci and type=docker only"),
            ("type=local,dest=x,force-compression=true", "in files of type=oci and type=docker only"),
            ("type=oci,dest=x,annotation-index.a=b", "`-index` annotates"),
            ("type=oci,\"dest=x", "missing \""),
        ] {
            let error = Output::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn names_and_annotations() {
        let output = Output::parse("type=image,\"name=a,b:1\",annotation.Key.x=1=2").unwrap();
        assert_eq!(output.names, ["a:latest", "b:1"]);
        assert_eq!(output.annotations, [("Key.x".to_owned(), "1=2".to_owned())]);
        let packed =
            Output::parse("type=oci,dest=x,compression=zstd,compression-level=9,force-compression=1");
        let expected = CompressionOptions::new(Compression::Zstd).level(9).force(true);
        assert_eq!(packed.unwrap().compression, expected);
        let outputs = |flags: &[&str], load: bool| {
            Outputs::parse(&flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>(), load, &[])
        };
        assert!(outputs(&[], false).unwrap().stored);
        assert!(!outputs(&["out"], false).unwrap().stored);
        assert!(outputs(&["out"], true).unwrap().stored);
        assert!(outputs(&["out", "type=image"], false).unwrap().stored);
        assert!(!outputs(&["out", "type=cacheonly"], false).unwrap().is_image());
        assert!(outputs(&["type=oci,dest=x"], false).unwrap().is_image());
        assert!(outputs(&["-", "type=oci"], false).is_err());
        let here = || BuildSpec::new(".");
        let spec = |flag: &str, tags: &[String]| {
            format!("{:?}", Outputs::parse(&[flag.to_owned()], false, tags).unwrap().spec(here()))
        };
        assert_eq!(spec("type=image,name=a", &[]), format!("{:?}", here().tag("a:latest")));
        assert_eq!(spec("type=image,name=a", &["b".into()]), format!("{:?}", here().tag("b:latest")));
        assert_eq!(spec("type=oci,name=a", &["b".into()]), format!("{:?}", here().unlisted()));
        let named = Outputs::parse(&["type=oci,name=a".into()], false, &[]).unwrap();
        assert_eq!(named.names(), ["a:latest"]);
        assert!(Outputs::parse(&["type=oci,name=A".into()], false, &[]).is_err());
    }
}
