//! Volumes: what they take from an image, and whose they are.

use coracle::{BuildSpec, Engine, Kind, VolumeSpec};
use coracle_testhost::run as host;

use crate::support::{engine, fails, nothing_but_engines, run, says, script, tools};

/// `seeded` has data of user 7 at `/data`, which it declares a volume.
fn seeded(engine: &Engine) {
    tools(engine);
    let text = "FROM tools\nRUN mkdir -m 700 /data && echo seed > /data/s\nCOPY --chown=7:7 --from=0 /etc/group /data/g\nVOLUME /data\n";
    let text = text.replace("FROM tools", "FROM tools AS base\nFROM base");
    engine.build(&BuildSpec::without_context(text).tag("seeded"), |_| {}).unwrap();
}

fn of_seeded(text: &str) -> coracle::ContainerSpec {
    coracle::ContainerSpec::new("seeded").command(["sh", "-c", text]).no_network()
}

#[test]
fn an_empty_volume_takes_what_the_image_has_there_once() {
    host(|host| {
        let engine = engine(host.dir());
        seeded(&engine);
        let look = "cat /data/s; stat -c '%a %u' /data /data/g";
        assert_eq!(says(&engine, &of_seeded(look).volume("vv", "/data")), "seed\n700 0\n644 7\n");
        assert_eq!(says(&engine, &of_seeded("echo mine > /data/s; rm /data/g").volume("vv", "/data")), "");
        assert_eq!(says(&engine, &of_seeded("cat /data/s; ls /data").volume("vv", "/data")), "mine\ns\n");
        // A volume with data in it stays as it is, and so does one at a place where the image has nothing.
        assert_eq!(says(&engine, &script("ls /data; touch /data/x").volume("ww", "/data")), "");
        assert_eq!(says(&engine, &of_seeded("ls /data").volume("ww", "/data")), "x\n");
        nothing_but_engines_and_volumes(&engine, &["vv", "ww"]);
    });
}

#[test]
fn what_an_image_declares_a_volume_is_one_and_goes_with_its_container() {
    host(|host| {
        let engine = engine(host.dir());
        seeded(&engine);
        let container = engine.start(&of_seeded("cat /data/s; echo 1 > /data/n; exec sleep 100")).unwrap();
        let volumes = engine.volumes().unwrap();
        assert_eq!(volumes.len(), 1);
        let name = volumes[0].name().to_owned();
        fails(engine.remove_volume(&name), Kind::InUse, &[&name]);
        assert_eq!(engine.prune_volumes(true).unwrap().0, [""; 0], "it is used");
        drop(container);
        assert!(engine.volumes().unwrap().is_empty());

        // One that stays leaves it behind, without an owner: then it can be pruned.
        let container = engine.start(&of_seeded("true").retain()).unwrap();
        container.wait().unwrap();
        assert_eq!(engine.prune_volumes(false).unwrap().0, [""; 0], "its container is still there");
        container.force_remove().unwrap();
        assert_eq!(engine.volumes().unwrap().len(), 1);
        assert_eq!(engine.prune_volumes(false).unwrap().0.len(), 1);

        // Mounted at the place, nothing is made.
        engine.volume(&VolumeSpec::new("mine")).unwrap();
        let (exit, _) = run(&engine, &of_seeded("ls /data/s").volume("mine", "/data/"));
        assert!(exit.success());
        nothing_but_engines_and_volumes(&engine, &["mine"]);
        engine.remove_volume("mine").unwrap();
        nothing_but_engines(host.dir());
    });
}

#[track_caller]
fn nothing_but_engines_and_volumes(engine: &Engine, names: &[&str]) {
    let there: Vec<String> =
        engine.volumes().unwrap().iter().map(|volume| volume.name().to_owned()).collect();
    assert_eq!(there, names);
    assert!(engine.containers().unwrap().is_empty());
}
