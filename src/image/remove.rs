//! Removing images, and which of them are in use.

use coracle_layers::Reference;

use super::Image;
use crate::error::{Doing, Error, Result};
use crate::{Container, Engine, Kind, State};

/// What [`Engine::remove_image`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemovedImage {
    /// The names that are gone, in the short form.
    pub untagged: Vec<String>,
    /// The id of the image, if that was its last name.
    pub deleted: Option<String>,
}

/// How an image is named by who wants it removed, and what stands in the way of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conflict {
    /// The last name of an image that a container is of.
    LastName,
    Several,
    Running,
    Stopped,
}

impl Engine {
    /// Takes a name from an image. With its last name the image goes; its layers stay until they are collected. An id stands
    /// for the image and its name.
    ///
    /// # Errors
    /// `NotFound`; `InUse` for the last name or the id of an image that a container is of, and for an id whose image has
    /// several names.
    pub fn remove_image(&self, name: &str) -> Result<RemovedImage> {
        self.remove_checked(name, false).doing(|| format!("remove image `{name}`"))
    }

    /// [`Engine::remove_image`], also of what containers that have ended are of, and of an id with all of its image's names.
    /// Of an image that runs, the last name is taken, and the image stays.
    ///
    /// # Errors
    /// `NotFound`; `InUse` for the id of an image that a running container is of.
    pub fn force_remove_image(&self, name: &str) -> Result<RemovedImage> {
        self.remove_checked(name, true).doing(|| format!("remove image `{name}`"))
    }

    /// Removes the images, named or not, that `wanted` picks and no container is of. What is taken into use meanwhile
    /// stays.
    ///
    /// # Errors
    /// The first failure, after all were tried.
    pub fn prune_images(&self, mut wanted: impl FnMut(&Image) -> bool) -> Result<Vec<RemovedImage>> {
        let used: Vec<String> = self.containers()?.iter().map(|one| one.image_id().to_owned()).collect();
        let mut removed = Vec::new();
        let mut failure = None;
        for image in self.images()? {
            if used.contains(&image.id()) || !wanted(&image) {
                continue;
            }
            match self.0.store.remove(&image.id(), true) {
                Ok(one) => removed.push(told(one)),
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(removed), |error| Err(error).doing(|| "prune images"))
    }

    fn remove_checked(&self, text: &str, force: bool) -> Result<RemovedImage> {
        let missing = || Error::new(Kind::NotFound, format!("no such image: {text}"));
        let image = self.image(text)?.ok_or_else(missing)?;
        let (tags, digests) = (image.stored.names(), image.stored.digests());
        let is_name = |name: &Reference| tags.contains(name) || digests.contains(name);
        let name = text.parse::<Reference>().ok().filter(is_name);
        // What it was pulled under keeps an image only where it is what goes.
        let pinned = name.as_ref().is_some_and(|name| name.digest().is_some());
        let names = tags.len() + if pinned { digests.len() } else { 0 };
        let id = image.id();
        let users: Vec<Container> =
            self.containers()?.into_iter().filter(|container| container.image_id() == id).collect();
        let running = |container: &&Container| container.state().is_ok_and(State::is_alive);
        let by = users.iter().find(running);
        let conflict = conflict(name.is_some(), names, by.is_some(), !users.is_empty(), force);
        if let Some(conflict) = conflict {
            let user = by.or(users.first()).map_or("", |container| &container.id()[..12]);
            return Err(Error::new(Kind::InUse, sentence(conflict, text, &id[7..19], user)));
        }
        if let Some(name) = name.filter(|_| by.is_some()) {
            // It runs: the image itself stays, without a name.
            self.0.store.untag(&name)?;
            return Ok(RemovedImage { untagged: vec![name.familiar()], deleted: None });
        }
        Ok(told(self.0.store.remove(text, force)?))
    }
}

/// Docker's rules. A name goes unless it is the last one of an image in use, and that one goes by force; an id goes unless
/// there is more than it, or by force, but never while the image runs.
fn conflict(by_name: bool, names: usize, running: bool, used: bool, force: bool) -> Option<Conflict> {
    match (by_name, force) {
        (true, true) => None,
        (true, false) => (names == 1 && used).then_some(Conflict::LastName),
        (false, _) if running => Some(Conflict::Running),
        (false, true) => None,
        (false, false) if names > 1 => Some(Conflict::Several),
        (false, false) => used.then_some(Conflict::Stopped),
    }
}

fn sentence(conflict: Conflict, text: &str, id: &str, user: &str) -> String {
    match conflict {
        Conflict::LastName => format!(
            "conflict: unable to remove repository reference \"{text}\" (must force) - container {user} is using its \
             referenced image {id}"
        ),
        Conflict::Several => format!(
            "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories"
        ),
        Conflict::Running => format!(
            "conflict: unable to delete {id} (cannot be forced) - image is being used by running container {user}"
        ),
        Conflict::Stopped => format!(
            "conflict: unable to delete {id} (must be forced) - image is being used by stopped container {user}"
        ),
    }
}

fn told(removed: coracle_layers::Removed) -> RemovedImage {
    RemovedImage {
        untagged: removed.untagged.iter().map(Reference::familiar).collect(),
        deleted: removed.deleted.map(|id| id.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_way() {
        use Conflict::{LastName, Running, Several, Stopped};
        // by name, names, running, used, force
        let table = [
            ((true, 1, false, false, false), None),
            ((true, 1, false, true, false), Some(LastName)),
            ((true, 1, true, true, false), Some(LastName)),
            ((true, 2, true, true, false), None),
            ((true, 1, true, true, true), None),
            ((false, 0, false, false, false), None),
            ((false, 1, false, false, false), None),
            ((false, 2, false, false, false), Some(Several)),
            ((false, 2, false, false, true), None),
            ((false, 1, false, true, false), Some(Stopped)),
            ((false, 1, false, true, true), None),
            ((false, 1, true, true, false), Some(Running)),
            ((false, 2, true, true, true), Some(Running)),
        ];
        for ((by_name, names, running, used, force), expected) in table {
            let got = conflict(by_name, names, running, used, force);
            assert_eq!(got, expected, "{by_name} {names} {running} {used} {force}");
        }
    }
}
