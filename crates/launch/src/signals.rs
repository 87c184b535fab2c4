//! Signals around a clone: the parent's handlers must not run in the child.

use core::ptr;

use rustix::io::Errno;

/// The kernel's `sigset_t`: one bit for each of 64 signals. The C library's would leave out the two that it
/// uses itself, and those must not run a handler in a child that borrows the parent's memory either.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Mask(u64);

impl Mask {
    const ALL: Mask = Mask(!0);
    const NONE: Mask = Mask(0);
}

/// Blocks every signal of the calling thread. Returns what was blocked before.
pub(crate) fn block_all() -> Result<Mask, Errno> {
    set(Mask::ALL)
}

/// Sets the calling thread's mask back.
pub(crate) fn restore(mask: Mask) {
    // Fails only for bad pointers or sizes.
    let _ = set(mask);
}

/// Default dispositions and an empty mask, as a new program expects them. Dispositions are the child's own: it
/// was cloned without CLONE_SIGHAND.
pub(crate) fn reset() {
    /// The kernel's `struct sigaction`, all zero: SIG_DFL.
    const DEFAULT: [u64; 4] = [0; 4];
    for signal in 1..=64 {
        // SAFETY: a struct of the kernel's size (32 bytes on every 64-bit Linux) that says SIG_DFL, no old one
        // asked for, and the kernel's mask size. SIGKILL and SIGSTOP answer EINVAL, which is as good.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), ptr::null_mut::<u64>(), 8usize);
        }
    }
    restore(Mask::NONE);
}

fn set(mask: Mask) -> Result<Mask, Errno> {
    let mut before = Mask::NONE;
    // SAFETY: both pointers are to live values of the kernel's mask size, which is the one given.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, &raw mut before, 8usize)
    };
    if result == 0 { Ok(before) } else { Err(Errno::INVAL) }
}

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coracle-launch supports 64-bit Linux only");
