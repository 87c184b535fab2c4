//! What the options of docker's `local` driver mean: where a volume's data is, if not in its own directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coracle_host::Attributes;
use rustix::mount::MountAttrFlags;

/// The options, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// In the volume's directory.
    Data,
    /// In a directory of the host's.
    Bind { device: PathBuf, recursive: bool, read_only: bool },
    /// In memory, anew for each borrower.
    Tmpfs { options: Vec<(String, String)>, flags: MountAttrFlags },
    /// With a driver of its own.
    Driver,
    /// In any other file system of the kernel's: nfs, overlay, one on a disk. The options have its source, too.
    Other { fstype: String, options: Vec<(String, String)>, flags: MountAttrFlags },
}

/// Why options mean nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// They contradict each other or are not the driver's.
    Invalid(String),
    /// docker knows them, this crate doesn't.
    Unsupported(String),
}

impl Backing {
    /// Reads `type`, `o` and `device`, as of docker's local driver, whose `type` and `o` are mount(8)'s.
    pub(crate) fn parse(options: &BTreeMap<String, String>) -> Result<Backing, Vec<Refusal>> {
        let mut refused = Vec::new();
        for key in options.keys().filter(|key| !matches!(key.as_str(), "type" | "o" | "device")) {
            let why = match key.as_str() {
                "size" => Refusal::Unsupported("option `size`: quotas are not supported".into()),
                _ => Refusal::Invalid(format!("option `{key}` is unknown: want `type`, `o` and `device`")),
            };
            refused.push(why);
        }
        let get = |key| options.get(key).map_or("", String::as_str);
        let (kind, device) = (get("type"), get("device"));
        let words: Vec<&str> = get("o").split(',').filter(|word| !word.is_empty()).collect();
        let is_bind = words.iter().any(|word| matches!(*word, "bind" | "rbind"));
        let known = match kind {
            "tmpfs" if is_bind => Err(Refusal::Invalid("`o=bind` is not of type `tmpfs`".into())),
            "tmpfs" => {
                let (options, flags) = sort(&words);
                Ok(Backing::Tmpfs { options, flags })
            }
            "" | "none" | "bind" if is_bind => bind(Path::new(device), &words),
            "" if device.is_empty() && words.is_empty() => Ok(Backing::Data),
            "" => Err(Refusal::Invalid("option `type` is missing".into())),
            "none" | "bind" => Err(Refusal::Invalid(format!("type `{kind}` wants `o=bind`"))),
            other => self::other(other, device, &words),
        };
        match known {
            Ok(backing) if refused.is_empty() => Ok(backing),
            Ok(_) => Err(refused),
            Err(refusal) => {
                refused.push(refusal);
                Err(refused)
            }
        }
    }
}

fn bind(device: &Path, words: &[&str]) -> Result<Backing, Refusal> {
    if !device.is_absolute() {
        return Err(Refusal::Invalid("`o=bind` wants the absolute path of a `device`".into()));
    }
    let (mut recursive, mut read_only) = (false, false);
    for word in words {
        match *word {
            "bind" => {}
            "rbind" => recursive = true,
            "ro" => read_only = true,
            "rw" => read_only = false,
            other => return Err(Refusal::Unsupported(format!("mount option `{other}` of a bind"))),
        }
    }
    Ok(Backing::Bind { device: device.to_owned(), recursive, read_only })
}

/// What is no attribute of the mount is the file system's own: it says itself what it doesn't like.
fn sort(words: &[&str]) -> (Vec<(String, String)>, MountAttrFlags) {
    let (attributes, rest) = Attributes::sort(words.iter().copied());
    let pair = |word: &str| {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        (key.to_owned(), value.to_owned())
    };
    (rest.into_iter().map(pair).collect(), attributes.at_once())
}

/// Whether the kernel has a file system of that name, by proc_filesystems(5); also where nobody can tell.
pub(crate) fn is_known(fstype: &str) -> bool {
    let Ok(table) = std::fs::read_to_string("/proc/filesystems") else { return true };
    table.lines().any(|line| line.split_whitespace().last() == Some(fstype))
}

