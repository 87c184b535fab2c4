//! Memory that is not needed any more.

/// Gives memory that was freed back to the kernel (malloc_trim(3)): for a process that has done most of its work, and is
/// about to wait for long. Another C library than glibc does so by itself, or not at all.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn give_back_memory() {
    // SAFETY: it takes no pointers, and locks what it looks at.
    unsafe { libc::malloc_trim(0) };
}

/// There is no way to.
#[cfg(not(target_env = "gnu"))]
pub fn give_back_memory() {}
