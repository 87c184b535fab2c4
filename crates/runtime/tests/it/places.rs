//! Where mounts go.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use coracle_host::{Dir, Kind, Mount, Overlay};
use coracle_runtime::{Bundle, Result};
use coracle_testhost::run;
use oci_spec::runtime::Spec;

use crate::support::{Output, PIPES, overlay, plan, script, user, watch};

/// A directory with one file in it, as a mount.
fn volume(dir: &Path, name: &str) -> Mount {
    let at = dir.join(name);
    fs::create_dir_all(&at).unwrap();
    fs::write(at.join("name"), format!("{name}\n")).unwrap();
    Mount::bind_path(&at, true).unwrap()
}

/// A file, as a mount.
fn file(dir: &Path, name: &str) -> Mount {
    fs::write(dir.join(name), format!("{name}\n")).unwrap();
    Mount::bind_path(dir.join(name), false).unwrap()
}

fn start(root: Mount, spec: &Spec, mounts: Vec<(Mount, &str)>) -> Result<Output> {
    let mut plan = plan(spec);
    for (mount, at) in &mounts {
        plan.attach(mount.what(), *at)?;
    }
    let mounts = mounts.into_iter().map(|(mount, _)| mount).collect();
    plan.start(Bundle { mounts, stdio: PIPES(), ..Bundle::new(root) }).map(watch)
}

#[test]
fn volumes_and_files() {
    run(|host| {
        let (root, upper) = overlay(host.dir());
        let mounts = vec![
            (volume(host.dir(), "a"), "/srv"),
            (volume(host.dir(), "b"), "/new/deep/place"),
            (volume(host.dir(), "inner"), "/srv/made/inner"),
            (file(host.dir(), "hosts"), "/etc/hosts"),
            (file(host.dir(), "new"), "/etc/new.d/new"),
            (file(host.dir(), "over"), "/srv/name"),
            (volume(host.dir(), "shm"), "/dev/shm"),
            (file(host.dir(), "dev"), "/dev/made"),
        ];
        let text = "cat /srv/name /new/deep/place/name /srv/made/inner/name /etc/hosts /etc/new.d/new /dev/shm/name \
                    /dev/made; echo w > /srv/w; echo w > /srv/made/inner/w; stat -c %a /new /new/deep; \
                    mount | grep -c ' /srv'";
        let output = start(root, &script(text), mounts).unwrap().ok();
        assert_eq!(output, "over\nb\ninner\nhosts\nnew\nshm\ndev\n755\n755\n3\n");
        // What was written is in the volumes, and what was missing was made where it belongs.
        assert!(host.dir().join("a/w").exists() && host.dir().join("inner/w").exists());
        assert!(host.dir().join("a/made/inner").is_dir() && !host.dir().join("a/made/inner/w").exists());
        assert!(upper.join("new/deep/place").is_dir() && !upper.join("srv/made").exists());
        assert_eq!(fs::read(host.dir().join("a/name")).unwrap(), b"a\n");
        assert!(!upper.join("dev").exists(), "made below what covers it");
    });
}

#[test]
fn later_ones_lie_on_top() {
    run(|host| {
        let mounts = vec![
            (volume(host.dir(), "first"), "/srv"),
            (volume(host.dir(), "second"), "/srv"),
            (volume(host.dir(), "third"), "/srv/x"),
        ];
        let output = start(overlay(host.dir()).0, &script("cat /srv/name /srv/x/name"), mounts).unwrap().ok();
        assert_eq!(output, "second\nthird\n");
        assert!(host.dir().join("second/x").is_dir() && !host.dir().join("first/x").exists());
    });
}

#[test]
fn links_of_the_image_stay_in_it() {
    run(|host| {
        let outside = host.dir().join("outside");
        fs::create_dir(&outside).unwrap();
        let top = host.dir().join("top");
        fs::create_dir_all(top.join("real")).unwrap();
        symlink(&outside, top.join("absolute")).unwrap();
        symlink(format!("../../../../../../..{}", outside.display()), top.join("up")).unwrap();
        symlink("/real", top.join("alias")).unwrap();
        symlink("/absolute/file", top.join("file")).unwrap();
        // Over the machine's tree, so that there is a shell.
        let upper = Dir::create(host.dir().join("upper"), 0o755).unwrap();
        let work = Dir::create(host.dir().join("work"), 0o755).unwrap();
        let lower = [Dir::open(&top).unwrap(), Dir::open("/").unwrap()];
        let parts = Overlay { lower: &lower, upper: Some((&upper, &work)), volatile: true, context: None };
        let mounts = vec![
            (volume(host.dir(), "a"), "/absolute"),
            (volume(host.dir(), "b"), "/up/below"),
            (volume(host.dir(), "c"), "/alias/c"),
            (file(host.dir(), "f"), "/file"),
        ];
        let text = format!(
            "cat /absolute/name {0}/name /up/below/name /real/c/name /file; ls {0}",
            outside.display()
        );
        let output = start(Mount::overlay(&parts).unwrap(), &script(&text), mounts).unwrap().ok();
        // The first lies where both links lead, so the second and the file lie in it.
        assert_eq!(output, "a\na\nb\nc\nf\nbelow\nfile\nname\n");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was made outside");
        let inside = upper.path().join(outside.strip_prefix("/").unwrap());
        assert!(inside.is_dir(), "{inside:?}");
    });
}

