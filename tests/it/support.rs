//! What all these tests need: an engine on the test host's own disk, an image of this host's programs, a look around.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use coracle::{Capture, Container, ContainerSpec, Engine, Error, Exit, Image, Kind, Output};

/// The state directory of a test.
pub fn state(dir: &Path) -> PathBuf {
    dir.join("state")
}

/// An engine on the state directory below `dir`.
pub fn engine(dir: &Path) -> Engine {
    Engine::open(state(dir)).unwrap()
}

/// Programs to write scripts with.
pub fn programs() -> Capture {
    Capture::new().search_path(["/bin", "/usr/bin"]).programs([
        "sh", "cat", "cut", "ls", "sleep", "sort", "env", "id", "readlink", "head", "touch", "mkdir", "rm",
        "stat", "getent",
    ])
}

/// The image of [`programs`], as `tools`.
pub fn tools(engine: &Engine) -> Image {
    engine.capture(&programs(), "tools").unwrap()
}

/// A container of `tools` that runs a script, without a network.
pub fn script(text: &str) -> ContainerSpec {
    ContainerSpec::new("tools").command(["sh", "-c", text]).no_network()
}

/// Runs a container to its end.
#[track_caller]
pub fn run(engine: &Engine, spec: &ContainerSpec) -> (Exit, Output) {
    let container = engine.start(spec).unwrap();
    let exit = container.wait().unwrap();
    (exit, container.output().unwrap())
}

/// What a container that has to succeed wrote to its standard output.
#[track_caller]
pub fn says(engine: &Engine, spec: &ContainerSpec) -> String {
    let (exit, output) = run(engine, spec);
    assert!(exit.success(), "{exit}: {output:?}");
    output.stdout
}

/// Waits for what has to become true, a second at most.
#[track_caller]
pub fn within_a_second(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(1);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within a second: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until a container has written `line`.
#[track_caller]
pub fn wrote(container: &Container, line: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !container.output().unwrap().stdout.lines().any(|one| one == line) {
        assert!(Instant::now() < deadline, "{container:?} does not say {line:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Everything below a directory: what it is, how big, and which inode; for directories only that they are there.
pub fn listing(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    walk(dir, dir, &mut found);
    // What is told of happenings grows with every one, and what is remembered of a step's cost with every build.
    found.retain(|path, _| {
        !path.ends_with("events") && !path.ends_with("events.1") && !path.starts_with("cache")
    });
    found
}

fn walk(top: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{dir:?}: {error}")) {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(top).unwrap().to_owned();
        if meta.is_dir() {
            found.insert(name, "directory".into());
            walk(top, &path, found);
        } else {
            found.insert(name, format!("{:o}, {} bytes, inode {}", meta.mode(), meta.len(), meta.ino()));
        }
    }
}

/// The state directory as it is after everything that was wanted from it: nothing staged, no container, no name.
#[track_caller]
pub fn nothing_left(dir: &Path) {
    for place in ["tmp", "containers", "names"] {
        let left: Vec<PathBuf> = listing(&state(dir).join(place)).into_keys().collect();
        assert!(left.is_empty(), "left in {place}: {left:?}");
    }
    assert_eq!(attached(dir), []);
}

/// Who is on any of the networks. (What a killed holder wrote in `leases/` counts no more, and stays until the next.)
fn attached(dir: &Path) -> Vec<coracle::Attached> {
    let networks = engine(dir).networks().unwrap();
    networks.iter().flat_map(|network| network.attached().unwrap()).collect()
}

/// The links of this test host that are ours.
pub fn our_links() -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let names = table.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned());
    names.filter(|name| name != "lo").collect()
}

/// A call that has to fail: of this kind, with all of these words in its message, and the same from `Debug`.
#[track_caller]
pub fn fails<T>(result: Result<T, Error>, kind: Kind, words: &[&str]) -> String {
    let Err(error) = result else { panic!("it succeeded; it was to fail with {words:?}") };
    let text = error.to_string();
    assert_eq!(text, format!("{error:?}"));
    assert_eq!(error.kind(), kind, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    text
}

/// [`fails`], and what is on the disk is as it was before.
#[track_caller]
pub fn refuses<T>(dir: &Path, kind: Kind, words: &[&str], act: impl FnOnce() -> Result<T, Error>) -> String {
    let before = listing(&state(dir));
    let text = fails(act(), kind, words);
    unchanged(&before, &listing(&state(dir)), &text);
    text
}

/// That two listings are the same; else says what is not.
#[track_caller]
pub fn unchanged(before: &BTreeMap<PathBuf, String>, after: &BTreeMap<PathBuf, String>, when: &str) {
    let gone = before.iter().filter(|(path, what)| after.get(*path) != Some(what));
    let new = after.iter().filter(|(path, what)| before.get(*path) != Some(what));
    let (gone, new): (Vec<_>, Vec<_>) = (gone.collect(), new.collect());
    assert!(gone.is_empty() && new.is_empty(), "{when}:\ngone: {gone:#?}\nnew: {new:#?}");
}

/// A directory with these files.
pub fn context(dir: &Path, files: &[(&str, &str)]) -> PathBuf {
    let context = dir.join("context");
    for (name, text) in files {
        let path = context.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    context
}

/// The state directory with nothing but what belongs to open engines: their corners, empty.
#[track_caller]
pub fn nothing_but_engines(dir: &Path) {
    for place in ["containers", "names"] {
        let left: Vec<PathBuf> = listing(&state(dir).join(place)).into_keys().collect();
        assert!(left.is_empty(), "left in {place}: {left:?}");
    }
    let staged = listing(&state(dir).join("tmp")).into_keys();
    let staged: Vec<PathBuf> =
        staged.filter(|path| path.components().count() > 1 && !path.ends_with("lock")).collect();
    assert!(staged.is_empty(), "staged: {staged:?}");
    assert_eq!(attached(dir), []);
}

/// The number of the process of that name, once it is there.
#[track_caller]
pub fn process_named(name: &str) -> u32 {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let mut pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let called = |pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
        };
        if let Some(pid) = pids.find(called) {
            return pid;
        }
        assert!(Instant::now() < deadline, "no process {name:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The open file description locks that are held on files below a directory.
pub fn locks(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/locks").unwrap();
    let mut files = Vec::new();
    inodes(dir, &mut files);
    // proc_locks(5) has the file as `00:2f:123`, among those of the whole machine.
    let held = |file: &str| table.lines().any(|line| line.contains("OFDLCK") && line.contains(file));
    files.into_iter().filter(|(file, _)| held(file)).map(|(_, path)| path).collect()
}

fn inodes(dir: &Path, found: &mut Vec<(String, PathBuf)>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            inodes(&entry.path(), found);
        } else {
            let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
            found.push((format!(" {major:02x}:{minor:02x}:{} ", meta.ino()), entry.path()));
        }
    }
}
