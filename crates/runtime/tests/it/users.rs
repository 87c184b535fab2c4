//! Who a container's process is.

use coracle_runtime::{Bundle, Stdio};
use coracle_testhost::run;

use crate::support::{self, PIPES, bundle, command, field, plan, process, script, user, watch};

#[test]
fn a_user_with_groups_and_nothing_more() {
    run(|host| {
        let mut spec = command(&["/bin/cat", "/proc/self/status"]);
        user(&mut spec, 1234, 567, &[10, 20]);
        let status = support::run(host.dir(), &spec).ok();
        assert_eq!(field(&status, "Uid"), "1234\t1234\t1234\t1234");
        assert_eq!(field(&status, "Gid"), "567\t567\t567\t567");
        assert_eq!(field(&status, "Groups"), "10 20");
        assert_eq!(field(&status, "Umask"), "0022");
        // What setuid programs may gain stays bounded; the user itself has nothing.
        for (set, bits) in
            [("CapInh", 0), ("CapPrm", 0), ("CapEff", 0), ("CapBnd", 0xa804_25fb), ("CapAmb", 0)]
        {
            assert_eq!(u64::from_str_radix(field(&status, set), 16), Ok(bits), "{set}");
        }
    });
}

#[test]
fn ambient_capabilities_are_kept_over_exec() {
    run(|host| {
        use oci_spec::runtime::Capability::NetBindService;
        let mut spec = command(&["/bin/cat", "/proc/self/status"]);
        user(&mut spec, 1234, 567, &[]);
        let mut sets = process(&mut spec).capabilities().clone().unwrap();
        sets.set_inheritable(Some([NetBindService].into())).set_ambient(Some([NetBindService].into()));
        process(&mut spec).set_capabilities(Some(sets));
        let status = support::run(host.dir(), &spec).ok();
        assert_eq!(u64::from_str_radix(field(&status, "CapEff"), 16), Ok(1 << 10));
        assert_eq!(u64::from_str_radix(field(&status, "CapAmb"), 16), Ok(1 << 10));
    });
}

#[test]
fn no_new_privileges_disarms_setuid_programs() {
    run(|host| {
        let text =
            "cp /usr/bin/id /tmp/id; chmod 4755 /tmp/id; exec setpriv --reuid 1000 --clear-groups /tmp/id -u";
        let mut spec = script(text);
        assert_eq!(support::run(host.dir(), &spec).ok(), "0\n");
        process(&mut spec).set_no_new_privileges(Some(true));
        assert_eq!(support::run(host.dir(), &spec).ok(), "1000\n");
    });
}

#[test]
fn working_directory_and_umask() {
    run(|host| {
        let mut spec = script("pwd; umask; touch /tmp/x; stat -c %a /tmp/x");
        process(&mut spec).set_cwd("/usr/share".into());
        assert_eq!(support::run(host.dir(), &spec).ok(), "/usr/share\n0022\n644\n");
        let mut asked = process(&mut spec).user().clone();
        asked.set_umask(Some(0o027u32));
        process(&mut spec).set_user(asked);
        assert_eq!(support::run(host.dir(), &spec).ok(), "/usr/share\n0027\n640\n");
    });
}

#[test]
fn streams_can_be_opened_anew_by_their_user() {
    run(|host| {
        let mut spec = script("echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin");
        user(&mut spec, 1000, 1000, &[]);
        let stdio = [Stdio::Pipe, Stdio::Pipe, Stdio::Pipe];
        let mut running = plan(&spec).start(Bundle { stdio, ..bundle(host.dir()) }).unwrap();
        rustix::io::write(running.stdin.take().unwrap(), b"in").unwrap();
        let output = watch(running);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\nin", "err\n"));
        // /dev/null too.
        let stdio = [Stdio::Null, Stdio::Pipe, Stdio::Null];
        let mut spec = script("cat < /dev/stdin; echo x > /dev/stderr; echo fine");
        user(&mut spec, 1000, 1000, &[]);
        let output = watch(plan(&spec).start(Bundle { stdio, ..bundle(host.dir()) }).unwrap());
        assert_eq!(output.stdout, "fine\n");
    });
}

#[test]
fn a_start_as_another_user_leaves_the_program_dumpable() {
    run(|host| {
        use rustix::process::{DumpableBehavior, dumpable_behavior};
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::Dumpable));
        let mut spec = script("true");
        user(&mut spec, 1000, 1000, &[]);
        let plan = plan(&spec);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        watch(plan.start(Bundle { stdio: PIPES(), ..bundle(host.dir()) }).unwrap()).ok();
                    }
                });
            }
        });
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::Dumpable));
        // Where the child fails too, after it has become the user.
        process(&mut spec).set_cwd("/none".into());
        support::start(host.dir(), &spec).unwrap_err();
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::Dumpable));
    });
}
