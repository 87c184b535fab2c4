//! Capture, build, cache, volumes: what quickstart tells, looked at closely.

use std::fs;
use std::time::{Duration, SystemTime};

use coracle::{BuildSpec, Built, ContainerSpec, Engine, VolumeSpec};
use coracle_testhost::run as host;

use crate::support::{
    context, engine, nothing_but_engines, nothing_left, programs, run, says, script, tools,
};

#[test]
fn a_capture_is_the_same_image_in_every_state() {
    host(|host| {
        let (one, two) = (host.dir().join("one"), host.dir().join("two"));
        let (one, two) = (Engine::open(one).unwrap(), Engine::open(two).unwrap());
        let first = one.capture(&programs(), "tools").unwrap();
        assert_eq!(one.capture(&programs(), "again").unwrap().id(), first.id());
        assert_eq!(two.capture(&programs(), "tools").unwrap().id(), first.id());
        let image = one.image("tools").unwrap().unwrap();
        assert_eq!(image.names(), ["again:latest", "tools:latest"]);
        assert!(one.image(&first.id()[..15]).unwrap().is_some(), "by the beginning of its id");
        assert_eq!(one.images().unwrap().len(), 1);
        let removed = one.remove_image("tools").unwrap();
        assert_eq!((removed.untagged, removed.deleted), (vec!["tools:latest".into()], None));
        assert_eq!(one.remove_image("again").unwrap().deleted, Some(first.id()));
        assert!(one.images().unwrap().is_empty());
        assert_eq!(two.images().unwrap().len(), 1);
    });
}

const DOCKERFILE: &str = "FROM tools AS build
WORKDIR /src
COPY first.txt .
RUN sort first.txt > sorted && echo sorting
COPY second.txt .
RUN cat second.txt sorted > /all
FROM tools
COPY --from=build /all /all
CMD [\"cat\", \"/all\"]
";

/// Which lines were done, which were taken from the cache.
fn lines(built: &Built) -> (Vec<usize>, Vec<usize>) {
    let which = |is: fn(&coracle::StepReport) -> bool| {
        built.steps.iter().filter(|step| is(step)).map(|step| step.at.line).collect()
    };
    (which(|step| step.built()), which(|step| step.cached()))
}

#[test]
fn only_what_comes_after_a_change_is_built_again() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let files = [("Dockerfile", DOCKERFILE), ("first.txt", "b\na\n"), ("second.txt", "one\n")];
        let context = context(host.dir(), &files);
        let spec = BuildSpec::new(&context).tag("app:1");

        let mut events = Vec::new();
        let first = engine.build(&spec, |event| events.push(event.to_string())).unwrap();
        assert_eq!(lines(&first), (vec![2, 3, 4, 5, 6, 8], vec![]));
        assert!(events.iter().any(|event| event.ends_with("| sorting")), "{events:#?}");
        assert_eq!(says(&engine, &ContainerSpec::new("app:1").no_network()), "one\na\nb\n");

        let again = engine.build(&spec, |_| {}).unwrap();
        assert_eq!(lines(&again), (vec![], vec![2, 3, 4, 5, 6, 8]));
        assert_eq!(again.image.id(), first.image.id());

        // A file that is only touched is the same file.
        let touched = SystemTime::now() - Duration::from_secs(86_400);
        for file in ["first.txt", "second.txt", "Dockerfile"] {
            let file = fs::File::options().write(true).open(context.join(file)).unwrap();
            file.set_modified(touched).unwrap();
        }
        let touched = engine.build(&spec, |_| {}).unwrap();
        assert_eq!(lines(&touched), (vec![], vec![2, 3, 4, 5, 6, 8]));
        assert_eq!(touched.image.id(), first.image.id());

        fs::write(context.join("second.txt"), "two\n").unwrap();
        let changed = engine.build(&spec, |_| {}).unwrap();
        assert_eq!(lines(&changed), (vec![5, 6, 8], vec![2, 3, 4]));
        assert_ne!(changed.image.id(), first.image.id());
        assert_eq!(says(&engine, &ContainerSpec::new("app:1").no_network()), "two\na\nb\n");
        // The name has moved on; the old image is there by its id as long as something has it.
        assert_eq!(engine.image("app:1").unwrap().unwrap().id(), changed.image.id());
        nothing_but_engines(host.dir());
    });
}

