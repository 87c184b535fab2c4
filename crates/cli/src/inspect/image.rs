//! Images as docker's JSON, under docker's names and in its order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coracle::{Image, ImageConfig};

use super::config;
use crate::fail::Fail;
use crate::template::Value;

/// What docker has for a time that nobody knows.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What docker tells of an image.
pub(crate) fn describe(image: &Image) -> Result<Value, Fail> {
    let config = image.config()?;
    let comment = config.history.last().and_then(|step| step.comment().clone());
    let mut fields: Vec<(&str, Value)> = vec![
        ("Id", image.id().into()),
        ("RepoTags", Value::list(image.names())),
        ("RepoDigests", Value::list(digests(image))),
        ("Parent", "".into()),
        ("Comment", comment.unwrap_or_default().into()),
        ("Created", image.created().unwrap_or_else(|| NEVER.into()).into()),
        ("DockerVersion", "".into()),
        ("Author", config.author.clone().unwrap_or_default().into()),
        ("Config", config::config(&config.config, None)),
        ("Architecture", config.architecture.to_string().into()),
    ];
    fields.extend(config.variant.clone().map(|variant| ("Variant", variant.into())));
    fields.extend([
        ("Os", config.os.to_string().into()),
        ("Size", image.size().into()),
        ("GraphDriver", driver(image.trees(), None)),
        ("RootFS", root(&config)),
        ("Metadata", Value::fields([("LastTagTime", named(image).into())])),
    ]);
    Ok(Value::fields(fields))
}

/// Names that mean this very image, one for each repository: what registries had it under, and what it would be there.
fn digests(image: &Image) -> Vec<String> {
    let mut pulled = image.registry_digests();
    let of = |name: &str| name.split('@').next().unwrap_or_default().to_owned();
    let known: Vec<String> = pulled.iter().map(|name| of(name)).collect();
    let names = image.names();
    let mut digests: Vec<String> =
        names.iter().filter_map(|name| name.rsplit_once(':')).map(|(name, _)| name.to_owned()).collect();
    digests.dedup();
    digests.retain(|name| !known.contains(name));
    pulled.extend(digests.iter().map(|name| format!("{name}@{}", image.digest())));
    pulled
}

fn named(image: &Image) -> String {
    image.named().map_or_else(
        || NEVER.into(),
        |time| jiff::Timestamp::try_from(time).map_or_else(|_| NEVER.into(), |time| time.to_string()),
    )
}

/// Where the trees are, as overlay2 tells it: that of the highest layer, or of the container in this directory, and those
/// below.
pub(super) fn driver(mut trees: Vec<PathBuf>, container: Option<&Path>) -> Value {
    let mut data = BTreeMap::new();
    let upper = match container {
        Some(room) => {
            data.insert("WorkDir".to_owned(), room.join("work").display().to_string());
            Some(room.join("upper"))
        }
        None => trees.pop(),
    };
    data.extend(upper.map(|upper| ("UpperDir".to_owned(), upper.display().to_string())));
    if !trees.is_empty() {
        let lower: Vec<String> = trees.iter().rev().map(|path| path.display().to_string()).collect();
        data.insert("LowerDir".to_owned(), lower.join(":"));
    }
    Value::fields([("Data", (&data).into()), ("Name", Value::from("overlay2"))])
}

fn root(config: &ImageConfig) -> Value {
    let mut fields = vec![("Type", Value::from("layers"))];
    let layers = config.rootfs.diff_ids();
    if !layers.is_empty() {
        fields.push(("Layers", Value::list(layers)));
    }
    Value::fields(fields)
}
