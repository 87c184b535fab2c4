//! What an archive's index or manifest lists: which images, of which members, under which names. Touches nothing.

use coracle_host::Kind;
use oci_spec::image::{Descriptor, ImageIndex};

use super::members::{Members, absent};
use super::{INDEX, LAYOUT, Listed, MANIFEST};
use crate::document::{DEEPEST, Document};
use crate::names::{IMAGE_NAME, REF_NAME};
use crate::{Digest, Error, Platform, Reference, Result};

/// An image of an archive, not yet in the store.
pub(super) struct Pending {
    pub config: Vec<u8>,
    /// The members that are its layers, the lowest first.
    pub layers: Vec<String>,
    /// The manifest's bytes, where the archive is an image layout.
    pub manifest: Option<Vec<u8>>,
    pub names: Vec<Reference>,
}

/// All images of an archive. A layout's index counts before docker's manifest, which only has names then.
pub(super) fn images(members: &Members) -> Result<Vec<Pending>> {
    let listed: Option<Vec<Listed>> = members.json(MANIFEST)?;
    let index: Option<ImageIndex> = match members.json::<serde_json::Value>(LAYOUT)? {
        None => None,
        Some(layout) => match layout["imageLayoutVersion"].as_str() {
            Some("1.0.0") => members.json(INDEX)?,
            other => return Err(Error::unsupported(format!("image layout version {other:?}"))),
        },
    };
    let mut images: Vec<Pending> = Vec::new();
    if let Some(index) = index {
        for descriptor in index.manifests() {
            let names = names_of(descriptor);
            let Some((config, layers, manifest)) = manifest(members, descriptor, DEEPEST)? else { continue };
            match images.iter_mut().find(|known| known.manifest.as_ref() == Some(&manifest)) {
                Some(known) => known.names.extend(names),
                None => images.push(Pending { config, layers, manifest: Some(manifest), names }),
            }
        }
    }
    let complete = !images.is_empty();
    for one in listed.iter().flatten() {
        let config = members.read(&clean(&one.config))?.ok_or_else(|| absent(&one.config))?;
        let tags = one.repo_tags.iter().flatten().map(|tag| tag.parse());
        let names: Vec<Reference> = tags.collect::<Result<_>>()?;
        match images.iter_mut().find(|known| known.config == config) {
            Some(known) if known.names.is_empty() => known.names = names,
            Some(known) if !complete => known.names.extend(names),
            Some(_) => {}
            None => {
                let layers = one.layers.iter().flatten().map(|path| clean(path)).collect();
                images.push(Pending { config, layers, manifest: None, names });
            }
        }
    }
    if images.is_empty() {
        let text = match listed.is_some() || members.open(LAYOUT)?.is_some() {
            true => "there is no image for this machine in it".to_owned(),
            false => format!("no archive of images: neither {MANIFEST} nor {LAYOUT} is in it"),
        };
        return Err(Error::invalid(text));
    }
    for image in &mut images {
        image.names.sort();
        image.names.dedup();
    }
    Ok(images)
}

/// The image of a layout with that tag or digest.
///
/// # Errors
/// `NotFound`, saying which there are.
pub(super) fn chosen(members: &Members, wanted: Option<&str>) -> Result<Pending> {
    let index: ImageIndex = members.json(INDEX)?.ok_or_else(|| absent(INDEX))?;
    let tag = |one: &Descriptor| {
        let notes = one.annotations().as_ref()?;
        let name = notes.get(REF_NAME).or_else(|| notes.get(IMAGE_NAME))?;
        let last = name.rsplit('/').next().unwrap_or(name);
        Some(last.rsplit(':').next().unwrap_or(last).to_owned())
    };
    let is = |one: &Descriptor, wanted: &str| {
        one.digest().to_string() == wanted || tag(one).is_some_and(|tag| tag == wanted)
    };
    let all = index.manifests();
    let found = match (wanted, all.as_slice()) {
        (Some(wanted), _) => all.iter().find(|one| is(one, wanted)),
        (None, [only]) => Some(only),
        (None, _) => all.iter().find(|one| is(one, "latest")),
    };
    let there =
        || all.iter().map(|one| tag(one).unwrap_or_else(|| one.digest().to_string())).collect::<Vec<_>>();
    let found = found.ok_or_else(|| {
        let text = format!("no image `{}` is in it, but {}", wanted.unwrap_or("latest"), there().join(", "));
        Error::new(Kind::NotFound, text)
    })?;
    let (config, layers, manifest) = manifest(members, found, DEEPEST)?
        .ok_or_else(|| Error::new(Kind::NotFound, "there is no image for this machine in it"))?;
    Ok(Pending { config, layers, manifest: Some(manifest), names: Vec::new() })
}

type Found = (Vec<u8>, Vec<String>, Vec<u8>);

/// Config, layers and bytes of the manifest that a descriptor means on this machine. `None`: it is no image for it.
fn manifest(members: &Members, descriptor: &Descriptor, deepest: usize) -> Result<Option<Found>> {
    let digest: Digest = descriptor.digest().to_string().parse()?;
    let Some(bytes) = members.blob(&digest)? else { return Err(absent(&digest.to_string())) };
    let listed = |text: &Descriptor| -> Result<Digest> { text.digest().to_string().parse() };
    let parsed = match Document::parse(&bytes, &digest)? {
        Document::Image(parsed) => parsed,
        Document::Index(all) => {
            let deeper =
                deepest.checked_sub(1).ok_or_else(|| Error::invalid("indexes in indexes in indexes"))?;
            for one in Platform::host()?.choose(&all) {
                // An archive may have the blobs of some platforms only.
                let there = members.open(&format!("blobs/sha256/{}", listed(one)?.hex()))?.is_some();
                if there && let Some(found) = manifest(members, one, deeper)? {
                    return Ok(Some(found));
                }
            }
            return Ok(None);
        }
    };
    let config = listed(parsed.config())?;
    let config = members.blob(&config)?.ok_or_else(|| absent(&config.to_string()))?;
    let layers = parsed.layers().iter().map(|layer| Ok(format!("blobs/sha256/{}", listed(layer)?.hex())));
    Ok(Some((config, layers.collect::<Result<_>>()?, bytes)))
}

/// A name in full, or one whose tag is said; a tag alone (as skopeo writes it) names nothing here.
fn names_of(descriptor: &Descriptor) -> Vec<Reference> {
    let Some(notes) = descriptor.annotations() else { return Vec::new() };
    let full = notes.get(IMAGE_NAME).and_then(|name| name.parse().ok());
    let familiar = || {
        let name = notes.get(REF_NAME).filter(|name| name.contains(['/', ':']))?;
        name.parse().ok()
    };
    let name: Option<Reference> = full.or_else(familiar);
    name.into_iter().filter(|name| name.digest().is_none()).collect()
}

/// Docker's manifest names members as they are, others with `./` before it.
fn clean(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}
