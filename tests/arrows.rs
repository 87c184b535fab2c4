//! The house stays as it is drawn: arrows between crates as in ARCHITECTURE.md's table, and a few rules of tidiness.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Worth having alone, and so each with an example that shows it.
const ROOMS: [&str; 5] = ["layers", "build", "net", "volume", "runtime"];
/// May use `unsafe` anywhere: the child between clone and exec, and what is only ever linked into tests.
const UNSAFE: [&str; 2] = ["launch", "testhost"];
const MOST_LINES: usize = 800;

#[test]
fn arrows_are_as_drawn() {
    let drawn = drawn(&read(&Path::new(ROOT).join("ARCHITECTURE.md")));
    let packages = packages();
    let mut problems = Vec::new();
    for package in &packages {
        let from = short(package.name.as_str());
        let Some(allowed) = drawn.get(from) else {
            problems.push(format!("`{from}` is not in ARCHITECTURE.md's table of crates"));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|dependency| dependency.path.is_some()) {
            let to = short(&dependency.name);
            let in_tests = dependency.kind == DependencyKind::Development;
            let test_host = in_tests && to == "testhost";
            if !test_host && !allowed.contains(to) && !allowed.contains("all") {
                let tests = if in_tests { "the tests of " } else { "" };
                problems.push(format!("{tests}`{from}` may not import `{to}`: the table has no such arrow"));
            }
        }
    }
    let known: BTreeSet<&str> = packages.iter().map(|package| short(package.name.as_str())).collect();
    let gone = drawn.keys().filter(|name| !known.contains(name.as_str()));
    problems.extend(gone.map(|name| format!("the table has `{name}`, which is no crate")));
    report(problems);
}

#[test]
fn no_file_is_too_long() {
    let lines = |path: &PathBuf| read(path).lines().count();
    let long =
        sources().into_iter().map(|path| (lines(&path), path)).filter(|(lines, _)| *lines > MOST_LINES);
    report(long.map(|(lines, path)| format!("{} has {lines} lines", path.display())).collect());
}

#[test]
fn unsafe_is_where_it_belongs() {
    let mut problems = Vec::new();
    for package in packages().iter().filter(|package| !UNSAFE.contains(&short(package.name.as_str()))) {
        for target in package.targets.iter().filter(|target| target.is_lib() || target.is_bin()) {
            let text = read(target.src_path.as_std_path());
            if !["#![forbid(unsafe_code)]", "#![deny(unsafe_code)]"].iter().any(|line| text.contains(line)) {
                problems.push(format!("{} neither forbids nor denies unsafe code", target.src_path));
            }
        }
    }
    report(problems);
}

/// A number is not a descriptor: it may be closed, and be another file's, by the time it is used.
#[test]
fn descriptors_are_owned_or_borrowed() {
    let mut problems = Vec::new();
    for path in sources().into_iter().filter(|path| path.components().any(|part| part.as_os_str() == "src")) {
        for (number, line) in (1..).zip(read(&path).lines()) {
            let code = line.split("//").next().unwrap_or_default();
            let mut words = code.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            if words.any(|word| word == "RawFd") {
                problems.push(format!("{}:{number}: `RawFd`", path.display()));
            }
        }
    }
    report(problems);
}

#[test]
fn every_room_is_shown_alone() {
    let example = |room: &str| Path::new(ROOT).join("crates").join(room).join("examples/alone.rs");
    let missing = ROOMS.into_iter().map(example).filter(|path| !path.is_file());
    report(missing.map(|path| format!("{} is missing", path.display())).collect());
}

#[test]
fn the_table_is_understood() {
    let text = "# X\n\n| crate (`crates/…`) | what | may import |\n|---|---|---|\n| `a` | A, `b`. | – |\n\
                | `coracle` (root) | C | all |\n| `d` | D | a, `b` |\n\n| crate | size |\n|---|---|\n| `e` | 1 |\n";
    let drawn = drawn(text);
    let names = |key: &str| drawn[key].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(drawn.keys().collect::<Vec<_>>(), ["a", "coracle", "d"]);
    assert_eq!((names("a"), names("coracle"), names("d")), (vec![], vec!["all"], vec!["a", "b"]));
}

/// The rows of the table with the columns `crate` and `may import`: from whom to whom.
fn drawn(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let cells = |line: &str| {
        let line = line.trim().trim_start_matches('|').trim_end_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    let mut lines =
        text.lines().skip_while(|line| !(line.contains("| crate") && line.contains("may import")));
    let header = cells(lines.next().expect("ARCHITECTURE.md has a table with `crate` and `may import`"));
    let column = header.iter().position(|cell| cell.starts_with("may import")).expect("such a column");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|')).map(cells);
    rows.map(|row| {
        let to = row.get(column).map(|cell| words(cell).collect()).unwrap_or_default();
        (words(&row[0]).next().expect("a row names its crate"), to)
    })
    .collect()
}

/// The names in a cell: `` `host`, launch `` are two, `–` is none.
fn words(cell: &str) -> impl Iterator<Item = String> {
    let parts = cell.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-' && letter != '_');
    parts
        .filter(|part| part.contains(|letter: char| letter.is_ascii_alphanumeric()))
        .map(|part| short(part).to_owned())
}

fn short(package: &str) -> &str {
    package.strip_prefix("coracle-").unwrap_or(package)
}

fn packages() -> Vec<Package> {
    let manifest = Path::new(ROOT).join("Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).no_deps().exec().expect("cargo metadata").packages
}

/// All Rust files of the project.
fn sources() -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.expect("an entry").path();
            let hidden =
                path.file_name().is_some_and(|name| name == "target" || name.as_encoded_bytes()[0] == b'.');
            if path.is_dir() && !hidden {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new(ROOT), &mut found);
    assert!(found.len() > 20, "these are not all: {found:?}");
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn report(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n  {}", problems.join("\n  "));
}
