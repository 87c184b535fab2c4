//! A context, a state directory and a worker whose snapshots are directories.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use coracle_build::{
    Base, BuildSpec, Built, Cache, Command, Commit, Error, Event, Fetched, ImageConfig, Snapshot, Stream,
    Worker, build,
};
use coracle_host::{Dir, Kind, Staging};
use sha2::{Digest, Sha256};

#[derive(Clone, Debug)]
pub struct Tree {
    pub id: String,
}

impl Snapshot for Tree {
    fn id(&self) -> &str {
        &self.id
    }
}

/// What the worker does just before it applies an edit.
type BeforeEdit = Box<dyn Fn() + Send>;

/// Snapshots are directories named by the digest of their content. A command is not run but understood: lines of
/// `put <path> <text>` (`$NAME` of the environment is replaced), `count <path>` (how often it was run) and
/// `exit <code>`, `meet <n>` (until n commands are at it at once).
#[derive(Default)]
pub struct DirWorker {
    place: PathBuf,
    bases: Mutex<BTreeMap<String, Base<Tree>>>,
    pub ran: Mutex<Vec<Command>>,
    pub edits: Mutex<usize>,
    pub trees_lent: Mutex<usize>,
    pub images: Mutex<Vec<(Commit<Tree>, Vec<u8>)>>,
    pub before_edit: Mutex<Option<BeforeEdit>>,
    /// Snapshots that can be fetched: where they are, or nothing where that fails.
    pub elsewhere: Mutex<BTreeMap<String, Option<PathBuf>>>,
    met: Mutex<usize>,
    meeting: Condvar,
}

impl DirWorker {
    pub fn path(&self, tree: &Tree) -> PathBuf {
        self.place.join(&tree.id)
    }

    fn child(&self, on: &Tree, change: impl FnOnce(&Path) -> Result<(), Error>) -> Result<Tree, Error> {
        let new = tempfile::tempdir_in(&self.place).unwrap();
        copy_tree(&self.path(on), new.path());
        change(new.path())?;
        let id = digest_tree(new.path());
        if !self.place.join(&id).exists() {
            fs::rename(new.keep(), self.place.join(&id)).unwrap();
        }
        Ok(Tree { id })
    }

    pub fn add_base(&self, name: &str, files: &[(&str, &str)], config: ImageConfig) {
        let tree = self
            .child(&self.scratch(), |dir| {
                for (path, text) in files {
                    let path = dir.join(path);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, text).unwrap();
                }
                Ok(())
            })
            .unwrap();
        let base = Base { snapshot: tree, config, digest: format!("sha256:{name}") };
        self.bases.lock().unwrap().insert(name.to_owned(), base);
    }
}

impl Worker for DirWorker {
    type Snapshot = Tree;

    fn scratch(&self) -> Tree {
        let dir = self.place.join("scratch");
        fs::create_dir_all(&dir).unwrap();
        Tree { id: "scratch".to_owned() }
    }

    fn base(&self, name: &str) -> Result<Base<Tree>, Error> {
        let found = self.bases.lock().unwrap().get(name).cloned();
        found.ok_or_else(|| Error::new(Kind::NotFound, "there is no such image"))
    }

    fn find(&self, id: &str) -> Result<Option<Tree>, Error> {
        Ok(self.place.join(id).exists().then(|| Tree { id: id.to_owned() }))
    }

    fn fetch(&self, id: &str) -> Result<Option<Fetched<Tree>>, Error> {
        match self.elsewhere.lock().unwrap().remove(id) {
            None => Ok(None),
            Some(None) => Err(Error::new(Kind::Corrupt, "its blob is another")),
            Some(Some(path)) => {
                fs::rename(path, self.place.join(id)).unwrap();
                Ok(Some(Fetched { snapshot: Tree { id: id.to_owned() }, layers: 1, bytes: 7 }))
            }
        }
    }

    fn tree(&self, of: &Tree) -> Result<OwnedFd, Error> {
        *self.trees_lent.lock().unwrap() += 1;
        Ok(fs::File::open(self.path(of)).unwrap().into())
    }

