//! Every way to put data in a container, on a real kernel.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use coracle::{
    BuildSpec, Container, ContainerSpec, Engine, Kind, Mount, Propagation, Recursion, Source, VolumeSpec,
};
use coracle_testhost::run as host;
use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, unmount};

use crate::support::{engine, fails, nothing_but_engines, run, says, script, tools};

/// Whether something can be written at `at/w`, and what is in `at`.
fn look(engine: &Engine, mount: Mount) -> Result<String, Kind> {
    let text = "if test -d /m; then (echo x > /m/w) 2>/dev/null && echo writable || echo fixed; ls /m; \
                else (echo x >> /m) 2>/dev/null && echo writable || echo fixed; cat /m; fi";
    match engine.start(&script(text).mount(mount)) {
        Ok(container) => {
            container.wait().unwrap();
            Ok(container.output().unwrap().stdout.replace('\n', " "))
        }
        Err(error) => Err(error.kind()),
    }
}

#[test]
fn the_whole_matrix() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let at = |name: &str| host.dir().join(name);
        // Of the host: a directory, a file, a link to each, nothing; made or not; writable or not.
        for read_only in [false, true] {
            let ro = |mount: Mount| if read_only { mount.read_only() } else { mount };
            let access = if read_only { "fixed" } else { "writable" };
            let w = if read_only { "" } else { "w " };
            let _ = fs::remove_dir_all(at("dir"));
            fs::create_dir(at("dir")).unwrap();
            fs::write(at("dir/a"), "").unwrap();
            fs::write(at("file"), "text").unwrap();
            for (link, target) in [("to-dir", "dir"), ("to-file", "file"), ("to-none", "none")] {
                let _ = fs::remove_file(at(link));
                symlink(target, at(link)).unwrap();
            }
            for create in [false, true] {
                let bind = |name: &str| {
                    let mount = ro(Mount::bind(at(name), "/m"));
                    look(&engine, if create { mount.create() } else { mount })
                };
                let x = if read_only { "text" } else { "textx " };
                assert_eq!(bind("dir"), Ok(format!("{access} a {w}")));
                fs::write(at("file"), "text").unwrap();
                assert_eq!(bind("file"), Ok(format!("{access} {x}")));
                fs::write(at("file"), "text").unwrap();
                assert_eq!(bind("to-dir"), Ok(format!("{access} a {w}")));
                assert_eq!(bind("to-file"), Ok(format!("{access} {x}")));
                let made = if create { Ok(format!("{access} {w}")) } else { Err(Kind::Invalid) };
                assert_eq!(bind("new/deep"), made);
                assert_eq!(at("new/deep").is_dir(), create);
            }
            fs::remove_dir_all(at("new")).unwrap();
            // A volume that is there and one that is not, one without a name, memory, an image.
            let volume = |name: &str| look(&engine, ro(Mount::volume(name, "/m")));
            let named = if read_only { "vv-ro" } else { "vv-rw" };
            assert_eq!(volume(named), Ok(format!("{access} {w}")));
            assert_eq!(volume(named), Ok(format!("{access} {w}")));
            assert_eq!(look(&engine, ro(Mount::anonymous("/m"))), Ok(format!("{access} {w}")));
            assert_eq!(look(&engine, ro(Mount::tmpfs("/m"))), Ok(format!("{access} {w}")));
            let image = look(&engine, ro(Mount::image("tools", "/m").subpath("usr/../bin"))).unwrap_err();
            assert_eq!(image, Kind::Invalid, "a path that goes up");
            let image = look(&engine, ro(Mount::image("tools", "/m"))).unwrap();
            assert!(image.starts_with("fixed ") && image.contains("bin"), "{image}");
        }
        assert_eq!(look(&engine, Mount::image("ghost", "/m")), Err(Kind::NotFound));
        assert_eq!(look(&engine, Mount::volume("vv-rw", "/m").subpath("none")), Err(Kind::NotFound));
        assert_eq!(look(&engine, Mount::volume("vv-rw", "/m").subpath("w")), Ok("writable x x ".to_owned()));
        let names: Vec<String> = engine.volumes().unwrap().iter().map(|one| one.name().to_owned()).collect();
        assert_eq!(names, ["vv-ro", "vv-rw"], "those without a name went with their containers");
        drop(engine);
        nothing_but_engines(host.dir());
    });
}

