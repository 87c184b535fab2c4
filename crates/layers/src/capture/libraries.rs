//! Where the dynamic loader would find a library: ld.so(8) for glibc, musl's own rules for musl.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::elf::{self, Machine, Object};
use super::tree::Tree;
use crate::{Error, Result};

/// A loaded object and what its search paths mean.
#[derive(Clone)]
pub(super) struct Loaded {
    pub object: Object,
    /// For messages.
    pub name: String,
    /// `$ORIGIN`: its directory in the tree, and the one it will have in the image.
    pub here: PathBuf,
    pub there: PathBuf,
}

/// A library found.
pub(super) struct Library {
    pub object: Object,
    /// Its path in the tree, links and all, and the one that it must have in the image to be found there.
    pub here: PathBuf,
    pub there: PathBuf,
    /// Whether the loader finds it there with no `ld.so.cache`, which images don't have.
    pub by_default: bool,
}

/// The directories that the loader searches after those that objects name.
pub(super) struct Search {
    musl: bool,
    /// In order; whether the loader knows the directory by itself.
    dirs: Vec<(PathBuf, bool)>,
}

impl Search {
    pub fn new(tree: &Tree, interpreter: &str, machine: Machine) -> Result<Search> {
        let musl = interpreter.contains("ld-musl-");
        let mut dirs = Vec::new();
        if musl {
            // musl: /etc/ld-musl-<arch>.path, or these.
            let file = musl_paths(interpreter);
            let text = tree.text(&file)?.unwrap_or_else(|| "/lib:/usr/local/lib:/usr/lib".to_owned());
            dirs.extend(
                text.split([':', '\n']).filter(|dir| dir.starts_with('/')).map(|dir| (dir.into(), true)),
            );
        } else {
            let defaults = default_dirs(machine);
            for dir in configured(tree, Path::new("/etc/ld.so.conf"), 8)? {
                let by_default = defaults.contains(&dir);
                dirs.push((dir, by_default));
            }
            dirs.extend(defaults.into_iter().map(|dir| (dir, true)));
        }
        Ok(Search { musl, dirs })
    }

    /// Finds the library `name` for the last of `chain`, which the others loaded one for the other, the program first.
    pub fn find(&self, tree: &Tree, name: &str, chain: &[&Loaded]) -> Result<Library> {
        let Some(needs) = chain.last() else { return Err(Error::invalid("nobody needs a library")) };
        let mut foreign = None;
        let mut attempt = |here: PathBuf, there: PathBuf, by_default: bool| -> Result<Option<Library>> {
            let Some(found) = tree.find(&here)?.filter(|found| found.kind() == FileType::RegularFile) else {
                return Ok(None);
            };
            match elf::read(tree.open(&found.real)?) {
                Ok(object) if object.machine == needs.object.machine => {
                    Ok(Some(Library { object, here, there, by_default }))
                }
                // The loader, too, goes on when it finds one of another machine.
                Ok(object) => {
                    foreign.get_or_insert(format!("{here:?} is for {}", object.machine));
                    Ok(None)
                }
                Err(why) => {
                    foreign.get_or_insert(format!("{here:?} {why}"));
                    Ok(None)
                }
            }
        };
        if name.contains('/') {
            if let Some(library) = attempt(name.into(), name.into(), true)? {
                return Ok(library);
            }
        } else {
            for (object, path) in self.of_objects(chain) {
                let expand = |origin: &Path| expand(path, origin, object.object.machine).join(name);
                if let Some(library) = attempt(expand(&object.here), expand(&object.there), true)? {
                    return Ok(library);
                }
            }
            for (dir, by_default) in &self.dirs {
                if let Some(library) = attempt(dir.join(name), dir.join(name), *by_default)? {
                    return Ok(library);
                }
            }
        }
        let machine = needs.object.machine;
        let but = foreign.map(|foreign| format!(" ({foreign}, not {machine})")).unwrap_or_default();
        let text = format!("{} needs the library {name:?}, which is not found{but}", needs.name);
        Err(Error::new(coracle_host::Kind::NotFound, text))
    }

