//! A pulled image's layers: several come at once, and are unpacked on top of each other in their order.

use std::collections::{HashSet, VecDeque};
use std::io::{self, Seek, Write};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use coracle_host::{Call, Claim, Kind, StagedFile};

use super::Repository;
use super::pull::PullEvent;
use crate::apply::Trust;
use crate::layer::{Keep, Taken};
use crate::{Blob, ChainId, Context, DiffId, Digest, Error, Layer, Result, Store};

/// So many blobs come at once, as with docker.
const AT_ONCE: usize = 3;
/// How often it is told how much of a layer has come.
const TELLING: Duration = Duration::from_millis(100);

/// A layer as manifest and config list it.
#[derive(Clone, Copy)]
pub(super) struct Listed {
    pub blob: Blob,
    pub diff: DiffId,
}

/// Whether a pull is to go on: what all its threads look at.
pub(super) struct Watch {
    cancelled: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
    over: AtomicBool,
    failed: Mutex<Option<Error>>,
}

impl Watch {
    pub fn new(cancelled: Option<Arc<dyn Fn() -> bool + Send + Sync>>) -> Watch {
        Watch { cancelled, over: AtomicBool::new(false), failed: Mutex::default() }
    }

    /// Has the others stop; the first failure is the one to report.
    fn fail(&self, error: Error) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.over.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        if self.cancelled.as_ref().is_some_and(|cancelled| cancelled()) {
            self.fail(Error::new(Kind::Interrupted, "it was cancelled"));
        }
        self.over.load(Ordering::Relaxed)
    }

    fn end(&self) -> Result<()> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed.map_or(Ok(()), Err)
    }
}

/// A blob to fetch, and who waits for it.
type Order = (Blob, SyncSender<StagedFile>);
/// Where a layer's blob arrives; `None` where the store is expected to have it by then.
type Arrival = Option<Receiver<StagedFile>>;

impl Store {
    /// The layers, the lowest first; those that are not here are fetched from `from`.
    pub(super) fn bring_layers(
        &self,
        from: &Repository,
        listed: &[Listed],
        watch: &Watch,
        event: &mut dyn FnMut(&PullEvent),
    ) -> Result<Vec<Layer>> {
        let (stack, claims) = self.claimed(listed)?;
        for layer in &listed[..stack.len()] {
            event(&PullEvent::Exists { layer: layer.blob.digest });
        }
        if claims.is_empty() {
            return Ok(stack);
        }
        let parent = stack.last().map(Layer::chain_id);
        self.bring_upon(from, parent, &listed[stack.len()..], claims, watch, event)?;
        let diffs: Vec<DiffId> = listed.iter().map(|layer| layer.diff).collect();
        self.stack(ChainId::chain(&diffs).last())
    }

    /// The layers from the lowest on that the store has, and the sole right to make each of the others. All take claims from
    /// the lowest layer up, so that nobody waits for somebody who waits for him; what another pull has at hand is waited for.
    fn claimed(&self, listed: &[Listed]) -> Result<(Vec<Layer>, VecDeque<Claim>)> {
        let (mut stack, mut claims, mut parent) = (Vec::new(), VecDeque::new(), None);
        for layer in listed {
            let id = ChainId::next(parent.as_ref(), &layer.diff);
            parent = Some(id);
            let mut known = self.layer(&id)?;
            if known.is_none() || !claims.is_empty() {
                let claim = Claim::take(&self.layers, format!("{}.lock", id.hex()))
                    .context(|| "wait for the same layer of another pull")?;
                claims.push_back(claim);
                known = self.layer(&id)?;
            }
            if let Some(known) = known.filter(|_| claims.len() <= 1) {
                claims.clear();
                stack.push(known);
            }
        }
        Ok((stack, claims))
    }

    fn bring_upon(
        &self,
        from: &Repository,
        parent: Option<ChainId>,
        listed: &[Listed],
        claims: VecDeque<Claim>,
        watch: &Watch,
        event: &mut dyn FnMut(&PullEvent),
    ) -> Result<()> {
        let (orders, arrivals) = self.orders(listed)?;
        for (blob, _) in &orders {
            event(&PullEvent::Waiting { layer: blob.digest });
        }
        let wanted = listed.iter().zip(arrivals).zip(claims);
        let threads = orders.len().min(AT_ONCE);
        let orders = Mutex::new(orders);
        let (events, heard) = channel();
        thread::scope(|scope| {
            let mut all = Vec::new();
            for _ in 0..threads {
                let (orders, events) = (&orders, events.clone());
                all.push(scope.spawn(move || self.fetch_all(from, orders, watch, &events)));
            }
            all.push(scope.spawn(move || {
                if let Err(error) = self.unpack_all(from, parent, wanted, watch, &events) {
                    watch.fail(error);
                }
            }));
            heard.iter().for_each(|told| event(&told));
            for thread in all {
                thread.join().unwrap_or_else(|panic| resume_unwind(panic));
            }
        });
        watch.end()
    }

