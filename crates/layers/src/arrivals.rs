//! Files on their way from the threads that put them in place to the one hash of them all, which takes them in their order:
//! whoever brings the one that is due hashes it, while its bytes are still near, and those after it that came before.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_host::Kind;

use crate::{Error, Result};

/// Bytes of files that wait to be hashed.
const HELD: usize = 16 << 20;
/// How long who brings a file waits for room. It is only a matter of speed: a file whose bytes are not kept is read again.
const PATIENCE: Duration = Duration::from_millis(100);

/// What takes the files.
pub(crate) trait Take {
    /// Does what can be done before the next file, and says which that is.
    fn next(&mut self) -> Result<Option<usize>>;

    /// That file is there, with these bytes, or with some that are to be read.
    fn take(&mut self, content: Option<&[u8]>) -> Result<()>;
}

/// Which files are there, what is in them, and who takes them.
pub(crate) struct Arrivals<T> {
    state: Mutex<State>,
    room: Condvar,
    taking: Mutex<T>,
}

#[derive(Default)]
struct State {
    there: Vec<bool>,
    contents: HashMap<usize, Vec<u8>>,
    /// Buffers to be filled again, the last used one last.
    spare: Vec<Vec<u8>>,
    /// What contents and spare ones have room for.
    bytes: usize,
    /// The file that is taken next, once that is known: what it has, and what comes before it, is always kept.
    due: Option<usize>,
    /// Somebody is taking files.
    busy: bool,
    /// Threads that wait for room.
    crowd: usize,
    /// Nothing was taken for longer than anybody waits.
    stuck: bool,
    /// All were taken, or taking them failed.
    end: Option<Result<()>>,
}

