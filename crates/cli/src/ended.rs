//! The end of a container that this program was in front of.

use coracle::{Container, Exit};

/// SIGKILL.
const KILL: u8 = 9;

/// The status that becomes ours. That the kernel killed its first process, for want of memory, nobody in it could tell.
pub(crate) fn status(container: &Container, exit: Exit) -> u8 {
    if exit == Exit::Signal(KILL) && container.status().is_ok_and(|status| status.oom_killed) {
        crate::out::say(format_args!("container `{}` ran out of memory and was killed", container.name()));
    }
    exit.code()
}
