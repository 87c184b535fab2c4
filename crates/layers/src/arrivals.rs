//! Files on their way from the threads that put them in place to the one that hashes them, in their order.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_host::Kind;

use crate::listing::Awaited;
use crate::{Error, Result};

/// Bytes of files that wait to be hashed.
const HELD: usize = 16 << 20;
/// How long who brings a file waits for room. It is only a matter of speed: a file whose bytes are not taken is read again.
const PATIENCE: Duration = Duration::from_millis(100);
/// How many files further the one is that is waited for: waking up costs more than hashing a small file.
const STRIDE: usize = 32;

/// Which files are there, and what is in them.
#[derive(Default)]
pub(crate) struct Arrivals {
    state: Mutex<State>,
    came: Condvar,
    room: Condvar,
}

#[derive(Default)]
struct State {
    there: Vec<bool>,
    contents: HashMap<usize, Vec<u8>>,
    /// Buffers to be filled again.
    spare: Vec<Vec<u8>>,
    /// What contents and spare ones have room for.
    bytes: usize,
    /// The file that is hashed next, or that is waited for: what it has, and what comes before it, is always taken.
    wanted: usize,
    /// Threads that wait for room, and the first file that one of them has.
    crowd: usize,
    first: usize,
    /// Nothing was hashed for longer than anybody waits.
    stuck: bool,
    /// Nobody will bring more.
    over: bool,
    /// Nobody will take more.
    closed: bool,
}

impl Arrivals {
    /// For so many files.
    pub fn new(count: usize) -> Arrivals {
        let state = State { there: vec![false; count], ..State::default() };
        Arrivals { state: Mutex::new(state), ..Arrivals::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `nth` is there, with these bytes if there are any. Waits for a while where more have come than can be hashed.
    /// Returns an empty buffer.
    pub fn bring(&self, nth: usize, mut content: Vec<u8>) -> Vec<u8> {
        let mut state = self.state();
        if !content.is_empty() {
            state = self.wait_for_room(state, nth, content.capacity());
            if state.takes(nth, content.capacity()) {
                state.bytes += content.capacity();
                state.contents.insert(nth, content);
                content = state.spare.pop().unwrap_or_default();
                state.bytes -= content.capacity();
            }
        }
        if let Some(there) = state.there.get_mut(nth) {
            *there = true;
            if state.wanted == nth {
                self.came.notify_one();
            }
        }
        content.clear();
        content
    }

    fn wait_for_room<'s>(
        &self,
        mut state: MutexGuard<'s, State>,
        nth: usize,
        bytes: usize,
    ) -> MutexGuard<'s, State> {
        while !state.takes(nth, bytes) && !state.stuck && !state.closed {
            state.first = if state.crowd == 0 { nth } else { state.first.min(nth) };
            state.crowd += 1;
            let (held, waited) =
                self.room.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            state = held;
            state.crowd -= 1;
            state.stuck = waited.timed_out();
        }
        state
    }

    /// Nobody brings more: who waits for one that has not come waits no longer.
    pub fn give_up(&self) {
        self.state().over = true;
        self.came.notify_all();
    }

    /// Nobody takes more.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        (state.contents, state.spare, state.bytes) = (HashMap::new(), Vec::new(), 0);
        self.room.notify_all();
    }

    /// Waits for the `nth`, and says whether it came.
    fn wait_for(&self, nth: usize) -> bool {
        let mut state = self.state();
        state.wanted = nth;
        // Its bytes are taken in any case.
        self.room.notify_all();
        while !state.is_there(nth) && !state.over {
            state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_there(nth)
    }
}

impl State {
    fn is_there(&self, nth: usize) -> bool {
        self.there.get(nth).is_some_and(|there| *there)
    }

    fn takes(&self, nth: usize, bytes: usize) -> bool {
        let spare = self.spare.last().map_or(0, Vec::capacity);
        !self.closed && (nth <= self.wanted || self.bytes - spare + bytes <= HELD)
    }
}

impl Awaited for &Arrivals {
    fn wait(&mut self, nth: usize) -> Result<Option<Vec<u8>>> {
        if !self.state().is_there(nth) {
            let last = self.state().there.len().saturating_sub(1);
            self.wait_for((nth + STRIDE).min(last));
            if !self.wait_for(nth) {
                return Err(Error::new(Kind::Interrupted, "the files of a layer did not all come"));
            }
        }
        let mut state = self.state();
        state.wanted = nth;
        let content = state.contents.remove(&nth);
        state.bytes -= content.as_ref().map_or(0, Vec::capacity);
        state.stuck = false;
        // Few wake-ups, with room for many files.
        if state.crowd > 0 && (state.bytes <= HELD / 2 || state.first <= nth) {
            self.room.notify_all();
        }
        Ok(content)
    }

    fn give_back(&mut self, mut content: Vec<u8>) {
        let mut state = self.state();
        if !state.closed && state.bytes + content.capacity() <= HELD / 2 {
            content.clear();
            state.bytes += content.capacity();
            state.spare.push(content);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many bytes as one of the files has.
    const EACH: usize = 100_000;
    const COUNT: usize = 1000;

    #[test]
    fn all_come_in_order_with_what_was_brought() {
        let arrivals = Arrivals::new(COUNT);
        let next = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut buffer = Vec::new();
                    loop {
                        let nth = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if nth >= COUNT {
                            break;
                        }
                        // Every tenth has to be read.
                        if !nth.is_multiple_of(10) {
                            buffer.resize(EACH, nth as u8);
                        }
                        buffer = arrivals.bring(nth, buffer);
                        assert!(buffer.is_empty());
                    }
                });
            }
            let mut awaited = &arrivals;
            for nth in 0..COUNT {
                let content = awaited.wait(nth).unwrap();
                assert!(arrivals.state().bytes <= HELD + 3 * EACH);
                match content {
                    Some(content) => {
                        assert_eq!(content, vec![nth as u8; EACH], "{nth}");
                        awaited.give_back(content);
                    }
                    None => assert!(nth.is_multiple_of(10)),
                }
            }
        });
    }

    #[test]
    fn nobody_waits_for_who_takes_nothing() {
        let arrivals = Arrivals::new(COUNT);
        let start = std::time::Instant::now();
        for nth in 1..COUNT {
            let _ = arrivals.bring(nth, vec![0; EACH]);
        }
        assert!(arrivals.state().bytes <= HELD);
        assert!(start.elapsed() < 10 * PATIENCE, "one waits, the others know");
        let _ = arrivals.bring(0, vec![7; EACH]);
        let mut awaited = &arrivals;
        assert_eq!(awaited.wait(0).unwrap().unwrap()[0], 7);
        assert!(awaited.wait(COUNT - 1).unwrap().is_none());
        arrivals.close();
        assert_eq!(arrivals.state().bytes, 0);
    }

    #[test]
    fn what_never_comes_is_not_waited_for() {
        let arrivals = Arrivals::new(3);
        let _ = arrivals.bring(1, Vec::new());
        std::thread::scope(|scope| {
            scope.spawn(|| arrivals.give_up());
            let error = (&arrivals).wait(0).unwrap_err();
            assert_eq!(error.kind(), Kind::Interrupted);
        });
        assert!((&arrivals).wait(1).unwrap().is_none());
    }
}