/// A step whose source changes while it is copied is not kept in the cache; another device number is no such change.
#[test]
fn what_others_mount_meanwhile_does_not_spoil_the_cache() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let dockerfile = "FROM tools AS one\nWORKDIR /w\nFROM tools\nCOPY --from=one /etc/passwd /copied\n";
        let spec = BuildSpec::without_context(dockerfile);
        let mut steps = 0;
        let first = engine.build(&spec, |event| {
            if let coracle::Event::Started { .. } = event {
                // Takes the numbers that are free now.
                (0..4).for_each(|_| drop(host.small_disk(4096)));
                steps += 1;
            }
        });
        assert_eq!((lines(&first.unwrap()), steps), ((vec![2, 4], vec![]), 2));
        assert_eq!(lines(&engine.build(&spec, |_| {}).unwrap()), (vec![], vec![2, 4]));
    });
}

#[test]
fn a_build_step_has_what_docker_gives_it() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let dockerfile = "FROM tools
ARG COLOUR=red
ENV SHADE=dark
RUN echo $COLOUR $SHADE > /colour && id -u > /who && readlink /proc/self/cwd > /where
USER 7:8
WORKDIR /home/seven
RUN echo $(id -u):$(id -g) $HOME > /tmp/seven
ENTRYPOINT [\"cat\"]
CMD [\"/colour\", \"/who\", \"/where\", \"/tmp/seven\"]
LABEL shade=$SHADE
";
        let spec = BuildSpec::without_context(dockerfile).arg("COLOUR", "blue").tag("app");
        engine.build(&spec, |_| {}).unwrap();
        let all = says(&engine, &ContainerSpec::new("app").no_network());
        assert_eq!(all, "blue dark\n0\n/\n7:8 /\n");
        let other = spec.arg("COLOUR", "green");
        let built = engine.build(&other, |_| {}).unwrap();
        assert!(built.steps.iter().any(|step| step.built()), "another argument is another step");
        assert!(says(&engine, &ContainerSpec::new(&built.image).no_network()).starts_with("green dark\n"));
    });
}

#[test]
fn what_is_in_a_volume_outlives_containers() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let volume = engine.volume(&VolumeSpec::new("data").label("for", "tests")).unwrap();
        let writer = script("echo kept > /data/file; echo lost > /file").volume(&volume, "/data");
        says(&engine, &writer);
        let reader = script("cat /data/file; ls / | sort | head -n 100; cat /file");
        let (exit, output) = run(&engine, &reader.volume("data", "/data"));
        assert_eq!(exit.code(), 1, "the container's own file is gone with it");
        assert!(output.stdout.starts_with("kept\n") && !output.stdout.contains("\nfile\n"), "{output:?}");

        // Read-only, and at two places at once.
        let at = |at: &str| coracle::Mount::volume("data", at);
        let two = script("cat /a/file /b/file; echo more >> /b/file && cat /a/file; echo no > /a/x");
        let (exit, output) = run(&engine, &two.mount(at("/a").read_only()).mount(at("/b")));
        assert_eq!((exit.code(), &*output.stdout), (2, "kept\nkept\nkept\nmore\n"));
        assert!(output.stderr.contains("Read-only file system"), "{output:?}");

        let found = engine.find_volume("data").unwrap().unwrap();
        assert_eq!(found.labels()["for"], "tests");
        assert_eq!(fs::read_to_string(found.path().join("file")).unwrap(), "kept\nmore\n");
        let user = engine.start(&script("sleep 100").name("user").volume("data", "/data")).unwrap();
        let refused = engine.remove_volume("data").unwrap_err();
        assert_eq!(refused.kind(), coracle::Kind::InUse);
        assert!(refused.to_string().contains("user"), "{refused}");
        drop(user);
        engine.remove_volume("data").unwrap();
        assert!(engine.volumes().unwrap().is_empty());
        drop((engine, volume, found));
        nothing_left(host.dir());
    });
}

#[test]
fn files_of_the_host_are_seen_through_binds() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let dir = host.dir().join("shared");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("one"), "from outside\n").unwrap();
        let spec = script("cat /in/one /file; echo from inside > /in/two").bind(&dir, "/in");
        assert_eq!(says(&engine, &spec.bind(dir.join("one"), "/file")), "from outside\nfrom outside\n");
        assert_eq!(fs::read_to_string(dir.join("two")).unwrap(), "from inside\n");
    });
}
