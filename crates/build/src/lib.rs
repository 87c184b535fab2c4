//! A Dockerfile and a context become a graph of content-addressed steps, solved with a cache against one trait.

#![forbid(unsafe_code)]

mod dockerfile;
mod error;
mod expand;
mod glob;
mod ignore;
mod suggest;

pub use dockerfile::Dockerfile;
pub use error::{Diagnostic, Error, Result, Span};
pub use ignore::Ignore;
