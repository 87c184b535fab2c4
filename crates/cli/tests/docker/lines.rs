//! Command lines of a shell, one after the other, in both programs: they have to end with the same status, print the same on
//! standard output, and both say something on standard error or both nothing. The words there are each program's own.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use coracle_testhost::{Docker, Host, busybox_tree, run, skip};
use regex::Regex;

/// What each has of its own: ids, times, and where it keeps things.
const MASKS: [(&str, &str); 6] = [
    (r"\b[0-9a-f]{64}\b", "<id>"),
    (r"\b[0-9a-f]{12}\b", "<short id>"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?[+-]\d\d:?\d\d| ?Z)?( UTC)?", "<time>"),
    (r"CREATED( AT)? +", "CREATED "),
    (r"(Less than a second|About a minute|\d+ (second|minute)s?) ago *", "<ago> "),
    (r"\bcoracle\b", "docker"),
];

/// One line of a table.
struct Line<'a> {
    number: usize,
    text: &'a str,
    looks: Looks,
}

/// What of its output is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looks {
    Whole,
    /// `^`: the lines, in any order.
    Sorted,
    /// `~`: nothing, only how it ends.
    Not,
}

fn lines(table: &str) -> impl Iterator<Item = Line<'_>> {
    let used = |line: &(usize, &str)| !line.1.is_empty() && !line.1.starts_with('#');
    table.lines().enumerate().filter(used).map(|(index, text)| {
        let (looks, text) = match text.split_once(' ') {
            Some(("^", rest)) => (Looks::Sorted, rest),
            Some(("~", rest)) => (Looks::Not, rest),
            _ => (Looks::Whole, text),
        };
        Line { number: index + 1, text, looks }
    })
}

/// One of the two programs: `$E` in its lines.
struct Side {
    program: Command,
    dir: PathBuf,
    masks: Vec<(Regex, &'static str)>,
}

/// What a line came to.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    status: Option<i32>,
    printed: String,
    complained: bool,
}

impl Side {
    fn new(program: Command, dir: PathBuf) -> Side {
        std::fs::create_dir(&dir).unwrap();
        let masks = MASKS.map(|(pattern, mask)| (Regex::new(pattern).unwrap(), mask)).into();
        Side { program, dir, masks }
    }

    /// The outcome, and what it said, for people.
    fn outcome(&self, line: &Line<'_>, base: &Path) -> (Outcome, String) {
        let mut shell = Command::new("sh");
        shell.args(["-c", line.text]).current_dir(&self.dir).stdin(Stdio::null());
        shell.env("E", self.program.get_program()).env("BASE", base);
        shell.envs(self.program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = shell.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let printed = self
            .masks
            .iter()
            .fold(printed, |text, (regex, mask)| regex.replace_all(&text, *mask).into_owned());
        let mut outcome = Outcome { status: output.status.code(), printed, complained: !said.is_empty() };
        match line.looks {
            Looks::Whole => {}
            Looks::Sorted => {
                let mut lines: Vec<&str> = outcome.printed.lines().collect();
                lines.sort_unstable();
                outcome.printed = lines.join("\n");
            }
            Looks::Not => (outcome.printed, outcome.complained) = (String::new(), false),
        }
        (outcome, said)
    }
}

fn compare(host: &Host, table: &str) {
    if !Docker::is_there() {
        return skip(host.test(), "docker.io and busybox-static are not both installed");
    }
    let (tree, base) = (busybox_tree(host.dir()), host.dir().join("base.tar"));
    let packed = Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&base).arg(".").status();
    assert!(packed.unwrap().success());
    let docker = Docker::start(host.dir());
    let mut program = Command::new(env!("CARGO_BIN_EXE_coracle"));
    program.env("CORACLE_ROOT", host.dir().join("state"));
    let ours = Side::new(program, host.dir().join("ours"));
    let theirs = Side::new(docker.docker(), host.dir().join("theirs"));
    let mut wrong = String::new();
    for line in lines(table) {
        let ((we, said), (they, told)) = (ours.outcome(&line, &base), theirs.outcome(&line, &base));
        if we != they {
            let Line { number, text, .. } = line;
            writeln!(wrong, "line {number}: {text}\n  docker: {they:?} {told}\n  we:     {we:?} {said}")
                .unwrap();
        }
    }
    drop(docker);
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn verbs_of_images_are_dockers() {
    run(|host| compare(host, include_str!("images.txt")));
}

#[test]
fn what_builds_come_to_is_dockers() {
    run(|host| compare(host, include_str!("copies.txt")));
}

#[test]
fn what_is_cached_is_dockers() {
    run(|host| compare(host, include_str!("caching.txt")));
}

#[test]
fn where_builds_go_is_dockers() {
    run(|host| compare(host, include_str!("outputs.txt")));
}
