//! `coracle pull`, and what `coracle run` pulls by itself.

use coracle::{Digest, Engine, Platform, PullEvent, PullOptions, PulledImage, Reference};

use crate::dialect::switch;
use crate::fail::{Done, Fail};
use crate::{env, registry};

/// Download an image from a registry
#[derive(clap::Args)]
pub(crate) struct PullArgs {
    /// Download all tagged images in the repository (not supported)
    #[arg(short, long)]
    all_tags: bool,
    /// Skip image verification
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value = "true", action = clap::ArgAction::Set, value_parser = switch)]
    disable_content_trust: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
}

/// Fetches it; its name in full comes last.
pub(crate) fn pull(args: &PullArgs) -> Done {
    if args.all_tags {
        return Err(Fail::new(1, "pull --all-tags: not supported yet; pull each tag by its name"));
    }
    if !args.disable_content_trust {
        return Err(Fail::new(1, "pull --disable-content-trust=false: there is no content trust yet"));
    }
    let name = reference(&args.name)?;
    let platform = platform(args.platform.as_deref())?;
    let last = args.name.rsplit('/').next().unwrap_or_default();
    if !args.quiet && !last.contains([':', '@']) {
        crate::out::line("Using default tag: latest")?;
    }
    let mut failed = Ok(());
    fetch(&Engine::open_default()?, &name, platform, |line| {
        if !args.quiet && failed.is_ok() {
            failed = crate::out::line(line);
        }
    })?;
    failed?;
    crate::out::line(name)?;
    Ok(0)
}

pub(crate) fn reference(name: &str) -> Result<Reference, Fail> {
    name.parse().map_err(|error| Fail::new(1, format!("invalid reference format: {error}")))
}

pub(crate) fn platform(text: Option<&str>) -> Result<Option<Platform>, Fail> {
    let text = text.filter(|text| !text.is_empty());
    text.map(str::parse).transpose().map_err(|error| Fail::new(1, error))
}

/// Pulls an image, saying what docker says of it.
pub(crate) fn fetch(
    engine: &Engine,
    name: &Reference,
    platform: Option<Platform>,
    mut say: impl FnMut(String),
) -> Result<PulledImage, Fail> {
    let options = PullOptions::new(registry::options(&name.to_string(), &env::own)?);
    let options = platform.into_iter().fold(options, PullOptions::platform);
    let pulled = engine.pull(&name.to_string(), &options, |event| {
        if let Some(line) = line(name, event) {
            say(line);
        }
    })?;
    say(format!("Digest: {}", pulled.digest));
    let what = if pulled.changed { "Downloaded newer image" } else { "Image is up to date" };
    say(format!("Status: {what} for {}", name.familiar()));
    Ok(pulled)
}

fn line(name: &Reference, event: &PullEvent) -> Option<String> {
    let (layer, what) = match event {
        PullEvent::Resolved { .. } => {
            let which = match name.digest() {
                Some(_) => name.to_string(),
                None => name.tag().unwrap_or_default().to_owned(),
            };
            return Some(format!("{which}: Pulling from {}", name.path()));
        }
        PullEvent::Exists { layer } => (layer, "Already exists"),
        PullEvent::Waiting { layer } => (layer, "Pulling fs layer"),
        PullEvent::Fetching { layer, bytes, of } if bytes == of => (layer, "Download complete"),
        PullEvent::Stored { layer } => (layer, "Pull complete"),
        _ => return None,
    };
    Some(format!("{}: {what}", short(layer)))
}

/// As many digits as people look at.
fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_dockers() {
        let digest: Digest = format!("sha256:{}", "0123456789abcdef".repeat(4)).parse().unwrap();
        let said = |name: &str, event| line(&reference(name).unwrap(), &event).unwrap_or_default();
        let resolved = PullEvent::Resolved { digest };
        assert_eq!(said("busybox", resolved), "latest: Pulling from library/busybox");
        assert_eq!(said("localhost:5000/a:1", resolved), "1: Pulling from a");
        assert_eq!(
            said(&format!("a/b@{digest}"), resolved),
            format!("docker.io/a/b@{digest}: Pulling from a/b")
        );
        assert_eq!(said("a", PullEvent::Waiting { layer: digest }), "0123456789ab: Pulling fs layer");
        let fetching = |bytes| PullEvent::Fetching { layer: digest, bytes, of: 7 };
        assert_eq!(said("a", fetching(6)), "");
        assert_eq!(said("a", fetching(7)), "0123456789ab: Download complete");
        assert_eq!(said("a", PullEvent::Stored { layer: digest }), "0123456789ab: Pull complete");
    }
}
