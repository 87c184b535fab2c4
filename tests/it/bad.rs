//! What is wrong with what is asked for is said, all of it, and nothing is changed.

use std::fs;

use coracle::{BuildSpec, ContainerSpec, ExecSpec, Kind, NetworkSpec, VolumeSpec};
use coracle_testhost::run as host;

use crate::support::{context, engine, fails, refuses, says, script, tools};

#[test]
fn dockerfiles() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let context = context(host.dir(), &[("there", "x\n")]);
        let file = context.join("Dockerfile");
        let build = |text: &str| {
            fs::write(&file, text).unwrap();
            engine.build(&BuildSpec::new(&context).tag("app"), |_| {})
        };
        let at = |line: usize| format!("Dockerfile:{line}:");
        let refuse = |text: &str, kind, words: &[&str]| refuses(host.dir(), kind, words, || build(text));

        let unknown = "FROM tools\nRUNN echo x\nCOPPY a b\n";
        refuse(unknown, Kind::Invalid, &[&at(2), "RUNN echo x", "did you mean `RUN`?", &at(3), "`COPY`?"]);
        refuse("FROM tools\nRUN --security=insecure id\n", Kind::Denied, &[&at(2), "--security"]);
        refuse("", Kind::Invalid, &["Dockerfile"]);
        refuse("RUN echo x\n", Kind::Invalid, &[&at(1), "FROM"]);
        refuse("FROM nothing/like:this\n", Kind::NotFound, &[&at(1), "nothing/like:this"]);
        refuse("FROM UPPER/Case:x\n", Kind::Invalid, &[&at(1), "UPPER/Case:x"]);
        refuse("FROM tools\nCOPY missing /x\n", Kind::NotFound, &[&at(2), "missing"]);
        refuse("FROM tools\nCOPY ../../etc/shadow /x\n", Kind::NotFound, &[&at(2), "shadow"]);
        refuse("FROM tools\nCOPY --from=nobody /x /x\n", Kind::NotFound, &[&at(2), "nobody"]);
        let bad_tag = BuildSpec::new(&context).tag("UPPER/Case:x");
        fs::write(&file, "FROM tools\n").unwrap();
        refuses(host.dir(), Kind::Invalid, &["UPPER/Case:x"], || engine.build(&bad_tag, |_| {}));
        let nowhere = BuildSpec::new(host.dir().join("nowhere"));
        refuses(host.dir(), Kind::NotFound, &["nowhere"], || engine.build(&nowhere, |_| {}));

        // The first container makes the default network; after that a failing step leaves nothing.
        build("FROM tools\nRUN id\n").unwrap();
        let failing = "FROM tools\nRUN echo trying && \\\n    exit 7\n";
        refuse(failing, Kind::Failed, &[&at(2), "7", "echo trying"]);
        refuse("FROM tools\nRUN [\"/no/such\"]\n", Kind::NotFound, &[&at(2), "/no/such"]);
        refuse("FROM tools\nUSER nobody-here\nRUN id\n", Kind::NotFound, &[&at(3), "nobody-here"]);
        assert_eq!(
            engine.image("app").unwrap().unwrap().names(),
            ["app:latest"],
            "what worked is still there"
        );
    });
}

#[test]
fn image_names() {
    host(|host| {
        let engine = engine(host.dir());
        let image = tools(&engine);
        for name in ["UPPER/Case:x", "", "a b", "a//b", ":tag", "a:b:c", "-a", "a/../b"] {
            let quoted = format!("`{name}`");
            refuses(host.dir(), Kind::Invalid, &["tag", &quoted], || engine.tag(&image, name));
            refuses(host.dir(), Kind::Invalid, &["capture", &quoted], || {
                engine.capture(&crate::support::programs(), name)
            });
            refuses(host.dir(), Kind::Invalid, &["import"], || engine.import(&b""[..], name));
            refuses(host.dir(), Kind::Invalid, &[], || engine.image(name));
            refuses(host.dir(), Kind::Invalid, &[], || engine.remove_image(name));
            refuses(host.dir(), Kind::Invalid, &["start"], || engine.start(&ContainerSpec::new(name)));
        }
        refuses(host.dir(), Kind::NotFound, &["no such image: ghost", "start"], || {
            engine.start(&ContainerSpec::new("ghost"))
        });
        refuses(host.dir(), Kind::NotFound, &["ghost", "remove image"], || engine.remove_image("ghost"));
        let missing = coracle::Capture::new().program("/no/such").program("relative");
        refuses(host.dir(), Kind::NotFound, &["/no/such", "relative"], || engine.capture(&missing, "x"));
    });
}