    fn edit(
        &self,
        on: &Tree,
        change: &mut dyn FnMut(BorrowedFd<'_>) -> Result<(), Error>,
    ) -> Result<Tree, Error> {
        if let Some(hook) = self.before_edit.lock().unwrap().as_ref() {
            hook();
        }
        *self.edits.lock().unwrap() += 1;
        self.child(on, |dir| change(fs::File::open(dir).unwrap().as_fd()))
    }

    fn run(
        &self,
        on: &Tree,
        command: &Command,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Tree, Error> {
        let nth = {
            let mut ran = self.ran.lock().unwrap();
            ran.push(command.clone());
            ran.len()
        };
        output(Stream::Stdout, format!("running {}\n", command.argv.last().unwrap()).as_bytes());
        self.child(on, |dir| {
            for line in command.argv.last().unwrap().lines() {
                let mut line = line.to_owned();
                for (name, value) in &command.env {
                    line = line.replace(&format!("${name}"), value);
                }
                let words: Vec<&str> = line.split(' ').collect();
                match words.as_slice() {
                    ["put", path, text @ ..] => fs::write(dir.join(path), text.join(" ")).unwrap(),
                    ["count", path] => fs::write(dir.join(path), nth.to_string()).unwrap(),
                    ["meet", n] => {
                        let n: usize = n.parse().unwrap();
                        let mut met = self.met.lock().unwrap();
                        *met += 1;
                        self.meeting.notify_all();
                        let late = Duration::from_secs(20);
                        let (met, waited) =
                            self.meeting.wait_timeout_while(met, late, |met| *met < n).unwrap();
                        drop(met);
                        assert!(!waited.timed_out(), "the others don't come");
                    }
                    ["exit", code] => return Err(Error::exited(code.parse().unwrap())),
                    other => panic!("the test's command {other:?}"),
                }
            }
            Ok(())
        })
    }

    fn commit(&self, image: Commit<Tree>) -> Result<String, Error> {
        let mut config = image.config.clone();
        config.rootfs.set_diff_ids(vec![image.snapshot.id.clone()]);
        let json = config.to_json();
        let id = format!("sha256:{}", hex(&Sha256::digest(&json)));
        self.images.lock().unwrap().push((image, json));
        Ok(id)
    }
}

/// A place for one test.
pub struct Bench {
    place: tempfile::TempDir,
    pub worker: DirWorker,
    pub cache: Cache,
    pub events: Vec<Event>,
}

impl Bench {
    /// With a base image `base` that has users and a shell's name.
    pub fn new() -> Bench {
        let place = tempfile::tempdir().unwrap();
        let state = Dir::open(place.path()).unwrap();
        let staging = Staging::open(&state.make("tmp", 0o700).unwrap()).unwrap();
        let cache = Cache::new(state.make("cache", 0o700).unwrap(), staging);
        fs::create_dir(place.path().join("context")).unwrap();
        fs::create_dir(place.path().join("snapshots")).unwrap();
        let worker = DirWorker { place: place.path().join("snapshots"), ..DirWorker::default() };
        let mut config = ImageConfig::scratch();
        config.created = Some("2020-01-01T00:00:00Z".to_owned());
        let passwd = "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n";
        worker.add_base("base", &[("etc/passwd", passwd), ("etc/group", "staff:x:50:\n")], config);
        Bench { place, worker, cache, events: Vec::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub fn context(&self) -> PathBuf {
        self.path("context")
    }

    /// Writes a file of the context.
    pub fn file(&self, name: &str, text: &str) -> &Bench {
        let path = self.context().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Writes the Dockerfile. Only root can give files to root, so others copy for themselves.
    pub fn dockerfile(&self, text: &str) -> BuildSpec {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let text = if uid == 0 || text.contains("--chown") {
            text.to_owned()
        } else {
            text.replace("COPY ", &format!("COPY --chown={uid}:{gid} "))
        };
        self.file("Dockerfile", &text);
        BuildSpec::new(self.context())
    }

    pub fn try_build(&mut self, spec: &BuildSpec) -> Result<Built, Error> {
        let events = &mut self.events;
        build(spec, &self.worker, &self.cache, &mut |event| events.push(event.clone()))
    }

    /// Several builds of the same at once.
    pub fn crowd(&self, builds: usize, spec: &BuildSpec) -> Vec<Built> {
        let start = std::sync::Barrier::new(builds);
        let one = || {
            start.wait();
            build(spec, &self.worker, &self.cache, &mut |_| ()).unwrap()
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..builds).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    pub fn build(&mut self, spec: &BuildSpec) -> Built {
        self.try_build(spec).unwrap()
    }

    /// The message of a build that fails.
    pub fn error(&mut self, spec: &BuildSpec) -> String {
        self.try_build(spec).unwrap_err().to_string()
    }

    pub fn last_image(&self) -> (Commit<Tree>, serde_json::Value) {
        let images = self.worker.images.lock().unwrap();
        let (commit, json) = images.last().unwrap();
        (commit.clone(), serde_json::from_slice(json).unwrap())
    }

    /// A file of the last image.
    pub fn read(&self, path: &str) -> Option<String> {
        let tree = self.worker.path(&self.last_image().0.snapshot);
        fs::read_to_string(tree.join(path)).ok()
    }

    pub fn metadata(&self, path: &str) -> fs::Metadata {
        self.worker.path(&self.last_image().0.snapshot).join(path).symlink_metadata().unwrap()
    }

    /// Removes what the build's step at this line led to, or has it elsewhere only; or there it is broken.
    pub fn evict(&self, built: &Built, line: usize, whither: Evict) {
        let step = built.steps.iter().find(|step| step.at.line == line).unwrap();
        let cached = built.cache.iter().find(|cached| cached.text == step.at.text).unwrap();
        let path = self.worker.place.join(&cached.snapshot);
        let moved = self.place.path().join(format!("moved {}", cached.snapshot));
        if path.exists() {
            fs::rename(&path, &moved).unwrap();
        }
        let there = match whither {
            Evict::Gone => return,
            Evict::Elsewhere => Some(moved),
            Evict::Broken => None,
        };
        self.worker.elsewhere.lock().unwrap().insert(cached.snapshot.clone(), there);
    }

    pub fn runs(&self) -> usize {
        self.worker.ran.lock().unwrap().len()
    }

    pub fn records(&self) -> Vec<PathBuf> {
        fs::read_dir(self.path("cache")).unwrap().map(|e| e.unwrap().path()).collect()
    }
}

/// Where a snapshot is then.
#[derive(Clone, Copy)]
pub enum Evict {
    Gone,
    Elsewhere,
    Broken,
}

/// The lines of the steps that were built.
pub fn built(report: &Built) -> Vec<usize> {
    report.steps.iter().filter(|s| s.built()).map(|s| s.at.line).collect()
}

/// The lines of the steps that were cached.
pub fn cached(report: &Built) -> Vec<usize> {
    report.steps.iter().filter(|s| s.cached()).map(|s| s.at.line).collect()
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

fn copy_tree(from: &Path, to: &Path) {
    for path in children(from) {
        let target = to.join(path.file_name().unwrap());
        let meta = path.symlink_metadata().unwrap();
        if meta.is_symlink() {
            symlink(fs::read_link(&path).unwrap(), &target).unwrap();
        } else if meta.is_dir() {
            fs::create_dir(&target).unwrap();
            copy_tree(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
        let _ = lchown(&target, Some(meta.uid()), Some(meta.gid()));
        if !meta.is_symlink() {
            fs::set_permissions(&target, fs::Permissions::from_mode(meta.mode())).unwrap();
        }
    }
}

fn digest_tree(dir: &Path) -> String {
    fn add(hash: &mut Sha256, dir: &Path) {
        for path in children(dir) {
            let meta = path.symlink_metadata().unwrap();
            let name = path.file_name().unwrap();
            hash.update(format!("{name:?} {:o} {} {}\n", meta.mode(), meta.uid(), meta.gid()));
            if meta.is_symlink() {
                hash.update(format!("{:?}", fs::read_link(&path).unwrap()));
            } else if meta.is_dir() {
                add(hash, &path);
            } else {
                hash.update(fs::read(&path).unwrap());
            }
        }
        hash.update("end");
    }
    let mut hash = Sha256::new();
    add(&mut hash, dir);
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
