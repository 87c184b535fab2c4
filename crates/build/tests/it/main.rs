//! Builds solved with a worker of plain directories: no root, no kernel objects.

mod bench;
mod cache;
mod copy;
mod explain;
mod fuzz;
mod image;
mod known;
mod language;
mod reference;
mod refuse;
mod remote;
mod stages;
mod targets;
