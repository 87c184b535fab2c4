//! Many processes on one state directory, at the same time, from its very first moment.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use coracle::{BuildSpec, ContainerSpec, Kind, NetworkSpec};
use coracle_testhost::{Role, run as host, run_with};

use crate::support::{
    context, engine, nothing_left, our_links, says, script, state, tools, within_a_second, wrote,
};

const MEMBERS: usize = 32;

/// Does everything that there is to do with an engine, and holds its container until it hears that it may go.
fn member(role: &mut Role) {
    let number = role.hear().unwrap();
    let engine = engine(role.dir());
    tools(&engine);
    let common = BuildSpec::new(role.dir().join("context")).tag("common");
    let common = engine.build(&common, |_| {}).unwrap();
    let own = format!("FROM common\nRUN echo {number} >> /words\nCMD [\"cat\", \"/words\"]\n");
    let own = engine.build(&BuildSpec::without_context(own).tag(format!("own:{number}")), |_| {}).unwrap();
    let sea = engine.network(&NetworkSpec::new("sea")).unwrap();
    assert_eq!(says(&engine, &ContainerSpec::new(&own.image).network(&sea)), format!("words\n{number}\n"));
    let spec = ContainerSpec::new(&own.image).name(format!("member-{number}")).network(&sea);
    let script = "getent hosts $(cat /etc/hostname); echo up; sleep 100";
    let container = engine.start(&spec.command(["sh", "-c", script])).unwrap();
    wrote(&container, "up");
    let output = container.output().unwrap();
    let address = output.stdout.split_whitespace().next().unwrap().to_owned();
    assert_eq!(
        Some(&address),
        container.address().unwrap().map(|own| own.to_string()).as_ref(),
        "{output:?}"
    );
    role.say(&format!("{address} {}", common.image.id()));
    role.hear();
    container.force_remove().unwrap();
}

#[test]
fn thirty_two_at_once_from_nothing() {
    run_with(&[("member", member)], |host| {
        let dockerfile = "FROM tools\nCOPY words /words\nRUN sleep 0.01; id -u\n";
        context(host.dir(), &[("Dockerfile", dockerfile), ("words", "words\n")]);
        let mut members: Vec<_> = (0..MEMBERS).map(|_| host.play("member")).collect();
        for (number, member) in members.iter_mut().enumerate() {
            member.say(&number.to_string());
        }
        let heard: Vec<String> =
            members.iter_mut().map(|member| member.hear().expect("it ended; its error is above")).collect();
        let said: BTreeSet<(&str, &str)> = heard.iter().filter_map(|line| line.split_once(' ')).collect();
        let addresses: BTreeSet<&str> = said.iter().map(|(address, _)| *address).collect();
        assert_eq!(addresses.len(), MEMBERS, "all hold theirs at the same time: {heard:#?}");

        let engine = engine(host.dir());
        assert_eq!(engine.containers().unwrap().len(), MEMBERS);
        // Those who built it at the same time each have their own; one of them has the name.
        let common: BTreeSet<&str> = said.iter().map(|(_, image)| *image).collect();
        assert_eq!(engine.images().unwrap().len(), common.len() + 1 + MEMBERS, "{heard:#?}");
        assert!(common.contains(&*engine.image("common").unwrap().unwrap().id()), "{heard:#?}");
        let sea = engine.find_network("sea").unwrap().unwrap();
        let attached: BTreeSet<String> =
            sea.attached().unwrap().iter().map(|one| one.address.to_string()).collect();
        assert!(
            attached.iter().map(String::as_str).eq(addresses.iter().copied()),
            "{attached:?}\n{addresses:?}"
        );

        members.iter_mut().for_each(|member| member.say("go"));
        members.into_iter().for_each(|member| member.join());
        within_a_second("no link is left", || our_links().is_empty());
        engine.remove_network("sea").unwrap();
        drop(engine);
        nothing_left(host.dir());
        assert!(
            fs::read_dir(state(host.dir()).join("networks")).unwrap().count() <= 2,
            "the default one, a lock"
        );
    });
}

/// One name, wanted by many who come and go, while others open engines, which reclaims what looks abandoned.
#[test]
fn a_name_has_one_owner_at_a_time() {
    host(|host| {
        tools(&engine(host.dir()));
        let (holders, times) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let engine = engine(host.dir());
                    for _ in 0..12 {
                        match engine.start(&script("exec sleep 100").name("x")) {
                            Ok(container) => {
                                assert_eq!(
                                    holders.fetch_add(1, Ordering::SeqCst),
                                    0,
                                    "another one has it, too"
                                );
                                times.fetch_add(1, Ordering::SeqCst);
                                assert_eq!(engine.find("x").unwrap().unwrap().id(), container.id());
                                holders.fetch_sub(1, Ordering::SeqCst);
                                drop(container);
                            }
                            Err(error) => assert_eq!(error.kind(), Kind::AlreadyExists, "{error}"),
                        }
                    }
                });
            }
            scope.spawn(|| (0..50).for_each(|_| drop(engine(host.dir()))));
        });
        assert!(times.load(Ordering::SeqCst) > 0);
        nothing_left(host.dir());
    });
}

/// Builds what everybody builds, when it hears that it may.
fn builder(role: &mut Role) {
    let engine = engine(role.dir());
    role.say("ready");
    role.hear().unwrap();
    let text = "FROM tools\nRUN --mount=type=cache,target=/c echo ran >> /c/count && sleep 0.2\n";
    let built = engine.build(&BuildSpec::without_context(text), |_| {}).unwrap();
    role.say(if built.steps.iter().any(|step| step.built()) { "built" } else { "cached" });
}

#[test]
fn the_same_step_of_several_processes_is_done_once() {
    run_with(&[("builder", builder)], |host| {
        let engine = engine(host.dir());
        tools(&engine);
        let mut builders: Vec<_> = (0..6).map(|_| host.play("builder")).collect();
        builders.iter_mut().for_each(|one| drop(one.hear().unwrap()));
        builders.iter_mut().for_each(|one| one.say("go"));
        let mut heard: Vec<String> = builders.iter_mut().map(|one| one.hear().unwrap()).collect();
        builders.into_iter().for_each(|one| one.join());
        heard.sort();
        assert_eq!(heard, ["built", "cached", "cached", "cached", "cached", "cached"]);
        let mut count = Vec::new();
        let look = "FROM tools\nRUN --mount=type=cache,target=/c cat /c/count\n";
        let told = engine.build(&BuildSpec::without_context(look), |event| {
            if let coracle::Event::Output { bytes, .. } = event {
                count.extend_from_slice(bytes);
            }
        });
        told.unwrap();
        assert_eq!(String::from_utf8(count).unwrap(), "ran\n");
    });
}
