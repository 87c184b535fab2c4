//! clap taught the ways of docker's flag parser (pflag).

use clap::builder::TypedValueParser;
use clap::{Arg, ArgAction, Command, ValueEnum};

/// Switches take a value after `=` (`--rm=false`), the last of several counts, a value may begin with a hyphen, and
/// `-h` is no help.
pub(crate) fn dockers(command: Command) -> Command {
    let command = command
        .disable_version_flag(true)
        .arg(
            Arg::new("version")
                .short('v')
                .long("version")
                .action(ArgAction::Version)
                .help("Print the version"),
        )
        .version(env!("CARGO_PKG_VERSION"));
    dialect(command)
}

fn dialect(command: Command) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    let help = Arg::new("help").long("help").action(ArgAction::Help).help("Print usage");
    let command = command.disable_help_flag(true).args_override_self(true).mut_args(flag).arg(help);
    let command = if names.is_empty() { command } else { command.disable_help_subcommand(true) };
    names.iter().fold(command, |command, name| command.mut_subcommand(name, dialect))
}

fn flag(arg: Arg) -> Arg {
    match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .hide_possible_values(true)
            .value_parser(
                clap::builder::EnumValueParser::<Switch>::new().map(|switch| switch == Switch::True),
            )
            .default_missing_value("true")
            .default_value("false")
            .hide_default_value(true),
        ArgAction::Set | ArgAction::Append if !arg.is_positional() => arg.allow_hyphen_values(true),
        _ => arg,
    }
}

/// The words that pflag takes for a boolean.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    #[value(aliases = ["1", "t", "T", "TRUE", "True"])]
    True,
    #[value(aliases = ["0", "f", "F", "FALSE", "False"])]
    False,
}
