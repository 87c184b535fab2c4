//! How programs end, and what is said of those that can't begin.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use coracle_host::{Exit, Kind, Mount};
use coracle_runtime::{Bundle, Plan};
use coracle_testhost::run;
use oci_spec::runtime::Spec;

use crate::support::{self, PIPES, command, overlay, plan, process, script, start, watch};

/// Starts over a root that `prepare` has put things in.
fn over(
    dir: &std::path::Path,
    spec: &Spec,
    prepare: impl FnOnce(&std::path::Path),
) -> coracle_runtime::Error {
    let (root, upper) = overlay(dir);
    prepare(&upper);
    plan(spec).start(Bundle { stdio: PIPES(), ..Bundle::new(root) }).map(watch).unwrap_err()
}

#[test]
fn codes_and_signals() {
    run(|host| {
        for code in [0, 1, 42, 255] {
            let output = support::run(host.dir(), &script(&format!("exit {code}")));
            assert_eq!(output.exit, Exit::Code(code));
        }
        // The first process of a pid namespace is safe from what it doesn't handle, but SIGKILL.
        let running = support::idle(host.dir(), |_| {});
        assert!(running.pidfd.signal(15).unwrap() && running.pidfd.signal(9).unwrap());
        assert_eq!(watch(running).exit, Exit::Signal(9));
        for (signal, word) in [(15, "TERM"), (64, "64")] {
            let text = format!("trap 'exit 21' {word}; echo up; while read line; do true; done");
            let running = support::idle(host.dir(), |spec| *spec = script(&text));
            assert!(running.pidfd.signal(signal).unwrap());
            // Its standard input is open until it has ended.
            assert!(running.pidfd.ended_within(Some(support::SOON)).unwrap());
            assert_eq!(watch(running).exit, Exit::Code(21));
        }
        // From inside, as a child of pid 1 sees it.
        let output = support::run(host.dir(), &script("sh -c 'kill -TERM $$'; echo $?"));
        assert_eq!(output.stdout, "143\n");
    });
}

#[test]
fn a_command_that_is_not_there() {
    run(|host| {
        for name in ["none", "/none", "/bin/none", "/etc/passwd/none", "./none"] {
            let error = start(host.dir(), &command(&[name, "argument"])).unwrap_err();
            assert_eq!((error.command_status(), error.kind()), (Some(127), Kind::NotFound), "{error}");
            let end = format!("exec {name} argument: No such file or directory (os error 2)");
            assert!(error.to_string().ends_with(&end), "{error}");
            assert!(error.to_string().starts_with("launch step "), "{error}");
        }
        // A script whose interpreter is missing is not to be found either, as in a shell.
        let error = over(host.dir(), &command(&["/script"]), |upper| {
            fs::write(upper.join("script"), "#!/none\n").unwrap();
            fs::set_permissions(upper.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
        });
        assert_eq!(error.command_status(), Some(127));
    });
}

#[test]
fn a_command_that_cannot_be_executed() {
    run(|host| {
        for (name, why) in
            [("/etc/passwd", "Permission denied (os error 13)"), ("/etc", "Permission denied (os error 13)")]
        {
            let error = start(host.dir(), &command(&[name])).unwrap_err();
            assert_eq!((error.command_status(), error.kind()), (Some(126), Kind::Denied), "{error}");
            assert!(error.to_string().ends_with(&format!("exec {name}: {why}")), "{error}");
        }
        let error = over(host.dir(), &command(&["/garbage"]), |upper| {
            fs::write(upper.join("garbage"), "garbage").unwrap();
            fs::set_permissions(upper.join("garbage"), fs::Permissions::from_mode(0o755)).unwrap();
        });
        assert_eq!(error.command_status(), Some(126));
        assert!(error.to_string().ends_with("Exec format error (os error 8)"), "{error}");
        // In the path, what can't be executed is passed over for what can, and remembered where nothing can.
        let mut spec = command(&["id", "-u"]);
        process(&mut spec).set_env(Some(vec!["PATH=/none:/etc/passwd:/first:/usr/bin".into()]));
        let (root, upper) = overlay(host.dir());
        fs::create_dir(upper.join("first")).unwrap();
        fs::write(upper.join("first/id"), "").unwrap();
        let output = watch(plan(&spec).start(Bundle { stdio: PIPES(), ..Bundle::new(root) }).unwrap());
        assert_eq!(output.ok(), "0\n");
        process(&mut spec).set_env(Some(vec!["PATH=/first:/none".into()]));
        let error = over(host.dir(), &spec, |upper| {
            fs::create_dir(upper.join("first")).unwrap();
            fs::write(upper.join("first/id"), "").unwrap();
        });
        assert_eq!(error.command_status(), Some(126), "{error}");
    });
}

#[test]
fn a_failing_step_is_named() {
    run(|host| {
        let mut spec = script("true");
        process(&mut spec).set_cwd("/none".into());
        let steps = plan(&spec).steps().len();
        let error = start(host.dir(), &spec).unwrap_err();
        let text = format!(
            "launch step {} of {steps}: chdir /none: No such file or directory (os error 2)",
            steps - 2
        );
        assert_eq!(
            (error.to_string(), error.kind(), error.command_status()),
            (text.clone(), Kind::NotFound, None)
        );
        assert_eq!(format!("{error:?}"), text);

        // A mount option that the kernel doesn't know: one mount is made by the child, the other here.
        let mut spec = script("true");
        spec.mounts_mut().as_mut().unwrap()[0].set_options(Some(vec!["nosuid".into(), "bogus=1".into()]));
        let error = start(host.dir(), &spec).unwrap_err().to_string();
        let end = "mount proc at ./proc nosuid,bogus=1: Invalid argument (os error 22)";
        assert!(error.starts_with("launch step 7 of ") && error.ends_with(end), "{error}");
        let mut spec = script("true");
        spec.mounts_mut().as_mut().unwrap()[1].set_options(Some(vec!["bogus=1".into()]));
        let error = start(host.dir(), &spec).unwrap_err().to_string();
        assert!(
            error.starts_with("attach tmpfs with devices bogus=1 at ./dev: fsconfig(tmpfs, bogus=1) ["),
            "{error}"
        );
        assert!(error.contains("Unknown parameter 'bogus'"), "{error}");

        // A source that is not there.
        let mut mount = oci_spec::runtime::Mount::default();
        mount.set_destination("/mnt".into()).set_typ(Some("bind".into())).set_source(Some("/none/x".into()));
        mount.set_options(Some(vec![]));
        let mut spec = script("true");
        spec.mounts_mut().as_mut().unwrap().push(mount);
        let error = start(host.dir(), &spec).unwrap_err();
        let text = "attach bind of /none/x at ./mnt: open_tree(\"/none/x\", OPEN_TREE_CLONE): \
                    No such file or directory (os error 2)";
        assert_eq!((error.to_string().as_str(), error.kind()), (text, Kind::NotFound));
        // Not an address of any file.
        let error = support::plan(&script("true"))
            .start(Bundle::new(Mount::bind_path("/etc/passwd", false).unwrap()));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("Not a directory"), "{error}");
        assert_eq!(host.processes(), Vec::<String>::new());
    });
}

