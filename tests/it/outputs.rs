//! What becomes of a build besides its image: files, archives, and what is kept for the next one.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use coracle::{BuildCacheKind, BuildSpec, Kind};
use coracle_testhost::run as host;

use crate::support::{context, engine, fails, nothing_but_engines, tools};

const TEXT: &str = "FROM scratch\nCOPY --chown=7:8 --chmod=640 a /sub/a\nCOPY l /l\n";

#[test]
fn files_go_to_a_directory_or_into_a_tar() {
    host(|host| {
        let engine = engine(host.dir());
        let context = context(host.dir(), &[("a", "text")]);
        symlink("sub/a", context.join("l")).unwrap();
        fs::write(context.join("l2"), "").unwrap();
        let text = TEXT.replace("COPY l /l", "COPY . /all");
        let image = engine.build(&BuildSpec::new(&context).dockerfile_text(text), |_| {}).unwrap().image;
        let out = host.dir().join("deep/out");
        engine.write_directory(&image, &out).unwrap();
        let a = out.join("sub/a").metadata().unwrap();
        assert_eq!((a.mode() & 0o7777, a.uid(), a.gid()), (0o640, 7, 8));
        assert_eq!(fs::read_to_string(out.join("sub/a")).unwrap(), "text");
        assert_eq!(fs::read_link(out.join("all/l")).unwrap().to_str(), Some("sub/a"));
        // Again, over what is there; and nothing through a link.
        fs::remove_file(out.join("sub/a")).unwrap();
        let elsewhere = host.dir().join("elsewhere");
        fs::write(&elsewhere, "mine").unwrap();
        symlink(&elsewhere, out.join("sub/a")).unwrap();
        engine.write_directory(&image, &out).unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
        assert_eq!(fs::read_to_string(out.join("sub/a")).unwrap(), "text");
        let mut bytes = Vec::new();
        engine.write_tar(&image, &mut bytes).unwrap();
        let mut names: Vec<String> = tar::Archive::new(bytes.as_slice())
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        names.sort();
        assert_eq!(names, ["all/", "all/a", "all/l", "all/l2", "sub/", "sub/a"]);
        fails(engine.write_directory(&image, &elsewhere), Kind::AlreadyExists, &["elsewhere"]);
        nothing_but_engines(host.dir());
    });
}

#[test]
fn what_is_kept_is_listed_and_forgotten() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let text = "FROM tools\nRUN --mount=type=cache,target=/c,id=npm head -c 100000 /dev/zero > /c/f\nRUN echo 1 > /kept\n";
        let spec = BuildSpec::without_context(text).tag("app");
        engine.build(&spec, |_| {}).unwrap();
        let all = engine.build_cache().unwrap();
        let shown: Vec<_> = all.iter().map(|entry| (entry.kind, entry.in_use)).collect();
        use BuildCacheKind::{Mount, Step};
        assert_eq!(shown, [(Step, true), (Step, true), (Mount, false)]);
        assert_eq!(all[2].description, "npm");
        assert!(all[2].size >= 100_000 && all[1].size > 0);
        // A step is forgotten, its directory as well.
        let (removed, freed) = engine.prune_build_cache(|entry| entry.kind == Mount).unwrap();
        assert_eq!((removed.len(), freed), (1, all[2].size));
        engine.prune_build_cache(|entry| entry.description.contains("/kept")).unwrap();
        let again = engine.build(&spec, |_| {}).unwrap();
        let built: Vec<usize> =
            again.steps.iter().filter(|step| step.built()).map(|step| step.at.line).collect();
        assert_eq!(built, [3]);
        engine.prune_build_cache(|_| true).unwrap();
        assert!(engine.build_cache().unwrap().is_empty());
        nothing_but_engines(host.dir());
    });
}

#[test]
fn the_same_input_is_the_same_image_on_two_machines() {
    host(|host| {
        let text = "FROM tools\nENV A=1\nRUN mkdir /made && echo x > /made/f && touch /made/g\nCOPY . /src\nWORKDIR /w\n";
        let mut ids = Vec::new();
        for machine in ["one", "two"] {
            let dir = host.dir().join(machine);
            fs::create_dir(&dir).unwrap();
            let engine = engine(&dir);
            tools(&engine);
            let context = context(&dir, &[("a", "text"), ("d/b", "more")]);
            let spec = BuildSpec::new(context).dockerfile_text(text).source_date_epoch(1_000_000_000);
            let image = engine.build(&spec, |_| {}).unwrap().image;
            ids.push((image.id(), image.digest()));
        }
        assert_eq!(ids[0], ids[1]);
    });
}

#[test]
fn a_built_image_is_completed_for_programs_that_read_the_layout() {
    host(|host| {
        let context = host.dir().join("context");
        fs::create_dir(&context).unwrap();
        fs::write(context.join("f"), "content").unwrap();
        let engine = engine(host.dir());
        let spec = BuildSpec::new(&context).dockerfile_text("FROM scratch\nCOPY . /\n").tag("built");
        let image = engine.build(&spec, |_| {}).unwrap().image;
        let blobs = engine.path().join("blobs/sha256");
        let manifest = fs::read(blobs.join(&image.digest()["sha256:".len()..])).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let listed = &manifest["layers"][0];
        let layer = blobs.join(&listed["digest"].as_str().unwrap()["sha256:".len()..]);
        assert!(!layer.exists(), "a tree is all that is kept of it");
        image.complete().unwrap();
        assert_eq!(fs::metadata(&layer).unwrap().len(), listed["size"].as_u64().unwrap());
        image.complete().unwrap();
    });
}
