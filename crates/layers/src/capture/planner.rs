//! From what is wanted to what that takes: one program after another, looking only.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use coracle_host::{Dir, Kind};
use rustix::fs::FileType;

use super::Capture;
use super::elf;
use super::libraries::{Library, Loaded, Search, musl_paths};
use super::plan::{CapturePlan, Item};
use super::tree::{Found, Tree, relative};
use crate::{Error, Result};

/// A script's interpreter may be a script (execve(2)).
const MOST_SCRIPTS: u8 = 4;
/// Where `env` in an image will look.
const PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const GLIBC: &str = "libc.so.6";
/// glibc loads these by name when somebody looks up a user or a host; no ELF header says so.
const NAME_SERVICE: [&str; 3] = ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"];
const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";
/// What every image gets, unless it brings its own. The empty ones are places for a container's own.
const FILES: [(&str, &str); 6] = [
    ("etc/passwd", PASSWD),
    ("etc/group", GROUP),
    ("etc/nsswitch.conf", NSSWITCH),
    ("etc/hosts", ""),
    ("etc/hostname", ""),
    ("etc/resolv.conf", ""),
];
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

pub(super) fn plan(spec: &Capture, root: &Dir) -> Result<CapturePlan> {
    let tree = Tree::new(root.clone());
    let plan = CapturePlan::new(tree.clone(), spec.mtime);
    let mut planner = Planner { spec, tree, plan, last: Vec::new() };
    planner.base()?;
    let mut failures: Vec<Error> = Vec::new();
    for (path, target) in &spec.programs {
        if let Err(error) = planner.program(path, target.as_deref()) {
            failures.push(error);
        }
    }
    for (path, target) in &spec.files {
        if let Err(error) = planner.file(path, target) {
            failures.push(error);
        }
    }
    for (target, bytes, mode) in &spec.texts {
        planner.last.push((target.clone(), Item::Text { bytes: bytes.clone(), mode: mode & 0o7777 }));
    }
    for (target, item) in std::mem::take(&mut planner.last) {
        if let Err(error) = planner.place(&target, item) {
            failures.push(error);
        }
    }
    planner.defaults()?;
    match failures.len() {
        0 => Ok(planner.plan),
        1 => Err(failures.remove(0).context("capture")),
        _ => {
            let all: Vec<String> = failures.iter().map(Error::to_string).collect();
            Err(Error::new(failures[0].kind(), all.join("; ")).context("capture"))
        }
    }
}

struct Planner<'a> {
    spec: &'a Capture,
    tree: Tree,
    plan: CapturePlan,
    /// What goes to places that the spec chose: only when all links are known.
    last: Vec<(PathBuf, Item)>,
}

