//! The engine as a whole, for real: every test has a private host with real namespaces, mounts and links.

mod support;

mod kills;
mod network;
mod owner;
mod process;
mod ready;
mod story;
