//! `coracle-oci` as its callers use it: processes, each test in a private host.

mod docker;
mod exec;
mod groups;
mod hooks;
mod life;
mod podman;
mod support;
