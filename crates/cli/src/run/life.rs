//! The flags of `run` and `create` about a container's beginning, health and end.

use std::time::Duration;

use coracle::{ContainerSpec, HealthCheck, LogLimits, Restart, signal_number};

use super::{default_only, not_yet};
use crate::fail::Fail;
use crate::quantity::{duration, integer};

#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Flags {
    /// Add an annotation to the container (passed through to the OCI runtime)
    #[arg(long, value_name = "KEY=VALUE", value_parser = annotation)]
    annotation: Vec<(String, String)>,
    /// Container NIS domain name
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,
    /// Skip image verification
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value = "true", action = clap::ArgAction::Set, value_parser = crate::dialect::switch)]
    disable_content_trust: bool,
    /// GPU devices to add to the container ('all' to pass all GPUs)
    #[arg(long, value_name = "REQUEST")]
    gpus: Option<String>,
    #[command(flatten)]
    health: Health,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// Container isolation technology
    #[arg(long, value_name = "TECHNOLOGY", hide = true)]
    isolation: Option<String>,
    /// Read in a line delimited file of labels
    #[arg(long, value_name = "FILE")]
    label_file: Vec<String>,
    /// Logging driver for the container
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// Log driver options
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Pull image before running ("always", "missing", "never")
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = pull)]
    pull: Pull,
    /// Suppress the pull output
    #[arg(short, long)]
    quiet: bool,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "POLICY", default_value = "no", value_parser = restart)]
    restart: Restart,
    /// Runtime to use for this container
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,
    /// Signal to stop the container
    #[arg(long, value_name = "SIGNAL", value_parser = signal)]
    stop_signal: Option<u8>,
    /// Timeout (in seconds) to stop a container
    #[arg(long, value_name = "SECONDS", value_parser = integer)]
    stop_timeout: Option<i64>,
    /// Storage driver options for the container
    #[arg(long, value_name = "NAME=VALUE")]
    storage_opt: Vec<String>,
    /// Bind mount Docker API socket and required auth
    #[arg(long, hide = true)]
    use_api_socket: bool,
}

/// How it is asked whether it is well.
#[derive(clap::Args)]
#[group(skip)]
struct Health {
    /// Command to run to check health
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between running the check (ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_interval: Option<i64>,
    /// Consecutive failures needed to report unhealthy
    #[arg(long, value_name = "NUMBER", value_parser = integer)]
    health_retries: Option<i64>,
    /// Time between running the check during the start period (ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_start_interval: Option<i64>,
    /// Start period for the container to initialize before starting health-retries countdown (ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_start_period: Option<i64>,
    /// Maximum time to allow one check to run (ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_timeout: Option<i64>,
    /// Disable any container-specified HEALTHCHECK
    #[arg(long)]
    no_healthcheck: bool,
}

/// When the image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pull {
    Always,
    Missing,
    Never,
}

impl super::Flags {
    /// When the image is pulled, whether that is to be quiet, and for which platform.
    pub(super) fn pull(&self) -> (Pull, bool, Option<&str>) {
        (self.life.pull, self.life.quiet, self.life.platform.as_deref())
    }
}

/// What they make of the spec. `gone`: it goes with its end (`--rm`).
pub(super) fn apply(flags: &Flags, spec: ContainerSpec, gone: bool) -> Result<ContainerSpec, Fail> {
    not_yet(&[
        ("--disable-content-trust=false", !flags.disable_content_trust),
        ("--gpus", flags.gpus.is_some()),
        ("--runtime", flags.runtime.is_some()),
        ("--storage-opt", !flags.storage_opt.is_empty()),
        ("--use-api-socket", flags.use_api_socket),
    ])?;
    default_only("--isolation", flags.isolation.as_deref(), &["", "default"])?;
    default_only("--log-driver", flags.log_driver.as_deref(), &["", "json-file", "none"])?;
    if gone && flags.restart != Restart::No {
        return Err(Fail::new(125, "conflicting options: cannot specify both --restart and --rm"));
    }
    let mut spec = spec.restart(flags.restart);
    for (key, value) in labels(&flags.label_file)? {
        spec = spec.label(key, value);
    }
    if let Some(signal) = flags.stop_signal {
        spec = spec.stop_signal(signal);
    }
    if let Some(seconds) = flags.stop_timeout {
        // Below nought it waits for ever.
        spec = spec.stop_timeout(u64::try_from(seconds).map_or(Duration::MAX, Duration::from_secs));
    }
    if flags.init {
        spec = spec.init();
    }
    if let Some(name) = &flags.domainname {
        spec = spec.domainname(name);
    }
    spec = log(flags, spec)?;
    if let Some(platform) = flags.platform.as_ref().filter(|platform| !platform.is_empty()) {
        spec = spec.platform(platform);
    }
    for (key, value) in &flags.annotation {
        spec = spec.annotation(key, value);
    }
    health(&flags.health, spec)
}

/// docker's options of its `json-file` driver.
fn log(flags: &Flags, spec: ContainerSpec) -> Result<ContainerSpec, Fail> {
    let refuse = |why: String| Err(Fail::new(125, format!("run --log-opt: {why}")));
    let mut limits = LogLimits::default();
    for option in &flags.log_opt {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "max-size" => match crate::quantity::bytes(value) {
                Ok(0) | Err(_) if value != "-1" => {
                    return refuse(format!("invalid value for max-size: {value}"));
                }
                size => limits.max_size = size.ok(),
            },
            "max-file" => match value.parse() {
                Ok(files) if files > 0 => limits.max_files = files,
                _ => return refuse(format!("invalid value for max-file: {value}")),
            },
            "compress" if value == "false" => {}
            _ => return refuse(format!("unknown log opt '{name}' for json-file log driver")),
        }
    }
    Ok(match flags.log_driver.as_deref() {
        Some("none") => spec.no_log(),
        _ if flags.log_opt.is_empty() => spec,
        _ => spec.log(limits),
    })
}

