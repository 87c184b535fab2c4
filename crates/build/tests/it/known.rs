//! Results that the cache knows, and whose files are not here.

use coracle_build::{BuildSpec, Built, Event, Outcome, Reason};

use crate::bench::{Bench, Evict, built, cached};

/// What a run writes differs from run to run.
const TEXT: &str = "\
FROM base AS make
COPY a /a
RUN count out
RUN count key
FROM base
RUN put first 1
COPY --from=make out /
COPY --from=make key /
RUN put last 1
";

fn bench() -> (Bench, BuildSpec, Built) {
    let mut bench = Bench::new();
    bench.file("a", "text");
    let spec = bench.dockerfile(TEXT);
    let first = bench.build(&spec);
    assert_eq!(built(&first), [2, 3, 4, 6, 7, 8, 9]);
    (bench, spec, first)
}

fn evict(bench: &Bench, of: &Built, lines: &[usize], whither: Evict) {
    lines.iter().for_each(|line| bench.evict(of, *line, whither));
}

fn outcome(built: &Built, line: usize) -> Outcome {
    built.steps.iter().find(|step| step.at.line == line).unwrap().outcome
}

/// Of a build, by the lines: what was told to be cached, and what was begun.
fn told(events: &[Event]) -> (Vec<usize>, Vec<usize>) {
    let cached = events.iter().filter_map(|event| match event {
        Event::Cached { at } => Some(at.line),
        _ => None,
    });
    let started = events.iter().filter_map(|event| match event {
        Event::Started { at, .. } => Some(at.line),
        _ => None,
    });
    let mut all: (Vec<usize>, Vec<usize>) = (cached.collect(), started.collect());
    all.0.sort_unstable();
    all.1.sort_unstable();
    all
}

#[test]
fn what_nobody_asks_for_is_not_built_again() {
    let (mut bench, spec, first) = bench();
    evict(&bench, &first, &[2, 3, 4], Evict::Gone);
    bench.events.clear();
    let second = bench.build(&spec);
    assert_eq!(cached(&second), [2, 3, 4, 6, 7, 8, 9]);
    assert_eq!((outcome(&second, 3), outcome(&second, 7)), (Outcome::Known, Outcome::Cached));
    assert_eq!((&second.id, bench.runs()), (&first.id, 4));
    assert_eq!(told(&bench.events), (vec![2, 3, 4, 6, 7, 8, 9], vec![]));
    let text = second.steps.iter().map(ToString::to_string).collect::<String>();
    assert!(text.contains("known"), "{text}");
    // Also within the stage: what comes later is here.
    evict(&bench, &first, &[6, 7, 8], Evict::Gone);
    let third = bench.build(&spec);
    assert_eq!(
        (built(&third), outcome(&third, 8), outcome(&third, 9)),
        (vec![], Outcome::Known, Outcome::Cached)
    );
}

#[test]
fn a_stage_goes_back_to_where_its_files_are() {
    let (mut bench, spec, first) = bench();
    evict(&bench, &first, &[6, 7, 8, 9], Evict::Gone);
    bench.events.clear();
    let second = bench.build(&spec);
    assert_eq!(built(&second), [6, 7, 8, 9]);
    assert_eq!(outcome(&second, 6), Outcome::Built(Reason::Gone));
    assert_eq!(second.steps.len(), first.steps.len());
    assert_eq!(told(&bench.events), (vec![2, 3, 4], vec![6, 7, 8, 9]));
    let why = second.explain().to_string();
    assert!(why.contains("because its result was removed from the cache"), "{why}");
}

#[test]
fn what_is_built_again_is_used_by_all_who_need_it() {
    let (mut bench, spec, first) = bench();
    // The copy of `out` is here, that of `key` is not: both have to be of the same run.
    evict(&bench, &first, &[2, 3, 4, 8, 9], Evict::Gone);
    bench.events.clear();
    let second = bench.build(&spec);
    let both = (bench.read("out").unwrap(), bench.read("key").unwrap());
    let runs: (usize, usize) = (both.0.parse().unwrap(), both.1.parse().unwrap());
    assert!(runs.0 > 4 && runs.1 == runs.0 + 1, "{runs:?}");
    assert_eq!(built(&second), [2, 3, 4, 7, 8, 9]);
    assert_eq!(outcome(&second, 6), Outcome::Cached);
    assert_eq!(told(&bench.events).1, [2, 3, 4, 7, 8, 9]);
    let third = bench.build(&spec);
    assert_eq!((built(&third), third.id), (vec![], second.id));
}

