//! What a cloned child runs: an array of operations and the loop that performs them.
//!
//! Between clone and exec a child of a program with many threads may not allocate, lock, or touch the C
//! library's state. Here that is not a discipline but a property: the crate is `no_std` without `alloc`, so
//! an allocation in the child does not compile. Everything that takes thought (paths, strings, descriptors,
//! choices) is done before, in the parent, and arrives as [`Op`]s that borrow what the parent owns.
//!
//! A failure is [`Failure`]: which operation, which errno, eight bytes on a socket. The parent, which still has
//! the plan, makes the sentence.
//!
//! The three things that matter: [`Op`], the list; [`start`], the clone; [`Call`] and [`write_image`], what the child
//! executes before the container's program, which must find no trace of the parent.
//!
//! # Should I be using this crate?
//!
//! It is the innermost part of Coracle's runtime, which makes the lists. Use it alone only to start processes
//! in a way that the runtime has no plan for; nothing here checks that a list makes sense.
#![no_std]
#![warn(clippy::undocumented_unsafe_blocks)]

mod image;
mod namespaces;
mod op;
mod perform;
mod report;
mod signals;
mod start;
mod table;

pub use image::{Call, image_size, write_image};
pub use namespaces::Namespaces;
pub use op::{Change, Identity, Op, Scheduler, Strings};
pub use report::{Failure, above};
pub use start::{STACK_SIZE, Started, start};
