//! The program itself, run in private test hosts: what it prints, what it exits with, what it leaves.

mod again;
mod build;
mod sources;
mod support;

mod archives;
mod exec;
mod files;
mod images;
mod inspect;
mod life;
mod messages;
mod network;
mod ps;
mod pull;
mod run;
mod spaces;
mod terminal;
mod volume;
