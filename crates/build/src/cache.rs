//! Which result a step had: one small file per key.

use std::io::Write;
use std::time::{Duration, SystemTime};

use coracle_host::{Claim, Dir, Staging};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::Result;
use crate::files::digest::Fields;

/// The version of keys and records; another version's are never found.
const VERSION: &str = "coracle-build 2";

/// A directory that remembers the results of steps, for any number of builds at once, in one process or in many.
///
/// `<dir>/<key>` is a JSON document that says which snapshot a step led to. The key is the digest of all that the
/// step depends on, so a record is never out of date; what is damaged, foreign or about a removed snapshot is as if
/// it were not there. Any record may be removed at any time.
#[derive(Debug)]
pub struct Cache {
    dir: Dir,
    staging: Staging,
}

/// A step's result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepRecord {
    /// The snapshot's id.
    pub(crate) snapshot: String,
    /// When it ran, RFC 3339: history and image are dated with it for as long as it is reused.
    pub(crate) created: String,
    /// How long it took.
    pub(crate) milliseconds: u64,
    /// How many bytes it copied.
    pub(crate) bytes: u64,
    /// The instruction, for people who look.
    pub(crate) text: String,
    /// Another cache said so, and nothing says that the snapshot ever was here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) learned: bool,
}

/// What sources in a snapshot are: that never changes, so they are read once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FilesRecord {
    pub(crate) digest: String,
    pub(crate) bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: String,
    /// A file under another's name is foreign.
    key: String,
    result: T,
}

impl Cache {
    /// A cache in `dir`, whose records appear through `staging` (on the same file system).
    pub fn new(dir: Dir, staging: Staging) -> Cache {
        Cache { dir, staging }
    }

    /// The sole right to do the step with this key, waiting while another build has it, in this process or another.
    pub(crate) fn claim(&self, key: &str) -> Result<Claim> {
        Claim::take(&self.dir, format!("{key}.lock"))
            .map_err(|error| crate::Error::from(error).context("wait for the same step of another build"))
    }

    /// A directory that is removed when it is dropped.
    pub(crate) fn stage(&self) -> Result<coracle_host::StagedDir> {
        Ok(self.staging.dir()?)
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let bytes = self.dir.read_if_there(key).ok()??;
        let envelope: Envelope<T> = serde_json::from_slice(&bytes).ok()?;
        (envelope.version == VERSION && envelope.key == key).then_some(envelope.result)
    }

    pub(crate) fn put<T: Serialize>(&self, key: &str, result: T) -> Result<()> {
        let envelope = Envelope { version: VERSION.to_owned(), key: key.to_owned(), result };
        // Strings and numbers always serialize.
        let bytes = serde_json::to_vec(&envelope).unwrap_or_default();
        self.staging
            .write(&self.dir, key, &bytes)
            .map_err(|error| crate::Error::from(error).context("write a cache record"))
    }
}

/// A step that the cache knows the result of, see [`Cache::steps`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CachedStep {
    /// Its name in the cache.
    pub key: String,
    /// The id of the snapshot that it led to, which may be gone.
    pub snapshot: String,
    /// The instruction on one line.
    pub text: String,
    /// When it ran.
    pub created: SystemTime,
    /// How long it took.
    pub cost: Duration,
    /// How many bytes it copied.
    pub bytes: u64,
}

impl CachedStep {
    pub(crate) fn new(key: &str, record: StepRecord) -> CachedStep {
        let created = record.created.parse::<jiff::Timestamp>().map(SystemTime::from);
        CachedStep {
            key: key.to_owned(),
            snapshot: record.snapshot,
            text: record.text,
            created: created.unwrap_or(SystemTime::UNIX_EPOCH),
            cost: Duration::from_millis(record.milliseconds),
            bytes: record.bytes,
        }
    }
}

/// What the files are that a step reads in the results of others, see [`Built::files`](crate::Built::files).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CachedFiles {
    /// Its name in the cache: made of the result's id and of which files are read.
    pub key: String,
    /// Of names, kinds, modes, owners and contents.
    pub digest: String,
    /// How many bytes they have.
    pub bytes: u64,
}

impl CachedFiles {
    pub(crate) fn new(key: &str, record: &FilesRecord) -> CachedFiles {
        CachedFiles { key: key.to_owned(), digest: record.digest.clone(), bytes: record.bytes }
    }
}

impl Cache {
    /// Learns what a step led to elsewhere, by a cache of this version ([`Cache::version`]). It is believed: the key is the
    /// digest of what the step depends on, and nothing tells whether this is what it makes.
    ///
    /// # Errors
    /// `Invalid` for what is no key or no time; the host's.
    pub fn learn(&self, step: &CachedStep) -> Result<()> {
        whole_key(&step.key)?;
        let created = jiff::Timestamp::try_from(step.created).map_err(|error| {
            crate::Error::invalid(format!("the time of `{}` can't be written: {error}", step.text))
        })?;
        let record = StepRecord {
            snapshot: step.snapshot.clone(),
            created: created.to_string(),
            milliseconds: u64::try_from(step.cost.as_millis()).unwrap_or(u64::MAX),
            bytes: step.bytes,
            text: step.text.clone(),
            learned: true,
        };
        self.note(&learned(), true);
        self.put(&step.key, record)
    }

    /// Learns what files are that a step reads, from a cache of this version. It is believed, as [`Cache::learn`] is.
    ///
    /// # Errors
    /// `Invalid` for what is no key; the host's.
    pub fn learn_files(&self, files: &CachedFiles) -> Result<()> {
        whole_key(&files.key)?;
        self.put(&files.key, FilesRecord { digest: files.digest.clone(), bytes: files.bytes })
    }

