//! What security modules confine containers to. SELinux is there on the emulated machine, with the policy of
//! `.ci/selinux.cil`, which has no contexts of its own for containers.

use std::path::Path;

use coracle::{Capture, ContainerSpec, Engine, ExecSpec, Kind, Mount};
use coracle_testhost::{run as on_host, skip};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::support::{engine, fails, says, script, wrote};

const PROCESS: &str = "system_u:system_r:container_t:s0:c1,c2";
const FILES: &str = "system_u:object_r:container_file_t:s0:c1,c2";

/// The image of [`script`], with few programs: the machine is slow.
fn tools(engine: &Engine) {
    let few = Capture::new().search_path(["/bin", "/usr/bin"]).programs(["sh", "cat", "sleep", "touch"]);
    engine.capture(&few, "tools").unwrap();
}

fn labelled(text: &str) -> ContainerSpec {
    let parts =
        ["user:system_u", "role:system_r", "type:container_t", "filetype:container_file_t", "level:s0:c1,c2"];
    parts.into_iter().fold(script(text), ContainerSpec::security_label)
}

#[test]
fn what_the_host_has_no_module_for_is_refused() {
    on_host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        // What asks for nothing is had everywhere.
        let none = script("echo ran").apparmor("unconfined").security_label("disable");
        assert_eq!(says(&engine, &none), "ran\n");
        let bad = fails(engine.start(&script("true").security_label("x:y")), Kind::Invalid, &["\"x\""]);
        assert!(bad.contains("Bad label option"), "{bad}");
        for (there, spec, text) in [
            ("/sys/module/apparmor/parameters/enabled", script("true").apparmor("p"), "AppArmor profile `p`"),
            ("/sys/fs/selinux", labelled("true"), "label `user:system_u`"),
        ] {
            let enabled = std::fs::read(there).is_ok_and(|text| text.starts_with(b"Y"));
            if !enabled && !Path::new(there).is_dir() {
                fails(engine.start(&spec), Kind::Unsupported, &[text, "this host has no"]);
            }
        }
    });
}

#[test]
fn a_container_and_its_files_have_their_context() {
    on_host(|host| {
        let place = "/sys/fs/selinux";
        if !Path::new(place).exists() {
            return skip(host.test(), "this host has no SELinux");
        }
        mount("selinuxfs", place, "selinuxfs", MountFlags::empty(), c"").unwrap();
        let engine = engine(host.dir());
        tools(&engine);
        let spec = labelled("touch /made; cat /proc/self/attr/current; echo; echo up; exec sleep 1000")
            .mount(Mount::tmpfs("/opt/t"));
        let container = engine.start(&spec).unwrap();
        wrote(&container, "up");
        let said = container.output().unwrap().stdout.replace('\0', "");
        assert_eq!(said, format!("{PROCESS}\nup\n"));
        assert_eq!((container.process_label(), container.mount_label()), (Some(PROCESS), Some(FILES)));
        let root = format!("/proc/{}/root", crate::support::process_named("sleep"));
        for path in ["/", "/made", "/bin/sh", "/opt/t", "/dev/shm", "/etc/hosts", "/etc/resolv.conf"] {
            let mut value = vec![0; 256];
            let length =
                rustix::fs::getxattr(format!("{root}{path}"), "security.selinux", &mut value).unwrap();
            let label = String::from_utf8_lossy(&value[..length]).replace('\0', "");
            assert_eq!(label, FILES, "{path}");
        }
        let (_, output) = container.exec(&ExecSpec::new(["cat", "/proc/self/attr/current"])).unwrap();
        assert_eq!(output.stdout.trim_end_matches(['\0', '\n']), PROCESS);
        container.kill().unwrap();
        drop(container);
        // Without its own policy's help all parts must be said.
        let spec = script("true").security_label("type:container_t");
        fails(engine.start(&spec), Kind::Unsupported, &["user, role, type and filetype are needed"]);
        let unknown = labelled("true").security_label("type:no_such_t");
        let error = engine.start(&unknown).unwrap_err().to_string();
        assert!(error.contains("no_such_t") && error.contains("Invalid argument"), "{error}");
        unmount(place, UnmountFlags::empty()).unwrap();
    });
}
