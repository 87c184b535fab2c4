//! Templates: prepared once, started many times.

use std::thread;

use coracle::{Container, ContainerSpec, Engine, ExecSpec, Kind};
use coracle_testhost::run as host;

use crate::support::{engine, fails, says, script, tools};

/// A container of `tools` that has prepared something in its file system, in a volume with a name and in one without.
fn prepared(engine: &Engine) -> Container {
    tools(engine);
    let text =
        "echo row > /data/t; echo mine > /anon/a; echo file > /prepared; rm -f /bin/head /usr/bin/head";
    let spec =
        script(text).volume("data", "/data").mount(coracle::Mount::anonymous("/anon")).env("WHO", "first");
    let container = engine.start(&spec).unwrap();
    assert!(container.wait().unwrap().success(), "{:?}", container.output());
    container
}

fn see(engine: &Engine, spec: ContainerSpec) -> String {
    let text = "cat /data/t /anon/a /prepared; echo $WHO; test -e /bin/head || echo no head; \
                echo changed > /data/t; echo changed > /anon/a; echo changed > /prepared";
    says(engine, &spec.command(["sh", "-c", text]).no_network())
}

#[test]
fn each_begins_as_the_template_is() {
    host(|host| {
        let engine = engine(host.dir());
        let first = prepared(&engine);
        let template = first.freeze("shop/prepared:1").unwrap();
        assert_eq!(template.name(), "shop/prepared:1");
        let places: Vec<_> = template.volumes().map(|(_, at)| at.display().to_string()).collect();
        assert_eq!(places, ["/data", "/anon"]);
        let expected = "row\nmine\nfile\nfirst\nno head\n";
        assert_eq!(see(&engine, template.spec()), expected);
        assert_eq!(see(&engine, template.spec()), expected, "nobody sees what another one changed");
        drop(first);
        assert_eq!(
            engine.find_volume("data").unwrap().unwrap().usage().unwrap().bytes,
            4,
            "the first one's own"
        );

        // Found by another program, and used by many at once.
        let again = engine.template("shop/prepared:1").unwrap().unwrap();
        assert_eq!(again.volumes().count(), 2);
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| assert_eq!(see(&engine, again.spec()), expected));
            }
        });
        let user = engine.start(&again.spec().command(["sleep", "100"]).no_network()).unwrap();
        assert!(user.exec(&ExecSpec::new(["cat", "/data/t"])).unwrap().0.success());
        fails(
            engine.remove_template("shop/prepared:1"),
            Kind::InUse,
            &["shop/prepared:1", "in use by volume"],
        );
        drop(user);
        engine.remove_template("shop/prepared:1").unwrap();
        assert!(engine.template("shop/prepared:1").unwrap().is_none());
        let left: Vec<String> = engine.volumes().unwrap().iter().map(|one| one.name().to_owned()).collect();
        assert_eq!(left, ["data"]);
        fails(engine.remove_template("shop/prepared:1"), Kind::NotFound, &["shop/prepared:1"]);
    });
}

#[test]
fn what_can_not_be_frozen() {
    host(|host| {
        let engine = engine(host.dir());
        let first = prepared(&engine);
        fails(first.freeze("tools"), Kind::AlreadyExists, &["tools"]);
        fails(first.freeze("Bad Name"), Kind::Invalid, &["Bad Name"]);
        let other = engine.start(&script("sleep 100").volume("data", "/d").name("other")).unwrap();
        fails(other.freeze("prepared"), Kind::InUse, &["it is running"]);
        fails(first.freeze("prepared"), Kind::InUse, &["in use by other"]);
        drop(other);
        let names =
            |engine: &Engine| engine.images().unwrap().iter().flat_map(|one| one.names()).collect::<Vec<_>>();
        assert_eq!(engine.volumes().unwrap().len(), 2, "nothing is left of those that were not made");
        assert_eq!(engine.images().unwrap().len(), 1, "{:?}", names(&engine));
        first.freeze("prepared").unwrap();
        // An image is a template without volumes.
        assert_eq!(engine.template("tools").unwrap().unwrap().volumes().count(), 0);
        let spec = ContainerSpec::new("tools").mount(coracle::Mount::clone_of("data", "/d")).no_network();
        fails(engine.start(&spec), Kind::Invalid, &["volume `data` is not frozen"]);
        let spec = ContainerSpec::new("tools").mount(coracle::Mount::clone_of("none", "/d")).no_network();
        fails(engine.start(&spec.command(["true"])), Kind::NotFound, &["no such volume: none"]);
    });
}