    /// What is to be fetched, each blob once.
    fn orders(&self, listed: &[Listed]) -> Result<(VecDeque<Order>, Vec<Arrival>)> {
        let (mut orders, mut arrivals, mut met) = (VecDeque::new(), Vec::new(), HashSet::new());
        for layer in listed {
            if !met.insert(layer.blob.digest.hex()) || self.blobs.has(&layer.blob.digest)? {
                arrivals.push(None);
                continue;
            }
            let (here, there) = sync_channel(1);
            orders.push_back((layer.blob, here));
            arrivals.push(Some(there));
        }
        Ok((orders, arrivals))
    }

    fn fetch_all(
        &self,
        from: &Repository,
        orders: &Mutex<VecDeque<Order>>,
        watch: &Watch,
        events: &Sender<PullEvent>,
    ) {
        while !watch.is_over() {
            let order = orders.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((blob, to)) = order else { break };
            match self.fetch(from, blob, watch, events) {
                // Nobody waits for it any more where another one has failed.
                Ok(file) => drop(to.send(file)),
                Err(error) => watch.fail(error),
            }
        }
        // Who waits for what never comes is to know.
        if watch.is_over() {
            orders.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    fn fetch(
        &self,
        from: &Repository,
        blob: Blob,
        watch: &Watch,
        events: &Sender<PullEvent>,
    ) -> Result<StagedFile> {
        let file = self.staging.file()?;
        let mut arriving = Arriving { file, blob, bytes: 0, told: Instant::now(), watch, events };
        from.fetch_blob(blob, &mut arriving)?;
        arriving.tell();
        Ok(arriving.file)
    }

    fn unpack_all<'l>(
        &self,
        from: &Repository,
        mut parent: Option<ChainId>,
        wanted: impl Iterator<Item = ((&'l Listed, Arrival), Claim)>,
        watch: &Watch,
        events: &Sender<PullEvent>,
    ) -> Result<()> {
        for ((layer, arrival), claim) in wanted {
            let digest = layer.blob.digest;
            let file = match arrival.map(|arrival| arrival.recv()) {
                Some(Ok(file)) => Some(file),
                // Whoever was to fetch it has failed, and said why.
                Some(Err(_)) => return Ok(()),
                None if self.blobs.has(&digest)? => None,
                None => Some(self.fetch(from, layer.blob, watch, events)?),
            };
            if watch.is_over() {
                return Ok(());
            }
            let stored = self.unpack(parent.as_ref(), layer, file).context(|| format!("layer {digest}"))?;
            drop(claim);
            parent = Some(stored.chain_id());
            // Whoever listens may have had enough.
            let _ = events.send(PullEvent::Stored { layer: digest });
        }
        Ok(())
    }

    fn unpack(&self, parent: Option<&ChainId>, layer: &Listed, file: Option<StagedFile>) -> Result<Layer> {
        if let Some(known) = self.layer(&ChainId::next(parent, &layer.diff))? {
            return Ok(known);
        }
        let (trust, expect, expect_blob) = (Trust::Layer, Some(layer.diff), Some(layer.blob.digest));
        let Some(file) = file else {
            let tar = self.blobs.open(&layer.blob.digest)?;
            return self.take_in(parent, Taken { tar, keep: Keep::Stored, trust, expect, expect_blob });
        };
        let mut tar = file.file().try_clone().call(|| "dup(fetched layer)")?;
        tar.rewind().call(|| "lseek(fetched layer)")?;
        self.take_in(parent, Taken { tar, keep: Keep::Whole(file), trust, expect, expect_blob })
    }
}

/// A blob being written, as it comes.
struct Arriving<'a> {
    file: StagedFile,
    blob: Blob,
    bytes: u64,
    told: Instant,
    watch: &'a Watch,
    events: &'a Sender<PullEvent>,
}

impl Arriving<'_> {
    fn tell(&self) {
        let layer: Digest = self.blob.digest;
        // Whoever listens may have had enough.
        let _ = self.events.send(PullEvent::Fetching { layer, bytes: self.bytes, of: self.blob.size });
    }
}

impl Write for Arriving<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.watch.is_over() {
            return Err(io::Error::other("the pull is over"));
        }
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        if self.bytes < self.blob.size && self.told.elapsed() >= TELLING {
            self.told = Instant::now();
            self.tell();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
