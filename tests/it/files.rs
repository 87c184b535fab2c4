//! Files into and out of containers, what they changed, and images made of them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use coracle::{CommitSpec, Container, ContainerSpec, CopyOptions, Engine, ImportSpec, Kind};
use coracle_testhost::run as host;

use crate::support::{engine, programs, refuses, says, script, tools, wrote};

const PLAIN: fn() -> CopyOptions = CopyOptions::new;

/// A container that has ended and stays: `text` was run in it.
fn ended(engine: &Engine, name: &str, text: &str) -> Container {
    let container = engine.start(&script(text).name(name).retain()).unwrap();
    assert!(container.wait().unwrap().success(), "{:?}", container.output());
    container
}

/// The names in a tar.
fn members(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap();
    entries.map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
}

#[test]
fn files_go_in_and_out_of_running_and_ended_containers() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let at = |name: &str| host.dir().join(name);
        fs::create_dir_all(at("src/sub")).unwrap();
        fs::write(at("src/sub/file"), "from the host").unwrap();
        fs::set_permissions(at("src/sub/file"), fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::chown(at("src/sub/file"), Some(12), Some(34)).unwrap();
        symlink("sub/file", at("src/link")).unwrap();

        let running = engine.start(&script("mkdir /desk /else && echo up && sleep 1000")).unwrap();
        wrote(&running, "up");
        let stopped = ended(&engine, "stopped", "mkdir /desk /else");
        for container in [&running, &stopped] {
            // Into a directory; as a new one; what is in it; as a file of another name; over a file.
            container.copy_in(at("src"), "/desk", &PLAIN()).unwrap();
            container.copy_in(at("src"), "/desk/new", &PLAIN()).unwrap();
            container.copy_in(at("src/."), "else", &PLAIN()).unwrap();
            container.copy_in(at("src/sub/file"), "/else/named", &PLAIN()).unwrap();
            container.copy_in(at("src/link"), "/else/sub/", &PLAIN()).unwrap();
            container.copy_in(at("src/link"), "/else/followed", &PLAIN().follow_link()).unwrap();
            for place in
                ["/desk/src/sub/file", "/desk/new/sub/file", "/else/sub/file", "/else/named", "/else/link"]
            {
                let to = at("out");
                container.copy_out(place, &to, &PLAIN().follow_link()).unwrap();
                assert_eq!(fs::read_to_string(&to).unwrap(), "from the host", "{place}");
                let meta = fs::metadata(&to).unwrap();
                assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o640, 0, 0), "{place}");
                fs::remove_file(to).unwrap();
            }
            container.copy_out("/else/sub/link", at("link"), &PLAIN()).unwrap();
            assert_eq!(fs::read_link(at("link")).unwrap().to_str(), Some("sub/file"));
            fs::remove_file(at("link")).unwrap();
            container.copy_out("/desk", at("tree"), &PLAIN()).unwrap();
            assert!(at("tree/src/sub/file").exists() && at("tree/new/link").is_symlink());
            fs::create_dir(at("dir")).unwrap();
            container.copy_out("/desk/.", at("dir"), &PLAIN()).unwrap();
            container.copy_out("/desk", at("dir"), &PLAIN()).unwrap();
            assert!(at("dir/src/sub/file").exists() && at("dir/desk/src").exists());
            fs::remove_dir_all(at("tree")).unwrap();
            fs::remove_dir_all(at("dir")).unwrap();

            let mut tar = Vec::new();
            container.pack("/else/named", &mut tar, &PLAIN()).unwrap();
            assert_eq!(members(&tar), ["named"]);
            container.unpack(tar.as_slice(), "/desk", &PLAIN()).unwrap();
            container.copy_out("/desk/named", at("out"), &PLAIN()).unwrap();
            fs::remove_file(at("out")).unwrap();
        }
        // What is in there is as it came.
        let ids = running.exec(&coracle::ExecSpec::new(["stat", "-c", "%u:%g %a", "/else/named"])).unwrap();
        assert_eq!(ids.1.stdout, "12:34 640\n");
        // And it is there when the ended one runs again.
        stopped.remove().unwrap();
    })
}