#[test]
fn an_image_whose_proc_is_a_link_is_refused() {
    run(|host| {
        for (name, target, shown) in
            [("proc", "/etc", "/etc"), ("proc", "etc", "/etc"), ("sys", "/var/none", "/var/none")]
        {
            let top = host.dir().join(format!("top-{name}-{}", target.replace('/', "_")));
            fs::create_dir_all(top.join("etc")).unwrap();
            symlink(target, top.join(name)).unwrap();
            let bundle = Bundle::new(Mount::bind_path(&top, false).unwrap());
            let error = plan(&script("true")).start(bundle).unwrap_err();
            let text = format!("/{name} of the image is a symbolic link to {shown}");
            assert!(error.to_string().contains(&text), "{error}");
            assert_eq!(error.kind(), Kind::Invalid);
        }
    });
}

#[test]
fn a_bundle_that_does_not_fit_its_plan() {
    run(|host| {
        let mut lacking = plan(&script("true"));
        lacking.attach("data", "/mnt").unwrap();
        let error = lacking.start(support::bundle(host.dir())).unwrap_err();
        assert_eq!(error.to_string(), "the bundle lacks a mount of the plan");
        let running = support::idle(host.dir(), |_| {});
        let error = lacking.start_in(&running.pidfd, Default::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "mount proc at ./proc nosuid,nodev,noexec: a plan with mounts was started without a root"
        );
        support::end(running);
        let exec: Plan =
            Plan::exec(script("true").process().as_ref().unwrap(), &coracle_runtime::Facts::of_this_host())
                .unwrap();
        let error = exec.start(support::bundle(host.dir())).unwrap_err();
        assert_eq!(error.to_string(), "nothing was given for the step `join the container's namespaces`");
        let surplus = Bundle { mounts: vec![Mount::tmpfs(&[]).unwrap()], ..support::bundle(host.dir()) };
        let error = plan(&script("true")).start(surplus).unwrap_err();
        assert_eq!(error.to_string(), "the plan has no place for the bundle's mount tmpfs");
    });
}
