//! What the options of a mount say (runtime-spec config.md, "Linux mount options").

use coracle_host::{Attributes, Propagation};

/// The words of one mount, by what they are about.
#[derive(Default)]
pub(super) struct Options {
    pub(super) bind: bool,
    pub(super) recursive: bool,
    /// It is about what is mounted there already.
    pub(super) remount: bool,
    /// A tmpfs begins with what it covers.
    pub(super) copy_up: bool,
    pub(super) propagation: Option<(Propagation, bool)>,
    pub(super) attributes: Attributes,
    /// Whether its owners are mapped, and whether those of all below it are.
    pub(super) mapped: Option<bool>,
    /// Options of the file system.
    pub(super) data: Vec<String>,
    /// Those that every file system has.
    pub(super) whole: Vec<String>,
}

/// How mounts travel, by its word; and whether that is so below, too.
pub(crate) fn propagation(word: &str) -> Option<(Propagation, bool)> {
    let plain = match word.strip_prefix('r').unwrap_or(word) {
        "private" => Propagation::Private,
        "slave" => Propagation::Slave,
        "shared" => Propagation::Shared,
        "unbindable" => Propagation::Unbindable,
        _ => return None,
    };
    Some((plain, word.starts_with('r')))
}

/// Of what is said twice the last word counts.
pub(super) fn sort(options: &[String]) -> Options {
    let mut sorted = Options::default();
    for option in options {
        match option.as_str() {
            "bind" => sorted.bind = true,
            "rbind" => (sorted.bind, sorted.recursive) = (true, true),
            "remount" => sorted.remount = true,
            "idmap" => sorted.mapped = Some(false),
            "ridmap" => sorted.mapped = Some(true),
            "tmpcopyup" => sorted.copy_up = true,
            "async" | "sync" | "dirsync" | "lazytime" | "nolazytime" | "mand" | "nomand" => {
                sorted.whole.push(option.to_owned());
            }
            word => match propagation(word) {
                Some(propagation) => sorted.propagation = Some(propagation),
                None if sorted.attributes.take(word) => {}
                None => sorted.data.push(option.to_owned()),
            },
        }
    }
    sorted
}
