//! Advice from what builds have come to.

use std::fs;

use coracle::BuildSpec;
use coracle_testhost::run as host;

use crate::support::{context, engine, nothing_but_engines, tools};

#[test]
fn bytes_that_are_lost_and_files_that_nobody_asks_for_are_found() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let context = context(
            host.dir(),
            &[("a", "text"), ("data/x", ""), ("ignored/x", ""), (".dockerignore", "ignored")],
        );
        for name in ["data/x", "ignored/x"] {
            fs::write(context.join(name), vec![7; 3_000_000]).unwrap();
        }
        let text = "FROM tools AS base\nCOPY a /a\nRUN mkdir -p /cache/d && head -c 4000000 /dev/zero > /cache/d/f\n\
             RUN mkdir -p /opt/bin && head -c 2500000 /dev/zero > /opt/bin/make && touch /made\n\
             FROM base AS late\nRUN rm -r /cache && : make && head -c 2500000 /dev/zero > /late\nRUN touch -a /a; : > /late\nFROM late\nCMD [\"/made\"]\n";
        let spec = BuildSpec::new(&context).dockerfile_text(text);
        let told = |spec: &BuildSpec| -> Vec<(usize, &'static str, String)> {
            let lints = engine.check(spec).unwrap().lints;
            let told = lints
                .into_iter()
                .map(|lint| (lint.diagnostic.span().line, lint.rule, lint.diagnostic.message().to_owned()));
            told.collect()
        };
        let unused = (2, "UnusedInContext");
        let all = told(&spec);
        assert_eq!(
            all.iter().map(|one| (one.0, one.1)).collect::<Vec<_>>(),
            [unused],
            "nothing is built yet"
        );
        assert!(
            all[0].2.starts_with("the context has `data` (3.0 MB, 1 file)") && all[0].2.contains("`/data`"),
            "{all:?}"
        );
        engine.build(&spec, |_| {}).unwrap();
        let all = told(&spec);
        let rules: Vec<_> = all.iter().map(|one| (one.0, one.1)).collect();
        let expected =
            [unused, (4, "BuildToolsInImage"), (6, "DeletedInLaterLayer"), (7, "WrittenInTwoLayers")];
        assert_eq!(rules, expected, "{all:#?}");
        assert!(
            all[1].2.starts_with("the image keeps `make` that line 6 builds with, in a layer of 2.5 MB"),
            "{all:?}"
        );
        assert!(all[2].2.starts_with("4.0 MB that line 3 added are deleted here"), "{all:?}");
        assert!(all[3].2.starts_with("2.5 MB that line 6 added are written again here"), "{all:?}");
        let quiet = format!("# check=skip=UnusedInContext,BuildToolsInImage,WrittenInTwoLayers\n{text}");
        engine.build(&BuildSpec::new(&context).dockerfile_text(&*quiet), |_| {}).unwrap();
        let rules: Vec<_> =
            told(&BuildSpec::new(&context).dockerfile_text(&*quiet)).into_iter().map(|one| one.1).collect();
        assert_eq!(rules, ["DeletedInLaterLayer"]);
        // Lines that were written since say nothing of what was measured before.
        let changed = text.replace("rm -r /cache", "rm -rf /cache");
        assert_eq!(told(&BuildSpec::new(&context).dockerfile_text(changed)).len(), 1);
        nothing_but_engines(host.dir());
    });
}
