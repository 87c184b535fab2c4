//! `--mount type=…,source=…,target=…`.

use std::path::Path;

use coracle::{Mount, Propagation, Recursion};

use crate::csv;

use super::{host_path, short, target, wants_name};

/// What has been said so far.
#[derive(Default)]
struct Said<'a> {
    kind: Option<String>,
    source: Option<&'a str>,
    at: Option<&'a str>,
    read_only: bool,
    /// Which of the options that begin with a type: `volume-`.
    families: Vec<&'static str>,
    bind: Bind,
    subpath: Option<&'a str>,
    no_copy: bool,
    labels: Vec<&'a str>,
    driver: Option<&'a str>,
    options: Vec<&'a str>,
    size: Option<u64>,
    mode: Option<u32>,
}

#[derive(Default)]
struct Bind {
    propagation: Option<Propagation>,
    recursion: Recursion,
    /// `bind-recursive=readonly`: not only where that can be.
    forced: bool,
    create: bool,
}

/// One `--mount`, a line of comma-separated `key=value` fields, as docker reads it.
pub(super) fn mount(text: &str, here: &Path) -> Result<Mount, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("value is empty".into());
    }
    let fields = csv::fields(text)?;
    let mut said = Said::default();
    for field in &fields {
        said.field(field)?;
    }
    said.mount(here)
}

impl<'a> Said<'a> {
    fn field(&mut self, field: &'a str) -> Result<(), String> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field, None),
        };
        if key.trim() != key {
            return Err(format!("invalid option '{key}' in '{field}': option should not have whitespace"));
        }
        if let Some(value) = value {
            if value.trim().is_empty() {
                return Err(format!("invalid value for '{key}': value is empty"));
            }
            if value.trim() != value {
                return Err(format!(
                    "invalid value for '{key}' in '{field}': value should not have whitespace"
                ));
            }
        }
        let key = key.to_ascii_lowercase();
        let flags = ["readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src"];
        if value.is_none() && !flags.contains(&&*key) {
            return Err(format!("invalid field '{field}' must be a key=value pair"));
        }
        let text = value.unwrap_or_default();
        let wrong = || format!("invalid value for {key}: {text}");
        let yes = || match value {
            None => Ok(true),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(_) => Err(wrong()),
        };
        for family in ["bind", "volume", "tmpfs", "image"] {
            if key.strip_prefix(family).is_some_and(|rest| rest.starts_with('-')) {
                self.families.push(family);
            }
        }
        match &*key {
            "type" => self.kind = Some(text.to_ascii_lowercase()),
            "source" | "src" => self.source = Some(text),
            "target" | "dst" | "destination" => self.at = Some(text),
            "readonly" | "ro" => self.read_only = yes()?,
            "consistency" if matches!(text, "default" | "consistent" | "cached" | "delegated") => {}
            "consistency" => return Err(wrong()),
            "bind-propagation" => {
                self.bind.propagation =
                    Some(short::propagation(&text.to_ascii_lowercase()).ok_or_else(wrong)?);
            }
            "bind-nonrecursive" => {
                self.bind.recursion = if yes()? { Recursion::Disabled } else { Recursion::Enabled };
            }
            "bind-recursive" => {
                self.bind.forced = text == "readonly";
                self.bind.recursion = match text {
                    "enabled" | "readonly" => Recursion::Enabled,
                    "disabled" => Recursion::Disabled,
                    "writable" => Recursion::Writable,
                    _ => {
                        let must = r#"(must be "enabled", "disabled", "writable", or "readonly")"#;
                        return Err(format!("invalid value for {key}: {text} {must}"));
                    }
                };
            }
            "bind-create-src" => self.bind.create = yes()?,
            "volume-subpath" | "image-subpath" => self.subpath = Some(text),
            "volume-nocopy" => self.no_copy = yes()?,
            "volume-label" => self.labels.push(text),
            "volume-driver" => self.driver = Some(text),
            "volume-opt" => self.options.push(text),
            "tmpfs-size" => self.size = Some(size(text).ok_or_else(wrong)?),
            "tmpfs-mode" => self.mode = Some(u32::from_str_radix(text, 8).map_err(|_| wrong())?),
            _ => return Err(format!("unknown option '{key}' in '{field}'")),
        }
        Ok(())
    }

    fn mount(self, here: &Path) -> Result<Mount, String> {
        let kind = self.kind.as_deref().unwrap_or("volume");
        let at = target(self.at.ok_or("target is required")?)?;
        if let Some(other) = self.families.iter().find(|family| **family != kind) {
            return Err(format!("cannot mix '{other}-*' options with mount type '{kind}'"));
        }
        let config = |why: &str| format!("invalid mount config for type {kind:?}: {why}");
        let source = self.source.ok_or_else(|| config("field Source must not be empty"));
        let mut mount = match kind {
            "volume" => match self.source {
                None if self.read_only => {
                    return Err(config("must not set ReadOnly mode when using anonymous volumes"));
                }
                None => Mount::anonymous(at),
                Some(name) => {
                    wants_name(name).map_err(|why| config(&why))?;
                    Mount::volume(name, at)
                }
            },
            "bind" => {
                let path = host_path(source?, here);
                if !path.is_absolute() {
                    return Err(config(&format!(
                        "invalid mount path: '{}' mount path must be absolute",
                        path.display()
                    )));
                }
                Mount::bind(path, at)
            }
            "tmpfs" if self.source.is_some() => return Err(config("field Source must not be specified")),
            "tmpfs" => Mount::tmpfs(at),
            "image" => Mount::image(source?, at),
            other => return Err(format!("invalid mount config for type {other:?}: mount type unknown")),
        };
        if self.read_only && kind != "image" {
            mount = mount.read_only();
        }
        if kind == "bind" {
            mount = self.bind.put(mount, self.read_only)?;
        }
        if let Some(path) = self.subpath {
            mount = mount.subpath(path);
        }
        if self.no_copy {
            mount = mount.no_copy();
        }
        if let Some(driver) = self.driver {
            mount = mount.driver(driver);
        }
        let pair = |text: &'a str| text.split_once('=').unwrap_or((text, ""));
        for (key, value) in self.labels.into_iter().map(pair) {
            mount = mount.label(key, value);
        }
        for (key, value) in self.options.into_iter().map(pair) {
            mount = mount.volume_option(key, value);
        }
        mount = self.size.into_iter().fold(mount, Mount::size);
        Ok(self.mode.into_iter().fold(mount, Mount::mode))
    }
}

