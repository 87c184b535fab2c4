//! The forms with colons.

use std::path::Path;

use coracle::{Mount, Propagation};

use super::{host_path, target, wants_name};

/// `[SOURCE:]TARGET[:OPTIONS]`, the source a volume's name or a path of the host. `here` is what a path that begins with a
/// dot is relative to.
pub(super) fn volume(text: &str, driver: Option<&str>, here: &Path) -> Result<Mount, String> {
    let invalid = || format!("invalid volume specification: '{text}'");
    let parts: Vec<&str> = text.split(':').collect();
    let (source, at, options) = match parts[..] {
        [""] => return Err(invalid()),
        [at] => (None, at, ""),
        // A place without a name takes no options.
        [_, at] if !at.is_empty() && parse(at).is_ok() => return Err(invalid()),
        [source, at] => (Some(source), at, ""),
        [source, at, options] => (Some(source), at, options),
        _ => return Err(invalid()),
    };
    if source == Some("") || at.is_empty() {
        return Err(invalid());
    }
    let options = parse(options)?;
    let at = target(at)?;
    let mut mount = match source {
        None => Mount::anonymous(at),
        Some(path) if path.starts_with(['/', '.']) => Mount::bind(host_path(path, here), at).create(),
        Some(name) => {
            wants_name(name)?;
            Mount::volume(name, at)
        }
    };
    let is_bind = mount.kind() == "bind";
    if let Some(driver) = driver.filter(|_| !is_bind) {
        mount = mount.driver(driver);
    }
    for option in options {
        mount = match option {
            Opt::ReadOnly => mount.read_only(),
            Opt::Relabel => mount.relabel(),
            Opt::NoCopy if !is_bind => mount.no_copy(),
            Opt::Propagation(propagation) if is_bind => mount.propagation(propagation),
            Opt::Nothing => mount,
            Opt::NoCopy | Opt::Propagation(_) => return Err(invalid()),
        };
    }
    Ok(mount)
}

enum Opt {
    ReadOnly,
    NoCopy,
    Relabel,
    Propagation(Propagation),
    /// What docker has by default, and what says something on other systems only.
    Nothing,
}

/// Options of `-v`; each kind may be said once, as docker has it.
fn parse(text: &str) -> Result<Vec<Opt>, String> {
    let mut found = Vec::new();
    let mut kinds = Vec::new();
    for word in text.split(',').filter(|_| !text.is_empty()) {
        let (kind, option) = match word {
            "ro" => ("access", Opt::ReadOnly),
            "rw" => ("access", Opt::Nothing),
            "z" | "Z" => ("label", Opt::Relabel),
            "nocopy" => ("copy", Opt::NoCopy),
            "consistent" | "cached" | "delegated" | "default" => ("consistency", Opt::Nothing),
            _ => match propagation(word) {
                Some(propagation) => ("propagation", Opt::Propagation(propagation)),
                None => return Err(format!("invalid mode: {text}")),
            },
        };
        if kinds.contains(&kind) {
            return Err(format!("invalid mode: {text}"));
        }
        kinds.push(kind);
        found.push(option);
    }
    Ok(found)
}

pub(super) fn propagation(word: &str) -> Option<Propagation> {
    use Propagation as P;
    let all = [P::RPrivate, P::Private, P::RSlave, P::Slave, P::RShared, P::Shared];
    all.into_iter().find(|one| one.word() == word)
}

/// `TARGET[:OPTIONS]`.
pub(super) fn tmpfs(text: &str) -> Result<Mount, String> {
    let (at, options) = text.split_once(':').unwrap_or((text, ""));
    let options = options.split(',').filter(|_| !options.is_empty());
    Ok(options.fold(Mount::tmpfs(target(at)?), Mount::option))
}

/// `CONTAINER[:ro|rw]`, and whether it says read-only.
pub(super) fn volumes_from(text: &str) -> Result<(&str, bool), String> {
    match text.split_once(':') {
        _ if text.is_empty() => Err("malformed volumes-from specification: ".into()),
        None | Some((_, "rw" | "z" | "Z")) => Ok((text.split(':').next().unwrap_or(text), false)),
        Some((container, "ro")) if !container.is_empty() => Ok((container, true)),
        Some((_, mode)) => Err(format!("invalid mode for volumes-from: {mode}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn same(found: Result<Mount, String>, expected: Mount) {
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn volumes() {
        let volume = |text: &str| volume(text, None, Path::new("/here/below"));
        same(volume("db:/data"), Mount::volume("db", "/data"));
        same(volume("db:/data:ro"), Mount::volume("db", "/data").read_only());
        same(volume("db:/data:nocopy,rw"), Mount::volume("db", "/data").no_copy());
        same(volume("/data"), Mount::anonymous("/data"));
        same(volume("/srv:/data:rw,cached"), Mount::bind("/srv", "/data").create());
        same(volume("/srv:/data:"), Mount::bind("/srv", "/data").create());
        same(volume("./a/../x:/y"), Mount::bind("/here/below/x", "/y").create());
        same(volume("..:/y:Z"), Mount::bind("/here", "/y").create().relabel());
        let shared = Mount::bind("/srv", "/data").create().read_only().propagation(Propagation::RShared);
        same(volume("/srv:/data:rshared,ro"), shared);
        let refused = [
            ("x/y:/z", "\"x/y\" includes invalid characters for a local volume name"),
            ("d:/z", "includes invalid characters"),
            ("db:y", "invalid mount path: 'y' mount path must be absolute"),
            ("./x:y", "invalid mount path: 'y' mount path must be absolute"),
            ("data", "invalid mount path: 'data' mount path must be absolute"),
            ("db:/", "destination can't be '/'"),
            ("/:/", "destination can't be '/'"),
            ("/data:ro", "invalid volume specification: '/data:ro'"),
            ("db:/x:bogus", "invalid mode: bogus"),
            ("db:/x:ro,rw", "invalid mode: ro,rw"),
            ("db:/x:z,Z", "invalid mode: z,Z"),
            ("db:/x:rshared", "invalid volume specification"),
            ("/srv:/x:nocopy", "invalid volume specification"),
            ("a:/b:ro:c", "invalid volume specification: 'a:/b:ro:c'"),
            (":/b", "invalid volume specification"),
            ("a:", "invalid volume specification"),
            ("", "invalid volume specification"),
            (":", "invalid volume specification"),
        ];
        for (flag, text) in refused {
            let problem = volume(flag).unwrap_err();
            assert!(problem.contains(text), "{flag}: {problem}");
        }
    }

    #[test]
    fn a_driver_is_for_volumes() {
        let here = Path::new("/");
        same(volume("db:/d", Some("local"), here), Mount::volume("db", "/d").driver("local"));
        same(volume("/d", Some("local"), here), Mount::anonymous("/d").driver("local"));
        same(volume("/s:/d", Some("local"), here), Mount::bind("/s", "/d").create());
    }

    #[test]
    fn tmpfs_and_others_volumes() {
        same(tmpfs("/run"), Mount::tmpfs("/run"));
        same(tmpfs("/run:size=1m,exec"), Mount::tmpfs("/run").option("size=1m").option("exec"));
        assert!(tmpfs("run").unwrap_err().contains("absolute"));
        assert_eq!(volumes_from("db"), Ok(("db", false)));
        assert_eq!(volumes_from("db:ro"), Ok(("db", true)));
        assert_eq!(volumes_from("db:rw"), Ok(("db", false)));
        assert!(volumes_from("").is_err() && volumes_from("db:x").is_err() && volumes_from(":ro").is_err());
    }
}