#[test]
fn memory_has_its_options() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let mount = Mount::tmpfs("/m").size(1 << 20).mode(0o710).option("uid=7").option("exec");
        let text = "stat -c '%a %u' /m; cat /proc/mounts";
        let said = says(&engine, &script(text).mount(mount).tmpfs("/n"));
        assert!(said.starts_with("710 7\n"), "{said}");
        let options = |at: &str| {
            let line = said.lines().find(|line| line.split(' ').nth(1) == Some(at)).unwrap();
            line.split(' ').nth(3).unwrap().split(',').map(str::to_owned).collect::<Vec<_>>()
        };
        let (own, plain) = (options("/m"), options("/n"));
        for word in ["rw", "nosuid", "nodev", "size=1024k"] {
            assert!(own.contains(&word.to_owned()), "{word}: {own:?}");
        }
        assert!(
            !own.contains(&"noexec".to_owned()) && plain.contains(&"noexec".to_owned()),
            "{own:?} {plain:?}"
        );
        let refused = engine.start(&script("true").mount(Mount::tmpfs("/m").option("bogus=1")));
        fails(refused, Kind::Invalid, &["invalid tmpfs option [\"bogus=1\"]"]);
        let refused = engine.start(&script("true").tmpfs("/m").bind("/", "/m/"));
        fails(refused, Kind::Invalid, &["Duplicate mount point: /m"]);
    });
}

#[test]
fn others_volumes_at_the_same_places() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let text = "FROM tools\nRUN mkdir /data && echo seed > /data/s\nVOLUME /data\n";
        engine.build(&BuildSpec::without_context(text).tag("seeded"), |_| {}).unwrap();
        fs::write(host.dir().join("file"), "host").unwrap();
        let spec = ContainerSpec::new("seeded").no_network().name("first").command(["sleep", "100"]);
        let spec = spec.volume("named", "/named").bind(host.dir().join("file"), "/file").tmpfs("/memory");
        let first = engine.start(&spec).unwrap();
        let drawn = first.mounts().iter().find(|mount| mount.at() == Path::new("/data")).unwrap();
        let Source::Volume(drawn) = drawn.source().clone() else { panic!("{drawn:?}") };
        assert_eq!(drawn.len(), 64);

        let see = "cat /data/s /file; echo 1 > /named/n && echo written; test -e /memory || echo gone";
        assert_eq!(says(&engine, &script(see).volumes_from("first")), "seed\nhostwritten\ngone\n");
        let (exit, output) = run(&engine, &script(see).volumes_from_read_only("first"));
        assert!(exit.success() && !output.stdout.contains("written"), "{output:?}");
        // One of its own counts more.
        let own = script("ls /data").volume("own", "/data/").volumes_from("first");
        assert_eq!(says(&engine, &own), "");
        fails(
            engine.start(&script("true").volumes_from("nobody")),
            Kind::NotFound,
            &["no such container: nobody"],
        );

        // It is not removed as long as the second one has it, also when that one has ended.
        let second = engine.start(&script("true").name("second").retain().volumes_from("first")).unwrap();
        second.wait().unwrap();
        drop(first);
        assert!(engine.find_volume(&drawn).unwrap().is_some());
        fails(engine.remove_volume(&drawn), Kind::InUse, &["second"]);
        second.remove().unwrap();
        assert_eq!(engine.prune_volumes(false).unwrap().0, [drawn]);
    });
}

#[test]
fn read_only_to_its_depth() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let dir = host.dir().join("dir");
        fs::create_dir_all(dir.join("below")).unwrap();
        rustix::mount::mount("tmpfs", dir.join("below"), "tmpfs", MountFlags::empty(), None).unwrap();
        fs::write(dir.join("below/there"), "").unwrap();
        let bind = || Mount::bind(&dir, "/m").read_only();
        let text = "ls /m/below; (echo > /m/below/w) 2>/dev/null && echo writable; (echo > /m/w) 2>/dev/null || echo fixed";
        let with = |mount| says(&engine, &script(text).mount(mount));
        assert_eq!(with(bind()), "there\nfixed\n");
        assert_eq!(with(bind().recursion(Recursion::Disabled)), "fixed\n");
        assert_eq!(with(bind().recursion(Recursion::Writable)), "there\nwritable\nfixed\n");
        unmount(dir.join("below"), rustix::mount::UnmountFlags::empty()).unwrap();
    });
}

