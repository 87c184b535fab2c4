//! The digest of a layer whose files are still being put into it: hashed beside that, and good only where the layer turns out
//! as it was foretold.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use coracle_host::{Call, Dir};

use crate::apply;
use crate::arrivals::Arrivals;
use crate::diff::Packing;
use crate::flush::Flusher;
use crate::hasher::Hasher;
use crate::hashing::Hashing;
use crate::layer::{Foretold, UpperOptions};
use crate::listing::Listing;
use crate::seen::Looks;
use crate::tar::{Entry, Time, What};
use crate::{ChainId, Context, Layer, LayerTree, Result, Store};

/// Bytes of new files after which they begin to be written to the disk.
const FLUSH: u64 = 32 << 20;

/// A regular file that will be put into an upper directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coming {
    /// Relative to the upper directory, in directories that are there.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Permission bits with setuid, setgid and sticky (0o7777).
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// When it was modified: seconds since the epoch, and nanoseconds after that.
    pub modified: (i64, u32),
    /// It will be a further name of this inode of the layer that [`UpperOptions::like`] names.
    pub inode: Option<u64>,
}

/// A layer in the making, whose tar is hashed while files still come. See [`Store::forecast`].
#[must_use = "what was hashed is lost unless the layer is added"]
pub struct Forecast {
    store: Store,
    parent: Option<ChainId>,
    options: UpperOptions,
    arrivals: Arrivals<Hashing>,
    flusher: Flusher,
    looks: Looks,
    /// The sizes of those that need be written to the disk.
    sizes: Vec<u64>,
    /// Of those that are there.
    bytes: AtomicU64,
    /// Stays while its inodes are compared.
    _like: Option<LayerTree>,
}

impl std::fmt::Debug for Forecast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Forecast({} files)", self.sizes.len())
    }
}

impl Store {
    /// Begins to hash the tar of an upper directory that is mounted no more, and complete but for the files of `coming`. Who puts
    /// these there says so with [`Forecast::arrived`], best in the order of the tar: the oldest first, and those of one time
    /// by path. If anything turns out otherwise than it was told here, the layer is right all the same, and hashed anew.
    ///
    /// # Errors
    /// As of [`Store::add_layer_from_upper`].
    pub fn forecast(
        &self,
        parent: Option<&ChainId>,
        upper: &Dir,
        options: &UpperOptions,
        coming: Vec<Coming>,
    ) -> Result<Forecast> {
        let root = apply::root_attributes(&self.hold(parent)?.trees)?;
        let how = Packing { root: &root, clamp: options.clamp_mtime, skip: None, plain: false, seen: None };
        let sizes = coming.iter().map(|file| if file.inode.is_some() { 0 } else { file.size }).collect();
        let count = coming.len();
        let coming: Vec<_> = coming.into_iter().map(|file| file.into_entry(options.clamp_mtime)).collect();
        let looks = Looks::new(coming.iter().map(|(entry, _)| entry.clone()));
        let listing = Listing::with(upper, &how, coming).context(|| format!("list {:?}", upper.path()))?;
        let (like, known) = self.like(options)?;
        let fd = upper.as_fd().try_clone_to_owned().call(|| format!("dup({:?})", upper.path()))?;
        let hashing = Hashing::new(listing, upper, known, Hasher::new().alone());
        Ok(Forecast {
            store: self.clone(),
            parent: parent.copied(),
            options: options.clone(),
            arrivals: Arrivals::new(count, hashing),
            flusher: Flusher::new(fd),
            looks,
            sizes,
            bytes: AtomicU64::new(0),
            _like: like,
        })
    }
}

impl Forecast {
    /// The `nth` of the files that were foretold is there, with all that was told of it. To be called once for each, from any
    /// thread. `file` is it, where it is open and has no other name: then it is looked at here and not by its name later.
    /// `content` is all that is in it, or nothing: where there is any it is believed, and the file is not read. An empty
    /// buffer is given back, for the next one.
    pub fn arrived(&self, nth: usize, file: Option<BorrowedFd<'_>>, content: Vec<u8>) -> Vec<u8> {
        if let Some(file) = file {
            self.looks.look(nth, file);
        }
        let next = self.arrivals.bring(nth, content);
        let size = self.sizes.get(nth).copied().unwrap_or(0);
        let before = self.bytes.fetch_add(size, Ordering::Relaxed);
        if (before + size) / FLUSH != before / FLUSH {
            self.flusher.flush();
        }
        next
    }

    /// All is there: [`Store::add_layer_from_upper`] with what [`Store::forecast`] was given, the upper directory being
    /// the entry `name` of `dir`.
    ///
    /// # Errors
    /// As of [`Store::add_layer_from_upper`].
    pub fn add_layer(self, dir: &Dir, name: &str) -> Result<Layer> {
        self.flusher.flush();
        let Forecast { store, parent, options, arrivals, looks, .. } = self;
        // Whatever it failed with is met again, if it is more than a wrong forecast.
        let foretold = arrivals.end().and_then(Hashing::finish).ok();
        let foretold = Foretold { hashed: foretold, seen: looks.seen() };
        store
            .take_upper(parent.as_ref(), dir, name, &options, foretold)
            .context(|| format!("add layer from {:?}", dir.path_of(name)))
    }
}

