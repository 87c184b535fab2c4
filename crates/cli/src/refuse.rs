//! What is wrong with a command line, in docker's words.

use std::ffi::OsString;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::Cli;
use crate::dialect;
use crate::fail::Fail;

/// Flags that docker has, this program has not yet, and there is more to say about than that.
const REASONS: &[(&str, &str, &str)] =
    &[("network create", "--attachable", "networks have no such option yet")];

/// All other flags that docker has and this program has not yet: a user has not mistyped them.
const FLAGS: &[(&str, &str)] = &[
    (
        "build",
        "-D --debug --detach --invoke --policy --print --root --server-config -c --cpu-shares \
         --cpu-period --cpu-quota --cpuset-cpus --cpuset-mems -m --memory --memory-swap \
         --security-opt --squash",
    ),
    ("builder prune", "--keep-storage --max-used-space --min-free-space --reserved-space --verbose"),
    ("buildx prune", "--builder --keep-storage --max-used-space --min-free-space --reserved-space --verbose"),
    ("buildx du", "--builder --format --timeout --verbose"),
    ("images", "--tree"),
    ("start", "--checkpoint --checkpoint-dir"),
    ("rm", "-l --link"),
    ("rmi", "--platform"),
    ("network create", "--config-from --config-only --ingress --ipam-opt"),
    ("network connect", "--gw-priority --link --link-local-ip"),
    ("volume create", "--availability --group --scope --sharing --type"),
    ("volume ls", "--cluster"),
    ("history", "--platform"),
    ("save", "--platform"),
    ("load", "--platform"),
    ("image ls", "--tree"),
    ("image rm", "--platform"),
    ("image history", "--platform"),
    ("image save", "--platform"),
    ("image load", "--platform"),
];

/// Verbs that docker has and this program has not yet.
const VERBS: &[(&str, &str)] = &[
    (
        "",
        "checkpoint compose config context info login logout manifest node \
         plugin push search \
         secret service stack swarm system trust",
    ),
    ("buildx", "bake create dial-stdio history imagetools inspect install ls rm stop uninstall use version"),
    ("volume", "update"),
    ("image", "push"),
];

/// What to print for what clap could not make sense of, and the status that docker ends with then: 125 for flags, 1
/// for verbs and for too few or too many arguments.
pub(crate) fn command_line(error: &clap::Error, arguments: &[OsString]) -> Fail {
    let words: Vec<String> =
        arguments.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let verb = verb(&words);
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        _ => String::new(),
    };
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let shown = match error.kind() {
                ErrorKind::DisplayVersion => {
                    crate::out::line(format!("Coracle version {}", env!("CARGO_PKG_VERSION")))
                }
                _ => crate::out::text(help(&verb)),
            };
            shown.err().map_or_else(|| Fail::silent(0), Fail::from)
        }
        ErrorKind::InvalidSubcommand => unknown_verb(&verb, &text(ContextKind::InvalidSubcommand)),
        ErrorKind::UnknownArgument => match text(ContextKind::InvalidArg) {
            flag if flag.starts_with('-') => unknown_flag(&verb, &flag),
            _ => wrong_count(&verb),
        },
        ErrorKind::MissingRequiredArgument | ErrorKind::TooFewValues => wrong_count(&verb),
        ErrorKind::InvalidValue if text(ContextKind::InvalidValue).is_empty() => {
            let flag = text(ContextKind::InvalidArg);
            usage(125, &verb, format!("flag needs an argument: {}", flag_of(&flag)))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let (flag, value) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
            let why = std::error::Error::source(error).map(|why| format!(": {why}")).unwrap_or_default();
            usage(
                125,
                &verb,
                format!("invalid argument {value:?} for {:?} flag{why}", both_names(&verb, flag_of(&flag))),
            )
        }
        _ => usage(125, &verb, error.to_string().trim_end().trim_start_matches("error: ")),
    }
}

/// `--ip` of `--ip <IP>`.
fn flag_of(usage: &str) -> &str {
    usage.split([' ', '=', '[']).next().unwrap_or(usage)
}

