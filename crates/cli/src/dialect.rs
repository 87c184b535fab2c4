//! clap taught the ways of docker's flag parser (pflag).

use clap::builder::TypedValueParser;
use clap::{Arg, ArgAction, Command, ValueEnum};

/// Switches take a value after `=` (`--rm=false`), the last of several counts, a value may begin with a hyphen, and
/// `-h` is no help.
pub(crate) fn dockers(command: Command) -> Command {
    each_verb(named(command), &|command| command.args_override_self(true).mut_args(flag))
}

/// The same for printing help, where switches are only switches.
pub(crate) fn for_help(command: Command) -> Command {
    named(command)
}

fn named(command: Command) -> Command {
    let version =
        Arg::new("version").short('v').long("version").action(ArgAction::Version).help("Print the version");
    let command = command.disable_version_flag(true).version(env!("CARGO_PKG_VERSION")).arg(version);
    each_verb(command, &|command| {
        let help = Arg::new("help").long("help").action(ArgAction::Help).help("Print usage");
        command.disable_help_flag(true).disable_help_subcommand(true).arg(help)
    })
}

fn each_verb(command: Command, change: &dyn Fn(Command) -> Command) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    let verb = |command: Command, name: &String| command.mut_subcommand(name, |verb| each_verb(verb, change));
    names.iter().fold(change(command), verb)
}

fn flag(arg: Arg) -> Arg {
    match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .value_parser(
                clap::builder::EnumValueParser::<Switch>::new().map(|switch| switch == Switch::True),
            )
            .default_missing_value("true")
            .default_value("false"),
        ArgAction::Set | ArgAction::Append if !arg.is_positional() => arg.allow_hyphen_values(true),
        _ => arg,
    }
}

/// A switch that is on unless it is said otherwise: its value.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    let switch = Switch::from_str(text, false);
    switch
        .map(|switch| switch == Switch::True)
        .map_err(|_| format!("strconv.ParseBool: parsing {text:?}: invalid syntax"))
}

/// The words that pflag takes for a boolean.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    #[value(aliases = ["1", "t", "T", "TRUE", "True"])]
    True,
    #[value(aliases = ["0", "f", "F", "FALSE", "False"])]
    False,
}
