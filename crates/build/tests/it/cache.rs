//! What is built again, and what is not.

use std::fs::{self, File};
use std::time::SystemTime;

use coracle_build::{BuildSpec, Event, Outcome, Reason};

use crate::bench::{Bench, built, cached};

const APP: &str = "\
FROM base
WORKDIR /app
COPY package*.json ./
RUN count deps
COPY . .
RUN count generated
EXPOSE 3000
CMD [\"cat\", \"deps\"]
";

fn app(bench: &Bench) {
    bench.file("package.json", "{}").file("package-lock.json", "{}").file("src/index.js", "1");
    bench
        .file(".dockerignore", "Dockerfile*\n.dockerignore\nnode_modules\n")
        .file("node_modules/x.js", "junk");
}

#[test]
fn the_second_build_is_all_cached_and_the_same_image() {
    let mut bench = Bench::new();
    app(&bench);
    let spec = bench.dockerfile(APP).tag("app:1");
    let first = bench.build(&spec);
    assert_eq!(built(&first), [2, 3, 4, 5, 6]);
    assert_eq!(first.steps[1].outcome, Outcome::Built(Reason::New));
    assert_eq!(first.steps[2].outcome, Outcome::Built(Reason::After(2)));
    let edits = *bench.worker.edits.lock().unwrap();
    let second = bench.build(&spec);
    assert_eq!(cached(&second), [2, 3, 4, 5, 6]);
    assert_eq!(second.id, first.id);
    assert_eq!((bench.runs(), *bench.worker.edits.lock().unwrap()), (2, edits));
    assert_eq!(bench.last_image().0.tags, ["app:1"]);
    assert_eq!(bench.read("deps").as_deref(), Some("1"));
    assert_eq!(bench.read("app/src/index.js").as_deref(), Some("1"));
    assert_eq!(bench.read("app/node_modules/x.js"), None);
}

#[test]
fn a_touched_file_changes_nothing() {
    let mut bench = Bench::new();
    app(&bench);
    let spec = bench.dockerfile(APP);
    let first = bench.build(&spec);
    let index = File::options().write(true).open(bench.context().join("src/index.js")).unwrap();
    index.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    // Also written anew, with another inode.
    fs::remove_file(bench.context().join("package.json")).unwrap();
    bench.file("package.json", "{}");
    let second = bench.build(&spec);
    assert_eq!(built(&second), Vec::<usize>::new());
    assert_eq!(second.id, first.id);
}

#[test]
fn a_changed_source_rebuilds_the_lines_after_it() {
    let mut bench = Bench::new();
    app(&bench);
    let spec = bench.dockerfile(APP);
    let first = bench.build(&spec);
    bench.file("src/index.js", "2");
    let second = bench.build(&spec);
    assert_eq!((cached(&second), built(&second)), (vec![2, 3, 4], vec![5, 6]));
    assert_eq!(bench.read("deps").as_deref(), Some("1"), "the dependencies were not fetched again");
    assert_eq!(bench.read("app/src/index.js").as_deref(), Some("2"));
    assert_ne!(second.id, first.id);
    bench.file("node_modules/x.js", "other junk");
    assert_eq!(built(&bench.build(&spec)), Vec::<usize>::new(), "what is ignored changes nothing");
    bench.file("package.json", "{\"new\": 1}");
    assert_eq!(built(&bench.build(&spec)), [3, 4, 5, 6]);
    bench.file("package.json", "{}").file("src/index.js", "1");
    let back = bench.build(&spec);
    assert_eq!((built(&back), back.id), (vec![], first.id), "an earlier state is still known");
}

#[test]
fn arguments_count_from_where_they_are_declared() {
    let mut bench = Bench::new();
    let spec = bench.dockerfile("FROM base\nRUN count a\nARG V=1\nRUN put v $V\nARG UNUSED_LATER\n");
    bench.build(&spec);
    let changed = bench.build(&spec.clone().arg("V", "2"));
    assert_eq!((cached(&changed), built(&changed)), (vec![2], vec![4]));
    assert_eq!(bench.read("v").as_deref(), Some("2"));
    assert_eq!(
        built(&bench.build(&spec.clone().arg("V", "2").arg("UNUSED_LATER", "x"))),
        Vec::<usize>::new()
    );
    // Proxies are given to commands and change nothing.
    let proxied = bench.build(&spec.clone().arg("https_proxy", "http://p"));
    assert_eq!(built(&proxied), Vec::<usize>::new());
    let odd = bench.build(&spec.arg("TYPO", "1"));
    assert_eq!(odd.warnings, ["no `ARG` asks for the build argument `TYPO`"]);
    assert!(bench.events.contains(&Event::Warning { message: odd.warnings[0].clone() }));
}

#[test]
fn a_command_depends_on_all_that_it_can_see() {
    let mut bench = Bench::new();
    let run =
        |before: &str, command: &str| format!("FROM base\n{before}\nRUN {command}\nENV later=1\nCMD x\n");
    let spec = bench.dockerfile(&run("LABEL a=b", "put a 1"));
    assert_eq!(built(&bench.build(&spec)), [3]);
    for before in ["USER app", "ENV a=b", "ARG a=c", "SHELL [\"/bin/ash\", \"-c\"]"] {
        let spec = bench.dockerfile(&run(before, "put a 1"));
        assert_eq!(built(&bench.build(&spec)), [3], "{before}");
    }
    for before in ["LABEL c=d", "EXPOSE 80", "CMD y", "VOLUME /v", "# nothing", "STOPSIGNAL 9", "ARG none"] {
        let spec = bench.dockerfile(&run(before, "put a 1"));
        assert_eq!(built(&bench.build(&spec)), Vec::<usize>::new(), "{before}");
    }
    let spec = bench.dockerfile(&run("", "[\"put a 1\"]"));
    assert_eq!(built(&bench.build(&spec)), [3], "the exec form is another command");
}

#[test]
fn only_needed_stages_and_only_what_changed_in_them() {
    let mut bench = Bench::new();
    bench.file("main.c", "int main").file("doc.txt", "doc");
    let text = "\
FROM base AS build
COPY main.c /src/
RUN put out fixed
RUN put debug $BASH
FROM base AS unused
RUN exit 9
FROM base
COPY --from=build /out /app/out
RUN count final
";
    let spec = bench.dockerfile(text);
    let first = bench.build(&spec);
    assert_eq!(built(&first), [2, 3, 4, 8, 9]);
    assert_eq!(bench.read("app/out").as_deref(), Some("fixed"));
    assert_eq!(bench.read("debug"), None, "the build stage stays out");
    let lent = *bench.worker.trees_lent.lock().unwrap();
    bench.build(&spec);
    assert_eq!(*bench.worker.trees_lent.lock().unwrap(), lent, "what a snapshot holds is read once");
    // The stage is built again, but what is copied from it came out equal.
    bench.file("main.c", "int main2");
    let second = bench.build(&spec);
    assert_eq!((built(&second), cached(&second)), (vec![2, 3, 4], vec![8, 9]));
    assert_eq!(second.id, first.id);
    let target = bench.build(&spec.target("build"));
    assert_eq!(target.steps.iter().map(|s| s.at.line).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(bench.read("out").as_deref(), Some("fixed"));
}

#[test]
fn no_cache_runs_everything_and_is_remembered() {
    let mut bench = Bench::new();
    let spec = bench.dockerfile("FROM base\nRUN count a\n");
    bench.build(&spec);
    let again = bench.build(&spec.clone().no_cache(true));
    assert_eq!(again.steps[1].outcome, Outcome::Built(Reason::NoCache));
    assert_eq!(bench.read("a").as_deref(), Some("2"));
    let third = bench.build(&spec);
    assert_eq!((cached(&third), third.id), (vec![2], again.id));
}

#[test]
fn damaged_records_and_lost_snapshots_are_misses() {
    let mut bench = Bench::new();
    let spec = bench.dockerfile("FROM base\nRUN put a 1\nRUN put b 2\n");
    bench.build(&spec);
    for record in bench.records() {
        let text = fs::read_to_string(&record).unwrap();
        fs::write(&record, &text[..text.len() / 2]).unwrap();
    }
    assert_eq!(built(&bench.build(&spec)), [2, 3]);
    for record in bench.records() {
        fs::write(&record, b"").unwrap();
    }
    assert_eq!(built(&bench.build(&spec)), [2, 3]);
    assert_eq!(cached(&bench.build(&spec)), [2, 3]);
    let last = bench.worker.path(&bench.last_image().0.snapshot);
    fs::remove_dir_all(last).unwrap();
    let after = bench.build(&spec);
    assert_eq!(after.steps[2].outcome, Outcome::Built(Reason::Gone));
    assert_eq!(cached(&after), [2]);
}

#[test]
fn a_failed_build_keeps_what_it_did_before() {
    let mut bench = Bench::new();
    let spec = bench.dockerfile("FROM base\nRUN count a\nRUN exit 7\nRUN count b\n");
    let error = bench.try_build(&spec).unwrap_err();
    assert_eq!(error.exit_code(), Some(7));
    assert_eq!(error.kind(), coracle_host::Kind::Failed);
    assert_eq!(
        error.to_string(),
        "Dockerfile:3:1: process \"/bin/sh -c exit 7\" did not complete successfully: exit code: 7\n  |\n3 | RUN exit 7\n  | ^^^^^^^^^^"
    );
    assert!(bench.worker.images.lock().unwrap().is_empty());
    let fixed = bench.dockerfile("FROM base\nRUN count a\nRUN put x y\nRUN count b\n");
    let report = bench.build(&fixed);
    assert_eq!((cached(&report), built(&report)), (vec![2], vec![3, 4]));
}

#[test]
fn a_file_written_to_meanwhile_is_not_remembered_as_what_it_was() {
    let mut bench = Bench::new();
    bench.file("a", "before");
    let spec = bench.dockerfile("FROM base\nCOPY a /a\n");
    let path = bench.context().join("a");
    *bench.worker.before_edit.lock().unwrap() =
        Some(Box::new(move || fs::write(&path, "meanwhile!").unwrap()));
    let first = bench.build(&spec);
    assert_eq!(first.warnings, ["line 2: a source file was written to while it was copied"]);
    assert_eq!(bench.read("a").as_deref(), Some("meanwhile!"));
    *bench.worker.before_edit.lock().unwrap() = None;
    bench.file("a", "before");
    assert_eq!(built(&bench.build(&spec)), [2]);
    assert_eq!(bench.read("a").as_deref(), Some("before"));
}

#[test]
fn the_same_step_of_builds_at_once_is_done_once() {
    let bench = Bench::new();
    bench.file("a", "1");
    let spec = bench.dockerfile("FROM base\nCOPY a /a\nRUN count b\nRUN count c\n");
    let reports = bench.crowd(6, &spec);
    assert_eq!((bench.runs(), *bench.worker.edits.lock().unwrap()), (2, 1));
    for line in [2, 3, 4] {
        assert_eq!(reports.iter().filter(|r| built(r).contains(&line)).count(), 1, "line {line}");
    }
    assert!(reports.iter().all(|r| r.id == reports[0].id));
    let locks = bench.records().into_iter().filter(|r| r.extension().is_some_and(|e| e == "lock"));
    assert_eq!(locks.count(), 0);
}

/// So many that a first build reads them on their way.
const MANY: usize = 100;

fn many(bench: &Bench) -> BuildSpec {
    for n in 0..MANY {
        bench.file(&format!("d{}/f{n}", n % 3), &format!("content {n}"));
    }
    bench.dockerfile("FROM base\nCOPY . /app/\nRUN count b\n")
}

#[test]
fn many_files_of_a_first_build_are_known_afterwards() {
    let mut bench = Bench::new();
    let spec = many(&bench);
    assert_eq!(built(&bench.build(&spec)), [2, 3]);
    assert!(built(&bench.build(&spec)).is_empty());
    // What is as long as before may be something else, what is longer can't be the same.
    for (text, edits) in [("CONTENT 7", 2), ("content seven", 3)] {
        bench.file("d1/f7", text);
        assert_eq!(built(&bench.build(&spec)), [2, 3]);
        assert_eq!(*bench.worker.edits.lock().unwrap(), edits);
        assert_eq!(bench.read("app/d1/f7").as_deref(), Some(text));
    }
    bench.file("d1/f7", "content 7");
    assert!(built(&bench.build(&spec)).is_empty());
    // Done without the cache it has the same key.
    let anew = many(&bench).no_cache(true);
    assert_eq!(built(&bench.build(&anew)), [2, 3]);
    assert!(built(&bench.build(&spec)).is_empty());
}

#[test]
fn many_files_of_first_builds_at_once_are_copied_once() {
    let bench = Bench::new();
    let spec = many(&bench);
    let reports = bench.crowd(6, &spec);
    assert_eq!((bench.runs(), *bench.worker.edits.lock().unwrap()), (1, 1));
    assert!(reports.iter().all(|r| r.id == reports[0].id));
}

#[test]
fn many_files_of_which_one_is_written_to_while_they_are_first_copied_are_not_kept() {
    let mut bench = Bench::new();
    let spec = many(&bench);
    let path = bench.context().join("d1/f7");
    *bench.worker.before_edit.lock().unwrap() =
        Some(Box::new(move || fs::write(&path, "meanwhile!").unwrap()));
    let first = bench.build(&spec);
    assert_eq!(first.warnings, ["line 2: a source file was written to while it was copied"]);
    assert_eq!(bench.read("app/d1/f7").as_deref(), Some("meanwhile!"));
    *bench.worker.before_edit.lock().unwrap() = None;
    bench.file("d1/f7", "content 7");
    assert_eq!(built(&bench.build(&spec)), [2, 3]);
    assert_eq!(bench.read("app/d1/f7").as_deref(), Some("content 7"));
}
