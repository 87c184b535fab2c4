//! `coracle-oci` as its callers use it: processes, each test in a private host.

mod among;
mod docker;
mod exec;
mod groups;
mod hooks;
mod life;
mod listener;
mod must;
mod must_linux;
mod must_mounts;
mod must_users;
mod podman;
mod support;
mod systemd;
