//! `coracle build`.

use std::collections::BTreeMap;
use std::io::Read;

use coracle::{BuildSpec, Engine, Event};

use crate::env;
use crate::fail::{Done, Fail};

/// Build an image from a Dockerfile
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Set build-time variables
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Name of the Dockerfile (default: "PATH/Dockerfile"); - for standard input
    #[arg(short, long)]
    file: Option<String>,
    /// Set metadata for an image
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Do not use cache when building the image
    #[arg(long)]
    no_cache: bool,
    /// Set type of progress output (auto, plain, quiet)
    #[arg(long, default_value = "auto", value_parser = ["auto", "plain", "quiet"])]
    progress: String,
    /// Suppress the build output and print image ID on success
    #[arg(short, long)]
    quiet: bool,
    /// Name and optionally a tag (format: "name:tag")
    #[arg(short, long, value_name = "NAME[:TAG]")]
    tag: Vec<String>,
    /// Set the target build stage to build
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// A directory; - for a Dockerfile on standard input, without any context
    #[arg(value_name = "PATH | -")]
    path: String,
}

/// Builds, telling of each step on standard error; the image's id comes last, with -q on standard output.
pub(crate) fn run(args: &Args) -> Done {
    let spec = spec(args, &env::own, standard_input)?;
    let engine = Engine::open_default()?;
    let quiet = args.quiet || args.progress == "quiet";
    let mut progress = Progress::default();
    let mut unseen = Vec::new();
    let built = engine.build(&spec, |event| {
        progress.tell(event, |line| match quiet {
            true => unseen.push(line),
            false => crate::out::say(line),
        })
    });
    progress.finish(|line| match quiet {
        true => unseen.push(line),
        false => crate::out::say(line),
    });
    let built = match built {
        Ok(built) => built,
        Err(error) => {
            // What went before a failure is wanted even by those who wanted to hear nothing.
            unseen.iter().for_each(crate::out::say);
            return Err(error.into());
        }
    };
    if quiet {
        crate::out::line(built.image.id())?;
    } else {
        args.tag.iter().for_each(|name| crate::out::say(format!("named {name}")));
        crate::out::say(built.image.id());
    }
    Ok(0)
}

fn spec(
    args: &Args,
    lookup: env::Lookup<'_>,
    input: impl Fn() -> Result<Vec<u8>, Fail>,
) -> Result<BuildSpec, Fail> {
    let mut spec = match (args.path.as_str(), args.file.as_deref()) {
        ("-", Some("-")) => {
            return Err(Fail::new(1, "build: standard input can't be both Dockerfile and context"));
        }
        ("-", Some(_)) => {
            return Err(Fail::new(1, "build -f: a context on standard input is not supported yet"));
        }
        ("-", None) => {
            let text = input()?;
            if is_archive(&text) {
                return Err(Fail::new(1, "build -: a context on standard input is not supported yet"));
            }
            BuildSpec::without_context(text)
        }
        (url, _) if url.contains("://") || url.starts_with("git@") => {
            return Err(Fail::new(1, format!("build {url}: only directories and - are supported yet")));
        }
        (path, Some("-")) => BuildSpec::new(path).dockerfile_text(input()?),
        (path, Some(file)) => BuildSpec::new(path).file(file),
        (path, None) => BuildSpec::new(path),
    };
    for text in &args.build_arg {
        // docker's way: a name that is set nowhere keeps the Dockerfile's default.
        let pair = text.split_once('=').map(|(name, value)| (name, value.to_owned()));
        if let Some((name, value)) = pair.or_else(|| lookup(text).map(|value| (text.as_str(), value))) {
            spec = spec.arg(name, value);
        }
    }
    for (key, value) in args.label.iter().map(|text| env::label(text)) {
        spec = spec.label(key, value);
    }
    if let Some(target) = &args.target {
        spec = spec.target(target);
    }
    if let Some(epoch) = lookup("SOURCE_DATE_EPOCH") {
        let seconds = epoch.parse();
        spec = spec.source_date_epoch(seconds.map_err(|_| {
            Fail::new(1, format!("build: SOURCE_DATE_EPOCH={epoch}: want seconds since 1970"))
        })?);
    }
    Ok(args.tag.iter().fold(spec, BuildSpec::tag).no_cache(args.no_cache))
}

fn standard_input() -> Result<Vec<u8>, Fail> {
    let mut text = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut text);
    read.map_err(|error| Fail::new(1, format!("read standard input: {error}")))?;
    Ok(text)
}

/// Whether this is a tar, or something compressed, rather than a Dockerfile.
fn is_archive(bytes: &[u8]) -> bool {
    const MAGIC: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"];
    MAGIC.iter().any(|magic| bytes.starts_with(magic)) || bytes.get(257..262) == Some(b"ustar")
}

/// Events become lines: what commands write comes in pieces.
#[derive(Default)]
struct Progress(BTreeMap<String, Vec<u8>>);

impl Progress {
    fn tell(&mut self, event: &Event, mut say: impl FnMut(String)) {
        match event {
            Event::Output { at, stream, bytes } => {
                let prefix = format!("[{} {}/{}]", at.stage, at.index, at.total);
                let partial = self.0.entry(format!("{prefix} {stream:?}")).or_default();
                partial.extend_from_slice(bytes);
                while let Some(end) = partial.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = partial.drain(..=end).collect();
                    say(format!("{prefix} {}", String::from_utf8_lossy(&line[..end])));
                }
            }
            // The id is said last, after the names.
            Event::Done { .. } => {}
            Event::Built { .. } => {
                self.finish(&mut say);
                say(event.to_string());
            }
            event => say(event.to_string()),
        }
    }

    /// What did not end in a newline.
    fn finish(&mut self, mut say: impl FnMut(String)) {
        for (key, partial) in std::mem::take(&mut self.0) {
            if !partial.is_empty() {
                let prefix = key.rsplit_once(' ').map_or("", |(prefix, _)| prefix);
                say(format!("{prefix} {}", String::from_utf8_lossy(&partial)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Command;
    use crate::cli::tests::parsed;

    fn specified(line: &str) -> Result<String, Fail> {
        let Ok(Command::Build(args)) = parsed(line) else { panic!("{line}: refused") };
        let lookup = |name: &str| (name == "SET").then(|| "1".to_owned());
        spec(&args, &lookup, || Ok(b"FROM a".to_vec())).map(|spec| format!("{spec:?}"))
    }

    #[test]
    fn a_command_line_is_a_spec() {
        let table = [
            ("build .", BuildSpec::new(".")),
            ("build -t a -t b:1 .", BuildSpec::new(".").tag("a").tag("b:1")),
            ("build -f x/Dockerfile --target t x", BuildSpec::new("x").file("x/Dockerfile").target("t")),
            (
                "build --build-arg A=1 --build-arg SET --build-arg UNSET .",
                BuildSpec::new(".").arg("A", "1").arg("SET", "1"),
            ),
            ("build --label a=b --no-cache .", BuildSpec::new(".").label("a", "b").no_cache(true)),
            ("build -", BuildSpec::without_context("FROM a")),
            ("build -f - .", BuildSpec::new(".").dockerfile_text("FROM a")),
        ];
        for (line, spec) in table {
            assert_eq!(specified(line).unwrap(), format!("{spec:?}"), "{line}");
        }
        assert!(
            specified("build https://example.org/x.git")
                .unwrap_err()
                .to_string()
                .contains("only directories")
        );
        assert!(specified("build -f - -").unwrap_err().to_string().contains("both"));
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
