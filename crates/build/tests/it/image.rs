//! The image that comes out, and what is told on the way.

use std::time::{Duration, SystemTime};

use coracle_build::BuildSpec;
use serde_json::json;

use crate::bench::{Bench, built, cached};

#[test]
fn configuration_and_history() {
    let mut bench = Bench::new();
    let text = "\
FROM base
ENV GREETING=\"hello world\"
WORKDIR /srv
RUN put a $GREETING
LABEL v=1
USER app
ENTRYPOINT [\"sh\", \"-c\"]
CMD echo
";
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let spec = bench.dockerfile(text).label("extra", "x").now(now);
    bench.build(&spec);
    let (_, config) = bench.last_image();
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    assert_eq!(
        config["config"],
        json!({
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GREETING=hello world"],
            "WorkingDir": "/srv", "User": "app", "Labels": {"v": "1", "extra": "x"},
            "Entrypoint": ["sh", "-c"], "Cmd": ["/bin/sh", "-c", "echo"], "ArgsEscaped": true,
        })
    );
    let (new, comment) = ("2023-11-14T22:13:20Z", "buildkit.dockerfile.v0");
    assert_eq!(
        config["history"],
        json!([
            {"created": new, "comment": comment, "created_by": "ENV GREETING=hello world", "empty_layer": true},
            {"created": new, "comment": comment, "created_by": "WORKDIR /srv"},
            {"created": new, "comment": comment, "created_by": "RUN /bin/sh -c put a $GREETING # buildkit"},
            {"created": new, "comment": comment, "created_by": "LABEL v=1", "empty_layer": true},
            {"created": new, "comment": comment, "created_by": "USER app", "empty_layer": true},
            {"created": new, "comment": comment, "created_by": "ENTRYPOINT [\"sh\" \"-c\"]", "empty_layer": true},
            {"created": new, "comment": comment, "created_by": "CMD [\"/bin/sh\" \"-c\" \"echo\"]", "empty_layer": true},
        ])
    );
    let ran = bench.worker.ran.lock().unwrap();
    assert_eq!(ran[0].env[1], ("GREETING".to_owned(), "hello world".to_owned()));
    assert_eq!((ran[0].cwd.as_str(), ran[0].user.as_str()), ("/srv", ""), "USER comes later");
}

#[test]
fn with_an_epoch_two_engines_make_the_same_image() {
    let make = || {
        let mut bench = Bench::new();
        bench.file("f", "1");
        let spec =
            bench.dockerfile("FROM base\nCOPY f /f\nRUN put a b\nCMD [\"x\"]\n").source_date_epoch(1_000_000);
        let report = bench.build(&spec);
        assert_eq!(cached(&bench.build(&spec)), [2, 3]);
        assert_eq!(
            built(&bench.build(&spec.source_date_epoch(2_000_000))),
            [2, 3],
            "layers are dated with it"
        );
        let (_, json) = &bench.worker.images.lock().unwrap()[0];
        (report.id, serde_json::from_slice::<serde_json::Value>(json).unwrap())
    };
    let ((one, config), (two, _)) = (make(), make());
    assert_eq!(one, two);
    assert_eq!(config["created"], "1970-01-12T13:46:40Z");
    assert!(config["history"].as_array().unwrap().iter().all(|h| h["created"] == "1970-01-12T13:46:40Z"));
}

#[test]
fn a_dockerfile_without_context_and_from_scratch() {
    let mut bench = Bench::new();
    let spec = BuildSpec::without_context("FROM scratch\nRUN put a 1\n");
    bench.build(&spec);
    assert_eq!(bench.read("a").as_deref(), Some("1"));
    let (_, config) = bench.last_image();
    assert_eq!(config["os"], "linux");
    assert_eq!(config["history"].as_array().unwrap().len(), 1);
}

#[test]
fn events_read_like_dockers_plain_progress() {
    let mut bench = Bench::new();
    let spec = bench.dockerfile("FROM base AS builder\nENV a=b\nRUN put a 1\n");
    let report = bench.build(&spec);
    bench.build(&spec);
    let lines: Vec<String> = bench
        .events
        .iter()
        .map(ToString::to_string)
        .map(|l| l.split(" in 0").next().unwrap().to_owned())
        .collect();
    assert_eq!(
        lines,
        [
            "[builder 1/2] FROM base AS builder".to_owned(),
            "[builder 1/2] ENV a=b".to_owned(),
            "[builder 2/2] RUN put a 1".to_owned(),
            "[builder 2/2] | running put a 1".to_owned(),
            "[builder 2/2] done".to_owned(),
            format!("image {}", report.id),
            "[builder 1/2] FROM base AS builder".to_owned(),
            "[builder 1/2] ENV a=b".to_owned(),
            "[builder 2/2] RUN put a 1 … cached".to_owned(),
            format!("image {}", report.id),
        ]
    );
}
