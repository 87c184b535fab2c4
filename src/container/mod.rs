//! Containers: a spec becomes a record, a record is launched by a supervisor, a handle reaches it.

mod check;
mod exec;
mod handle;
mod keep;
mod launch;
mod output;
mod ready;
mod record;
mod resolve;
mod room;
mod spec;
mod start;
mod supervisor;

pub use coracle_runtime::{LogEntry, Stream};
pub use exec::ExecSpec;
pub use handle::{Container, State, Status};
pub use keep::supervise;
pub(crate) use launch::set_user;
pub use output::Output;
pub use ready::Ready;
pub(crate) use room::{new_id, reclaim};
pub use spec::{ContainerSpec, Source};
pub use start::StartPlan;
