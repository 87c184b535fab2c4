//! Build arguments that are for the builder, not for the Dockerfile (Dockerfile reference, "BuildKit built-in build args").

use std::collections::BTreeMap;

use coracle_host::Kind;

use crate::dockerfile::is_standard_syntax;
use crate::error::{Error, Result};

/// What a RUN has for a host name unless `BUILDKIT_SANDBOX_HOSTNAME` is another: what it does may depend on it.
const HOSTNAME: &str = "buildkitsandbox";
/// Those that do something here. `SOURCE_DATE_EPOCH` dates the image, and git's is for who fetches a context.
const KNOWN: [&str; 6] = [
    "BUILDKIT_CACHE_MOUNT_NS",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SYNTAX",
    "SOURCE_DATE_EPOCH",
];

/// Whether an argument of this name is used by the builder itself.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// Refuses those that ask for what is not there.
///
/// # Errors
/// `Unsupported` for another frontend, and for a cache in the image.
pub(super) fn check(args: &BTreeMap<String, String>) -> Result<()> {
    let refuse = |text: String| Err(Error::new(Kind::Unsupported, text));
    if let Some(syntax) = args.get("BUILDKIT_SYNTAX")
        && !matches!(syntax.as_str(), "" | "dockerfile.v0")
        && !is_standard_syntax(syntax)
    {
        return refuse(format!(
            "BUILDKIT_SYNTAX: `{syntax}` is a program of its own, which can't be loaded; `docker/dockerfile:1` is built in"
        ));
    }
    match args.get("BUILDKIT_INLINE_CACHE").map(String::as_str) {
        Some("1" | "true" | "TRUE" | "True" | "t" | "T") => {
            refuse("BUILDKIT_INLINE_CACHE: images with their cache in them are not supported yet".into())
        }
        _ => Ok(()),
    }
}

/// The host name of RUNs.
pub(super) fn hostname(args: &BTreeMap<String, String>) -> &str {
    args.get("BUILDKIT_SANDBOX_HOSTNAME")
        .map(String::as_str)
        .filter(|name| !name.is_empty())
        .unwrap_or(HOSTNAME)
}

/// The id of a cache mount, in the namespace that the arguments name.
pub(super) fn cache_id(args: &BTreeMap<String, String>, id: String) -> String {
    match args.get("BUILDKIT_CACHE_MOUNT_NS").filter(|space| !space.is_empty()) {
        Some(space) => format!("{space}/{}", id.trim_start_matches('/')),
        None => id,
    }
}
