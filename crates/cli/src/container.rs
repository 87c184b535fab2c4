//! Everything about containers: the verbs of `coracle` itself, which `coracle container` has, too, and its own.

use coracle::Engine;

use crate::fail::Done;
use crate::prune::{Flags, Wanted, agreed};
use crate::{
    attach, commit, cp, create, diff, each, exec, export, inspect, kill, logs, pause, port, ps, rename, rm,
    run, start, stats, time, top, units, update,
};

/// The verbs that are words of the whole program, too.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    Attach(attach::Args),
    Commit(commit::Args),
    Cp(cp::Args),
    Create(Box<create::Args>),
    Diff(diff::Args),
    Exec(exec::Args),
    Export(export::Args),
    Kill(kill::KillArgs),
    Logs(logs::Args),
    Pause(pause::PauseArgs),
    Port(port::Args),
    Rename(rename::Args),
    Restart(kill::RestartArgs),
    Rm(rm::Args),
    Run(Box<run::Args>),
    Start(start::Args),
    Stats(stats::Args),
    Stop(kill::StopArgs),
    Top(top::Args),
    Unpause(pause::UnpauseArgs),
    Update(Box<update::Args>),
    Wait(kill::WaitArgs),
}

/// The verbs of `coracle container`.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Verb(Verb),
    Inspect(InspectArgs),
    #[command(aliases = ["list", "ps"])]
    Ls(ps::Args),
    Prune(PruneArgs),
}

/// Display detailed information on one or more containers
#[derive(clap::Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    format: inspect::Format,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Remove all stopped containers
#[derive(clap::Args)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    flags: Flags,
}

impl Verb {
    pub(crate) fn run(&self) -> Done {
        match self {
            Verb::Attach(args) => attach::run(args),
            Verb::Commit(args) => commit::run(args),
            Verb::Cp(args) => cp::run(args),
            Verb::Create(args) => create::run(args),
            Verb::Diff(args) => diff::run(args),
            Verb::Exec(args) => exec::run(args),
            Verb::Export(args) => export::run(args),
            Verb::Kill(args) => kill::kill(args),
            Verb::Logs(args) => logs::run(args),
            Verb::Pause(args) => pause::pause(args),
            Verb::Port(args) => port::run(args),
            Verb::Rename(args) => rename::run(args),
            Verb::Restart(args) => kill::restart(args),
            Verb::Rm(args) => rm::run(args),
            Verb::Run(args) => run::run(args),
            Verb::Start(args) => start::run(args),
            Verb::Stats(args) => stats::run(args),
            Verb::Stop(args) => kill::stop(args),
            Verb::Top(args) => top::run(args),
            Verb::Unpause(args) => pause::unpause(args),
            Verb::Update(args) => update::run(args),
            Verb::Wait(args) => kill::wait(args),
        }
    }
}

pub(crate) fn run(command: &Command) -> Done {
    match command {
        Command::Verb(verb) => verb.run(),
        Command::Inspect(args) => {
            let engine = Engine::open_default()?;
            inspect::each(&args.containers, &args.format, |name| {
                inspect::container::describe(&engine, &each::container(&engine, name)?, args.size)
            })
        }
        Command::Ls(args) => ps::run(args),
        Command::Prune(args) => prune(args),
    }
}

/// Removes the containers that don't run.
fn prune(args: &PruneArgs) -> Done {
    let wanted = Wanted::read(&args.flags.filter)?;
    if !args.flags.force && !agreed("all stopped containers")? {
        return Ok(0);
    }
    let engine = Engine::open_default()?;
    let (removed, freed) = engine.prune_containers(|container| {
        time::point(container.created()).is_ok_and(|created| wanted.takes(created, container.labels()))
    })?;
    if !removed.is_empty() {
        crate::out::line(format_args!("Deleted Containers:\n{}\n", removed.join("\n")))?;
    }
    crate::out::line(format_args!("Total reclaimed space: {}", units::size(freed)))?;
    Ok(0)
}
