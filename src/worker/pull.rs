//! Images that a build names, from their registries.

use coracle_build::{Base, Error, Event, Pull, PullProgress};
use coracle_layers::registry::{PullEvent, PullOptions};
use coracle_layers::{ImageId, Reference};

use super::{Builder, Snapshot};
use crate::Kind;
use crate::error::Result;

impl Builder<'_> {
    pub(super) fn pulled(
        &self,
        name: &str,
        when: Pull,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<Base<Snapshot>, Error> {
        // An id is no name, even where it looks like one.
        let reference = match name.parse::<ImageId>() {
            Ok(_) => None,
            Err(_) => name.parse::<Reference>().ok(),
        };
        let (Some(reference), true) = (reference, when != Pull::Never) else { return self.here(name) };
        let missing = match when {
            Pull::Missing => match self.here(name) {
                Err(error) if error.kind() == Kind::NotFound => Some(error),
                other => return other,
            },
            _ => None,
        };
        match self.ask(&reference, tell) {
            Ok(id) => self.here(&id),
            Err(error) => Err(match missing {
                Some(missing) => Error::new(error.kind(), format!("{missing}: {error}")),
                None => Error::new(error.kind(), error),
            }),
        }
    }

    /// Has it pulled; its id.
    fn ask(&self, name: &Reference, tell: &mut dyn FnMut(&Event)) -> Result<String> {
        let image = name.to_string();
        let mut tell = |progress| tell(&Event::Pull { image: image.clone(), progress });
        tell(PullProgress::Asked);
        let pulled = self.fetch(name, &mut |event| match *event {
            PullEvent::Resolved { digest } => tell(PullProgress::Resolved { digest: digest.to_string() }),
            PullEvent::Fetching { layer, bytes, of } => {
                tell(PullProgress::Layer { digest: layer.to_string(), bytes, of });
            }
            _ => {}
        });
        tell(match &pulled {
            Ok(_) => PullProgress::Done,
            Err(error) => PullProgress::Failed { message: error.to_string() },
        });
        Ok(pulled?.image.id().to_string())
    }

    fn fetch(
        &self,
        name: &Reference,
        event: &mut dyn FnMut(&PullEvent),
    ) -> Result<coracle_layers::registry::Pulled> {
        let mut options = PullOptions::new(self.engine.registries.options(name)?);
        if let Some(cancel) = self.cancel.clone() {
            options = options.cancelled_by(move || cancel.is_cancelled());
        }
        Ok(self.engine.store.pull(name, &options, event)?)
    }
}
