//! Named directories, lent as detached mounts under a lock.
