//! The tree of verbs, and where each one leads.

use std::ffi::OsString;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::fail::{Done, Fail};
use crate::{
    build, builder, container, dialect, events, images, inspect, network, ps, refuse, version, volume,
};

/// A container engine without a daemon, with docker's command line.
#[derive(Parser)]
#[command(name = "coracle", arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Verb(container::Verb),
    Container(ContainerArgs),
    Inspect(inspect::Args),
    Ps(ps::Args),
    Build(Box<build::Args>),
    Builder(BuilderArgs),
    Buildx(BuilderArgs),
    Images(images::ListArgs),
    Events(events::Args),
    Rmi(images::RemoveArgs),
    Image(ImageArgs),
    History(images::HistoryArgs),
    Import(images::ImportArgs),
    Load(images::LoadArgs),
    Pull(images::PullArgs),
    Save(images::SaveArgs),
    Tag(images::TagArgs),
    Network(NetworkArgs),
    Volume(VolumeArgs),
    Version(version::Args),
}

/// Manage containers
#[derive(Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct ContainerArgs {
    #[command(subcommand)]
    pub(crate) command: container::Command,
}

/// Manage builds
#[derive(Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct BuilderArgs {
    #[command(subcommand)]
    pub(crate) command: builder::Command,
}

/// Manage images
#[derive(Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    pub(crate) command: images::Command,
}

/// Manage networks
#[derive(Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct NetworkArgs {
    #[command(subcommand)]
    pub(crate) command: network::Command,
}

/// Manage volumes
#[derive(Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct VolumeArgs {
    #[command(subcommand)]
    pub(crate) command: volume::Command,
}

/// Reads a command line, the program's name first.
pub(crate) fn parse(arguments: &[OsString]) -> Result<Command, Fail> {
    let matches = dialect::dockers(Cli::command()).try_get_matches_from(arguments);
    let cli = matches.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    cli.map(|cli| cli.command).map_err(|error| refuse::command_line(&error, arguments))
}

/// Does it, and says which status to end with.
pub(crate) fn dispatch(command: Command) -> Done {
    match command {
        Command::Verb(verb) => verb.run(),
        Command::Container(args) => container::run(&args.command),
        Command::Inspect(args) => inspect::run(&args),
        Command::Ps(args) => ps::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Builder(args) | Command::Buildx(args) => builder::run(&args.command),
        Command::Images(args) => images::list(&args),
        Command::Events(args) => events::run(&args),
        Command::Rmi(args) => images::remove(&args),
        Command::Image(args) => images::run(&args.command),
        Command::History(args) => images::history(&args),
        Command::Import(args) => images::import(&args),
        Command::Load(args) => images::load(&args),
        Command::Pull(args) => images::pull(&args),
        Command::Save(args) => images::save(&args),
        Command::Tag(args) => images::tag(&args),
        Command::Network(args) => network::run(&args.command),
        Command::Volume(args) => volume::run(&args.command),
        Command::Version(args) => version::run(&args),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::container::Verb;

    /// Reads a command line as a shell would split it at blanks.
    pub(crate) fn parsed(line: &str) -> Result<Command, Fail> {
        let words = std::iter::once("coracle").chain(line.split(' '));
        parse(&words.map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_tree_is_sound() {
        dialect::dockers(Cli::command()).debug_assert();
    }

    #[test]
    fn flags_after_the_image_are_the_commands() {
        let Ok(Command::Verb(Verb::Run(args))) = parsed("run --rm --name=n -e A=1 image -d --rm -- -x")
        else {
            panic!()
        };
        assert!(args.flags.rm && !args.detach);
        assert_eq!(args.words, ["image", "-d", "--rm", "--", "-x"]);
        let Ok(Command::Verb(Verb::Exec(args))) = parsed("exec -w /tmp c ls -l --user") else { panic!() };
        assert_eq!(args.words, ["c", "ls", "-l", "--user"]);
        assert_eq!(args.user, None);
    }

    #[test]
    fn flags_are_written_in_all_of_dockers_ways() {
        let Ok(Command::Verb(Verb::Run(args))) =
            parsed("run -di --rm=false --read-only=true -eA=1 -e=B=2 --name a --name b i")
        else {
            panic!()
        };
        let flags = &args.flags;
        assert!(args.detach && flags.interactive && !flags.rm && flags.rights.read_only);
        assert_eq!(flags.env, ["A=1", "B=2"]);
        assert_eq!(flags.name.as_deref(), Some("b"));
        let Ok(Command::Verb(Verb::Rm(args))) = parsed("rm a -f b") else { panic!() };
        assert!(args.force);
        assert_eq!(args.containers, ["a", "b"]);
        let Ok(Command::Verb(Verb::Run(args))) = parsed("run --entrypoint -x i") else { panic!() };
        assert_eq!(args.flags.entrypoint.as_deref(), Some("-x"));
    }

    #[test]
    fn refusals_have_dockers_words_and_status() {
        let table = [
            ("run --frob i", 125, "unknown flag: --frob"),
            ("run -z i", 125, "unknown shorthand flag: 'z' in -z"),
            ("run --rm=maybe i", 125, "invalid argument \"maybe\" for \"--rm\""),
            ("run -m x i", 125, "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'"),
            ("run --ip 10.1 i", 125, "invalid argument \"10.1\" for \"--ip\""),
            ("volume ls --cluster", 125, "volume ls --cluster: not supported yet"),
            ("run", 1, "'coracle run' requires at least 1 argument"),
            ("exec c", 1, "'coracle exec' requires at least 2 arguments"),
            ("rm", 1, "'coracle rm' requires at least 1 argument"),
            ("network create", 1, "'coracle network create' requires 1 argument"),
            ("logs a b", 1, "'coracle logs' requires 1 argument"),
            ("volume create a b", 1, "'coracle volume create' requires at most 1 argument"),
            ("frob", 1, "unknown command: coracle frob"),
            ("network frob", 1, "unknown command: coracle network frob"),
            ("swarm x", 1, "`coracle swarm` is not supported yet"),
            ("inspect --type pod x", 125, "unknown type: \"pod\": must be one of "),
            (
                "network ls -f driver",
                125,
                "invalid argument \"driver\" for \"-f, --filter\" flag: bad format of filter (expected name=value)",
            ),
        ];
        for (line, status, text) in table {
            let Err(fail) = parsed(line) else { panic!("{line}: accepted") };
            assert!(fail.to_string().contains(text), "{line}: {fail}");
            assert_eq!(fail.status(), status, "{line}");
        }
    }
}