fn health(flags: &Health, spec: ContainerSpec) -> Result<ContainerSpec, Fail> {
    let times = [
        ("--health-interval", flags.health_interval),
        ("--health-timeout", flags.health_timeout),
        ("--health-start-period", flags.health_start_period),
        ("--health-start-interval", flags.health_start_interval),
        ("--health-retries", flags.health_retries),
    ];
    if let Some((flag, _)) = times.iter().find(|(_, number)| number.is_some_and(|number| number < 0)) {
        return Err(Fail::new(125, format!("{flag} cannot be negative")));
    }
    let tuned = times.iter().any(|(_, number)| number.is_some_and(|number| number > 0));
    if flags.no_healthcheck {
        if tuned || flags.health_cmd.is_some() {
            return Err(Fail::new(125, "--no-healthcheck conflicts with --health-* options"));
        }
        return Ok(spec.no_health());
    }
    let command = flags.health_cmd.as_deref().filter(|command| !command.is_empty());
    if command.is_none() && !tuned {
        return Ok(spec);
    }
    let mut check = command.map_or_else(HealthCheck::of_image, HealthCheck::shell);
    // Zero is as if nothing was said.
    let given = |nanos: Option<i64>| {
        nanos.and_then(|nanos| u64::try_from(nanos).ok()).filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    };
    if let Some(interval) = given(flags.health_interval) {
        check = check.every(interval);
    }
    if let Some(timeout) = given(flags.health_timeout) {
        check = check.timeout(timeout);
    }
    if let Some(period) = given(flags.health_start_period) {
        check = check.start_period(period);
    }
    if let Some(interval) = given(flags.health_start_interval) {
        check = check.start_interval(interval);
    }
    if let Some(retries) = flags.health_retries.filter(|retries| *retries > 0) {
        check = check.retries(u32::try_from(retries).unwrap_or(u32::MAX));
    }
    Ok(spec.health(check))
}

/// The labels in files: one a line, `#` comments.
fn labels(files: &[String]) -> Result<Vec<(String, String)>, Fail> {
    let mut labels = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| Fail::new(125, format!("open({path:?}): {error}")))?;
        let lines =
            text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            labels.push(label(line).map_err(|why| Fail::new(125, format!("label file {path}: {why}")))?);
        }
    }
    Ok(labels)
}

/// `key=value`, or `key` with an empty value.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = crate::env::label(text);
    if key.is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    Ok((key, value))
}

fn annotation(text: &str) -> Result<(String, String), String> {
    match crate::env::label(text) {
        (key, _) if key.is_empty() => Err(format!("invalid annotation '{text}': empty name")),
        pair => Ok(pair),
    }
}

fn pull(text: &str) -> Result<Pull, String> {
    match text {
        "always" => Ok(Pull::Always),
        "missing" => Ok(Pull::Missing),
        "never" => Ok(Pull::Never),
        _ => {
            Err(format!("invalid pull option: '{text}': must be one of \"always\", \"missing\" or \"never\""))
        }
    }
}

fn signal(text: &str) -> Result<u8, String> {
    signal_number(text).ok_or_else(|| format!("invalid signal: {text}"))
}

pub(crate) fn restart(text: &str) -> Result<Restart, String> {
    let (name, most) = text.split_once(':').unwrap_or((text, ""));
    let most = match most {
        "" => 0,
        most => most.parse::<i64>().map_err(|_| {
            "invalid restart policy format: maximum retry count must be an integer".to_owned()
        })?,
    };
    let max = u32::try_from(most)
        .map_err(|_| "invalid restart policy: maximum retry count cannot be negative".to_owned())?;
    let policy = match name {
        "" | "no" => Restart::No,
        "always" => Restart::Always,
        "unless-stopped" => Restart::UnlessStopped,
        "on-failure" => return Ok(Restart::OnFailure { max }),
        _ => {
            return Err(format!(
                "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or \
                 'unless-stopped'"
            ));
        }
    };
    match max {
        0 => Ok(policy),
        _ => Err("invalid restart policy: maximum retry count can only be used with 'on-failure'".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_dockers() {
        let table = [
            ("no", Restart::No),
            ("", Restart::No),
            ("always", Restart::Always),
            ("unless-stopped", Restart::UnlessStopped),
            ("on-failure", Restart::OnFailure { max: 0 }),
            ("on-failure:3", Restart::OnFailure { max: 3 }),
        ];
        for (text, policy) in table {
            assert_eq!(restart(text), Ok(policy), "{text}");
        }
        for (text, problem) in [
            ("on-failure:x", "maximum retry count must be an integer"),
            ("a:b:c", "maximum retry count must be an integer"),
            ("on-failure:-1", "cannot be negative"),
            ("always:3", "can only be used with 'on-failure'"),
            ("foo", "unknown policy 'foo'; use one of"),
        ] {
            assert!(restart(text).unwrap_err().contains(problem), "{text}");
        }
    }

    #[test]
    fn words_are_dockers() {
        assert_eq!(signal("SIGUSR1"), Ok(10));
        assert_eq!(signal("FOO").unwrap_err(), "invalid signal: FOO");
        assert_eq!(
            pull("foo").unwrap_err(),
            "invalid pull option: 'foo': must be one of \"always\", \"missing\" or \"never\""
        );
        assert_eq!(label("=x").unwrap_err(), "invalid label '=x': empty name");
        assert_eq!(label("d=e=f"), Ok(("d".into(), "e=f".into())));
    }
}