/// Waits until the container has made this file in its own root.
fn made(container: &Container, path: &str) {
    let spec = coracle::ExecSpec::new(["sh", "-c", &format!("while ! test -e {path}; do sleep 0.01; done")]);
    assert!(container.exec(&spec).unwrap().0.success());
}

#[test]
fn mounts_propagate_as_is_said() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let shared = host.dir().join("shared");
        fs::create_dir_all(shared.join("late")).unwrap();
        let refused = Mount::bind(&shared, "/m").propagation(Propagation::RShared);
        fails(engine.start(&script("true").mount(refused)), Kind::Invalid, &["but it is not a shared mount"]);
        let refused = Mount::bind(&shared, "/m").propagation(Propagation::Slave);
        fails(engine.start(&script("true").mount(refused)), Kind::Invalid, &["not a shared or slave mount"]);

        mount_bind(&shared, &shared).unwrap();
        mount_change(&shared, MountPropagationFlags::SHARED).unwrap();
        let wait = "while ! test -e /go; do sleep 0.01; done; ls /m/late; echo > /looked; sleep 100";
        let start = |propagation| {
            let mount = Mount::bind(&shared, "/m").propagation(propagation);
            engine.start(&script(wait).mount(mount)).unwrap()
        };
        let all = [Propagation::RPrivate, Propagation::RSlave, Propagation::RShared];
        let containers = all.map(start);
        rustix::mount::mount("tmpfs", shared.join("late"), "tmpfs", MountFlags::empty(), None).unwrap();
        fs::write(shared.join("late/there"), "").unwrap();
        let seen = containers.each_ref().map(|container| {
            container.exec(&coracle::ExecSpec::new(["touch", "/go"])).unwrap();
            made(container, "/looked");
            container.output().unwrap().stdout
        });
        assert_eq!(seen, ["", "there\n", "there\n"]);
        drop(containers);
        // Nothing of the container's own mounts may get out that way.
        let spec = script("true").mount(Mount::bind(&shared, "/m").propagation(Propagation::RShared));
        let refused = engine.start(&spec.tmpfs("/m/late"));
        fails(refused, Kind::Invalid, &["/m/late is inside /m, which shares its mounts with the host"]);
        unmount(shared.join("late"), rustix::mount::UnmountFlags::empty()).unwrap();
        unmount(&shared, rustix::mount::UnmountFlags::empty()).unwrap();
    });
}

#[test]
fn a_target_behind_a_link_is_inside() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let outside = host.dir().join("outside");
        fs::create_dir(&outside).unwrap();
        // Links of the image: one to the host's path, one that goes up, one that dangles.
        let context = host.dir().join("context");
        fs::create_dir_all(context.join("links")).unwrap();
        symlink(&outside, context.join("links/absolute")).unwrap();
        symlink("../../../../../../../..", context.join("links/up")).unwrap();
        fs::write(context.join("Dockerfile"), "FROM tools\nCOPY links/ /\n").unwrap();
        engine.build(&BuildSpec::new(&context).tag("links"), |_| {}).unwrap();
        let spec = |text: &str| ContainerSpec::new("links").command(["sh", "-c", text]).no_network();
        engine.volume(&VolumeSpec::new("vv")).unwrap();
        let through = spec("echo 1 > /absolute/a; cat /proc/mounts").volume("vv", "/absolute");
        let mounts = says(&engine, &through);
        assert!(mounts.contains(&format!(" {} ", outside.display())), "{mounts}");
        let through = spec("echo 2 > /up/in/b && ls /in").volume("vv", "/up/in");
        assert_eq!(says(&engine, &through), "a\nb\n");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "nothing of the host was written");
        assert!(!Path::new("/in").exists());
        let volume = engine.find_volume("vv").unwrap().unwrap();
        assert_eq!(fs::read_dir(volume.path()).unwrap().count(), 2);
        assert_eq!(fs::metadata(volume.path()).unwrap().uid(), 0);
    });
}
