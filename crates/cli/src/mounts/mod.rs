//! `-v`, `--mount`, `--tmpfs` and `--volumes-from`.

mod long;
mod short;

use std::path::{Path, PathBuf};

use coracle::ContainerSpec;

use crate::fail::Fail;

/// The flags that put data in a container; of `run` and `create`.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Flags {
    /// Attach a filesystem mount to the container
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<String>,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Bind mount a volume
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    volume: Vec<String>,
    /// Optional volume driver for the container
    #[arg(long, value_name = "DRIVER")]
    volume_driver: Option<String>,
    /// Mount volumes from the specified container(s)
    #[arg(long, value_name = "CONTAINER[:ro]")]
    volumes_from: Vec<String>,
}

/// Puts what the flags say in the spec.
pub(crate) fn apply(args: &Flags, spec: ContainerSpec) -> Result<ContainerSpec, Fail> {
    let here = || std::env::current_dir().unwrap_or_default();
    let mut spec = spec;
    for text in &args.volume {
        let driver = args.volume_driver.as_deref();
        spec = spec
            .mount(short::volume(text, driver, &here()).map_err(|why| refusal("-v, --volume", text, why))?);
    }
    for text in &args.mount {
        spec = spec.mount(long::mount(text, &here()).map_err(|why| refusal("--mount", text, why))?);
    }
    for text in &args.tmpfs {
        spec = spec.mount(short::tmpfs(text).map_err(|why| refusal("--tmpfs", text, why))?);
    }
    for text in &args.volumes_from {
        let (container, read_only) =
            short::volumes_from(text).map_err(|why| refusal("--volumes-from", text, why))?;
        spec = match read_only {
            true => spec.volumes_from_read_only(container),
            false => spec.volumes_from(container),
        };
    }
    Ok(spec)
}

fn refusal(flag: &str, text: &str, why: String) -> Fail {
    Fail::new(125, format!("invalid argument {text:?} for {flag:?} flag: {why}"))
}

/// A path of the host; one that begins with a dot is relative to `here`, as docker has it.
fn host_path(text: &str, here: &Path) -> PathBuf {
    let path = Path::new(text);
    if path.is_absolute() || !text.starts_with('.') {
        return path.to_owned();
    }
    let mut whole = PathBuf::new();
    for part in here.join(path).components() {
        match part {
            std::path::Component::ParentDir => drop(whole.pop()),
            std::path::Component::CurDir => {}
            part => whole.push(part),
        }
    }
    whole
}

fn target(text: &str) -> Result<PathBuf, String> {
    if !text.starts_with('/') {
        return Err(format!("invalid mount path: '{text}' mount path must be absolute"));
    }
    if Path::new(text).parent().is_none() {
        return Err("invalid specification: destination can't be '/'".into());
    }
    Ok(Path::new(text).to_owned())
}

fn wants_name(name: &str) -> Result<(), String> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first
        && name.len() > 1
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    {
        return Ok(());
    }
    Err(format!(
        "{name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. \
         If you intended to pass a host directory, use absolute path"
    ))
}
