//! The options of a tmpfs, in mount(8)'s words.

use coracle_host::{Attributes, Mount};
use rustix::mount::MountAttrFlags;

use crate::error::Result;

/// What is the file system's own: it looks at the values itself.
const KEYS: [&str; 8] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge"];

/// What is wrong with one option, in docker's words where that has some.
pub(crate) fn problem(word: &str) -> Option<String> {
    match word.split_once('=') {
        Some((key, value)) if KEYS.contains(&key) && !value.is_empty() && !value.contains('\0') => None,
        None if Attributes::default().take(word) => None,
        _ => Some(format!("invalid tmpfs option [{word:?}]")),
    }
}

/// A new tmpfs with these options, the last word counting; `nosuid,nodev,noexec` unless they say otherwise, and the mode of
/// what it covers. All in it has this context of SELinux's.
pub(crate) fn mount(
    words: &[String],
    covered: Option<u32>,
    read_only: bool,
    context: Option<&str>,
) -> Result<Mount> {
    let (mut options, attributes) = sort(words);
    let covered = covered.map(|mode| format!("{mode:o}"));
    if let Some(mode) = &covered
        && !options.iter().any(|(key, _)| *key == "mode")
    {
        options.push(("mode", mode));
    }
    options.extend(context.map(|context| ("context", context)));
    let mut flags = attributes.at_once();
    flags.set(
        MountAttrFlags::MOUNT_ATTR_RDONLY,
        read_only || flags.contains(MountAttrFlags::MOUNT_ATTR_RDONLY),
    );
    Ok(Mount::new("tmpfs", &options, flags)?)
}

fn sort(words: &[String]) -> (Vec<(&str, &str)>, Attributes) {
    let defaults = ["nosuid", "nodev", "noexec"];
    let (attributes, rest) = Attributes::sort(defaults.into_iter().chain(words.iter().map(String::as_str)));
    let mut options: Vec<(&str, &str)> = Vec::new();
    for (key, value) in rest.into_iter().filter_map(|word| word.split_once('=')) {
        options.retain(|(known, _)| *known != key);
        options.push((key, value));
    }
    (options, attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let given = words("size=1m,exec,size=2m,noatime,ro,rw,mode=700");
        let (options, attributes) = sort(&given);
        assert_eq!(options, [("size", "2m"), ("mode", "700")]);
        let expected = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOATIME;
        assert_eq!(attributes.at_once(), expected);
        assert!(given.iter().all(|word| problem(word).is_none()));
        for bad in ["sise=1m", "size=", "bogus", "size", "exec=1", ""] {
            assert_eq!(problem(bad), Some(format!("invalid tmpfs option [{bad:?}]")));
        }
    }
}
