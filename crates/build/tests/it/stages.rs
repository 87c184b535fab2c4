//! Stages side by side.

use coracle_build::Event;

use crate::bench::{Bench, built, cached};

#[test]
fn independent_stages_run_at_once() {
    let mut bench = Bench::new();
    let text = "FROM base AS a\nRUN meet 3\nRUN put a 1\nFROM base AS b\nRUN put b 0\nRUN meet 3\nFROM base AS c\nRUN put c 0\nRUN put d 0\nRUN meet 3\n\
                FROM base\nCOPY --chown=0 --from=a a /\nCOPY --chown=0 --from=b b /\nCOPY --chown=0 --from=c c /\n";
    let spec = bench.dockerfile(text);
    let report = bench.build(&spec);
    assert_eq!(built(&report), [2, 3, 5, 6, 8, 9, 10, 12, 13, 14], "told in the order of the file");
    assert_eq!((bench.read("a").as_deref(), bench.read("c").as_deref()), (Some("1"), Some("0")));
    let again = bench.build(&spec);
    assert_eq!(cached(&again), built(&report));
    assert_eq!(again.id, report.id);
}

#[test]
fn a_failed_stage_ends_the_others_and_is_the_one_that_is_told() {
    let mut bench = Bench::new();
    let text = "FROM base AS a\nRUN meet 2\nRUN put never x\nFROM base AS b\nENV B=1\nRUN meet 2\nRUN exit 3\nFROM a\nCOPY --chown=0 --from=b x /\n";
    let spec = bench.dockerfile(text);
    let error = bench.try_build(&spec).unwrap_err();
    assert_eq!(error.exit_code(), Some(3), "{error}");
    assert_eq!(error.diagnostics()[0].span().line, 7);
    assert!(bench.worker.images.lock().unwrap().is_empty());
    assert!(!bench.events.iter().any(|event| matches!(event, Event::Done { .. })));
}

#[test]
fn more_stages_than_threads() {
    let mut bench = Bench::new();
    let mut text = "FROM base AS s0\nRUN put x0 0\n".to_owned();
    for n in 1..60 {
        text.push_str(&format!("FROM s{} AS s{n}\nRUN put x{n} {n}\n", n - 1));
    }
    let spec = bench.dockerfile(&text);
    assert_eq!(built(&bench.build(&spec)).len(), 60);
    assert_eq!(bench.read("x59").as_deref(), Some("59"));
}
