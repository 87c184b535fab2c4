//! What is refused, and how it is said.

use std::os::unix::fs::symlink;

use coracle_build::BuildSpec;
use coracle_host::Kind;

use crate::bench::Bench;

#[test]
fn a_missing_source_is_shown_at_its_place() {
    let mut bench = Bench::new();
    bench.file("there", "1");
    let spec = bench.dockerfile("FROM base\nRUN put a 1\nCOPY --chown=0 there nope /x/\n");
    let error = bench.try_build(&spec).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(
        error.to_string(),
        "\
Dockerfile:3:22: `nope` is not in the context
  |
3 | COPY --chown=0 there nope /x/
  |                      ^^^^"
    );
    let spec = bench.dockerfile("FROM base AS a\nFROM base\nCOPY --chown=0 --from=a /nope /x\n");
    let error = bench.error(&spec);
    assert!(error.starts_with("Dockerfile:3:25: `nope` is not in stage 0\n"), "{error}");
}

#[test]
fn nothing_outside_the_context_can_be_copied() {
    let mut bench = Bench::new();
    std::fs::write(bench.path("secret"), "s").unwrap();
    symlink("../secret", bench.context().join("up")).unwrap();
    symlink(bench.path("secret"), bench.context().join("absolute")).unwrap();
    symlink("..", bench.context().join("dir")).unwrap();
    for source in [
        "../secret",
        "../../../etc/passwd",
        "up",
        "absolute",
        "dir/secret",
        "dir/../../secret",
        "up*/../../secret",
    ] {
        let spec = bench.dockerfile(&format!("FROM base\nCOPY {source} /x\n"));
        let error = bench.try_build(&spec).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{source}: {error}");
        assert_eq!(error.diagnostics()[0].span().line, 2);
    }
    let spec = bench.dockerfile("FROM base\nCOPY ../secret /x\n");
    assert!(bench.error(&spec).ends_with("`..` leads no further than the top"));
    assert!(bench.worker.images.lock().unwrap().is_empty());
}

#[test]
fn all_problems_before_anything_runs() {
    let mut bench = Bench::new();
    let spec = bench.dockerfile("FROM base\nRUN put a 1\nRUNN x\nADD --checksm=a y z\n");
    let error = bench.try_build(&spec).unwrap_err();
    assert_eq!(error.diagnostics().len(), 2);
    let spec = bench.dockerfile("FROM base\nRUN put a 1\nEXPOSE x\nENV a=${\n");
    assert_eq!(bench.try_build(&spec).unwrap_err().diagnostics().len(), 2);
    assert_eq!(bench.runs(), 0);
}

#[test]
fn images_that_are_not_there() {
    let mut bench = Bench::new();
    let spec = bench.dockerfile(
        "FROM base AS builder\nFROM base\nCOPY --from=biulder /x /y\n"
            .replace("COPY", "COPY --chown=0")
            .as_str(),
    );
    assert_eq!(
        bench.error(&spec),
        "\
Dockerfile:3:23: image `biulder`: there is no such image
  |
3 | COPY --chown=0 --from=biulder /x /y
  |                       ^^^^^^^ did you mean the stage `builder`?"
    );
    let spec = bench.dockerfile("FROM nope:1\n");
    assert!(bench.error(&spec).starts_with("Dockerfile:1:6: image `nope:1`: there is no such image\n"));
}

#[test]
fn places_that_are_not_there() {
    let mut bench = Bench::new();
    let spec = BuildSpec::new(bench.path("none"));
    let error = bench.error(&spec);
    assert!(
        error.starts_with("read the Dockerfile: open(\"")
            && error.contains("/none/Dockerfile\"): No such file"),
        "{error}"
    );
    let spec = BuildSpec::without_context("FROM base\nCOPY --chown=0 x /x\n");
    assert!(bench.error(&spec).starts_with("Dockerfile:2:1: this build has no context to copy from\n"));
    let spec = BuildSpec::new(bench.path("none")).dockerfile_text("FROM base\nCOPY --chown=0 x /x\n");
    assert!(bench.error(&spec).contains("open the context: "));
    bench.file(".dockerignore", "ok\n[\n");
    let spec = bench.dockerfile("FROM base\nCOPY x /x\n");
    assert!(bench.error(&spec).contains(".dockerignore:2: `[` is not closed"));
}
