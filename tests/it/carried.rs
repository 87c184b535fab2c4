//! The results of builds, carried from one state directory to another.

use std::fs;
use std::path::Path;

use coracle::{BuildSpec, Built, CacheMode, Engine, Event, ImportedCache, Kind, Outcome};
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

/// The lines whose files nobody asked for.
fn known(built: &Built) -> Vec<usize> {
    let known = built.steps.iter().filter(|step| step.outcome == Outcome::Known);
    known.map(|step| step.at.line).collect()
}

/// A build with a cache, and how many layers came of it.
fn build_from(engine: &Engine, spec: &BuildSpec, cache: ImportedCache) -> (Built, usize) {
    let mut came = 0;
    let built = engine.build_from(spec, &[cache], |event| {
        if let Event::Fetched(transfer) = event {
            assert!(transfer.bytes > 0);
            came += transfer.layers;
        }
    });
    (built.unwrap(), came)
}

#[test]
fn a_cold_state_directory_builds_nothing_that_another_has_built() {
    host(|host| {
        let [one, two, three, four, five] =
            ["state", "2", "3", "4", "5"].map(|name| engine(host.dir(), name));
        let spec = BuildSpec::new(context(host.dir(), &[("a", "text")]))
            .dockerfile_text(TEXT)
            .secret("s", "hunter2");
        let first = one.build(&spec, |_| {}).unwrap();
        assert_eq!(ran(&first), [2, 3, 5, 6, 8]);
        let (all, some) = (host.dir().join("max"), host.dir().join("min"));
        let max = one.export_build_cache(&first, &all, "latest", CacheMode::Max).unwrap();
        let min = one.export_build_cache(&first, &some, "latest", CacheMode::Min).unwrap();
        // The tools' layer, two of the one stage, three of the other.
        assert_eq!((max.steps, max.layers, min.steps, min.layers), (5, 6, 5, 4));
        let (second, came) = build_from(&two, &spec, two.import_build_cache(&all, "latest").unwrap());
        assert_eq!((ran(&second), known(&second), came), (vec![], vec![2, 3], 3));
        assert_eq!(second.image.id(), first.image.id(), "the identical image");
        let why = second.explanation.to_string();
        assert!(why.contains("known ") && why.contains("; 3 layers fetched, "), "{why}");
        // The other stage's files are in no export of the image, and not missed either.
        let cache = three.import_build_cache(&some, &export_digest(&some)).unwrap();
        assert_eq!((cache.steps(), cache.layers()), (5, 4));
        let (third, came) = build_from(&three, &spec, cache);
        assert_eq!((ran(&third), known(&third), came), (vec![], vec![2, 3], 3));
        assert_eq!(third.image.id(), first.image.id());
        // Exported from the cache as well, and once more into the same place, under another tag.
        let again = two.export_build_cache(&second, &all, "other", CacheMode::Max).unwrap();
        assert_eq!((again.steps, again.layers), (5, 4), "what never came is not exported");
        for (name, tag) in [("latest", 6), ("other", 4)] {
            assert_eq!(four.import_build_cache(&all, name).unwrap().layers(), tag);
        }
        // What was learnt is known without the place it came from, too: then it is all built.
        let fourth = four.build(&spec, |_| {}).unwrap();
        assert_eq!(ran(&fourth), [2, 3, 5, 6, 8]);
        // A changed file is built from where it matters, on layers that come for it.
        fs::write(host.dir().join("context/a"), "other").unwrap();
        let (fifth, came) = build_from(&five, &spec, five.import_build_cache(&all, "latest").unwrap());
        assert_eq!((ran(&fifth), came), (vec![2, 3, 6, 8], 1));
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
fn what_is_damaged_or_lost_on_the_way_is_built() {
    host(|host| {
        let open = |name: usize| Engine::open(host.dir().join(name.to_string())).unwrap();
        let context = context(host.dir(), &[("a", "text"), ("b", "more")]);
        let text = "FROM scratch AS make\nCOPY a /a\nFROM scratch\nCOPY --from=make /a /b\nCOPY b /c\n";
        let spec = BuildSpec::new(&context).dockerfile_text(text).source_date_epoch(1);
        let one = open(0);
        let built = one.build(&spec, |_| {}).unwrap();
        let layout = host.dir().join("layout");
        one.export_build_cache(&built, &layout, "latest", CacheMode::Max).unwrap();
        let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap();
        let (mut documents, mut layers) = (0, Vec::new());
        for (nth, entry) in blobs.enumerate() {
            let path = entry.unwrap().path();
            let whole = fs::read(&path).unwrap();
            let mut bytes = whole.clone();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            for (lost, name) in [(false, 2 * nth + 1), (true, 2 * nth + 2)] {
                match lost {
                    true => fs::remove_file(&path).unwrap(),
                    false => fs::write(&path, &bytes).unwrap(),
                }
                let cold = open(name);
                let cache = match cold.import_build_cache(&layout, "latest") {
                    Ok(cache) => cache,
                    Err(error) => {
                        let kind = if lost { Kind::NotFound } else { Kind::Corrupt };
                        fails::<()>(Err(error), kind, &["import the build cache of"]);
                        documents += 1;
                        assert_eq!(ran(&cold.build(&spec, |_| {}).unwrap()), [2, 4, 5], "nothing was learnt");
                        continue;
                    }
                };
                let mut warnings = Vec::new();
                let again = cold.build_from(&spec, &[cache], |event| {
                    if let Event::Warning { message } = event {
                        warnings.push(message.clone());
                    }
                });
                let again = again.unwrap();
                assert_eq!(again.image.id(), built.image.id());
                assert!(
                    warnings.iter().all(|w| w.contains("fetch layer") && w.ends_with(", so it is built"))
                );
                layers.push((ran(&again), warnings.len()));
            }
            fs::write(&path, &whole).unwrap();
        }
        // The manifest and the config; of the layers the first stage's, that nobody wants, and the others: each twice.
        layers.sort();
        let expected = [(vec![], 0), (vec![], 0), (vec![4], 1), (vec![4], 1), (vec![5], 1), (vec![5], 1)];
        assert_eq!((documents, layers), (4, expected.to_vec()));
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
        let min = one.push_build_cache(&first, &name("min"), CacheMode::Min, &me).unwrap();
        assert_eq!((max.layers, min.layers), (6, 4));
        fails(two.pull_build_cache(&name("max"), &nobody), Kind::Denied, &["authentication required"]);
        let (second, came) = build_from(two, &spec, two.pull_build_cache(&name("max"), &me).unwrap());
        assert_eq!((ran(&second), known(&second), came), (vec![], vec![2, 3], 3));
        assert_eq!(second.image.id(), first.image.id(), "the identical image");
        let (third, came) = build_from(three, &spec, three.pull_build_cache(&name("min"), &me).unwrap());
        assert_eq!((ran(&third), came), (vec![], 3));
        // Compressed it is smaller, and leads to the same.
        for (tag, compression) in [("gzip", Compression::Gzip), ("zstd", Compression::Zstd)] {
            let how = CacheOptions::new().mode(CacheMode::Max).compression(compression);
            let packed = one.push_build_cache(&first, &name(tag), how, &me).unwrap();
            let cold = engine(host.dir(), tag);
            let (built, _) = build_from(&cold, &spec, cold.pull_build_cache(&name(tag), &me).unwrap());
            assert_eq!((ran(&built), built.image.id()), (vec![], first.image.id()));
            assert_ne!(packed.digest, max.digest);
        }
        let zstd = CacheOptions::new().mode(CacheMode::Min).compression(Compression::Zstd);
        let twice = [(); 2].map(|()| one.push_build_cache(&first, &name("min"), zstd, &me).unwrap().digest);
        assert_eq!(twice[0], twice[1], "the same bytes each time");
        // By its digest, and over what is there already.
        let pinned = format!("{}/team/cache@{}", registry.address(), max.digest);
        assert_eq!(three.pull_build_cache(&pinned, &me).unwrap().steps(), 5);
        assert_eq!(
            one.push_build_cache(&first, &name("max"), CacheMode::Max, &me).unwrap().digest,
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
