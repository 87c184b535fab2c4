//! What a member's name means, before anything is looked up.

use crate::tar::show;
use crate::{Error, Result};

const WHITEOUT: &[u8] = b".wh.";
const META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// How much is forgiven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// A layer from an image: leading slashes are dropped and links on the way are followed *inside* the root, as
    /// docker and containerd do, because such layers are about.
    Layer,
    /// A root file system that somebody hands in: absolute names and links that lead out are refused. A tar of a tree
    /// has neither; whoever wrote them wanted something else.
    Import,
    /// What is copied into a tree whose links mean that tree: names mean only themselves, and links are followed inside.
    CopyIn,
    /// The same into a directory of this host: links that lead out of it are refused.
    CopyOut,
}

impl Trust {
    /// Whether links that lead out of the root are refused.
    pub fn confined(self) -> bool {
        matches!(self, Trust::Import | Trust::CopyOut)
    }

    /// Whether names are only names, not marks of what is removed.
    pub fn literal(self) -> bool {
        matches!(self, Trust::CopyIn | Trust::CopyOut)
    }
}

/// A member's place: directory components, and what is to happen to the last one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// The root directory itself.
    Root,
    /// The entry `.1` in the directory `.0`.
    Entry(Vec<&'a [u8]>, &'a [u8]),
    /// The entry `.1` in the directory `.0` hides what lower layers have there.
    Whiteout(Vec<&'a [u8]>, &'a [u8]),
    /// The directory hides all that lower layers have in it.
    Opaque(Vec<&'a [u8]>),
    /// Bookkeeping of aufs that means nothing here (layer.md: other `.wh..wh.` names are reserved).
    Nothing,
}

/// The components of a name: without empty ones and `.`; `..` is refused, since no honest writer needs it.
pub(crate) fn components<'a>(path: &'a [u8], trust: Trust, what: &str) -> Result<Vec<&'a [u8]>> {
    if trust == Trust::Import && path.starts_with(b"/") {
        return Err(Error::invalid(format!("{what} is absolute")));
    }
    if path.contains(&0) {
        return Err(Error::invalid(format!("{what} contains a NUL")));
    }
    let parts: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&b"..".as_slice()) {
        return Err(Error::invalid(format!("{what} has `..`, which could lead out of the root")));
    }
    Ok(parts)
}

pub(super) fn target(path: &[u8], trust: Trust) -> Result<Target<'_>> {
    let mut parts = components(path, trust, "the name")?;
    let Some(last) = parts.pop() else {
        return Ok(Target::Root);
    };
    if trust.literal() {
        return Ok(Target::Entry(parts, last));
    }
    if parts.iter().any(|part| part.starts_with(META)) {
        return Ok(Target::Nothing);
    }
    if let Some(part) = parts.iter().find(|part| part.starts_with(WHITEOUT)) {
        return Err(Error::invalid(format!("{} marks a removal and can't be a directory", show(part))));
    }
    if last == OPAQUE {
        return Ok(Target::Opaque(parts));
    }
    if last.starts_with(META) {
        return Ok(Target::Nothing);
    }
    match last.strip_prefix(WHITEOUT) {
        Some(b"" | b"." | b"..") => {
            Err(Error::invalid("it marks a removal of nothing that could be removed"))
        }
        Some(name) => Ok(Target::Whiteout(parts, name)),
        None => Ok(Target::Entry(parts, last)),
    }
}

/// Whether a file of this name could be put into a layer without meaning a removal there.
pub(crate) fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(WHITEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean() {
        let layer = |path: &'static str| target(path.as_bytes(), Trust::Layer).unwrap();
        assert_eq!(layer("./"), Target::Root);
        assert_eq!(layer("/"), Target::Root);
        assert_eq!(layer("./a//b/./c/"), Target::Entry(vec![b"a", b"b"], b"c"));
        assert_eq!(layer("/etc/x"), Target::Entry(vec![b"etc"], b"x"));
        assert_eq!(layer("a/.wh.b"), Target::Whiteout(vec![b"a"], b"b"));
        assert_eq!(layer("a/.wh..wh..opq"), Target::Opaque(vec![b"a"]));
        assert_eq!(layer(".wh..wh.plnk/12"), Target::Nothing);
        assert_eq!(layer(".wh..wh.aufs"), Target::Nothing);
        assert_eq!(layer("a/..b/...x"), Target::Entry(vec![b"a", b"..b"], b"...x"));
    }

    #[test]
    fn names_refused() {
        for bad in ["../x", "a/../../x", "a/..", "/../x", ".wh.", ".wh..", ".wh...", "x/.wh.y/z", "a\0b"] {
            for trust in [Trust::Layer, Trust::Import] {
                let error = target(bad.as_bytes(), trust).unwrap_err();
                assert_eq!(error.kind(), coracle_host::Kind::Invalid, "{bad}");
            }
        }
        assert!(target(b"/etc/x", Trust::Import).unwrap_err().to_string().contains("absolute"));
    }
}
