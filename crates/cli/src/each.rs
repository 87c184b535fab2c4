//! The same for each of several names: every one is tried, every failure is told.

use coracle::{Container, Engine};

use crate::fail::{Done, Fail};

/// Does it for each name and prints the name, or what failed. The status is 1 if anything did.
pub(crate) fn each(names: &[String], mut act: impl FnMut(&str) -> Result<(), Fail>) -> Done {
    each_printing(names, |name| act(name).map(|()| name.to_owned()))
}

/// [`each`], printing what comes of it instead of the name.
pub(crate) fn each_printing(names: &[String], mut act: impl FnMut(&str) -> Result<String, Fail>) -> Done {
    let mut status = 0;
    for name in names {
        match act(name) {
            Ok(text) if text.is_empty() => {}
            Ok(text) => crate::out::line(text)?,
            Err(fail) => {
                fail.print();
                status = status.max(fail.status());
            }
        }
    }
    Ok(status)
}

/// The container of that name or id.
pub(crate) fn container(engine: &Engine, name: &str) -> Result<Container, Fail> {
    engine.find(name)?.ok_or_else(|| Fail::missing("container", name))
}
