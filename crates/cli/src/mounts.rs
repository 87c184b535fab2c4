//! `-v` and `--mount`.

use std::path::{Path, PathBuf};

use coracle::Source;

/// What one flag asks for.
#[derive(Debug, PartialEq)]
pub(crate) struct Mount {
    pub(crate) source: Source,
    pub(crate) at: PathBuf,
    pub(crate) read_only: bool,
    /// A missing directory of the host is made: `-v` does that, `--mount` doesn't.
    pub(crate) make: bool,
}

/// `SOURCE:TARGET[:OPTIONS]`, the source a volume's name or an absolute path of the host.
pub(crate) fn volume_flag(text: &str) -> Result<Mount, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, at, options) = match parts[..] {
        [_] => return Err("a volume without a name is not supported yet".into()),
        [source, at] => (source, at, ""),
        [source, at, options] => (source, at, options),
        _ => return Err("invalid volume specification: want SOURCE:TARGET[:OPTIONS]".into()),
    };
    if source.is_empty() || at.is_empty() {
        return Err("invalid volume specification: empty section between colons".into());
    }
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            // What docker has by default, and what says something on other systems only.
            "rw" | "rprivate" | "consistent" | "cached" | "delegated" => {}
            _ => return Err(format!("option `{option}` is not supported")),
        }
    }
    let is_path = source.starts_with('/');
    if !is_path && source.contains('/') {
        return Err(format!(
            "{source:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
             allowed; a directory of the host needs an absolute path"
        ));
    }
    Ok(Mount { source: source_of(source, is_path), at: target(at)?, read_only, make: is_path })
}

/// `type=volume|bind,source=…,target=…[,readonly]`.
pub(crate) fn mount_flag(text: &str) -> Result<Mount, String> {
    let (mut kind, mut source, mut at, mut read_only) = ("volume", None, None, false);
    for field in text.split(',') {
        let (key, value) = field.split_once('=').map_or((field, None), |(key, value)| (key, Some(value)));
        let needed = || value.ok_or_else(|| format!("invalid field '{field}': it must be a key=value pair"));
        match key.to_ascii_lowercase().as_str() {
            "type" => kind = needed()?,
            "source" | "src" => source = Some(needed()?),
            "target" | "dst" | "destination" => at = Some(needed()?),
            "readonly" | "ro" => {
                read_only = match value {
                    None | Some("true" | "1") => true,
                    Some("false" | "0") => false,
                    Some(other) => return Err(format!("invalid value for {key}: {other}")),
                }
            }
            _ => return Err(format!("key `{key}` is not supported")),
        }
    }
    let is_path = match kind {
        "volume" => false,
        "bind" => true,
        other => return Err(format!("type `{other}` is not supported yet")),
    };
    let at = at.ok_or("target is required")?;
    match source.filter(|source| !source.is_empty()) {
        Some(source) => {
            Ok(Mount { source: source_of(source, is_path), at: target(at)?, read_only, make: false })
        }
        None if is_path => Err("type bind needs a source".into()),
        None => Err("a volume without a name is not supported yet".into()),
    }
}

fn source_of(text: &str, is_path: bool) -> Source {
    if is_path { Source::Bind(text.into()) } else { Source::Volume(text.into()) }
}

fn target(text: &str) -> Result<PathBuf, String> {
    if !text.starts_with('/') {
        return Err(format!("invalid mount path: '{text}': it must be absolute"));
    }
    Ok(Path::new(text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, at: &str, read_only: bool) -> Mount {
        Mount { source: Source::Volume(name.into()), at: at.into(), read_only, make: false }
    }

    fn bind(path: &str, at: &str, read_only: bool, make: bool) -> Mount {
        Mount { source: Source::Bind(path.into()), at: at.into(), read_only, make }
    }

    #[test]
    fn volume_flags() {
        assert_eq!(volume_flag("db:/data").unwrap(), volume("db", "/data", false));
        assert_eq!(volume_flag("db:/data:ro").unwrap(), volume("db", "/data", true));
        assert_eq!(volume_flag("/srv:/data:rw,cached").unwrap(), bind("/srv", "/data", false, true));
        let refused = [
            ("/data", "without a name"),
            ("./x:y", "\"./x\" includes invalid characters for a local volume name"),
            ("x/y:/z", "absolute path"),
            ("db:y", "invalid mount path: 'y'"),
            ("db:/x:z", "option `z`"),
            ("a:/b:ro:c", "invalid volume specification"),
            (":/b", "empty section"),
            ("a:", "empty section"),
            ("", "without a name"),
        ];
        for (flag, text) in refused {
            let problem = volume_flag(flag).unwrap_err();
            assert!(problem.contains(text), "{flag}: {problem}");
        }
    }

    #[test]
    fn mount_flags() {
        assert_eq!(mount_flag("source=db,target=/data").unwrap(), volume("db", "/data", false));
        assert_eq!(mount_flag("type=volume,src=db,dst=/d,readonly").unwrap(), volume("db", "/d", true));
        assert_eq!(
            mount_flag("type=bind,source=/s,destination=/d,ro=false").unwrap(),
            bind("/s", "/d", false, false)
        );
        let refused = [
            ("type=tmpfs,target=/x", "type `tmpfs`"),
            ("type=bind,target=/x", "needs a source"),
            ("target=/x", "without a name"),
            ("source=db", "target is required"),
            ("source,target=/x", "invalid field 'source'"),
            ("source=db,target=/x,volume-nocopy", "key `volume-nocopy`"),
            ("source=db,target=x", "invalid mount path"),
            ("source=db,target=/x,ro=maybe", "invalid value for ro: maybe"),
        ];
        for (flag, text) in refused {
            let problem = mount_flag(flag).unwrap_err();
            assert!(problem.contains(text), "{flag}: {problem}");
        }
    }
}
