//! What both programs do: every way to put data in a container, and images from a registry. docker and `coracle` are given the
//! same command lines, and have to come to the same, in the container and on the host. Without docker it is a named skip.

mod cases;
mod lines;
mod pull;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use coracle_testhost::{Docker, Host, busybox_tree, run, skip};

use cases::{Case, SLOTS, cases};

/// One of the two programs, and where its sources of binds are.
struct Side<'a> {
    command: Box<dyn Fn() -> Command + 'a>,
    sources: PathBuf,
}

/// What a command line came to: the status, and what was seen from inside.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: i32,
    inside: String,
    /// For people only: the two have words of their own.
    said: String,
}

impl Side<'_> {
    fn ok(&self, args: &[&str]) -> String {
        let output = (self.command)().args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs one container with the mounts of all these cases; what each of them sees, or that it did not start.
    fn run(&self, cases: &[&Case]) -> Result<Vec<Seen>, Seen> {
        let mut command = (self.command)();
        command.args(["run", "--rm", "--network", "none"]);
        let mut script = String::new();
        for case in cases {
            command.args(case.flags(&self.sources));
            script += &format!("echo == {}; look {}; ", case.number, case.target());
        }
        let output = command.args(["mm:1", "sh", "-c", &format!("{LOOK}\n{script}")]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = output.status.code().unwrap_or(-1);
        if status != 0 {
            return Err(Seen { status, inside: text, said });
        }
        let parts = text.split("== ").skip(1).map(|part| part.split_once('\n').unwrap().1);
        Ok(parts.map(|part| Seen { status, inside: part.to_owned(), said: String::new() }).collect())
    }

    /// Each by itself.
    fn run_one(&self, case: &Case) -> Seen {
        self.run(&[case]).map_or_else(|failed| failed, |mut seen| seen.remove(0))
    }

    /// What is on the host afterwards, where the case has to do with it.
    fn after(&self, case: &Case) -> String {
        if let Some(source) = case.source(&self.sources) {
            return picture(&source);
        }
        let Some(volume) = case.volume() else { return String::new() };
        let output =
            (self.command)().args(["volume", "inspect", "-f", "{{.Mountpoint}}", volume.as_str()]).output();
        match output.unwrap() {
            output if output.status.success() => {
                picture(Path::new(String::from_utf8(output.stdout).unwrap().trim()))
            }
            _ => "no volume".into(),
        }
    }

    /// What the cases find on the host before.
    fn prepare(&self, all: &[&Case]) {
        for case in all {
            if let Some(source) = case.source(&self.sources) {
                plant(source.parent().unwrap());
            }
            let Some(volume) = case.volume().filter(|_| case.is_volume_there()) else { continue };
            self.ok(&["volume", "create", &volume]);
            if case.is_volume_filled() {
                let place = self.ok(&["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]);
                fs::write(Path::new(place.trim()).join("row"), "row").unwrap();
            }
        }
    }
}

/// What is at a path of the container, and whether it can be written.
const LOOK: &str = r#"look() {
  if [ -d $1 ]; then
    stat -c 'directory %a %u:%g' $1; ls -A $1; (echo x >$1/w) 2>/dev/null && echo writable || echo fixed
  elif [ -e $1 ]; then
    stat -c 'file %a %u:%g' $1; cat $1; (echo x >>$1) 2>/dev/null && echo writable || echo fixed
  else echo nothing; fi
  for flag in nosuid nodev noexec; do grep " $1 " /proc/mounts | grep -q "[ ,]$flag[ ,]" && echo $flag; done
  true
}"#;

/// A directory, a file, and links to each and to nothing.
fn plant(dir: &Path) {
    fs::create_dir_all(dir.join("dir")).unwrap();
    fs::write(dir.join("dir/there"), "there").unwrap();
    fs::write(dir.join("file"), "text\n").unwrap();
    for (link, leads) in [("to-dir", "dir"), ("to-file", "file"), ("dangling", "nowhere")] {
        symlink(leads, dir.join(link)).unwrap();
    }
}

/// Kinds, modes, owners, names and bytes.
fn picture(path: &Path) -> String {
    let Ok(meta) = fs::symlink_metadata(path) else { return "nothing".into() };
    let what = if meta.is_dir() {
        let mut names: Vec<PathBuf> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        let below = names.iter().map(|name| format!("{:?}: {}", name.file_name().unwrap(), picture(name)));
        format!("{{{}}}", below.collect::<Vec<_>>().join("; "))
    } else if meta.is_symlink() {
        return format!("link to {:?}", fs::read_link(path).unwrap());
    } else {
        format!("{:?}", fs::read_to_string(path).unwrap())
    };
    format!("{:o} {}:{} {what}", meta.mode(), meta.uid(), meta.gid())
}

/// Puts what the cases mount onto in the tree of an image.
fn furnish(tree: &Path) {
    fs::create_dir(tree.join("has")).unwrap();
    for slot in 0..SLOTS {
        let dir = tree.join(format!("has/dir{slot}"));
        fs::create_dir_all(dir.join("sub")).unwrap();
        fs::write(dir.join("seed"), "seed").unwrap();
        std::os::unix::fs::chown(&dir, Some(7), Some(8)).unwrap();
        fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o1770)).unwrap();
        fs::write(tree.join(format!("has/file{slot}")), "image's\n").unwrap();
    }
}

