//! The `coracle` program: the engine of the `coracle` crate behind the command line that docker users know.
//!
//! Verbs, flags, output columns and exit codes are docker's. A flag of docker's that is not there yet is refused by
//! its name, never ignored. State is under `$CORACLE_ROOT`, else where [`coracle::Engine::open_default`] says.
//!
//! # Who should use this crate alone
//!
//! People at a terminal, and scripts. Programs use the `coracle` crate.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod attach;
mod build;
mod builder;
mod cli;
mod commit;
mod connect;
mod container;
mod cp;
mod create;
mod csv;
mod dialect;
mod diff;
mod each;
mod ended;
mod env;
mod events;
mod exec;
mod export;
mod fail;
mod filter;
mod images;
mod inspect;
mod kill;
mod list;
mod logs;
mod mounts;
mod network;
mod network_prune;
mod out;
mod pause;
mod port;
mod prune;
mod ps;
mod quantity;
mod refuse;
mod registry;
mod rename;
mod rm;
mod run;
mod signals;
mod start;
mod stats;
mod streams;
mod table;
mod template;
mod terminal;
mod time;
mod top;
mod units;
mod update;
mod version;
mod volume;

use std::process::ExitCode;

/// A number in the table of 1,024 descriptors, as `coracle_host::aside` has them.
const HIGH: i32 = 512;

fn main() -> ExitCode {
    coracle::supervise();
    // The engine holds descriptors with high numbers. Room for them is made here, where this is the only thread: later the
    // kernel would wait for RCU, 10 ms and more, until no other one looks at the smaller table.
    drop(rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), HIGH));
    let arguments: Vec<_> = std::env::args_os().collect();
    let done = match cli::parse(&arguments) {
        Ok(command) => cli::dispatch(command),
        Err(fail) => Err(fail),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(fail) => {
            fail.print();
            ExitCode::from(fail.status())
        }
    }
}
