//! The results of builds, carried from one state directory to another.

use std::fs;
use std::path::Path;

use coracle::{BuildSpec, Built, CacheMode, Engine, Kind};
use coracle_testhost::run as host;

use crate::support::{context, fails, nothing_but_engines, tools};

const TEXT: &str = "FROM tools AS make\nCOPY a /a\nRUN cat /a /a > /twice && echo ran >> /ran\nFROM tools\nRUN echo first > /first\n\
     COPY --from=make /twice /twice\nENV X=1\nRUN cat /twice > /last\n";

fn engine(dir: &Path, name: &str) -> Engine {
    let engine = Engine::open(dir.join(name)).unwrap();
    tools(&engine);
    engine
}

/// The lines that were built.
fn ran(built: &Built) -> Vec<usize> {
    built.steps.iter().filter(|step| step.built()).map(|step| step.at.line).collect()
}

#[test]
fn a_cold_state_directory_builds_nothing_that_another_has_built() {
    host(|host| {
        let (one, two, three) =
            (engine(host.dir(), "state"), engine(host.dir(), "2"), engine(host.dir(), "3"));
        let context = context(host.dir(), &[("a", "text")]);
        let spec = BuildSpec::new(&context).dockerfile_text(TEXT).secret("s", "hunter2");
        let first = one.build(&spec, |_| {}).unwrap();
        assert_eq!(ran(&first), [2, 3, 5, 6, 8]);
        let (all, some) = (host.dir().join("max"), host.dir().join("min"));
        let export = one.export_build_cache(&first, &all, "latest", CacheMode::Max).unwrap();
        assert_eq!(export.steps, 5);
        assert_eq!(one.export_build_cache(&first, &some, "latest", CacheMode::Min).unwrap().steps, 3);
        assert_eq!(two.import_build_cache(&all, "latest").unwrap(), 5);
        let second = two.build(&spec, |_| {}).unwrap();
        assert_eq!(ran(&second), [0; 0], "nothing is built");
        assert_eq!(second.image.id(), first.image.id(), "the identical image");
        // What only the image has is enough for the stages whose files are needed no more than by their content.
        assert_eq!(three.import_build_cache(&some, &export_digest(&some)).unwrap(), 3);
        assert_eq!(ran(&three.build(&spec, |_| {}).unwrap()), [2, 3], "the other stage's steps");
        // Exported from the cache as well, and once more into the same place, under another tag.
        let again = two.export_build_cache(&second, &all, "other", CacheMode::Max).unwrap();
        assert_eq!(again.steps, 5);
        assert_eq!(three.import_build_cache(&all, "other").unwrap(), 5);
        assert_eq!(three.import_build_cache(&all, "latest").unwrap(), 5);
        fails(
            three.import_build_cache(&all, "nosuch"),
            Kind::NotFound,
            &["import the build cache of", "`nosuch`"],
        );
        fails(three.import_build_cache(host.dir().join("none"), "latest"), Kind::NotFound, &["none"]);
        let names: Vec<_> = fs::read_dir(&all).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 3, "an image layout and nothing else: {names:?}");
        nothing_but_engines(host.dir());
    });
}