#[test]
fn names_that_are_taken() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let first = engine.start(&script("exec sleep 100").name("db")).unwrap();
        let words = ["start container `db` (tools)", "`db` is in use by container", &first.id()[..12]];
        refuses(host.dir(), Kind::AlreadyExists, &words, || engine.start(&script("id").name("db")));
        assert_eq!(first.exec(&ExecSpec::new(["id", "-u"])).unwrap().1.stdout, "0\n", "it isn't disturbed");
        drop(first);
        says(&engine, &script("id").name("db"));
    });
}

#[test]
fn container_specs() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let ok = || script("id");
        let refuse = |spec: ContainerSpec, kind, words: &[&str]| {
            refuses(host.dir(), kind, words, || engine.plan(&spec));
            refuses(host.dir(), kind, &[&["start a container of `tools`"], words].concat(), || {
                engine.start(&spec)
            })
        };
        let invalid = Kind::Invalid;
        for name in ["", "-a", "a/b", "..", "a b", "ä"] {
            refuse(ok().name(name), invalid, &[&format!("container name `{name}`")]);
        }
        refuse(ok().volume("a/b", "/data"), invalid, &["a/b"]);
        refuse(ok().volume("data", "data"), invalid, &["\"data\"", "absolute"]);
        refuse(ok().volume("data", "/"), invalid, &["\"/\""]);
        refuse(ok().volume("data", "/a/../b"), invalid, &["/a/../b"]);
        refuse(ok().bind("/no/such/place", "/data"), invalid, &["/no/such/place", "does not exist"]);
        refuse(ok().bind("relative", "/data"), invalid, &["\"relative\"", "absolute"]);
        refuse(ok().workdir("work"), invalid, &["`work`", "absolute"]);
        refuse(ok().env("A=B", "x"), invalid, &["`A=B`"]);
        refuse(ok().env("A", "x\0y"), invalid, &["`A`", "NUL"]);
        refuse(ok().command(["id", "x\0y"]), invalid, &["NUL"]);
        refuse(ok().cap_add("SYS_MAGIC"), invalid, &["SYS_MAGIC"]);
        refuse(ok().hostname("a b"), invalid, &["host name", "a b"]);
        refuse(ok().hostname("x".repeat(65)), invalid, &["host name"]);
        refuse(ok().ip([10, 0, 0, 1].into()), invalid, &["network"]);
        refuse(ok().network_alias("x"), invalid, &["network"]);
        refuse(ok().network("sea").network_alias("a b"), invalid, &["a b"]);
        refuse(ok().network("nowhere"), Kind::NotFound, &["no such network: nowhere"]);
        refuse(ok().keep().attach(), invalid, &["keep()"]);
        refuse(ok().remove_when_ended(), invalid, &["remove_when_ended()"]);
        refuse(ok().command([""; 0]), invalid, &["no command"]);
        let unhooked = &["start", "coracle::supervise()"];
        refuses(host.dir(), Kind::Unsupported, unhooked, || engine.start(&ok().keep()));

        // Everything at once.
        let many =
            ok().name("a/b").volume("data", "data").volume("a/b", "/x").bind("/no/such", "/y").workdir("w");
        let many = many.cap_drop("MAGIC").env("", "x").network("nowhere");
        let words = ["`a/b`", "\"data\"", "volume", "/no/such", "`w`", "`MAGIC`", "environment", "nowhere"];
        refuse(many, invalid, &words);
    });
}

#[test]
fn networks_and_volumes() {
    host(|host| {
        let engine = engine(host.dir());
        for name in ["", "a/b", "..", "a b"] {
            refuses(host.dir(), Kind::Invalid, &["network", name], || {
                engine.network(&NetworkSpec::new(name))
            });
            refuses(host.dir(), Kind::Invalid, &["volume", name], || engine.volume(&VolumeSpec::new(name)));
        }
        let spec = NetworkSpec::new("sea").subnet("10.0.0.0/33").mtu(5);
        refuses(host.dir(), Kind::Invalid, &["10.0.0.0/33", "5"], || engine.network(&spec));
        refuses(host.dir(), Kind::NotFound, &["remove network `sea`"], || engine.remove_network("sea"));
        refuses(host.dir(), Kind::NotFound, &["remove volume `data`"], || engine.remove_volume("data"));
        fails(engine.find_volume("a/b"), Kind::Invalid, &["a/b"]);
        assert!(engine.find_network("a/b").unwrap().is_none());
    });
}