    /// What it knows of the step with this key.
    pub fn step(&self, key: &str) -> Option<CachedStep> {
        whole_key(key).ok()?;
        self.get(key).map(|record| CachedStep::new(key, record))
    }

    /// Whether it may have steps of which nothing else is known here.
    pub(crate) fn has_learned(&self) -> bool {
        self.get::<bool>(&learned()).is_some()
    }

    /// What keys and records are of. Those of another version are of no use.
    pub fn version() -> &'static str {
        VERSION
    }

    /// All steps that it knows, in no order.
    ///
    /// # Errors
    /// The host's. What is damaged or foreign is left out.
    pub fn steps(&self) -> Result<Vec<CachedStep>> {
        let mut steps = Vec::new();
        for name in self.dir.names()? {
            let Some(key) = name.to_str().filter(|name| !name.ends_with(".lock")) else { continue };
            let Some(record) = self.get::<StepRecord>(key) else { continue };
            steps.push(CachedStep::new(key, record));
        }
        Ok(steps)
    }

    /// Forgets a step: it is built when it is next asked for. That it is unknown is fine.
    ///
    /// # Errors
    /// `Invalid` for what is no key; the host's.
    pub fn forget(&self, key: &str) -> Result<()> {
        if !is_key(key) {
            return Err(crate::Error::invalid(format!("`{key}` is no key of the build cache")));
        }
        Ok(self.staging.trash(&self.dir, key)?)
    }

    /// The bytes of a file with a format of its own; none where it is not there.
    pub(crate) fn get_raw(&self, key: &str) -> Vec<u8> {
        self.dir.read_if_there(key).ok().flatten().unwrap_or_default()
    }

    /// A record that is written often and matters little: nothing is waited for, and nobody hears of a failure.
    pub(crate) fn note<T: Serialize>(&self, key: &str, result: T) {
        let envelope = Envelope { version: VERSION.to_owned(), key: key.to_owned(), result };
        self.put_raw(key, &serde_json::to_vec(&envelope).unwrap_or_default());
    }

    /// Replaces such a file. It is checked when it is read, so nothing is waited for; without it a build only takes
    /// longer, so nobody hears of a failure.
    pub(crate) fn put_raw(&self, key: &str, bytes: &[u8]) {
        let Ok(mut file) = self.staging.file() else { return };
        if file.write_all(bytes).is_ok() {
            let _ = file.place(&self.dir, key);
        }
    }
}

/// Under which key it is known that there was something to learn.
fn learned() -> String {
    key("learned", "").hex()
}

fn whole_key(text: &str) -> Result<()> {
    match text.len() == 64 && is_key(text) {
        true => Ok(()),
        false => Err(crate::Error::invalid(format!("`{text}` is no key of the build cache"))),
    }
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Begins a key: what kind of step, on which snapshot.
pub(crate) fn key(kind: &str, on: &str) -> Fields {
    let mut fields = Fields::new();
    fields.add(VERSION).add(kind).add(on);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_own_records_are_found() {
        let place = tempfile::tempdir().unwrap();
        let state = Dir::open(place.path()).unwrap();
        let staging = Staging::open(&state.make("tmp", 0o700).unwrap()).unwrap();
        let cache = Cache::new(state.make("cache", 0o700).unwrap(), staging);
        let record = FilesRecord { digest: "d".into(), bytes: 7 };
        assert_eq!(cache.get::<FilesRecord>("k"), None);
        cache.put("k", record.clone()).unwrap();
        assert_eq!(cache.get("k"), Some(record));
        assert_eq!(cache.get::<StepRecord>("k"), None, "a record of another kind");
        let path = place.path().join("cache");
        std::fs::copy(path.join("k"), path.join("l")).unwrap();
        assert_eq!(cache.get::<FilesRecord>("l"), None, "a record under another name");
        let text = std::fs::read_to_string(path.join("k")).unwrap();
        std::fs::write(path.join("k"), &text[..text.len() - 3]).unwrap();
        assert_eq!(cache.get::<FilesRecord>("k"), None, "half a record");
        std::fs::write(path.join("k"), text.replace("build 2", "build 1")).unwrap();
        assert_eq!(cache.get::<FilesRecord>("k"), None, "another version's");
    }

    #[test]
    fn steps_are_listed_and_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let state = Dir::open(place.path()).unwrap();
        let staging = Staging::open(&state.make("tmp", 0o700).unwrap()).unwrap();
        let cache = Cache::new(state.make("cache", 0o700).unwrap(), staging);
        let record = StepRecord {
            snapshot: "s".into(),
            created: "2020-01-01T00:00:00Z".into(),
            milliseconds: 7,
            bytes: 0,
            text: "RUN x".into(),
            learned: false,
        };
        cache.put("ab", record).unwrap();
        cache.put("cd", FilesRecord { digest: "d".into(), bytes: 7 }).unwrap();
        let steps = cache.steps().unwrap();
        assert_eq!(steps.len(), 1);
        assert_eq!((steps[0].key.as_str(), steps[0].cost), ("ab", Duration::from_millis(7)));
        cache.forget("ab").unwrap();
        cache.forget("ab").unwrap();
        assert!(cache.steps().unwrap().is_empty());
        assert!(cache.get::<FilesRecord>("cd").is_some());
        assert!(cache.forget("../tmp").is_err());
    }

    #[test]
    fn keys_keep_fields_apart() {
        let of = |fields: &[&str]| {
            let mut key = key("run", "s");
            for field in fields {
                key.add(field);
            }
            key.hex()
        };
        assert_eq!(of(&["ab"]).len(), 64);
        assert_eq!(of(&["ab"]), of(&["ab"]));
        assert_ne!(of(&["ab"]), of(&["a", "b"]));
        assert_ne!(of(&["ab", ""]), of(&["ab"]));
    }
}
