//! A Dockerfile and a context become a graph of content-addressed steps, solved with a cache against one trait,
//! [`Worker`].
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use coracle_build::{BuildSpec, Dockerfile, Graph, Ignore};
//!
//! # fn main() -> coracle_build::Result<()> {
//! let file = Dockerfile::parse("Dockerfile", b"\
//! FROM scratch
//! COPY package*.json /app/
//! COPY src /app/src
//! CMD [\"/app/run\"]
//! ")?; // or everything that is wrong with it, each at its line
//! let plan = Graph::new(&file, &BuildSpec::new("."))?.plan(&BTreeMap::new())?;
//! println!("{plan}"); // the dry run
//! assert_eq!(plan.affected_by("src/main.js", &Ignore::default()), [3]); // only line 3 would be built again
//! # Ok(())
//! # }
//! ```
//!
//! # The types that matter
//!
//! - [`BuildSpec`] says what to build; [`build()`] does it: it reads, plans, takes steps from a [`Cache`] and has a
//!   [`Worker`] do the others. [`Event`]s tell what happens, [`Built`] what happened, line by line.
//! - [`Dockerfile`] is a file that was read, [`Graph`] its stages as far as the target needs them, [`Plan`] their steps
//!   with all variables replaced. None of them touches anything: they are tests and dry runs when printed.
//! - [`Worker`] is all that a build needs of an engine: an image to start from, a command run on a snapshot, files put
//!   on a snapshot, an image stored.
//! - [`Ignore`] is `.dockerignore`, [`ImageConfig`] an image's configuration with docker's extensions.
//! - [`Error`] shows each problem as a [`Diagnostic`]: file, line and column, the line itself, a caret, and the nearest
//!   right word.
//!
//! # What is the same build
//!
//! A step's key is the digest of the snapshot it stands on, of the instruction with its variables replaced, and of what
//! it reads: for RUN environment, arguments, user, shell and directory; for COPY the names, types, modes, owners, link
//! targets and bytes of the files. What RUN mounts from a tree counts like copied files; of a cache or a secret only
//! what the line says of it counts, never what it holds. Times and the files' place in the context are not in it, so touching a file changes
//! nothing, and a build of cached steps is the same image to the byte.
//!
//! # What it does not know yet
//!
//! `RUN --device`; other platforms than this machine's: each is refused at its line, none is ignored. `COPY --link` gives
//! the same tree as without it, and is not yet kept apart from the layers below.
//!
//! # Should I be using this crate?
//!
//! Its first purpose is to be the builder of the `coracle` crate, which has the worker. Alone it serves programs that
//! look at Dockerfiles (linters, editors, dependency updaters: parse, print the graph, ask what a changed file costs; see
//! `examples/alone.rs`) and engines of other kinds that want to build from them. It runs nothing itself, reads no
//! environment, and writes only to the cache directory that it is given.

#![forbid(unsafe_code)]

mod advice;
mod cache;
mod cache_mounts;
mod cancel;
mod chmod;
mod dockerfile;
mod error;
mod event;
mod expand;
mod explain;
mod files;
mod glob;
mod ignore;
mod image;
mod mount;
mod paths;
mod pattern;
mod plan;
mod remote;
mod solve;
mod spec;
mod stream;
mod suggest;
mod trace;
mod worker;

#[cfg(feature = "http")]
pub use coracle_http::Proxies;

pub use advice::{Checked, check};
pub use cache::{Cache, CachedFiles, CachedStep};
pub use cache_mounts::{CacheLoan, CacheMount, CacheMounts, CacheSpec};
pub use cancel::Cancel;
pub use chmod::Chmod;
pub use dockerfile::{CheckFacts, Dockerfile, Lint};
pub use error::{Diagnostic, Error, Result, Span};
pub use event::{Built, Event, Outcome, Place, PullProgress, Reason, StepReport, Transfer};
pub use explain::{ExplainedLine, Explanation};
pub use ignore::Ignore;
pub use image::{ImageConfig, Nothing, RunConfig};
pub use mount::{Lent, MountFrom, Network, RunMount, Secret, Sharing};
pub use plan::{CopyFrom, CopyOp, Graph, Op, Origin, Plan, Stage, Step};
pub use remote::fetch::{Fetch, RemoteContext, fetch_context};
pub use remote::{Git, GitSource, Remote, RemoteSource};
pub use solve::build;
pub use spec::{Allow, BuildSpec, HostAddress, Pull};
pub use stream::{Unpacked, decompress};
pub use trace::{Cause, FileChange};
pub use worker::{
    Arrivals, Base, Coming, Command, Commit, Draft, DraftFiles, Fetched, LayerFile, LayerFiles, Snapshot,
    Stream, Worker,
};