fn export_digest(layout: &Path) -> String {
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    index["manifests"][0]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_damaged_on_the_way_is_not_taken() {
    host(|host| {
        let open = |name: usize| Engine::open(host.dir().join(name.to_string())).unwrap();
        let context = context(host.dir(), &[("a", "text")]);
        let text = "FROM scratch AS make\nCOPY a /a\nFROM scratch\nCOPY --from=make /a /b\nCOPY a /c\n";
        let spec = BuildSpec::new(&context).dockerfile_text(text);
        let one = open(0);
        let built = one.build(&spec, |_| {}).unwrap();
        let layout = host.dir().join("layout");
        one.export_build_cache(&built, &layout, "latest", CacheMode::Max).unwrap();
        let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap();
        for (nth, entry) in blobs.enumerate() {
            let path = entry.unwrap().path();
            let whole = fs::read(&path).unwrap();
            let mut bytes = whole.clone();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let cold = open(nth + 1);
            fails(cold.import_build_cache(&layout, "latest"), Kind::Corrupt, &["import the build cache of"]);
            fs::write(&path, &whole).unwrap();
            assert_eq!(ran(&cold.build(&spec, |_| {}).unwrap()), [2, 4, 5], "nothing was learnt of it");
        }
        assert_eq!(open(99).import_build_cache(&layout, "latest").unwrap(), 3);
    });
}

#[cfg(feature = "registry")]
#[test]
fn a_registry_carries_them_too() {
    use coracle::{CacheOptions, Compression, Credentials, RegistryOptions};
    use coracle_testhost::{DockerRegistry, skip};

    host(|host| {
        if !DockerRegistry::is_there() {
            return skip(host.test(), "docker-registry is not installed");
        }
        let registry = DockerRegistry::start(host.dir(), 5000, true);
        let name = |tag: &str| format!("{}/team/cache:{tag}", registry.address());
        let nobody = RegistryOptions::new();
        let me = RegistryOptions::new().credentials(Credentials::password("me", "hunter2"));
        let engines = ["state", "2", "3"].map(|name| engine(host.dir(), name));
        let [one, two, three] = &engines;
        let context = context(host.dir(), &[("a", "text")]);
        let spec = BuildSpec::new(&context).dockerfile_text(TEXT);
        let first = one.build(&spec, |_| {}).unwrap();
        fails(
            two.pull_build_cache(&name("max"), &me),
            Kind::NotFound,
            &["pull the build cache", "team/cache:max"],
        );
        fails(
            one.push_build_cache(&first, &name("max"), CacheMode::Max, &nobody),
            Kind::Denied,
            &["push the build cache to 127.0.0.1:5000/team/cache:max", "401 Unauthorized"],
        );
        let max = one.push_build_cache(&first, &name("max"), CacheMode::Max, &me).unwrap();
        assert_eq!(max.steps, 5);
        assert_eq!(one.push_build_cache(&first, &name("min"), CacheMode::Min, &me).unwrap().steps, 3);
        fails(two.pull_build_cache(&name("max"), &nobody), Kind::Denied, &["authentication required"]);
        assert_eq!(two.pull_build_cache(&name("max"), &me).unwrap(), 5);
        let second = two.build(&spec, |_| {}).unwrap();
        assert_eq!(ran(&second), [0; 0], "nothing is built");
        assert_eq!(second.image.id(), first.image.id(), "the identical image");
        assert_eq!(three.pull_build_cache(&name("min"), &me).unwrap(), 3);
        assert_eq!(ran(&three.build(&spec, |_| {}).unwrap()), [2, 3], "the other stage's steps");
        // Compressed it is smaller, and leads to the same.
        for (tag, compression) in [("gzip", Compression::Gzip), ("zstd", Compression::Zstd)] {
            let how = CacheOptions::new().mode(CacheMode::Max).compression(compression);
            let packed = one.push_build_cache(&first, &name(tag), how, &me).unwrap();
            assert_eq!(packed.steps, 5);
            let cold = engine(host.dir(), tag);
            assert_eq!(cold.pull_build_cache(&name(tag), &me).unwrap(), 5);
            let built = cold.build(&spec, |_| {}).unwrap();
            assert_eq!((ran(&built), built.image.id()), (vec![], first.image.id()));
            assert_ne!(packed.digest, max.digest);
        }
        let zstd = CacheOptions::new().mode(CacheMode::Min).compression(Compression::Zstd);
        let twice = [(); 2].map(|()| one.push_build_cache(&first, &name("min"), zstd, &me).unwrap().digest);
        assert_eq!(twice[0], twice[1], "the same bytes each time");
        // By its digest, and over what is there already.
        let pinned = format!("{}/team/cache@{}", registry.address(), max.digest);
        assert_eq!(three.pull_build_cache(&pinned, &me).unwrap(), 5);
        assert_eq!(
            two.push_build_cache(&second, &name("max"), CacheMode::Max, &me).unwrap().digest,
            max.digest
        );
        fails(
            one.pull_build_cache("Not/A name", &me),
            Kind::Invalid,
            &["pull the build cache", "lower case"],
        );
        nothing_but_engines(host.dir());
    });
}