#[test]
fn copies_that_can_t_be_are_refused() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let outside = host.dir().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(host.dir().join("file"), "x").unwrap();
        fs::create_dir(host.dir().join("dir")).unwrap();
        let file = host.dir().join("file");
        let dir = host.dir().join("dir");
        let volume = engine.volume(&coracle::VolumeSpec::new("data")).unwrap();
        let spec =
            script(&format!("mkdir /d && touch /f && mkdir -p /tmp && echo ready && {}", "sleep 1000"));
        let running = engine.start(&spec.clone().volume(&volume, "/data")).unwrap();
        wrote(&running, "ready");
        let copy_in = |place: &str| running.copy_in(&file, place, &PLAIN());
        refuses(host.dir(), Kind::NotFound, &["could not find the file /nosuch/x in container"], || {
            copy_in("/nosuch/x")
        });
        refuses(host.dir(), Kind::NotFound, &["no such directory"], || copy_in("/new/"));
        refuses(host.dir(), Kind::Invalid, &["not a directory"], || copy_in("/f/"));
        refuses(host.dir(), Kind::Invalid, &["cannot copy directory"], || {
            running.copy_in(&dir, "/f", &PLAIN())
        });
        refuses(host.dir(), Kind::NotFound, &["nosuch"], || {
            running.copy_in(host.dir().join("nosuch"), "/d", &PLAIN())
        });
        refuses(host.dir(), Kind::NotFound, &["could not find the file /nosuch in container"], || {
            running.copy_out("/nosuch", &dir, &PLAIN())
        });
        refuses(host.dir(), Kind::Invalid, &["cannot copy directory"], || {
            running.copy_out("/d", &file, &PLAIN())
        });
        refuses(host.dir(), Kind::Invalid, &["must be a directory"], || {
            running.unpack([0; 1024].as_slice(), "/f", &PLAIN())
        });
        // What is mounted is there while it runs, and only then.
        copy_in("/data/inside").unwrap();
        assert_eq!(fs::read(volume.path().join("inside")).unwrap(), b"x");
        running.kill().unwrap();
        drop(running);
        let created = ended(&engine, "with-volume", "true");
        created.remove().unwrap();
        let spec = script("true").name("again").retain().volume(&volume, "/data");
        let stopped = engine.start(&spec).unwrap();
        stopped.wait().unwrap();
        refuses(host.dir(), Kind::Unsupported, &["only while the container runs"], || {
            stopped.copy_in(&file, "/data/x", &PLAIN())
        });
        // Another program's container that has ended is not changed while it is held.
        let found = engine.find("again").unwrap().unwrap();
        refuses(host.dir(), Kind::InUse, &["another program has it"], || {
            found.copy_in(&file, "/x", &PLAIN())
        });
        stopped.remove().unwrap();
    })
}

#[test]
fn links_of_a_container_lead_nowhere_on_the_host() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let outside = host.dir().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        fs::write(host.dir().join("file"), "x").unwrap();
        let mut script = String::new();
        for (name, target) in [("abs", outside.display().to_string()), ("up", "../../../../../..".into())] {
            script += &format!("ln -s {target} /{name}; ");
        }
        let with_ln = programs().program("ln");
        engine.capture(&with_ln, "tools").unwrap();
        let stopped = ended(&engine, "evil", &script);
        let running =
            engine.start(&crate::support::script(&format!("{script} echo up; sleep 1000"))).unwrap();
        wrote(&running, "up");
        for container in [&stopped, &running] {
            refuses(host.dir(), Kind::NotFound, &["could not find"], || {
                container.copy_out("/abs/secret", host.dir().join("stolen"), &PLAIN())
            });
            container.copy_in(host.dir().join("file"), "/up/planted", &PLAIN()).unwrap();
            let mut bytes = Vec::new();
            container.pack("/planted", &mut bytes, &PLAIN()).unwrap();
            assert_eq!(members(&bytes), ["planted"]);
            // A link that was copied out, and a copy through it.
            let to = host.dir().join("to");
            fs::create_dir(&to).unwrap();
            container.copy_out("/abs", to.join("d"), &PLAIN()).unwrap();
            assert!(to.join("d").is_symlink());
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_ustar();
            header.set_size(4);
            tar.append_data(&mut header, "top/d/evil", b"evil".as_slice()).unwrap();
            container.unpack(tar.into_inner().unwrap().as_slice(), "/", &PLAIN()).unwrap();
            symlink(&outside, to.join("top")).unwrap();
            refuses(host.dir(), Kind::Invalid, &["cannot overwrite non-directory"], || {
                container.copy_out("/top", &to, &PLAIN())
            });
            fs::remove_dir_all(&to).unwrap();
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert!(!host.dir().join("stolen").exists());
        stopped.remove().unwrap();
    })
}

