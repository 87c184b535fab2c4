//! A container engine as a library: images, Dockerfile builds, networks, volumes and isolated processes in the
//! caller's own process. No daemon, no setup, nothing left behind.
//!
//! ```no_run
//! use coracle::{Capture, ContainerSpec, Engine};
//!
//! # fn main() -> coracle::Result<()> {
//! let engine = Engine::open("/var/lib/example")?;
//! // An image without a registry: programs of this host, with the libraries they need.
//! let image = engine.capture(&Capture::new().program("/bin/sh").program("/bin/cat"), "tools")?;
//! let container = engine.start(&ContainerSpec::new(&image).command(["sh", "-c", "echo hello"]))?;
//! assert!(container.wait()?.success());
//! assert_eq!(container.output()?.stdout, "hello\n");
//! # Ok(())
//! # } // dropping the container removes it; `kill -9` of this program does, too
//! ```
//!
//! # Overview
//!
//! - [`Engine`] is one engine over one state directory; any number of programs may have one on the same directory at
//!   the same time. It is cheap to clone, `Send` and `Sync`.
//! - Specs are values and writing one never fails: [`ContainerSpec`], [`BuildSpec`], [`NetworkSpec`], [`VolumeSpec`],
//!   [`Capture`]. What is wrong with one, all of it, is the error of the call that takes it.
//! - Handles are what such calls return: [`Image`], [`Container`], [`Network`], [`Volume`].
//!
//! # Who owns a container
//!
//! The [`Container`] value does: dropping it kills and removes the container, and so does the death of the
//! program, by whatever signal. A container made with [`ContainerSpec::keep`] belongs to nobody but the state
//! directory: it has a supervising process of its own, outlives the program, and is found again by
//! [`Engine::find`].
//!
//! # What it needs
//!
//! Linux 6.7 or later (5.12 with few layers), root, overlayfs; for networks that lead out nf_tables. All calls
//! block; from asynchronous code use the runtime's way for blocking calls. Nothing here installs signal handlers,
//! changes the working directory or the umask, reads the environment ([`Engine::open_default`] apart), prints, or
//! runs other programs than those of containers.
//!
//! # What it is not
//!
//! A shared kernel is no boundary against hostile code. SECURITY.md in the repository says what is known to be open.

#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod build;
mod container;
mod engine;
mod error;
mod events;
mod image;
mod names;
mod network;
mod port;
mod resolver;
mod signal;
mod stack;
mod state;
mod template;
mod volume;
pub mod volume_driver;
mod worker;

pub use build::{
    BuildCacheEntry, BuildCacheKind, Built, CacheExport, CacheMode, CacheOptions, ImportedCache,
};
pub use container::{
    CommitSpec, ConnectSpec, Container, ContainerSpec, CopyOptions, CpuStats, Exec, ExecSpec, GivenDevice,
    Health, HealthCheck, HealthStatus, IdMap, IdRange, IoStats, Ipc, LimitValues, Limits, LogEntry,
    LogLimits, LogQuery, Logs, MemoryStats, Mount, NetworkStats, Output, Pids, PidsStats, Probe, ProcessInfo,
    Propagation, Ready, Recursion, Restart, Seccomp, Source, StartPlan, State, Stats, Status, Stream,
    Streams, Throttle, Throttling,
};
pub use container::{supervise, supervise_with};
#[cfg(feature = "http")]
pub use coracle_build::Proxies;
pub use coracle_build::{
    Allow, BuildSpec, Cancel, Cause, Checked, Error as BuildError, Event, Explanation, Fetch, FileChange,
    Git, GitSource, HostAddress, ImageConfig, Lint, Network as StepNetwork, Nothing, Outcome, Place, Pull,
    PullProgress, Reason, Remote, RemoteContext, RemoteSource, RunConfig, StepReport, Stream as StepStream,
    Transfer, Unpacked,
};
pub use coracle_host::{Exit, Kind};
#[cfg(all(feature = "registry", not(feature = "http")))]
pub use coracle_layers::registry::Proxies;
#[cfg(feature = "registry")]
pub use coracle_layers::registry::{Credentials, PullEvent, PullOptions, RegistryOptions};
pub use coracle_layers::{
    Capture, Change, ChangeKind, Compression, CompressionOptions, Digest, Platform, Reference,
};
pub use coracle_net::{Attached, Mac, NetworkSpec, Pool, Subnet};
pub use coracle_volume::{Filter as VolumeFilter, Usage as VolumeUsage, VolumeSpec};
pub use engine::{Engine, EngineOptions};
pub use error::{Error, Result};
pub use events::{EngineEvent, Events};
#[cfg(feature = "registry")]
pub use image::PulledImage;
pub use image::{HistoryEntry, Image, ImportSpec, LoadedImage, RemovedImage};
pub use network::{EphemeralNetwork, Network};
pub use port::{Port, Publish, Published, sctp, tcp, udp};
pub use signal::signal_number;
pub use template::Template;
pub use volume::Volume;
