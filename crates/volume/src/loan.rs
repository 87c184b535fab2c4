//! A volume in somebody's hands.

use coracle_host::{Dir, Lock, Mount, random_hex};
use rustix::io::Errno;

use crate::volume::{self, LOCK, USERS};

/// A borrowed volume: its data as a detached mount. While it lives the volume can't be removed; dropping it,
/// or the death of the process that holds it, gives the volume back.
#[must_use = "a loan ends when it is dropped"]
pub struct Loan {
    mount: Mount,
    user: User,
    seeded: bool,
}

impl Loan {
    pub(crate) fn new(mount: Mount, user: User, seeded: bool) -> Loan {
        Loan { mount, user, seeded }
    }

    /// The volume's data, to be attached by move_mount(2), or reached through the descriptor.
    pub fn mount(&self) -> &Mount {
        &self.mount
    }

    /// Whether the volume was filled from a seed for this loan.
    pub fn was_seeded(&self) -> bool {
        self.seeded
    }

    /// The parts, to give to another process: the loan lasts while anybody has the lock's descriptor open.
    /// The mount is of no consequence for it.
    pub fn into_parts(self) -> (Mount, Lock) {
        (self.mount, self.user.keep())
    }
}

impl std::fmt::Debug for Loan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Loan({:?})", self.mount)
    }
}

/// An entry of `users/`, locked by this process and removed when the loan ends.
pub(crate) struct User {
    // Removed before the lock in the other field is released: never an entry that looks like a crashed one.
    entry: Entry,
    lock: Lock,
}

struct Entry {
    users: Dir,
    id: Option<String>,
}

impl User {
    /// Enters `who` among the users of `volume`, for somebody who stands in its gate.
    pub(crate) fn enter(volume: &Dir, who: &str, _gate: &Gate) -> coracle_host::Result<User> {
        let users = volume.dir(USERS)?;
        let id = random_hex(8)?;
        let lock = Lock::exclusive(&users, &id)?;
        let user = User { entry: Entry { users, id: Some(id) }, lock };
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&user.lock, who.as_bytes()));
        written.map_err(|errno| {
            coracle_host::Error::os(format!("write({:?})", user.entry.users.path()), errno)
        })?;
        Ok(user)
    }

    /// The lock alone. The entry stays, and says who as long as somebody holds that.
    fn keep(mut self) -> Lock {
        self.entry.id = None;
        self.lock
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            // What can't be removed is an unlocked entry, which the next loan removes.
            let _ = self.users.remove_file(id);
        }
    }
}

/// A place in a volume's gate. It is given back at once, also while a process that is being started by another thread
/// has a copy of its descriptor: who finds the gate taken takes it for a borrower.
pub(crate) struct Gate(Option<Lock>);

impl From<Lock> for Gate {
    fn from(lock: Lock) -> Gate {
        Gate(Some(lock))
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(lock) = self.0.take() {
            lock.release();
        }
    }
}

/// Stands in the gate: entries may be made while it is held shared. Where nobody else is there just now,
/// sweeps out the entries of dead borrowers first. `None`: the volume is gone from its name.
pub(crate) fn gate(
    volume: &Dir,
    is_there: impl Fn() -> coracle_host::Result<bool>,
) -> coracle_host::Result<Option<Gate>> {
    let lock = match Lock::try_exclusive(volume, LOCK) {
        Ok(Some(alone)) => {
            volume::sweep(volume)?;
            alone.downgrade()?;
            Ok(alone)
        }
        Ok(None) => Lock::shared(volume, LOCK),
        Err(error) => Err(error),
    };
    still_there(lock, is_there)
}

/// Stands in the gate alone: nobody else borrows, fills, clones or removes meanwhile. The entries of dead borrowers
/// are swept out. `None`: the volume is gone from its name.
pub(crate) fn alone(
    volume: &Dir,
    is_there: impl Fn() -> coracle_host::Result<bool>,
) -> coracle_host::Result<Option<Gate>> {
    let lock = Lock::exclusive(volume, LOCK).and_then(|lock| volume::sweep(volume).map(|()| lock));
    still_there(lock, is_there)
}

fn still_there(
    lock: coracle_host::Result<Lock>,
    is_there: impl Fn() -> coracle_host::Result<bool>,
) -> coracle_host::Result<Option<Gate>> {
    match lock.map(Gate::from) {
        Ok(gate) if is_there()? => Ok(Some(gate)),
        Ok(_) => Ok(None),
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
