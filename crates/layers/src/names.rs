//! `images/`: which names and ids lead to which manifests, and `index.json`, which is made of that.

use std::time::SystemTime;

use coracle_host::Lock;
use oci_spec::image::{Descriptor, DescriptorBuilder, ImageIndexBuilder, MediaType};
use serde::{Deserialize, Serialize};

use crate::blobs::Blob;
use crate::{Digest, Error, ImageId, Reference, Result, Store, json};

/// Names never begin with a dot.
const LOCK: &str = ".lock";
/// Names never begin with an at sign.
const ID: char = '@';

const INDEX: &str = "index.json";

pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";

/// What a file of `images/` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The full name; `None` in the record of an id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub image: ImageId,
    pub manifest: Digest,
    pub manifest_size: u64,
    /// Seconds since the epoch.
    pub updated: u64,
}

impl Record {
    pub fn new(name: Option<&Reference>, image: ImageId, manifest: Blob) -> Record {
        let updated =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let name = name.map(Reference::to_string);
        Record { name, image, manifest: manifest.digest, manifest_size: manifest.size, updated }
    }

    /// Whether it is about a name that pins a digest: what a registry had it under when it was pulled.
    pub fn has_digest(&self) -> bool {
        self.name.as_ref().is_some_and(|name| name.contains('@'))
    }

    /// Whether it is about a name that goes when `name` does, of all names of an image: that name itself, and with a
    /// repository's last tag what it was pulled under from there.
    pub fn goes_with(&self, name: &str, all: &[Record]) -> bool {
        let Some(own) = &self.name else { return false };
        let repository = |name: &str| name.parse::<Reference>().ok().map(|name| name.repository());
        let same = |other: &str| repository(other) == repository(name);
        let is_tag = |record: &Record| {
            record.name.as_ref().is_some_and(|other| other != name && same(other)) && !record.has_digest()
        };
        own == name || (self.has_digest() && !name.contains('@') && same(own) && !all.iter().any(is_tag))
    }

    fn same_as(&self, other: &Record) -> bool {
        (&self.name, self.image, self.manifest) == (&other.name, other.image, other.manifest)
    }

    fn descriptor(&self, name: &str) -> Result<Descriptor> {
        let reference: Reference = name.parse()?;
        let blob = Blob { digest: self.manifest, size: self.manifest_size };
        // All images of a machine are in one index: a tag would mean many of them.
        Ok(annotate(descriptor(MediaType::ImageManifest, blob)?, &reference, reference.familiar()))
    }
}

/// Says which name a manifest goes by: for containerd and docker in full, for skopeo and its like as `short`.
pub(crate) fn annotate(mut descriptor: Descriptor, name: &Reference, short: String) -> Descriptor {
    let annotations = [(REF_NAME.to_owned(), short), (IMAGE_NAME.to_owned(), name.to_string())];
    descriptor.set_annotations(Some(annotations.into_iter().collect()));
    descriptor
}

/// A blob as manifests and indexes list it (descriptor.md).
pub(crate) fn descriptor(media_type: MediaType, blob: Blob) -> Result<Descriptor> {
    DescriptorBuilder::default()
        .media_type(media_type)
        .digest(blob.digest.to_oci())
        .size(blob.size)
        .build()
        .map_err(|error| Error::invalid(format!("descriptor of {}: {error}", blob.digest)))
}

impl Store {
    pub(crate) fn names_lock(&self) -> Result<Lock> {
        Ok(Lock::exclusive(&self.images, LOCK)?)
    }

    /// Writes a record, unless it is there and says the same. Whether it had to.
    pub(crate) fn put_record(&self, record: &Record) -> Result<bool> {
        let file = file_of(record);
        if self.read_record(&file)?.is_some_and(|known| known.same_as(record)) {
            return Ok(false);
        }
        self.staging.write(&self.images, &file, &json::canonical(record)?)?;
        Ok(true)
    }

    pub(crate) fn remove_record(&self, record: &Record) -> Result<()> {
        self.images.remove_file(file_of(record))?;
        Ok(self.images.sync()?)
    }

    pub(crate) fn record_of_name(&self, name: &Reference) -> Result<Option<Record>> {
        let record = self.read_record(&file_of_name(&name.to_string()))?;
        Ok(record.filter(|record| record.name.as_deref() == Some(&name.to_string())))
    }

    /// Records of ids that begin with these digits.
    pub(crate) fn records_of_ids(&self, digits: &str) -> Result<Vec<Record>> {
        self.records(|file| file.strip_prefix(ID).is_some_and(|hex| hex.starts_with(digits)))
    }

    pub(crate) fn records_of_names(&self) -> Result<Vec<Record>> {
        self.records(|file| !file.starts_with(ID))
    }

    fn records(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for name in self.images.names()? {
            if let Some(file) = name.to_str().filter(|file| !file.starts_with('.') && wanted(file))
                // It may have been removed since.
                && let Some(record) = self.read_record(file)?
            {
                records.push(record);
            }
        }
        records.sort_by(|a, b| (&a.name, a.image).cmp(&(&b.name, b.image)));
        Ok(records)
    }

    fn read_record(&self, file: &str) -> Result<Option<Record>> {
        let Some(bytes) = self.images.read_if_there(file)? else { return Ok(None) };
        json::parse(&bytes, || format!("{:?}", self.images.path_of(file))).map(Some)
    }

    /// Publishes `index.json` where it doesn't say what the names say: at first, and after somebody died between the
    /// two. Looks without the lock.
    pub(crate) fn reindex_if_stale(&self) -> Result<()> {
        if self.state.read_if_there(INDEX)?.as_ref() == Some(&self.index()?) {
            return Ok(());
        }
        let _lock = self.names_lock()?;
        self.reindex_locked()
    }

    /// Publishes `index.json` anew from the names that there are.
    pub(crate) fn reindex_locked(&self) -> Result<()> {
        Ok(self.staging.write(&self.state, INDEX, &self.index()?)?)
    }

    fn index(&self) -> Result<Vec<u8>> {
        let mut manifests = Vec::new();
        for record in self.records_of_names()? {
            if let Some(name) = &record.name {
                manifests.push(record.descriptor(name)?);
            }
        }
        let index = ImageIndexBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageIndex)
            .manifests(manifests)
            .build()
            .map_err(|error| Error::invalid(format!("{INDEX}: {error}")))?;
        json::canonical(&index)
    }
}

fn file_of(record: &Record) -> String {
    match &record.name {
        Some(name) => file_of_name(name),
        None => format!("{ID}{}", record.image.hex()),
    }
}

/// A name as a file name: `%` stands for `/`, as it occurs in no name. Names too long for one end in their digest.
fn file_of_name(name: &str) -> String {
    const MOST: usize = 255;
    let file = name.replace('/', "%");
    if file.len() <= MOST {
        return file;
    }
    let digest = Digest::of(name.as_bytes()).hex();
    format!("{}~{digest}", &file[..MOST - 1 - digest.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_files() {
        assert_eq!(file_of_name("docker.io/library/a:1"), "docker.io%library%a:1");
        let long = |end: char| format!("docker.io/{}:{}{end}", "a".repeat(240), "b".repeat(127));
        let (one, two) = (file_of_name(&long('x')), file_of_name(&long('y')));
        assert_eq!((one.len(), two.len()), (255, 255));
        assert_ne!(one, two);
    }
}