/// The kernel knows whether it has such a file system; what is asked for here is only that it can be the name of one.
fn other(fstype: &str, device: &str, words: &[&str]) -> Result<Backing, Refusal> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !fstype.bytes().all(is_name) || fstype.len() > 64 {
        return Err(Refusal::Invalid(format!("type `{}` is no file system's name", fstype.escape_default())));
    }
    if device.is_empty() {
        return Err(Refusal::Invalid(format!("type `{fstype}` wants a `device`")));
    }
    let (mut options, flags) = sort(words);
    if device.contains('\0') || options.iter().any(|(key, value)| key.contains('\0') || value.contains('\0'))
    {
        return Err(Refusal::Invalid("an option has a NUL byte in it".into()));
    }
    options.insert(0, ("source".into(), device.into()));
    Ok(Backing::Other { fstype: fstype.to_owned(), options, flags })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<Backing, Vec<Refusal>> {
        Backing::parse(&options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect())
    }

    #[test]
    fn dockers_options() {
        assert_eq!(parse(&[]), Ok(Backing::Data));
        let tmpfs = parse(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,uid=7,noexec,ro,rw")]);
        let options = vec![("size".into(), "1m".into()), ("uid".into(), "7".into())];
        assert_eq!(tmpfs, Ok(Backing::Tmpfs { options, flags: MountAttrFlags::MOUNT_ATTR_NOEXEC }));
        let nfs = parse(&[("type", "nfs"), ("o", "addr=10.0.0.1,ro,vers=4"), ("device", ":/srv")]);
        let options = [("source", ":/srv"), ("addr", "10.0.0.1"), ("vers", "4")];
        let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        let flags = MountAttrFlags::MOUNT_ATTR_RDONLY;
        assert_eq!(nfs, Ok(Backing::Other { fstype: "nfs".into(), options, flags }));
        let bind = |recursive, read_only| Ok(Backing::Bind { device: "/srv".into(), recursive, read_only });
        assert_eq!(parse(&[("type", "none"), ("o", "bind"), ("device", "/srv")]), bind(false, false));
        assert_eq!(parse(&[("o", "rbind,ro"), ("device", "/srv")]), bind(true, true));
    }

    #[test]
    fn what_is_not_done_is_named() {
        let refused = |options: &[(&str, &str)]| match parse(options).unwrap_err().remove(0) {
            Refusal::Invalid(why) => format!("invalid: {why}"),
            Refusal::Unsupported(why) => format!("unsupported: {why}"),
        };
        assert_eq!(
            refused(&[("type", "nfs"), ("o", "addr=10.0.0.1")]),
            "invalid: type `nfs` wants a `device`"
        );
        let name = refused(&[("type", "n/f"), ("device", ":/srv")]);
        assert_eq!(name, "invalid: type `n/f` is no file system's name");
        assert_eq!(refused(&[("size", "1g")]), "unsupported: option `size`: quotas are not supported");
        assert_eq!(
            refused(&[("sise", "1g")]),
            "invalid: option `sise` is unknown: want `type`, `o` and `device`"
        );
        assert_eq!(refused(&[("device", "/srv")]), "invalid: option `type` is missing");
        assert_eq!(refused(&[("type", "none"), ("device", "/srv")]), "invalid: type `none` wants `o=bind`");
        let relative = "invalid: `o=bind` wants the absolute path of a `device`";
        assert_eq!(refused(&[("o", "bind"), ("device", "srv")]), relative);
        assert_eq!(
            refused(&[("o", "bind,idmap"), ("device", "/srv")]),
            "unsupported: mount option `idmap` of a bind"
        );
        assert_eq!(refused(&[("type", "tmpfs"), ("o", "bind")]), "invalid: `o=bind` is not of type `tmpfs`");
    }
}
