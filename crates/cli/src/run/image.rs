//! The image that `coracle run` needs: here, or pulled (`--pull`).

use coracle::{Engine, Image, Reference};

use super::Flags;
use super::life::Pull;
use crate::fail::Fail;
use crate::images;

/// The engine, with the image in it as far as the flags want it brought. What is missing then is the start's to say.
pub(super) fn open(flags: &Flags, image: &str) -> Result<Engine, Fail> {
    let engine = Engine::open_default().map_err(|error| Fail::starting(&error))?;
    let (when, quiet, platform) = flags.pull();
    let platform = images::platform(platform).map_err(|fail| fail.with(125))?;
    let say = |line: String| {
        if !quiet {
            crate::out::say(line);
        }
    };
    // An id is in no registry, and what is no name is refused with all else that is wrong.
    let Some(name) = name(image).filter(|_| when != Pull::Never) else { return Ok(engine) };
    if when == Pull::Missing {
        // So is what an image has that can't be read.
        let Ok(found) = engine.image(image) else { return Ok(engine) };
        let fits = |image: &Image| platform.as_ref().is_none_or(|wanted| image.is_for(wanted));
        if found.as_ref().is_some_and(fits) {
            return Ok(engine);
        }
        say(format!("Unable to find image '{}' locally", name.familiar()));
    }
    images::fetch(&engine, &name, platform, say).map_err(|fail| fail.with(125))?;
    Ok(engine)
}

fn name(image: &str) -> Option<Reference> {
    let digits = image.strip_prefix("sha256:").unwrap_or(image);
    let is_id = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    image.parse().ok().filter(|_| !is_id)
}
