//! What a provider of volumes' data is written with: [`Driver`], and what it speaks of.
//!
//! A program brings one along with [`EngineOptions::volume_driver`](crate::EngineOptions::volume_driver); volumes name it with
//! [`VolumeSpec::driver`](crate::VolumeSpec::driver).

pub use coracle_host::{Dir, Error, Mount, Result};
pub use coracle_volume::{Driver, Place};