impl Bind {
    fn put(self, mount: Mount, read_only: bool) -> Result<Mount, String> {
        let together = |what: &str, with: &str| {
            Err(format!("option 'bind-recursive={what}' requires '{with}' to be specified in conjunction"))
        };
        if self.recursion == Recursion::Writable && !read_only {
            return together("writable", "readonly");
        }
        if self.forced && !read_only {
            return together("readonly", "readonly");
        }
        if self.forced && self.propagation != Some(Propagation::RPrivate) {
            return together("readonly", "bind-propagation=rprivate");
        }
        let mount = mount.recursion(self.recursion);
        let mount = if self.create { mount.create() } else { mount };
        Ok(self.propagation.into_iter().fold(mount, Mount::propagation))
    }
}

/// A size in bytes with a binary unit, as docker reads it: `64m`, `1.5GiB`, `100`.
fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    Some((number * 1024f64.powi(power)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn same(found: Result<Mount, String>, expected: Mount) {
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn every_key() {
        let mount = |text: &str| mount(text, Path::new("/here"));
        same(mount("source=db,target=/data"), Mount::volume("db", "/data"));
        same(mount("dst=/data,type=volume"), Mount::anonymous("/data"));
        same(
            mount(
                "type=volume,src=db,dst=/d,readonly,volume-subpath=a/b,volume-nocopy,volume-label=x=1,volume-label=y,\
                 volume-driver=local,volume-opt=type=tmpfs,\"volume-opt=o=size=1m,uid=7\"",
            ),
            Mount::volume("db", "/d")
                .read_only()
                .subpath("a/b")
                .no_copy()
                .label("x", "1")
                .label("y", "")
                .driver("local")
                .volume_option("type", "tmpfs")
                .volume_option("o", "size=1m,uid=7"),
        );
        same(mount("type=bind,source=/s,destination=/d,ro=false"), Mount::bind("/s", "/d"));
        same(mount("Type=BIND,SRC=.,dst=/d,ro"), Mount::bind("/here", "/d").read_only());
        same(
            mount(
                "type=bind,src=/s,dst=/d,bind-propagation=rslave,bind-recursive=disabled,bind-create-src,consistency=cached",
            ),
            Mount::bind("/s", "/d").propagation(Propagation::RSlave).recursion(Recursion::Disabled).create(),
        );
        same(
            mount("type=bind,src=/s,dst=/d,bind-nonrecursive"),
            Mount::bind("/s", "/d").recursion(Recursion::Disabled),
        );
        same(
            mount("type=bind,src=/s,dst=/d,ro,bind-recursive=writable"),
            Mount::bind("/s", "/d").read_only().recursion(Recursion::Writable),
        );
        same(
            mount("type=bind,src=/s,dst=/d,ro,bind-recursive=readonly,bind-propagation=rprivate"),
            Mount::bind("/s", "/d").read_only().propagation(Propagation::RPrivate),
        );
        same(
            mount("type=tmpfs,dst=/t,tmpfs-size=1.5m,tmpfs-mode=1770,readonly"),
            Mount::tmpfs("/t").read_only().size(3 << 19).mode(0o1770),
        );
        same(mount("type=image,src=i:1,dst=/i,image-subpath=etc"), Mount::image("i:1", "/i").subpath("etc"));
        same(mount("type=image,src=i,dst=/i,ro=false"), Mount::image("i", "/i"));
    }

    #[test]
    fn refused_in_dockers_words() {
        let table = [
            ("", "value is empty"),
            ("type=bind,target=/x", "invalid mount config for type \"bind\": field Source must not be empty"),
            ("type=tmpfs,src=x,target=/x", "field Source must not be specified"),
            ("type=npipe,target=/x", "invalid mount config for type \"npipe\": mount type unknown"),
            ("type=bind,src=rel,dst=/x", "invalid mount path: 'rel' mount path must be absolute"),
            ("target=/x,readonly", "must not set ReadOnly mode when using anonymous volumes"),
            ("source=db", "target is required"),
            ("source,target=/x", "invalid field 'source' must be a key=value pair"),
            ("source=db,target=x", "invalid mount path: 'x' mount path must be absolute"),
            ("source=db,target=/x,ro=maybe", "invalid value for ro: maybe"),
            ("source=db,target=/x,bogus=1", "unknown option 'bogus' in 'bogus=1'"),
            ("source=db, target=/x", "option should not have whitespace"),
            ("source= db,target=/x", "value should not have whitespace"),
            ("source=,target=/x", "invalid value for 'source': value is empty"),
            ("source=a/b,target=/x", "\"a/b\" includes invalid characters for a local volume name"),
            ("src=db,dst=/x,bind-propagation=shared", "cannot mix 'bind-*' options with mount type 'volume'"),
            ("type=bind,src=/s,dst=/x,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
            ("type=bind,src=/s,dst=/x,tmpfs-size=1", "cannot mix 'tmpfs-*' options with mount type 'bind'"),
            ("type=tmpfs,dst=/x,tmpfs-size=big", "invalid value for tmpfs-size: big"),
            ("type=tmpfs,dst=/x,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"),
            ("type=bind,src=/s,dst=/x,bind-recursive=all", "(must be \"enabled\", \"disabled\""),
            ("type=bind,src=/s,dst=/x,bind-recursive=writable", "requires 'readonly' to be specified"),
            ("type=bind,src=/s,dst=/x,ro,bind-recursive=readonly", "requires 'bind-propagation=rprivate'"),
            ("type=bind,src=/s,dst=/x,bind-propagation=both", "invalid value for bind-propagation: both"),
            ("src=d\"b,dst=/x", "bare \""),
            ("\"src=db,dst=/x", "missing \""),
        ];
        for (flag, text) in table {
            let problem = mount(flag, Path::new("/here")).unwrap_err();
            assert!(problem.contains(text), "{flag}: {problem}");
        }
    }

    #[test]
    fn sizes() {
        let table = [("100", 100), ("64k", 64 << 10), ("64KB", 64 << 10), ("1.5GiB", 3 << 29), ("0", 0)];
        for (text, bytes) in table {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for bad in ["", "m", "1x", "-1", "1.2.3m", "1 2"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