#[test]
fn what_mounts_or_starts_from_a_stage_needs_its_files() {
    for last in
        ["FROM make\nRUN count new\n", "FROM base\nRUN --mount=type=bind,from=make,target=/m count new\n"]
    {
        let (mut bench, _, first) = bench();
        evict(&bench, &first, &[2, 3, 4], Evict::Gone);
        let make = TEXT.split_inclusive('\n').take(4).collect::<String>();
        let spec = bench.dockerfile(&format!("{make}{last}"));
        assert_eq!(built(&bench.build(&spec)), [2, 3, 4, 6], "{last}");
        assert!(built(&bench.build(&spec)).is_empty());
    }
}

#[test]
fn files_are_fetched_where_they_are_asked_for() {
    let (mut bench, spec, first) = bench();
    let all = [2, 3, 4, 6, 7, 8, 9];
    evict(&bench, &first, &all, Evict::Elsewhere);
    bench.events.clear();
    let second = bench.build(&spec);
    assert_eq!((cached(&second), &second.id), (all.to_vec(), &first.id));
    assert_eq!(outcome(&second, 9), Outcome::Cached);
    // Of the worker's snapshots each has all files; nobody asked for those before the last, nor for the other stage's.
    let fetched: Vec<usize> = second.fetched.iter().map(|transfer| transfer.at.line).collect();
    assert_eq!((fetched, outcome(&second, 4)), (vec![9], Outcome::Known));
    let text = second.explain().to_string();
    assert!(text.contains("; 1 layer fetched, 7B in "), "{text}");
    assert!(bench.events.iter().any(|event| matches!(event, Event::Fetched(_))));
    // A new step on another one's result.
    let more = bench.dockerfile(&TEXT.replace("RUN put last 1", "RUN put last 2"));
    let third = bench.build(&more);
    let fetched: Vec<usize> = third.fetched.iter().map(|transfer| transfer.at.line).collect();
    assert_eq!((built(&third), fetched), (vec![9], vec![8]));
}

#[test]
fn what_cant_be_fetched_is_built() {
    let (mut bench, spec, first) = bench();
    evict(&bench, &first, &[2, 3, 4, 6, 7, 8], Evict::Elsewhere);
    evict(&bench, &first, &[9], Evict::Broken);
    let second = bench.build(&spec);
    assert_eq!((built(&second), outcome(&second, 9)), (vec![9], Outcome::Built(Reason::Gone)));
    assert_eq!(second.warnings, ["[stage-1 5/5]: its blob is another, so it is built"]);
    // Another stage's: everything begins again with what it comes to now.
    let (mut bench, _, first) = self::bench();
    evict(&bench, &first, &[2, 3, 4], Evict::Broken);
    evict(&bench, &first, &[7], Evict::Gone);
    let spec = bench.dockerfile(&TEXT.replace("put first 1", "put first 2"));
    let second = bench.build(&spec);
    assert_eq!(built(&second), [2, 3, 4, 6, 7, 8, 9]);
    assert_eq!(bench.read("first").as_deref(), Some("2"));
}

#[test]
fn another_cache_needs_the_keys_only() {
    let (bench, spec, first) = bench();
    let mut cold = Bench::new();
    first.cache.iter().for_each(|step| cold.cache.learn(step).unwrap());
    evict(&bench, &first, &[6, 7, 8, 9], Evict::Elsewhere);
    for files in &first.files {
        cold.cache.learn_files(files).unwrap();
    }
    std::mem::swap(&mut *cold.worker.elsewhere.lock().unwrap(), &mut *bench.worker.elsewhere.lock().unwrap());
    let second = cold.build(&spec);
    assert_eq!((built(&second), cold.runs()), (vec![], 0));
    assert_eq!(second.id, first.id);
    // What is not carried is built where it is needed, and that is said.
    let mut third = Bench::new();
    first.cache.iter().for_each(|step| third.cache.learn(step).unwrap());
    let report = third.build(&spec);
    assert_eq!(built(&report), [2, 3, 4, 6, 7, 8, 9]);
    let why = report.explain().to_string();
    assert!(why.contains("because the imported cache knows its result, and has no files of it"), "{why}");
}
