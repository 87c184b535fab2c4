//! The engine as a whole, for real: every test has a private host with real namespaces, mounts and links.

mod support;

mod advice;
mod again;
mod bad;
mod carried;
mod carriers;
mod crafted;
mod crowd;
mod data;
mod drivers;
mod events;
mod files;
mod full;
mod kills;
mod labels;
mod life;
mod links;
mod manners;
mod mounts;
mod nested;
mod network;
mod outputs;
mod owner;
mod ports;
mod process;
#[cfg(feature = "registry")]
mod pulled;
mod ready;
mod scopes;
mod spaces;
mod state;
mod steps;
mod story;
mod tars;
mod templates;
mod upstream;
mod usage;
mod users;
