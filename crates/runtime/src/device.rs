//! What is in a container's `/dev` (runtime-spec config-linux.md, "Default Devices").

use coracle_host::{Call, Mount, Result};
use rustix::fs::{AtFlags, FileType, Mode, chmodat, makedev, mkdirat, mknodat, symlinkat};

const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Puts the default devices and links in an empty tmpfs, and directories for what is mounted below it.
pub(crate) fn fill(dev: &Mount) -> Result<()> {
    let all = Mode::from_raw_mode(0o666);
    for (name, major, minor) in DEVICES {
        let call = || format!("mknod(/dev/{name}, c {major}:{minor})");
        mknodat(dev, name, FileType::CharacterDevice, all, makedev(major, minor)).call(call)?;
        // The embedding program's umask is not ours to know or to change.
        chmodat(dev, name, all, AtFlags::empty()).call(|| format!("chmod(/dev/{name}, 0666)"))?;
    }
    for (name, target) in LINKS {
        symlinkat(target, dev, name).call(|| format!("symlink({target}, /dev/{name})"))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        mkdirat(dev, name, Mode::from_raw_mode(0o755)).call(|| format!("mkdir(/dev/{name})"))?;
    }
    Ok(())
}