#[test]
fn a_container_is_compared_committed_and_exported() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let spec = script("echo made > /made; mkdir /gone /kept; rm -r /gone; touch /kept/x")
            .name("worker")
            .retain()
            .env("MODE", "test")
            .label("own", "1");
        let worker = engine.start(&spec).unwrap();
        assert!(worker.wait().unwrap().success());
        let shown = |container: &Container| -> Vec<String> {
            let line = |change: &coracle::Change| format!("{} {}", change.kind, change.path.display());
            container.diff().unwrap().iter().map(line).collect()
        };
        assert_eq!(shown(&worker), ["A /kept", "A /kept/x", "A /made"]);

        let spec = CommitSpec::new()
            .name("made:1")
            .author("somebody")
            .message("a remark")
            .change("CMD [\"cat\", \"/made\"]")
            .change("ENV MORE=$MODE");
        let image = worker.commit(spec).unwrap();
        assert_eq!(image.names(), ["made:1"]);
        let config = image.config().unwrap();
        assert_eq!(config.author.as_deref(), Some("somebody"));
        assert_eq!(config.config.cmd.as_deref().unwrap(), ["cat", "/made"]);
        assert!(config.config.env.contains(&"MORE=test".to_owned()), "{:?}", config.config.env);
        assert!(!config.config.env.iter().any(|pair| pair.starts_with("HOSTNAME=")));
        assert_eq!(config.config.labels["own"], "1");
        let history = image.history().unwrap();
        let last = history.last().unwrap();
        assert_eq!(last.comment, "a remark");
        assert!(last.created_by.starts_with("sh -c echo made"), "{}", last.created_by);
        assert!(last.layer.is_some());
        let ran = ContainerSpec::new(&image).no_network();
        assert_eq!(says(&engine, &ran), "made\n");
        // Nothing but what the program did is in it.
        let tree = image.trees().pop().unwrap();
        let mut names: Vec<_> = fs::read_dir(tree).unwrap().map(|one| one.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["kept", "made"]);

        // As it was run, and without a change without a layer.
        let idle = ended(&engine, "idle", "true");
        assert!(shown(&idle).is_empty());
        let same = idle.commit("same").unwrap();
        assert_eq!(same.layers(), engine.image("tools").unwrap().unwrap().layers());
        assert_eq!(same.config().unwrap().config.cmd.unwrap(), ["sh", "-c", "true"]);
        assert_eq!(same.history().unwrap().last().unwrap().layer, None);

        let mut tar = Vec::new();
        worker.export(&mut tar).unwrap();
        let whole = engine.import(tar.as_slice(), ImportSpec::new().change("CMD cat /made")).unwrap();
        assert_eq!(whole.layers().len(), 1);
        assert_eq!(says(&engine, &ContainerSpec::new(&whole).no_network()), "made\n");

        for (change, says) in
            [("RUN x", "RUN is not a valid change command"), ("FROB x", "unknown instruction")]
        {
            refuses(host.dir(), Kind::Invalid, &["commit container `worker`", says], || {
                worker.commit(CommitSpec::new().change(change))
            });
        }
        worker.remove().unwrap();
        idle.remove().unwrap();
    })
}

