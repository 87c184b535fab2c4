//! What is mounted where in a container: the mounts of its spec, of others' that it shares, and of its image's VOLUMEs.

use std::path::{Path, PathBuf};

use coracle_build::RunConfig;

use super::mount::{Mount, Source, same_place};
use super::record::Record;
use super::room;
use super::spec::ContainerSpec;
use crate::Kind;
use crate::engine::Inner;
use crate::error::{Error, Result};

/// Another container whose mounts are wanted, too, and whether they are to be read-only here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct From {
    pub(crate) container: String,
    pub(crate) read_only: bool,
}

/// What is wrong with the mounts of a spec, as far as that can be told without its image: first what is invalid, then
/// what is not there.
pub(crate) fn problems(engine: &Inner, spec: &ContainerSpec) -> Result<(Vec<String>, Vec<String>)> {
    let (mut invalid, mut missing) = (Vec::new(), Vec::new());
    for (index, mount) in spec.mounts.iter().enumerate() {
        let own = mount.problems();
        if own.is_empty() && spec.mounts[..index].iter().any(|other| same_place(&other.at, &mount.at)) {
            invalid.push(format!("Duplicate mount point: {}", mount.at.display()));
        }
        if own.is_empty() {
            match source_problem(engine, mount)? {
                Some((Kind::NotFound, text)) => missing.push(text),
                Some((_, text)) => invalid.push(text),
                None => {}
            }
        }
        invalid.extend(own);
    }
    for from in &spec.volumes_from {
        if room::find(engine, &from.container)?.is_none() {
            missing.push(format!("no such container: {}", from.container));
        }
    }
    Ok((invalid, missing))
}

fn source_problem(engine: &Inner, mount: &Mount) -> Result<Option<(Kind, String)>> {
    if mount.relabel && Path::exists(Path::new("/sys/fs/selinux/enforce")) {
        let text = format!("mount at {:?}: labels of SELinux are not supported", mount.at);
        return Ok(Some((Kind::Unsupported, text)));
    }
    Ok(match &mount.source {
        Source::Bind(path) if !mount.create && !Path::exists(path) => {
            let at = path.display();
            let text =
                format!("invalid mount config for type \"bind\": bind source path does not exist: {at}");
            Some((Kind::Invalid, text))
        }
        Source::Volume(name) => match engine.volumes.find(name) {
            Ok(_) => engine
                .volumes
                .check(&mount.volume_spec(name))
                .err()
                .map(|error| (error.kind(), error.to_string())),
            Err(error) if error.kind() == Kind::Invalid => Some((Kind::Invalid, error.to_string())),
            Err(error) => return Err(error.into()),
        },
        Source::Image(name) => match engine.store.image(name) {
            Ok(Some(_)) => None,
            Ok(None) => Some((Kind::NotFound, format!("no such image: {name}"))),
            Err(error) if error.kind() == Kind::Invalid => Some((Kind::Invalid, error.to_string())),
            Err(error) => return Err(error.into()),
        },
        Source::Clone(name) => match engine.volumes.find(name) {
            Ok(Some(base)) if base.is_frozen()? => None,
            Ok(Some(_)) => Some((
                Kind::Invalid,
                format!("volume `{name}` is not frozen: freeze it, or clone it by name"),
            )),
            Ok(None) => Some((Kind::NotFound, format!("no such volume: {name}"))),
            Err(error) if error.kind() == Kind::Invalid => Some((Kind::Invalid, error.to_string())),
            Err(error) => return Err(error.into()),
        },
        Source::Anonymous => {
            let checked = engine.volumes.check(&mount.volume_spec("anonymous"));
            checked.err().map(|error| (error.kind(), error.to_string()))
        }
        Source::Bind(_) | Source::Tmpfs => None,
    })
}

/// All mounts of a container that is about to be, with nothing left to be looked up or drawn.
pub(crate) fn resolve(engine: &Inner, spec: &ContainerSpec, config: &RunConfig) -> Result<Vec<Mount>> {
    let mut mounts = spec.mounts.clone();
    // Those it shares give way to its own, and the earlier of two to the later.
    let mut shared: Vec<Mount> = Vec::new();
    for from in &spec.volumes_from {
        for mount in of(engine, from)? {
            shared.retain(|other| !same_place(&other.at, &mount.at));
            shared.push(mount);
        }
    }
    shared.retain(|mount| !mounts.iter().any(|own| same_place(&own.at, &mount.at)));
    mounts.extend(shared);
    let mut declared: Vec<PathBuf> = config.volumes.keys().map(PathBuf::from).collect();
    declared.retain(|at| at.is_absolute() && at.parent().is_some());
    declared.sort();
    for at in declared {
        if !mounts.iter().any(|mount| same_place(&mount.at, &at)) {
            mounts.push(Mount::anonymous(at));
        }
    }
    for mount in &mut mounts {
        match &mount.source {
            Source::Anonymous | Source::Clone(_) => {
                if let Source::Clone(base) = &mount.source {
                    mount.base = Some(base.clone());
                }
                mount.source = Source::Volume(coracle_host::random_hex(32)?);
                mount.drawn = true;
            }
            Source::Image(name) => {
                let image = engine.store.image(name)?;
                let gone = || Error::new(Kind::NotFound, format!("no such image: {name}"));
                mount.layers = image.ok_or_else(gone)?.layers().to_vec();
            }
            _ => {}
        }
    }
    Ok(mounts)
}

/// The volumes and binds of another container.
fn of(engine: &Inner, from: &From) -> Result<Vec<Mount>> {
    let gone = || Error::new(Kind::NotFound, format!("no such container: {}", from.container));
    let mut mounts = Record::read(&room::find(engine, &from.container)?.ok_or_else(gone)?)?.mounts;
    mounts.retain(|mount| matches!(mount.source, Source::Volume(_) | Source::Bind(_)));
    for mount in &mut mounts {
        // It stays the other one's: it is removed with that, if nobody else has it then.
        mount.drawn = false;
        mount.read_only |= from.read_only;
    }
    Ok(mounts)
}

/// A mount inside another one comes after it.
pub(crate) fn in_order(record: &Record) -> Vec<&Mount> {
    let mut all: Vec<&Mount> = record.mounts.iter().collect();
    all.sort_by_key(|mount| mount.at.components().count());
    all
}