fn compare(host: &Host, part: usize) {
    if !Docker::is_there() {
        return skip(host.test(), "docker.io and busybox-static are not both installed");
    }
    let tree = busybox_tree(host.dir());
    furnish(&tree);
    let tar = host.dir().join("base.tar");
    assert!(
        Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&tar).arg(".").status().unwrap().success()
    );
    let docker = Docker::start(host.dir());
    let theirs = Side { command: Box::new(|| docker.docker()), sources: host.dir().join("theirs") };
    let ours = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
        command.env("CORACLE_ROOT", host.dir().join("state"));
        command
    };
    let ours = Side { command: Box::new(ours), sources: host.dir().join("ours") };
    let all = cases();
    let all: Vec<&Case> = all.iter().filter(|case| case.number % PARTS == part).collect();
    for side in [&theirs, &ours] {
        side.ok(&["import", tar.to_str().unwrap(), "mm:1"]);
        side.prepare(&all);
    }
    let mut seen: BTreeMap<usize, [Option<Seen>; 2]> = BTreeMap::new();
    for case in &all {
        seen.entry(case.number).or_default()[0] = Some(ours.run_one(case));
    }
    // docker takes its time for a container: those that start go together, as many as there are slots.
    let start: Vec<&Case> =
        all.iter().copied().filter(|case| seen[&case.number][0].as_ref().unwrap().status == 0).collect();
    let mut alone: Vec<&Case> =
        all.iter().copied().filter(|case| !start.iter().any(|one| one.number == case.number)).collect();
    let mut slots: BTreeMap<usize, Vec<&Case>> = BTreeMap::new();
    for case in start {
        let batch = (0..).find(|batch| {
            slots.get(batch).is_none_or(|cases| cases.iter().all(|other| other.target() != case.target()))
        });
        slots.entry(batch.unwrap()).or_default().push(case);
    }
    for batch in slots.values() {
        match theirs.run(batch) {
            Ok(all) => {
                for (case, one) in batch.iter().zip(all) {
                    seen.get_mut(&case.number).unwrap()[1] = Some(one);
                }
            }
            Err(_) => alone.extend(batch),
        }
    }
    for case in alone {
        seen.get_mut(&case.number).unwrap()[1] = Some(theirs.run_one(case));
    }
    let mut wrong = Vec::new();
    for case in &all {
        let [Some(we), Some(they)] = &seen[&case.number] else { panic!("case {} was lost", case.number) };
        let flags = case.flags(Path::new("/src")).join(" ");
        if (we.status, &we.inside) != (they.status, &they.inside) {
            wrong.push(format!("{flags}\n  docker: {they:?}\n  we:     {we:?}"));
        }
        let (we, they) = (ours.after(case), theirs.after(case));
        if we != they {
            wrong.push(format!("{flags}, on the host\n  docker: {they}\n  we:     {we}"));
        }
    }
    drop(theirs);
    drop(docker);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}

const PARTS: usize = 3;

#[test]
fn the_first_third_comes_to_the_same() {
    run(|host| compare(host, 0));
}

#[test]
fn the_second_third_comes_to_the_same() {
    run(|host| compare(host, 1));
}

#[test]
fn the_last_third_comes_to_the_same() {
    run(|host| compare(host, 2));
}
