//! Writing to the disk beside other work: whoever makes it all durable afterwards has less to wait for.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

/// A thread that writes out what is dirty on a file system, when it is told to. No failure of it is told: who syncs later
/// gets the same, and without a thread the same is waited for then.
pub(crate) struct Flusher {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    /// For the file system of `fd`.
    pub fn new(fd: OwnedFd) -> Flusher {
        // One that waits is enough: it takes along what is dirty by then.
        let (wake, woken) = sync_channel(1);
        let flush = move || {
            for () in woken {
                let _ = rustix::fs::syncfs(&fd);
            }
        };
        let thread = Builder::new().name("coracle-flush".into()).spawn(flush).ok();
        Flusher { wake: Some(wake), thread }
    }

    /// Begins to write. Does not wait.
    pub fn flush(&self) {
        if let Some(wake) = &self.wake {
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Flusher {
    /// No thread outlives what it was started for.
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
