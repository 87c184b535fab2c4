//! The memory that children borrow, and the one thing they change about it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};

/// One launch whose child borrows this process's memory. A child that becomes another user makes that memory
/// undumpable, which it has to be while the child is there: processes of that user could trace it otherwise. The last
/// launch to end sets it back, or the program would have lost its core dumps and its debugger.
///
/// The state is the process's because the attribute is.
pub(crate) struct Borrow(());

struct State {
    launches: usize,
    /// Before the first of them.
    dumpable: bool,
}

static STATE: Mutex<State> = Mutex::new(State { launches: 0, dumpable: false });

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Borrow {
    pub(crate) fn new() -> Borrow {
        let mut state = state();
        if state.launches == 0 {
            state.dumpable = dumpable_behavior() == Ok(DumpableBehavior::Dumpable);
        }
        state.launches += 1;
        Borrow(())
    }
}

impl Drop for Borrow {
    fn drop(&mut self) {
        let mut state = state();
        state.launches -= 1;
        if state.launches == 0
            && state.dumpable
            && dumpable_behavior().is_ok_and(|now| now != DumpableBehavior::Dumpable)
        {
            // Fails only for values that there are not.
            let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
        }
    }
}
