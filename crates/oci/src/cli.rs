//! The command line, as runc's callers know it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::error::{Error, Result};

/// Lines that callers read: the program's version, and the specification's.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.2.1");

/// An OCI runtime.
#[derive(Parser)]
#[command(name = "coracle-oci", version = VERSION, disable_version_flag = true, args_override_self = true)]
pub(crate) struct Cli {
    /// Where the state of containers is kept.
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// A file that errors and warnings are appended to.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// What the lines of the log look like.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Accepted for callers that give it; there is no more to say.
    #[arg(long, global = true)]
    debug: bool,
    /// Have systemd make the control group, a scope: `linux.cgroupsPath` is `slice:prefix:name` then.
    #[arg(long, global = true)]
    pub(crate) systemd_cgroup: bool,
    /// Whether the caller is not root: `auto` or `false`.
    #[arg(long, global = true, value_name = "WHETHER")]
    rootless: Option<String>,
    /// Print versions.
    #[arg(short = 'v', long, action = clap::ArgAction::Version)]
    version: (),
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Make a container, all but its program.
    Create(Create),
    /// Let the program of a created container go.
    Start { id: String },
    /// Create, start, wait and delete.
    Run(Run),
    /// Say what a container is like, as JSON.
    State { id: String },
    /// All containers below the root.
    List {
        /// Table or JSON.
        #[arg(short, long, value_enum, default_value = "table")]
        format: Format,
        /// Ids only.
        #[arg(short, long)]
        quiet: bool,
    },
    /// Send a signal.
    Kill {
        id: String,
        /// By number or name.
        #[arg(default_value = "SIGTERM")]
        signal: String,
        /// To every process of the container.
        #[arg(short, long)]
        all: bool,
    },
    /// Remove what is left of a stopped container.
    Delete {
        id: String,
        /// Kill it first; that there is none is fine.
        #[arg(short, long)]
        force: bool,
    },
    /// A further process in a container.
    Exec(Box<Exec>),
    /// The processes of a container.
    Ps {
        id: String,
        /// Table or JSON.
        #[arg(short, long, value_enum, default_value = "table")]
        format: Format,
        /// Options of ps(1), for callers that give them; the columns are the same.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        options: Vec<String>,
    },
    /// Stop all processes of a container.
    Pause { id: String },
    /// Let them go on.
    Resume { id: String },
    /// Change limits.
    Update(Box<Update>),
    /// Figures and lack of memory, a line of JSON each.
    Events {
        id: String,
        /// Figures once, and no more.
        #[arg(long)]
        stats: bool,
        /// Seconds (or 5s, 500ms) between figures.
        #[arg(long, default_value = "5s")]
        interval: String,
    },
    /// What this runtime can do, as JSON (features.md).
    Features,
    /// Write an example of a config.json.
    Spec {
        /// Where.
        #[arg(short, long, default_value = ".")]
        bundle: PathBuf,
    },
}

#[derive(Args)]
pub(crate) struct Create {
    pub(crate) id: String,
    /// The directory with config.json.
    #[arg(short, long, default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// A unix socket that gets the terminal.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// A file that gets the number of the container's first process.
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Enter the root by chroot(2), where the caller's own root is one that can't be pivoted from.
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Accepted: no session keyring is made.
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// So many descriptors behind the standard ones are passed on.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) preserve_fds: u32,
}

#[derive(Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) create: Create,
    /// Don't wait.
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Leave the stopped container.
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Args)]
pub(crate) struct Exec {
    pub(crate) id: String,
    /// A file with the process (config.md, "Process").
    #[arg(short, long, value_name = "FILE")]
    pub(crate) process: Option<PathBuf>,
    /// Don't wait.
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// A file that gets the number of the process.
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// A unix socket that gets the terminal.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// With a terminal.
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Its working directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// A variable of its environment.
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Who it is: uid or uid:gid.
    #[arg(short, long, value_name = "UID[:GID]")]
    pub(crate) user: Option<String>,
    /// Its further groups.
    #[arg(short = 'g', long, value_name = "GID")]
    pub(crate) additional_gids: Vec<u32>,
    /// It gains no rights by exec.
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// So many descriptors behind the standard ones are passed on.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) preserve_fds: u32,
    /// Also where the container is paused.
    #[arg(long)]
    pub(crate) ignore_paused: bool,
    /// What to execute.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Update {
    pub(crate) id: String,
    /// A file with the resources (config-linux.md, "Control groups"); `-` for standard input.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) resources: Option<PathBuf>,
    /// Bytes.
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) memory: Option<i64>,
    /// Bytes.
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) memory_reservation: Option<i64>,
    /// Bytes, memory and swap together.
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) memory_swap: Option<i64>,
    /// Processes and threads.
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Relative share of processor time.
    #[arg(long, visible_alias = "cpu-share")]
    pub(crate) cpu_shares: Option<u64>,
    /// Microseconds in a period.
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Microseconds.
    #[arg(long)]
    pub(crate) cpu_period: Option<u64>,
    /// Processors, such as 0-2,7.
    #[arg(long)]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes, such as 0-1.
    #[arg(long)]
    pub(crate) cpuset_mems: Option<String>,
    /// Relative share of disk time, 10 to 1000.
    #[arg(long)]
    pub(crate) blkio_weight: Option<u16>,
}

impl Cli {
    /// What is asked for and not done.
    pub(crate) fn refuse(&self) -> Result<()> {
        match self.rootless.as_deref() {
            None | Some("auto" | "false") => Ok(()),
            Some(other) => Err(Error::new(format!("--rootless {other}: not supported"))),
        }
    }

    /// `--root`, or where the state of containers is by default: in memory that a reboot empties.
    pub(crate) fn root(&self) -> Result<PathBuf> {
        if let Some(root) = &self.root {
            return Ok(root.clone());
        }
        if rustix::process::geteuid().is_root() {
            return Ok("/run/coracle-oci".into());
        }
        let dir = std::env::var_os("XDG_RUNTIME_DIR");
        let dir = dir.ok_or_else(|| Error::new("--root is needed where XDG_RUNTIME_DIR is not set"))?;
        Ok(PathBuf::from(dir).join("coracle-oci"))
    }
}
