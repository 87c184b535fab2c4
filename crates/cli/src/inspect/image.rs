//! Images as docker's JSON.

use coracle::Image;

use crate::template::Value;

/// What docker tells of an image, as far as the engine tells it.
pub(crate) fn describe(image: &Image) -> Value {
    Value::fields([
        ("Id", image.id().into()),
        ("RepoTags", Value::list(image.names())),
        ("Created", image.created().unwrap_or_default().into()),
        ("Size", image.size().into()),
    ])
}
