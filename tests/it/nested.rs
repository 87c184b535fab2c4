//! An engine in a container of an engine: privileged, with control groups of its own.

use std::path::Path;

use coracle::{Engine, Limits, Mount};
use coracle_testhost::{Room, run as host};

use crate::support::{says, script, tools};

/// Set inside.
const INSIDE: &str = "CORACLE_NESTED";

/// What runs inside; else nothing.
#[test]
fn the_inner_engine() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let engine = Engine::open("/inner/state").unwrap();
    tools(&engine);
    let text = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true";
    assert_eq!(says(&engine, &script(text).limits(Limits::new().pids(23).memory(48 << 20))), "23\n");
    assert!(engine.containers().unwrap().is_empty());
}

#[test]
fn an_engine_in_a_container() {
    host(|host| {
        let top = Path::new("/sys/fs/cgroup");
        let _room = top.join("cgroup.procs").exists().then(|| Room::below(top));
        let engine = crate::support::engine(host.dir());
        tools(&engine);
        let binary = std::env::current_exe().unwrap();
        // In version 2 a group whose controllers are given on holds no processes: as in every nested engine, what is there
        // goes to one of its own first.
        let text = "if [ -e /sys/fs/cgroup/cgroup.procs ]; then mkdir /sys/fs/cgroup/init; echo $$ >/sys/fs/cgroup/init/cgroup.procs; fi
            /it nested::the_inner_engine --exact --nocapture --test-threads=1 2>&1";
        let spec = script(text)
            .privileged()
            .env(INSIDE, "1")
            .limits(Limits::new().pids(200))
            .mount(Mount::bind("/usr", "/usr").read_only())
            .mount(Mount::bind(&binary, "/it").read_only())
            .mount(Mount::tmpfs("/inner"));
        let said = says(&engine, &spec);
        assert!(said.contains("1 passed"), "{said}");
    });
}
