//! Templates: a prepared container, to start any number of others from.

use std::path::{Path, PathBuf};

use coracle_volume::{Filter, VolumeSpec};

use crate::container::{CommitSpec, Container, ContainerSpec, Mount, Source};
use crate::error::{Doing, Error, Result};
use crate::{Engine, Image, Kind};

/// On each of a template's volumes: the id of its image.
const OF: &str = "coracle.template";
/// And where it is mounted.
const AT: &str = "coracle.template.at";
/// And whether read-only.
const READ_ONLY: &str = "coracle.template.read-only";

/// The file system and the volumes of a container as they were at one moment: an image, and frozen volumes that know
/// that they go with it. Containers started from it have clones of the volumes, made at once whatever their size; none
/// of them sees what another one changes.
///
/// ```no_run
/// # use coracle::{ContainerSpec, Engine, Ready, tcp};
/// # fn main() -> coracle::Result<()> {
/// # let engine = Engine::open("/var/lib/example")?;
/// let template = match engine.template("shop-db")? {
///     Some(prepared) => prepared,
///     None => {
///         let database = ContainerSpec::new("postgres:16").ready(Ready::port(tcp(5432)));
///         let first = engine.start(&database.volume("shop-db-data", "/var/lib/postgresql/data"))?;
///         // ... fill it ...
///         first.stop(None)?;
///         first.freeze("shop-db")?
///     }
/// };
/// let mine = engine.start(&template.spec().publish(tcp(5432)))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Template {
    image: Image,
    name: String,
    volumes: Vec<Frozen>,
}

#[derive(Clone, Debug)]
struct Frozen {
    name: String,
    at: PathBuf,
    read_only: bool,
}

impl Container {
    /// Makes a template of it, once it has ended: an image of this name, and frozen copies of its volumes. Files share
    /// their blocks with it where the file system can; else this takes as long as to copy them, once. It can be
    /// started again, and changes nothing of the template by that.
    ///
    /// # Errors
    /// `InUse` while it runs, or somebody else has one of its volumes; `AlreadyExists` where there is an image of that
    /// name; `Invalid` for a name that no image can have. Nothing is left of a template that was not made.
    pub fn freeze(&self, name: &str) -> Result<Template> {
        let doing = || format!("freeze container `{}` as `{name}`", self.name());
        if self.state().doing(doing)?.is_alive() {
            let text = format!("{}: it is running; stop it first", doing());
            return Err(Error::new(Kind::InUse, text));
        }
        let engine = self.engine();
        if engine.image(name).doing(doing)?.is_some() {
            let text = format!("{}: there is an image of that name", doing());
            return Err(Error::new(Kind::AlreadyExists, text));
        }
        // Named last: what has its name is whole.
        let image = self.commit(CommitSpec::new()).doing(doing)?;
        let made = copies(engine, self.mounts(), &image.id(), name).and_then(|volumes| {
            let image = engine.tag(&image, name)?;
            Ok(Template { image, name: name.to_owned(), volumes })
        });
        made.map_err(|failure| {
            let removed = remove_volumes(engine, &image.id()).and(engine.remove_image(&image.id()).map(drop));
            match removed {
                Ok(()) => failure,
                Err(also) => failure.and(&also),
            }
            .context(doing())
        })
    }
}

/// Frozen copies of the volumes among `mounts`.
fn copies(engine: &Engine, mounts: &[Mount], image: &str, name: &str) -> Result<Vec<Frozen>> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let prefix: String = name.chars().map(plain).skip_while(|c| *c == '-').take(200).collect();
    let mut made = Vec::new();
    for mount in mounts {
        let Source::Volume(volume) = mount.source() else { continue };
        let own = format!("{prefix}-{}", coracle_host::random_hex(6)?);
        let mut spec =
            VolumeSpec::new(&own).label(OF, image).label(AT, mount.at().to_string_lossy().into_owned());
        if mount.is_read_only() {
            spec = spec.label(READ_ONLY, "");
        }
        engine.0.volumes.snapshot(volume, &spec)?;
        made.push(Frozen { name: own, at: mount.at().to_owned(), read_only: mount.is_read_only() });
    }
    Ok(made)
}

fn volumes_of(engine: &Engine, image: &str) -> Result<Vec<coracle_volume::Volume>> {
    let filter = Filter::Label(OF.to_owned(), Some(image.to_owned()));
    Ok(engine.0.volumes.list_where(&[filter], |_| false)?.into_iter().collect::<Result<_, _>>()?)
}

fn remove_volumes(engine: &Engine, image: &str) -> Result<()> {
    for volume in volumes_of(engine, image)? {
        match engine.0.volumes.remove(volume.name()) {
            Err(error) if error.kind() != Kind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

impl Engine {
    /// The template of that name, whichever program made it. An image that was made in another way is one without
    /// volumes.
    ///
    /// # Errors
    /// `Invalid` for a name that no image can have; `Corrupt` where a volume's record can't be read.
    pub fn template(&self, name: &str) -> Result<Option<Template>> {
        let Some(image) = self.image(name)? else { return Ok(None) };
        let volumes = volumes_of(self, &image.id())?.into_iter().map(|volume| Frozen {
            name: volume.name().to_owned(),
            at: volume.labels().get(AT).map(PathBuf::from).unwrap_or_default(),
            read_only: volume.labels().contains_key(READ_ONLY),
        });
        let volumes = volumes.collect();
        Ok(Some(Template { image, name: name.to_owned(), volumes }))
    }

    /// Removes a template: its volumes and its image.
    ///
    /// # Errors
    /// `NotFound`; `InUse` while there is a container that was started from it.
    pub fn remove_template(&self, name: &str) -> Result<()> {
        let doing = || format!("remove template `{name}`");
        let image = self.image(name).doing(doing)?;
        let image = image.ok_or_else(|| Error::new(Kind::NotFound, format!("{}: no such image", doing())))?;
        remove_volumes(self, &image.id()).doing(doing)?;
        self.remove_image(name).map(drop).doing(doing)
    }
}

impl Template {
    /// Its name, which is its image's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its image.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Its frozen volumes, with the place of each.
    pub fn volumes(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.volumes.iter().map(|volume| (volume.name.as_str(), volume.at.as_path()))
    }

    /// A container that begins as the template is, with the command, the user and the environment of the one that was
    /// frozen, and clones of its volumes, which go with it. Networks, ports, limits, binds and memory are to be added.
    pub fn spec(&self) -> ContainerSpec {
        self.volumes.iter().fold(ContainerSpec::new(&self.name), |spec, volume| {
            let mount = Mount::clone_of(&volume.name, &volume.at);
            spec.mount(if volume.read_only { mount.read_only() } else { mount })
        })
    }
}
