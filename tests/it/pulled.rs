//! Images from a registry, through the engine: who may have them, and when a build asks.

use std::process::Command;

use coracle::{
    BuildSpec, Cancel, Credentials, Engine, EngineOptions, Event, Kind, Pull, PullEvent, PullOptions,
    PullProgress, RegistryOptions,
};
use coracle_testhost::{DockerRegistry, Host, run as host, skip};

use crate::support::{fails, nothing_but_engines, script, tools};

/// A registry that is locked, with `tools` in it, and the image's name.
fn stocked(host: &Host) -> Option<(DockerRegistry, String)> {
    if !DockerRegistry::is_there() || Command::new("skopeo").arg("--version").output().is_err() {
        skip(host.test(), "docker-registry or skopeo is not installed");
        return None;
    }
    let registry = DockerRegistry::start(host.dir(), 5000, true);
    let engine = Engine::open(host.dir().join("maker")).unwrap();
    tools(&engine).complete().unwrap();
    let name = format!("{}/tools:1", registry.address());
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "--dest-creds", "me:hunter2"])
        .args([
            format!("oci:{}:tools:latest", host.dir().join("maker").display()),
            format!("docker://{name}"),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    Some((registry, name))
}

fn me() -> RegistryOptions {
    RegistryOptions::new().credentials(Credentials::password("me", "hunter2"))
}

#[test]
fn an_image_is_pulled_and_run() {
    host(|host| {
        let Some((_registry, name)) = stocked(host) else { return };
        let engine = Engine::open(host.dir().join("state")).unwrap();
        let nobody = PullOptions::new(RegistryOptions::new());
        fails(
            engine.pull(&name, &nobody, |_| {}),
            Kind::Denied,
            &["pull 127.0.0.1:5000/tools:1: GET http://"],
        );
        fails(engine.pull("Not a name", &nobody, |_| {}), Kind::Invalid, &["pull Not a name", "image name"]);
        let mut stored = 0;
        let pulled = engine
            .pull(&name, &PullOptions::new(me()), |event| {
                stored += usize::from(matches!(event, PullEvent::Stored { .. }));
            })
            .unwrap();
        assert_eq!((stored, pulled.changed), (pulled.image.layers().len(), true));
        let digests = [format!("127.0.0.1:5000/tools@{}", pulled.digest)];
        assert_eq!(
            (pulled.image.names(), &pulled.image.registry_digests()[..]),
            (vec![name.clone()], &digests[..])
        );
        assert!(!engine.pull(&name, &PullOptions::new(me()), |_| {}).unwrap().changed);
        let spec = script("echo hello");
        engine.image(&name).unwrap().unwrap().tag("tools").unwrap();
        assert_eq!(crate::support::says(&engine, &spec), "hello\n");
        nothing_but_engines(host.dir());
    });
}

#[test]
fn a_build_asks_only_where_it_is_told_to() {
    host(|host| {
        let Some((registry, name)) = stocked(host) else { return };
        let spec = || BuildSpec::without_context(format!("FROM {name}\nRUN echo 1 > /1\n"));
        let place = host.dir().join("state");
        // A library goes on no network that nobody spoke of.
        let engine = Engine::open(&place).unwrap();
        let quiet = |event: &Event| assert!(!matches!(event, Event::Pull { .. }), "{event}");
        fails(engine.build(&spec(), quiet), Kind::NotFound, &["no such image: 127.0.0.1:5000/tools:1"]);
        // As nobody in particular nobody is let in.
        let words = ["no such image: 127.0.0.1:5000/tools:1: pull 127.0.0.1:5000/tools:1: GET ", "401"];
        fails(engine.build(&spec().pull(Pull::Missing), |_| {}), Kind::Denied, &words);
        let options = EngineOptions::new().registries(|name| match name.domain() {
            "127.0.0.1:5000" => Ok(me()),
            other => Err(format!("nobody knows {other}").into()),
        });
        let engine = Engine::open_with(&place, &options).unwrap();
        let mut told = Vec::new();
        let built = engine
            .build(&spec().pull(Pull::Missing), |event| {
                if let Event::Pull { image, progress } = event {
                    assert_eq!(*image, name);
                    told.push(progress.clone());
                }
            })
            .unwrap();
        assert_eq!(told[0], PullProgress::Asked);
        assert!(matches!(&told[1], PullProgress::Resolved { digest } if digest.starts_with("sha256:")));
        assert!(matches!(&told[2], PullProgress::Layer { bytes, of, .. } if bytes == of || *bytes < *of));
        assert_eq!(told.last(), Some(&PullProgress::Done));
        assert!(built.steps.iter().any(|step| step.built()));
        let again = engine.build(&spec().pull(Pull::Always), |_| {}).unwrap();
        assert!(again.steps.iter().all(|step| !step.built()), "the name means what it did");
        let elsewhere = BuildSpec::without_context("FROM nowhere.example/a\n").pull(Pull::Missing);
        fails(engine.build(&elsewhere, |_| {}), Kind::Failed, &["nobody knows nowhere.example"]);
        // An id is nowhere else.
        let id = BuildSpec::without_context(format!("FROM {}\n", built.image.id())).pull(Pull::Always);
        engine.build(&id, quiet).unwrap();
        drop(registry);
        let words =
            ["image `127.0.0.1:5000/tools:1`: pull 127.0.0.1:5000/tools:1: HEAD http://127.0.0.1:5000/"];
        fails(engine.build(&spec().pull(Pull::Always), |_| {}), Kind::Failed, &words);
        engine.build(&spec().pull(Pull::Missing), quiet).unwrap();
        nothing_but_engines(host.dir());
    });
}

#[test]
fn a_cancelled_build_pulls_no_further() {
    host(|host| {
        let Some((_registry, name)) = stocked(host) else { return };
        let engine =
            Engine::open_with(host.dir().join("state"), &EngineOptions::new().registries(|_| Ok(me())))
                .unwrap();
        let cancel = Cancel::new().unwrap();
        let spec =
            BuildSpec::without_context(format!("FROM {name}\n")).pull(Pull::Missing).cancelled_by(&cancel);
        let cancelled = engine.build(&spec, |event| {
            if let Event::Pull { progress: PullProgress::Resolved { .. }, .. } = event {
                cancel.cancel();
            }
        });
        fails(cancelled, Kind::Interrupted, &["no such image", "it was cancelled"]);
        assert!(engine.images().unwrap().is_empty());
        nothing_but_engines(host.dir());
    });
}