impl<T: Take> Arrivals<T> {
    /// For so many files.
    pub fn new(count: usize, taking: T) -> Arrivals<T> {
        let state = State { there: vec![false; count], ..State::default() };
        Arrivals { state: Mutex::new(state), room: Condvar::new(), taking: Mutex::new(taking) }
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
            if state.keeps(nth, content.capacity()) {
                state.bytes += content.capacity();
                state.contents.insert(nth, std::mem::take(&mut content));
            }
        }
        if let Some(there) = state.there.get_mut(nth) {
            *there = true;
        }
        if !state.busy && state.end.is_none() && state.due.is_none_or(|due| due == nth) {
            state = self.take_all(state);
        }
        if content.capacity() == 0
            && let Some(spare) = state.spare.pop()
        {
            content = spare;
            state.bytes -= content.capacity();
        }
        content.clear();
        content
    }

    fn wait_for_room<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        nth: usize,
        bytes: usize,
    ) -> MutexGuard<'s, State> {
        while !state.keeps(nth, bytes) && !state.stuck && state.end.is_none() {
            state.crowd += 1;
            let (held, waited) =
                self.room.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            state = held;
            state.crowd -= 1;
            state.stuck = waited.timed_out();
        }
        state
    }

    /// Takes files until one is due that is not there.
    fn take_all<'s>(&'s self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        state.busy = true;
        drop(state);
        let mut taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = Vec::new();
        loop {
            let next = taking.next();
            state = self.state();
            state.spare(last);
            let due = match next {
                Ok(Some(due)) => due,
                Ok(None) => break self.close(state, Ok(())),
                Err(error) => break self.close(state, Err(error)),
            };
            state.due = Some(due);
            state.stuck = false;
            // Few wake-ups, with room for many files.
            if state.crowd > 0 && (state.bytes <= HELD / 2 || !state.is_there(due)) {
                self.room.notify_all();
            }
            if !state.is_there(due) {
                state.busy = false;
                break state;
            }
            let content = state.contents.remove(&due);
            drop(state);
            let taken = taking.take(content.as_deref());
            last = content.unwrap_or_default();
            if let Err(error) = taken {
                break self.close(self.state(), Err(error));
            }
        }
    }

    /// Nothing more is taken.
    fn close<'s>(&self, mut state: MutexGuard<'s, State>, how: Result<()>) -> MutexGuard<'s, State> {
        (state.contents, state.spare, state.bytes, state.busy) = (HashMap::new(), Vec::new(), 0, false);
        state.end = Some(how);
        self.room.notify_all();
        state
    }

    /// Nobody brings more.
    ///
    /// # Errors
    /// What taking them failed with; `Interrupted` where they did not all come.
    pub fn end(self) -> Result<T> {
        // There may have been none to bring.
        let state = self.state();
        let state = if state.due.is_none() && state.end.is_none() { self.take_all(state) } else { state };
        drop(state);
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let missing = || Err(Error::new(Kind::Interrupted, "the files of a layer did not all come"));
        state.end.unwrap_or_else(missing)?;
        Ok(self.taking.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn is_there(&self, nth: usize) -> bool {
        self.there.get(nth).is_some_and(|there| *there)
    }

    fn keeps(&self, nth: usize, bytes: usize) -> bool {
        let next = self.due.is_some_and(|due| nth <= due);
        self.end.is_none() && (next || self.bytes + bytes <= HELD)
    }

    /// A buffer that counts among the bytes was used.
    fn spare(&mut self, mut content: Vec<u8>) {
        if self.bytes <= HELD / 2 {
            content.clear();
            self.spare.push(content);
        } else {
            self.bytes -= content.capacity();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// As many bytes as one of the files has.
    const EACH: usize = 100_000;
    const COUNT: usize = 1000;

    /// Takes them in this order, and remembers what they had; fails at one.
    #[derive(Default)]
    struct Taken {
        count: usize,
        fails: Option<usize>,
        had: Vec<Option<(u8, usize)>>,
    }

    impl Take for Taken {
        fn next(&mut self) -> Result<Option<usize>> {
            Ok(Some(self.had.len()).filter(|next| *next < self.count))
        }

        fn take(&mut self, content: Option<&[u8]>) -> Result<()> {
            if self.fails == Some(self.had.len()) {
                return Err(Error::new(Kind::Corrupt, "it is that one"));
            }
            self.had.push(content.map(|content| (content[0], content.len())));
            Ok(())
        }
    }

    fn arrivals(fails: Option<usize>) -> Arrivals<Taken> {
        Arrivals::new(COUNT, Taken { count: COUNT, fails, ..Taken::default() })
    }

    /// Three threads bring them all; every tenth has to be read.
    fn bring_all(arrivals: &Arrivals<Taken>) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut buffer = Vec::new();
                    loop {
                        let nth = next.fetch_add(1, Ordering::Relaxed);
                        if nth >= COUNT {
                            break;
                        }
                        if !nth.is_multiple_of(10) {
                            buffer.resize(EACH, nth as u8);
                        }
                        buffer = arrivals.bring(nth, buffer);
                        assert!(buffer.is_empty());
                        assert!(arrivals.state().bytes <= HELD + 3 * EACH);
                    }
                });
            }
        });
    }

    #[test]
    fn all_are_taken_in_order_with_what_was_brought() {
        let arrivals = arrivals(None);
        bring_all(&arrivals);
        let had = arrivals.end().unwrap().had;
        assert_eq!(had.len(), COUNT);
        for (nth, had) in had.into_iter().enumerate() {
            assert_eq!(had, (!nth.is_multiple_of(10)).then_some((nth as u8, EACH)), "{nth}");
        }
    }

    #[test]
    fn nobody_waits_long_for_one_that_does_not_come() {
        let arrivals = arrivals(None);
        let start = std::time::Instant::now();
        for nth in 1..COUNT {
            let _ = arrivals.bring(nth, vec![nth as u8; EACH]);
        }
        assert!(arrivals.state().bytes <= HELD);
        assert!(start.elapsed() < 10 * PATIENCE, "one waits, the others know");
        let _ = arrivals.bring(0, vec![7; EACH]);
        let had = arrivals.end().unwrap().had;
        assert_eq!((had[0], had[1]), (Some((7, EACH)), Some((1, EACH))));
        // There was no room for it.
        assert_eq!(had[COUNT - 1], None);
    }

    #[test]
    fn what_never_comes_is_told() {
        let arrivals = arrivals(None);
        let _ = arrivals.bring(0, Vec::new());
        let _ = arrivals.bring(2, Vec::new());
        assert_eq!(arrivals.end().err().unwrap().kind(), Kind::Interrupted);
        assert!(Arrivals::new(0, Taken::default()).end().unwrap().had.is_empty());
    }

    #[test]
    fn a_failure_is_told_at_the_end_and_holds_nobody_up() {
        let arrivals = arrivals(Some(COUNT / 2));
        bring_all(&arrivals);
        assert_eq!(arrivals.state().bytes, 0);
        assert_eq!(arrivals.end().err().unwrap().kind(), Kind::Corrupt);
    }
}
