//! Images in a content-addressed store, layers as tar and tree, and root filesystems as detached mounts.
