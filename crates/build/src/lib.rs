//! A Dockerfile and a context become a graph of content-addressed steps, solved with a cache against one trait.

#![forbid(unsafe_code)]

mod cache;
mod dockerfile;
mod error;
mod event;
mod expand;
mod files;
mod glob;
mod ignore;
mod image;
mod paths;
mod plan;
mod solve;
mod spec;
mod suggest;
mod worker;

pub use cache::Cache;
pub use dockerfile::Dockerfile;
pub use error::{Diagnostic, Error, Result, Span};
pub use event::{Built, Event, Outcome, Place, Reason, StepReport};
pub use ignore::Ignore;
pub use image::{ImageConfig, Nothing, RunConfig};
pub use plan::{CopyFrom, CopyOp, Graph, Op, Origin, Plan, Stage, Step};
pub use solve::build;
pub use spec::BuildSpec;
pub use worker::{Base, Command, Commit, Snapshot, Stream, Worker};
