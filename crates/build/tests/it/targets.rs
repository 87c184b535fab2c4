//! What is fuzzed: functions over any bytes, which must neither panic nor hang. `fuzz/` gives them to libFuzzer, `fuzz.rs`
//! to corpora of its own.

use std::collections::BTreeMap;

use coracle_build::{BuildSpec, CheckFacts, Dockerfile, Graph, Ignore, ImageConfig};

/// A target by its name.
pub(crate) type Target = fn(&[u8]);

/// All of them.
#[allow(dead_code, reason = "the fuzzer takes one by one")]
pub(crate) const ALL: [(&str, Target); 3] =
    [("dockerfile", dockerfile), ("expansion", expansion), ("ignore", ignore)];

/// Any bytes as a Dockerfile: read, checked and planned as far as it goes; errors are printed.
pub(crate) fn dockerfile(bytes: &[u8]) {
    let file = match Dockerfile::parse("Dockerfile", bytes) {
        Ok(file) => file,
        Err(error) => return drop(error.to_string()),
    };
    assert!(file.instructions().count() > 0, "it has a FROM at least");
    let facts = CheckFacts::new().image("a", ImageConfig::scratch()).ignore(Ignore::default());
    for lint in file.check_with(&facts) {
        lint.diagnostic.to_string();
    }
    let graph = match Graph::new(&file, &BuildSpec::new(".").arg("GIVEN", "value")) {
        Ok(graph) => graph,
        Err(error) => return drop(error.to_string()),
    };
    let bases: BTreeMap<String, ImageConfig> =
        graph.images().iter().map(|name| (name.clone(), ImageConfig::scratch())).collect();
    match graph.plan(&bases) {
        Ok(plan) => {
            plan.to_string();
            plan.affected_by("a/b", &Ignore::default());
        }
        Err(error) => drop(error.to_string()),
    }
}

/// Any bytes where variables are replaced: as a word of ENV, of EXPOSE (which parts words), and in a here-document.
pub(crate) fn expansion(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).replace(['\n', '\r'], " ");
    let set = "FROM a\nENV x=foobarbaz empty= path=/a/b/c star=*b* quote=\"a'b\"\n";
    for rest in [
        format!("ENV got={text}\n"),
        format!("EXPOSE {text}\n"),
        format!("LABEL a=\"{text}\"\n"),
        format!("COPY <<E /f\n{text}\nE\n"),
    ] {
        let Ok(file) = Dockerfile::parse("Dockerfile", format!("{set}{rest}").as_bytes()) else { continue };
        let Ok(graph) = Graph::new(&file, &BuildSpec::new(".")) else { continue };
        let bases = BTreeMap::from([("a".to_owned(), ImageConfig::scratch())]);
        match graph.plan(&bases) {
            Ok(plan) => drop(plan.to_string()),
            Err(error) => drop(error.to_string()),
        }
    }
}

/// Patterns up to the first zero byte, and paths after it, one a line.
pub(crate) fn ignore(bytes: &[u8]) {
    let (patterns, paths) = bytes.split_at(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    let Ok(ignore) = Ignore::parse(".dockerignore", patterns) else { return };
    for path in String::from_utf8_lossy(paths.get(1..).unwrap_or_default()).lines() {
        let twice = format!("/{path}/");
        assert_eq!(
            ignore.ignores(path),
            ignore.ignores(&twice),
            "slashes at the ends mean nothing: {path:?}"
        );
    }
}
