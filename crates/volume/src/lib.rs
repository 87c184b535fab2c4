//! Named directories, lent as detached mounts under a lock.
//!
//! A volume is a directory that outlives those who write to it. It is lent, not opened: a [`Loan`] is a mount
//! that nobody else sees, and while a loan lives, in whatever process, the volume can't be removed. A borrower
//! that is killed has given it back.
//!
//! ```no_run
//! use coracle_host::{Dir, Staging};
//! use coracle_volume::{VolumeSpec, Volumes};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let state = Dir::create("/var/lib/example", 0o700)?;
//! let staging = Staging::open(&state.make("tmp", 0o700)?)?;
//! let volumes = Volumes::new(&state.make("volumes", 0o700)?, &staging);
//!
//! let data = volumes.open(&VolumeSpec::new("pgdata").label("app", "shop"))?;
//! let loan = data.lend("container db")?; // move_mount(2) it to where it is wanted
//! println!("{}", volumes.remove("pgdata").unwrap_err()); // remove volume `pgdata`: in use by container db
//! drop(loan);
//! volumes.remove("pgdata")?;
//! # Ok(())
//! # }
//! ```
//!
//! What matters here: [`Volumes`] (a directory of them), [`VolumeSpec`] (what is wanted), [`Volume`], [`Terms`] (how it is
//! borrowed: read-only, a part of it, filled from an image before), [`Loan`]; [`Filter`] and [`Pruned`] for those who
//! tidy up. A volume without a name of its own may have an owner ([`Volumes::create_for`]) and is found when that is no
//! more ([`Volumes::reclaim`]). Whose data comes from elsewhere altogether has a [`Driver`]. [`Volumes::clone_volume`] makes one that begins as another one is: at once and without
//! a copy where that one is frozen ([`Volumes::freeze`]), which a test harness wants of a prepared database.
//!
//! # On disk
//!
//! ```text
//! volumes/<name>/
//! ├── record        JSON: name, created, labels, driver, anonymous, options; never changes
//! ├── data/         what the borrowers see; usable by other tools
//! ├── upper/, work/ instead of data/: what differs from the frozen volume that the record names as base
//! ├── frozen        empty: nobody writes in it any more
//! ├── users/<id>    who borrowed; locked by the borrower: an unlocked one is history
//! ├── owner         whom it goes with; only where it has an owner
//! ├── seeded        empty: it was filled from a seed, and never will be again
//! └── lock          shared for the moment of lending, exclusive while it is filled, cloned or removed
//! ```
//!
//! A volume appears by one rename out of staging and disappears by one rename into it. A seed, too, is copied in staging
//! and takes the place of the empty `data` by one rename.
//!
//! # Should I be using this crate?
//!
//! Its first purpose is to be the volumes of the `coracle` crate. Alone it serves programs that hand directories
//! to sandboxes of their own making and want to know, across processes and crashes, which are in use.
//! It starts nothing and attaches no mount anywhere: that is the borrower's.

#![forbid(unsafe_code)]

mod clone;
mod driver;
mod error;
mod filter;
mod frozen;
mod layered;
mod loan;
mod local;
mod prune;
mod record;
mod seed;
mod spec;
mod terms;
mod volume;
mod volumes;
mod walk;

pub use driver::{Driver, Place};
pub use error::{Error, Result};
pub use filter::Filter;
pub use loan::Loan;
pub use prune::Pruned;
pub use spec::VolumeSpec;
pub use terms::Terms;
pub use volume::Volume;
pub use volumes::Volumes;
pub use walk::Usage;