    /// The search paths that objects name. glibc: RPATH of the object and of those that loaded it, unless the object
    /// has RUNPATH, which is its own alone. musl makes no difference between the two.
    fn of_objects<'a>(&self, chain: &[&'a Loaded]) -> Vec<(&'a Loaded, &'a str)> {
        let mut paths = Vec::new();
        let own = chain.last();
        if self.musl {
            for loaded in chain.iter().rev() {
                let object = &loaded.object;
                let path = if object.runpath.is_empty() { &object.rpath } else { &object.runpath };
                paths.extend(path.iter().map(|path| (*loaded, path.as_str())));
            }
            return paths;
        }
        if own.is_some_and(|own| own.object.runpath.is_empty()) {
            for loaded in chain.iter().rev().filter(|loaded| loaded.object.runpath.is_empty()) {
                paths.extend(loaded.object.rpath.iter().map(|path| (*loaded, path.as_str())));
            }
        }
        if let Some(loaded) = own {
            paths.extend(loaded.object.runpath.iter().map(|path| (*loaded, path.as_str())));
        }
        paths
    }

    /// Whether the program's C library is glibc, whose name service loads its parts by itself.
    pub fn is_musl(&self) -> bool {
        self.musl
    }
}

/// The file that tells a musl loader where to search.
pub(super) fn musl_paths(interpreter: &str) -> PathBuf {
    let name = Path::new(interpreter).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.strip_suffix(".so").unwrap_or(&name).to_owned();
    Path::new("/etc").join(format!("{name}.path"))
}

fn expand(path: &str, origin: &Path, machine: Machine) -> PathBuf {
    let origin = Path::new("/").join(origin);
    let mut path = path.to_owned();
    for (token, value) in
        [("ORIGIN", &*origin.to_string_lossy()), ("LIB", machine.lib()), ("PLATFORM", machine.platform())]
    {
        path = path.replace(&format!("${{{token}}}"), value).replace(&format!("${token}"), value);
    }
    path.into()
}

fn default_dirs(machine: Machine) -> Vec<PathBuf> {
    let mut dirs: Vec<String> = Vec::new();
    if let Some(triple) = machine.multiarch() {
        dirs.extend([format!("/lib/{triple}"), format!("/usr/lib/{triple}")]);
    }
    if machine.bits == 64 {
        dirs.extend(["/lib64".to_owned(), "/usr/lib64".to_owned()]);
    }
    dirs.extend(["/lib".to_owned(), "/usr/lib".to_owned()]);
    dirs.into_iter().map(PathBuf::from).collect()
}

/// The directories of an `ld.so.conf`, with the files that it includes (ldconfig(8)).
fn configured(tree: &Tree, file: &Path, depth: u8) -> Result<Vec<PathBuf>> {
    let mut dirs = Vec::new();
    let Some(text) = tree.text(file)?.filter(|_| depth > 0) else { return Ok(dirs) };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(patterns) = line.strip_prefix("include").filter(|rest| rest.starts_with([' ', '\t'])) {
            for pattern in patterns.split_whitespace() {
                let pattern = file.parent().unwrap_or(Path::new("/")).join(pattern);
                for file in matching(tree, &pattern)? {
                    dirs.extend(configured(tree, &file, depth - 1)?);
                }
            }
        } else if line.starts_with('/') {
            dirs.push(PathBuf::from(line.split_whitespace().next().unwrap_or(line)));
        }
    }
    Ok(dirs)
}

/// The files that match a pattern with `*` in its last component, sorted, as glob(3) has them.
fn matching(tree: &Tree, pattern: &Path) -> Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (pattern.parent(), pattern.file_name()) else { return Ok(Vec::new()) };
    let name = name.to_string_lossy();
    if !name.contains('*') {
        return Ok(vec![pattern.to_owned()]);
    }
    let names = tree.names(dir)?;
    let matching = names.iter().filter(|found| {
        let found = found.to_string_lossy();
        found.starts_with('.') == name.starts_with('.') && matches(&name, &found)
    });
    Ok(matching.map(|found| dir.join(found)).collect())
}

/// `*` stands for anything. Linear: after a star the first match is as good as any.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let (first, last) = (parts.next().unwrap_or_default(), pattern.rsplit('*').next().unwrap_or_default());
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let middle: Vec<&str> = parts.collect();
    for part in middle.iter().take(middle.len().saturating_sub(1)) {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match() {
        for (pattern, text, is) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.confx", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXc", false),
            ("a*a", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), is, "{pattern} {text}");
        }
    }

    #[test]
    fn tokens_expand() {
        let machine = Machine { bits: 64, number: ::elf::abi::EM_X86_64 };
        let expand = |path| expand(path, Path::new("opt/app/bin"), machine);
        assert_eq!(expand("$ORIGIN/../lib"), Path::new("/opt/app/bin/../lib"));
        assert_eq!(expand("/x/${LIB}/${PLATFORM}"), Path::new("/x/lib64/x86_64"));
    }

    #[test]
    fn musl_reads_its_own_file() {
        assert_eq!(musl_paths("/lib/ld-musl-x86_64.so.1"), Path::new("/etc/ld-musl-x86_64.path"));
    }
}