#[test]
fn what_runs_is_paused_while_it_is_committed() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        // Two files that are equal, but for the moment between one and the other.
        let text = "i=0; while :; do i=$((i+1)); echo $i > /one; echo $i > /two; echo $i; done";
        let running = engine.start(&script(text)).unwrap();
        wrote(&running, "1");
        let far = || running.output().unwrap().stdout.len();
        let before = far();
        let image = running.commit(CommitSpec::new().change("CMD cat /one /two")).unwrap();
        assert_eq!(running.state().unwrap(), coracle::State::Running);
        crate::support::within_a_second("it moves again", || far() > before);
        let both = says(&engine, &ContainerSpec::new(&image).no_network());
        let numbers: Vec<u64> = both.lines().map(|line| line.parse().unwrap()).collect();
        assert!(
            matches!(numbers[..], [one, two] if one == two || one == two + 1) || numbers.len() == 1,
            "{both}"
        );
        // One that is paused already stays so.
        running.pause().unwrap();
        running.commit("paused").unwrap();
        assert!(running.is_paused().unwrap());
        running.kill().unwrap();
        // Not stopped, it must not write to what is read.
        let still = engine.start(&script("echo up; exec sleep 1000")).unwrap();
        wrote(&still, "up");
        still.commit(CommitSpec::new().without_pause()).unwrap();
    })
}

#[test]
fn images_in_use_stay() {
    host(|host| {
        let engine = engine(host.dir());
        let image = tools(&engine);
        let stopped = ended(&engine, "stopped", "true");
        let id = image.id();
        refuses(
            host.dir(),
            Kind::InUse,
            &["unable to remove repository reference \"tools\" (must force)"],
            || engine.remove_image("tools"),
        );
        refuses(
            host.dir(),
            Kind::InUse,
            &["(must be forced) - image is being used by stopped container"],
            || engine.remove_image(&id),
        );
        engine.tag(&image, "other").unwrap();
        refuses(host.dir(), Kind::InUse, &["(must be forced) - image is referenced in multiple"], || {
            engine.remove_image(&id[7..19])
        });
        assert_eq!(engine.remove_image("other").unwrap().deleted, None);
        assert!(engine.prune_images(|_| true).unwrap().is_empty());
        let running = engine.start(&script("sleep 1000")).unwrap();
        refuses(
            host.dir(),
            Kind::InUse,
            &["(cannot be forced) - image is being used by running container"],
            || engine.force_remove_image(&id),
        );
        let removed = engine.force_remove_image("tools").unwrap();
        assert_eq!((removed.untagged, removed.deleted), (vec!["tools:latest".to_owned()], None));
        assert!(engine.image(&id).unwrap().unwrap().names().is_empty());
        drop(running);
        assert_eq!(engine.force_remove_image(&id).unwrap().deleted, Some(id));
        // What was made of it is there as before.
        assert!(stopped.diff().unwrap().is_empty());
        stopped.start().unwrap();
        assert!(stopped.wait().unwrap().success());
        stopped.commit("back").unwrap();
        stopped.remove().unwrap();
    })
}

#[test]
fn images_travel_in_archives() {
    host(|host| {
        let (one, two) = (engine(host.dir()), engine(&host.dir().join("two")));
        let image = tools(&one);
        one.tag(&image, "tools:2").unwrap();
        let mut bytes = Vec::new();
        one.save(&["tools"], &mut bytes).unwrap();
        let loaded = two.load(bytes.as_slice()).unwrap();
        assert_eq!((loaded.len(), loaded[0].image.id()), (1, image.id()));
        assert_eq!(loaded[0].names, ["tools:2", "tools:latest"]);
        assert_eq!(says(&two, &script("echo works")), "works\n");
        let mut by_id = Vec::new();
        one.save(&[image.id()], &mut by_id).unwrap();
        assert!(two.load(by_id.as_slice()).unwrap()[0].names.is_empty());
        let mut tagged = Vec::new();
        one.save(&["tools:2", &image.id()], &mut tagged).unwrap();
        assert_eq!(two.load(tagged.as_slice()).unwrap()[0].names, ["tools:2"]);
        refuses(host.dir(), Kind::NotFound, &["no such image: nosuch"], || {
            one.save(&["tools", "nosuch"], std::io::sink())
        });
        let error = two.load(b"not a tar".as_slice()).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
        let three = engine(&host.dir().join("three"));
        assert_eq!(three.load_layout(one.path()).unwrap()[0].names, ["tools:2", "tools:latest"]);
    })
}
