//! What happens is told to all who listen, whoever does it.

use std::time::Duration;

use coracle::{EngineEvent, Events};
use coracle_testhost::run as host;

use crate::support::{engine, script, tools};

fn told(events: &mut Events) -> Vec<EngineEvent> {
    std::iter::from_fn(|| events.next_within(Some(Duration::ZERO)).unwrap()).collect()
}

fn actions(events: &[EngineEvent]) -> Vec<&str> {
    events.iter().filter(|event| event.kind == "container").map(|event| event.action.as_str()).collect()
}

#[test]
fn a_life_is_told() {
    host(|host| {
        let (mine, theirs) = (engine(host.dir()), engine(host.dir()));
        tools(&mine);
        let mut events = theirs.events(false).unwrap();
        assert_eq!(actions(&told(&mut events)), [""; 0]);
        let container = mine.start(&script("exit 3").name("x").label("a", "b")).unwrap();
        container.wait().unwrap();
        let first = events.next_within(None).unwrap().unwrap();
        assert_eq!((first.action.as_str(), first.id.as_str()), ("create", container.id()));
        assert_eq!((first.attributes["name"].as_str(), first.attributes["a"].as_str()), ("x", "b"));
        drop(container);
        let rest = told(&mut events);
        assert_eq!(actions(&rest), ["start", "die", "destroy"]);
        assert_eq!(rest[1].attributes["exitCode"], "3");
        let all = told(&mut mine.events(true).unwrap());
        assert_eq!(actions(&all), ["create", "start", "die", "destroy"], "they are kept");
    });
}

#[test]
fn a_full_file_makes_way() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let mut events = engine.events(false).unwrap();
        let long = "l".repeat(300_000);
        for _ in 0..3 {
            drop(engine.start(&script("true").label("long", &long)).unwrap());
            let seen = told(&mut events);
            assert_eq!(actions(&seen).len(), 4, "a listener that keeps up misses nothing");
        }
        assert!(host.dir().join("state/events.1").exists());
        assert!(std::fs::metadata(host.dir().join("state/events")).map_or(0, |file| file.len()) < 3 << 20);
    });
}
