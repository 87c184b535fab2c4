//! Launching step by step.

use std::sync::{Arc, Mutex};

use coracle_runtime::{Bundle, Step};
use coracle_testhost::run;

use crate::support::{PIPES, bundle, command, plan, script, watch};

/// Who has this thread's process as its parent.
fn child() -> String {
    let children = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap());
    let all: Vec<String> = children.collect::<String>().split_whitespace().map(str::to_owned).collect();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

#[test]
fn each_step_is_done_before_the_next_is_asked_for() {
    run(|host| {
        let mut spec = script("exit 3");
        spec.set_hostname(Some("boat".into()));
        let plan = plan(&spec);
        let own = |link: &str| std::fs::read_link(format!("/proc/self/{link}")).unwrap();
        let (seen, root) = (Arc::new(Mutex::new(Vec::new())), own("root"));
        let sink = seen.clone();
        // Without those for a network namespace, which the clone makes, and for devices, which the parent sees to, and the one that has no gate any more.
        let mut steps: Vec<Step> = plan
            .steps()
            .iter()
            .filter(|step| !matches!(step, Step::JoinNet | Step::NoDevices))
            .cloned()
            .collect();
        steps.pop();
        let expected = steps.clone();
        let stepper = Box::new(move |index: usize| {
            let pid = child();
            let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let done = &steps[..index];
            let mounts = done
                .iter()
                .filter(|step| matches!(step, Step::Mount { .. } | Step::Attach { .. } | Step::Device { .. }))
                .count();
            let pivoted = done.contains(&Step::Pivot);
            if pivoted {
                let walls = done
                    .iter()
                    .filter(|step| matches!(step, Step::MaskFile(_) | Step::MaskDir(_) | Step::ReadOnly(_)));
                assert_eq!(table.lines().count(), 1 + mounts + walls.count(), "at {index}");
            }
            let bounded = done.iter().any(|step| matches!(step, Step::Bound(_)));
            assert_eq!(status.contains("CapBnd:\t00000000a80425fb"), bounded, "at {index}");
            let masked = done.contains(&Step::Umask(0o022));
            assert!(!masked || status.contains("Umask:\t0022"), "at {index}");
            sink.lock().unwrap().push(index);
        });
        let bundle = Bundle { stepper: Some(stepper), stdio: PIPES(), ..bundle(host.dir()) };
        assert_eq!(watch(plan.start(bundle).unwrap()).exit, coracle_host::Exit::Code(3));
        assert_eq!(*seen.lock().unwrap(), (0..expected.len()).collect::<Vec<_>>());
        assert_eq!(own("root"), root);
    });
}

#[test]
fn a_launch_that_fails_ends_its_stepping() {
    run(|host| {
        let plan = plan(&command(&["/none"]));
        let last = Arc::new(Mutex::new(0));
        let sink = last.clone();
        let stepper = Box::new(move |index| *sink.lock().unwrap() = index);
        let bundle = Bundle { stepper: Some(stepper), ..bundle(host.dir()) };
        let error = plan.start(bundle).unwrap_err();
        let steps = plan.steps().len();
        assert!(
            error.to_string().starts_with(&format!("launch step {steps} of {steps}: exec /none: ")),
            "{error}"
        );
        assert_eq!(*last.lock().unwrap(), steps - 4);
    });
}

#[test]
fn a_stepper_that_panics_ends_the_launch() {
    run(|host| {
        for at in [0, 7] {
            let stepper = Box::new(move |index| assert_ne!(index, at, "as planned"));
            let bundle = Bundle { stepper: Some(stepper), ..bundle(host.dir()) };
            let plan = plan(&script("exit 0"));
            let panic =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| plan.start(bundle))).unwrap_err();
            assert!(panic.downcast_ref::<String>().is_some_and(|text| text.contains("as planned")));
        }
    });
}
