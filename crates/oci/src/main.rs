//! `coracle-oci`: the OCI runtime command line (runtime-spec, runtime.md), as podman, docker and containerd call it.
//!
//! Every call is a process of its own; between calls there is only a directory below `--root` and the container. A
//! container's status is never written down: it is what the kernel says of its process.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

mod cgroup;
mod cli;
mod create;
mod delete;
mod error;
mod events;
mod exec;
mod features;
mod figures;
mod hooks;
mod journal;
mod list;
mod listener;
mod mounted;
mod prepare;
mod process;
mod record;
mod signal;
mod start;
mod template;
mod update;

use cli::{Cli, Verb};
use error::Result;
use record::Home;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let log = cli.log.clone();
    let format = cli.log_format;
    match run(cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            journal::error(log.as_deref(), format, &error.to_string());
            ExitCode::from(error.status())
        }
    }
}

/// What the program is to exit with.
fn run(cli: Cli) -> Result<u8> {
    cli.refuse()?;
    let systemd = cli.systemd_cgroup;
    let home = Home::new(&cli.root()?);
    let log = journal::Log::new(cli.log.clone(), cli.log_format);
    match cli.verb {
        Verb::Create(options) => create::create(&home, &options, systemd, &log).map(|_| 0),
        Verb::Start { id } => start::start(&home, &id, &log).map(|()| 0),
        Verb::Run(options) => start::run(&home, &options, systemd, &log),
        Verb::State { id } => list::state(&home, &id).map(|()| 0),
        Verb::List { format, quiet } => list::list(&home, format, quiet).map(|()| 0),
        Verb::Kill { id, signal, all } => signal::kill(&home, &id, &signal, all).map(|()| 0),
        Verb::Delete { id, force } => delete::delete(&home, &id, force, &log).map(|()| 0),
        Verb::Exec(options) => exec::exec(&home, &options),
        Verb::Ps { id, format, .. } => list::ps(&home, &id, format).map(|()| 0),
        Verb::Pause { id } => cgroup::pause(&home, &id).map(|()| 0),
        Verb::Resume { id } => cgroup::resume(&home, &id).map(|()| 0),
        Verb::Update(options) => update::update(&home, &options).map(|()| 0),
        Verb::Events { id, stats, interval } => events::events(&home, &id, stats, &interval).map(|()| 0),
        Verb::Features => features::print().map(|()| 0),
        Verb::Spec { bundle } => template::write(&bundle).map(|()| 0),
    }
}
