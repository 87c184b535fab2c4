//! Extended attributes (xattr(7)) of a directory's entries, without a way through `/proc`.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::path::Arg;

/// `listxattrat` of every architecture: libc has no name for it yet.
const SYS_LISTXATTRAT: libc::c_long = 465;

/// How many bytes the names of the attributes of an entry of `dir` take, which is not followed where it is a link; 0 where
/// it has none.
///
/// # Errors
/// As of listxattr(2); `ENOSYS` before Linux 6.13.
pub fn xattr_names_size(dir: impl AsFd, name: impl Arg) -> rustix::io::Result<usize> {
    name.into_with_c_str(|name| {
        // SAFETY: the descriptor is borrowed, and the string live and NUL-terminated, for the whole call; of a list of no
        // bytes the kernel writes none, so that its place may be null.
        let size = unsafe {
            libc::syscall(
                SYS_LISTXATTRAT,
                dir.as_fd().as_raw_fd(),
                name.as_ptr(),
                libc::AT_SYMLINK_NOFOLLOW,
                std::ptr::null_mut::<u8>(),
                0usize,
            )
        };
        usize::try_from(size)
            .map_err(|_| Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use rustix::fs::{XattrFlags, setxattr};

    use super::*;

    #[test]
    fn tells_what_listxattr_does() {
        let place = tempfile::tempdir().unwrap();
        let dir = File::open(place.path()).unwrap();
        for name in ["none", "some"] {
            fs::write(place.path().join(name), "").unwrap();
        }
        setxattr(place.path().join("some"), "user.test", b"x", XattrFlags::empty()).unwrap();
        symlink("some", place.path().join("link")).unwrap();
        let of = |name: &str| xattr_names_size(&dir, name);
        let told = ["none", "some", "link", "other"].map(of);
        let old = told[0] == Err(Errno::NOSYS);
        let expected = [Ok(0), Ok("user.test".len() + 1), Ok(0), Err(Errno::NOENT)];
        assert_eq!(told, if old { [Err(Errno::NOSYS); 4] } else { expected });
    }
}