/// `-m, --memory` of `--memory`, as docker names flags that have a letter, too.
fn both_names(verb: &str, flag: &str) -> String {
    let command = command_of(verb);
    let known = command.get_arguments().find(|arg| flag.strip_prefix("--") == arg.get_long());
    match known.and_then(clap::Arg::get_short) {
        Some(letter) => format!("-{letter}, {flag}"),
        None => flag.to_owned(),
    }
}

/// What `--help` prints for a verb.
fn help(verb: &str) -> String {
    command_of(verb).render_help().to_string()
}

fn command_of(verb: &str) -> clap::Command {
    let mut command = dialect::for_help(Cli::command());
    // The names of verbs in usage lines come with this.
    command.build();
    for word in verb.split(' ').filter(|word| !word.is_empty()) {
        if let Some(next) = command.find_subcommand(word) {
            command = next.clone();
        }
    }
    command
}

/// The verb that the words begin with, as far as there is one.
fn verb(words: &[String]) -> String {
    let mut command = Cli::command();
    let mut verb = Vec::new();
    for word in words {
        let Some(next) = command.find_subcommand(word) else { break };
        verb.push(word.as_str());
        command = next.clone();
    }
    verb.join(" ")
}

fn unknown_verb(verb: &str, word: &str) -> Fail {
    let whole = if verb.is_empty() { format!("coracle {word}") } else { format!("coracle {verb} {word}") };
    if VERBS.iter().any(|(of, verbs)| *of == verb && has(verbs, word)) {
        return Fail::new(1, format!("`{whole}` is not supported yet"));
    }
    let help = if verb.is_empty() { "coracle".to_owned() } else { format!("coracle {verb}") };
    Fail::new(1, format!("unknown command: {whole}\n\nRun '{help} --help' for more information"))
}

fn unknown_flag(verb: &str, flag: &str) -> Fail {
    let flag = flag_of(flag);
    let of_verb = short(verb);
    if let Some((_, _, reason)) = REASONS.iter().find(|(of, flags, _)| *of == of_verb && has(flags, flag)) {
        return Fail::new(125, format!("{verb} {flag}: {reason}"));
    }
    if FLAGS.iter().any(|(of, flags)| *of == of_verb && has(flags, flag)) {
        return Fail::new(125, format!("{verb} {flag}: not supported yet"));
    }
    match flag.strip_prefix('-').filter(|rest| !rest.starts_with('-')) {
        Some(short) => usage(125, verb, format!("unknown shorthand flag: '{short}' in {flag}")),
        None => usage(125, verb, format!("unknown flag: {flag}")),
    }
}

/// `start` of `container start`, which is the same.
fn short(verb: &str) -> &str {
    verb.strip_prefix("container ").unwrap_or(verb)
}

fn has(words: &str, word: &str) -> bool {
    words.split(' ').any(|known| known == word)
}

/// How many arguments each verb wants, as docker says it.
fn wrong_count(verb: &str) -> Fail {
    let wants = match short(verb) {
        "exec" => "at least 2 arguments",
        "tag" | "image tag" | "cp" | "volume cp" => "2 arguments",
        "logs" | "diff" | "export" | "network create" | "build" | "history" | "image history" => "1 argument",
        "commit" => "at least 1 and at most 2 arguments",
        "volume clone" | "volume snapshot" | "volume import" => "1 or 2 arguments",
        "volume export" => "1 argument",
        "volume create" | "images" | "image ls" => "at most 1 argument",
        "ps" | "ls" | "prune" | "network ls" | "network prune" | "volume ls" | "version" | "load"
        | "image load" | "image prune" => "no arguments",
        _ => "at least 1 argument",
    };
    let does = if wants == "no arguments" { "accepts" } else { "requires" };
    usage(1, verb, format!("'coracle {verb}' {does} {wants}"))
}

fn usage(status: u8, verb: &str, what: impl std::fmt::Display) -> Fail {
    let space = if verb.is_empty() { "" } else { " " };
    Fail::new(status, format!("{what}\n\nRun 'coracle{space}{verb} --help' for more information"))
}