impl Coming {
    fn into_entry(self, latest: Option<i64>) -> (Entry, Option<u64>) {
        let mtime = Time { secs: self.modified.0, nanos: self.modified.1 };
        let latest = latest.map(|secs| Time { secs, nanos: 0 });
        let entry = Entry {
            path: self.path.as_os_str().as_bytes().to_vec(),
            what: What::File { size: self.size },
            mode: self.mode,
            uid: self.owner.0,
            gid: self.owner.1,
            mtime: latest.map_or(mtime, |latest| mtime.min(latest)),
            xattrs: Vec::new(),
        };
        (entry, self.inode)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use coracle_host::Staging;

    use super::*;
    use crate::Digest;

    const FILES: usize = 100;

    fn store(place: &Path) -> Store {
        let state = Dir::create(place, 0o700).unwrap();
        let staging = Staging::open(&state.make("tmp", 0o700).unwrap()).unwrap();
        Store::open(&state, &staging).unwrap()
    }

    /// Directories only, dated.
    fn begin(upper: &Path) {
        for n in 0..4 {
            fs::create_dir_all(upper.join(format!("d{n}"))).unwrap();
        }
        fs::write(upper.join("there"), "already").unwrap();
    }

    fn date(path: &Path, seconds: u64) {
        let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, 7);
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }

    /// The files that come, the oldest first.
    fn coming(upper: &Path) -> Vec<Coming> {
        let owner = fs::metadata(upper).map(|stat| (stat.uid(), stat.gid())).unwrap();
        let file = |n: usize| Coming {
            path: format!("d{}/f{n}", n % 4).into(),
            size: 30_000 + n as u64,
            mode: 0o640,
            owner,
            modified: (1_000 + n as i64, 7),
            inode: None,
        };
        (0..FILES).map(file).collect()
    }

    fn put(upper: &Path, file: &Coming) {
        let path = upper.join(&file.path);
        fs::write(&path, vec![file.modified.0 as u8; file.size as usize]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode)).unwrap();
        date(&path, file.modified.0 as u64);
    }

    fn end(upper: &Path) {
        for n in 0..4 {
            date(&upper.join(format!("d{n}")), 2_000);
        }
        date(&upper.join("there"), 500);
    }

    /// The layer that has those files, hashed when all was there.
    fn plain(place: &Path, files: &[Coming]) -> Digest {
        let (store, upper) = (store(&place.join("other")), place.join("plain"));
        begin(&upper);
        files.iter().for_each(|file| put(&upper, file));
        end(&upper);
        let dir = Dir::open(place).unwrap();
        let layer = store.add_layer_from_upper(None, &dir, "plain", &UpperOptions::new()).unwrap();
        fs::remove_dir_all(place.join("other")).unwrap();
        layer.blob().digest
    }

    #[test]
    fn a_layer_that_was_foretold_is_not_read_again() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path();
        let (store, upper) = (store(&place.join("state")), place.join("upper"));
        begin(&upper);
        end(&upper);
        let (dir, files) = (Dir::open(place).unwrap(), coming(&upper));
        let options = UpperOptions::new();
        let forecast = store.forecast(None, &dir.dir("upper").unwrap(), &options, files.clone()).unwrap();
        for (nth, file) in files.iter().enumerate() {
            put(&upper, file);
            let _ = forecast.arrived(nth, None, Vec::new());
        }
        end(&upper);
        // Which shows only where it is another by now.
        let path = upper.join(&files[3].path);
        fs::write(&path, vec![b'x'; files[3].size as usize]).unwrap();
        date(&path, files[3].modified.0 as u64);
        let layer = forecast.add_layer(&dir, "upper").unwrap();
        assert_eq!(layer.blob().digest, plain(place, &files));
        assert!(store.write_layer(&layer.chain_id(), std::io::sink()).is_err());
    }

    type Otherwise = (&'static str, fn(&Path, &mut Vec<Coming>));

    /// What becomes of what was foretold.
    const OTHERWISE: [Otherwise; 7] = [
        ("a size", |_, files| files[50].size += 1),
        ("a mode", |_, files| files[50].mode = 0o600),
        ("a time", |_, files| files[50].modified.0 = 10),
        ("one is missing", |_, files| drop(files.remove(50))),
        ("the last is missing", |_, files| drop(files.pop())),
        ("one more", |upper, files| {
            files.push(Coming { path: "d1/more".into(), ..coming(upper).remove(0) });
        }),
        ("another name", |_, files| files[50].path = "d2/other".into()),
    ];

    #[test]
    fn a_layer_that_turns_out_otherwise_is_right() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path();
        let store = store(&place.join("state"));
        let (dir, options) = (Dir::open(place).unwrap(), UpperOptions::new());
        for (what, change) in OTHERWISE {
            let upper = place.join("upper");
            begin(&upper);
            end(&upper);
            let foretold = coming(&upper);
            let mut files = foretold.clone();
            change(&upper, &mut files);
            let forecast = store.forecast(None, &dir.dir("upper").unwrap(), &options, foretold).unwrap();
            for (nth, file) in files.iter().enumerate() {
                put(&upper, file);
                let _ = forecast.arrived(nth, None, Vec::new());
            }
            end(&upper);
            let layer = forecast.add_layer(&dir, "upper").unwrap();
            assert_eq!(layer.blob().digest, plain(place, &files), "{what}");
            store.write_layer(&layer.chain_id(), std::io::sink()).unwrap();
        }
    }

    #[test]
    fn one_that_is_given_up_leaves_all_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        let (store, upper) = (store(&place.path().join("state")), place.path().join("upper"));
        begin(&upper);
        let (dir, files) = (Dir::open(place.path()).unwrap(), coming(&upper));
        let options = UpperOptions::new();
        let forecast = store.forecast(None, &dir.dir("upper").unwrap(), &options, files.clone()).unwrap();
        put(&upper, &files[0]);
        let _ = forecast.arrived(0, None, Vec::new());
        drop(forecast);
        assert!(upper.join(&files[0].path).exists());
        assert!(store.layers().unwrap().is_empty());
    }
}
