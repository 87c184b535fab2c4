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
//! What matters here: [`Volumes`] (a directory of them), [`VolumeSpec`] (what is wanted), [`Volume`], [`Loan`].
//!
//! # On disk
//!
//! ```text
//! volumes/<name>/
//! ├── record        JSON: name, created, labels, driver, anonymous; never changes
//! ├── data/         what the borrowers see; usable by other tools
//! ├── users/<id>    who borrowed; locked by the borrower: an unlocked one is history
//! └── lock          shared for the moment of lending, exclusive for the moment of removing
//! ```
//!
//! A volume appears by one rename out of staging and disappears by one rename into it.
//!
//! # Should I be using this crate?
//!
//! Its first purpose is to be the volumes of the `coracle` crate. Alone it serves programs that hand directories
//! to sandboxes of their own making and want to know, across processes and crashes, which are in use.
//! It starts nothing and attaches no mount anywhere: that is the borrower's.

#![forbid(unsafe_code)]

mod error;
mod loan;
mod record;
mod spec;
mod volume;
mod volumes;

pub use error::{Error, Result};
pub use loan::Loan;
pub use spec::VolumeSpec;
pub use volume::Volume;
pub use volumes::Volumes;
