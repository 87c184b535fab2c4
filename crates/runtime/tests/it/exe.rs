//! What `/proc/self/exe` is while a container's program is looked for (CVE-2019-5736): never the embedding program.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::FromRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use coracle_host::Exit;
use coracle_runtime::{Bundle, Facts, Plan};
use coracle_testhost::run;
use oci_spec::runtime::Spec;

use crate::support::{self, PIPES, command, end, overlay, plan, process, script, user, watch};

/// Hears of every open and execution of this test binary by a process of this test's host; others run it all the time.
struct Binary(File);

impl Binary {
    fn watched() -> Binary {
        // SAFETY: two integers.
        let queue = unsafe {
            libc::fanotify_init(libc::FAN_CLOEXEC | libc::FAN_NONBLOCK, libc::O_RDONLY as libc::c_uint)
        };
        assert!(queue >= 0, "{}", std::io::Error::last_os_error());
        let events = libc::FAN_OPEN | libc::FAN_OPEN_EXEC;
        let own = c"/proc/self/exe".as_ptr();
        // SAFETY: the queue was just opened, and the path is a literal.
        let marked = unsafe { libc::fanotify_mark(queue, libc::FAN_MARK_ADD, events, libc::AT_FDCWD, own) };
        assert_eq!(marked, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: the queue was just opened, and nobody else has it.
        Binary(unsafe { File::from_raw_fd(queue) })
    }

    fn was_touched(&mut self) -> bool {
        let mut events = [0u8; 24 * 512];
        let mut touched = false;
        while let Ok(read) = self.0.read(&mut events) {
            for event in events[..read].chunks(24) {
                let word = |at: usize| i32::from_ne_bytes(event[at..at + 4].try_into().unwrap());
                // SAFETY: the kernel opened it for this event, and nobody else has it.
                drop(unsafe { File::from_raw_fd(word(16)) });
                touched |= word(20) != 0; // 0: a process outside of this pid namespace
            }
        }
        touched
    }
}

/// Programs of an image that lead to whatever executes them.
fn traps(upper: &Path) -> [&'static str; 3] {
    fs::write(upper.join("script"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(upper.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/proc/self/exe", upper.join("link")).unwrap();
    ["/script", "/link", "/proc/self/exe"]
}

#[test]
fn a_first_process_that_is_its_own_interpreter() {
    run(|host| {
        let mut binary = Binary::watched();
        File::open("/proc/self/exe").unwrap();
        assert!(binary.was_touched(), "the watch sees nothing");
        for uid in [0, 1000] {
            for trap in 0..3 {
                let (root, upper) = overlay(host.dir());
                let mut spec = command(&[traps(&upper)[trap], "argument"]);
                user(&mut spec, uid, uid, &[]);
                let output =
                    watch(plan(&spec).start(Bundle { stdio: PIPES(), ..Bundle::new(root) }).unwrap());
                // What it finds is the file in sealed memory, which has nothing to do a second time.
                assert_eq!((output.exit, output.stdout.as_str()), (Exit::Code(127), ""), "{output:?}");
            }
        }
        assert!(!binary.was_touched());
    });
}

fn exec(spec: &Spec) -> Plan {
    Plan::exec(spec.process().as_ref().unwrap(), &Facts::of_this_host()).unwrap()
}

#[test]
fn a_further_process_that_is_its_own_interpreter() {
    run(|host| {
        let (root, upper) = overlay(host.dir());
        let traps = traps(&upper);
        let stdio =
            [coracle_runtime::Stdio::Pipe, coracle_runtime::Stdio::Null, coracle_runtime::Stdio::Null];
        let running =
            plan(&script("read line; exit 0")).start(Bundle { stdio, ..Bundle::new(root) }).unwrap();
        let mut binary = Binary::watched();
        for trap in traps {
            let output = watch(exec(&command(&[trap])).start_in(&running.pidfd, PIPES()).unwrap());
            assert_eq!((output.exit, output.stdout.as_str()), (Exit::Code(127), ""), "{output:?}");
        }
        assert!(!binary.was_touched());
        end(running);
    });
}

/// A container that looks at every process that joins it, for as long as it can, with the capability that lets it.
#[test]
fn who_joins_is_not_seen_as_the_embedding_program() {
    run(|host| {
        let text = "echo up; for round in $(seq 60); do for pid in /proc/[0-9]*; do stat -L -c '%d:%i %N' $pid/exe; \
                    cat $pid/environ; done; done 2>/dev/null; exit 0";
        let mut spec = script(text);
        let mut sets = process(&mut spec).capabilities().clone().unwrap();
        let mut all = sets.bounding().clone().unwrap();
        all.insert(oci_spec::runtime::Capability::SysPtrace);
        sets.set_bounding(Some(all.clone())).set_permitted(Some(all.clone())).set_effective(Some(all));
        process(&mut spec).set_capabilities(Some(sets));
        let (root, _) = overlay(host.dir());
        let looker = plan(&spec).start(Bundle { stdio: PIPES(), ..Bundle::new(root) }).unwrap();
        assert_eq!(support::line(looker.stdout.as_ref().unwrap()), "up");
        let container = looker.pidfd.try_clone().unwrap();
        let output = std::thread::scope(|scope| {
            let looker = scope.spawn(|| watch(looker));
            let mut spec = command(&["/bin/true"]);
            process(&mut spec).set_env(Some(vec!["ONLY=this".into()]));
            let plan = exec(&spec);
            // As long as it looks, however long that takes.
            while let Ok(running) = plan.start_in(&container, PIPES()) {
                watch(running);
            }
            looker.join().unwrap()
        });
        assert_eq!(output.exit, Exit::Code(0));
        let own = fs::metadata("/proc/self/exe").unwrap();
        let own = format!("{}:{} ", own.dev(), own.ino());
        assert!(output.stdout.lines().count() >= 60, "{}", output.stdout);
        assert!(!output.stdout.contains(&own), "{}", output.stdout);
        assert!(!output.stdout.contains("CORACLE_TESTHOST"), "{}", output.stdout);
    });
}