#[test]
fn a_dev_that_is_a_link() {
    run(|host| {
        let top = host.dir().join("top");
        fs::create_dir_all(top.join("etc/devices")).unwrap();
        symlink("/etc/devices", top.join("dev")).unwrap();
        let upper = Dir::create(host.dir().join("upper"), 0o755).unwrap();
        let work = Dir::create(host.dir().join("work"), 0o755).unwrap();
        let lower = [Dir::open(&top).unwrap(), Dir::open("/").unwrap()];
        let parts = Overlay { lower: &lower, upper: Some((&upper, &work)), volatile: true, context: None };
        // Docker's spec mounts mqueue by the kernel's name for it, below dev; without that it is a place like any other.
        let mut spec = script("ls /etc/devices | xargs; echo x > /dev/null; ls -d /dev/pts/ptmx /dev/shm");
        spec.mounts_mut().as_mut().unwrap().retain(|mount| mount.typ().as_deref() != Some("mqueue"));
        let output = start(Mount::overlay(&parts).unwrap(), &spec, vec![]).unwrap().ok();
        let names = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
        assert_eq!(output, format!("{names}\n/dev/pts/ptmx\n/dev/shm\n"));
    });
}

#[test]
fn nothing_is_mounted_inside_kernel_file_systems() {
    run(|host| {
        for at in ["/proc", "/proc/sys", "/proc/self/attr", "/sys", "/sys/fs", "/dev/mqueue/x"] {
            let (root, _) = overlay(host.dir());
            let error = start(root, &script("true"), vec![(volume(host.dir(), "v"), at)]).unwrap_err();
            let text = format!("{at} is inside {}, where nothing can be mounted", place(at));
            assert!(error.to_string().ends_with(&text), "{error}");
            assert_eq!(error.kind(), Kind::Invalid);
        }
        // Also through a link of the image.
        let (root, upper) = overlay(host.dir());
        symlink("/proc/sys", upper.join("link")).unwrap();
        let error =
            start(root, &script("true"), vec![(volume(host.dir(), "v"), "/link/kernel")]).unwrap_err();
        assert!(error.to_string().contains("/proc"), "{error}");
    });
}

fn place(at: &str) -> &str {
    if at.starts_with("/dev/mqueue") {
        "/dev/mqueue"
    } else {
        at.split_at(at[1..].find('/').map_or(at.len(), |end| end + 1)).0
    }
}

#[test]
fn a_file_and_a_directory_do_not_go_together() {
    run(|host| {
        let (root, _) = overlay(host.dir());
        let error = start(root, &script("true"), vec![(file(host.dir(), "f"), "/etc")]).unwrap_err();
        assert!(error.to_string().ends_with("/etc is a directory, and the mount is of a file"), "{error}");
        assert_eq!(error.kind(), Kind::Invalid);
        let (root, _) = overlay(host.dir());
        let error = start(root, &script("true"), vec![(volume(host.dir(), "v"), "/etc/passwd")]).unwrap_err();
        assert!(error.to_string().ends_with("\"/etc/passwd\"): Not a directory (os error 20)"), "{error}");
    });
}

#[test]
fn binds_and_tmpfs_of_the_spec() {
    run(|host| {
        let source = host.dir().join("source");
        fs::create_dir_all(source.join("below")).unwrap();
        fs::write(source.join("f"), "from the host\n").unwrap();
        rustix::mount::mount("tmpfs", source.join("below"), "tmpfs", rustix::mount::MountFlags::empty(), c"")
            .unwrap();
        fs::write(source.join("below/g"), "below\n").unwrap();
        let mut spec = script(
            "cat /ro/f; ls /flat/below /deep/below | xargs; echo x > /ro/f || echo x > /deepro/below/g; \
             echo changed > /deep/f; df -B1 --output=size /scratch | tail -1; stat -c %a:%u /scratch; \
             cp /bin/true /scratch/; /scratch/true",
        );
        let mut mount = |typ: &str, at: &str, options: &[&str]| {
            let mut mount = oci_spec::runtime::Mount::default();
            mount.set_typ(Some(typ.into())).set_destination(at.into()).set_source(Some(source.clone()));
            mount.set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
            spec.mounts_mut().as_mut().unwrap().push(mount);
        };
        mount("bind", "/ro", &["bind", "ro"]);
        mount("bind", "/flat", &["bind"]);
        mount("bind", "/deep", &["rbind"]);
        mount("bind", "/deepro", &["rbind", "rro"]);
        mount("tmpfs", "/scratch", &["size=1m", "mode=1750", "uid=1000", "noexec"]);
        let output = start(overlay(host.dir()).0, &spec, vec![]).unwrap();
        let words: Vec<&str> = output.stdout.split_whitespace().collect();
        assert_eq!(
            words[..8],
            ["from", "the", "host", "/deep/below:", "g", "/flat/below:", "1048576", "1750:1000"]
        );
        assert_eq!(output.stderr.matches("Read-only file system").count(), 2, "{output:?}");
        assert!(output.stderr.contains("true: Permission denied"), "{output:?}");
        assert_eq!(fs::read(source.join("f")).unwrap(), b"changed\n");
        rustix::mount::unmount(source.join("below"), rustix::mount::UnmountFlags::empty()).unwrap();
    });
}

#[test]
fn places_are_made_for_root() {
    run(|host| {
        let (root, upper) = overlay(host.dir());
        let mut spec = script("cat /made/here/name");
        user(&mut spec, 1000, 1000, &[]);
        start(root, &spec, vec![(volume(host.dir(), "v"), "/made/here")]).unwrap().ok();
        assert_eq!(fs::metadata(upper.join("made")).unwrap().uid(), 0);
    });
}