impl Planner<'_> {
    /// The directories of every image. Where the tree has `/bin` and the like as links, so does the image.
    fn base(&mut self) -> Result<()> {
        for name in ["bin", "sbin", "lib", "lib64"] {
            if let Some(target) = self.tree.link(Path::new(name))?
                && let Some(found) = self.tree.find(Path::new(name))?
            {
                self.plan.put(Path::new(name), Item::Link { target })?;
                self.plan.put(&found.real, Item::Dir { mode: 0o755 })?;
            }
        }
        for (name, mode) in [
            ("dev", 0o755),
            ("etc", 0o755),
            ("proc", 0o755),
            ("root", 0o700),
            ("run", 0o755),
            ("sys", 0o755),
            ("tmp", 0o1777),
            ("var/tmp", 0o1777),
        ] {
            self.plan.put(Path::new(name), Item::Dir { mode })?;
        }
        Ok(())
    }

    fn defaults(&mut self) -> Result<()> {
        for (path, text) in FILES {
            if !self.plan.has(Path::new(path)) {
                self.plan.put(Path::new(path), Item::Text { bytes: text.into(), mode: 0o644 })?;
            }
        }
        Ok(())
    }

    fn program(&mut self, path: &Path, target: Option<&Path>) -> Result<()> {
        let path = self.locate(path)?;
        self.program_at(&path, target, MOST_SCRIPTS)?;
        self.plan.first.get_or_insert_with(|| relative(target.unwrap_or(&path)));
        Ok(())
    }

    /// The path of a program given by path or by name.
    fn locate(&self, path: &Path) -> Result<PathBuf> {
        if path.is_absolute() {
            return Ok(path.to_owned());
        }
        let shown = path.display();
        if path.components().count() != 1 {
            return Err(Error::invalid(format!("program `{shown}`: the path is not absolute")));
        }
        let mut dirs = self.spec.search_dirs().peekable();
        if dirs.peek().is_none() {
            let text = format!("program `{shown}`: a name alone, and no search path to look it up in");
            return Err(Error::invalid(text));
        }
        self.look_up(path, dirs)?.ok_or_else(|| {
            let dirs: Vec<String> = self.spec.search_dirs().map(|dir| dir.display().to_string()).collect();
            Error::new(Kind::NotFound, format!("program `{shown}` is in none of {}", dirs.join(", ")))
        })
    }

    fn look_up<'b>(&self, name: &Path, dirs: impl Iterator<Item = &'b Path>) -> Result<Option<PathBuf>> {
        for dir in dirs {
            let path = dir.join(name);
            if self.tree.find(&path)?.is_some_and(|found| is_program(&found)) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn program_at(&mut self, path: &Path, target: Option<&Path>, scripts: u8) -> Result<()> {
        let shown = format!("program `{}`", path.display());
        let found = self.tree.find(path).map_err(|error| error.context(&shown))?;
        let found = found.ok_or_else(|| Error::new(Kind::NotFound, format!("{shown} is not there")))?;
        if !is_program(&found) {
            return Err(Error::invalid(format!("{shown} is not an executable file")));
        }
        let mut start = Vec::new();
        let file = self.tree.open(&found.real)?;
        file.take(256).read_to_end(&mut start).map_err(|error| Error::reading(&shown, &error))?;
        match target {
            Some(target) => self.last.push((target.to_owned(), item(&found))),
            None => self.keep(&found)?,
        }
        if let Some(line) = start.strip_prefix(b"#!") {
            let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
            return self
                .script(&String::from_utf8_lossy(line), scripts)
                .map_err(|error| error.context(format!("{shown}, a script")));
        }
        let object = elf::read(self.tree.open(&found.real)?)
            .map_err(|why| Error::invalid(format!("{shown} {why}, and no script")))?;
        if !object.machine.runs_here() {
            let text =
                format!("{shown} is for {}, and this host is {}", object.machine, std::env::consts::ARCH);
            return Err(Error::unsupported(text));
        }
        let dir = |path: &Path| path.parent().map(Path::to_owned).unwrap_or_default();
        let there = dir(&target.map_or_else(|| found.real.clone(), relative));
        self.load(Loaded { object, name: shown, here: dir(&found.real), there })
    }

    fn script(&mut self, line: &str, left: u8) -> Result<()> {
        let mut words = line.split_whitespace();
        let interpreter = Path::new(words.next().unwrap_or_default());
        if !interpreter.is_absolute() || left == 0 {
            return Err(Error::invalid(format!("`#!{line}` names no program")));
        }
        self.program_at(interpreter, None, left - 1)?;
        if interpreter.file_name().is_some_and(|name| name == "env")
            && let Some(name) = words.find(|word| !word.starts_with('-') && !word.contains('='))
        {
            let name = Path::new(name);
            let mut dirs: Vec<&Path> = self.spec.search_dirs().collect();
            dirs.extend(PATH.iter().map(Path::new));
            let found = self.look_up(name, dirs.into_iter())?;
            let found = found.ok_or_else(|| {
                Error::new(Kind::NotFound, format!("`#!{line}`: {} is not found", name.display()))
            })?;
            self.program_at(&found, None, left - 1)?;
        }
        Ok(())
    }

    /// Takes along all that the loader will load for a program, in its order: breadth first, each name once.
    fn load(&mut self, program: Loaded) -> Result<()> {
        let Some(interpreter) = program.object.interpreter.clone() else { return Ok(()) };
        let name = program.name.clone();
        let loader = self.tree.find(Path::new(&interpreter))?.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("{name} needs the loader {interpreter:?}, which is not there"))
        })?;
        self.keep(&loader)?;
        let search = Search::new(&self.tree, &interpreter, program.object.machine)?;
        if search.is_musl()
            && let Some(paths) = self.tree.find(&musl_paths(&interpreter))?
        {
            self.keep(&paths)?;
        }
        // Who loaded whom: an object, and the index of the one that needed it.
        let mut loaded: Vec<(Loaded, Option<usize>)> = vec![(program, None)];
        let mut known: HashSet<String> = HashSet::new();
        // The loader itself is loaded already when a library names it.
        known.extend(Path::new(&interpreter).file_name().map(|name| name.to_string_lossy().into_owned()));
        let mut hidden: Vec<(String, PathBuf)> = Vec::new();
        let mut libc: Option<PathBuf> = None;
        let mut index = 0;
        while index < loaded.len() {
            for needed in loaded[index].0.object.needed.clone() {
                if !known.insert(needed.clone()) {
                    continue;
                }
                let library = search.find(&self.tree, &needed, &chain(&loaded, index))?;
                if needed == GLIBC || needed.starts_with("libc.musl-") {
                    libc = library.there.parent().map(Path::to_owned);
                }
                if !library.by_default {
                    hidden.push((needed.clone(), library.there.clone()));
                }
                loaded.push((self.library(library, &name)?, Some(index)));
            }
            index += 1;
            if index == loaded.len() && known.contains(GLIBC) {
                self.name_service(&mut loaded, &mut known, libc.as_deref())?;
            }
        }
        // The image has no ld.so.cache. What only that would find gets a link beside the C library.
        let home = libc.unwrap_or_else(|| "/lib".into());
        for (name, path) in hidden {
            self.plan.put(&relative(&home.join(name)), Item::Link { target: path })?;
        }
        Ok(())
    }

    fn library(&mut self, library: Library, needs: &str) -> Result<Loaded> {
        let Library { object, here, there, .. } = library;
        let found = self.tree.find(&here)?.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("{needs} needs {here:?}, which has just gone"))
        })?;
        if here == there {
            self.keep(&found)?;
        } else {
            self.last.push((there.clone(), item(&found)));
        }
        // $ORIGIN is where the loader found it, before links.
        let dir = |path: &Path| relative(path.parent().unwrap_or(Path::new("/")));
        Ok(Loaded { object, name: needs.to_owned(), here: dir(&here), there: dir(&there) })
    }

    /// The parts that glibc loads for looking up names, if they are beside it.
    fn name_service(
        &mut self,
        loaded: &mut Vec<(Loaded, Option<usize>)>,
        known: &mut HashSet<String>,
        libc: Option<&Path>,
    ) -> Result<()> {
        let Some(libc) = libc else { return Ok(()) };
        for name in NAME_SERVICE {
            let path = libc.join(name);
            if !known.contains(name)
                && let Some(found) = self.tree.find(&path)?
                && let Ok(object) = elf::read(self.tree.open(&found.real)?)
                && object.machine == loaded[0].0.object.machine
            {
                known.insert(name.to_owned());
                let library = Library { object, here: path.clone(), there: path, by_default: true };
                let of_program = loaded[0].0.name.clone();
                loaded.push((self.library(library, &of_program)?, Some(0)));
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, target: &Path) -> Result<()> {
        let shown = format!("file `{}`", path.display());
        if !path.is_absolute() {
            return Err(Error::invalid(format!("{shown}: the path is not absolute")));
        }
        let found = self.tree.find(path)?;
        let found = found.ok_or_else(|| Error::new(Kind::NotFound, format!("{shown} is not there")))?;
        if found.kind() != FileType::RegularFile {
            return Err(Error::invalid(format!("{shown} is not a regular file")));
        }
        self.last.push((target.to_owned(), item(&found)));
        Ok(())
    }

    /// Puts something where the spec wants it.
    fn place(&mut self, target: &Path, item: Item) -> Result<()> {
        if !target.is_absolute() || target.file_name().is_none() {
            let text = format!("target `{}`: not an absolute path of a file", target.display());
            return Err(Error::invalid(text));
        }
        self.plan.put(&relative(target), item)
    }

    /// A file at its own path, with the links that lead to it.
    fn keep(&mut self, found: &Found) -> Result<()> {
        for (link, target) in &found.links {
            self.plan.put(link, Item::Link { target: target.clone() })?;
        }
        self.plan.put(&found.real, item(found))
    }
}

fn chain(loaded: &[(Loaded, Option<usize>)], of: usize) -> Vec<&Loaded> {
    let mut chain = Vec::new();
    let mut next = Some(of);
    while let Some(index) = next {
        chain.push(&loaded[index].0);
        next = loaded[index].1;
    }
    chain.reverse();
    chain
}

fn is_program(found: &Found) -> bool {
    found.kind() == FileType::RegularFile && found.stat.st_mode & 0o111 != 0
}

/// A file as the image has it: owned by root. A setuid bit that meant somebody else must not come to mean root.
fn item(found: &Found) -> Item {
    let mut mode = found.stat.st_mode & 0o7777;
    if found.stat.st_uid != 0 {
        mode &= !0o4000;
    }
    if found.stat.st_gid != 0 {
        mode &= !0o2000;
    }
    Item::File { from: found.real.clone(), mode }
}
