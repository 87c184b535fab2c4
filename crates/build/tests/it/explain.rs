//! Why a step was built, and what a build looks like line by line.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use coracle_build::{BuildSpec, Built, ImageConfig};

use crate::bench::Bench;

/// The first step that was built, and why.
fn why(built: &Built) -> (usize, String) {
    let step = built.steps.iter().find(|step| step.built()).expect("something was built");
    (step.at.line, step.causes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

const TEXT: &str = "\
ARG V=1
FROM base AS one
ARG V
RUN count first
COPY src /src
RUN count second
FROM one
USER app
RUN count third
";

fn bench() -> (Bench, BuildSpec) {
    let bench = Bench::new();
    bench.file("src/a", "1").file("src/b", "1");
    let spec = bench.dockerfile(TEXT);
    (bench, spec)
}

#[test]
fn each_reason_is_found() {
    let (mut bench, spec) = bench();
    assert_eq!(why(&bench.build(&spec)), (4, "it was not built here before".into()));
    bench.file("src/a", "2");
    assert_eq!(why(&bench.build(&spec)), (5, "src/a changed".into()));
    fs::set_permissions(bench.context().join("src/a"), fs::Permissions::from_mode(0o711)).unwrap();
    let reason = "src/a has another mode or other attributes";
    assert_eq!(why(&bench.build(&spec)), (5, reason.into()));
    bench.file("src/c", "new");
    fs::remove_file(bench.context().join("src/b")).unwrap();
    assert_eq!(why(&bench.build(&spec)), (5, "src/c is new; src/b is gone".into()));
    assert_eq!(
        why(&bench.build(&spec.clone().arg("V", "2"))),
        (4, "the variable V has another value".into())
    );
    let text = bench.dockerfile(&TEXT.replace("count second", "count other"));
    assert_eq!(why(&bench.build(&text.arg("V", "2"))), (6, "the instruction was: RUN count second".into()));
    bench.worker.add_base("base", &[("new", "base")], ImageConfig::scratch());
    let spec = spec.arg("V", "2");
    assert_eq!(why(&bench.build(&spec)), (4, "the base image base is another one".into()));
    let report = bench.build(
        &bench
            .dockerfile(&TEXT.replace("USER app", "USER 7").replace("count second", "count other"))
            .arg("V", "2"),
    );
    assert_eq!(why(&report), (9, "the user is another".into()));
}

#[test]
fn a_result_that_is_gone_was_evicted() {
    let (mut bench, spec) = bench();
    bench.build(&spec);
    let last = bench.worker.path(&bench.last_image().0.snapshot);
    fs::remove_dir_all(last).unwrap();
    assert_eq!(why(&bench.build(&spec)), (9, "its result was removed from the cache".into()));
}

#[test]
fn a_build_without_the_cache_is_no_miss_but_is_known() {
    let (mut bench, spec) = bench();
    let off = bench.build(&spec.clone().no_cache(true));
    assert!(off.steps.iter().all(|step| step.causes.is_empty()));
    bench.file("src/a", "2");
    assert_eq!(why(&bench.build(&spec)), (5, "src/a changed".into()));
}

#[test]
fn line_by_line() {
    let (mut bench, spec) = bench();
    bench.build(&spec);
    bench.file("src/a", "2");
    let shown = bench.build(&spec).explain().to_string();
    // Times are not the same twice.
    let plain: Vec<String> = shown
        .lines()
        .map(|line| match line.split_once(" | ") {
            Some((left, right)) => format!("{}|{right}", left.split_whitespace().next().unwrap_or("")),
            None => line.split(',').next().unwrap_or("").to_owned(),
        })
        .collect();
    assert_eq!(
        plain,
        [
            "1|ARG V=1",
            "2|FROM base AS one",
            "3|ARG V",
            "cached|RUN count first",
            "built|COPY src /src",
            "5|  because src/a changed",
            "built|RUN count second",
            "7|FROM one",
            "8|USER app",
            "built|RUN count third",
            "1 cached",
        ]
        .map(|line| if line == "5|  because src/a changed" {
            "|  because src/a changed"
        } else {
            line
        }),
        "{shown}"
    );
}

#[test]
fn no_value_of_a_variable_is_written_down() {
    let (mut bench, spec) = bench();
    bench.build(&spec.arg("V", "hunter2hunter2"));
    for record in bench.records() {
        let bytes = fs::read(&record).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("hunter2"), "{record:?}");
    }
}
